"""Connections to any number of origins, kept alive, and frames posted on them without request and response objects.

httpcore's pool, which httpx brings, costs more than everything else in a small POST and is left dead by a
cancellation at the wrong `await`. Here a cancelled exchange costs its connection and nothing else.

httpx is not needed here, and not imported: `http1` is the way in for its users.
"""

from __future__ import annotations

import math
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from ._http1_connection import Connection, default_ssl_context
from ._http1_exchange import Exchange, ReplyBody, TimeLimits
from ._http1_pool import Pool, PoolStatistics
from ._http1_request import Endpoint, Origin, Prepared
from ._http1_wire import Header

if TYPE_CHECKING:
    import httpx

__all__ = ["Http1Client", "RawReply", "StreamReply"]


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

    def __rich_repr__(self) -> list[tuple[str, object]]:
        """Show as little where rich prints it."""
        return [("status", self.status), ("headers", len(self.headers)), ("bytes", len(self.body))]

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


class _Streaming:
    """The block in which a reply is read while it comes. As a generator it would be half a KiB more while it lasts."""

    __slots__ = ("_exchange", "_is_entered", "_timeout")

    def __init__(self, exchange: Exchange, timeout: float) -> None:
        self._exchange = exchange
        self._timeout = timeout
        self._is_entered = False

    async def __aenter__(self) -> StreamReply:
        if self._is_entered:
            raise RuntimeError("this stream was opened before; call stream() again for another")
        self._is_entered = True
        exchange = self._exchange
        await exchange.within(self._timeout, exchange.begin)
        headers, exchange.reply.headers = exchange.reply.headers, []  # whose they are now may forget them
        return StreamReply(exchange.reply.status, headers, ReplyBody(exchange))

    async def __aexit__(self, *_: object) -> None:
        self._exchange.finish()


class Http1Client:
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
        prepared = self.prepare(method, url, headers, idempotent=idempotent)
        return await self.send(prepared, body, timeout=timeout, max_reply_bytes=max_reply_bytes)

    def prepare(
        self, method: str, url: Endpoint | str | httpx.URL, headers: Sequence[Header], *, idempotent: bool = True
    ) -> Prepared:
        """Render a request but for its body, to be sent often; arguments and errors are those of `request`."""
        endpoint = url if isinstance(url, Endpoint) else Endpoint.parse(url)
        return Prepared.render(method, endpoint, headers, idempotent=idempotent)

    async def send(
        self,
        prepared: Prepared,
        body: bytes,
        *,
        timeout: float,  # noqa: ASYNC109 - as for `request`
        max_reply_bytes: int,
    ) -> RawReply:
        """Send a prepared request and read the whole reply; arguments and errors are those of `request`."""
        exchange = self._exchange(prepared, body, seconds=timeout, recalls=True)
        reply = exchange.reply
        try:
            await exchange.begin()
            while not reply.complete and reply.size <= max_reply_bytes:
                await exchange.read_some()
        finally:
            exchange.finish()
        kept = reply.take_body()[:max_reply_bytes]
        return RawReply(reply.status, reply.headers, kept, reply.size > max_reply_bytes)

    def stream(
        self,
        method: str,
        url: Endpoint | str | httpx.URL,
        headers: Sequence[Header],
        body: bytes = b"",
        *,
        timeout: float,
        idempotent: bool = True,
    ) -> AbstractAsyncContextManager[StreamReply]:
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
        prepared = self.prepare(method, url, headers, idempotent=idempotent)
        return _Streaming(self._exchange(prepared, body), timeout)

    def _exchange(
        self, prepared: Prepared, body: bytes, *, seconds: float = math.inf, recalls: bool = False
    ) -> Exchange:
        return Exchange(
            self._pool,
            self._connect,
            prepared.origin,
            prepared.with_body(body),
            self._frame_limits,
            seconds=seconds,
            recalls=recalls,
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
        self._pool.close()
