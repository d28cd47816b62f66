"""One HTTP/1.1 connection from the server's side: requests read, replies as raw bytes."""

from __future__ import annotations

import socket
import struct
from collections import deque
from typing import Any

import anyio
import httptools
import msgspec
from anyio.abc import SocketStream

__all__ = ["Connection", "Request"]

LINGER_NOT = struct.pack("ii", 1, 0)
"""Closing with it is a reset: what was not sent is thrown away."""


class Request(msgspec.Struct, frozen=True):
    """A whole request. Header names are in lower case."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes

    @property
    def path(self) -> str:
        """The target without its query."""
        return self.target.partition("?")[0]


class Connection:
    """A connection that somebody has opened to the gateway."""

    def __init__(self, stream: SocketStream, raw: socket.socket) -> None:
        self._stream = stream
        self._socket = raw
        self._parser: Any = httptools.HttpRequestParser(self)
        self._ready: deque[Request] = deque()
        self._target = b""
        self._headers: dict[str, str] = {}
        self._body: list[bytes] = []

    @classmethod
    async def of(cls, raw: socket.socket) -> Connection:
        """Take over a socket that was accepted.

        Raises:
            OSError, ValueError: it is not connected any more; it is the caller's to close.
        """
        raw.setblocking(False)
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # what is written apart shall arrive apart
        return cls(await SocketStream.from_socket(raw), raw)

    # What httptools calls

    def on_message_begin(self) -> None:
        """Begin a request."""
        self._target, self._headers, self._body = b"", {}, []

    def on_url(self, url: bytes) -> None:
        """Take a piece of the target."""
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header."""
        self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_body(self, body: bytes) -> None:
        """Take a piece of the body."""
        self._body.append(body)

    def on_message_complete(self) -> None:
        """Lay the request down."""
        method = self._parser.get_method().decode("latin-1")
        self._ready.append(Request(method, self._target.decode("latin-1"), self._headers, b"".join(self._body)))

    # What the gateway calls

    async def request(self) -> Request | None:
        """Wait for the next request; None when the other side has closed, or does not speak HTTP."""
        try:
            while not self._ready:
                self._parser.feed_data(await self._stream.receive())
        except (anyio.EndOfStream, anyio.BrokenResourceError, httptools.HttpParserError):
            return None
        return self._ready.popleft()

    async def send(self, data: bytes) -> bool:
        """Write bytes. Returns whether the other side was still there."""
        try:
            await self._stream.send(data)
        except (anyio.BrokenResourceError, anyio.ClosedResourceError):
            return False
        return True

    async def wait_closed(self) -> None:
        """Read and throw away until the other side closes."""
        try:
            while True:
                await self._stream.receive()
        except (anyio.EndOfStream, anyio.BrokenResourceError):
            pass

    def reset(self) -> None:
        """Make the coming close a reset."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_NOT)

    async def close(self) -> None:
        """Close."""
        await self._stream.aclose()
        await anyio.lowlevel.checkpoint()  # the event loop closes the socket in its next turn
