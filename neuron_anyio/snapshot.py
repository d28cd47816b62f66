"""How a neuron stands at one moment, frozen, without any task's content."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from .lease import Lease

__all__ = ["CapabilityState", "LeaseState", "Session", "Snapshot", "lease_state"]


class Session(msgspec.Struct, frozen=True, kw_only=True):
    """What the broker last granted.

    Attributes:
        id: the broker's name for the session, None before the first acceptance or when it has none.
        capabilities: effective concurrency by type.
    """

    id: str | None
    capabilities: Mapping[str, int]


class CapabilityState(msgspec.Struct, frozen=True, kw_only=True):
    """One capability.

    Attributes:
        limit: handlers that may run at once now.
        running: handlers that run.
        queued: leases that wait.
        outcomes: how many leases ended how: `Completed`, `Failed`, `Cancelled`, `GivenBack`.
    """

    limit: int
    running: int
    queued: int
    outcomes: Mapping[str, int]


class LeaseState(msgspec.Struct, frozen=True, kw_only=True):
    """One lease that is not over.

    Attributes:
        lease_id, task_id, capability: what it is.
        state: `queued`, `running`, `stopping` or `undelivered`.
        age: seconds since it arrived.
        time_left: seconds until it expires, None where there is no expiry.
        percent: how far the handler says that the work is, 0 to 100; None where it does not say.
    """

    lease_id: str
    task_id: str
    capability: str
    state: str
    age: float
    time_left: float | None
    percent: float | None = None


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """The whole neuron.

    Attributes:
        connection: `connecting`, `connected` (stream open), `registered`, or `stopped` after the neuron's end; with
            several brokers the least of them.
        alive: every broker that is registered with has taken the last heartbeat.
        draining: no new work is taken.
        paused: no handler starts.
        capabilities: by type.
        undelivered: results that the broker has not taken yet.
        recorded: how many of them are in the journal.
        left_behind: handlers that were given up and still run (promise D2).
        leases: oldest first.
    """

    connection: str
    alive: bool
    draining: bool
    paused: bool
    capabilities: Mapping[str, CapabilityState]
    undelivered: int
    recorded: int
    left_behind: int
    leases: tuple[LeaseState, ...]


def lease_state(lease: Lease, now: float) -> LeaseState:
    """Return how a lease stands at `now`."""
    task = lease.delivery.task
    return LeaseState(
        lease_id=lease.delivery.id,
        task_id=task.task_id,
        capability=task.capability,
        state=lease.state.name.lower(),
        age=now - lease.admitted,
        time_left=lease.time_left(now),
        percent=getattr(lease.runtime, "percent", None),  # the core does not know what is attached
    )
