"""Results as they lie in a journal: what is needed to deliver one, or to answer its task, in another process (L10)."""

from __future__ import annotations

from typing import Literal

import msgspec

from .errors import JournalError
from .lease import Lease
from .model import Cancelled, Completed, Delivery, Dropped, Failed, FailureKind, GivenBack, Outcome, Task

__all__ = ["Recorded", "decode_record", "encode_record", "is_worth_recording", "record_key"]


class Recorded(msgspec.Struct, frozen=True, kw_only=True):
    """One result that was not accepted when its process ended.

    Attributes:
        source: which of the neuron's brokers it is for.
        fingerprint: identity of its task.
        delivery: the lease, without input and schemas.
        outcome: how it ended.
    """

    source: int
    fingerprint: bytes
    delivery: Delivery
    outcome: Outcome


class _Row(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One record, with names of its own: the file outlives renamings in the model."""

    source: int
    fingerprint: bytes
    lease_id: str
    task_id: str
    workflow_id: str
    capability: str
    ended: Literal["completed", "failed", "cancelled", "dropped"]
    attempt: int = 0
    on_behalf_of: str | None = None
    lease_time: float | None = None
    outputs: tuple[bytes, ...] = ()
    kind: str = ""
    retryable: bool = False
    reason: str = ""
    code: str | None = None
    details: bytes | None = None
    delay: float | None = None

    def __repr__(self) -> str:
        return f"_Row(lease_id={self.lease_id!r}, ended={self.ended!r})"


LARGEST = 2**63 - 1
"""MessagePack ends here, and JSON does not."""

_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(_Row)


def is_worth_recording(lease: Lease) -> bool:
    """Return whether work would be lost with an outcome: a handler has run, and it was not given back."""
    return lease.started is not None and lease.outcome is not None and not isinstance(lease.outcome, GivenBack)


def record_key(lease: Lease) -> bytes:
    """Return the key of a lease's record: two runs of one task have two."""
    return lease.fingerprint + lease.delivery.id.encode("utf-8", "surrogatepass")


def encode_record(lease: Lease) -> bytes:
    """Return the record of a settled lease as MessagePack."""
    delivery = lease.delivery
    task, outcome = delivery.task, lease.outcome
    assert outcome is not None
    row = _Row(
        source=lease.source,
        fingerprint=lease.fingerprint,
        lease_id=delivery.id,
        task_id=task.task_id,
        workflow_id=task.workflow_id,
        capability=task.capability,
        attempt=min(task.attempt, LARGEST),
        on_behalf_of=task.on_behalf_of,
        lease_time=delivery.time_left,
        ended="cancelled",
    )
    return _ENCODER.encode(_with_outcome(row, outcome))


def _with_outcome(row: _Row, outcome: Outcome) -> _Row:
    replace = msgspec.structs.replace
    match outcome:
        case Completed(outputs=outputs):
            return replace(row, ended="completed", outputs=outputs)
        case Failed():
            return replace(
                row,
                ended="failed",
                kind=outcome.kind.name,
                retryable=outcome.retryable,
                reason=outcome.reason,
                code=outcome.code,
                details=outcome.details,
                delay=outcome.delay,
            )
        case Cancelled(reason=reason):
            return replace(row, ended="cancelled", reason=reason)
        case Dropped(reason=reason):
            return replace(row, ended="dropped", reason=reason)
        case GivenBack():
            raise AssertionError("a give-back holds no work; there is nothing to record")


def decode_record(value: bytes) -> Recorded:
    """Read a record.

    Raises:
        JournalError: it is not one.
    """
    try:
        row = _DECODER.decode(value)
        outcome = _outcome(row)
    except (msgspec.MsgspecError, KeyError) as exc:
        raise JournalError("a record of the journal cannot be read; a newer version may have written it") from exc
    task = Task(
        task_id=row.task_id,
        workflow_id=row.workflow_id,
        capability=row.capability,
        attempt=row.attempt,
        on_behalf_of=row.on_behalf_of,
        input=b"",
    )
    delivery = Delivery(id=row.lease_id, task=task, time_left=row.lease_time)
    return Recorded(source=row.source, fingerprint=row.fingerprint, delivery=delivery, outcome=outcome)


def _outcome(row: _Row) -> Outcome:
    match row.ended:
        case "completed":
            return Completed(outputs=row.outputs)
        case "cancelled":
            return Cancelled(reason=row.reason)
        case "dropped":
            return Dropped(reason=row.reason)
        case "failed":
            return Failed(
                kind=FailureKind[row.kind],
                retryable=row.retryable,
                reason=row.reason,
                code=row.code,
                details=row.details,
                delay=row.delay,
            )
