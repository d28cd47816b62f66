"""Strategies for frames. Members that are given as strategies are pinned, all others have any value they may have."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from operator import attrgetter
from typing import Any, TypeVar, get_args

from hypothesis import strategies as st
from hypothesis.errors import InvalidArgument
from hypothesis.strategies import SearchStrategy
from msgspec import Raw

from neuron_anyio import frames as wire
from neuron_anyio.codec import decode_neuron_frame, decode_server_frame, encode_frame
from neuron_anyio.errors import FrameError

from .strategy_values import CAPABILITY_TYPES, IDS, TEXTS, TIMESTAMPS, Json, chosen, json_values, metadata_values, raw

__all__ = [
    "acks",
    "cancels",
    "capability_offers",
    "capability_updates",
    "disconnects",
    "frames",
    "heartbeats",
    "leases",
    "nacks",
    "neuron_frames",
    "progress_reports",
    "registers",
    "registrations",
    "revocations",
    "server_frames",
]

_F = TypeVar("_F", bound=wire.Frame)
_T = TypeVar("_T")


def _built(
    kind: Callable[..., _F], given: dict[str, Any], members: dict[str, SearchStrategy[Any]], *, pinned: bool = False
) -> SearchStrategy[_F]:
    """Build frames of members. Those with a member of the caller's are checked against the specification."""
    chosen_members = {name: chosen(name, given.get(name), default) for name, default in members.items()}
    built = st.builds(kind, **chosen_members)
    return built.map(_checked) if pinned or any(value is not None for value in given.values()) else built


def _checked(frame: _F) -> _F:
    decode = decode_neuron_frame if isinstance(frame, get_args(wire.NeuronFrame)) else decode_server_frame
    try:
        decode(encode_frame(frame))
    except (FrameError, TypeError, ValueError) as exc:
        raise InvalidArgument(f"a strategy for a member gave what the specification refuses: {exc}") from None
    return frame


def _raws(name: str, given: SearchStrategy[Any] | None) -> SearchStrategy[Raw]:
    return chosen(name, given, json_values()).map(raw)


def _optional_raws(name: str, given: SearchStrategy[Any] | None) -> SearchStrategy[Raw | None]:
    """Return undecoded JSON or None. Of the caller's values None stands for an absent member."""
    if given is None:
        return st.none() | json_values().map(raw)
    return chosen(name, given, json_values()).map(lambda value: None if value is None else raw(value))


def _tuples(items: SearchStrategy[_T]) -> SearchStrategy[tuple[_T, ...]]:
    return st.lists(items, max_size=4).map(tuple)


def capability_offers(
    *,
    type: SearchStrategy[str] | None = None,  # noqa: A002 - the wire's word
    scope: SearchStrategy[wire.Scope] | None = None,
    concurrency: SearchStrategy[int] | None = None,
    lease_ttl_ms: SearchStrategy[int | None] | None = None,
) -> SearchStrategy[wire.CapabilityOffer]:
    """Return a strategy for capabilities as they are offered: `capability_offers(scope=st.just("any"))`.

    Raises:
        InvalidArgument: an argument is no strategy.
    """
    anybody: SearchStrategy[wire.Scope] = st.just("any")
    return st.builds(
        wire.CapabilityOffer,
        type=chosen("type", type, CAPABILITY_TYPES),
        scope=chosen("scope", scope, anybody | st.builds(wire.OnBehalfOf, on_behalf_of=IDS)),
        concurrency=chosen("concurrency", concurrency, st.integers(min_value=1)),
        lease_ttl_ms=chosen("lease_ttl_ms", lease_ttl_ms, st.none() | st.integers(*wire.LEASE_TTL_MS)),
    )


_BY_TYPE: Callable[[wire.CapabilityOffer], str] = attrgetter("type")
_OFFERS = capability_offers()
_DISTINCT_OFFERS = st.lists(_OFFERS, min_size=1, max_size=4, unique_by=_BY_TYPE).map(tuple)
_IN_FLIGHT = st.builds(wire.InFlight, lease_id=IDS, task_id=IDS, started_at=TIMESTAMPS)


# ---- what a neuron sends


def registers(
    *,
    neuron_id: SearchStrategy[str] | None = None,
    protocol_version: SearchStrategy[str] | None = None,
    capabilities: SearchStrategy[tuple[wire.CapabilityOffer, ...]] | None = None,
) -> SearchStrategy[wire.Register]:
    """Return a strategy for `register`: `registers(protocol_version=st.just("1.0.0"))`.

    Raises:
        InvalidArgument: an argument is no strategy.
    """
    given = {"neuron_id": neuron_id, "protocol_version": protocol_version, "capabilities": capabilities}
    members = {"neuron_id": IDS, "protocol_version": IDS, "capabilities": _DISTINCT_OFFERS}
    return _built(wire.Register, given, members)


def capability_updates(
    *,
    neuron_id: SearchStrategy[str] | None = None,
    capability: SearchStrategy[wire.CapabilityOffer] | None = None,
) -> SearchStrategy[wire.UpdateCapability]:
    """Return a strategy for `update-capability`: `capability_updates(neuron_id=st.just("n"))`.

    Raises:
        InvalidArgument: an argument is no strategy.
    """
    given = {"neuron_id": neuron_id, "capability": capability}
    return _built(wire.UpdateCapability, given, {"neuron_id": IDS, "capability": _OFFERS})


def heartbeats(
    *,
    neuron_id: SearchStrategy[str] | None = None,
    in_flight: SearchStrategy[tuple[wire.InFlight, ...]] | None = None,
    sent_at: SearchStrategy[datetime] | None = None,
) -> SearchStrategy[wire.Heartbeat]:
    """Return a strategy for `heartbeat`: `heartbeats(in_flight=st.just(()))`.

    Raises:
        InvalidArgument: an argument is no strategy.
    """
    given = {"neuron_id": neuron_id, "in_flight": in_flight, "sent_at": sent_at}
    return _built(wire.Heartbeat, given, {"neuron_id": IDS, "in_flight": _tuples(_IN_FLIGHT), "sent_at": TIMESTAMPS})


def acks(
    *,
    lease_id: SearchStrategy[str] | None = None,
    output: SearchStrategy[Json] | None = None,
    completed_at: SearchStrategy[datetime] | None = None,
) -> SearchStrategy[wire.Ack]:
    """Return a strategy for `ack`: `acks(output=st.integers())`. Outputs are given as Python holds JSON.

    Raises:
        InvalidArgument: an argument is no strategy.
    """
    given = {"lease_id": lease_id, "completed_at": completed_at}
    return _built(wire.Ack, given, {"lease_id": IDS, "output": _raws("output", output), "completed_at": TIMESTAMPS})


def nacks(
    *,
    lease_id: SearchStrategy[str] | None = None,
    kind: SearchStrategy[wire.NackKind] | None = None,
    reason: SearchStrategy[str] | None = None,
    code: SearchStrategy[str | None] | None = None,
    details: SearchStrategy[Json] | None = None,
    failed_at: SearchStrategy[datetime] | None = None,
) -> SearchStrategy[wire.Nack]:
    """Return a strategy for `nack`: `nacks(kind=st.just("terminal"))`. Of the details None means that there are none.

    Raises:
        InvalidArgument: an argument is no strategy.
    """
    given = {"lease_id": lease_id, "kind": kind, "reason": reason, "code": code, "failed_at": failed_at}
    members: dict[str, SearchStrategy[Any]] = {
        "lease_id": IDS,
        "kind": st.sampled_from(get_args(wire.NackKind)),
        "reason": IDS,
        "code": st.none() | TEXTS,
        "details": _optional_raws("details", details),
        "failed_at": TIMESTAMPS,
    }
    return _built(wire.Nack, given, members)


def progress_reports(
    *,
    lease_id: SearchStrategy[str] | None = None,
    percent: SearchStrategy[float | None] | None = None,
    message: SearchStrategy[str | None] | None = None,
    data: SearchStrategy[Json] | None = None,
    sent_at: SearchStrategy[datetime] | None = None,
) -> SearchStrategy[wire.Progress]:
    """Return a strategy for `progress`: `progress_reports(percent=st.just(50.0))`. Of the data None means none.

    Raises:
        InvalidArgument: an argument is no strategy.
    """
    given = {"lease_id": lease_id, "percent": percent, "message": message, "sent_at": sent_at}
    members: dict[str, SearchStrategy[Any]] = {
        "lease_id": IDS,
        "percent": st.none() | st.floats(0, 100),
        "message": st.none() | TEXTS,
        "data": _optional_raws("data", data),
        "sent_at": TIMESTAMPS,
    }
    return _built(wire.Progress, given, members)


def neuron_frames() -> SearchStrategy[wire.NeuronFrame]:
    """Return a strategy for all frames that a neuron sends: `@given(neuron_frames())`."""
    return st.one_of(registers(), capability_updates(), heartbeats(), acks(), nacks(), progress_reports())


# ---- what a gateway sends


def registrations(
    *,
    session_id: SearchStrategy[str] | None = None,
    capabilities: SearchStrategy[tuple[wire.CapabilityOffer, ...]] | None = None,
    accepted_at: SearchStrategy[datetime] | None = None,
) -> SearchStrategy[wire.Registered]:
    """Return a strategy for `registered`: `registrations(capabilities=st.just(()))`.

    Raises:
        InvalidArgument: an argument is no strategy.
    """
    given = {"session_id": session_id, "capabilities": capabilities, "accepted_at": accepted_at}
    members = {"session_id": IDS, "capabilities": _tuples(_OFFERS), "accepted_at": TIMESTAMPS}
    return _built(wire.Registered, given, members)


def leases(
    *,
    capability: SearchStrategy[str] | None = None,
    input: SearchStrategy[Json] | None = None,  # noqa: A002 - the wire's word
    lease_id: SearchStrategy[str] | None = None,
    task_id: SearchStrategy[str] | None = None,
    workflow_id: SearchStrategy[str] | None = None,
    attempt: SearchStrategy[int] | None = None,
    on_behalf_of: SearchStrategy[str | None] | None = None,
    metadata: SearchStrategy[dict[str, Any] | None] | None = None,
    input_schema: SearchStrategy[Json] | None = None,
    output_schema: SearchStrategy[Json] | None = None,
    expires_at: SearchStrategy[datetime] | None = None,
    sent_at: SearchStrategy[datetime] | None = None,
) -> SearchStrategy[wire.Lease]:
    """Return a strategy for `lease`: `leases(capability=st.just("core/echo"), input=st.text())`.

    Input and schemas are given as Python holds JSON; a schema that is None is absent. Unless they are given, schemas
    are any JSON, and `expires_at` may lie before `sent_at`: a neuron has to stand both.

    Raises:
        InvalidArgument: an argument is no strategy.
    """
    task = st.builds(
        wire.Task,
        task_id=chosen("task_id", task_id, IDS),
        workflow_id=chosen("workflow_id", workflow_id, IDS),
        capability=chosen("capability", capability, CAPABILITY_TYPES),
        on_behalf_of=chosen("on_behalf_of", on_behalf_of, st.none() | IDS),
        input=_raws("input", input),
        attempt=chosen("attempt", attempt, st.integers(min_value=0)),
        metadata=chosen("metadata", metadata, metadata_values()),
    )
    body = st.builds(
        wire.LeaseBody,
        lease_id=chosen("lease_id", lease_id, IDS),
        expires_at=chosen("expires_at", expires_at, TIMESTAMPS),
        task=task,
        input_schema=_optional_raws("input_schema", input_schema),
        output_schema=_optional_raws("output_schema", output_schema),
    )
    inner = (lease_id, expires_at, task_id, workflow_id, capability, on_behalf_of, attempt, metadata)
    pinned = any(strategy is not None for strategy in inner)
    return _built(wire.Lease, {"sent_at": sent_at}, {"lease": body, "sent_at": TIMESTAMPS}, pinned=pinned)


def cancels(
    *,
    lease_id: SearchStrategy[str] | None = None,
    reason: SearchStrategy[str] | None = None,
    cancelled_at: SearchStrategy[datetime] | None = None,
) -> SearchStrategy[wire.Cancel]:
    """Return a strategy for `cancel`: `cancels(lease_id=st.just("l1"))`.

    Raises:
        InvalidArgument: an argument is no strategy.
    """
    given = {"lease_id": lease_id, "reason": reason, "cancelled_at": cancelled_at}
    return _built(wire.Cancel, given, {"lease_id": IDS, "reason": IDS, "cancelled_at": TIMESTAMPS})


def revocations(
    *,
    capability: SearchStrategy[str] | None = None,
    reason: SearchStrategy[str] | None = None,
    revoked_at: SearchStrategy[datetime] | None = None,
) -> SearchStrategy[wire.CapabilityRevoked]:
    """Return a strategy for `capability-revoked`: `revocations(capability=st.just("core/echo"))`.

    Raises:
        InvalidArgument: an argument is no strategy.
    """
    given = {"capability": capability, "reason": reason, "revoked_at": revoked_at}
    members = {"capability": CAPABILITY_TYPES, "reason": IDS, "revoked_at": TIMESTAMPS}
    return _built(wire.CapabilityRevoked, given, members)


def disconnects(
    *,
    reason: SearchStrategy[str] | None = None,
    code: SearchStrategy[str | None] | None = None,
    reconnectable: SearchStrategy[bool] | None = None,
    sent_at: SearchStrategy[datetime] | None = None,
) -> SearchStrategy[wire.Disconnect]:
    """Return a strategy for `disconnect`: `disconnects(reconnectable=st.just(True))`.

    Raises:
        InvalidArgument: an argument is no strategy.
    """
    given = {"reason": reason, "code": code, "reconnectable": reconnectable, "sent_at": sent_at}
    members: dict[str, SearchStrategy[Any]] = {
        "reason": IDS,
        "code": st.none() | TEXTS,
        "reconnectable": st.booleans(),
        "sent_at": TIMESTAMPS,
    }
    return _built(wire.Disconnect, given, members)


def server_frames() -> SearchStrategy[wire.ServerFrame]:
    """Return a strategy for all frames that a gateway sends: `@given(server_frames())`."""
    return st.one_of(registrations(), leases(), cancels(), revocations(), disconnects())


def frames() -> SearchStrategy[wire.Frame]:
    """Return a strategy for the frames of both directions: `@given(frames())`."""
    return st.one_of(neuron_frames(), server_frames())
