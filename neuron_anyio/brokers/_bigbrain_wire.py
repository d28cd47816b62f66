"""BigBrain's words for a neuron's: offers, deliveries, outcomes. The only place that knows nack kinds and codes.

Sections are those of the BigBrain specification.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache

import msgspec

from .. import frames
from ..model import (
    Cancelled,
    Completed,
    Delivery,
    Dropped,
    Failed,
    FailureKind,
    GiveBack,
    GivenBack,
    Offer,
    Outcome,
    Task,
)

__all__ = ["GIVE_BACKS", "NACKS", "capability_frame", "delivery_of", "settlement_frame"]

NACKS: Mapping[FailureKind, tuple[frames.NackKind, str]] = {
    FailureKind.TERMINAL: ("terminal", "HANDLER_TERMINAL"),
    FailureKind.RETRY: ("retryable", "HANDLER_RETRY"),
    FailureKind.THREW: ("retryable", "HANDLER_THREW"),
    FailureKind.CANCELLED_ITSELF: ("retryable", "HANDLER_CANCELLED"),
    FailureKind.TIMED_OUT: ("retryable", "HANDLER_TIMEOUT"),
    FailureKind.INPUT_MISMATCH: ("schema-mismatch", "INPUT_SCHEMA_MISMATCH"),
    FailureKind.OUTPUT_MISMATCH: ("schema-mismatch", "OUTPUT_SCHEMA_MISMATCH"),
    FailureKind.OUTPUT_NOT_JSON: ("schema-mismatch", "OUTPUT_NOT_JSON"),
    FailureKind.OUTPUT_TOO_LARGE: ("terminal", "OUTPUT_TOO_LARGE"),
    FailureKind.SCHEMA_UNUSABLE: ("schema-mismatch", "INVALID_SCHEMA"),
    FailureKind.RESULT_REFUSED: ("terminal", "RESULT_REJECTED"),
    FailureKind.DELIVERY_TOO_LARGE: ("terminal", "LEASE_TOO_LARGE"),
}
"""Kind and code of a failure, where the handler gave no code of its own (table L11)."""

GIVE_BACKS: Mapping[GiveBack, str] = {
    GiveBack.UNKNOWN_CAPABILITY: "UNKNOWN_CAPABILITY",
    GiveBack.REVOKED: "CAPABILITY_REVOKED",
    GiveBack.DRAINING: "NEURON_DRAINING",
    GiveBack.OVERLOADED: "NEURON_OVERLOADED",
    GiveBack.EXPIRED: "LEASE_EXPIRED",
    GiveBack.SHUTDOWN: "NEURON_SHUTDOWN",
    GiveBack.SCOPE_MISMATCH: "SCOPE_MISMATCH",
    GiveBack.MALFORMED: "MALFORMED_LEASE",
}
"""Codes of the retryable nacks that give a lease back (promises L2, L6, L11.13, L13, C8)."""

SHARED_BYTES = 16 * 1024
"""A schema up to this length is kept once for all its leases: more than people write, and 128 of them are 2 MiB."""


def capability_frame(offer: Offer) -> frames.CapabilityOffer:
    """Say an offer in the wire's words (section 3.1)."""
    return frames.CapabilityOffer(
        type=offer.capability,
        scope="any" if offer.on_behalf_of is None else frames.OnBehalfOf(on_behalf_of=offer.on_behalf_of),
        concurrency=offer.concurrency,
        lease_ttl_ms=None if offer.lease_ttl is None else round(offer.lease_ttl * 1000),
    )


def delivery_of(frame: frames.Lease) -> Delivery:
    """Turn a lease frame into a delivery. The texts are copied: a slice would keep the whole frame in memory.

    Schemas are those of a few capabilities, however many leases wait: all these share one copy.
    """
    lease = frame.lease
    task = lease.task
    return Delivery(
        id=lease.lease_id,
        task=Task(
            task_id=task.task_id,
            workflow_id=task.workflow_id,
            capability=task.capability,
            attempt=task.attempt,
            input=bytes(task.input),
            on_behalf_of=task.on_behalf_of,
            metadata=task.metadata,
        ),
        time_left=max(0.0, (lease.expires_at - frame.sent_at).total_seconds()),
        input_schema=None if lease.input_schema is None else _schema(lease.input_schema),
        output_schema=None if lease.output_schema is None else _schema(lease.output_schema),
    )


def _schema(raw: msgspec.Raw) -> bytes:
    text = bytes(raw)
    return _shared(text) if len(text) <= SHARED_BYTES else text


@lru_cache(maxsize=128)
def _shared(text: bytes) -> bytes:
    """Return the first text that was equal to this one."""
    return text


def settlement_frame(delivery_id: str, outcome: Outcome) -> frames.Ack | frames.Nack:
    """Say an outcome in the wire's words (section 3.2, table L11)."""
    now = datetime.now(UTC)
    match outcome:
        case Completed(outputs=outputs):
            output = outputs[0] if len(outputs) == 1 else b"[" + b",".join(outputs) + b"]"
            return frames.Ack(lease_id=delivery_id, output=msgspec.Raw(output), completed_at=now)
        case Failed():
            kind, code = NACKS[outcome.kind]
            if kind == "retryable" and not outcome.retryable:
                kind = "terminal"
            code = code if outcome.code is None else outcome.code
            details = _details(outcome)
            return frames.Nack(
                lease_id=delivery_id, kind=kind, reason=outcome.reason, code=code, details=details, failed_at=now
            )
        case Cancelled():
            return frames.Nack(
                lease_id=delivery_id, kind="cancelled", reason=outcome.reason, code="CANCELLED", failed_at=now
            )
        case GivenBack():
            code = GIVE_BACKS[outcome.cause]
            return frames.Nack(lease_id=delivery_id, kind="retryable", reason=outcome.reason, code=code, failed_at=now)
        case Dropped():
            # The wire has no word for it; what loses nothing is a task that ends and says why.
            return frames.Nack(
                lease_id=delivery_id, kind="terminal", reason=outcome.reason, code="DROPPED", failed_at=now
            )


def _details(outcome: Failed) -> msgspec.Raw | None:
    if outcome.delay is not None:
        return msgspec.Raw(msgspec.json.encode({"retryAfterMs": round(outcome.delay * 1000)}))
    return None if outcome.details is None else msgspec.Raw(outcome.details)
