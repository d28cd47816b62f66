"""What the neuron holds and a broker is told of: running leases, and results that it has not taken yet (promise H1)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from .lease import Lease, State
from .model import Held

__all__ = ["Holdings"]

HEARTBEATS_FOR_LEASE_TIMES = 10
"""An undelivered result keeps its lease alive this many lease times (promise L9): by then a gateway that does not take
it will not take it, and should give the task to somebody else."""


class Holdings:
    """Held leases, by broker and newest id."""

    __slots__ = ("_by_source",)

    def __init__(self) -> None:
        self._by_source: dict[int, dict[str, Lease]] = {}

    def add(self, lease: Lease) -> None:
        """Hold a lease under its newest id."""
        self._by_source.setdefault(lease.source, {})[lease.delivery.id] = lease

    def remove(self, lease: Lease) -> None:
        """Hold it no longer under this id, if it was."""
        self._by_source.get(lease.source, {}).pop(lease.delivery.id, None)

    def running(self) -> list[Lease]:
        """Return the leases whose handlers run, oldest first."""
        return sorted((lease for lease in self._all() if lease.is_running), key=lambda lease: lease.sequence)

    def listed(self, source: int, now: float) -> list[Held]:
        """Return what a heartbeat lists: running leases, and undelivered ones for ten lease times (H1, L9)."""
        return [
            Held(
                delivery_id=lease.delivery.id,
                task_id=lease.delivery.task.task_id,
                age=now - (lease.started if lease.started is not None else lease.admitted),
            )
            for lease in self._by_source.get(source, {}).values()
            if lease.is_running or not _too_long_undelivered(lease, now)
        ]

    def shortest(self, source: int, now: float) -> float | None:
        """Return the shortest lease time, in seconds, among what a heartbeat would list now."""
        held = self._by_source.get(source, {}).values()
        times = ((lease.delivery.time_left, lease) for lease in held)
        return min((time for time, lease in times if time and not _too_long_undelivered(lease, now)), default=None)

    def renew(self, source: int, delivery_ids: Iterable[str], sent_at: float) -> None:
        """Note that a heartbeat with these ids, sent at `sent_at`, was accepted (promise L6)."""
        held = self._by_source.get(source, {})
        for delivery_id in delivery_ids:
            lease = held.get(delivery_id)
            if lease is not None:
                lease.renew(sent_at)

    def expire(self, now: float) -> list[Lease]:
        """Return the running leases whose time has run out since the last call (promise L7)."""
        lost = [lease for lease in self.running() if not lease.lost and lease.time_left(now) == 0]
        for lease in lost:
            lease.lost = True
        return lost

    def overdue(self, now: float) -> list[Lease]:
        """Return the running leases that are over their capability's time-out and not yet told so (L11.7)."""
        return [lease for lease in self.running() if (time := _time_out(lease)) is not None and time <= now]

    def next_deadline(self) -> float | None:
        """Return when a running lease expires or is over its time-out next."""
        running = self.running()
        expiries = [lease.expires for lease in running if not lease.lost and lease.expires is not None]
        return min([*expiries, *(time for lease in running if (time := _time_out(lease)) is not None)], default=None)

    def _all(self) -> Iterator[Lease]:
        for held in self._by_source.values():
            yield from held.values()


def _time_out(lease: Lease) -> float | None:
    return lease.deadline if lease.state is State.RUNNING else None


def _too_long_undelivered(lease: Lease, now: float) -> bool:
    if lease.finished is None or lease.delivery.time_left is None:
        return False
    return now - lease.finished > HEARTBEATS_FOR_LEASE_TIMES * lease.delivery.time_left
