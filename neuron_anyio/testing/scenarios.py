"""For each fault what is submitted, how the neuron is set up and what must come of it: the same for every SDK.

The worker of a scenario offers two capabilities whose handlers do as the task's input says (`Planned.input`): note the
start in the work log, report progress, take their time, fail on their first tries, return the text.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import msgspec

from .book import State
from .fault_leases import USER
from .faults import FAULTS, Answering, Fault

__all__ = ["PERSONAL", "SCENARIOS", "TEXT", "WORK", "Planned", "Scenario"]

WORK = "faults/work"
PERSONAL = "faults/personal"
"""Offered for the user of `fault_leases.USER` alone."""

TEXT = "a b\tç 漢字 🙂 \u2028 end"
"""Characters of one to four bytes, and one that Python's `splitlines` takes for a line's end."""


class Planned(msgspec.Struct, frozen=True, kw_only=True):
    """Tasks of one kind.

    Attributes:
        count: how many.
        seconds: that the handler takes, at the least.
        fails: how many first tries fail, so that another is asked for.
        progress: whether the handler reports some when it has started.
        capability: `WORK` or `PERSONAL`.
        later: submitted when the fault has struck first, not before the neuron comes.
        state: what becomes of them.
        runs: whether a handler may start at all.
    """

    count: int = 1
    seconds: float = 0.0
    fails: int = 0
    progress: bool = True
    capability: str = WORK
    later: bool = False
    state: State = "succeeded"
    runs: bool = True

    @property
    def input(self) -> dict[str, Any]:
        """What the handler is given."""
        return {"seconds": self.seconds, "fails": self.fails, "progress": self.progress, "text": TEXT}

    @property
    def on_behalf_of(self) -> str | None:
        """The user, where there is one."""
        return USER if self.capability == PERSONAL else None


class Scenario(msgspec.Struct, frozen=True, kw_only=True):
    """How one fault is met. Times are in seconds.

    Attributes:
        fault: its id.
        tasks: what is submitted.
        concurrency: of the capability.
        heartbeat, request, drain, stream_idle, backoff: the neuron's times; `backoff`: the first and the longest.
        lease_ttl: of the gateway's leases.
        error: name of the error that ends the neuron (a process: exit status 1), None for none.
        stop_after: how long after the fault struck first the neuron is asked to drain though tasks are left, or None.
        elsewhere: whether a second neuron, without the fault, has to finish what is left.
        bound: within which all of it is over.
    """

    fault: str
    tasks: tuple[Planned, ...] = (Planned(),)
    concurrency: int = 4
    heartbeat: float = 0.1
    request: float = 10.0
    drain: float = 2.0
    stream_idle: float | None = None
    backoff: tuple[float, float] = (0.01, 0.05)
    lease_ttl: float = 30.0
    error: str | None = None
    stop_after: float | None = None
    elsewhere: bool = False
    bound: float = 5.0


_RUNNING = Planned(seconds=0.15)
_ONE_AND_ONE_QUEUED: dict[str, Any] = {"concurrency": 1, "tasks": (_RUNNING, Planned())}
_NEVER = Planned(state="cancelled", runs=False)
_FATAL = {"error": "RegistrationRejected", "elsewhere": True}
_UNAUTHORIZED = {"error": "AuthenticationFailed", "elsewhere": True}
_WAITS = {"stop_after": 0.2, "elsewhere": True}
_IMPATIENT = {"request": 0.2}

_NEEDS_HEARTBEATS: dict[str, Any] = {"tasks": (Planned(seconds=0.3),), "heartbeat": 0.02, "lease_ttl": 0.2}
"""A lease that runs out before its handler has ended, unless heartbeats go on."""

_BY_WHAT: Mapping[str, Mapping[str, Any]] = {"endless": _IMPATIENT}
"""Answers: what differs on every route."""

_BY_ROUTE: Mapping[str, Mapping[str, Any]] = {
    "nack": {"tasks": (Planned(fails=1),)},
    "heartbeat": _NEEDS_HEARTBEATS,
    "progress": {"tasks": (Planned(count=6),)},
}
"""Answers: what brings the neuron to ask for the route, often enough for the fault to be over."""

_BY_ID: Mapping[str, Mapping[str, Any]] = {
    "connection.rst": {"tasks": (_RUNNING, Planned(seconds=0.1))},
    "connection.close": {"tasks": (_RUNNING, Planned(seconds=0.1))},
    "connection.half-open": {"stream_idle": 0.3},
    "connection.stalled-headers": _IMPATIENT,
    "connection.stalled-replies": {**_IMPATIENT, "tasks": (Planned(seconds=0.3),)},
    "answer.stream.429-absurd": _WAITS,
    "answer.stream.401-always": _UNAUTHORIZED,
    "answer.stream.403": _FATAL,
    "answer.stream.404-ingress": _FATAL,
    "answer.register.429-absurd": _WAITS,
    "answer.register.401-always": _UNAUTHORIZED,
    "answer.register.403": _FATAL,
    "answer.register.404-ingress": _FATAL,
    **{f"answer.register.{what}": _NEEDS_HEARTBEATS for what in ("huge", "not-json", "gzip", "cut-off")},
    "answer.register.lost-after-acted": _NEEDS_HEARTBEATS,
    "answer.register.endless": {**_IMPATIENT, **_NEEDS_HEARTBEATS},
    "answer.heartbeat.401-always": {"lease_ttl": 30.0},
    "answer.heartbeat.409": {"tasks": (Planned(seconds=0.3), Planned(later=True))},
    "answer.ack.429-absurd": {"stop_after": 0.2},
    "answer.ack.401-always": {**_WAITS, "drain": 0.3},
    "answer.ack.403": {"tasks": (Planned(state="failed"),)},
    "answer.nack.429-absurd": _WAITS,
    "answer.nack.401-always": {**_WAITS, "drain": 0.3},
    "answer.nack.403": {"lease_ttl": 0.4},
    "lease.redelivered-queued": _ONE_AND_ONE_QUEUED,
    "lease.redelivered-running": {"tasks": (_RUNNING,)},
    "lease.cancel-before": {"tasks": (_NEVER, Planned())},
    "lease.cancel-queued": {"concurrency": 1, "tasks": (_RUNNING, _NEVER)},
    "lease.cancel-running": {"tasks": (Planned(seconds=20.0, state="cancelled"),)},
    "lease.cancel-after": {"tasks": (Planned(), _RUNNING)},
    "lease.two-thousand": {"tasks": (Planned(count=2_000, progress=False),), "bound": 30.0},
    "lease.twenty-megabytes": {"bound": 10.0},
    "lease.expired-in-queue": {"concurrency": 1, "tasks": (Planned(seconds=0.4), Planned())},
    "lease.another-user": {"tasks": (Planned(capability=PERSONAL),)},
    "lease.revoked-in-flight": _ONE_AND_ONE_QUEUED,
    "lease.disconnect-reconnectable": _ONE_AND_ONE_QUEUED,
    "lease.disconnect-final": {**_ONE_AND_ONE_QUEUED, "error": "GatewayDisconnected", "elsewhere": True},
    "lease.restart-with-state": {"tasks": (_RUNNING, Planned(seconds=0.3))},
    "lease.restart-without-state": {"tasks": (_RUNNING, Planned(seconds=0.3))},
}


def _scenario(fault: Fault) -> Scenario:
    members: dict[str, Any] = {}
    if isinstance(fault.deed, Answering):
        members.update(_BY_ROUTE.get(fault.deed.route, {}))
        members.update(_BY_WHAT.get(fault.id.rpartition(".")[2], {}))
    return Scenario(fault=fault.id, **{**members, **_BY_ID.get(fault.id, {})})


SCENARIOS: Mapping[str, Scenario] = MappingProxyType({fault.id: _scenario(fault) for fault in FAULTS.values()})
"""One scenario for each fault, by its id."""
