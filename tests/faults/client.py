"""A bare client of the fault gateway: sees every byte, does nothing of its own accord."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import httptools

from neuron_anyio.sse import EventDecoder, ServerSentEvent
from neuron_anyio.testing.fault_gateway import FaultGateway

__all__ = ["NOW", "Answer", "Client", "Events"]

OFFER = {"type": "test/echo", "scope": "any", "concurrency": 4}
NOW = "2026-01-01T00:00:00Z"
FRAMES: dict[str, dict[str, Any]] = {
    "register": {"neuronId": "n", "protocolVersion": "1.0.0", "capabilities": [OFFER]},
    "ack": {"leaseId": "lease-1", "output": "text", "completedAt": NOW},
    "nack": {"leaseId": "lease-1", "kind": "terminal", "reason": "no", "failedAt": NOW},
    "heartbeat": {"neuronId": "n", "inFlight": [], "sentAt": NOW},
    "progress": {"leaseId": "lease-1", "sentAt": NOW},
}


class Answer:
    """A reply as httptools reads it, and whatever came after its end."""

    def __init__(self) -> None:
        self.parser = httptools.HttpResponseParser(self)
        self.headers: dict[str, str] = {}
        self.chunks: list[bytes] = []
        self.complete = False

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers[name.decode().lower()] = value.decode()

    def on_body(self, body: bytes) -> None:
        self.chunks.append(body)

    def on_message_complete(self) -> None:
        self.complete = True

    @property
    def status(self) -> int:
        return int(self.parser.get_status_code())

    @property
    def body(self) -> bytes:
        return b"".join(self.chunks)


class Client:
    """A neuron's side of the wire, one connection a request; no cleverness."""

    def __init__(self, gateway: FaultGateway | str) -> None:
        url = gateway if isinstance(gateway, str) else gateway.url
        self.port = int(url.rpartition(":")[2])

    async def post(self, route: str, *, token: str = "t", **members: Any) -> Answer:
        body = json.dumps({"type": route, **FRAMES[route], **members}).encode()
        head = (
            f"POST /neuron/{route} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nContent-Length: {len(body)}"
        )
        async with await anyio.connect_tcp("127.0.0.1", self.port) as stream:
            await stream.send(f"{head}\r\n\r\n".encode() + body)
            return await self._read(stream)

    async def ask(self, route: str, **options: Any) -> Answer:
        if route != "stream":
            return await self.post(route, **options)
        async with await anyio.connect_tcp("127.0.0.1", self.port) as stream:
            await stream.send(b"GET /neuron/events?neuronId=n HTTP/1.1\r\nHost: x\r\n\r\n")
            return await self._read(stream, most=1)

    async def _read(self, stream: anyio.abc.SocketStream, *, most: float = float("inf")) -> Answer:
        answer = Answer()
        try:
            while not answer.complete and len(answer.chunks) < most:
                answer.parser.feed_data(await stream.receive())
        except anyio.EndOfStream:
            if not answer.headers:
                raise
        return answer

    @asynccontextmanager
    async def events(self, *, register: bool = True, **members: Any) -> AsyncGenerator[Events]:
        async with await anyio.connect_tcp("127.0.0.1", self.port) as stream:
            await stream.send(b"GET /neuron/events?neuronId=n HTTP/1.1\r\nHost: x\r\n\r\n")
            events = Events(stream)
            if register:
                while not events.answer.headers:
                    events.answer.parser.feed_data(await stream.receive())
                assert (await self.post("register", **members)).status == 200
            yield events


class Events:
    def __init__(self, stream: anyio.abc.SocketStream) -> None:
        self.stream = stream
        self.answer = Answer()
        self._decoder = EventDecoder(max_event_bytes=64_000_000)
        self._read = 0
        self._documents: list[str] = []

    async def document(self) -> str:
        """Wait for the data of the next event."""
        while not self._documents:
            for chunk in self.answer.chunks[self._read :]:
                for event in self._decoder.push(chunk):
                    assert isinstance(event, ServerSentEvent)
                    self._documents.append(event.data.decode())
            self._read = len(self.answer.chunks)
            if not self._documents:
                self.answer.parser.feed_data(await self.stream.receive())
        return self._documents.pop(0)

    async def frame(self, kind: str) -> dict[str, Any]:
        """Wait for the next frame of a type."""
        with anyio.fail_after(5):
            while True:
                frame = json.loads(await self.document())
                if frame["type"] == kind:
                    return dict(frame)
