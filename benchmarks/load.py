"""The load: a gateway that hands out leases as fast as they are acked. `python -m benchmarks.load WARM_UP LEASES`.

It prints its port, serves one neuron, keeps as many leases out as that neuron's registered concurrency, and prints a
`Reading` of itself when all are acked and the neuron has gone.
"""

from __future__ import annotations

import asyncio
import sys

import msgspec

from .meter import Meter
from .wire import Connection

__all__ = ["CAPABILITY"]

CAPABILITY = "bench/page"

_REPLY = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
_STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
_REGISTERED = (
    b'event: registered\ndata: {"type":"registered","sessionId":"s",'
    b'"capabilities":[{"type":"bench/page","scope":"any","concurrency":%d}],"acceptedAt":"2026-01-01T00:00:00Z"}\n\n'
)
_LEASE = (
    b'event: lease\ndata: {"type":"lease","lease":{"leaseId":"lease-%d","expiresAt":"2026-01-01T00:01:00Z","task":'
    b'{"taskId":"task-%d","workflowId":"workflow-1","capability":"bench/page","attempt":0,"input":'
    b'{"url":"https://example.com/","body":"' + b"lorem " * 120 + b'"}}},"sentAt":"2026-01-01T00:00:00Z"}\n\n'
)


class _Session:
    """The one neuron: what it was sent and what it acked."""

    def __init__(self, warm_up: int, leases: int) -> None:
        self.meter = Meter(warm_up, leases)
        self.gone = asyncio.Event()
        self.stream: asyncio.Transport | None = None
        self._unsent = iter(range(warm_up + leases))
        self._out: set[str] = set()

    def register(self, window: int) -> None:
        assert self.stream is not None
        self.stream.write(_REGISTERED % window)
        for _ in range(window):
            self._send()

    def ack(self, lease_id: str) -> None:
        self._out.remove(lease_id)
        self.meter.count()
        self._send()

    def _send(self) -> None:
        number = next(self._unsent, None)
        if number is not None and self.stream is not None:
            self._out.add(f"lease-{number}")
            self.stream.write(_LEASE % (number, number))


class _Server(Connection):
    def __init__(self, session: _Session) -> None:
        super().__init__()
        self._session = session

    def received(self, head: bytes, body: bytes) -> None:
        if head.startswith(b"GET "):
            self._session.stream = self.transport
            self.transport.write(_STREAM)
            return
        self.transport.write(_REPLY)
        frame = msgspec.json.decode(body)
        if frame["type"] == "ack":
            self._session.ack(frame["leaseId"])
        elif frame["type"] == "register":
            self._session.register(frame["capabilities"][0]["concurrency"])

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        if self.transport is self._session.stream:
            self._session.gone.set()


async def _main(warm_up: int, leases: int) -> None:
    session = _Session(warm_up, leases)
    server = await asyncio.get_running_loop().create_server(lambda: _Server(session), "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    async with server:
        await session.gone.wait()
    session.meter.report()


if __name__ == "__main__":
    asyncio.run(_main(*map(int, sys.argv[1:])))
