"""What the running loop itself offers; anyio's own ways look for the loop at each call, which costs more than that.

Nothing here is imported for it: a loop of asyncio or its kin is what has their methods, trio is there where it runs.
"""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Protocol

import anyio
import anyio.lowlevel

__all__ = ["FutureEvent", "WaitEvent", "event_maker", "loop_clock", "native_loop", "one_waiter_event"]


class WaitEvent(Protocol):
    """What one task waits for."""

    def set(self) -> None:
        """Wake it."""
        ...

    def wait(self) -> Awaitable[object]:
        """Wait for `set`, which was not called yet."""
        ...


def native_loop() -> Any:
    """Return the running loop: asyncio's loop, trio's token."""
    return anyio.lowlevel.current_token().native_token


def loop_clock() -> Callable[[], float]:
    """Return what tells the running loop's time, in that loop: seconds, monotonic, those of `anyio.current_time`."""
    loop, clock = native_loop(), anyio.current_time
    if hasattr(loop, "time"):
        clock = loop.time
    elif _is_trio(loop):
        clock = sys.modules["trio"].current_time
    return clock


def event_maker() -> Callable[[], WaitEvent]:
    """Return what makes events for one waiter each, in the running loop."""
    loop = native_loop()
    if hasattr(loop, "create_future"):
        return partial(FutureEvent, loop)
    make: Callable[[], WaitEvent] = sys.modules["trio"].Event if _is_trio(loop) else anyio.Event
    return make


def one_waiter_event() -> WaitEvent:
    """Make an event for one waiter in the running loop. anyio's, which is for many, has a deque and takes 860 bytes."""
    return event_maker()()


class FutureEvent:
    """A future of asyncio's: its waiter is woken without a list of waiters.

    Args:
        loop: the running loop, one of asyncio's kind.
    """

    __slots__ = ("_future",)

    def __init__(self, loop: Any) -> None:
        self._future = loop.create_future()

    def set(self) -> None:
        """Wake the waiter."""
        if not self._future.done():  # else set already, or its waiter was cancelled
            self._future.set_result(None)

    def wait(self) -> Awaitable[object]:
        """Return what is to be awaited, once."""
        awaitable: Awaitable[object] = self._future
        return awaitable


def _is_trio(loop: Any) -> bool:
    return "trio" in sys.modules and isinstance(loop, sys.modules["trio"].lowlevel.TrioToken)
