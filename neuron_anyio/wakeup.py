"""Ways to wait for something that is not a value. None of them makes an event before somebody waits."""

from __future__ import annotations

from collections.abc import Callable

import anyio

from .native_loop import WaitEvent, one_waiter_event

__all__ = ["Changed", "Once", "Wakeup"]


class Wakeup:
    """Wakes its one waiter; a call while nobody waits is kept for the next wait. In the loop's thread only.

    Args:
        make_event: of an `event_maker`, for one that wakes often and lives in one loop.
    """

    __slots__ = ("_event", "_make_event", "_raised")

    def __init__(self, make_event: Callable[[], WaitEvent] = one_waiter_event) -> None:
        self._raised = False
        self._make_event = make_event
        self._event: WaitEvent | None = None

    def notify(self) -> None:
        """Wake the waiter, or let the next wait return at once."""
        self._raised = True
        if self._event is not None:
            self._event.set()

    async def wait(self, *, until: float | None = None) -> bool:
        """Wait for `notify`; return whether it came before `until` (the loop's clock, seconds; None for ever)."""
        if not self._raised:
            self._event = event = self._make_event()
            try:
                if until is None:
                    await event.wait()
                else:
                    with anyio.CancelScope(deadline=until):
                        await event.wait()
            finally:
                self._event = None
        raised, self._raised = self._raised, False
        return raised


class Changed:
    """Wakes all who wait now, so that they look again at what they wait for. In the loop's thread only."""

    __slots__ = ("_event",)

    def __init__(self) -> None:
        self._event: anyio.Event | None = None

    def notify(self) -> None:
        """Wake all who wait."""
        if self._event is not None:
            self._event.set()
            self._event = None

    async def wait(self) -> None:
        """Wait for the next `notify`."""
        if self._event is None:
            self._event = anyio.Event()
        await self._event.wait()


class Once:
    """Happens once; whoever waits later goes on at once. In the loop's thread only.

    Attributes:
        is_set: whether it has happened.
    """

    __slots__ = ("_event", "is_set")

    def __init__(self) -> None:
        self.is_set: bool = False
        self._event: anyio.Event | None = None

    def set(self) -> None:
        """Let all who wait go on."""
        self.is_set = True
        if self._event is not None:
            self._event.set()
            self._event = None

    async def wait(self) -> None:
        """Wait until it has happened."""
        if not self.is_set:
            self._event = self._event or anyio.Event()
            await self._event.wait()
