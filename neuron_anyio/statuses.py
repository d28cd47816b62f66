"""The documents of the callers' routes: the gateway writes what `GatewayClient` reads."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal, TypeAlias

import msgspec

__all__ = [
    "CapabilityStatus",
    "HeldSlots",
    "NeuronStatus",
    "TaskFailure",
    "TaskPage",
    "TaskProgress",
    "TaskState",
    "TaskStatus",
]

TaskState: TypeAlias = Literal["pending", "leased", "succeeded", "failed", "cancelled"]


class _Document(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """An object of the callers' routes: camelCase members, null ones left out."""


class TaskFailure(_Document, frozen=True):
    """Why a try failed, or the task.

    Attributes:
        kind: of the nack: `retryable`, `terminal`, `schema-mismatch`, `cancelled`; `expired` for a lease that ran out.
        reason: one line for people.
        code: machine-readable, or None.
        details: any JSON value.
    """

    kind: str
    reason: str
    code: str | None = None
    details: Any = None

    def __repr__(self) -> str:
        return f"TaskFailure(kind={self.kind!r}, code={self.code!r})"


class TaskProgress(_Document, frozen=True):
    """The newest word of the handler: `percent` from 0 to 100, a message, any JSON `data`."""

    sent_at: datetime
    percent: float | None = None
    message: str | None = None
    data: Any = None

    def __repr__(self) -> str:
        return f"TaskProgress(percent={self.percent!r})"


class TaskStatus(_Document, frozen=True):
    """Where a task stands.

    Attributes:
        task_id: the gateway's name for it.
        capability: what is to be done.
        state: `pending`, `leased`, then for ever `succeeded`, `failed` or `cancelled`.
        created_at, updated_at: by the gateway's clock.
        max_attempts, attempts: tries that it is worth, and that are spent.
        deliveries: leases so far.
        results: verdicts of handlers so far; each costs an attempt.
        expiries: leases that ran out without a word; each costs an attempt.
        give_backs: leases that came back untouched; they cost none.
        offered: while it is pending, whether any connected neuron does such tasks.
        neuron_id: who has it, or had it last.
        lease_expires_at: while it is leased.
        cancel_reason: why a caller called it off.
        output: what the handler returned, once it succeeded.
        failure: of the last try that failed.
        progress: of the last try.
    """

    task_id: str
    capability: str
    state: TaskState
    created_at: datetime
    updated_at: datetime
    max_attempts: int
    attempts: int = 0
    deliveries: int = 0
    results: int = 0
    expiries: int = 0
    give_backs: int = 0
    on_behalf_of: str | None = None
    metadata: dict[str, Any] | None = None
    offered: bool | None = None
    neuron_id: str | None = None
    lease_expires_at: datetime | None = None
    cancel_reason: str | None = None
    output: Any = None
    failure: TaskFailure | None = None
    progress: TaskProgress | None = None

    @property
    def settled(self) -> bool:
        """Whether nothing more can happen to it."""
        return self.state not in ("pending", "leased")

    def __repr__(self) -> str:
        return f"TaskStatus(task_id={self.task_id!r}, capability={self.capability!r}, state={self.state!r})"


class TaskPage(_Document, frozen=True):
    """Part of a listing, newest first; `cursor` is where the next page begins, None at the end."""

    tasks: tuple[TaskStatus, ...]
    cursor: str | None = None


class HeldSlots(_Document, frozen=True):
    """One capability of one neuron: what it may have, and has now. `on_behalf_of` is None for scope `any`."""

    type: str
    concurrency: int
    leased: int
    on_behalf_of: str | None = None


class NeuronStatus(_Document, frozen=True):
    """A neuron that is connected, or still holds leases.

    Attributes:
        connected: its stream is open; `session_id` and `since` are there then.
        registered: on this stream.
        draining: it has asked for no more.
        leased: leases that it holds, in all.
        capabilities: what it is granted.
    """

    neuron_id: str
    connected: bool
    registered: bool
    draining: bool
    leased: int
    capabilities: tuple[HeldSlots, ...]
    session_id: str | None = None
    since: datetime | None = None


class CapabilityStatus(_Document, frozen=True):
    """What is offered and wanted of one capability, over all neurons.

    Attributes:
        neurons: how many offer it.
        concurrency: leases that they may have together.
        leased, pending: tasks in these states.
        revoked: an operator took it back.
    """

    type: str
    neurons: int
    concurrency: int
    leased: int
    pending: int
    revoked: bool
