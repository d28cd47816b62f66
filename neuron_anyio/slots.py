"""Who may start next: the limit of each capability, the limit of the neuron, and the queues before them.

Slots belong to the neuron, so that several brokers share them. A limit changes in place: it holds for the next start
and never stops what runs (promise L5). A broker may grant less than was wished (C11) or nothing (C12); with several
brokers the most generous grant counts, since each of them limits on its own what it delivers.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Iterable, Mapping

from .lease import Lease, State
from .model import Offer

__all__ = ["Pool", "Slots"]

SLACK = 32
"""Leases that have left a queue and are not worth a sweep."""


class Pool:
    """The slots and the queue of one capability.

    Attributes:
        offer: the capability as it is wished now.
        limit: handlers that may run at once: the smaller of wish and cap (promise C11).
        running: slots taken.
        queued: leases that wait.
    """

    __slots__ = ("_caps", "_queue", "limit", "offer", "queued", "running")

    def __init__(self, offer: Offer) -> None:
        self.offer: Offer = offer
        self.limit: int = offer.concurrency
        self.running: int = 0
        self.queued: int = 0
        self._queue: deque[Lease] | None = None  # made with the first lease: an empty one takes 700 bytes
        self._caps: dict[int, int] = {}

    @property
    def free(self) -> int:
        """Slots that are free now, never below 0."""
        return max(0, self.limit - self.running)

    def grant(self, source: int, cap: int | None) -> None:
        """Note what one broker granted: at most `cap`, 0 for nothing at all, None for whatever is wished."""
        self._caps[source] = sys.maxsize if cap is None else cap
        self._set_limit()

    def resize(self, offer: Offer) -> None:
        """Take a new wish (promise L5)."""
        self.offer = offer
        self._set_limit()

    def _set_limit(self) -> None:
        # A broker that grants none sends none, and has no say in what the others send.
        cap = max((cap for cap in self._caps.values() if cap), default=sys.maxsize)
        self.limit = min(self.offer.concurrency, cap)

    def is_granted(self, source: int) -> bool:
        """Return whether leases of this broker may run: nothing said yet counts as yes."""
        return self._caps.get(source) != 0

    def push(self, lease: Lease) -> None:
        """Queue a lease behind all others."""
        if self._queue is None:
            self._queue = deque()
        self._queue.append(lease)
        self.queued += 1

    def leave(self) -> None:
        """Count one less that waits. Those that left from the middle are swept out when they are more than half."""
        self.queued -= 1
        if self._queue is not None and len(self._queue) > 2 * self.queued + SLACK:
            self._queue = deque(self.waiting())

    def head(self) -> Lease | None:
        """Return the oldest lease that still waits. Those that left the queue are passed over, each once."""
        while self._queue:
            if self._queue[0].state is State.QUEUED:
                return self._queue[0]
            self._queue.popleft()
        return None

    def waiting(self) -> list[Lease]:
        """Return what waits, oldest first."""
        return [lease for lease in self._queue or () if lease.state is State.QUEUED]


class Slots:
    """All pools of one neuron.

    Args:
        offers: what the neuron can do; a type occurs once.
        maximum: handlers over all capabilities, None for no limit of its own.
    """

    __slots__ = ("_maximum", "_pools", "_running", "paused", "queued", "queued_bytes")

    def __init__(self, offers: Iterable[Offer], *, maximum: int | None = None) -> None:
        self._pools = {offer.capability: Pool(offer) for offer in offers}
        self._maximum = sys.maxsize if maximum is None else maximum
        self._running = 0
        self.paused: bool = False
        self.queued: int = 0
        self.queued_bytes: int = 0

    @property
    def pools(self) -> Mapping[str, Pool]:
        """Pools by capability type."""
        return self._pools

    @property
    def running(self) -> int:
        """Slots taken over all capabilities."""
        return self._running

    def free(self) -> dict[str, int]:
        """Return how many handlers of each type could start now."""
        room = self._room()
        return {name: min(room, max(0, pool.free - pool.queued)) for name, pool in self._pools.items()}

    def enqueue(self, lease: Lease) -> None:
        """Let a lease wait for its slot."""
        self._pools[lease.delivery.task.capability].push(lease)
        self.queued += 1
        self.queued_bytes += lease.size

    def leave_queue(self, lease: Lease) -> None:
        """Take a lease out of the accounts of its queue; the queue itself passes over it later."""
        self._leave(self._pools[lease.delivery.task.capability], lease)

    def resize(self, before: int, after: int) -> None:
        """Correct the queue's bytes after a newer delivery took a waiting one's place."""
        self.queued_bytes += after - before

    def next(self) -> Lease | None:
        """Return the lease that may start now, oldest first among the capabilities with a free slot."""
        if not self._room():
            return None
        oldest: Lease | None = None
        for pool in self._pools.values():
            if pool.queued and pool.running < pool.limit:
                head = pool.head()
                if head is not None and (oldest is None or head.sequence < oldest.sequence):
                    oldest = head
        return oldest

    def take(self, lease: Lease) -> None:
        """Give a slot to a lease that waited: it leaves its queue."""
        pool = self._pools[lease.delivery.task.capability]
        self._leave(pool, lease)
        pool.running += 1
        self._running += 1

    def release(self, lease: Lease) -> None:
        """Take the slot back: its handler has really ended (promise L8)."""
        self._pools[lease.delivery.task.capability].running -= 1
        self._running -= 1

    def _leave(self, pool: Pool, lease: Lease) -> None:
        pool.leave()
        self.queued -= 1
        self.queued_bytes -= lease.size

    def _room(self) -> int:
        return 0 if self.paused else self._maximum - self._running
