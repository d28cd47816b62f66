"""Messages of HTTP/1.1 by hand, for gateways that validate nothing."""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import cast

import uvloop

__all__ = ["OK", "STREAM", "Connection", "run", "serve"]

OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


class Connection(asyncio.Protocol):
    """One kept-alive connection: collects bytes into whole requests, in linear time."""

    transport: asyncio.Transport

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._missing = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the way to write."""
        self.transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass

    def data_received(self, data: bytes) -> None:
        """Hand over each request that is complete."""
        self._buffer += data
        while len(self._buffer) >= self._missing and (head_end := self._buffer.find(b"\r\n\r\n")) >= 0:
            head = bytes(self._buffer[:head_end])
            length = _LENGTH.search(head)
            end = head_end + 4 + (int(length[1]) if length else 0)
            if len(self._buffer) < end:
                self._missing = end
                return
            body = bytes(self._buffer[head_end + 4 : end])
            del self._buffer[:end]
            self._missing = 0
            self.received(head, body)

    def received(self, head: bytes, body: bytes) -> None:
        """Take one request."""
        raise NotImplementedError


async def serve(
    connection: Callable[[], asyncio.Protocol], attend: Callable[[int], Awaitable[None]], certificate: str | None = None
) -> None:
    """Print the address, and serve until `attend`, which is given the port, is done.

    Args:
        connection: makes what serves one connection.
        attend: waits for the end.
        certificate: a PEM file with key and certificates; without it there is no TLS.
    """
    context = None
    if certificate:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(Path(certificate))
    server = await asyncio.get_running_loop().create_server(connection, "127.0.0.1", 0, ssl=context, backlog=2048)
    port: int = server.sockets[0].getsockname()[1]
    print(f"{'https' if context else 'http'}://127.0.0.1:{port}", flush=True)
    try:
        await attend(port)
    finally:
        server.close()


def run(main: Coroutine[object, object, None]) -> None:
    """Run a gateway on uvloop: it must not be what the others wait for."""
    uvloop.run(main)
