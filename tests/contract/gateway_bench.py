"""A neuron of few words for contract tests of the gateway: one method for each request of the wire.

Its stream is read strictly: an event is two lines, `event: <type>` and `data: <one line of JSON>`, or one comment.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx

from neuron_anyio.http1 import Http1Transport

__all__ = ["AT", "ECHO", "EventReader", "RawNeuron", "event_stream", "offer", "open_neuron_stream", "raw_neuron"]

AT = "2026-01-02T03:04:05.678Z"
ECHO = "core/echo"


def offer(capability: str = ECHO, *, concurrency: int = 1, user: str | None = None, **rest: Any) -> dict[str, Any]:
    scope: Any = "any" if user is None else {"onBehalfOf": user}
    return {"type": capability, "scope": scope, "concurrency": concurrency, **rest}


class EventReader:
    """The events of one stream, read as strictly as the wire specification writes them."""

    def __init__(self, status: int, headers: dict[bytes, bytes], chunks: AsyncIterator[bytes]) -> None:
        self.status = status
        self.headers = headers
        self.comments = 0
        self._chunks = chunks
        self._text = b""

    async def next(self) -> tuple[str, Any]:
        """Return name and document of the next event; `StopAsyncIteration` at a clean end."""
        while True:
            block, end, rest = self._text.partition(b"\n\n")
            if not end:
                self._text += await anext(self._chunks)
                continue
            self._text = rest
            if block.startswith(b":"):
                self.comments += 1
                continue
            name, data = block.split(b"\n")
            assert name.startswith(b"event: ")
            assert data.startswith(b"data: ")
            return name[7:].decode(), json.loads(data[6:])


@asynccontextmanager
async def event_stream(url: str, path: str, token: str | None = None) -> AsyncGenerator[EventReader]:
    headers = [(b"accept", b"text/event-stream")]
    if token is not None:
        headers.append((b"authorization", f"Bearer {token}".encode()))
    async with Http1Transport() as transport, transport.stream("GET", url + path, headers, timeout=5) as reply:
        yield EventReader(reply.status, dict(reply.headers), reply.chunks)


class RawNeuron:
    """What a neuron does on the wire, step by step."""

    def __init__(self, http: httpx.AsyncClient, neuron_id: str, events: EventReader) -> None:
        self.http = http
        self.neuron_id = neuron_id
        self.events = events

    async def post(self, kind: str, /, **members: Any) -> httpx.Response:
        return await self.http.post(f"/neuron/{kind}", json={"type": kind, **members})

    async def register(self, *offers: dict[str, Any]) -> httpx.Response:
        return await self.post(
            "register", neuronId=self.neuron_id, protocolVersion="1.0.0", capabilities=list(offers or (offer(),))
        )

    async def next(self, kind: str) -> dict[str, Any]:
        """Return the next frame, which must be of this kind."""
        name, frame = await self.events.next()
        assert name == frame["type"] == kind
        document: dict[str, Any] = frame
        return document

    async def lease(self) -> dict[str, Any]:
        lease: dict[str, Any] = (await self.next("lease"))["lease"]
        return lease

    async def ack(self, lease: dict[str, Any], output: Any = None) -> httpx.Response:
        return await self.post("ack", leaseId=lease["leaseId"], output=output, completedAt=AT)

    async def nack(self, lease: dict[str, Any], kind: str = "retryable", **rest: Any) -> httpx.Response:
        return await self.post("nack", leaseId=lease["leaseId"], kind=kind, reason="so", failedAt=AT, **rest)

    async def heartbeat(self, *leases: dict[str, Any]) -> httpx.Response:
        held = [{"leaseId": lease["leaseId"], "taskId": lease["task"]["taskId"], "startedAt": AT} for lease in leases]
        return await self.post("heartbeat", neuronId=self.neuron_id, inFlight=held, sentAt=AT)


@asynccontextmanager
async def open_neuron_stream(url: str, neuron_id: str = "n", *, token: str | None = None) -> AsyncGenerator[RawNeuron]:
    """Open a stream without registering, and without looking at its status."""
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    async with (
        httpx.AsyncClient(base_url=url, headers=headers, timeout=10) as http,
        event_stream(url, f"/neuron/events?neuronId={neuron_id}", token) as events,
    ):
        yield RawNeuron(http, neuron_id, events)


@asynccontextmanager
async def raw_neuron(
    url: str, neuron_id: str = "n", *offers: dict[str, Any], token: str | None = None
) -> AsyncGenerator[RawNeuron]:
    """Open a stream, register, and see the `registered` frame."""
    async with open_neuron_stream(url, neuron_id, token=token) as neuron:
        assert neuron.events.status == 200
        assert (await neuron.register(*offers)).status_code == 200
        await neuron.next("registered")
        yield neuron
