"""The floor: a bare client. `python -m benchmarks.floor STREAMS URL WINDOW WARM_UP LEASES`, STREAMS anyio or asyncio.

What any program with handlers does for a lease, and nothing else: a task for each lease, connections that are kept,
HTTP by httptools, JSON by msgspec. No validation, no time-outs, no retries, no heartbeat; of the event stream it knows
what the gateways here write. It runs on asyncio; its connections are anyio's streams, as a program's that is to run on
trio as well, or asyncio's own, which is as lean as Python gets.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from typing import Any, Protocol
from urllib.parse import urlsplit

import anyio
import anyio.abc
import httptools
import msgspec

from .meter import Meter, report

__all__ = ["Bare", "Events"]

CONNECTIONS = 64
"""As many as the largest window; more at once only make the kernel work."""

_READ = 1 << 18


class _Reply:
    """What httptools tells of one reply."""

    def __init__(self) -> None:
        self.complete = False

    def on_message_complete(self) -> None:
        self.complete = True


class Events:
    """Documents out of the bytes of an event stream, each in one line. A large one is joined once and never copied."""

    def __init__(self) -> None:
        self._line: list[bytes] = []
        self._whole: list[memoryview] = []
        self._parser = httptools.HttpResponseParser(self)

    def on_body(self, body: bytes) -> None:
        """Collect what httptools has found of the body."""
        *ends, rest = body.split(b"\n")
        for end in ends:
            self._line.append(end)
            line = b"".join(self._line)
            self._line.clear()
            if line.startswith(b"data: "):
                self._whole.append(memoryview(line)[6:])
        self._line.append(rest)

    def feed(self, data: bytes) -> Iterator[Any]:
        """Yield the frames that are complete with these bytes."""
        self._parser.feed_data(data)
        whole, self._whole = self._whole, []
        return map(msgspec.json.decode, whole)


class _Link(Protocol):
    """A connection."""

    async def send(self, data: bytes, /) -> None: ...

    async def receive(self) -> bytes: ...

    async def aclose(self) -> None: ...


class _AnyioLink:
    def __init__(self, stream: anyio.abc.SocketStream) -> None:
        self._stream = stream
        self.send = stream.send
        self.aclose = stream.aclose

    async def receive(self) -> bytes:
        try:
            return await self._stream.receive(_READ)
        except anyio.EndOfStream:
            return b""


class _AsyncioLink:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def send(self, data: bytes) -> None:
        self._writer.write(data)

    async def receive(self) -> bytes:
        return await self._reader.read(_READ)

    async def aclose(self) -> None:
        self._writer.close()


class Bare:
    """One gateway: frames from it and to it.

    Args:
        url: of the gateway, without TLS.
        streams: whose streams, anyio's or asyncio's.
    """

    def __init__(self, url: str, *, streams: str = "anyio") -> None:
        parts = urlsplit(url)
        self._host, self._port = parts.hostname or "", parts.port or 80
        self._streams = streams
        self._idle: list[_Link] = []
        self._free = asyncio.Semaphore(CONNECTIONS)

    async def _connect(self) -> _Link:
        if self._streams == "anyio":
            return _AnyioLink(await anyio.connect_tcp(self._host, self._port))
        return _AsyncioLink(*await asyncio.open_connection(self._host, self._port, limit=_READ))

    async def post(self, kind: str, frame: dict[str, Any]) -> None:
        """Send a frame, and wait for the reply."""
        body = msgspec.json.encode(frame)
        head = f"POST /neuron/{kind} HTTP/1.1\r\nHost: {self._host}:{self._port}\r\n"
        head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        async with self._free:
            link = self._idle.pop() if self._idle else await self._connect()
            await link.send(head.encode() + body)
            reply = _Reply()
            parser = httptools.HttpResponseParser(reply)
            while not reply.complete:
                parser.feed_data(await link.receive())
            assert parser.get_status_code() == 200
            self._idle.append(link)

    async def frames(self, neuron_id: str) -> AsyncIterator[Any]:
        """Open the stream; yield None when it is open, and then each frame."""
        link = await self._connect()
        get = f"GET /neuron/events?neuronId={neuron_id} HTTP/1.1\r\nHost: {self._host}:{self._port}\r\n"
        await link.send(f"{get}Accept: text/event-stream\r\n\r\n".encode())
        events = Events()
        try:
            first = await link.receive()
            yield None
            for frame in events.feed(first):
                yield frame
            while data := await link.receive():
                for frame in events.feed(data):
                    yield frame
        finally:
            await link.aclose()

    async def register(self, neuron_id: str, capability: str, concurrency: int) -> None:
        """Offer one capability."""
        offer = {"type": capability, "scope": "any", "concurrency": concurrency}
        await self.post(
            "register",
            {"type": "register", "neuronId": neuron_id, "protocolVersion": "1.0.0", "capabilities": [offer]},
        )

    async def ack(self, lease_id: str, output: Any) -> None:
        """Settle a lease with its output."""
        await self.post("ack", {"type": "ack", "leaseId": lease_id, "output": output, "completedAt": datetime.now(UTC)})

    async def nack(self, lease_id: str, kind: str) -> None:
        """Settle a lease without one."""
        at = datetime.now(UTC)
        await self.post("nack", {"type": "nack", "leaseId": lease_id, "kind": kind, "reason": kind, "failedAt": at})

    async def aclose(self) -> None:
        """Give the kept connections up."""
        for link in self._idle:
            await link.aclose()


async def _main(streams: str, url: str, window: int, warm_up: int, leases: int) -> None:
    meter, done, bare = Meter(warm_up, leases), asyncio.Event(), Bare(url, streams=streams)

    async def fetch(page: dict[str, Any]) -> dict[str, Any]:
        if meter.count():
            done.set()
        return {"status": 200, "body": page["body"]}

    async def work(lease: dict[str, Any]) -> None:
        output = await fetch(lease["task"]["input"])
        await bare.ack(lease["leaseId"], output)

    async def read(group: asyncio.TaskGroup) -> None:
        async for frame in bare.frames("floor"):
            if frame is None:
                group.create_task(bare.register("floor", "bench/page", window))
            elif frame["type"] == "lease":
                group.create_task(work(frame["lease"]))

    async with asyncio.TaskGroup() as reading:
        async with asyncio.TaskGroup() as group:
            reader = reading.create_task(read(group))
            await done.wait()
        reader.cancel()
    await bare.aclose()
    report(meter.figures())


if __name__ == "__main__":
    asyncio.run(_main(sys.argv[1], sys.argv[2], *map(int, sys.argv[3:])))
