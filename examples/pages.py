"""A small web server on loopback for pages that a function writes, on asyncio and trio: for the tour and the tests."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import TypeAlias

import anyio
from anyio.abc import SocketAttribute, SocketStream
from anyio.streams.buffered import BufferedByteReceiveStream
from msgspec import Struct

__all__ = ["Page", "Reply", "Request", "serve_pages"]

HEAD_BYTES = 64 * 1024
"""The longest request line with headers that is read."""


class Request(Struct, frozen=True):
    """What a client asked for.

    Attributes:
        method, target: of the request line.
        headers: by lower-case name.
        body: all of it.
    """

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes


class Reply:
    """What the client gets: `send` for a whole page, or `start` and then `write` for one that takes its time."""

    def __init__(self, stream: SocketStream) -> None:
        self._stream = stream

    async def send(self, body: bytes = b"", *, status: int = 200, headers: Mapping[str, str] | None = None) -> None:
        """Send a whole page, with its length."""
        await self.start(status=status, headers={"Content-Length": str(len(body)), **(headers or {})})
        await self.write(body)

    async def start(self, *, status: int = 200, headers: Mapping[str, str] | None = None) -> None:
        """Send status and headers. Without a length the page ends with its connection."""
        lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}"]
        fields = {"Content-Type": "text/html; charset=utf-8", "Connection": "close", **(headers or {})}
        lines += [f"{name}: {value}" for name, value in fields.items()]
        await self.write("\r\n".join([*lines, "", ""]).encode("latin-1"))

    async def write(self, content: bytes) -> None:
        """Send these bytes as they are."""
        await self._stream.send(content)


Page: TypeAlias = Callable[[Request, Reply], Awaitable[None]]


@asynccontextmanager
async def serve_pages(page: Page) -> AsyncGenerator[str]:
    """Serve what `page` writes, one request for each connection; yield the base URL.

    What is still being written when the block ends is cut.
    """

    async def answer(stream: SocketStream) -> None:
        async with stream:
            try:
                request = await _read(stream)
                await page(request, Reply(stream))
                await stream.send_eof()
            except (anyio.EndOfStream, anyio.IncompleteRead, anyio.BrokenResourceError):
                return  # the client has gone

    async with (
        await anyio.create_tcp_listener(local_host="127.0.0.1", local_port=0) as listener,
        anyio.create_task_group() as connections,
    ):
        connections.start_soon(listener.serve, answer, connections)
        port = listener.extra(SocketAttribute.local_port)  # noqa: S610 - not Django's
        yield f"http://127.0.0.1:{port}"
        connections.cancel_scope.cancel()


async def _read(stream: SocketStream) -> Request:
    buffered = BufferedByteReceiveStream(stream)
    head = await buffered.receive_until(b"\r\n\r\n", HEAD_BYTES)
    request_line, *lines = head.decode("latin-1").split("\r\n")
    method, target, _ = request_line.split(" ")
    fields = (line.partition(":") for line in lines)
    headers = {name.strip().lower(): value.strip() for name, _, value in fields}
    length = int(headers.get("content-length", 0))
    body = await buffered.receive_exactly(length) if length else b""
    return Request(method=method, target=target, headers=headers, body=body)
