"""Loopback servers of which a test decides every byte."""

from __future__ import annotations

import socket
import ssl
import struct
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeAlias

import anyio
import anyio.abc
import msgspec
from anyio.streams.tls import TLSStream

from neuron_anyio.http1 import Endpoint

__all__ = ["OK", "Gate", "Handler", "Peer", "Received", "Server", "answering", "hang", "reset", "serving", "unattended"]

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Received(msgspec.Struct):
    method: str
    target: str
    headers: list[tuple[str, str]]
    body: bytes

    def header(self, name: str) -> str | None:
        return next((value for key, value in self.headers if key.lower() == name), None)


class Peer:
    """The server's end of one connection."""

    def __init__(self, server: Server, stream: anyio.abc.ByteStream) -> None:
        self._server = server
        self._buffer = b""
        self.stream = stream
        self.number = server.connections

    async def send(self, data: bytes) -> None:
        await self.stream.send(data)

    async def _until(self, mark: bytes) -> bytes:
        while mark not in self._buffer:
            self._buffer += await self.stream.receive()
        found, self._buffer = self._buffer.split(mark, 1)
        return found

    async def exactly(self, size: int) -> bytes:
        parts = [self._buffer]
        got = len(self._buffer)
        while got < size:
            parts.append(await self.stream.receive())
            got += len(parts[-1])
        data = b"".join(parts)
        self._buffer = data[size:]
        return data[:size]

    async def head(self) -> Received:
        first, *lines = (await self._until(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        method, target, version = first.split(" ")
        assert version == "HTTP/1.1"
        headers = [(name, value.strip()) for name, _, value in (line.partition(":") for line in lines)]
        received = Received(method, target, headers, b"")
        self._server.requests.append(received)
        return received

    async def request(self) -> Received:
        received = await self.head()
        if received.header("transfer-encoding") == "chunked":
            while size := int(await self._until(b"\r\n"), 16):
                received.body += await self.exactly(size)
                assert await self._until(b"\r\n") == b""
            assert await self._until(b"\r\n") == b""
        else:
            received.body = await self.exactly(int(received.header("content-length") or 0))
        return received

    async def wait_closed(self) -> None:
        """Wait until the client has closed this connection."""
        try:
            while True:
                await self.stream.receive()
        except (anyio.EndOfStream, anyio.BrokenResourceError):
            pass


Handler: TypeAlias = Callable[[Peer], Awaitable[None]]


class Server:
    """What a test asks afterwards.

    Attributes:
        connections: accepted in all.
        open: not yet finished by either side.
        requests: heads read, in their order.
    """

    def __init__(self, port: int, *, tls: bool, host: str) -> None:
        self.port = port
        self.connections = 0
        self.open = 0
        self._closed = anyio.Event()
        self.requests: list[Received] = []
        self.origin = f"{'https' if tls else 'http'}://{host}:{port}"

    def url(self, target: str = "/") -> str:
        return self.origin + target

    def endpoint(self, target: str = "/") -> Endpoint:
        return Endpoint.parse(self.url(target))

    def note_closed(self) -> None:
        self.open -= 1
        self._closed.set()
        self._closed = anyio.Event()

    async def wait_open(self, most: int) -> None:
        """Wait until at most so many connections are open."""
        while self.open > most:
            await self._closed.wait()


@asynccontextmanager
async def serving(
    handler: Handler,
    *,
    ssl_context: ssl.SSLContext | None = None,
    address: str = "127.0.0.1",
    host: str | None = None,
) -> AsyncGenerator[Server]:
    """Run a server; a handler that returns closes its connection."""
    listener = await anyio.create_tcp_listener(local_host=address)
    port = listener.extra(anyio.abc.SocketAttribute.local_port)
    server = Server(port, tls=ssl_context is not None, host=host or address)

    async def accept(raw: anyio.abc.SocketStream) -> None:
        server.connections += 1
        server.open += 1
        try:
            if (transport := getattr(raw, "_transport", None)) is not None:
                # Accepted on asyncio, a stream reads ahead without bound until its first `receive` that waits.
                transport.pause_reading()
            stream: anyio.abc.ByteStream = raw
            if ssl_context is not None:
                stream = await TLSStream.wrap(raw, server_side=True, ssl_context=ssl_context, standard_compatible=False)
            await handler(Peer(server, stream))
        except (anyio.EndOfStream, anyio.BrokenResourceError, ssl.SSLError):
            pass  # the client has gone
        finally:
            with anyio.CancelScope(shield=True):
                await raw.aclose()  # and a turn of the loop, in which the event loop closes the socket
            server.note_closed()

    async with listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, accept)
        try:
            yield server
        finally:
            tasks.cancel_scope.cancel()


def answering(*replies: bytes, close: bool = False) -> Handler:
    """Answer each request with the next reply, the last one for ever; close afterwards if so asked."""

    async def handle(peer: Peer) -> None:
        pending = list(replies)
        while True:
            await peer.request()
            await peer.send(pending[0] if len(pending) == 1 else pending.pop(0))
            if close:
                return

    return handle


class Gate:
    """A handler that shows when it was asked and answers when it is told to; from then on at once."""

    def __init__(self, reply: bytes = OK) -> None:
        self._reply = reply
        self.asked = anyio.Event()
        self.go = anyio.Event()

    async def __call__(self, peer: Peer) -> None:
        while True:
            await peer.request()
            self.asked.set()
            await self.go.wait()
            await peer.send(self._reply)


async def hang(peer: Peer) -> None:
    """Take a request and never answer."""
    await peer.request()
    await peer.wait_closed()


def reset(peer: Peer) -> None:
    """Make the coming close of this connection a reset."""
    raw = peer.stream.extra(anyio.abc.SocketAttribute.raw_socket)
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


@asynccontextmanager
async def unattended() -> AsyncGenerator[str]:
    """Give the origin of a port where connections come up, and nobody is there to accept, read or answer."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
