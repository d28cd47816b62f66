"""Frames that the gateway sends, and what a fault makes of a lease. Pure."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, TypeAlias

from .book import Task
from .faults import Leasing

__all__ = ["USER", "cancel", "disconnect", "lease", "registered", "revoked", "twisted"]

USER = "user-1"
"""On whose behalf personal tasks are."""

Frame: TypeAlias = dict[str, Any]


def registered(capabilities: list[Any], *, now: datetime) -> Frame:
    """Grant capabilities."""
    return {"type": "registered", "sessionId": "session-1", "capabilities": capabilities, "acceptedAt": _stamp(now)}


def lease(task: Task, lease_id: str, *, now: datetime, ttl: float) -> Frame:
    """Lease a task for `ttl` seconds."""
    members: Frame = {
        "taskId": task.id,
        "workflowId": "workflow-1",
        "capability": task.capability,
        "input": task.input,
        "attempt": task.attempt,
    }
    if task.on_behalf_of is not None:
        members["onBehalfOf"] = task.on_behalf_of
    body = {"leaseId": lease_id, "expiresAt": _stamp(now, ttl), "task": members}
    return {"type": "lease", "lease": body, "sentAt": _stamp(now)}


def cancel(lease_id: str, *, now: datetime) -> Frame:
    """Call a lease off."""
    return {"type": "cancel", "leaseId": lease_id, "reason": "called off", "cancelledAt": _stamp(now)}


def revoked(capability: str, *, now: datetime) -> Frame:
    """Take a capability away."""
    return {"type": "capability-revoked", "capability": capability, "reason": "policy", "revokedAt": _stamp(now)}


def disconnect(*, reconnectable: bool, now: datetime) -> Frame:
    """Send a neuron away."""
    reason = "moving house" if reconnectable else "not welcome"
    return {"type": "disconnect", "reason": reason, "reconnectable": reconnectable, "sentAt": _stamp(now)}


def twisted(deed: Leasing, frame: Frame, *, now: datetime) -> list[Frame]:  # noqa: PLR0911 - a row each
    """Return what is sent in place of a lease frame."""
    body: Frame = frame["lease"]
    task: Frame = body["task"]
    match deed.do:
        case "twice":
            return [frame, frame]
        case "cancel-first":
            return [cancel(body["leaseId"], now=now), frame]
        case "pad":
            return [_with_task(frame, task, input={**task["input"], "padding": "x" * deed.size})]
        case "time":
            return [{**frame, "lease": {**body, "expiresAt": _stamp(now, deed.seconds)}}]
        case "another-user":
            return [_with_task(frame, task, onBehalfOf="somebody else")]
        case "malformed":
            return [{**frame, "lease": {**body, "task": "see above"}}]
        case _:
            return [frame]


def _with_task(frame: Frame, task: Frame, **changes: Any) -> Frame:
    return {**frame, "lease": {**frame["lease"], "task": {**task, **changes}}}


def _stamp(now: datetime, seconds: float = 0.0) -> str:
    return (now + timedelta(seconds=seconds)).isoformat(timespec="milliseconds").replace("+00:00", "Z")
