"""A gateway that calls off each lease that has started. `python -m benchmarks.cancel_gateway ROUNDS SETTLE`.

It prints its port, keeps one lease running and one queued, calls each off SETTLE seconds after its start, and prints
`Times` when it has done so ROUNDS times. A handler of any kind tells it by a datagram to the same port that it has
started, so that all are measured alike.
"""

from __future__ import annotations

import asyncio
import sys
import time

import msgspec

from .wire import Connection

__all__ = ["CAPABILITY", "Times"]

CAPABILITY = "bench/cancel"

_REPLY = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
_STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
_REGISTERED = (
    b'data: {"type":"registered","sessionId":"s","capabilities":'
    b'[{"type":"bench/cancel","scope":"any","concurrency":1}],"acceptedAt":"2026-01-01T00:00:00Z"}\n\n'
)
_LEASE = (
    b'data: {"type":"lease","lease":{"leaseId":"%d","expiresAt":"2026-01-01T01:00:00Z","task":{"taskId":"task-%d",'
    b'"workflowId":"w","capability":"bench/cancel","attempt":0,"input":{"number":%d,"port":%d}}},'
    b'"sentAt":"2026-01-01T00:00:00Z"}\n\n'
)
_CANCEL = b'data: {"type":"cancel","leaseId":"%d","reason":"called off","cancelledAt":"2026-01-01T00:00:00Z"}\n\n'


class Times(msgspec.Struct, frozen=True):
    """Seconds from each cancel frame.

    Attributes:
        nacked: to the nack `cancelled` of its lease.
        started: to the first line of the next lease's handler.
    """

    nacked: list[float]
    started: list[float]


class _Session(asyncio.DatagramProtocol):
    """The one neuron, and what its handlers tell."""

    def __init__(self, rounds: int, settle: float) -> None:
        self.times = Times([], [])
        self.done = asyncio.Event()
        self.stream: asyncio.Transport | None = None
        self.port = 0
        self._rounds = rounds
        self._settle = settle
        self._began: dict[int, float] = {}

    def register(self) -> None:
        self._send(_REGISTERED)
        for number in (0, 1):
            self._lease(number)

    def datagram_received(self, data: bytes, addr: object) -> None:  # noqa: ARG002 - asyncio's signature
        now = time.perf_counter()
        number = int(data)
        if number:
            self.times.started.append(now - self._began[number - 1])
        if number == self._rounds:
            self.done.set()
            return
        self._lease(number + 2)
        asyncio.get_running_loop().call_later(self._settle, self._cancel, number)

    def nacked(self, lease_id: str, kind: str) -> None:
        assert kind == "cancelled"
        self.times.nacked.append(time.perf_counter() - self._began[int(lease_id)])

    def _cancel(self, number: int) -> None:
        self._began[number] = time.perf_counter()
        self._send(_CANCEL % number)

    def _lease(self, number: int) -> None:
        self._send(_LEASE % (number, number, number, self.port))

    def _send(self, frame: bytes) -> None:
        assert self.stream is not None
        self.stream.write(frame)


class _Server(Connection):
    def __init__(self, session: _Session) -> None:
        super().__init__()
        self._session = session

    def received(self, head: bytes, body: bytes) -> None:
        if head.startswith(b"GET "):
            self._session.stream = self.transport
            self.transport.write(_STREAM)
            return
        frame = msgspec.json.decode(body)
        if frame["type"] == "nack" and not self._session.done.is_set():
            self._session.nacked(frame["leaseId"], frame["kind"])
        self.transport.write(_REPLY)
        if frame["type"] == "register":
            self._session.register()


async def _main(rounds: int, settle: float) -> None:
    session = _Session(rounds, settle)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: _Server(session), "127.0.0.1", 0)
    session.port = server.sockets[0].getsockname()[1]
    datagrams, _ = await loop.create_datagram_endpoint(lambda: session, ("127.0.0.1", session.port))
    print(session.port, flush=True)
    await session.done.wait()
    datagrams.close()
    server.close()
    print(msgspec.json.encode(session.times).decode(), flush=True)


if __name__ == "__main__":
    asyncio.run(_main(int(sys.argv[1]), float(sys.argv[2])))
