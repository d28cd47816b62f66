"""The task that watches time for a neuron: leases that run out, wait too long or run too long."""

from __future__ import annotations

from collections.abc import Callable

from .lease import Lease
from .ledger import Ledger
from .wakeup import Wakeup

__all__ = ["Deadlines"]


class Deadlines:
    """Wakes when the next lease has to be looked at.

    Args:
        ledger: the book; it knows what is due.
        clock: seconds, monotonic, the loop's.
        on_lost: told of a running lease whose time has run out (promise L7).
        on_impatient: told of a queued lease that was given back (promise L6).
        on_overdue: told of a running lease that is over its capability's time-out (L11.7).
    """

    def __init__(
        self,
        ledger: Ledger,
        clock: Callable[[], float],
        *,
        on_lost: Callable[[Lease], None],
        on_impatient: Callable[[Lease], None],
        on_overdue: Callable[[Lease], None],
    ) -> None:
        self._ledger = ledger
        self._clock = clock
        self._on_lost = on_lost
        self._on_impatient = on_impatient
        self._on_overdue = on_overdue
        self._wakeup = Wakeup()
        self._next: float | None = None

    def watch(self, lease: Lease) -> None:
        """Look at a running lease in time."""
        times = [time for time in (lease.expires, lease.deadline) if time is not None]
        self.watch_until(min(times, default=None))

    def watch_until(self, time: float | None) -> None:
        """Look again at a time, None for no need."""
        if time is not None and (self._next is None or time < self._next):
            self._wakeup.notify()

    def look_again(self) -> None:
        """Look when the next lease runs out: a lost one may have been renewed (promise L7)."""
        self._wakeup.notify()

    async def run(self) -> None:
        """Watch until cancelled."""
        while True:
            now = self._clock()
            for lease in self._ledger.held.expire(now):
                self._on_lost(lease)
            for lease in self._ledger.impatient(now):
                self._on_impatient(lease)
            for lease in self._ledger.held.overdue(now):
                self._on_overdue(lease)
            self._next = self._ledger.next_deadline()
            await self._wakeup.wait(until=self._next)
