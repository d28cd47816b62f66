"""From the way a handler ended to the outcome of its lease: the only place where that is decided.

One function, one question after the other, in the order of promises L4.3, L11.2, L11.13 and the rest of table L11.
"""

from __future__ import annotations

import msgspec

from .capability import Capability
from .conversion import Mismatch
from .errors import HandlerCancelled, RetryableFailure, TerminalFailure
from .groups import leaves
from .jsontext import NotJsonError, write_json
from .lease import Lease
from .model import (
    Cancelled,
    CancelReason,
    Completed,
    Failed,
    FailureKind,
    GiveBack,
    GivenBack,
    Outcome,
)
from .schemas import InvalidSchema

__all__ = ["CancelledOut", "Ending", "Raised", "Returned", "input_failure", "outcome_of"]

REASON_LENGTH = 1_000
"""Characters of a handler's own text that are sent (promise C9)."""

LONGEST_DELAY = 366 * 86_400.0
"""Seconds; longer than anybody waits for another try, and far from the end of what a number on any wire can hold."""

NO_REASON = "no reason given"


class Returned(msgspec.Struct, frozen=True):
    """The handler returned.

    Attributes:
        value: what it returned.
    """

    value: object

    def __repr__(self) -> str:
        return "Returned()"


class Raised(msgspec.Struct, frozen=True):
    """An exception came out of the handler."""

    error: BaseException

    def __repr__(self) -> str:
        return f"Raised({type(self.error).__name__})"


class CancelledOut(msgspec.Struct, frozen=True):
    """A cancellation came out of the handler."""


Ending = Returned | Raised | CancelledOut


def outcome_of(  # noqa: PLR0911 - a table, one row after the other
    ending: Ending,
    lease: Lease,
    capability: Capability[..., object],
    *,
    verdict: TerminalFailure | RetryableFailure | None,
    output_bytes: int,
) -> Outcome:
    """Decide how a lease ends.

    Args:
        ending: how its handler ended.
        lease: the lease, with the reason for which it was cancelled.
        capability: judges the output.
        verdict: what the handler settled by `ctx.fail` or `ctx.retry`.
        output_bytes: bound on the output's JSON text.
    """
    reason = lease.cancel_reason
    if reason is CancelReason.GATEWAY:
        return Cancelled()
    if verdict is not None:
        return _verdict(verdict)
    if reason is CancelReason.TIMEOUT:
        text = f"the handler took longer than its time-out of {capability.terms.timeout:g} s"
        return Failed(kind=FailureKind.TIMED_OUT, retryable=True, reason=text)
    if isinstance(ending, Returned):
        outcome = _judged(ending.value, lease, capability, output_bytes)
        valid = isinstance(outcome, Completed)
        return outcome if valid or reason is not CancelReason.SHUTDOWN else _given_back(GiveBack.SHUTDOWN)
    if reason is CancelReason.SHUTDOWN:
        return _given_back(GiveBack.SHUTDOWN)
    error = _weightiest(ending.error) if isinstance(ending, Raised) else None
    if isinstance(error, TerminalFailure):
        return _verdict(error)
    if reason is CancelReason.LEASE_LOST and (error is None or isinstance(error, HandlerCancelled)):
        return _given_back(GiveBack.EXPIRED)
    if error is None or isinstance(error, HandlerCancelled):
        text = "a cancellation came out of the handler, though nobody had cancelled it"
        return Failed(kind=FailureKind.CANCELLED_ITSELF, retryable=True, reason=text)
    if isinstance(error, RetryableFailure):
        return _verdict(error)
    retryable = not isinstance(error, capability.terms.non_retryable)
    return Failed(kind=FailureKind.THREW, retryable=retryable, reason=_told(error) or type(error).__name__)


def input_failure(error: ValueError) -> Failed:
    """Say why an input does not reach its handler: `Mismatch`, `InvalidSchema` or `NotJsonError` (L11.8, L11.11)."""
    return _mismatch(error, FailureKind.INPUT_MISMATCH, "input")


def _judged(value: object, lease: Lease, capability: Capability[..., object], output_bytes: int) -> Outcome:
    try:
        text = capability.write_output(value, lease.delivery.output_schema)
    except NotJsonError as exc:
        return Failed(kind=FailureKind.OUTPUT_NOT_JSON, retryable=False, reason=f"the output is not JSON: {exc}")
    except (Mismatch, InvalidSchema) as exc:
        return _mismatch(exc, FailureKind.OUTPUT_MISMATCH, "output")
    if len(text) > output_bytes:
        size = f"the output has {len(text)} bytes, more than the {output_bytes} that are allowed"
        return Failed(kind=FailureKind.OUTPUT_TOO_LARGE, retryable=False, reason=size)
    return Completed(_split(text) if lease.delivery.fans_out else (text,))


def _split(text: bytes) -> tuple[bytes, ...]:
    if not text.startswith(b"["):
        return (text,)
    return tuple(bytes(item) for item in msgspec.json.decode(text, type=list[msgspec.Raw]))


def _mismatch(error: ValueError, kind: FailureKind, what: str) -> Failed:
    if isinstance(error, Mismatch):
        details = {"path": error.path, "rule": error.rule, "schemaPath": error.schema_path, "message": str(error)}
        text = f"the {what} does not match: {error}"
        return Failed(kind=kind, retryable=False, reason=text[:REASON_LENGTH], details=write_json(details))
    if isinstance(error, InvalidSchema):
        text = f"the schema of the {what} cannot be used: {error}"
        return Failed(kind=FailureKind.SCHEMA_UNUSABLE, retryable=False, reason=text[:REASON_LENGTH])
    return Failed(kind=kind, retryable=False, reason=f"the {what} is {error}"[:REASON_LENGTH])


def _verdict(verdict: TerminalFailure | RetryableFailure) -> Failed:
    reason = _told(verdict.reason) or NO_REASON
    code = None if verdict.code is None else _told(verdict.code) or None
    if isinstance(verdict, RetryableFailure):
        delay = None if verdict.after is None else float(min(verdict.after, LONGEST_DELAY))
        return Failed(kind=FailureKind.RETRY, retryable=True, reason=reason, code=code, delay=delay)
    details: bytes | None = None
    if verdict.details is not None:
        try:
            details = write_json(verdict.details)
        except NotJsonError as exc:
            details = write_json({"detailsLost": str(exc)})
    return Failed(kind=FailureKind.TERMINAL, retryable=False, reason=reason, code=code, details=details)


def _given_back(cause: GiveBack) -> GivenBack:
    return GivenBack(cause=cause, reason=cause.value)


def _told(value: object) -> str:
    """Return a handler's own text as it can be sent: bounded and in UTF-8; empty where there is none to be had."""
    try:
        text = str(value)
    except Exception:  # a handler's exception may be broken too
        return ""
    return text[:REASON_LENGTH].encode("utf-8", "replace").decode()


def _weightiest(error: BaseException) -> BaseException:
    """Return the exception of a group that decides: terminal, cancelled, retryable, any other (table L11)."""
    return min(leaves(error), key=_weight)


def _weight(error: BaseException) -> int:
    if isinstance(error, TerminalFailure):
        return 0
    if not isinstance(error, Exception):
        return 1
    return 2 if isinstance(error, RetryableFailure) else 3
