"""Running one handler: in the loop, in a thread, in a process; and telling its cancellation from anybody else's."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeAlias

import anyio
from anyio import CancelScope, to_process, to_thread

from .capability import Capability
from .context import LeaseContext
from .driven import Driven
from .errors import HandlerCancelled
from .lease import Lease
from .outcome import CancelledOut, Ending, Raised, Returned
from .watchdog import Watchdog

__all__ = ["Middleware", "Run", "call_in_process"]

Middleware: TypeAlias = Callable[[LeaseContext, Callable[[], Awaitable[Any]]], Awaitable[Any]]
"""`async def middleware(ctx, call_next)`: awaits `call_next()` for what the handler returns, and returns a value."""


ENDS = (KeyboardInterrupt, SystemExit, GeneratorExit, BaseExceptionGroup)


class Run:
    """One execution of one handler.

    Args:
        lease: the lease, already in the book.
        capability: what to call.
        context: what the handler sees.
        value: the judged and converted input.
        watchdog: told of each step in the loop.

    Attributes:
        progress_lock: held while an update of this lease is on its way, so that they keep their order.
        progress_due: when the next update may go out, in the neuron's clock.
        is_over: nothing of the handler runs any more, not even a thread that was left behind.
    """

    __slots__ = (
        "_driven",
        "_leave_thread",
        "_scope",
        "_watchdog",
        "capability",
        "context",
        "is_over",
        "lease",
        "progress_due",
        "progress_lock",
        "value",
    )

    def __init__(
        self,
        lease: Lease,
        capability: Capability[..., Any],
        context: LeaseContext,
        value: Any,
        *,
        watchdog: Watchdog,
    ) -> None:
        self.lease = lease
        self._watchdog = watchdog
        self.capability = capability
        self.context = context
        self.value = value
        self.progress_lock: anyio.Lock | None = None
        self.progress_due = float("-inf")
        self.is_over = False
        self._scope = CancelScope()
        self._leave_thread: CancelScope | None = None
        self._driven: Driven | None = None

    def cancel(self) -> None:
        """Cancel the handler. Its lease knows the reason already."""
        self.context.tell_cancelled()
        self._scope.cancel()

    def abandon(self) -> None:
        """Wait no longer for a handler that was cancelled and does not end; nobody listens to it any more."""
        if self._leave_thread is not None:
            self._leave_thread.cancel()
        if self._driven is not None:
            self._driven.let_go = True

    async def execute(self, middleware: Sequence[Middleware], limiter: anyio.CapacityLimiter) -> Ending:
        """Run the handler to its end. Raises only what ends the whole neuron."""
        try:
            with self._scope:
                return await self._guarded(middleware, limiter)
        except BaseExceptionGroup as group:
            if group.subgroup((KeyboardInterrupt, SystemExit)) is not None:
                raise
            return Raised(group)
        finally:
            self.is_over = self._leave_thread is None or self.is_over
        return CancelledOut()

    async def _guarded(self, middleware: Sequence[Middleware], limiter: anyio.CapacityLimiter) -> Ending:
        try:
            return Returned(await self._call(middleware, limiter))
        except anyio.get_cancelled_exc_class():  # noqa: ASYNC103 - what a handler raises is its outcome
            # To asyncio, a cancellation that the handler picked up elsewhere (it awaited a task that somebody
            # cancelled) looks like the neuron's own. Only one that a scope around us asked for may pass.
            if self._scope.cancel_called or anyio.current_effective_deadline() == float("-inf"):
                raise
            return CancelledOut()  # noqa: ASYNC104 - an outcome, not a cancellation
        except BaseException as exc:
            # Whatever a handler raises is its outcome, but for what ends the program or closes this coroutine, and a
            # group that may hold a cancellation, which only its scope can take out.
            if isinstance(exc, Exception) or not isinstance(exc, ENDS):
                return Raised(exc)
            raise
        finally:
            self.value = None

    async def _call(self, middleware: Sequence[Middleware], limiter: anyio.CapacityLimiter) -> Any:
        if not middleware:
            return await self._invoke(limiter)

        async def step(index: int) -> Any:
            if index == len(middleware):
                return await self._invoke(limiter)
            return await middleware[index](self.context, lambda: step(index + 1))

        return await step(0)

    async def _invoke(self, limiter: anyio.CapacityLimiter) -> Any:
        capability = self.capability
        arguments = (self.value, self.context) if capability.takes_context else (self.value,)
        if capability.terms.runs == "loop":
            self._begin_step()
            try:
                result = capability.function(*arguments)
            finally:
                self._watchdog.end()
        elif capability.terms.runs == "thread":
            result = await self._in_thread(capability.function, arguments, limiter)
        else:
            function = capability.function
            place = (function.__module__, function.__qualname__)
            return await to_process.run_sync(call_in_process, *place, self.value, cancellable=True, limiter=limiter)
        if not inspect.isawaitable(result):
            return result
        self._driven = Driven(result, begin=self._begin_step, end=self._watchdog.end)
        return await self._driven

    def _begin_step(self) -> None:
        self._watchdog.begin(self.lease)

    async def _in_thread(
        self, function: Callable[..., Any], arguments: tuple[Any, ...], limiter: anyio.CapacityLimiter
    ) -> Any:
        # Shielded: a cancelled thread is told so by its context and really ends before its slot is free (promise L8).
        with CancelScope(shield=True) as self._leave_thread:
            error, result = await to_thread.run_sync(
                self._in_this_thread, function, arguments, abandon_on_cancel=True, limiter=limiter
            )
            if error is not None:
                raise error
            return result
        raise HandlerCancelled("the thread was left behind")

    def _in_this_thread(
        self, function: Callable[..., Any], arguments: tuple[Any, ...]
    ) -> tuple[BaseException | None, Any]:
        try:
            return None, function(*arguments)
        except (SystemExit, KeyboardInterrupt) as exc:
            # These end a program from its main thread; from a worker thread they are one task's failure (L11.6).
            failure = RuntimeError(f"the handler raised {type(exc).__name__}")
            failure.__cause__ = exc
            return failure, None
        except BaseException as exc:  # noqa: ASYNC103 - what a handler raises is its outcome
            return exc, None  # noqa: ASYNC104 - an outcome, not a cancellation
        finally:
            self.is_over = True


def call_in_process(module: str, name: str, value: Any) -> Any:
    """Call a handler by its name, in a worker process: what `@capability` made cannot be sent there itself."""
    try:
        found: Any = importlib.import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
        function: Callable[[Any], Any] = getattr(found, "function", found)
        return function(value)
    except (SystemExit, KeyboardInterrupt) as exc:
        # Sent back as they are, they would end the neuron (L11.6).
        raise RuntimeError(f"the handler raised {type(exc).__name__}") from exc
