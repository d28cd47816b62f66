"""A reply of HTTP/1.1 out of bytes, and what may be wrong with it or with the road that it came on.

No waiting happens here. What a server may say is judged once, in `ReplyParser`: lengths that contradict each other,
heads without end and switches of protocol are refused rather than guessed at, because a wrong guess about where a
reply ends becomes the next request's answer.
"""

from __future__ import annotations

import io
from typing import Literal, NamedTuple, TypeAlias

import httptools

from .errors import TransportError

__all__ = [
    "MAX_HEAD_BYTES",
    "ExchangeFailed",
    "ExchangeTimedOut",
    "Header",
    "Phase",
    "ReplyParser",
    "ReplyRefused",
    "RequestRefused",
]

Header: TypeAlias = tuple[bytes, bytes]
Phase: TypeAlias = Literal["pool", "connect", "write", "read"]

# As much as common servers take in a request; a head beyond it is an attack or a mistake.
MAX_HEAD_BYTES = 64 * 1024
MAX_HEADERS = 256
# A gateway says the same to every frame, but for the date: so many replies of so many bytes are parsed once.
RECALLED_BYTES, RECALLED = 512, 64
_BODILESS = frozenset({204, 304})
_SWITCHING_PROTOCOLS = 101


class ExchangeFailed(TransportError):
    """The road failed: no connection, a reset, a time-out.

    You get `ReplyRefused` instead when bytes came that are no whole, well-formed reply.

    Attributes:
        phase: what was under way.
    """

    def __init__(self, message: str, *, phase: Phase) -> None:
        super().__init__(message)
        self.phase: Phase = phase


class ExchangeTimedOut(ExchangeFailed):
    """The time for this phase, or for the whole exchange, is over."""


class ReplyRefused(TransportError):
    """The server's bytes are not a whole HTTP/1.1 reply: cut off, malformed, ambiguous or too large in its head."""


class RequestRefused(ValueError):
    """The request cannot be put on the wire as it is. Nothing of it was sent, unless its body broke its own length."""


class ReplyParser:
    """One reply, out of bytes as they come. Skips informational replies (1xx) before it.

    Attributes:
        status: status code, 0 until the head is complete.
        reason: the status line's text.
        http_version: `1.0` or `1.1`.
        headers: names in lower case, in their order; trailers are dropped.
        size: bytes of body seen so far.
        started: something came.
        head_complete: status and headers are final.
        complete: the reply's last byte came.
        reusable: complete, and the connection is fit for another request.
    """

    __slots__ = (
        "_block_left",
        "_body",
        "_leftover",
        "_lives_on",
        "_opening",
        "_parser",
        "_peer",
        "_progress",
        "_recalls",
        "_refusal",
        "_says_close",
        "_to_head",
        "_until_eof",
        "complete",
        "head_complete",
        "headers",
        "http_version",
        "reason",
        "size",
        "started",
        "status",
    )

    def __init__(self, peer: object, *, to_head: bool = False, recalls: bool = False) -> None:
        """Expect a reply.

        Args:
            peer: the server; its text names it in error messages.
            to_head: the request was a HEAD.
            recalls: what is the same byte for byte as a reply before it need not be parsed again; for replies without
                secrets, which are kept in memory for that.
        """
        self._peer = peer
        self._recalls = recalls and not to_head
        self._to_head = to_head
        self._body: list[bytes] = []
        self._block_left = MAX_HEAD_BYTES
        self._progress = (False, 0)
        self._opening = b"HTTP/"  # httptools would take RTSP, ICE and empty lines as well
        self._refusal = ""
        self._leftover = self._until_eof = self._says_close = self._lives_on = False
        self.status = self.size = 0
        self.reason = b""
        self.http_version = ""
        self.headers: list[Header] = []
        self.started = self.head_complete = self.complete = False
        self._parser: httptools.HttpResponseParser | None = None

    @property
    def reusable(self) -> bool:
        return self.complete and self._lives_on and not self._leftover

    def feed(self, data: bytes) -> None:
        """Take what was read.

        Raises:
            ReplyRefused: see the class; the connection is of no more use.
        """
        if self.started:
            self._feed(data)
            return
        self.started = True
        if self._recalls and (known := _recalled.get(data)) is not None:
            self._adopt(known)
            return
        self._parser = httptools.HttpResponseParser(self)
        self._feed(data)
        if self._recalls and self.reusable and len(data) <= RECALLED_BYTES:
            if len(_recalled) >= RECALLED:
                _recalled.clear()
            _recalled[data] = _Known(
                self.status, self.reason, self.http_version, tuple(self.headers), b"".join(self._body)
            )

    def _feed(self, data: bytes) -> None:
        if self._opening:
            self._judge_opening(data)
        size = len(data)
        if size < self._block_left:
            self._block_left -= size
            self._feed_block(data)
            return
        rest = memoryview(data)
        while len(rest) >= self._block_left:
            self._feed_block(rest[: self._block_left])
            rest = rest[self._block_left :]
            self._block_left = MAX_HEAD_BYTES
            self._judge_progress()
        if rest:
            self._block_left -= len(rest)
            self._feed_block(rest)

    def _judge_opening(self, data: bytes) -> None:
        if data.startswith(self._opening):
            self._opening = b""
            return
        size = len(data)
        if size >= len(self._opening) or not self._opening.startswith(data):
            raise self._refused("not an HTTP/1.1 reply: it begins otherwise")
        self._opening = self._opening[size:]

    def _judge_progress(self) -> None:
        """Refuse a block of bytes in which neither the head ended nor a byte of body came.

        Blocks are counted from the reply's first byte, so that the verdict does not depend on how it is cut in pieces.
        """
        progress = (self.head_complete, self.size)
        if progress == self._progress and not self.complete:
            raise self._refused(f"more than {MAX_HEAD_BYTES} bytes of head or chunk framing")
        self._progress = progress

    def _feed_block(self, data: bytes | memoryview) -> None:
        if not self._to_head:
            self._feed_parser(data)
            return
        # The parser knows nothing of HEAD and would wait for the body that the headers announce; line by line it
        # can be left at the exact end of the head.
        for line in io.BytesIO(data):
            self._feed_parser(line)

    def _feed_parser(self, data: bytes | memoryview) -> None:
        if self._parser is None:
            self._leftover = True
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as exc:
            if not self.complete:
                raise self._refused(self._refusal or f"not an HTTP/1.1 reply: {exc}") from None
            self._leftover = True
        if self.complete:
            self._parser = None  # it holds our callbacks: a cycle, one for each request

    def _adopt(self, known: _Known) -> None:
        self._opening = b""
        self.status, self.reason, self.http_version, headers, body = known
        self.headers = list(headers)
        if body:
            self.on_body(body)
        self.head_complete = self.complete = self._lives_on = True

    def feed_eof(self) -> None:
        """Take the end of the connection, which ends a reply without length and cuts off any other.

        Raises:
            ReplyRefused: cut off.
        """
        if self.head_complete and self._until_eof:
            self.complete = True
            self._parser = None
        if self.complete:
            return
        if not self.started:
            raise self._refused("closed the connection without a reply")
        raise self._refused(f"cut off in the {'body' if self.head_complete else 'head'} of its reply")

    def take_body(self) -> bytes:
        """Return the body's bytes that came since the last call."""
        taken, self._body = self._body, []
        return taken[0] if len(taken) == 1 else b"".join(taken)

    def _refused(self, why: str) -> ReplyRefused:
        return ReplyRefused(f"{self._peer}: {why}")

    # What httptools calls. An exception here stops it; `_refusal` says why.

    def on_message_begin(self) -> None:
        if self.complete:
            raise self._refused("bytes after the reply")

    def on_status(self, text: bytes) -> None:
        self.reason += text

    def on_header(self, name: bytes, value: bytes) -> None:
        if self.head_complete:
            return  # a trailer: nothing here reads them, and they must not pass for headers
        if len(self.headers) == MAX_HEADERS:
            self._refuse(f"more than {MAX_HEADERS} headers")
        name, stripped = name.lower(), value.rstrip(b" \t")
        if stripped is not value and b"\t" in value and name == b"transfer-encoding":
            self._refuse("a tab after the transfer-encoding, which httptools takes for a part of it")
        self.headers.append((name, stripped))

    def on_headers_complete(self) -> None:
        assert self._parser is not None
        self.status = self._parser.get_status_code()
        self.http_version = self._parser.get_http_version()
        if self.http_version not in ("1.0", "1.1") or self.status < 100:  # noqa: PLR2004 - smallest status there is
            self._refuse("not an HTTP/1.1 reply: wrong version or status")
        framed = self._judge_framing()
        if self.status == _SWITCHING_PROTOCOLS:
            self._refuse("switched to another protocol (101), which nobody asked for")
        if self.status < 200:  # noqa: PLR2004 - the informational class
            return
        bodiless = self._to_head or self.status in _BODILESS
        self._until_eof = not framed and not bodiless
        self._lives_on = self.http_version == "1.1" and (bodiless or framed) and not self._says_close
        self.head_complete = True
        self.complete = self._to_head

    def on_body(self, chunk: bytes) -> None:
        self.size += len(chunk)
        self._body.append(chunk)

    def on_message_complete(self) -> None:
        if self.head_complete:
            self.complete = True
        else:  # an informational reply; the head of the next one starts from nothing
            self.headers = []
            self.reason = b""

    def _refuse(self, why: str) -> None:
        self._refusal = why
        raise self._refused(why)

    def _judge_framing(self) -> bool:
        """Return whether the headers say where the body ends; refuse two opinions and unknown encodings.

        httptools refuses some of this itself; a leniency gained in one of its releases must not become ours.
        """
        lengths: list[bytes] = []
        encodings: list[bytes] = []
        for name, value in self.headers:
            if name == b"content-length":
                lengths.append(value)
            elif name == b"transfer-encoding":
                encodings.append(value)
            elif name == b"connection" and b"close" in value.lower():
                self._says_close = True
        if len(lengths) + len(encodings) > 1:
            self._refuse("contradicting content-length or transfer-encoding")
        if encodings and encodings[0].lower() != b"chunked":
            self._refuse("a transfer-encoding other than chunked")
        if self.status < 200 and (encodings or lengths not in ([], [b"0"])):  # noqa: PLR2004 - informational
            self._refuse("an informational reply with a body")
        return bool(lengths or encodings)


class _Known(NamedTuple):
    """What there is to know of a reply that came in one piece and left its connection fit for another request."""

    status: int
    reason: bytes
    http_version: str
    headers: tuple[Header, ...]
    body: bytes


_recalled: dict[bytes, _Known] = {}
"""By all their bytes."""
