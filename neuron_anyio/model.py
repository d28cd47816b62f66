"""What a task is, whatever system it came from.

A broker turns its system's words into these, the neuron works with nothing else: a `Delivery` comes in, an `Outcome`
goes out, `Progress` in between. JSON values are kept as JSON text (`bytes`) until somebody needs them decoded, so
that a queued delivery costs its text and no more. Reprs show ids and never a task's content (promise C9).
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Any, TypeAlias

import msgspec

__all__ = [
    "CancelReason",
    "Cancelled",
    "Completed",
    "Delivery",
    "Dropped",
    "Failed",
    "FailureKind",
    "GiveBack",
    "GivenBack",
    "Held",
    "Offer",
    "Outcome",
    "Progress",
    "Task",
]


class CancelReason(enum.StrEnum):
    """Why a running handler was cancelled."""

    GATEWAY = "gateway"
    """The task was called off; its result would be thrown away."""
    SHUTDOWN = "shutdown"
    """This neuron stops; the task will run elsewhere."""
    LEASE_LOST = "lease-lost"
    """The lease ran out; the task may already run elsewhere."""
    TIMEOUT = "timeout"
    """The handler took longer than its capability allows."""


class Offer(msgspec.Struct, frozen=True, kw_only=True):
    """One capability as it is announced to a broker.

    Attributes:
        capability: namespaced type, `"examples/http.fetch"`.
        on_behalf_of: the user whose tasks alone are taken, or None for any.
        concurrency: how many tasks run at once, 1 or more.
        lease_ttl: wished lease time in seconds, or None for the broker's default.
        description, input_schema, output_schema: for systems that announce them.
    """

    capability: str
    concurrency: int
    on_behalf_of: str | None = None
    lease_ttl: float | None = None
    description: str | None = None
    input_schema: Mapping[str, Any] | bool | None = None
    output_schema: Mapping[str, Any] | bool | None = None


class Task(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be done; the same over every redelivery.

    Attributes:
        task_id: stable id of the task.
        workflow_id: id of the workflow that it belongs to.
        capability: the capability's type.
        attempt: how often it was tried before, 0 or more.
        on_behalf_of: the user for whom it runs, or None.
        metadata: free-form, as sent; None when absent.
        input: the input as JSON text.
    """

    task_id: str
    workflow_id: str
    capability: str
    attempt: int
    input: bytes
    on_behalf_of: str | None = None
    metadata: Mapping[str, Any] | None = None

    def __repr__(self) -> str:
        return f"Task(task_id={self.task_id!r}, capability={self.capability!r}, attempt={self.attempt})"


class Delivery(msgspec.Struct, frozen=True, kw_only=True):
    """One delivery of one task: a lease.

    Attributes:
        id: the lease's id; a redelivery has a new one.
        task: the task.
        time_left: seconds until it expires, counted from its arrival; None where the system knows no expiry.
        input_schema, output_schema: JSON Schemas as JSON text that came with it, None where the registered ones hold.
        fans_out: whether a list that the handler returns is so many outputs (systems with several successors).
    """

    id: str
    task: Task
    time_left: float | None = None
    input_schema: bytes | None = None
    output_schema: bytes | None = None
    fans_out: bool = False

    def __repr__(self) -> str:
        return f"Delivery(id={self.id!r}, task={self.task!r})"


class Progress(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """How far a handler is. Every member may be absent.

    Attributes:
        percent: 0 to 100.
        message: a line for people.
        data: any JSON value, as JSON text.
    """

    percent: float | None = None
    message: str | None = None
    data: bytes | None = None

    def __repr__(self) -> str:
        return f"Progress(percent={self.percent!r})"


class Held(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A delivery that the neuron holds and wants kept alive.

    Attributes:
        delivery_id: the newest id of the lease.
        task_id: its task.
        age: seconds since its handler started.
    """

    delivery_id: str
    task_id: str
    age: float


class FailureKind(enum.Enum):
    """What went wrong with a task; a broker knows what its system calls it."""

    TERMINAL = "the handler said that the task cannot succeed"
    RETRY = "the handler asked for another try"
    THREW = "the handler raised"
    CANCELLED_ITSELF = "a cancellation came out of a handler that nobody had cancelled"
    TIMED_OUT = "the handler took longer than its capability allows"
    INPUT_MISMATCH = "the input does not match its schema or type"
    OUTPUT_MISMATCH = "the output does not match its schema or type"
    OUTPUT_NOT_JSON = "the output cannot be written as JSON"
    OUTPUT_TOO_LARGE = "the output is over the size bound"
    SCHEMA_UNUSABLE = "the schema cannot be used"
    RESULT_REFUSED = "the broker refused the result for its content"
    DELIVERY_TOO_LARGE = "the delivery is over the size bound"


class GiveBack(enum.Enum):
    """Why a delivery goes back untouched; costs the task no attempt."""

    UNKNOWN_CAPABILITY = "no handler for this capability"
    REVOKED = "the capability was revoked or not granted"
    DRAINING = "the neuron takes no new work"
    OVERLOADED = "the neuron's queue is full"
    EXPIRED = "the lease had no time left"
    SHUTDOWN = "the neuron stopped before the handler ended"
    SCOPE_MISMATCH = "the capability is offered for another user"
    MALFORMED = "the delivery could not be read"


class Completed(msgspec.Struct, frozen=True, gc=False):
    """The handler returned. Several outputs fan out where the system can.

    Attributes:
        outputs: JSON texts; one, or as many as the handler's list had where the delivery fans out.
    """

    outputs: tuple[bytes, ...]

    def __repr__(self) -> str:
        return f"Completed({len(self.outputs)} output{'s' if len(self.outputs) != 1 else ''})"


class Failed(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The task failed.

    Attributes:
        kind: what went wrong.
        retryable: whether another try makes sense.
        reason: one line for people, never empty.
        code: the handler's own code, or None for the broker's word for `kind`.
        details: JSON text, or None.
        delay: seconds to wait before the next try, or None.
    """

    kind: FailureKind
    retryable: bool
    reason: str
    code: str | None = None
    details: bytes | None = None
    delay: float | None = None

    def __repr__(self) -> str:
        return f"Failed(kind={self.kind.name}, retryable={self.retryable}, code={self.code!r})"


class Cancelled(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The broker called the task off, and it has stopped (or never started)."""

    reason: str = "cancelled by the gateway"

    def __repr__(self) -> str:
        return "Cancelled()"


class GivenBack(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The task goes back for somebody else, uncounted.

    Attributes:
        cause: why.
        reason: one line for people.
        delay: seconds to wait before the next delivery, or None.
    """

    cause: GiveBack
    reason: str
    delay: float | None = None

    @classmethod
    def because(cls, cause: GiveBack) -> GivenBack:
        """Give back for a cause that says enough."""
        return cls(cause=cause, reason=cause.value)

    def __repr__(self) -> str:
        return f"GivenBack(cause={self.cause.name})"


class Dropped(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The task ends here, without output and without failure (systems that prune)."""

    reason: str

    def __repr__(self) -> str:
        return "Dropped()"


Outcome: TypeAlias = Completed | Failed | Cancelled | GivenBack | Dropped
"""How a delivery ends."""
