"""HTTP/1.1 as bytes: the head of a request, the parts of a reply, and what may be wrong with either.

No waiting happens here. What a server may say is judged once, in `ReplyParser`: lengths that contradict each other,
heads without end and switches of protocol are refused rather than guessed at, because a wrong guess about where a
reply ends becomes the next request's answer.
"""

from __future__ import annotations

import io
import re
from collections.abc import AsyncIterable, Iterable, Sequence
from typing import Literal, TypeAlias

import httptools
import httpx
import msgspec

from .errors import TransportError

__all__ = [
    "Endpoint",
    "ExchangeFailed",
    "ExchangeTimedOut",
    "Header",
    "Origin",
    "Outgoing",
    "Phase",
    "ReplyParser",
    "ReplyRefused",
    "RequestRefused",
    "plain_headers",
    "render_head",
]

Header: TypeAlias = tuple[bytes, bytes]
Phase: TypeAlias = Literal["pool", "connect", "write", "read"]

# As much as common servers take in a request; a head beyond it is an attack or a mistake.
MAX_HEAD_BYTES = 64 * 1024
MAX_HEADERS = 256
_DEFAULT_PORTS = {"http": 80, "https": 443}
_MAX_PORT = 65535

_TOKEN = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_VISIBLE = re.compile(rb"[\x21-\x7e]+")
_BREAKS_LINE = re.compile(rb"[\r\n\0]")
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


class Origin(msgspec.Struct, frozen=True):
    """Where connections lead.

    Attributes:
        scheme: `http` or `https`.
        host: ASCII name or IP address, without brackets.
        port: TCP port.
    """

    scheme: str
    host: str
    port: int

    @classmethod
    def of(cls, url: httpx.URL) -> Origin:
        """Return where a URL leads.

        Raises:
            ValueError: not an absolute http or https URL, or a port that does not exist.
        """
        if url.scheme not in _DEFAULT_PORTS or not url.raw_host:
            raise RequestRefused("the URL must be absolute and begin with http:// or https://")
        port = _DEFAULT_PORTS[url.scheme] if url.port is None else url.port
        if not 0 < port <= _MAX_PORT:
            raise RequestRefused(f"the URL's port must be from 1 to {_MAX_PORT}, not {port}")
        return cls(url.scheme, url.raw_host.decode("ascii"), port)

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"


class Endpoint(msgspec.Struct, frozen=True):
    """A parsed URL: parse once, post often.

    Attributes:
        origin: where to connect.
        target: path and query as they stand in the request line.
        authority: value of the `host` header.
    """

    origin: Origin
    target: bytes
    authority: bytes

    @classmethod
    def parse(cls, url: str | httpx.URL) -> Endpoint:
        """Take a URL apart; international host names become their ASCII form.

        Raises:
            ValueError: not an absolute http or https URL, or one with credentials in it.
        """
        try:
            parsed = httpx.URL(url)
        except httpx.InvalidURL as exc:
            raise RequestRefused(f"not a URL: {exc}") from None
        if parsed.userinfo:
            raise RequestRefused("a URL must not carry credentials; send them in a header")
        return cls(Origin.of(parsed), parsed.raw_path, parsed.netloc)


class Outgoing(msgspec.Struct, frozen=True, kw_only=True):
    """A request ready for the wire.

    Attributes:
        head: request line and headers, the empty line included.
        body: all of it, or an iterator of its pieces.
        length: bytes that an iterated body must come to; None sends it chunked.
        to_head: the method is HEAD, so the reply has no body whatever its headers say.
        closes: the request announces that its connection ends with it.
        repeatable: may be sent a second time when an idle connection turns out to be dead.
    """

    head: bytes
    body: bytes | AsyncIterable[bytes] = b""
    length: int | None = None
    to_head: bool = False
    closes: bool = False
    repeatable: bool = False

    def __repr__(self) -> str:
        """Show nothing of the head, which holds a token, nor of the body (promise C9)."""
        size = f"{len(self.body)} bytes" if isinstance(self.body, bytes) else "iterated"
        return f"Outgoing(body={size}, repeatable={self.repeatable})"


def render_head(method: bytes, target: bytes, headers: Iterable[Header]) -> bytes:
    """Write a request line and headers.

    Raises:
        RequestRefused: a part would break out of its line. The message names the part, never its value.
    """
    if not _TOKEN.fullmatch(method):
        raise RequestRefused("the method must be one HTTP token")
    if not _VISIBLE.fullmatch(target):
        raise RequestRefused("the request target must be visible ASCII; percent-encode the rest")
    parts = [method, b" ", target, b" HTTP/1.1\r\n"]
    for name, value in headers:
        if not _TOKEN.fullmatch(name):
            raise RequestRefused("a header's name must be one HTTP token")
        if _BREAKS_LINE.search(value):
            raise RequestRefused(f"the value of header {name.decode()} must not contain CR, LF or NUL")
        parts += (name, b": ", value, b"\r\n")
    parts.append(b"\r\n")
    return b"".join(parts)


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
        "_body",
        "_framing_bytes",
        "_head_bytes",
        "_leftover",
        "_lives_on",
        "_parser",
        "_peer",
        "_refusal",
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

    def __init__(self, peer: str, *, to_head: bool = False) -> None:
        """Expect a reply.

        Args:
            peer: name of the server in error messages.
            to_head: the request was a HEAD.
        """
        self._peer = peer
        self._to_head = to_head
        self._body: list[bytes] = []
        self._framing_bytes = 0  # fed since the last byte of body
        self._head_bytes = 0
        self._refusal = ""
        self._leftover = self._until_eof = self._lives_on = False
        self.status = self.size = 0
        self.reason = b""
        self.http_version = ""
        self.headers: list[Header] = []
        self.started = self.head_complete = self.complete = False
        self._parser: httptools.HttpResponseParser | None = httptools.HttpResponseParser(self)

    @property
    def reusable(self) -> bool:
        return self.complete and self._lives_on and not self._leftover

    def feed(self, data: bytes) -> None:
        """Take what was read.

        Raises:
            ReplyRefused: see the class; the connection is of no more use.
        """
        self.started = True
        self._framing_bytes += len(data)
        # The parser knows nothing of HEAD and would wait for the body that the headers announce; line by line it
        # can be left at the exact end of the head.
        for piece in io.BytesIO(data) if self._to_head else (data,):
            if self._parser is None:
                self._leftover = True
            else:
                self._feed_parser(self._parser, piece)
        if not self.complete and self._framing_bytes > MAX_HEAD_BYTES:
            raise self._refused(f"more than {MAX_HEAD_BYTES} bytes of head or chunk framing")

    def _feed_parser(self, parser: httptools.HttpResponseParser, data: bytes) -> None:
        try:
            parser.feed_data(data)
        except httptools.HttpParserError as exc:
            if not self.complete:
                raise self._refused(self._refusal or f"not an HTTP/1.1 reply: {exc}") from None
            self._leftover = True
        if self.complete:
            self._parser = None  # it holds our callbacks: a cycle, one for each request

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
        self._head_bytes += len(name) + len(value) + 4
        if self._head_bytes > MAX_HEAD_BYTES or len(self.headers) == MAX_HEADERS:
            self._refuse(f"more than {MAX_HEADERS} headers or {MAX_HEAD_BYTES} bytes of them")
        self.headers.append((name.lower(), value.rstrip(b" \t")))

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
        self._lives_on = self.http_version == "1.1" and (bodiless or framed) and self._says_keep_alive()
        self.head_complete = True
        self.complete = self._to_head

    def on_body(self, chunk: bytes) -> None:
        self._framing_bytes = 0
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

    def _says_keep_alive(self) -> bool:
        return not any(name == b"connection" and b"close" in value.lower() for name, value in self.headers)

    def _judge_framing(self) -> bool:
        """Return whether the headers say where the body ends; refuse two opinions and unknown encodings.

        httptools refuses some of this itself; a leniency gained in one of its releases must not become ours.
        """
        lengths = [value for name, value in self.headers if name == b"content-length"]
        encodings = [value for name, value in self.headers if name == b"transfer-encoding"]
        if len(lengths) + len(encodings) > 1:
            self._refuse("contradicting content-length or transfer-encoding")
        if encodings and encodings[0].lower() != b"chunked":
            self._refuse("a transfer-encoding other than chunked")
        if self.status < 200 and (encodings or lengths not in ([], [b"0"])):  # noqa: PLR2004 - informational
            self._refuse("an informational reply with a body")
        return bool(lengths or encodings)


def plain_headers(endpoint: Endpoint, headers: Sequence[Header], body_size: int | None) -> list[Header]:
    """Complete a caller's headers with `host` and `content-length`.

    Args:
        endpoint: where the request goes.
        headers: the caller's own, without a host and without framing.
        body_size: bytes of the body, or None where the method has none.

    Raises:
        RequestRefused: the caller brought one of the headers that are written here.
    """
    for name, _ in headers:
        if name.lower() in _OURS:
            raise RequestRefused("leave the headers host, content-length and transfer-encoding to the client")
    complete = [(b"host", endpoint.authority), *headers]
    if body_size is not None:
        complete.append((b"content-length", b"%d" % body_size))
    return complete


_OURS = frozenset({b"host", b"content-length", b"transfer-encoding"})
