"""A connection to an origin, plain or TLS: all that an exchange knows of the network.

The socket is our own and never blocks: what can be done at once costs a system call and no turn of the loop, and only
who has to wait asks the loop to be woken. TLS is Python's own socket for it, which is read and written in the same way.
"""

from __future__ import annotations

import errno
import os
import socket
import ssl
from collections.abc import Generator
from contextlib import contextmanager, suppress
from typing import cast

import anyio
import anyio.lowlevel

from ._http1_dial import dial
from ._http1_readiness import Readiness
from ._http1_request import Origin
from ._http1_wire import ExchangeFailed, Phase

__all__ = ["Connection", "default_ssl_context"]

READ_BYTES = 64 * 1024
"""Read at most. Of larger buffers the allocator asks the system anew each time, which costs more than it saves."""

RENEGOTIATION_LOOK = 0.01
"""Seconds between two looks at a TLS handshake that the peer began anew and that what is to be sent has to wait for."""

# TCP keep-alive: a peer that vanished is noticed after 15 + 3 * 5 seconds (promise C6).
_PROBES = (
    ("TCP_KEEPIDLE", 15),
    ("TCP_KEEPALIVE", 15),  # the same, where it is called so
    ("TCP_KEEPINTVL", 5),
    ("TCP_KEEPCNT", 3),
    ("TCP_USER_TIMEOUT", 30_000),
)


class Connection:
    """A connected socket.

    Attributes:
        origin: where it leads.
        used: it has carried a whole exchange before.
        idle_since: monotonic time of its return to the pool.
    """

    __slots__ = (
        "_failure",
        "_is_at_end",
        "_readiness",
        "_reads_after_write",
        "_renegotiates",
        "_socket",
        "_tls",
        "idle_since",
        "origin",
        "used",
    )

    def __init__(self, origin: Origin, connected: socket.socket) -> None:
        self.origin = origin
        self.used = False
        self.idle_since = 0.0
        self._socket = connected
        self._tls = connected if isinstance(connected, ssl.SSLSocket) else None
        self._is_at_end = self._renegotiates = self._reads_after_write = False
        self._failure: OSError | None = None
        self._readiness = Readiness(connected)

    @classmethod
    async def open(cls, origin: Origin, *, ssl_context: ssl.SSLContext | None, keep_alive_probes: bool) -> Connection:
        """Connect, and shake hands where a TLS context is given.

        Raises:
            ExchangeFailed: refused, unreachable, unknown name, certificate not accepted.
        """
        try:
            connected = await dial(origin.host, origin.port)
        except (OSError, ValueError) as exc:  # ValueError: a name that no resolver can be asked for
            raise ExchangeFailed(f"{origin}: cannot connect: {_reason(exc)}", phase="connect") from exc
        _tune(connected, probes=keep_alive_probes)
        return cls(origin, connected if ssl_context is None else await _start_tls(origin, connected, ssl_context))

    def send_nowait(self, data: bytes | memoryview) -> memoryview | None:
        """Write what the system takes at once; return the rest, None where there is none.

        Raises:
            ExchangeFailed: the peer is gone or the connection was closed here.
        """
        try:
            self._check_open()
            sent = self._socket.send(data)
        except (BlockingIOError, ssl.SSLWantWriteError):
            sent = 0
        except ssl.SSLWantReadError:
            sent = 0
            self._renegotiates = True
        except _SOCKET_ERRORS as exc:
            raise self._failed("sending the request failed", exc, "write") from exc
        return None if sent == len(data) else memoryview(data)[sent:]

    async def send(self, data: bytes | memoryview) -> None:
        """Write all of it. Where the system takes it at once, the loop does not turn.

        Raises:
            ExchangeFailed: the peer is gone or the connection was closed here.
        """
        rest = self.send_nowait(data)
        while rest is not None:
            try:
                if self._renegotiates:  # not by a wait for data: another task may be at it, who watches for the reply
                    self._renegotiates = False
                    await anyio.sleep(RENEGOTIATION_LOOK)
                else:
                    await self._readiness.wait_writable()
            except _SOCKET_ERRORS as exc:
                raise self._failed("sending the request failed", exc, "write") from exc
            rest = self.send_nowait(rest)

    async def receive(self) -> bytes:
        """Wait for data and read what there is; b"" at the end that the peer announced.

        Raises:
            ExchangeFailed: reset, a TLS connection that ended without saying so, or closed here.
        """
        data = await self.receive_soon()
        return await self.receive_later() if data is None else data

    async def receive_soon(self) -> bytes | None:
        """Read what is there by the loop's next turn, None where nothing is; else as `receive`.

        With others at work meanwhile it often is, and a turn is cheaper than a wait.
        """
        try:
            self._check_open()
            if self._failure is not None:
                raise self._failure
            if self._is_at_end:
                return b""
            if self._tls is None or not self._tls.pending():
                await anyio.lowlevel.checkpoint()
                self._check_open()
                if not self._readiness.now():
                    return None
            return self._receive_nowait()
        except _SOCKET_ERRORS as exc:
            raise self._failed("reading the reply failed", exc, "read") from exc

    async def receive_later(self) -> bytes:
        """Wait for data of which nothing was there when `receive_soon` looked; else as `receive`."""
        try:
            data: bytes | None = None
            while data is None:
                readiness = self._readiness
                await (readiness.wait_writable() if self._reads_after_write else readiness.wait())
                self._check_open()
                data = self._receive_nowait()
        except _SOCKET_ERRORS as exc:
            raise self._failed("reading the reply failed", exc, "read") from exc
        return data

    def _receive_nowait(self) -> bytes | None:
        self._reads_after_write = False
        try:
            data = self._socket.recv(READ_BYTES)
        except (BlockingIOError, ssl.SSLWantReadError):  # less than a record of TLS
            return None
        except ssl.SSLWantWriteError:
            self._reads_after_write = True
            return None
        return data if self._tls is None or not data else self._with_other_records(data, self._tls)

    def _with_other_records(self, first: bytes, tls: ssl.SSLSocket) -> bytes:
        """Take what else is there: TLS hands one record over at a time, and servers make one of each event."""
        records, size = [first], len(first)
        while size < READ_BYTES and (tls.pending() or self._readiness.now()):
            try:
                record = tls.recv(READ_BYTES)
            except ssl.SSLWantReadError:
                break
            except OSError as exc:
                self._failure = exc  # said once, like the end below: the next look might wait for ever
                break
            if not record:
                self._is_at_end = True  # announced once
                break
            records.append(record)
            size += len(record)
        return first if len(records) == 1 else b"".join(records)

    def is_stale(self) -> bool:
        """Return whether a connection between two exchanges was closed, or holds bytes that nobody asked for."""
        if self._is_at_end or self._readiness.is_closed or self._failure is not None:
            return True
        if self._tls is None:
            return self._readiness.now()
        if not self._tls.pending() and not self._readiness.now():
            return False
        try:
            self._tls.recv(1)
        except ssl.SSLWantReadError:
            return False  # a ticket, or another message of TLS to itself
        except OSError:
            return True
        return True

    def close(self) -> None:
        """Close at once; a task that reads or writes gets `ExchangeFailed`.

        Without the closing handshake of TLS: it would wait for a peer that may be dead, and HTTP/1.1 marks the end
        of its messages itself.
        """
        self._readiness.close()

    def _check_open(self) -> None:
        if self._readiness.is_closed:
            raise anyio.ClosedResourceError

    def _failed(self, what: str, exc: Exception, phase: Phase) -> ExchangeFailed:
        return ExchangeFailed(f"{self.origin}: {what}: {_reason(exc)}", phase=phase)


def default_ssl_context() -> ssl.SSLContext:
    """Return a context that verifies, speaks HTTP/1.1 and tells an announced end from a cut."""
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    context.options &= ~ssl.OP_IGNORE_UNEXPECTED_EOF
    context.options |= ssl.OP_NO_RENEGOTIATION  # a request under way would have to wait for what the server says
    return context


async def _start_tls(origin: Origin, connected: socket.socket, context: ssl.SSLContext) -> ssl.SSLSocket:
    with _as_handshake_failures(origin):
        try:
            connected.getpeername()  # of one that was reset already some Pythons would lose the file descriptor
        except OSError:
            connected.close()
            raise
        secured = context.wrap_socket(  # closes what it was given where it fails
            connected, server_hostname=origin.host, do_handshake_on_connect=False, suppress_ragged_eofs=False
        )
        try:
            await _shake_hands(secured)
            _check_protocol(origin, secured)
        except BaseException:  # a cancellation, too, must not leave the socket open
            secured.close()
            raise
    return secured


async def _shake_hands(secured: ssl.SSLSocket) -> None:
    while True:
        try:
            return secured.do_handshake()
        except ssl.SSLWantReadError:
            await anyio.wait_readable(secured)
        except ssl.SSLWantWriteError:
            await anyio.wait_writable(secured)


def _check_protocol(origin: Origin, secured: ssl.SSLSocket) -> None:
    protocol = secured.selected_alpn_protocol()
    if protocol not in (None, "http/1.1"):
        raise ExchangeFailed(
            f"{origin}: TLS agreed on {protocol}; the ssl_context must offer no protocol but http/1.1",
            phase="connect",
        )


@contextmanager
def _as_handshake_failures(origin: Origin) -> Generator[None]:
    try:
        yield
    except ssl.SSLCertVerificationError as exc:
        raise ExchangeFailed(
            f"{origin}: the server's certificate was not accepted: {exc.verify_message.rstrip('.')}. If a private "
            "authority signed it, name the authority's file in SSL_CERT_FILE, "
            "or pass ssl_context=ssl.create_default_context(cafile=...)",
            phase="connect",
        ) from exc
    except (*_SOCKET_ERRORS, ValueError) as exc:
        raise ExchangeFailed(
            f"{origin}: the TLS handshake failed: {_reason(exc)}; check that this port speaks https",
            phase="connect",
        ) from exc


_SOCKET_ERRORS = (anyio.ClosedResourceError, anyio.BusyResourceError, OSError)


def _tune(connected: socket.socket, *, probes: bool) -> None:
    """Send small requests at once and notice a vanished peer."""
    with suppress(OSError):  # reset already: some systems refuse to set anything, and the first use will tell
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connected.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, int(probes))
        for name, value in _PROBES if probes else ():
            if hasattr(socket, name):  # each platform has its own choice of them
                connected.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


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
    if isinstance(exc, ssl.SSLEOFError) or "UNEXPECTED_EOF" in str(exc):
        return "the connection was cut off"
    said = str(exc)
    if isinstance(exc, OSError) and exc.strerror:
        # Those of TLS and of name resolution are the system's words.
        said = exc.strerror
        if not isinstance(exc, ssl.SSLError) and exc.errno is not None and exc.errno in errno.errorcode:
            said = os.strerror(exc.errno)
    return said or type(exc).__name__
