"""What the engine logs of leases and capabilities."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from .lease import Lease
from .logs import named
from .model import Failed, GiveBack, GivenBack

__all__ = ["LeaseLog"]

REASON_LENGTH = 200
"""Characters of a broker's own text in one line."""


class LeaseLog:
    """Writes the lines.

    Args:
        log: the neuron's logger.
        origins: names of the brokers, by number.
    """

    __slots__ = ("_log", "_origins")

    def __init__(self, log: logging.Logger, *, origins: Sequence[str]) -> None:
        self._log = log
        self._origins = origins

    def continued(self, lease: Lease) -> None:
        """Tell that a running task goes on under another lease."""
        line = self._named("lease.continued", lease)
        self._log.info("lease %s continues the running task %s", lease.delivery.id, line["task_id"], extra=line)

    def settled(self, lease: Lease) -> None:
        """Tell how a lease ended, unless it ended well."""
        outcome = lease.outcome
        lease_id, capability = lease.delivery.id, lease.delivery.task.capability or "unreadable"
        if isinstance(outcome, GivenBack):
            level = logging.ERROR if outcome.cause is GiveBack.SCOPE_MISMATCH else logging.INFO
            line = self._named("lease.given_back", lease, cause=outcome.cause.name)
            self._log.log(level, "lease %s (%s) goes back: %s", lease_id, capability, outcome.reason, extra=line)
        elif isinstance(outcome, Failed):
            line = self._named("lease.failed", lease, kind=outcome.kind.name, retryable=outcome.retryable)
            self._log.info("lease %s (%s) failed: %s", lease_id, capability, outcome.kind.name, extra=line)

    def lost(self, lease: Lease) -> None:
        """Tell that a lease ran out while its handler runs."""
        line = self._named("lease.lost", lease)
        self._log.warning(
            "lease %s of task %s ran out while its handler runs", lease.delivery.id, line["task_id"], extra=line
        )

    def left_behind(self, lease: Lease) -> None:
        """Tell that nobody waits for a handler any more."""
        line = self._named("handler.left_behind", lease)
        self._log.error(
            "the handler of lease %s (%s) does not end; left behind", lease.delivery.id, line["capability"], extra=line
        )

    def not_granted(self, source: int, capability: str) -> None:
        """Tell that a broker sends nothing of a capability."""
        origin = self._origins[source]
        line = named("capability.not_granted", origin=origin, capability=capability)
        self._log.warning("%s did not grant capability %s", origin, capability, extra=line)

    def revoked(self, source: int, capability: str, reason: str) -> None:
        """Tell that a broker sends no more of a capability."""
        origin = self._origins[source]
        line = named("capability.revoked", origin=origin, capability=capability)
        self._log.warning("%s revoked capability %s: %s", origin, capability, reason[:REASON_LENGTH], extra=line)

    def nothing_left(self, source: int) -> None:
        """Tell that a broker can send nothing any more."""
        origin = self._origins[source]
        line = named("capability.none_left", origin=origin)
        self._log.warning("nothing is left to offer to %s; staying connected", origin, extra=line)

    def _named(self, event: str, lease: Lease, **fields: object) -> dict[str, object]:
        return named(event, lease, origin=self._origins[lease.source], **fields)
