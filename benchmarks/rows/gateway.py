"""The gateway of the rows, a process of its own. `python -m benchmarks.rows.gateway ROW NUMBER...`.

It prints its address, lets the row's `play` lead one process full of neurons, and prints the figures as JSON. It reads
the CPU time and the memory of that process itself: a neuron's id begins with its process's number.
"""

from __future__ import annotations

import asyncio
import importlib
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

import msgspec

from benchmarks import wire
from benchmarks.meter import report

from .observed import Observed

__all__ = ["CAPABILITY", "Came", "Gateway", "Play", "lease_event"]

CAPABILITY = "bench/rows"

REGISTER_WITHIN = 30.0
"""Seconds until the first neuron has registered, or the run has failed."""

_LEASE = (
    b'event: lease\ndata: {"type":"lease","lease":{"leaseId":"%s","expiresAt":"2026-01-01T01:00:00Z","task":'
    b'{"taskId":"task-%s","workflowId":"workflow-1","capability":"bench/rows","attempt":0,"input":%s},'
    b'"inputSchema":{"type":"object","required":["body"],"properties":{"body":{"type":"string"},'
    b'"calls":{"type":"integer"},"hold":{"type":"boolean"}}},'
    b'"outputSchema":{"type":"object","required":["cpu"],"properties":{"cpu":{"type":"number"}}}},'
    b'"sentAt":"2026-01-01T00:00:00Z"}\n\n'
)


def lease_event(lease_id: str, task_input: object) -> bytes:
    """Return a lease as it stands in the stream, with schemas for its input and output."""
    name = lease_id.encode()
    return _LEASE % (name, name, msgspec.json.encode(task_input))


Play: TypeAlias = Callable[..., Awaitable[dict[str, float]]]
"""Called with the gateway and the numbers of the command line."""


class Came(msgspec.Struct, frozen=True):
    """The moment at which a frame came.

    Attributes:
        at: seconds, of any origin.
        cpu: CPU seconds of the neuron's process until then.
        output: what an ack carries.
    """

    at: float
    cpu: float
    output: Any = None


class Gateway:
    """One process of neurons: what it was sent, and what came back.

    Attributes:
        streams: where each neuron reads, by its id.
        registered: when each neuron's first `register` came, by its id.
        heartbeats: when each neuron's newest came.
        acked: when the ack of each lease came.
        progress: the `message` of every progress frame and when it came, in order.
        holding: connections that ask to be held.
    """

    def __init__(self) -> None:
        self.streams: dict[str, asyncio.Transport] = {}
        self.registered: dict[str, Came] = {}
        self.heartbeats: dict[str, Came] = {}
        self.acked: dict[str, Came] = {}
        self.progress: list[tuple[str, Came]] = []
        self.holding: list[asyncio.Transport] = []
        self._process: Observed | None = None
        self._failure = ""
        self._something = asyncio.Event()

    @property
    def process(self) -> Observed:
        """The process that the neurons live in."""
        assert self._process is not None, "nobody has registered yet"
        return self._process

    @property
    def stream(self) -> asyncio.Transport:
        """The stream of the only neuron."""
        (stream,) = self.streams.values()
        return stream

    async def wait(self, condition: Callable[[], bool]) -> None:
        """Wait until something that came makes a condition true.

        Raises:
            RuntimeError: a lease was not acked but nacked.
        """
        while not condition():
            if self._failure:
                raise RuntimeError(self._failure)
            self._something.clear()
            await self._something.wait()

    async def run(self, lease_id: str, task_input: object) -> float:
        """Send a lease to the only neuron; return the seconds until its ack came."""
        event = lease_event(lease_id, task_input)
        began = time.perf_counter()
        self.stream.write(event)
        await self.wait(lambda: lease_id in self.acked)
        return self.acked[lease_id].at - began

    async def wait_registered(self) -> Came:
        """Wait for the first neuron; return when it came.

        Raises:
            TimeoutError: it did not.
        """
        async with asyncio.timeout(REGISTER_WITHIN):
            await self.wait(lambda: bool(self.registered))
        return next(iter(self.registered.values()))

    async def warm_up(self, leases: int = 20) -> None:
        """Let the only neuron do each thing before it is measured."""
        await self.wait_registered()
        for number in range(leases):
            await self.run(f"warm-{number}", {"body": "x"})
        await self.process.wait_quiet()

    def busy(self, since: tuple[float, float]) -> float:
        """Return the share of a CPU that the gateway itself took since a `mark`, 0 to 1."""
        (wall, cpu), (began, before) = self.mark(), since
        return (cpu - before) / (wall - began)

    @staticmethod
    def mark() -> tuple[float, float]:
        """Return the time and the gateway's own CPU time, seconds."""
        return time.perf_counter(), time.process_time()

    def release(self) -> None:
        """Answer the connections that are held."""
        while self.holding:
            self.holding.pop().write(wire.OK)

    def opened(self, neuron_id: str, stream: asyncio.Transport) -> None:
        """Take a neuron's stream."""
        self.streams[neuron_id] = stream

    def closed(self, stream: asyncio.Transport) -> None:
        """Take the end of a connection; one that is a neuron's stream ends the run."""
        if stream in self.streams.values():
            self._failure = "a neuron's stream has ended"
            self._something.set()

    def held(self, connection: asyncio.Transport) -> None:
        """Take a request that waits for `release`."""
        self.holding.append(connection)
        self._something.set()

    def took(self, frame: dict[str, Any]) -> None:
        """Take a frame."""
        match frame["type"]:
            case "register":
                self._register(frame["neuronId"], frame["capabilities"])
            case "heartbeat":
                self.heartbeats[frame["neuronId"]] = self._now()
            case "ack":
                self.acked[frame["leaseId"]] = self._now(frame["output"])
            case "progress":
                self.progress.append((frame["message"], self._now()))
            case _:
                self._failure = f"unexpected: {frame}"
        self._something.set()

    def _register(self, neuron_id: str, capabilities: object) -> None:
        if self._process is None:
            self._process = Observed(int(neuron_id.partition("-")[0]))
        self.registered.setdefault(neuron_id, self._now())
        granted = {"type": "registered", "sessionId": "s", "capabilities": capabilities}
        granted["acceptedAt"] = "2026-01-01T00:00:00Z"
        self.streams[neuron_id].write(b"event: registered\ndata: %s\n\n" % msgspec.json.encode(granted))

    def _now(self, output: object = None) -> Came:
        return Came(time.perf_counter(), self.process.cpu(), output)


class _Server(wire.Connection):
    def __init__(self, gateway: Gateway) -> None:
        super().__init__()
        self._gateway = gateway

    def received(self, head: bytes, body: bytes) -> None:
        if head.startswith(b"POST "):
            self._gateway.took(msgspec.json.decode(body))
            self.transport.write(wire.OK)
        elif head.startswith(b"GET /hold "):
            self._gateway.held(self.transport)
        else:
            self.transport.write(wire.STREAM)
            neuron_id = head.partition(b"neuronId=")[2].partition(b" ")[0].decode()
            self._gateway.opened(neuron_id, self.transport)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        self._gateway.closed(self.transport)


async def _main(row: str, *numbers: int) -> None:
    gateway = Gateway()
    play: Play = importlib.import_module(f"benchmarks.rows.{row}").play
    figures: dict[str, float] = {}

    async def attend(port: int) -> None:  # noqa: ARG001 - leases do not name it
        figures.update(await play(gateway, *numbers))

    await wire.serve(lambda: _Server(gateway), attend)
    report(figures)


if __name__ == "__main__":
    wire.run(_main(sys.argv[1], *map(int, sys.argv[2:])))
