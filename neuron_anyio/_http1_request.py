"""A request of HTTP/1.1 as bytes: where it goes, its head, and what cannot be put into one."""

from __future__ import annotations

import re
from collections.abc import AsyncIterable, Iterable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

import msgspec

from ._http1_wire import Header, RequestRefused

if TYPE_CHECKING:
    import httpx

__all__ = ["Endpoint", "Origin", "Outgoing", "Prepared", "ascii_method", "declared_length", "render_head"]

_DEFAULT_PORTS = {"http": 80, "https": 443}
_MAX_PORT = 65535

_TOKEN = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_VISIBLE = re.compile(rb"[\x21-\x7e]+")
_BREAKS_LINE = re.compile(rb"[\r\n\0]")

# URLs in which nothing has to be encoded, folded or resolved. httpx reads all others, and takes 90 ms to import.
_OCTET = r"(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
_LABEL = r"[a-z](?:[a-z0-9-]*[a-z0-9])?"
_PLAIN_URL = re.compile(
    rf"(?P<scheme>https?)://(?P<host>{_OCTET}(?:\.{_OCTET}){{3}}|{_LABEL}(?:\.{_LABEL})*)"
    r"(?::(?P<port>[1-9][0-9]{0,4}))?"
    r"(?P<path>(?:/(?:[\w~!$&()*+,;=:@-][\w.~!$&()*+,;=:@-]*)?)*)(?P<query>\?[\w.~!$&()*+,;=:@/?-]*)?",
    re.ASCII,
)

_EXPECT_BODY = frozenset({"POST", "PUT", "PATCH"})
_OURS = frozenset({b"host", b"content-length", b"transfer-encoding"})


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
        return cls(url.scheme, url.raw_host.decode("ascii"), _port(url.scheme, url.port))

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"


@lru_cache(maxsize=64)
def _origin(scheme: str, host: str, port: int) -> Origin:
    """Return the one origin that all requests to it share."""
    return Origin(scheme, host, port)


def _port(scheme: str, port: int | None) -> int:
    if port is None:
        return _DEFAULT_PORTS[scheme]
    if not 0 < port <= _MAX_PORT:
        raise RequestRefused(f"the URL's port must be from 1 to {_MAX_PORT}, not {port}")
    return port


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
        plain = _PLAIN_URL.fullmatch(url) if isinstance(url, str) else None
        if plain is None:
            return cls._read_by_httpx(url)
        scheme, host, path, query = plain["scheme"], plain["host"], plain["path"] or "/", plain["query"] or ""
        port = _port(scheme, int(plain["port"]) if plain["port"] else None)
        authority = host if port == _DEFAULT_PORTS[scheme] else f"{host}:{port}"
        return cls(_origin(scheme, host, port), (path + query).encode(), authority.encode())

    @classmethod
    def _read_by_httpx(cls, url: str | httpx.URL) -> Endpoint:
        import httpx  # noqa: PLC0415 - 90 ms, for URLs out of the common alone

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

    def __rich_repr__(self) -> list[tuple[str, object]]:
        """Show as little where rich prints it."""
        return [("repeatable", self.repeatable)]


class Prepared(msgspec.Struct, frozen=True):
    """A request but for its body: rendered once, sent often.

    Attributes:
        origin: where to connect.
        head: request line and headers, but for the length and the empty line.
        to_head: the method is HEAD.
        expects_body: an empty body is announced, too.
        idempotent: may be sent again when a kept connection breaks before the reply begins.
    """

    origin: Origin
    head: bytes
    to_head: bool
    expects_body: bool
    idempotent: bool

    @classmethod
    def render(cls, method: str, endpoint: Endpoint, headers: Sequence[Header], *, idempotent: bool) -> Prepared:
        """Write a request line and headers.

        Raises:
            RequestRefused: a part would break out of its line, or is one of the headers that are written here.
        """
        for name, _ in headers:
            if name.lower() in _OURS:
                raise RequestRefused("leave the headers host, content-length and transfer-encoding to the client")
        head = render_head(ascii_method(method), endpoint.target, [(b"host", endpoint.authority), *headers])
        return cls(endpoint.origin, head[:-2], method == "HEAD", method in _EXPECT_BODY, idempotent)

    def with_body(self, body: bytes) -> Outgoing:
        """Return the request with its body."""
        announced = body or self.expects_body
        head = b"%bcontent-length: %d\r\n\r\n" % (self.head, len(body)) if announced else self.head + b"\r\n"
        return Outgoing(head=head, body=body, to_head=self.to_head, repeatable=self.idempotent)

    def __repr__(self) -> str:
        """Show nothing of the head, which holds a token (promise C9)."""
        return f"Prepared(origin={str(self.origin)!r}, idempotent={self.idempotent})"

    def __rich_repr__(self) -> list[tuple[str, object]]:
        """Show as little where rich prints it."""
        return [("origin", str(self.origin)), ("idempotent", self.idempotent)]


def ascii_method(method: str) -> bytes:
    """Return a method as it stands on the wire.

    Raises:
        RequestRefused: it is not ASCII.
    """
    try:
        return method.encode("ascii")
    except UnicodeEncodeError:
        raise RequestRefused("the method must be one HTTP token") from None


def render_head(method: bytes, target: bytes, headers: Iterable[Header]) -> bytes:
    """Write a request line, headers and the empty line.

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


def declared_length(value: str, body: object) -> int:
    """Return the length that a request's own header declares.

    Raises:
        RequestRefused: it is no number, or not the length of the body.
    """
    if not (value.isascii() and value.isdigit()):
        raise RequestRefused("content-length must be a number")
    length = int(value)
    if isinstance(body, bytes) and len(body) != length:
        raise RequestRefused("content-length is not the length of the body")
    return length
