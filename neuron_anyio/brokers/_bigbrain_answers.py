"""What a gateway's answers mean: to a register or a stream (promises C2, C3), and to a result (L9)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ..abc import Receipt, Reply, Verdict
from ..errors import TransportError
from ..model import Offer

__all__ = ["FORGOTTEN", "Refusals", "Settlements", "answer_text", "is_success"]

CONFLICT_FOR = 60.0
"""Seconds of 409 after which the neuron id counts as taken for good (promise C2)."""

MISSING_TIMES, MISSING_SECONDS = 3, 5.0
"""A 404 without JSON may be an ingress that restarts; so often over so long it is an answer (promise L9)."""

REMEMBERED = 10_000
"""Leases of which such a 404 is remembered: as many as are settled within ten minutes at the most."""

UNAUTHORIZED, FORBIDDEN, NOT_FOUND, CONFLICT, GONE = 401, 403, 404, 409, 410
RETRIED = frozenset({UNAUTHORIZED, 408, CONFLICT, 425, 429})
"""4xx that say "not now" to a register or a stream (promises C2, C3)."""

FATAL_LATER = frozenset({400, FORBIDDEN, 422})
FORGOTTEN = frozenset({NOT_FOUND, CONFLICT, GONE, 412})
"""Answers to a heartbeat that say that the gateway does not know this neuron (promise C3)."""


def is_success(reply: Reply) -> bool:
    """Return whether the gateway has taken what was posted; no request follows a redirect (promise C9)."""
    return 200 <= reply.status < 300  # noqa: PLR2004 - the class of success


def answer_text(status: int) -> str:
    """Return what to say of an answer whose text may quote a result (promise C9)."""
    return f"the gateway answered {status}"


class Refusals:
    """Decides which refusal ends the neuron, over the whole of its life."""

    __slots__ = ("_conflict_since", "_ever_accepted")

    def __init__(self) -> None:
        self._ever_accepted = False
        self._conflict_since: float | None = None

    def accept(self) -> None:
        """Note that a register was accepted."""
        self._ever_accepted = True
        self._conflict_since = None

    def interrupt(self) -> None:
        """Note that no answer came: what was in conflict before may not be any more."""
        self._conflict_since = None

    def refuse(self, status: int, now: float, *, neuron_id: str, offers: Sequence[Offer]) -> str | None:
        """Note a refusal; return what the user should check if it ends the neuron, None if it is retried."""
        if status != CONFLICT:
            self._conflict_since = None
        elif self._conflict_since is None:
            self._conflict_since = now
        elif now - self._conflict_since >= CONFLICT_FOR:
            return f"another process is connected as {neuron_id!r}; give each its own neuron_id"
        is_fatal = status in FATAL_LATER if self._ever_accepted else _is_client_error(status) and status not in RETRIED
        return _advice(status, offers) if is_fatal else None


def _advice(status: int, offers: Sequence[Offer]) -> str:
    if status == NOT_FOUND:
        return "check the path of the gateway's URL"
    if status == FORBIDDEN:
        offered = ", ".join(f"{offer.capability} for {offer.on_behalf_of or 'any'}" for offer in offers)
        return f"check that the token may offer {offered}"
    return "check the gateway's URL and version"


class Settlements:
    """Reads the answers to acks and nacks (promise L9)."""

    __slots__ = ("_missing",)

    def __init__(self) -> None:
        self._missing: dict[str, tuple[int, float]] = {}

    def receipt(self, delivery_id: str, reply: Reply, clock: Callable[[], float]) -> Receipt:
        """Return what became of a result.

        Raises:
            TransportError: not now.
        """
        if is_success(reply):
            self._missing.pop(delivery_id, None)
            return Receipt(verdict=Verdict.ACCEPTED)
        status = reply.status
        # The gateway's text is left out: validation errors of widespread frameworks quote the refused value (C9).
        text = answer_text(status)
        if status == NOT_FOUND and not reply.is_json and not self._is_missing_long(delivery_id, clock()):
            raise TransportError(text)
        if status != NOT_FOUND and not _is_final(status):
            raise TransportError(text, retry_after=reply.retry_after)
        self._missing.pop(delivery_id, None)
        gone = status in (NOT_FOUND, CONFLICT, GONE)
        return Receipt(verdict=Verdict.GONE if gone else Verdict.REFUSED, reason=text)

    def _is_missing_long(self, delivery_id: str, now: float) -> bool:
        times, since = self._missing.get(delivery_id, (0, now))
        self._missing[delivery_id] = (times + 1, since)
        if len(self._missing) > REMEMBERED:  # of leases that went on under another id nobody asks again
            del self._missing[next(iter(self._missing))]
        return times + 1 >= MISSING_TIMES and now - since >= MISSING_SECONDS


def _is_client_error(status: int) -> bool:
    return 400 <= status < 500  # noqa: PLR2004 - the class of client errors


def _is_final(status: int) -> bool:
    return _is_client_error(status) and status not in (RETRIED - {CONFLICT})
