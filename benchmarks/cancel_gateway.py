"""A gateway that calls leases off. `python -m benchmarks.cancel_gateway ROUNDS SETTLE RUNNING QUEUED`.

It prints its address, keeps so many leases running and queued, and calls the oldest off, SETTLE seconds after all run,
ROUNDS times; then all that run at once. Then it prints `Times`. A handler of any kind tells it by a datagram to the
same port that it has started, so that all are measured alike.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections import defaultdict

import msgspec

from . import wire

__all__ = ["CAPABILITY", "Times"]

CAPABILITY = "bench/cancel"

_REGISTERED = (
    b'data: {"type":"registered","sessionId":"s","capabilities":'
    b'[{"type":"bench/cancel","scope":"any","concurrency":%d}],"acceptedAt":"2026-01-01T00:00:00Z"}\n\n'
)
_LEASE = (
    b'data: {"type":"lease","lease":{"leaseId":"%d","expiresAt":"2026-01-01T01:00:00Z","task":{"taskId":"task-%d",'
    b'"workflowId":"w","capability":"bench/cancel","attempt":0,"input":{"number":%d,"port":%d}}},'
    b'"sentAt":"2026-01-01T00:00:00Z"}\n\n'
)
_CANCEL = b'data: {"type":"cancel","leaseId":"%d","reason":"called off","cancelledAt":"2026-01-01T00:00:00Z"}\n\n'


class Times(msgspec.Struct, frozen=True):
    """Seconds from a cancel frame.

    Attributes:
        nacked: to the nack `cancelled` of its lease.
        started: to the first line of the next lease's handler.
        together: from the frames that call off all that run, to the last nack.
        busy: the gateway's share of a CPU while it waited for a nack, 0 to 1.
    """

    nacked: list[float]
    started: list[float]
    together: float
    busy: float


class _Frame(msgspec.Struct, rename="camel"):
    type: str
    lease_id: str = ""
    kind: str = ""


class _Session(asyncio.DatagramProtocol):
    """The one neuron, and what its handlers tell: a point in time for each lease's start and nack."""

    def __init__(self, running: int, queued: int) -> None:
        loop = asyncio.get_running_loop()
        self.stream: asyncio.Transport | None = None
        self.started: defaultdict[int, asyncio.Future[float]] = defaultdict(loop.create_future)
        self.nacked: defaultdict[int, asyncio.Future[float]] = defaultdict(loop.create_future)
        self.renewing = True
        self._running = running
        self._ahead = running + queued
        self._port = 0

    def take(self, frame: _Frame) -> None:
        now = time.perf_counter()
        if frame.type == "register":
            self._send(_REGISTERED % self._running)
            for number in range(self._ahead):
                self._lease(number)
        elif frame.type == "nack":
            assert frame.kind == "cancelled", frame
            number = int(frame.lease_id)
            if not self.nacked[number].done():
                self.nacked[number].set_result(now)
                if self.renewing:
                    self._lease(number + self._ahead)

    def datagram_received(self, data: bytes, addr: object) -> None:  # noqa: ARG002 - asyncio's signature
        self.started[int(data)].set_result(time.perf_counter())

    async def play(self, port: int, rounds: int, settle: float) -> Times:
        self._port = port
        for number in range(self._running):
            await self.started[number]
        times = Times([], [], 0.0, 0.0)
        used = 0.0
        for number in range(rounds):
            await asyncio.sleep(settle)
            used -= time.process_time()
            began = self._cancel(number)
            times.nacked.append(await self.nacked[number] - began)
            used += time.process_time()
            times.started.append(await self.started[number + self._running] - began)
        await asyncio.sleep(settle)
        self.renewing = False
        used -= time.process_time()
        numbers = range(rounds, rounds + self._running)
        began = self._cancel(*numbers)
        together = max([await self.nacked[number] for number in numbers]) - began
        used += time.process_time()
        return msgspec.structs.replace(times, together=together, busy=used / (sum(times.nacked) + together))

    def _cancel(self, *numbers: int) -> float:
        began = time.perf_counter()
        self._send(b"".join(_CANCEL % number for number in numbers))
        return began

    def _lease(self, number: int) -> None:
        self._send(_LEASE % (number, number, number, self._port))

    def _send(self, frames: bytes) -> None:
        assert self.stream is not None
        self.stream.write(frames)


class _Server(wire.Connection):
    def __init__(self, session: _Session) -> None:
        super().__init__()
        self._session = session

    def received(self, head: bytes, body: bytes) -> None:
        if head.startswith(b"GET "):
            self._session.stream = self.transport
            self.transport.write(wire.STREAM)
            return
        self.transport.write(wire.OK)
        self._session.take(msgspec.json.decode(body, type=_Frame))


async def _main(rounds: int, settle: float, running: int, queued: int) -> None:
    session = _Session(running, queued)
    loop = asyncio.get_running_loop()

    async def attend(port: int) -> None:
        datagrams, _ = await loop.create_datagram_endpoint(lambda: session, ("127.0.0.1", port))
        times = await session.play(port, rounds, settle)
        datagrams.close()
        print(msgspec.json.encode(times).decode(), flush=True)

    await wire.serve(lambda: _Server(session), attend)


if __name__ == "__main__":
    wire.run(_main(int(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])))
