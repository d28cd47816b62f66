"""Hypothesis strategies for what goes over the wire.

Every frame that comes out of here is one that the specification allows and that the codec gives back unchanged. They
are broad on purpose: ids with any characters, timestamps with any offset, free-form members with any JSON.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from operator import attrgetter
from typing import Any, TypeAlias, TypeVar, get_args

import msgspec
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy
from msgspec import Raw

from neuron_anyio import frames as wire

__all__ = ["frames", "json_values", "neuron_frames", "server_frames"]

Json: TypeAlias = bool | int | float | str | list[Any] | dict[str, Any] | None

_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)  # a lone surrogate has no UTF-8
_TEXT_1 = _TEXT.filter(bool)
_CAPABILITY_TYPES = st.from_regex(wire.CAPABILITY_TYPE, fullmatch=True)
_OFFSETS = st.integers(-23 * 60 - 59, 23 * 60 + 59).map(lambda minutes: timezone(timedelta(minutes=minutes)))
# Two days off the calendar's ends, so that every offset can be turned into UTC.
_TIMESTAMPS = st.datetimes(
    min_value=datetime(1, 1, 3),  # noqa: DTZ001 - the bounds are naive, `timezones` adds the zone
    max_value=datetime(9999, 12, 29),  # noqa: DTZ001 - as above
    timezones=_OFFSETS,
)

_T = TypeVar("_T")


def json_values(*, max_leaves: int = 10) -> SearchStrategy[Json]:
    """Return a strategy for JSON values as Python holds them.

    Numbers are those that every encoder can write: integers of 64 bits, finite floats.

    Args:
        max_leaves: about how many values a list or an object holds in all.
    """
    leaves = (
        st.none()
        | st.booleans()
        | st.integers(-(2**63), 2**64 - 1)
        | st.floats(allow_nan=False, allow_infinity=False)
        | _TEXT
    )
    return st.recursive(
        leaves,
        lambda inner: st.lists(inner, max_size=5) | st.dictionaries(_TEXT, inner, max_size=5),
        max_leaves=max_leaves,
    )


def _raws() -> SearchStrategy[Raw]:
    return json_values().map(lambda value: Raw(msgspec.json.encode(value)))


def _optional_raws() -> SearchStrategy[Raw | None]:
    return st.none() | _raws()


def _offers() -> SearchStrategy[wire.CapabilityOffer]:
    return st.builds(
        wire.CapabilityOffer,
        type=_CAPABILITY_TYPES,
        scope=st.just("any") | st.builds(wire.OnBehalfOf, on_behalf_of=_TEXT_1),
        concurrency=st.integers(min_value=1),
        lease_ttl_ms=st.none() | st.integers(*wire.LEASE_TTL_MS),
    )


def _tuples(items: SearchStrategy[_T]) -> SearchStrategy[tuple[_T, ...]]:
    return st.lists(items, max_size=4).map(tuple)


def _distinct_offers() -> SearchStrategy[tuple[wire.CapabilityOffer, ...]]:
    by_type: Callable[[wire.CapabilityOffer], str] = attrgetter("type")
    return st.lists(_offers(), min_size=1, max_size=4, unique_by=by_type).map(tuple)


def _in_flight() -> SearchStrategy[wire.InFlight]:
    return st.builds(wire.InFlight, lease_id=_TEXT_1, task_id=_TEXT_1, started_at=_TIMESTAMPS)


def _lease_bodies() -> SearchStrategy[wire.LeaseBody]:
    task = st.builds(
        wire.Task,
        task_id=_TEXT_1,
        workflow_id=_TEXT_1,
        capability=_CAPABILITY_TYPES,
        on_behalf_of=st.none() | _TEXT_1,
        input=_raws(),
        attempt=st.integers(min_value=0),
        metadata=st.none() | st.dictionaries(_TEXT, json_values(max_leaves=3), max_size=3),
    )
    return st.builds(
        wire.LeaseBody,
        lease_id=_TEXT_1,
        expires_at=_TIMESTAMPS,
        task=task,
        input_schema=_optional_raws(),
        output_schema=_optional_raws(),
    )


def neuron_frames() -> SearchStrategy[wire.NeuronFrame]:
    """Return a strategy for the frames that a neuron sends."""
    return st.one_of(
        st.builds(
            wire.Register,
            neuron_id=_TEXT_1,
            protocol_version=_TEXT_1,
            capabilities=_distinct_offers(),
        ),
        st.builds(wire.UpdateCapability, neuron_id=_TEXT_1, capability=_offers()),
        st.builds(wire.Heartbeat, neuron_id=_TEXT_1, in_flight=_tuples(_in_flight()), sent_at=_TIMESTAMPS),
        st.builds(wire.Ack, lease_id=_TEXT_1, output=_raws(), completed_at=_TIMESTAMPS),
        st.builds(
            wire.Nack,
            lease_id=_TEXT_1,
            kind=st.sampled_from(get_args(wire.NackKind)),
            reason=_TEXT_1,
            code=st.none() | _TEXT,
            details=_optional_raws(),
            failed_at=_TIMESTAMPS,
        ),
        st.builds(
            wire.Progress,
            lease_id=_TEXT_1,
            percent=st.none() | st.floats(0, 100),
            message=st.none() | _TEXT,
            data=_optional_raws(),
            sent_at=_TIMESTAMPS,
        ),
    )


def server_frames() -> SearchStrategy[wire.ServerFrame]:
    """Return a strategy for the frames that a gateway sends."""
    return st.one_of(
        st.builds(wire.Registered, session_id=_TEXT_1, capabilities=_tuples(_offers()), accepted_at=_TIMESTAMPS),
        st.builds(wire.Lease, lease=_lease_bodies(), sent_at=_TIMESTAMPS),
        st.builds(wire.Cancel, lease_id=_TEXT_1, reason=_TEXT_1, cancelled_at=_TIMESTAMPS),
        st.builds(wire.CapabilityRevoked, capability=_CAPABILITY_TYPES, reason=_TEXT_1, revoked_at=_TIMESTAMPS),
        st.builds(
            wire.Disconnect,
            reason=_TEXT_1,
            code=st.none() | _TEXT,
            reconnectable=st.booleans(),
            sent_at=_TIMESTAMPS,
        ),
    )


def frames() -> SearchStrategy[wire.Frame]:
    """Return a strategy for the frames of both directions."""
    return st.one_of(neuron_frames(), server_frames())
