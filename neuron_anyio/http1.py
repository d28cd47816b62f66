"""Keep-alive HTTP/1.1 over anyio, as an httpx transport and as a fast path beside it.

httpcore's pool, which httpx brings, costs more than everything else in a small POST and is left dead by a
cancellation at the wrong `await`. Here a cancelled exchange costs its connection and nothing else.

Two doors lead to the same pool: `httpx.AsyncClient(transport=Http1Transport())` for everything, and
`Http1Transport.request` and `stream` for frames, without request and response objects.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Generator, Sequence
from contextlib import asynccontextmanager, contextmanager
from types import TracebackType
from typing import NamedTuple, Self

import anyio
import httpx
import msgspec

from ._http1_connection import Connection, close_all, default_ssl_context
from ._http1_exchange import Exchange, ReplyBody, TimeLimits
from ._http1_pool import Pool, PoolStatistics
from ._http1_wire import (
    Endpoint,
    ExchangeFailed,
    ExchangeTimedOut,
    Header,
    Origin,
    Outgoing,
    ReplyRefused,
    RequestRefused,
    plain_headers,
    render_head,
)

__all__ = [
    "Endpoint",
    "ExchangeFailed",
    "ExchangeTimedOut",
    "Header",
    "Http1Transport",
    "Origin",
    "PoolStatistics",
    "RawReply",
    "ReplyRefused",
    "RequestRefused",
    "StreamReply",
]

_EXPECT_BODY = frozenset({"POST", "PUT", "PATCH"})
# RFC 9110, section 9.2.2; a POST of a caller unknown to us may not be safe to repeat.
_IDEMPOTENT = frozenset({"GET", "HEAD", "OPTIONS", "PUT", "DELETE"})


class RawReply(msgspec.Struct, frozen=True):
    """A whole reply of the fast path.

    Attributes:
        status: status code, 200 or more.
        headers: names in lower case.
        body: at most `max_reply_bytes` of it.
        truncated: there was more body.
    """

    status: int
    headers: list[Header]
    body: bytes
    truncated: bool = False

    def __repr__(self) -> str:
        """Show sizes only: bodies and headers may hold what must not be logged (promise C9)."""
        return f"RawReply(status={self.status}, headers={len(self.headers)}, body={len(self.body)} bytes)"

    def header(self, name: bytes) -> bytes | None:
        """Return the first value of a header, its name given in lower case."""
        return next((value for key, value in self.headers if key == name), None)


class StreamReply(NamedTuple):
    """A reply whose body is still coming.

    Attributes:
        status: status code, 200 or more.
        headers: names in lower case.
        chunks: the body as it comes; ends when the body ends, raises `TransportError` when it is cut off.
    """

    status: int
    headers: list[Header]
    chunks: AsyncIterator[bytes]

    def __repr__(self) -> str:
        """Show no header's value (promise C9)."""
        return f"StreamReply(status={self.status}, headers={len(self.headers)})"


class Http1Transport(httpx.AsyncBaseTransport):
    """Connections to any number of origins, kept alive and reused.

    Needs no `async with` before its first use; `aclose` closes every connection, and what is under way fails.
    """

    def __init__(
        self,
        *,
        ssl_context: ssl.SSLContext | None = None,
        connect_timeout: float = 10.0,
        max_connections: int = 64,
        max_idle: int = 32,
        idle_timeout: float = 30.0,
        keep_alive_probes: bool = True,
    ) -> None:
        """Set bounds; nothing is opened yet.

        Args:
            ssl_context: for https; default verifies against the system's authorities. A context of your own should
                have `ssl.OP_IGNORE_UNEXPECTED_EOF` cleared, or a reply without length may be cut unnoticed.
            connect_timeout: seconds for name, connection and TLS handshake, where httpx says nothing else.
            max_connections: open at the same time, over all origins, streams included; requests beyond it wait in line.
            max_idle: kept open while unused.
            idle_timeout: seconds after which an unused connection is closed rather than reused.
            keep_alive_probes: let TCP notice a peer that vanished, after 30 s (promise C6).

        Raises:
            ValueError: a bound below its least sensible value.
        """
        if max_connections < 1 or max_idle < 0 or connect_timeout <= 0 or idle_timeout < 0:
            raise ValueError(
                "max_connections must be 1 or more, connect_timeout above 0, max_idle and idle_timeout 0 or more"
            )
        self._ssl_context = ssl_context
        self._connect_timeout = connect_timeout
        self._keep_alive_probes = keep_alive_probes
        self._pool = Pool(max_connections=max_connections, max_idle=max_idle, idle_timeout=idle_timeout)
        self._frame_limits = TimeLimits(connect=connect_timeout)

    def statistics(self) -> PoolStatistics:
        """Return the pool's counts at this moment."""
        return self._pool.statistics()

    async def request(
        self,
        method: str,
        url: Endpoint | str | httpx.URL,
        headers: Sequence[Header],
        body: bytes,
        *,
        timeout: float,  # noqa: ASYNC109 - the whole exchange, with an error of our own that says what it waited for
        max_reply_bytes: int,
        idempotent: bool = True,
    ) -> RawReply:
        """Send a request and read the whole reply.

        Args:
            method: HTTP method.
            url: where to; an `Endpoint` saves the parsing.
            headers: without `host`, `content-length` and `transfer-encoding`.
            body: all of it.
            timeout: seconds for the whole exchange.
            max_reply_bytes: of body to keep; a longer one costs the connection.
            idempotent: may be sent again when a kept connection breaks before the reply begins.

        Raises:
            ExchangeFailed: no connection, reset, time-out (`ExchangeTimedOut`).
            ReplyRefused: cut off, or not HTTP/1.1.
            ValueError: URL, method or headers cannot be sent; nothing was.
        """
        exchange = self._exchange(method, url, headers, body, idempotent=idempotent)
        reply_body = b""
        with anyio.move_on_after(timeout):
            try:
                await exchange.begin()
                reply = exchange.reply
                while not reply.complete and reply.size <= max_reply_bytes:
                    await exchange.read_some()
                reply_body = reply.take_body()[:max_reply_bytes]
            finally:
                await exchange.finish()  # noqa: ASYNC102 - it shields itself
            return RawReply(reply.status, reply.headers, reply_body, reply.size > max_reply_bytes)
        raise exchange.timed_out(timeout)

    @asynccontextmanager
    async def stream(
        self,
        method: str,
        url: Endpoint | str | httpx.URL,
        headers: Sequence[Header],
        body: bytes = b"",
        *,
        timeout: float,  # noqa: ASYNC109 - bounds a part of the block only
        idempotent: bool = True,
    ) -> AsyncGenerator[StreamReply]:
        """Send a request and read the reply's body while it comes.

        Args:
            method: HTTP method.
            url: where to; an `Endpoint` saves the parsing.
            headers: without `host`, `content-length` and `transfer-encoding`.
            body: all of it.
            timeout: seconds until the reply's headers are there. The body has no time limit.
            idempotent: may be sent again when a kept connection breaks before the reply begins.

        Raises:
            ExchangeFailed, ReplyRefused, ValueError: as for `request`; the iteration raises the first two.
        """
        exchange = self._exchange(method, url, headers, body, idempotent=idempotent)
        with anyio.move_on_after(timeout) as scope:
            await exchange.begin()
        if scope.cancelled_caught:
            raise exchange.timed_out(timeout)
        try:
            yield StreamReply(exchange.reply.status, exchange.reply.headers, ReplyBody(exchange))
        finally:
            await exchange.finish()  # noqa: ASYNC102 - it shields itself

    def _exchange(
        self,
        method: str,
        url: Endpoint | str | httpx.URL,
        headers: Sequence[Header],
        body: bytes,
        *,
        idempotent: bool,
    ) -> Exchange:
        endpoint = url if isinstance(url, Endpoint) else Endpoint.parse(url)
        size = len(body) if body or method in _EXPECT_BODY else None
        outgoing = Outgoing(
            head=render_head(_ascii(method), endpoint.target, plain_headers(endpoint, headers, size)),
            body=body,
            to_head=method == "HEAD",
            repeatable=idempotent,
        )
        return Exchange(self._pool, self._connect, endpoint.origin, outgoing, self._frame_limits)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send an httpx request; its `timeout` extension bounds each wait.

        Raises:
            httpx.TransportError: the child that fits, as with httpx's own transport.
        """
        if request.url.scheme not in ("http", "https"):
            raise httpx.UnsupportedProtocol("the URL must begin with http:// or https://", request=request)
        with _as_httpx_errors(request):
            exchange = Exchange(
                self._pool,
                self._connect,
                Origin.of(request.url),
                _outgoing(request),
                self._limits_of(request.extensions.get("timeout", {})),
            )
            await exchange.begin()
        reply = exchange.reply
        return httpx.Response(
            reply.status,
            headers=reply.headers,
            stream=_ResponseStream(exchange, request),
            extensions={
                "http_version": f"HTTP/{reply.http_version}".encode(),
                "reason_phrase": reply.reason,
            },
        )

    def _limits_of(self, timeout: dict[str, float | None]) -> TimeLimits:
        return TimeLimits(
            pool=timeout.get("pool"),
            connect=timeout.get("connect", self._connect_timeout),
            write=timeout.get("write"),
            read=timeout.get("read"),
        )

    async def _connect(self, origin: Origin) -> Connection:
        context: ssl.SSLContext | None = None
        if origin.scheme == "https":
            # Not before it is needed: reading the system's authorities takes tens of milliseconds.
            context = self._ssl_context = self._ssl_context or default_ssl_context()
        return await Connection.open(origin, ssl_context=context, keep_alive_probes=self._keep_alive_probes)

    async def aclose(self) -> None:
        """Close every connection.

        What is under way fails: at once, or as soon as the connection that it opens is up. Later calls fail too.
        """
        await close_all(self._pool.close())

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc_value: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        await self.aclose()


class _ResponseStream(httpx.AsyncByteStream):
    """A reply's body as httpx wants it."""

    def __init__(self, exchange: Exchange, request: httpx.Request) -> None:
        self._exchange = exchange
        self._request = request
        self._chunks = ReplyBody(exchange)

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        with _as_httpx_errors(self._request):
            return await anext(self._chunks)

    async def aclose(self) -> None:
        await self._exchange.finish()


_HTTPX_ERRORS: dict[tuple[str, bool], type[httpx.TransportError]] = {
    ("pool", False): httpx.ConnectError,
    ("pool", True): httpx.PoolTimeout,
    ("connect", False): httpx.ConnectError,
    ("connect", True): httpx.ConnectTimeout,
    ("write", False): httpx.WriteError,
    ("write", True): httpx.WriteTimeout,
    ("read", False): httpx.ReadError,
    ("read", True): httpx.ReadTimeout,
}


@contextmanager
def _as_httpx_errors(request: httpx.Request) -> Generator[None]:
    try:
        yield
    except ExchangeFailed as exc:
        kind = _HTTPX_ERRORS[exc.phase, isinstance(exc, ExchangeTimedOut)]
        raise kind(str(exc), request=request) from exc
    except ReplyRefused as exc:
        raise httpx.RemoteProtocolError(str(exc), request=request) from exc
    except RequestRefused as exc:
        raise httpx.LocalProtocolError(str(exc), request=request) from exc


def _ascii(method: str) -> bytes:
    try:
        return method.encode("ascii")
    except UnicodeEncodeError:
        raise RequestRefused("the method must be one HTTP token") from None


def _outgoing(request: httpx.Request) -> Outgoing:
    """Judge what an httpx request says about its own body, and write its head."""
    assert isinstance(request.stream, httpx.AsyncByteStream), "an async client needs an async request body"
    headers = list(request.headers.raw)
    names = [name.lower() for name, _ in headers]
    if b"host" not in names:
        headers.insert(0, (b"Host", request.url.netloc))
    stream = request.stream
    body = b"".join(stream) if isinstance(stream, httpx.ByteStream) else stream
    length: int | None = None
    if names.count(b"content-length") + names.count(b"transfer-encoding") > 1:
        raise RequestRefused("at most one of the headers content-length and transfer-encoding, and once")
    if b"content-length" in names:
        length = _declared_length(request.headers["content-length"], body)
    elif b"transfer-encoding" in names:
        if request.headers["transfer-encoding"].lower() != "chunked":
            raise RequestRefused("no transfer-encoding but chunked can be sent")
        body = stream
    elif not isinstance(body, bytes):
        headers.append((b"Transfer-Encoding", b"chunked"))
    elif body:
        headers.append((b"Content-Length", b"%d" % len(body)))
    return Outgoing(
        head=render_head(_ascii(request.method), _target(request), headers),
        body=body,
        length=length,
        to_head=request.method == "HEAD",
        closes="close" in request.headers.get("connection", "").lower(),
        repeatable=request.method in _IDEMPOTENT and isinstance(body, bytes),
    )


def _target(request: httpx.Request) -> bytes:
    target = request.extensions.get("target", request.url.raw_path)
    assert isinstance(target, bytes)
    return target


def _declared_length(value: str, body: object) -> int:
    if not (value.isascii() and value.isdigit()):
        raise RequestRefused("content-length must be a number")
    length = int(value)
    if isinstance(body, bytes) and len(body) != length:
        raise RequestRefused("content-length is not the length of the body")
    return length
