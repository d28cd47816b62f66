"""Queued leases that will not get their slot in time (promise L6)."""

from __future__ import annotations

import heapq

from .lease import Lease, State

__all__ = ["Patience"]

GIVE_BACK_BEFORE = 0.25
"""Part of its lease time that a queued lease must have left: nobody renews what waits, and a gateway counts a lease
that runs out as a failed try, one that is given back not."""

SLACK = 64
"""Entries of leases that wait no longer, before they are cleared away."""


class Patience:
    """Says which queued leases have waited long enough. Leases without expiry wait for ever."""

    __slots__ = ("_heap",)

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, str, Lease]] = []

    @property
    def next(self) -> float | None:
        """When to look again, None for never."""
        return self._heap[0][0] if self._heap else None

    def wait(self, lease: Lease, *, queued: int) -> float | None:
        """Note that a lease has to wait; return until when it may. `queued` is how many do."""
        if lease.expires is None or lease.delivery.time_left is None:
            return None
        if len(self._heap) > 2 * queued + SLACK:
            self._heap = [entry for entry in self._heap if entry[3].state is State.QUEUED]
            heapq.heapify(self._heap)
        until = lease.expires - GIVE_BACK_BEFORE * lease.delivery.time_left
        heapq.heappush(self._heap, (until, lease.sequence, lease.delivery.id, lease))
        return until

    def over(self, now: float) -> list[Lease]:
        """Return the leases that still wait and should not any more, the longest first."""
        found: list[Lease] = []
        while self._heap and self._heap[0][0] <= now:
            _, _, delivery_id, lease = heapq.heappop(self._heap)
            if lease.state is State.QUEUED and lease.delivery.id == delivery_id:
                found.append(lease)
        return found
