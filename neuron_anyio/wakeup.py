"""Two ways to wait for something that is not a value: one waiter who must not miss it, or any number who look again."""

from __future__ import annotations

import anyio

__all__ = ["Changed", "Wakeup"]


class Wakeup:
    """Wakes its one waiter; a call while nobody waits is kept for the next wait. In the loop's thread only."""

    __slots__ = ("_event", "_raised")

    def __init__(self) -> None:
        self._raised = False
        self._event: anyio.Event | None = None

    def notify(self) -> None:
        """Wake the waiter, or let the next wait return at once."""
        self._raised = True
        if self._event is not None:
            self._event.set()

    async def wait(self, *, until: float | None = None) -> bool:
        """Wait for `notify`; return whether it came before `until` (the loop's clock, seconds; None for ever)."""
        if not self._raised:
            self._event = anyio.Event()
            try:
                with anyio.CancelScope(deadline=float("inf") if until is None else until):
                    await self._event.wait()
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
