"""The faults as data: each id, what it does in one line, and the numbers that the fault gateway acts by.

Nothing here waits or sends. A family is a struct; who adds a fault adds a line, and only a new kind of deed needs code.
"""

from __future__ import annotations

import gzip
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Literal, TypeAlias

import msgspec

__all__ = ["FAULTS", "NO_FAULT", "ROUTES", "Answering", "Connecting", "Deed", "Fault", "Leasing", "Streaming"]

ROUTES = ("stream", "register", "ack", "nack", "heartbeat", "progress")
"""What a neuron asks for; all but the stream are the last part of the path that it posts to."""

MIB = 1024 * 1024
OK_BODY = b'{"ok":true}'
PAGE = b"<!doctype html><html><body><h1>nginx</h1></body></html>"


class Answering(msgspec.Struct, frozen=True, kw_only=True):
    """Other answers than the right one, to the first requests of one route.

    Attributes:
        route: one of `ROUTES`.
        times: requests that it strikes, None for all.
        status: of the reply.
        headers: whole lines; `{soon}` becomes a date one second from now.
        body, content_type: of the reply.
        padding: spaces after the body, in bytes.
        manner: whole; `endless` trickles for ever; `cut-off` breaks off in the body; `lost` closes without a word.
        acts: the gateway does what it was asked to before it answers.
        first_token_only: strikes only requests that carry the token of the first one.
    """

    route: str
    times: int | None = 1
    status: int = 200
    headers: tuple[str, ...] = ()
    body: bytes = OK_BODY
    content_type: str = "application/json"
    padding: int = 0
    manner: Literal["whole", "endless", "cut-off", "lost"] = "whole"
    acts: bool = False
    first_token_only: bool = False


class Connecting(msgspec.Struct, frozen=True, kw_only=True):
    """What happens to connections.

    Attributes:
        kind: the second part of the fault's id.
        times: connections or requests that it strikes; for `stalled-replies` those of each route.
        seconds: how long nobody listens.
    """

    kind: Literal[
        "refused", "rst", "close", "close-mid-frame", "half-open", "stalled-headers", "stalled-replies", "flapping"
    ]
    times: int = 1
    seconds: float = 0.0


class Streaming(msgspec.Struct, frozen=True, kw_only=True):
    """What the bytes of the event stream look like.

    Attributes:
        line_end: of every line.
        split: where every event is cut into separate writes: nowhere, after each byte, inside each character of several
            bytes, between CR and LF.
        bom: a byte order mark comes first.
        comments: every line has a comment before it.
        before: documents that come as events of their own before each frame.
        deep: levels of nesting of one more such document, 0 for none.
        members: every object of the wire has a member that nobody knows.
        pages: requests for the stream that are answered with a page of HTML.
    """

    line_end: str = "\n"
    split: Literal["", "bytes", "utf8", "crlf"] = ""
    bom: bool = False
    comments: bool = False
    before: tuple[str, ...] = ()
    deep: int = 0
    members: bool = False
    pages: int = 0


class Leasing(msgspec.Struct, frozen=True, kw_only=True):
    """What happens to one lease, once; or to all, for clocks that are wrong.

    Attributes:
        on: when: as the lease is sent, when its handler has started, when its ack arrives, when that was answered.
        do: what.
        other: it happens to the lease that was sent last, not to the one whose moment it is.
        seconds: by which the clock is off; time that the lease has.
        size: bytes of padding; leases at once.
    """

    on: Literal["sent", "started", "ack", "acked"]
    do: Literal[
        "twice", "redeliver", "refuse", "cancel", "cancel-first", "flood", "pad", "time", "clock", "another-user",
        "malformed", "revoke", "disconnect", "dismiss", "restart", "forget",
    ]  # fmt: skip
    other: bool = False
    seconds: float = 0.0
    size: int = 0


Deed: TypeAlias = Answering | Connecting | Streaming | Leasing


class Fault(msgspec.Struct, frozen=True):
    """One fault.

    Attributes:
        id: family, then what; for answers the route stands between.
        summary: one line for people.
        deed: what the gateway does, None for a gateway without fault.
    """

    id: str
    summary: str
    deed: Deed | None

    @property
    def family(self) -> str:
        """The first part of the id."""
        return self.id.partition(".")[0]


NO_FAULT = Fault("none", "a gateway that does as it should", None)

_PAGE = {"body": PAGE, "content_type": "text/html"}

_ANSWERS: Mapping[str, tuple[str, dict[str, Any]]] = {
    "500": ("500, twice", {"status": 500, "times": 2}),
    "502": ("502 as a proxy's page, twice", {"status": 502, "times": 2, **_PAGE}),
    "503-burst": ("503, five times in a row", {"status": 503, "times": 5}),
    "429-seconds": ("429 with Retry-After: 1", {"status": 429, "headers": ("Retry-After: 1",)}),
    "429-date": ("429 with Retry-After as a date", {"status": 429, "headers": ("Retry-After: {soon}",)}),
    "429-absurd": ("429 with Retry-After: 9999999999", {"status": 429, "headers": ("Retry-After: 9999999999",)}),
    "401-once": ("401, once", {"status": 401}),
    "401-always": ("401, always", {"status": 401, "times": None}),
    "401-until-refreshed": (
        "401 for the first token, for ever",
        {"status": 401, "times": None, "first_token_only": True},
    ),
    "403": ("403, once", {"status": 403}),
    "409": ("409, once", {"status": 409}),
    "404-ingress": ("404 as an ingress's page, once", {"status": 404, **_PAGE}),
    "redirect": (
        "a redirect to another origin, twice",
        {"status": 307, "times": 2, "headers": ("Location: {elsewhere}",)},
    ),
    "huge": ("done, with a reply of 8 MiB", {"acts": True, "padding": 8 * MIB}),
    "endless": ("done, with a reply that never ends", {"acts": True, "manner": "endless"}),
    "not-json": ("done, with a reply that says JSON and is none", {"acts": True, "times": None, "body": b"<oops"}),
    "gzip": (
        "done, with a reply in gzip that nobody asked for",
        {
            "acts": True,
            "times": None,
            "headers": ("Content-Encoding: gzip",),
            "body": gzip.compress(OK_BODY, mtime=0),
        },
    ),
    "cut-off": ("done, with a reply that breaks off, twice", {"acts": True, "times": 2, "manner": "cut-off"}),
    "lost-after-acted": ("done, and no reply, twice", {"acts": True, "times": 2, "manner": "lost"}),
}

_STREAM_ANSWERS: Mapping[str, tuple[str, dict[str, Any]]] = {
    "huge": ("500 with a text of 8 MiB", {"status": 500, "padding": 8 * MIB}),
    "endless": ("500 with a text that never ends", {"status": 500, "manner": "endless"}),
    "gzip": (
        "a stream in gzip that nobody asked for, twice",
        {
            "times": 2,
            "headers": ("Content-Encoding: gzip",),
            "content_type": "text/event-stream",
            "body": gzip.compress(b": here\n\n", mtime=0),
        },
    ),
    "cut-off": ("500 with a text that breaks off, twice", {"status": 500, "times": 2, "manner": "cut-off"}),
}
"""What is different where a stream was asked for: to do it means to open it."""

_NOT_ON_STREAM = {"not-json", "lost-after-acted"}
"""The first is `stream.html`, the second `connection.flapping`."""


def _answers() -> list[Fault]:
    found: list[Fault] = []
    for route in ROUTES:
        for what, usual in _ANSWERS.items():
            if route == "stream" and what in _NOT_ON_STREAM:
                continue
            summary, members = _STREAM_ANSWERS.get(what, usual) if route == "stream" else usual
            request = "the stream" if route == "stream" else f"`{route}`"
            found.append(
                Fault(f"answer.{route}.{what}", f"{request} is answered: {summary}", Answering(route=route, **members))
            )
    return found


_CONNECTIONS = (
    ("nobody listens for 0.2 s", Connecting(kind="refused", seconds=0.2)),
    ("when a handler runs, all connections and the next three are reset", Connecting(kind="rst", times=3)),
    ("when a handler runs, all connections and the next three are closed", Connecting(kind="close", times=3)),
    ("the stream is cut in the middle of a lease", Connecting(kind="close-mid-frame")),
    ("the stream stays open and nothing comes any more", Connecting(kind="half-open")),
    ("the request for the stream is never answered", Connecting(kind="stalled-headers")),
    ("the first frame of each route is acted on and never answered", Connecting(kind="stalled-replies")),
    ("the stream ends as soon as it is open, five times", Connecting(kind="flapping", times=5)),
)

_ODD_FRAMES = ('{"type":"party","at":[1,2]}', '{"type":""}', '{"kind":"lease"}', '{"type":["lease"]}')
_NO_JSON = ('{"type":"lease","lease":', "nonsense", "[]", "5", "null", '{"type":"lease"')

_STREAMS = (
    ("byte-by-byte", "one byte at a time", Streaming(split="bytes")),
    ("split-utf8", "cut inside every character of several bytes", Streaming(split="utf8")),
    ("split-crlf", "lines end in CRLF and are cut between the two", Streaming(line_end="\r\n", split="crlf")),
    ("cr-only", "lines end in CR alone", Streaming(line_end="\r")),
    ("comments", "a comment before every line", Streaming(comments=True)),
    ("bom", "a byte order mark before the first event", Streaming(bom=True)),
    ("unknown-types", "frames of unknown and missing types before each frame", Streaming(before=_ODD_FRAMES)),
    ("unknown-members", "every object has a member that nobody knows", Streaming(members=True)),
    ("malformed-json", "documents that are no JSON objects before each frame", Streaming(before=_NO_JSON)),
    ("deep-nesting", "a document of 200,000 levels before each frame", Streaming(deep=200_000)),
    ("html", "a page of HTML instead of the stream, twice", Streaming(pages=2)),
    ("malformed-lease", "a lease that cannot be read but for its id", Leasing(on="sent", do="malformed")),
)

_LEASES = (
    ("twice", "the same lease comes twice", Leasing(on="sent", do="twice")),
    ("redelivered-queued", "a queued task comes as a new lease", Leasing(on="started", do="redeliver", other=True)),
    ("redelivered-running", "a running task comes as a new lease", Leasing(on="started", do="redeliver")),
    ("redelivered-finished", "an ack is answered 409 and the task comes again", Leasing(on="ack", do="refuse")),
    ("cancel-before", "the cancel overtakes its lease", Leasing(on="sent", do="cancel-first")),
    ("cancel-queued", "a queued lease is cancelled", Leasing(on="started", do="cancel", other=True)),
    ("cancel-running", "a running lease is cancelled", Leasing(on="started", do="cancel")),
    ("cancel-ack-in-flight", "a lease is cancelled while its ack is on the way", Leasing(on="ack", do="cancel")),
    ("cancel-after", "a lease is cancelled when its ack was answered", Leasing(on="acked", do="cancel")),
    ("two-thousand", "2,000 leases in one go", Leasing(on="sent", do="flood", size=2_000)),
    ("twenty-megabytes", "an input of 20 MB", Leasing(on="sent", do="pad", size=20_000_000)),
    ("expired-on-arrival", "a lease that is over before it comes", Leasing(on="sent", do="time", seconds=-1.0)),
    (
        "expired-in-queue",
        "a lease that is over before its slot is free",
        Leasing(on="sent", do="time", other=True, seconds=0.3),
    ),
    ("clock-hour-ahead", "the gateway's clock is an hour ahead", Leasing(on="sent", do="clock", seconds=3600.0)),
    ("clock-hour-behind", "the gateway's clock is an hour behind", Leasing(on="sent", do="clock", seconds=-3600.0)),
    ("another-user", "a lease on behalf of another user", Leasing(on="sent", do="another-user")),
    (
        "revoked-in-flight",
        "the capability of a running lease is revoked for a while",
        Leasing(on="started", do="revoke"),
    ),
    ("disconnect-reconnectable", "the gateway sends the neuron away for now", Leasing(on="started", do="disconnect")),
    ("disconnect-final", "the gateway sends the neuron away for good", Leasing(on="started", do="dismiss")),
    ("restart-with-state", "the gateway is away for 0.2 s", Leasing(on="started", do="restart", seconds=0.2)),
    (
        "restart-without-state",
        "the same, and it has forgotten all leases",
        Leasing(on="started", do="forget", seconds=0.2),
    ),
)

_TABLE = (
    *(Fault(f"connection.{deed.kind}", summary, deed) for summary, deed in _CONNECTIONS),
    *_answers(),
    *(Fault(f"stream.{what}", summary, deed) for what, summary, deed in _STREAMS),
    *(Fault(f"lease.{what}", summary, deed) for what, summary, deed in _LEASES),
)

FAULTS: Mapping[str, Fault] = MappingProxyType({fault.id: fault for fault in _TABLE})
"""Every fault by its id."""
