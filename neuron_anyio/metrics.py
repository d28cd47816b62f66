"""How a neuron stands, as Prometheus reads it (text format 0.0.4). Pure; numbers and names, no task's content."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

from .snapshot import Snapshot

__all__ = ["CONTENT_TYPE", "metrics_text"]

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

Labels = dict[str, str]
Sample = tuple[Labels, float]


def metrics_text(neuron_id: str, snapshot: Snapshot, *, lag: float) -> str:
    """Return the metrics of one neuron.

    Args:
        neuron_id: a label of `neuron_info`.
        snapshot: how it stands.
        lag: seconds that the event loop was late.
    """
    families = _families(neuron_id, snapshot, lag)
    return "".join(line for name, kind, text, samples in families for line in _family(name, kind, text, samples))


def _families(neuron_id: str, snapshot: Snapshot, lag: float) -> Iterator[tuple[str, str, str, Iterable[Sample]]]:
    capabilities = [({"capability": name}, state) for name, state in snapshot.capabilities.items()]
    left = [lease.time_left for lease in snapshot.leases if lease.time_left is not None]
    yield "neuron_info", "gauge", "Always 1.", [({"neuron_id": neuron_id}, 1)]
    connections = ("connecting", "connected", "registered", "stopped")
    states = [({"state": state}, float(state == snapshot.connection)) for state in connections]
    yield "neuron_connection", "gauge", "1 for the state of the connection.", states
    yield "neuron_alive", "gauge", "Whether the last heartbeat was taken.", [({}, float(snapshot.alive))]
    yield "neuron_draining", "gauge", "Whether no new work is taken.", [({}, float(snapshot.draining))]
    yield "neuron_paused", "gauge", "Whether no handler starts.", [({}, float(snapshot.paused))]
    slots = [(labels, float(state.limit)) for labels, state in capabilities]
    yield "neuron_slots", "gauge", "Handlers that may run at once.", slots
    running = [(labels, float(state.running)) for labels, state in capabilities]
    yield "neuron_running", "gauge", "Handlers that run.", running
    queued = [(labels, float(state.queued)) for labels, state in capabilities]
    yield "neuron_queued", "gauge", "Leases that wait for a slot.", queued
    ended = [
        (labels | {"outcome": outcome}, float(count))
        for labels, state in capabilities
        for outcome, count in sorted(state.outcomes.items())
    ]
    yield "neuron_leases_total", "counter", "Leases that were settled, by outcome.", ended
    yield "neuron_undelivered", "gauge", "Results that nobody has taken yet.", [({}, float(snapshot.undelivered))]
    yield "neuron_recorded", "gauge", "Undelivered results in the journal.", [({}, float(snapshot.recorded))]
    yield "neuron_left_behind", "gauge", "Handlers that did not end.", [({}, float(snapshot.left_behind))]
    yield (
        "neuron_shortest_lease_seconds",
        "gauge",
        "Time left of the lease that runs out first.",
        [({}, min(left, default=math.inf))],
    )
    yield "neuron_loop_lag_seconds", "gauge", "How late the event loop was.", [({}, lag)]


def _family(name: str, kind: str, text: str, samples: Iterable[Sample]) -> Iterator[str]:
    yield f"# HELP {name} {text}\n# TYPE {name} {kind}\n"
    for labels, value in samples:
        listed = ",".join(f'{label}="{_escaped(said)}"' for label, said in labels.items())
        yield f"{name}{f'{{{listed}}}' if listed else ''} {_number(value)}\n"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _number(value: float) -> str:
    return "+Inf" if value == math.inf else f"{value:.10g}"
