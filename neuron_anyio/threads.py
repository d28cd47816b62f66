"""One call of a handler in a worker thread, which nothing can end but the handler itself.

Where the call is cancelled, the thread is told: `ctx.check_cancelled()` and anyio's `from_thread.check_cancelled()`
raise in it. The call then waits, shielded, until the thread has really ended (promise L8), or until it is left behind
(D2). anyio's own way to wait (`abandon_on_cancel=False`) would do for the first, but nobody could end that wait.
"""

from __future__ import annotations

import concurrent.futures
import enum
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import anyio
from anyio import CancelScope, from_thread, get_cancelled_exc_class, to_thread
from anyio.lowlevel import current_token

from .errors import HandlerCancelled
from .groups import leaves

__all__ = ["ThreadCall"]

ENDS = (KeyboardInterrupt, SystemExit, GeneratorExit)
"""What ends a program from its main thread, and a coroutine."""


class _State(enum.Enum):
    WAITS = enum.auto()
    NEVER = enum.auto()
    RUNS = enum.auto()
    ENDED = enum.auto()


class ThreadCall:
    """Calls a function in a thread, once.

    Args:
        function, arguments: what to call.
        on_cut: called, in the loop, where the call was cancelled and the thread goes on.
    """

    __slots__ = ("_arguments", "_error", "_function", "_left", "_lock", "_on_cut", "_result", "_state", "_wake")

    def __init__(self, function: Callable[..., Any], arguments: tuple[Any, ...], *, on_cut: Callable[[], None]) -> None:
        self._function = function
        self._arguments = arguments
        self._on_cut = on_cut
        self._lock = threading.Lock()
        self._state = _State.WAITS
        self._left = CancelScope(shield=True)
        self._wake: Callable[[], None] | None = None
        self._error: BaseException | None = None
        self._result: Any = None

    @property
    def is_over(self) -> bool:
        """Whether no thread runs the function, or ever will."""
        return self._state is not _State.RUNS

    def leave_behind(self) -> None:
        """Wait no longer for a thread that does not end."""
        self._left.cancel()

    async def run(self, limiter: anyio.CapacityLimiter) -> Any:
        """Call the function; return or raise what it does, also when the call was cancelled meanwhile.

        Where the thread gives in to the cancellation, or was left behind, the cancellation goes on.
        """
        kind = (get_cancelled_exc_class(),)
        try:
            await to_thread.run_sync(self._in_thread, kind, abandon_on_cancel=True, limiter=limiter)
        except get_cancelled_exc_class():  # noqa: ASYNC103 - what the thread returns or raises counts all the same
            if not await self._ends_by_itself():  # noqa: ASYNC102 - it shields itself
                self._error = None  # it knows the thread's frames, and they this call: a circle
                raise
        error, self._error = self._error, None
        if error is None:
            return self._result
        try:
            raise error
        finally:
            del error  # it knows this frame

    async def _ends_by_itself(self) -> bool:
        """Wait for a thread that was told to stop; return whether it came to an end of its own all the same."""
        ended, token = anyio.Event(), current_token()
        with self._lock:
            if self._state is _State.WAITS:
                self._state = _State.NEVER
            if self._state is _State.RUNS:
                self._wake = lambda: from_thread.run_sync(ended.set, token=token)
        if self._wake is not None:
            self._on_cut()
            with self._left:
                await ended.wait()
            self._wake = None
        return self._state is _State.ENDED and not isinstance(
            self._error, HandlerCancelled | concurrent.futures.CancelledError
        )

    def _in_thread(self, cancelled: tuple[type[BaseException]]) -> None:
        with self._lock:
            if self._state is _State.NEVER:
                return
            self._state = _State.RUNS
        self._call(cancelled)
        with self._lock:
            self._state, wake = _State.ENDED, self._wake
        if wake is not None:
            with suppress(RuntimeError, anyio.RunFinishedError):  # the loop has gone, and nobody waits any more
                wake()

    def _call(self, cancelled: tuple[type[BaseException]]) -> None:
        try:
            self._result = self._function(*self._arguments)
        except BaseException as exc:  # noqa: ASYNC103 - what a handler raises is its outcome
            self._error = _carried(exc, cancelled)


def _carried(error: BaseException, cancelled: tuple[type[BaseException]]) -> BaseException:
    """Return what of a thread's exception may be raised in the loop."""
    if isinstance(error, cancelled):
        return HandlerCancelled("from_thread")  # the loop's own cancellations are made in the loop
    if _has_end(error):
        # These end a program from its main thread; from a worker thread they are one task's failure (L11.6).
        failure = RuntimeError(f"the handler raised {type(error).__name__}")
        failure.__cause__ = error
        return failure
    return error


def _has_end(error: BaseException) -> bool:
    return any(isinstance(leaf, ENDS) for leaf in leaves(error))
