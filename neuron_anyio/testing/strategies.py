"""Hypothesis strategies for what goes over the wire, and for what crosses the broker's seam.

Every frame that comes out of here is one that the specification allows and that the codec gives back unchanged. They
are broad on purpose: ids with any characters, timestamps with any offset, free-form members with any JSON. What a test
needs narrower is pinned by an argument, which is a strategy: `leases(capability=st.just("core/echo"))`.
"""

from __future__ import annotations

from .strategy_frames import (
    acks,
    cancels,
    capability_offers,
    capability_updates,
    disconnects,
    frames,
    heartbeats,
    leases,
    nacks,
    neuron_frames,
    progress_reports,
    registers,
    registrations,
    revocations,
    server_frames,
)
from .strategy_schemas import Draft, schemas_with_instances
from .strategy_sessions import Break, Pause, StreamedDocuments, Turn, TurnKind, event_streams, sessions
from .strategy_tasks import deliveries, outcomes
from .strategy_values import Json, json_values

__all__ = [
    "Break",
    "Draft",
    "Json",
    "Pause",
    "StreamedDocuments",
    "Turn",
    "TurnKind",
    "acks",
    "cancels",
    "capability_offers",
    "capability_updates",
    "deliveries",
    "disconnects",
    "event_streams",
    "frames",
    "heartbeats",
    "json_values",
    "leases",
    "nacks",
    "neuron_frames",
    "outcomes",
    "progress_reports",
    "registers",
    "registrations",
    "revocations",
    "schemas_with_instances",
    "server_frames",
    "sessions",
]
