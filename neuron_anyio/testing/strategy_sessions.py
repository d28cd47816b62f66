"""Strategies for whole conversations: what a gateway says in the course of a session, and how it travels."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, TypeAlias, get_args

import msgspec
from hypothesis import strategies as st
from hypothesis.errors import InvalidArgument
from hypothesis.strategies import SearchStrategy
from msgspec.structs import replace

from neuron_anyio import frames as wire

from .strategy_frames import capability_offers
from .strategy_values import IDS, TEXTS, Json, chosen, json_values, raw

__all__ = ["Break", "Pause", "StreamedDocuments", "Turn", "TurnKind", "event_streams", "sessions"]

TurnKind: TypeAlias = Literal["break", "cancel", "disconnect", "grant", "pause", "redelivery", "revocation", "stranger"]
"""What `sessions` can leave out. A `stranger` is the cancel of a lease that was not sent, or not yet."""


class Pause(msgspec.Struct, frozen=True):
    """Nothing is said for a while.

    Attributes:
        seconds: how long.
    """

    seconds: float


class Break(msgspec.Struct, frozen=True):
    """The stream ends; the neuron is expected to open another one and to register.

    Attributes:
        clean: whether it ends as a stream should, or breaks.
    """

    clean: bool


Turn: TypeAlias = wire.ServerFrame | Pause | Break

_BEGIN = datetime(2026, 5, 9, 10, 0, tzinfo=UTC)
_TICK = timedelta(milliseconds=1)
_LEASE_SECONDS = st.integers(1, 600)


class _Gateway:
    """Says what is allowed to be said next."""

    def __init__(self, draw: st.DrawFn, offers: tuple[wire.CapabilityOffer, ...], inputs: SearchStrategy[Json]) -> None:
        self.turns: list[Turn] = []
        self._draw = draw
        self._inputs = inputs
        self._offers = {offer.type: offer for offer in offers}
        self._granted = dict(self._offers)
        self._open: dict[str, wire.LeaseBody] = {}
        self._strangers: list[str] = []
        self._numbers = itertools.count(1)
        self._now = _BEGIN
        self.register()

    def _tick(self) -> datetime:
        self._now += _TICK
        return self._now

    def register(self) -> None:
        capabilities = tuple(self._granted.values())
        session_id = f"session-{next(self._numbers)}"
        self.turns.append(wire.Registered(session_id=session_id, capabilities=capabilities, accepted_at=self._tick()))

    def grant(self) -> None:
        if len(self._granted) < len(self._offers):
            self._granted = dict(self._offers)
            self.register()

    def revocation(self) -> None:
        if self._granted:
            capability = self._draw(st.sampled_from(sorted(self._granted)))
            del self._granted[capability]
            self.turns.append(
                wire.CapabilityRevoked(capability=capability, reason="the operator's wish", revoked_at=self._tick())
            )

    def lease(self) -> None:
        if not self._granted:
            return
        offer = self._granted[self._draw(st.sampled_from(sorted(self._granted)))]
        anybody = offer.scope == "any"
        number = next(self._numbers)
        task = wire.Task(
            task_id=f"task-{number}",
            workflow_id="workflow",
            capability=offer.type,
            on_behalf_of=self._draw(st.none() | IDS) if anybody else getattr(offer.scope, "on_behalf_of", None),
            input=raw(self._draw(self._inputs)),
            attempt=0,
        )
        early = bool(self._strangers) and self._draw(st.booleans())
        lease_id = self._strangers.pop() if early else f"lease-{number}"
        body = self._send_lease(lease_id, task)
        if not early:
            self._open[task.task_id] = body

    def _send_lease(self, lease_id: str, task: wire.Task) -> wire.LeaseBody:
        sent_at = self._tick()
        expires_at = sent_at + timedelta(seconds=self._draw(_LEASE_SECONDS))
        body = wire.LeaseBody(lease_id=lease_id, expires_at=expires_at, task=task)
        self.turns.append(wire.Lease(lease=body, sent_at=sent_at))
        return body

    def redelivery(self) -> None:
        known = sorted(name for name, body in self._open.items() if body.task.capability in self._granted)
        if not known:
            return
        body = self._open[self._draw(st.sampled_from(known))]
        task, lease_id = body.task, body.lease_id
        if self._draw(st.booleans()):
            task, lease_id = replace(task, attempt=task.attempt + 1), f"lease-{next(self._numbers)}"
        self._open[task.task_id] = self._send_lease(lease_id, task)

    def cancel(self) -> None:
        if self._open:
            body = self._open.pop(self._draw(st.sampled_from(sorted(self._open))))
            self._send_cancel(body.lease_id)

    def stranger(self) -> None:
        self._strangers.append(f"lease-{next(self._numbers)}")
        self._send_cancel(self._strangers[-1])

    def _send_cancel(self, lease_id: str) -> None:
        self.turns.append(wire.Cancel(lease_id=lease_id, reason="the caller's wish", cancelled_at=self._tick()))

    def pause(self) -> None:
        seconds = self._draw(st.integers(1, 120))
        self._now += timedelta(seconds=seconds)
        self._strangers.clear()  # a cancel overtakes its lease by no more than a moment
        self.turns.append(Pause(float(seconds)))

    def break_(self) -> None:
        if self._granted:  # without anything to offer a neuron does not register again
            self.turns.append(Break(self._draw(st.booleans())))
            self.register()

    def disconnect(self) -> None:
        reconnectable = self._draw(st.booleans())
        self.turns.append(wire.Disconnect(reason="so be it", reconnectable=reconnectable, sent_at=self._tick()))


@st.composite
def _conversations(
    draw: st.DrawFn,
    offers: SearchStrategy[tuple[wire.CapabilityOffer, ...]],
    inputs: SearchStrategy[Json],
    without: frozenset[str],
    max_size: int,
) -> list[Turn]:
    gateway = _Gateway(draw, draw(offers), inputs)
    kinds = [kind for kind in sorted(get_args(TurnKind)) if kind not in without and kind != "disconnect"]
    # Leases are what the others are about.
    for kind in draw(st.lists(st.sampled_from(["lease", "lease", "lease", *kinds]), max_size=max_size)):
        getattr(gateway, "break_" if kind == "break" else kind)()
    if "disconnect" not in without and draw(st.booleans()):
        gateway.disconnect()
    return gateway.turns


def sessions(
    *,
    capabilities: SearchStrategy[tuple[wire.CapabilityOffer, ...]] | None = None,
    input: SearchStrategy[Json] | None = None,  # noqa: A002 - what it is called everywhere
    without: Collection[TurnKind] = (),
    max_size: int = 20,
) -> SearchStrategy[list[Turn]]:
    """Return a strategy for what a gateway says, in order: frames, with a `Pause` or a `Break` between them.

    `sessions(capabilities=st.just((offer,)), without=["break", "disconnect"])`. A conversation obeys the specification:
    it begins with `registered`, as it does again after a `Break`; leases are of capabilities that are granted at that
    time, with time left; what is cancelled is not delivered again; a redelivery has the old lease id, or a new one and
    a higher `attempt`; `disconnect` is the last word. Timestamps go forward, by a pause as long as it is.

    Args:
        capabilities: what the neuron offers and is granted, each type once; one to three of any type unless given.
        input: inputs of the tasks, as Python holds JSON.
        without: kinds to leave out.
        max_size: the most turns, besides the first, the last and the `registered` after each `Break`.

    Raises:
        InvalidArgument: an argument is no strategy, names a kind that there is not, or is no size.
    """
    unknown = [kind for kind in without if kind not in get_args(TurnKind)]
    if isinstance(without, str) or unknown:
        raise InvalidArgument(f"without must name some of {', '.join(get_args(TurnKind))}, not {without!r}")
    if type(max_size) is not int or max_size < 0:
        raise InvalidArgument(f"max_size must be a whole number, 0 or more, not {max_size!r}")
    offer = capability_offers(concurrency=st.integers(1, 3))
    any_offers = st.lists(offer, min_size=1, max_size=3, unique_by=_type_of).map(tuple)
    offers = chosen("capabilities", capabilities, any_offers).map(_checked_offers)
    return _conversations(offers, chosen("input", input, json_values()), frozenset(without), max_size)


def _type_of(offer: wire.CapabilityOffer) -> str:
    return offer.type


def _checked_offers(offers: tuple[wire.CapabilityOffer, ...]) -> tuple[wire.CapabilityOffer, ...]:
    if not offers or len({offer.type for offer in offers}) < len(offers):
        raise InvalidArgument("capabilities must give one or more offers, each type once")
    return offers


class StreamedDocuments(msgspec.Struct, frozen=True, kw_only=True):
    """Documents, and one of the many ways in which they may come over an event stream.

    Attributes:
        documents: the texts that a reader has to find.
        names: the events' names, as a reader has to find them.
        chunks: the stream's bytes as they arrive; none is empty.
        comments: how many comment lines are in them.
    """

    documents: tuple[str, ...]
    names: tuple[str, ...]
    chunks: tuple[bytes, ...]
    comments: int

    def __repr__(self) -> str:
        sizes = [len(chunk) for chunk in self.chunks]
        return f"StreamedDocuments({len(self.documents)} documents, chunks of {sizes} bytes, {self.comments} comments)"


_EVENT_NAMES = TEXTS.filter(lambda name: not {"\r", "\n"} & set(name))
_NOISE = st.sampled_from(["id: 7", "id", "retry: 10", "retry:", "unknown: x", "dat: x", "data-x"])
_COMMENTS = st.sampled_from([":", ": keep-alive", ":data: no", "::"])


class _Writer:
    """Writes an event stream line by line, each with an end of its own choice."""

    def __init__(self, draw: st.DrawFn) -> None:
        self.comments = 0
        self._draw = draw
        self._parts: list[bytes] = [draw(st.sampled_from([b"", b"\xef\xbb\xbf"]))]

    def line(self, text: str) -> None:
        ends = [b"\n", b"\r", b"\r\n"]
        if not text and self._parts[-1].endswith(b"\r"):
            ends = ends[1:]  # a line feed would be the second half of the line end before it
        self._parts += [text.encode(), self._draw(st.sampled_from(ends))]

    def field(self, name: str, value: str) -> None:
        if not value and self._draw(st.booleans()):
            return self.line(name)
        colons = [": "] if value.startswith(" ") else [": ", ":"]
        return self.line(name + self._draw(st.sampled_from(colons)) + value)

    def noise(self) -> None:
        """Write what readers pass over. No blank line: within an event that would be its end."""
        for line in self._draw(st.lists(_NOISE | _COMMENTS, max_size=2)):
            self.comments += line.startswith(":")
            self.line(line)

    def event(self, name: str | None, lines: Sequence[str]) -> None:
        self.noise()
        fields = [("data", line) for line in lines]
        if name is not None:
            fields.insert(self._draw(st.integers(0, len(fields))), ("event", name))
        for field in fields:
            self.field(*field)
            self.noise()
        self.line("")

    def finish(self) -> bytes:
        """Write what is lost when the stream ends there."""
        return b"".join(self._parts) + self._draw(st.sampled_from([b"", b": unfinished", b"data: unfinished\n"]))


@st.composite
def _streamed(draw: st.DrawFn, documents: SearchStrategy[Sequence[str | bytes]]) -> StreamedDocuments:
    given = draw(documents)
    try:
        texts = [text.decode() if isinstance(text, bytes) else text.encode().decode() for text in given]
    except UnicodeError as exc:
        raise InvalidArgument(f"documents must be texts that UTF-8 can say: {type(exc).__name__}") from None
    if any("\r" in text for text in texts):
        raise InvalidArgument("documents must be without carriage returns: an event stream cannot carry them")
    names = draw(st.lists(st.none() | _EVENT_NAMES, min_size=len(texts), max_size=len(texts)))
    writer = _Writer(draw)
    for name, text in zip(names, texts, strict=True):
        writer.event(name, text.split("\n"))
    writer.noise()
    stream = writer.finish()
    cuts = sorted(set(draw(st.lists(st.integers(1, max(1, len(stream) - 1)), max_size=12))))
    chunks = [stream[start:end] for start, end in itertools.pairwise([0, *cuts, len(stream)])]
    return StreamedDocuments(
        documents=tuple(texts),
        names=tuple(name or "message" for name in names),
        chunks=tuple(chunk for chunk in chunks if chunk),
        comments=writer.comments,
    )


def event_streams(documents: SearchStrategy[Sequence[Any]]) -> SearchStrategy[StreamedDocuments]:
    """Return a strategy for event streams that carry documents: `event_streams(st.just(['{"type":"cancel"}']))`.

    Every freedom of the format is used: the three line ends mixed, a byte order mark, comments, names, fields that
    nobody knows, a space after the colon or none, several data lines for a document of several lines, an event that is
    cut off by the end, and any chunks.

    Args:
        documents: sequences of texts, as `str` or as UTF-8; none with a carriage return.

    Raises:
        InvalidArgument: it is no strategy.
    """
    return _streamed(chosen("documents", documents, st.nothing()))
