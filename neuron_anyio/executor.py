"""Running one handler: in the loop, in a thread, in a process; and telling its cancellation from anybody else's."""

from __future__ import annotations

import inspect
import math
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from typing import Any, TypeAlias

import anyio
import anyio.lowlevel
from anyio import CancelScope

from .capability import Capability
from .context import LeaseContext
from .driven import Driven
from .lease import Lease
from .outcome import CancelledOut, Ending, Raised, Returned
from .processes import Processes
from .threads import ThreadCall
from .watchdog import Watchdog

__all__ = ["Executor", "Middleware", "Run"]

Middleware: TypeAlias = Callable[[LeaseContext, Callable[[], Awaitable[Any]]], Awaitable[Any]]
"""`async def middleware(ctx, call_next)`: awaits `call_next()` for what the handler returns, and returns a value.

It may await `call_next()` again, which runs the handler again with the same input object; not while it still runs.
"""


ENDS = (KeyboardInterrupt, SystemExit, GeneratorExit, BaseExceptionGroup)


class Executor:
    """What all runs of one neuron share.

    Args:
        capabilities: all that the neuron can do.
        middleware: round every handler, the first outermost.
        watchdog: told of each step in the loop.

    Attributes:
        processes: to be closed after the last run.

    Raises:
        TypeError: the handler of a capability that runs in a process cannot be found from there.
    """

    __slots__ = ("middleware", "processes", "threads", "watchdog")

    def __init__(
        self,
        capabilities: Iterable[Capability[..., Any]],
        *,
        middleware: Sequence[Middleware],
        watchdog: Watchdog,
    ) -> None:
        self.middleware: Sequence[Middleware] = middleware
        self.watchdog: Watchdog = watchdog
        self.processes: Processes = Processes(capabilities)
        # Slots limit how many handlers run; the loop's default of 40 threads would starve them.
        self.threads: anyio.CapacityLimiter = anyio.CapacityLimiter(math.inf)


class Run:
    """One execution of one handler.

    Args:
        lease: the lease, already in the book.
        capability: what to call.
        context: what the handler sees.
        value: the judged and converted input.
        executor: how and where.

    Attributes:
        progress_lock: held while an update of this lease is on its way, so that they keep their order.
        progress_due: when the next update may go out, in the neuron's clock.
    """

    __slots__ = (
        "_driven",
        "_executor",
        "_has_ended",
        "_is_called",
        "_scope",
        "_thread",
        "capability",
        "context",
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
        executor: Executor,
    ) -> None:
        self.lease: Lease = lease
        self.capability: Capability[..., Any] = capability
        self.context: LeaseContext = context
        self.value: Any = value
        self.progress_lock: anyio.Lock | None = None
        self.progress_due: float = float("-inf")
        self._executor = executor
        self._scope = CancelScope()
        self._thread: ThreadCall | None = None
        self._driven: Driven | None = None
        self._is_called = False
        self._has_ended = False

    @property
    def is_over(self) -> bool:
        """Whether nothing of the handler runs any more, not even a thread that was left behind."""
        return self._has_ended and (self._thread is None or self._thread.is_over)

    @property
    def percent(self) -> float | None:
        """How far the handler says that the work is, 0 to 100; None where it does not say."""
        return self.context.percent

    def cancel(self) -> None:
        """Cancel the handler. Its lease knows the reason already."""
        self.context.tell_cancelled()
        self._scope.cancel()

    def abandon(self) -> None:
        """Wait no longer for a handler that was cancelled and does not end; nobody listens to it any more."""
        if self._thread is not None and not self._thread.is_over:
            self._thread.leave_behind()
        elif self._driven is not None:
            self._driven.let_go = True

    async def execute(self) -> Ending:
        """Run the handler to its end. Raises only what ends the whole neuron."""
        ending: Ending = CancelledOut()
        try:
            with self._scope:
                ending = await self._guarded()
        except BaseExceptionGroup as group:
            if group.subgroup((KeyboardInterrupt, SystemExit)) is not None:
                raise
            ending = Raised(group)
        finally:
            self._has_ended = True
        await _take_stray_cancellation()
        return ending

    async def _guarded(self) -> Ending:
        steps = self._step(0)
        try:
            if self._executor.middleware:
                return Returned(await Driven(steps, begin=self._begin_step, end=self._executor.watchdog.end))
            return Returned(await steps)
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

    async def _step(self, index: int) -> Any:
        """Go through the middleware, from this one on, to the handler."""
        middleware = self._executor.middleware
        if index < len(middleware):
            return await middleware[index](self.context, lambda: self._step(index + 1))
        if self._is_called:
            raise RuntimeError("a middleware called call_next() again while the handler still runs")
        self._is_called = True
        try:
            return await self._invoke()
        finally:
            self._is_called = False

    async def _invoke(self) -> Any:
        capability, executor = self.capability, self._executor
        if capability.terms.runs == "process":
            return await executor.processes.run(capability.function, self.value)
        arguments = (self.value, self.context) if capability.takes_context else (self.value,)
        # Where there is middleware, its steps are watched, and with them those of the handler.
        begin, end = (_nothing, _nothing) if executor.middleware else (self._begin_step, executor.watchdog.end)
        if capability.terms.runs == "loop":
            begin()
            try:
                result = capability.function(*arguments)
            finally:
                end()
        else:
            tell = self.context.tell_thread
            tell(to_stop=False)
            self._thread = ThreadCall(capability.function, arguments, on_cut=lambda: tell(to_stop=True))
            result = await self._thread.run(executor.threads)
        if not inspect.isawaitable(result):
            return result
        self._driven = Driven(result, begin=begin, end=end)
        return await self._driven

    def _begin_step(self) -> None:
        self._executor.watchdog.begin(self.lease)


async def _take_stray_cancellation() -> None:
    """Take what somebody has cancelled this task with, past its scopes, and too late for the handler to notice.

    asyncio hands it to the task's next `await`. Were there none, the task would count as cancelled, and anyio's task
    group ends with such a task (promise L11.5).
    """
    if anyio.get_current_task().has_pending_cancellation() and anyio.current_effective_deadline() != float("-inf"):
        with suppress(anyio.get_cancelled_exc_class()):
            await anyio.lowlevel.checkpoint()


def _nothing() -> None:
    pass
