"""Our HTTP/1.1 client as an `httpx` transport.

Two doors lead to the same connections: `httpx.AsyncClient(transport=Http1Transport())` for everything, and
`Http1Transport.request` and `stream` for frames, without request and response objects.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Generator
from contextlib import contextmanager
from types import TracebackType
from typing import Self

import httpx

from ._http1_client import Http1Client, RawReply, StreamReply
from ._http1_exchange import Exchange, ReplyBody, TimeLimits
from ._http1_pool import PoolStatistics
from ._http1_request import Endpoint, Origin, Outgoing, ascii_method, declared_length, render_head
from ._http1_wire import ExchangeFailed, ExchangeTimedOut, Header, ReplyRefused, RequestRefused

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

# RFC 9110, section 9.2.2; a POST of a caller unknown to us may not be safe to repeat.
_IDEMPOTENT = frozenset({"GET", "HEAD", "OPTIONS", "PUT", "DELETE"})


class Http1Transport(Http1Client, httpx.AsyncBaseTransport):
    """The client of its base class, for httpx, too: `request` and `stream` are there for frames.

    Needs no `async with` before its first use; `aclose` closes every connection, and what is under way fails.
    """

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
        self._exchange.finish()


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
        length = declared_length(request.headers["content-length"], body)
    elif b"transfer-encoding" in names:
        if request.headers["transfer-encoding"].lower() != "chunked":
            raise RequestRefused("no transfer-encoding but chunked can be sent")
        body = stream
    elif not isinstance(body, bytes):
        headers.append((b"Transfer-Encoding", b"chunked"))
    elif body:
        headers.append((b"Content-Length", b"%d" % len(body)))
    return Outgoing(
        head=render_head(ascii_method(request.method), _target(request), headers),
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
