"""A heap of keys by priority in which any key can be moved or dropped: due times, places in a queue."""

from __future__ import annotations

import heapq
from typing import Generic, TypeVar

__all__ = ["Schedule"]

K = TypeVar("K", str, tuple[str, ...])
P = TypeVar("P", int, float)

_SLACK = 64  # stale entries that are never worth a rebuild


class Schedule(Generic[K, P]):
    """Keys with a priority each, least first.

    Moving a key back costs nothing until its old place comes up, so that a heartbeat may renew thousands of leases.
    Stale places are swept out when they are more than half.
    """

    __slots__ = ("_heap", "_live")

    def __init__(self) -> None:
        self._live: dict[K, P] = {}
        self._heap: list[tuple[P, K]] = []

    def __len__(self) -> int:
        return len(self._live)

    def __contains__(self, key: K) -> bool:
        return key in self._live

    def put(self, key: K, priority: P) -> None:
        """Add a key, or move it."""
        old = self._live.get(key)
        self._live[key] = priority
        if old is None or priority < old:
            heapq.heappush(self._heap, (priority, key))
            self._sweep()

    def discard(self, key: K) -> bool:
        """Drop a key; return whether it was there."""
        there = self._live.pop(key, None) is not None
        self._sweep()
        return there

    def peek(self) -> tuple[P, K] | None:
        """Return the least priority and its key, None when empty."""
        while self._heap:
            priority, key = self._heap[0]
            live = self._live.get(key)
            if live == priority:
                return self._heap[0]
            if live is not None and live > priority:
                heapq.heapreplace(self._heap, (live, key))
            else:
                heapq.heappop(self._heap)
        return None

    def pop(self) -> K:
        """Take out the key with the least priority.

        Raises:
            IndexError: nothing is there.
        """
        first = self.peek()
        if first is None:
            raise IndexError("nothing is scheduled")
        heapq.heappop(self._heap)
        del self._live[first[1]]
        return first[1]

    def _sweep(self) -> None:
        if len(self._heap) > 2 * len(self._live) + _SLACK:
            self._heap = [(priority, key) for key, priority in self._live.items()]
            heapq.heapify(self._heap)
