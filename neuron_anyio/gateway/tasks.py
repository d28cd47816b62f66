"""What the gateway knows of a task, and its life as a table.

The law: a task settles exactly once, and has at most one live lease. Every change of state is a row below; whatever is
not a row is a mistake of this package and raises.

    PENDING --lease--> LEASED --ack-----> SUCCEEDED
       ^                 |  |---fail----> FAILED
       |                 |  +---cancel--> CANCELLED
       +----requeue------+

A lease that ran out leaves its task pending, yet its holder may still speak for it until the task is leased again:
so the same four verdicts also leave PENDING.
"""

from __future__ import annotations

import enum
from datetime import datetime
from typing import Any

import msgspec
from msgspec import structs

__all__ = ["TRANSITIONS", "Failure", "Progressed", "State", "Step", "Submission", "Task", "advance", "one_line"]


class State(enum.StrEnum):
    """Where a task stands, in the words of the callers' routes."""

    PENDING = "pending"
    LEASED = "leased"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Step(enum.Enum):
    """What can happen to a task."""

    LEASE = "lease"
    REQUEUE = "requeue"
    ACK = "ack"
    FAIL = "fail"
    CANCEL = "cancel"


_VERDICTS = {
    Step.REQUEUE: State.PENDING,
    Step.ACK: State.SUCCEEDED,
    Step.FAIL: State.FAILED,
    Step.CANCEL: State.CANCELLED,
}

TRANSITIONS: dict[State, dict[Step, State]] = {
    State.PENDING: {Step.LEASE: State.LEASED, **_VERDICTS},
    State.LEASED: _VERDICTS,
    State.SUCCEEDED: {},
    State.FAILED: {},
    State.CANCELLED: {},
}


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """Why a try, or the whole task, failed.

    Attributes:
        kind: the nack's kind, or `expired` for a lease that ran out.
        reason: one line for people.
        code: machine-readable, or None.
        details: JSON as it came, or None.
    """

    kind: str
    reason: str
    code: str | None = None
    details: msgspec.Raw | None = None


class Progressed(msgspec.Struct, frozen=True, kw_only=True):
    """The newest word of a running handler; members that an update left out keep their older value."""

    sent_at: datetime
    percent: float | None = None
    message: str | None = None
    data: msgspec.Raw | None = None


class Submission(msgspec.Struct, frozen=True, kw_only=True):
    """What a caller wants done. `input` is JSON text without line breaks."""

    capability: str
    input: msgspec.Raw
    on_behalf_of: str | None = None
    metadata: dict[str, Any] | None = None
    max_attempts: int | None = None

    def __repr__(self) -> str:
        return f"Submission(capability={self.capability!r}, on_behalf_of={self.on_behalf_of!r})"


class Task(msgspec.Struct, frozen=True, kw_only=True):
    """All that must outlive the process; the ledger replaces it whole at every change.

    Attributes:
        task_id: the gateway's own.
        sequence: place in the order of submission, from 1.
        submitted_by: name of the principal.
        max_attempts: tries that it is worth.
        idempotency_key: the caller's key with the caller's name, or None.
        fingerprint: what the key stands for, to tell a repeat from a clash.
        created_at, updated_at: wall-clock; `updated_at` of a settled task is when it settled.
        deliveries: leases so far.
        results: verdicts of handlers so far; each costs an attempt.
        expiries: leases that ran out without a word; each costs an attempt.
        give_backs: leases that came back untouched; they cost none.
        lease_id: the newest lease; None before the first, and after a nack: its holder has spoken.
        neuron_id: who holds or held it.
        holder: name of the principal that this neuron belongs to; only it may speak for the lease.
        lease_ttl: its length in seconds.
        renewed_at: from when that counts, wall-clock; the store may know a later renewal.
        cancel_reason: a caller has asked to call it off, and why.
        output: what the handler returned, None until succeeded.
        failure: of the last try, or of the task once it has failed.
        progress: the newest word of the last handler.
    """

    task_id: str
    sequence: int
    capability: str
    input: msgspec.Raw
    max_attempts: int
    submitted_by: str
    created_at: datetime
    updated_at: datetime
    on_behalf_of: str | None = None
    metadata: dict[str, Any] | None = None
    idempotency_key: str | None = None
    fingerprint: bytes | None = None
    state: State = State.PENDING
    deliveries: int = 0
    results: int = 0
    expiries: int = 0
    give_backs: int = 0
    lease_id: str | None = None
    neuron_id: str | None = None
    holder: str | None = None
    lease_ttl: float = 0.0
    renewed_at: datetime | None = None
    cancel_reason: str | None = None
    output: msgspec.Raw | None = None
    failure: Failure | None = None
    progress: Progressed | None = None

    def __repr__(self) -> str:
        return f"Task(task_id={self.task_id!r}, capability={self.capability!r}, state={self.state.value!r})"

    @property
    def attempts(self) -> int:
        """Tries that are spent; the next lease carries this number."""
        return self.results + self.expiries

    @property
    def settled(self) -> bool:
        """Whether nothing more can happen to it."""
        return not TRANSITIONS[self.state]

    @property
    def route(self) -> tuple[str, str | None]:
        """Which offers it fits: capability and user (promise G3)."""
        return self.capability, self.on_behalf_of

    @property
    def size(self) -> int:
        """Bytes of input or output that it keeps in memory."""
        return len(memoryview(self.input)) + (0 if self.output is None else len(memoryview(self.output)))


_NOTHING = msgspec.Raw(b"null")


def advance(task: Task, step: Step, *, at: datetime, **changes: Any) -> Task:
    """Take one row of the table.

    A settled task lets go of its input: nobody reads it again.

    Args:
        task: as it was.
        step: what happens.
        at: wall-clock.
        changes: other members that change with the step.
    """
    try:
        state = TRANSITIONS[task.state][step]
    except KeyError:
        raise AssertionError(f"{task.task_id} cannot {step.value} while {task.state}") from None
    if not TRANSITIONS[state]:
        changes["input"] = _NOTHING
    return structs.replace(task, state=state, updated_at=at, **changes)


def one_line(text: msgspec.Raw) -> msgspec.Raw:
    """Return JSON text without line breaks, as event streams need it, that keeps nothing else in memory.

    A line break in JSON can only stand between tokens; all spacing goes with it.
    """
    own = bytes(text)
    return msgspec.Raw(msgspec.json.format(own, indent=-1) if b"\n" in own or b"\r" in own else own)
