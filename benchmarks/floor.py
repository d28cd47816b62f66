"""The floor: what a lease costs at least. `python -m benchmarks.floor PORT WINDOW WARM_UP LEASES`.

A bare asyncio client for this load alone: no validation, no task per lease, no time-outs, no retries, no heartbeat, and
an HTTP of a dozen lines.
"""

from __future__ import annotations

import asyncio
import sys
from collections import deque
from typing import Any

import msgspec

from .load import CAPABILITY
from .meter import Meter
from .wire import Connection

__all__: list[str] = []

CONNECTIONS = 16
"""As many as the package has delivery workers."""

_POST = b"POST /neuron/%s HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s"
_GET = b"GET /neuron/events?neuronId=floor HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: text/event-stream\r\n\r\n"


class _Posts:
    """Requests that wait for a connection, and connections that wait for a request."""

    def __init__(self) -> None:
        self.quiet = asyncio.Event()
        self._idle: list[Connection] = []
        self._waiting: deque[bytes] = deque()

    def send(self, kind: bytes, frame: dict[str, Any]) -> None:
        body = msgspec.json.encode(frame)
        self._waiting.append(_POST % (kind, len(body), body))
        self.quiet.clear()
        self._flush()

    def take_back(self, connection: Connection) -> None:
        self._idle.append(connection)
        self._flush()
        if len(self._idle) == CONNECTIONS:
            self.quiet.set()

    def _flush(self) -> None:
        while self._waiting and self._idle:
            self._idle.pop().transport.write(self._waiting.popleft())


class _Post(Connection):
    def __init__(self, posts: _Posts) -> None:
        super().__init__()
        self._posts = posts

    def received(self, head: bytes, body: bytes) -> None:  # noqa: ARG002 - nothing is in it
        assert head.startswith(b"HTTP/1.1 200"), head
        self._posts.take_back(self)


class _Stream(asyncio.Protocol):
    """The event stream, from which every lease is answered at once."""

    def __init__(self, posts: _Posts, meter: Meter) -> None:
        self.opened, self.done = asyncio.Event(), asyncio.Event()
        self._posts = posts
        self._meter = meter
        self._buffer = b""

    def data_received(self, data: bytes) -> None:
        self.opened.set()
        *events, self._buffer = (self._buffer + data).split(b"\n\n")
        for event in events:
            _, marker, document = event.partition(b"\ndata: ")
            frame: dict[str, Any] = msgspec.json.decode(document) if marker else {}
            if frame.get("type") == "lease":
                self._answer(frame["lease"])

    def _answer(self, lease: dict[str, Any]) -> None:
        output = {"status": 200, "size": len(lease["task"]["input"]["body"])}
        at = "2026-01-01T00:00:00Z"
        self._posts.send(b"ack", {"type": "ack", "leaseId": lease["leaseId"], "output": output, "completedAt": at})
        if self._meter.count():
            self.done.set()


async def _main(port: int, window: int, warm_up: int, leases: int) -> None:
    loop, posts, meter = asyncio.get_running_loop(), _Posts(), Meter(warm_up, leases)
    for _ in range(CONNECTIONS):
        _, connection = await loop.create_connection(lambda: _Post(posts), "127.0.0.1", port)
        posts.take_back(connection)
    transport, stream = await loop.create_connection(lambda: _Stream(posts, meter), "127.0.0.1", port)
    transport.write(_GET)
    await stream.opened.wait()
    offer = {"type": CAPABILITY, "scope": "any", "concurrency": window}
    register = {"type": "register", "neuronId": "floor", "protocolVersion": "1.0.0", "capabilities": [offer]}
    posts.send(b"register", register)
    await stream.done.wait()
    await posts.quiet.wait()
    meter.report()


if __name__ == "__main__":
    asyncio.run(_main(*map(int, sys.argv[1:])))
