"""What a neuron tells about itself: one frozen class per kind, all under `Event`.

New kinds may come; code that matches on these should have a default branch. No event carries a task's input or
output except `FrameReceived.raw`, which its repr hides.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from .model import CancelReason, Outcome

__all__ = [
    "CapabilityRevoked",
    "Connected",
    "Disconnected",
    "Draining",
    "Event",
    "FrameDropped",
    "FrameReceived",
    "HandlerBlocked",
    "LeaseAdmitted",
    "LeaseLost",
    "LeaseSettled",
    "LeaseStarted",
    "Reconnecting",
    "Registered",
    "ResultAccepted",
    "ResultRejected",
]


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """Base of all events.

    Attributes:
        origin: the broker that it is about, `scheme://host:port` for a gateway; `""` for the neuron itself.
    """

    origin: str = ""


class Connected(Event, frozen=True, kw_only=True):
    """The stream is open."""


class Registered(Event, frozen=True, kw_only=True):
    """The gateway has accepted the neuron.

    Attributes:
        session_id: the gateway's name for the session, None when it sent none.
        capabilities: effective concurrency by type (promise C11).
    """

    session_id: str | None
    capabilities: Mapping[str, int]


class Disconnected(Event, frozen=True, kw_only=True):
    """The stream has ended.

    Attributes:
        reason: why, for people.
    """

    reason: str


class Reconnecting(Event, frozen=True, kw_only=True):
    """The neuron waits before it tries again.

    Attributes:
        attempt: 1 for the first.
        delay: seconds.
        reason: why the former connection ended.
    """

    attempt: int
    delay: float
    reason: str


class FrameReceived(Event, frozen=True, kw_only=True):
    """A frame has come.

    Attributes:
        type: the document's `type`, unknown ones included.
        raw: the document as JSON text, for types that this version does not know; else None.
    """

    type: str
    raw: bytes | None = None

    def __repr__(self) -> str:
        return f"FrameReceived(type={self.type!r})"


class FrameDropped(Event, frozen=True, kw_only=True):
    """A document could not be read and was dropped (promise C8).

    Attributes:
        reason: member and rule.
        size: bytes.
    """

    reason: str
    size: int


class LeaseAdmitted(Event, frozen=True, kw_only=True):
    """A lease was taken into the book."""

    lease_id: str
    task_id: str
    capability: str


class LeaseStarted(Event, frozen=True, kw_only=True):
    """A handler has started."""

    lease_id: str
    task_id: str
    capability: str
    attempt: int


class LeaseSettled(Event, frozen=True, kw_only=True):
    """It is decided how a lease ends; the result is not yet delivered.

    Attributes:
        outcome: how; its repr hides content.
        seconds: how long the handler ran, None when it never started.
    """

    lease_id: str
    task_id: str
    capability: str
    outcome: Outcome
    seconds: float | None


class LeaseLost(Event, frozen=True, kw_only=True):
    """A running lease has no time left (promise L7)."""

    lease_id: str
    task_id: str
    capability: str


class ResultAccepted(Event, frozen=True, kw_only=True):
    """The gateway has taken a result.

    Attributes:
        seconds: since it was decided how the lease ends.
    """

    lease_id: str
    task_id: str | None
    capability: str = ""
    seconds: float | None = None


class ResultRejected(Event, frozen=True, kw_only=True):
    """The gateway will not take a result: the lease is gone, or its content was refused.

    Attributes:
        reason: status and the gateway's text.
        seconds: since it was decided how the lease ends.
    """

    lease_id: str
    task_id: str | None
    reason: str
    capability: str = ""
    seconds: float | None = None


class CapabilityRevoked(Event, frozen=True, kw_only=True):
    """The gateway sends no more of this (promise C12)."""

    capability: str
    reason: str


class Draining(Event, frozen=True, kw_only=True):
    """The neuron takes no new work.

    Attributes:
        running: handlers that go on.
        given_back: queued leases that went back.
    """

    running: int
    given_back: int


class HandlerBlocked(Event, frozen=True, kw_only=True):
    """A handler does not let the loop turn, or does not end when it was cancelled.

    Attributes:
        seconds: for how long so far.
        reason: the cancellation that it does not follow, or None when it blocks the loop.
    """

    lease_id: str
    capability: str
    seconds: float
    reason: CancelReason | None = None
