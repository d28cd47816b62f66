"""What is remembered of leases that are not in the book: settled ones, and cancels that came too early."""

from __future__ import annotations

from collections import OrderedDict
from typing import TypeAlias

from .config import Limits
from .model import Completed, Failed, Outcome

__all__ = ["Memory"]

SETTLED_FOR = 600.0
"""Seconds for which a settled lease is recognised (promise L3.2): longer than any repeat of a stream's events."""

CANCEL_FOR = 60.0
"""Seconds for which a cancel waits for its lease (promise L4.1): longer than two frames can be apart."""

Key: TypeAlias = tuple[int, str]


class Memory:
    """Settled leases and early cancels, bounded by number, age and bytes.

    Args:
        limits: `remembered_leases`, `remembered_results_bytes` and `remembered_cancels` are looked at.
    """

    __slots__ = ("_bytes", "_cancels", "_limits", "_results", "_settled")

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._settled: OrderedDict[Key, float] = OrderedDict()
        self._results: OrderedDict[Key, Outcome] = OrderedDict()
        self._bytes = 0
        self._cancels: OrderedDict[Key, float] = OrderedDict()

    def is_settled(self, key: Key) -> bool:
        """Return whether this lease was settled a short while ago."""
        return key in self._settled

    def result(self, key: Key) -> Outcome | None:
        """Return the result of a settled lease where it is still kept."""
        return self._results.get(key)

    def note_settled(self, key: Key, outcome: Outcome | None, now: float) -> None:
        """Remember a lease that is over, and what was accepted for it."""
        if key in self._settled:
            self._drop(key)
        self._settled[key] = now
        if outcome is not None:
            self._results[key] = outcome
            self._bytes += _size(outcome)
        while len(self._settled) > self._limits.remembered_leases:
            self._drop(next(iter(self._settled)))
        while self._bytes > self._limits.remembered_results_bytes:
            self._bytes -= _size(self._results.popitem(last=False)[1])

    def note_cancel(self, key: Key, now: float) -> None:
        """Remember a cancel whose lease has not come."""
        self._cancels.pop(key, None)
        self._cancels[key] = now
        if len(self._cancels) > self._limits.remembered_cancels:
            self._cancels.popitem(last=False)

    def pop_cancel(self, key: Key) -> bool:
        """Return whether a lease was cancelled before it came; says so once."""
        return self._cancels.pop(key, None) is not None

    def forget_old(self, now: float) -> None:
        """Forget what is too old."""
        while self._settled and now - next(iter(self._settled.values())) > SETTLED_FOR:
            self._drop(next(iter(self._settled)))
        while self._cancels and now - next(iter(self._cancels.values())) > CANCEL_FOR:
            self._cancels.popitem(last=False)

    def _drop(self, key: Key) -> None:
        self._settled.pop(key, None)
        outcome = self._results.pop(key, None)
        if outcome is not None:
            self._bytes -= _size(outcome)


def _size(outcome: Outcome) -> int:
    if isinstance(outcome, Completed):
        return sum(map(len, outcome.outputs))
    if isinstance(outcome, Failed):
        return len(outcome.details or b"")
    return 0
