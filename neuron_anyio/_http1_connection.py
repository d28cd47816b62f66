"""A byte stream to an origin, plain or TLS: all that an exchange knows of the network."""

from __future__ import annotations

import errno
import os
import select
import socket
import ssl
from collections.abc import Callable, Iterable, Mapping
from contextlib import AsyncExitStack, suppress
from typing import Any, TypeVar, cast

import anyio
import anyio.abc
from anyio.streams.tls import TLSAttribute, TLSStream

from ._http1_wire import ExchangeFailed, Origin, Phase

__all__ = ["Connection", "close_all", "default_ssl_context"]

# What asyncio's transports read at most. Asking for less would leave the rest in their own queue, where `is_stale`
# cannot see it and the next request would take it for its reply.
READ_BYTES = 256 * 1024

# TCP keep-alive: a peer that vanished is noticed after 15 + 3 * 5 seconds (promise C6).
_PROBES = (
    ("TCP_KEEPIDLE", 15),
    ("TCP_KEEPALIVE", 15),  # the same, where it is called so
    ("TCP_KEEPINTVL", 5),
    ("TCP_KEEPCNT", 3),
    ("TCP_USER_TIMEOUT", 30_000),
)

_T = TypeVar("_T")


class Connection:
    """A byte stream to an origin, plain or TLS: all that the exchange knows of the network.

    Attributes:
        origin: where it leads.
        used: it has carried a whole exchange before.
        idle_since: monotonic time of its return to the pool.
    """

    __slots__ = ("_poll", "_socket", "_stream", "_tls", "_transport_stream", "idle_since", "origin", "used")

    def __init__(self, origin: Origin, transport_stream: anyio.abc.SocketStream, tls: TLSStream | None) -> None:
        self.origin = origin
        self.used = False
        self.idle_since = 0.0
        self._stream: anyio.abc.ByteStream = transport_stream if tls is None else tls
        self._tls = None if tls is None else _attribute(tls, TLSAttribute.ssl_object)
        self._transport_stream = transport_stream
        self._socket = _raw_socket(transport_stream)
        self._poll = select.poll()
        self._poll.register(self._socket.fileno(), select.POLLIN)

    @classmethod
    async def open(cls, origin: Origin, *, ssl_context: ssl.SSLContext | None, keep_alive_probes: bool) -> Connection:
        """Connect, and shake hands where a TLS context is given.

        Raises:
            ExchangeFailed: refused, unreachable, unknown name, certificate not accepted.
        """
        try:
            transport_stream = await anyio.connect_tcp(origin.host, origin.port)
        except (OSError, ValueError) as exc:  # ValueError: a name that no resolver can be asked for
            raise ExchangeFailed(f"{origin}: cannot connect: {_reason(exc)}", phase="connect") from exc
        try:
            _tune(_raw_socket(transport_stream), probes=keep_alive_probes)
            tls = None if ssl_context is None else await _start_tls(origin, transport_stream, ssl_context)
            return cls(origin, transport_stream, tls)
        except ConnectionResetError as exc:
            await anyio.aclose_forcefully(transport_stream)
            raise ExchangeFailed(f"{origin}: cannot connect: {_reason(exc)}", phase="connect") from exc
        except BaseException:  # a cancellation, too, must not leave the socket open
            await anyio.aclose_forcefully(transport_stream)
            raise

    async def send(self, data: bytes) -> None:
        """Write all of it.

        Raises:
            ExchangeFailed: the peer is gone or the connection was closed here.
        """
        try:
            await self._stream.send(data)
        except _STREAM_ERRORS as exc:
            raise self._failed("sending the request failed", exc, "write") from exc

    async def receive(self) -> bytes:
        """Read what there is; b"" at the end that the peer announced.

        Raises:
            ExchangeFailed: reset, a TLS connection that ended without saying so, or closed here.
        """
        try:
            return await self._stream.receive(READ_BYTES)
        except anyio.EndOfStream:
            return b""
        except _STREAM_ERRORS as exc:
            raise self._failed("reading the reply failed", exc, "read") from exc

    def is_stale(self) -> bool:
        """Return whether a connection between two exchanges was closed, or holds bytes that nobody asked for."""
        if self._socket.fileno() < 0 or self._poll.poll(0):
            return True
        return self._tls is not None and _holds_more(self._tls)

    async def aclose(self) -> None:
        """Close at once, then let the loop turn; a task that reads or writes gets `ExchangeFailed`.

        Without the closing handshake of TLS: it would wait for a peer that may be dead, and HTTP/1.1 marks the end
        of its messages itself.
        """
        await self._transport_stream.aclose()

    def _failed(self, what: str, exc: Exception, phase: Phase) -> ExchangeFailed:
        return ExchangeFailed(f"{self.origin}: {what}: {_reason(exc)}", phase=phase)


async def close_all(connections: Iterable[Connection]) -> None:
    """Close connections. All of them are closed even when a cancellation strikes at the first."""
    async with AsyncExitStack() as stack:
        for connection in connections:
            stack.push_async_callback(connection.aclose)


def default_ssl_context() -> ssl.SSLContext:
    """Return a context that verifies, speaks HTTP/1.1 and tells an announced end from a cut."""
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    context.options &= ~ssl.OP_IGNORE_UNEXPECTED_EOF
    return context


async def _start_tls(origin: Origin, transport_stream: anyio.abc.SocketStream, context: ssl.SSLContext) -> TLSStream:
    try:
        stream = await TLSStream.wrap(
            _WholeReads(transport_stream), server_side=False, hostname=origin.host, ssl_context=context
        )
    except ssl.SSLCertVerificationError as exc:
        raise ExchangeFailed(
            f"{origin}: the server's certificate was not accepted: {exc.verify_message.rstrip('.')}. If a private "
            "authority signed it, name the authority's file in SSL_CERT_FILE, "
            "or pass ssl_context=ssl.create_default_context(cafile=...)",
            phase="connect",
        ) from exc
    except (anyio.EndOfStream, *_STREAM_ERRORS, ValueError) as exc:
        raise ExchangeFailed(
            f"{origin}: the TLS handshake failed: {_reason(exc)}; check that this port speaks https",
            phase="connect",
        ) from exc
    protocol = _attribute(stream, TLSAttribute.alpn_protocol)
    if protocol not in (None, "http/1.1"):
        raise ExchangeFailed(
            f"{origin}: TLS agreed on {protocol}; the ssl_context must offer no protocol but http/1.1",
            phase="connect",
        )
    return stream


class _WholeReads(anyio.abc.ByteStream):
    """What TLS reads from: hands over all that came, however little was asked for, so that `_holds_more` sees it."""

    def __init__(self, stream: anyio.abc.SocketStream) -> None:
        self._stream = stream

    async def receive(self, max_bytes: int = READ_BYTES) -> bytes:  # noqa: ARG002 - the point of this class
        return await self._stream.receive(READ_BYTES)

    async def send(self, item: bytes) -> None:
        await self._stream.send(item)

    async def send_eof(self) -> None:
        await self._stream.send_eof()

    async def aclose(self) -> None:
        await self._stream.aclose()

    @property
    def extra_attributes(self) -> Mapping[Any, Callable[[], Any]]:
        return self._stream.extra_attributes


def _holds_more(tls: ssl.SSLObject) -> bool:
    """Return whether TLS has read more than it gave out: data, the announcement of the end, or what is no TLS."""
    try:
        tls.read(1)
    except ssl.SSLWantReadError:
        return False
    except ssl.SSLError:
        return True
    return True


_STREAM_ERRORS = (anyio.BrokenResourceError, anyio.ClosedResourceError, anyio.BusyResourceError, OSError)


def _attribute(stream: anyio.TypedAttributeProvider, attribute: _T) -> _T:
    return stream.extra(attribute)  # noqa: S610 - no Django here


def _raw_socket(stream: anyio.abc.SocketStream) -> socket.socket:
    """Return the socket of a stream.

    Raises:
        ConnectionResetError: the peer was faster than the loop, and the socket is closed.
    """
    found: socket.socket | None
    try:
        found = _attribute(stream, anyio.abc.SocketAttribute.raw_socket)
    except AttributeError:  # uvloop has taken it away from its transport
        found = None
    if found is None or found.fileno() < 0:
        raise ConnectionResetError(errno.ECONNRESET, os.strerror(errno.ECONNRESET))
    return found


def _tune(raw_socket: socket.socket, *, probes: bool) -> None:
    """Send small requests at once and notice a vanished peer."""
    with suppress(OSError):  # reset already: some systems refuse to set anything, and the first use will tell
        raw_socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        raw_socket.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, int(probes))
        for name, value in _PROBES if probes else ():
            if hasattr(socket, name):  # each platform has its own choice of them
                raw_socket.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def _reason(exc: BaseException) -> str:
    """Return what the system said, from as deep in the chain as it was said."""
    if isinstance(exc, ExceptionGroup):
        group = cast("ExceptionGroup[Exception]", exc)
        return "; ".join(dict.fromkeys(map(_reason, group.exceptions)))
    if isinstance(exc, anyio.ClosedResourceError):
        return "the HTTP transport was closed"
    if exc.__cause__ is not None:
        return _reason(exc.__cause__)
    # Older Pythons have no class of their own for an end without TLS's good-bye.
    if isinstance(exc, ssl.SSLEOFError | anyio.EndOfStream) or "UNEXPECTED_EOF" in str(exc):
        return "the connection was cut off"
    said = str(exc)
    if isinstance(exc, OSError) and exc.strerror:
        # Event loops put words of their own into `strerror`; those of TLS and of name resolution are the system's.
        said = exc.strerror
        if not isinstance(exc, ssl.SSLError) and exc.errno is not None and exc.errno in errno.errorcode:
            said = os.strerror(exc.errno)
    return said or type(exc).__name__
