"""The life of one delivery, as a table.

The law: a lease settles exactly once, and what ended is never started again. Every change of state is a row below;
whatever is not a row is a mistake of this package and raises. `Lease` holds one delivery's state and the few facts
that the ledger needs to decide; it knows no clock, `now` is always an argument (seconds, monotonic).

    ADMITTED --enqueue--> QUEUED --start--> RUNNING --cancel--> STOPPING
        |                    |                 |                    |
        +------finish--------+------finish-----+-------finish-------+
                                     |
                                UNDELIVERED --accept--> SETTLED
                                     |  ^
                               lose  |  | revive (the same task came again)
                                     v  |
                                    KEPT --forget--> SETTLED
"""

from __future__ import annotations

import enum
import hashlib
from typing import TYPE_CHECKING, Any

from msgspec import structs

from .model import CancelReason, Delivery, Outcome, Task

__all__ = ["TRANSITIONS", "Lease", "State", "Step", "fingerprint"]


class State(enum.Enum):
    """Where a lease stands."""

    ADMITTED = "in the book, its input not yet judged"
    QUEUED = "waits for a slot"
    RUNNING = "its handler runs"
    STOPPING = "its handler runs and was cancelled"
    UNDELIVERED = "it is decided how it ends; the broker has not taken that yet"
    KEPT = "its lease is gone, its result waits for the task to come again"
    SETTLED = "over"

    if not TYPE_CHECKING:
        __hash__ = object.__hash__  # a member is the only one of its kind; `Enum` hashes its name, in Python


class Step(enum.Enum):
    """What can happen to a lease."""

    ENQUEUE = "enqueue"
    START = "start"
    CANCEL = "cancel"
    FINISH = "finish"
    ACCEPT = "accept"
    LOSE = "lose"
    REVIVE = "revive"
    FORGET = "forget"

    if not TYPE_CHECKING:
        __hash__ = object.__hash__  # as above


TRANSITIONS: dict[State, dict[Step, State]] = {
    State.ADMITTED: {Step.ENQUEUE: State.QUEUED, Step.FINISH: State.UNDELIVERED},
    State.QUEUED: {Step.START: State.RUNNING, Step.FINISH: State.UNDELIVERED},
    State.RUNNING: {Step.CANCEL: State.STOPPING, Step.FINISH: State.UNDELIVERED},
    State.STOPPING: {Step.CANCEL: State.STOPPING, Step.FINISH: State.UNDELIVERED},
    State.UNDELIVERED: {Step.ACCEPT: State.SETTLED, Step.LOSE: State.KEPT, Step.FORGET: State.SETTLED},
    State.KEPT: {Step.REVIVE: State.UNDELIVERED, Step.FORGET: State.SETTLED},
    State.SETTLED: {},
}


class Lease:
    """One delivery in the neuron's book. Made and changed by the `Ledger` alone.

    Attributes:
        source: which broker it came from.
        key: broker and newest id.
        delivery: the newest delivery of the task (promise L3.4).
        size: bytes of input and schemas that it holds in memory.
        fingerprint: identity of the task (promise L3.3).
        state: where it stands.
        expires: when its time runs out, None where the system knows no expiry.
        deadline: when its handler is over its capability's time-out, None before the start and without one.
        admitted, started, finished: when; None before.
        lost: its time ran out while it ran (promise L7).
        cancel_reason: why its handler was cancelled, None while it was not.
        outcome: how it ends, None until that is decided.
        due: when its outcome may be sent (give-backs are paced, promise L2).
        sequence: its place in the order of arrival.
        runtime: whatever the shell attaches (context, decoded input); the core never looks at it.
    """

    __slots__ = (
        "admitted",
        "cancel_reason",
        "deadline",
        "delivery",
        "due",
        "expires",
        "fingerprint",
        "finished",
        "key",
        "lost",
        "outcome",
        "runtime",
        "sequence",
        "size",
        "source",
        "started",
        "state",
    )

    def __init__(self, delivery: Delivery, *, source: int, fingerprint: bytes, now: float, sequence: int = 0) -> None:
        self.source: int = source
        self.key: tuple[int, str] = (source, delivery.id)
        self.delivery: Delivery = delivery
        self.size: int = _size(delivery)
        self.fingerprint: bytes = fingerprint
        self.state: State = State.ADMITTED
        self.expires = None if delivery.time_left is None else now + delivery.time_left
        self.deadline: float | None = None
        self.admitted: float = now
        self.started: float | None = None
        self.finished: float | None = None
        self.lost: bool = False
        self.cancel_reason: CancelReason | None = None
        self.outcome: Outcome | None = None
        self.due: float = now
        self.sequence: int = sequence
        self.runtime: Any = None

    def apply(self, step: Step) -> None:
        """Take one row of the table."""
        try:
            self.state = TRANSITIONS[self.state][step]
        except KeyError:
            raise AssertionError(f"{self!r} cannot {step.value} while {self.state.name}") from None

    @property
    def is_running(self) -> bool:
        """Whether a handler runs, cancelled or not."""
        return self.state is State.RUNNING or self.state is State.STOPPING

    def time_left(self, now: float) -> float | None:
        """Return the seconds until it expires, 0 when it has; None where there is no expiry (promise L6)."""
        return None if self.expires is None else max(0.0, self.expires - now)

    def renew(self, sent_at: float) -> None:
        """Count its time anew from the moment an accepted heartbeat was sent (promise L6).

        The answer to an older heartbeat, come late, takes no time back.
        """
        length = self.delivery.time_left
        if length is not None and (self.expires is None or sent_at + length > self.expires):
            self.expires = sent_at + length
            self.lost = False

    def rebind(self, delivery: Delivery, now: float) -> None:
        """Take a newer delivery of the same task in place of the one so far (promises L3.3 to L3.5)."""
        self.key = (self.source, delivery.id)
        self.delivery = delivery
        self.size = _size(delivery)
        self.expires = None if delivery.time_left is None else now + delivery.time_left
        self.lost = False

    def shed(self) -> None:
        """Let go of input and schemas, which nobody needs once it is decided how the lease ends."""
        delivery = self.delivery
        task = structs.replace(delivery.task, input=b"", metadata=None)
        self.delivery = Delivery(id=delivery.id, task=task, time_left=delivery.time_left)
        self.size = 0

    def cancel(self, reason: CancelReason) -> None:
        """Note why the handler is cancelled. A gateway's word outweighs every other, else the first stands."""
        self.apply(Step.CANCEL)
        if self.cancel_reason is None or reason is CancelReason.GATEWAY:
            self.cancel_reason = reason

    def __repr__(self) -> str:
        return f"<Lease {self.delivery.id!r} of task {self.delivery.task.task_id!r}, {self.state.name}>"


def _size(delivery: Delivery) -> int:
    return len(delivery.task.input) + len(delivery.input_schema or b"") + len(delivery.output_schema or b"")


def fingerprint(source: int, task: Task) -> bytes:
    """Return 16 bytes that identify a task of one broker: its ids, capability, user and input (promise L3.3)."""
    user = task.on_behalf_of
    lengths = f"{len(task.task_id)}:{len(task.workflow_id)}:{len(task.capability)}:{-1 if user is None else len(user)}"
    head = f"{source}:{lengths}:{task.task_id}{task.workflow_id}{task.capability}{user or ''}"
    digest = hashlib.sha256(head.encode("utf-8", "surrogatepass"))
    digest.update(task.input)
    return digest.digest()[:16]
