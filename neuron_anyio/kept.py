"""Results whose lease is gone: they wait for their task to come again (promises L3.5 and L9)."""

from __future__ import annotations

from collections import OrderedDict

from .config import Limits
from .lease import Lease
from .model import Completed, Failed, Outcome

__all__ = ["KeptResults", "answers"]


def answers(outcome: Outcome | None) -> bool:
    """Return whether an outcome answers the task for good, so that it need not run again (promise L3.5)."""
    return isinstance(outcome, Completed) or (isinstance(outcome, Failed) and not outcome.retryable)


class KeptResults:
    """Leases by the identity of their task, bounded by number and age.

    Args:
        limits: `undelivered` and `undelivered_age` are looked at.
    """

    __slots__ = ("_leases", "_limits")

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._leases: OrderedDict[bytes, Lease] = OrderedDict()

    def __len__(self) -> int:
        return len(self._leases)

    def add(self, lease: Lease) -> None:
        """Keep a lease's result from now on."""
        self._leases[lease.fingerprint] = lease

    def get(self, fingerprint: bytes) -> Lease | None:
        """Return the lease whose result is kept for a task."""
        return self._leases.get(fingerprint)

    def remove(self, lease: Lease) -> None:
        """Keep it no longer, if it was kept."""
        self._leases.pop(lease.fingerprint, None)

    def pop_surplus(self, now: float) -> list[Lease]:
        """Return what is too old or too much, the oldest first, and keep it no longer."""
        surplus: list[Lease] = []
        while self._leases:
            oldest = next(iter(self._leases.values()))
            assert oldest.finished is not None
            is_old = now - oldest.finished >= self._limits.undelivered_age
            if not is_old and len(self._leases) <= self._limits.undelivered:
                break
            self.remove(oldest)
            surplus.append(oldest)
        return surplus
