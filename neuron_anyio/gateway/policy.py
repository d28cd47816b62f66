"""What the gateway decides by rule: what a nack means, who may offer what, how long to wait."""

from __future__ import annotations

import enum
import hashlib

import msgspec

from neuron_anyio.frames import CAPABILITY_TYPE, Ack, CapabilityOffer, Nack, OnBehalfOf, Register

from .principals import Principal
from .problems import Problem, problem
from .tasks import Submission

__all__ = [
    "GIVE_BACK_CODES",
    "STOP_CODES",
    "Verdict",
    "check_offers",
    "check_submission",
    "check_version",
    "fingerprint",
    "judge",
    "pace",
    "retry_after",
    "settlement_digest",
    "stops",
]

GIVE_BACK_CODES = frozenset(
    {
        "CAPABILITY_REVOKED",
        "LEASE_EXPIRED",
        "MALFORMED_LEASE",
        "NEURON_DRAINING",
        "NEURON_OVERLOADED",
        "NEURON_SHUTDOWN",
        "SCOPE_MISMATCH",
        "UNKNOWN_CAPABILITY",
    }
)
"""Retryable nacks that say nothing about the task: they cost no attempt (promise G1)."""

STOP_CODES = frozenset({"NEURON_DRAINING", "NEURON_SHUTDOWN"})
"""Give-backs after which the session gets no more leases until it registers anew (promise G1)."""

MAJOR_VERSION = "1"

FIRST_PAUSE = 0.1
"""Seconds that an offer rests after a lease came back from it: long beside a round trip, short beside a lease."""

LONGEST_PAUSE = 5.0
"""Seconds of the longest rest; each give-back in a row doubles it."""

LONGEST_RETRY_AFTER = 86_400.0
"""Seconds: the longest wish of a handler that is granted. A slip in the unit must not park a task for years."""


class Verdict(enum.Enum):
    """What a nack means for its task."""

    GIVE_BACK = "pending at once, no attempt spent"
    RETRY = "pending after back-off, or failed when no attempt is left"
    FAIL = "failed"
    CANCEL = "cancelled"


_BY_KIND = {
    "retryable": Verdict.RETRY,
    "terminal": Verdict.FAIL,
    "schema-mismatch": Verdict.FAIL,
    "cancelled": Verdict.CANCEL,
}


def judge(nack: Nack, *, cancel_requested: bool) -> Verdict:
    """Return what a nack means (promise G1). A task that was called off is not tried again."""
    verdict = _BY_KIND[nack.kind]
    if verdict is not Verdict.RETRY:
        return verdict
    if cancel_requested:
        return Verdict.CANCEL
    return Verdict.GIVE_BACK if nack.code in GIVE_BACK_CODES else verdict


def stops(nack: Nack) -> bool:
    """Return whether a nack asks for no more on its session (promise G1)."""
    return nack.kind == "retryable" and nack.code in STOP_CODES


class _Wish(msgspec.Struct, rename="camel"):
    retry_after_ms: float | None = None


_wish = msgspec.json.Decoder(_Wish)


def retry_after(details: msgspec.Raw | None) -> float | None:
    """Return the seconds that a nack's `details.retryAfterMs` asks for, None where it asks for none."""
    if details is None:
        return None
    try:
        milliseconds = _wish.decode(details).retry_after_ms
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    if milliseconds is None or milliseconds < 0:
        return None
    return min(milliseconds / 1000, LONGEST_RETRY_AFTER)


def pace(in_a_row: int) -> float:
    """Return the seconds to rest after so many give-backs in a row, from 1."""
    return min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(in_a_row - 1, 10))


def check_version(frame: Register) -> Problem | None:
    """Return what is wrong with the protocol version, None when nothing is."""
    if frame.protocol_version.split(".", 1)[0] == MAJOR_VERSION:
        return None
    detail = (
        f"protocolVersion {frame.protocol_version[:20]!r} is not spoken here; this gateway speaks {MAJOR_VERSION}.x"
    )
    return problem(400, "protocol-version", detail)


def check_offers(offers: tuple[CapabilityOffer, ...], principal: Principal) -> Problem | None:
    """Return why a principal may not offer these capabilities, None when it may (wire specification, section 8)."""
    foreign = [offer.type for offer in offers if not principal.may_offer(offer.type)]
    if foreign:
        allowed = ", ".join(principal.namespaces or ()) or "no namespace"
        detail = f"{principal.name!r} may not offer {', '.join(foreign)}; its token allows {allowed}"
        return problem(403, "namespace", detail)
    for offer in offers:
        if isinstance(offer.scope, OnBehalfOf) and not principal.may_act_for(offer.scope.on_behalf_of):
            detail = f"{principal.name!r} may not offer {offer.type} on behalf of another user than its own"
            return problem(403, "user", detail)
    return None


def check_submission(submission: Submission, principal: Principal) -> Problem | None:
    """Return what is wrong with a task that a caller submits, None when nothing is."""
    if CAPABILITY_TYPE.match(submission.capability) is None:
        detail = "capability must be two or more segments of A-Z a-z 0-9 _ . - joined by slashes, like 'org/thing.do'"
        return problem(400, "invalid-capability", detail)
    if not principal.may_act_for(submission.on_behalf_of):
        return problem(403, "user", f"{principal.name!r} may not submit on behalf of another user than its own")
    return None


def settlement_digest(frame: Ack | Nack, principal: Principal) -> bytes:
    """Return what a repeat of the same word by the same principal has in common with it; timestamps are left out."""
    who = principal.name.encode()
    if isinstance(frame, Ack):
        return _digest(b"ack", who, bytes(frame.output))
    code = b"-" if frame.code is None else b"+" + frame.code.encode()
    return _digest(b"nack", who, frame.kind.encode(), frame.reason.encode(), code, bytes(frame.details or b""))


def fingerprint(submission: Submission) -> bytes:
    """Return what two submissions with one idempotency key must have in common; the JSON may be spelt otherwise."""
    try:
        text = msgspec.json.encode(msgspec.json.decode(submission.input), order="deterministic")
    except (msgspec.DecodeError, RecursionError):  # JSON that Python does not hold: then its spelling is what counts
        text = bytes(submission.input)
    rest = (submission.capability, submission.on_behalf_of, submission.max_attempts, submission.metadata)
    return _digest(msgspec.json.encode(rest, order="deterministic"), text)


def _digest(*parts: bytes) -> bytes:
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        digest.update(b"%d:" % len(part))
        digest.update(part)
    return digest.digest()
