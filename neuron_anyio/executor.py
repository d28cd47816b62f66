"""Running one handler: in the loop, in a thread, in a process; and telling its cancellation from anybody else's."""

from __future__ import annotations

import inspect
import math
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextvars import Context, copy_context
from typing import Any, TypeAlias

import anyio
from anyio import CancelScope

from .capability import Capability
from .context import LeaseContext
from .driven import Driven, is_cancelled_by_scope
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
        variables: the context variables that every run begins with: those round the neuron's block.

    Raises:
        TypeError: the handler of a capability that runs in a process cannot be found from there.
    """

    __slots__ = ("middleware", "processes", "threads", "variables", "watchdog")

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
        self.variables: Context = copy_context()
        # Slots limit how many handlers run; the loop's default of 40 threads would starve them.
        self.threads: anyio.CapacityLimiter | None = None  # made with the first thread


class Run:
    """One execution of one handler.

    Args:
        lease: the lease, already in the book.
        capability: what to call.
        context: what the handler sees.
        value: the judged and converted input.
        executor: how and where.

    Attributes:
        is_spent: the handler's task was cancelled though no scope asked for it; asyncio may keep count of that in the
            task, and another handler had better have a task of its own.
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
        "is_spent",
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
        self.is_spent: bool = False
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
        try:
            with self._scope:
                return await self._guarded()
        except BaseExceptionGroup as group:
            if group.subgroup((KeyboardInterrupt, SystemExit)) is not None:
                raise
            return Raised(group)
        except anyio.get_cancelled_exc_class():  # noqa: ASYNC103 - only that of a scope may pass
            # asyncio folds a cancellation past all scopes into our scope's own, which then lets both pass.
            if is_cancelled_by_scope():
                raise
            self._note_stray()
        finally:
            self._has_ended = True
        return CancelledOut()

    async def _guarded(self) -> Ending:
        executor = self._executor
        # A copy: what a handler sets must not be seen by the next one in the same task.
        variables = executor.variables.copy()
        try:
            if self.capability.terms.runs == "loop" and not executor.middleware:
                return Returned(await self._call(variables))
            steps = self._step(0)
            begin, end = self._begin_step, executor.watchdog.end
            driven = Driven(steps, begin=begin, end=end, on_stray=self._note_stray, context=variables)
            return Returned(await driven)
        except anyio.get_cancelled_exc_class():  # noqa: ASYNC103 - what a handler raises is its outcome
            # To asyncio, a cancellation that the handler picked up elsewhere (it awaited a task that somebody
            # cancelled) looks like the neuron's own. Only one that a scope around us asked for may pass.
            if self._scope.cancel_called or is_cancelled_by_scope():
                raise
            self._note_stray()
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
        if capability.terms.runs == "loop":
            return await self._call(None)
        tell = self.context.tell_thread
        tell(to_stop=False)
        self._thread = ThreadCall(capability.function, self._arguments, on_cut=lambda: tell(to_stop=True))
        if executor.threads is None:
            executor.threads = anyio.CapacityLimiter(math.inf)
        return await self._awaited(await self._thread.run(executor.threads), None)

    async def _call(self, variables: Context | None) -> Any:
        """Call the function in the loop: in a context of variables, and watched, or (None) as a step of what is."""
        if variables is None:
            return await self._awaited(self.capability.function(*self._arguments), None)
        self._begin_step()
        try:
            result = variables.run(self.capability.function, *self._arguments)
        finally:
            self._executor.watchdog.end()
        return await self._awaited(result, variables)

    async def _awaited(self, result: Any, variables: Context | None) -> Any:
        if not inspect.isawaitable(result):
            return result
        # Where there are no variables, a `Driven` round all of this watches the steps.
        begin, end = (_nothing, _nothing) if variables is None else (self._begin_step, self._executor.watchdog.end)
        self._driven = Driven(result, begin=begin, end=end, on_stray=self._note_stray, context=variables)
        try:
            return await self._driven
        finally:
            self._driven = None  # it holds methods of this run: a cycle, one for each lease

    @property
    def _arguments(self) -> tuple[Any, ...]:
        return (self.value, self.context) if self.capability.takes_context else (self.value,)

    def _note_stray(self) -> None:
        self.is_spent = True

    def _begin_step(self) -> None:
        self._executor.watchdog.begin(self.lease)


def _nothing() -> None:
    pass
