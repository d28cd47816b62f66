"""What watches time for leases: those that run out, wait too long or run too long."""

from __future__ import annotations

from collections.abc import Callable

from .alarms import Alarms
from .lease import Lease
from .ledger import Ledger
from .model import CancelReason

__all__ = ["Deadlines"]


class Deadlines:
    """Looks when the next lease has to be looked at.

    Args:
        ledger: the book; it knows what is due.
        clock: seconds, monotonic, the loop's.
        alarms: the neuron's clock.
        on_lost: told of a running lease whose time has run out (promise L7).
        on_impatient: told of a queued lease that was given back (promise L6), and of the time.
        on_overdue: told to stop a running lease that is over its capability's time-out (L11.7).
    """

    __slots__ = ("_alarm", "_clock", "_ledger", "_on_impatient", "_on_lost", "_on_overdue")

    def __init__(
        self,
        ledger: Ledger,
        clock: Callable[[], float],
        alarms: Alarms,
        *,
        on_lost: Callable[[Lease], None],
        on_impatient: Callable[[Lease, float], None],
        on_overdue: Callable[[Lease, CancelReason], None],
    ) -> None:
        self._ledger = ledger
        self._clock = clock
        self._on_lost = on_lost
        self._on_impatient = on_impatient
        self._on_overdue = on_overdue
        self._alarm = alarms.add(self._look)

    def watch(self, lease: Lease) -> None:
        """Look at a running lease in time."""
        self._alarm.advance(lease.expires)
        self._alarm.advance(lease.deadline)

    def watch_until(self, time: float | None) -> None:
        """Look again at a time, None for no need."""
        self._alarm.advance(time)

    def look_again(self) -> None:
        """Look when the next lease runs out: a lost one may have been renewed (promise L7)."""
        self._alarm.set(self._clock())

    def _look(self) -> None:
        now = self._clock()
        for lease in self._ledger.held.expire(now):
            self._on_lost(lease)
        for lease in self._ledger.impatient(now):
            self._on_impatient(lease, now)
        for lease in self._ledger.held.overdue(now):
            self._on_overdue(lease, CancelReason.TIMEOUT)
        self._alarm.advance(self._ledger.next_deadline())
