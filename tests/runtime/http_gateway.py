"""The scripted gateway over real HTTP, and a listener that waits for events."""

from __future__ import annotations

import json
import math
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeAlias, TypeVar

import anyio
from anyio.streams.memory import MemoryObjectSendStream

from neuron_anyio import TransportError, events
from neuron_anyio.abc import Reply
from neuron_anyio.testing.scripted_gateway import ScriptedGateway
from tests.runtime.http1_server import Peer, Received, Server, serving

__all__ = ["STREAM", "HttpGateway", "Seen", "bearer", "http_gateway", "http_reply", "sse"]

STREAM = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
    b"Cache-Control: no-store\r\nTransfer-Encoding: chunked\r\n\r\n"
)

Raw: TypeAlias = bytes | Callable[[Peer], Awaitable[None]]
"""A reply as the test writes it; a function has the connection to itself and closes it by returning."""

E = TypeVar("E", bound=events.Event)


def http_reply(status: int, body: bytes = b"", *headers: str, content_type: str | None = "application/json") -> bytes:
    """Write a whole reply."""
    lines = [f"HTTP/1.1 {status} Text", f"Content-Length: {len(body)}", *headers]
    if content_type is not None:
        lines.append(f"Content-Type: {content_type}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def sse(document: bytes | str, event: str = "frame") -> bytes:
    text = document.decode() if isinstance(document, bytes) else document
    return f"event: {event}\ndata: {text}\n\n".encode()


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def bearer(request: Received) -> str | None:
    value = request.header("authorization")
    return None if value is None else value.removeprefix("Bearer ")


class HttpGateway(ScriptedGateway):
    """A `ScriptedGateway` whose neurons come over TCP.

    Attributes:
        gets: requests for the stream, in order.
        requests: all requests, in order.
        stream_replies: answers to the next requests for the stream; then a stream.
        replies: the same for each frame type; then what `answer` and `always_answer` were told.
        tokens: those that are accepted, None for any or none; 401 for the rest.
        base: path that the routes are under.
    """

    def __init__(self, *, register: bool = True, tokens: Collection[str] | None = None, base: str = "") -> None:
        super().__init__(confirms=register)
        self.tokens = tokens
        self.base = base
        self.requests: list[Received] = []
        self.stream_replies: list[Raw] = []
        self.replies: dict[str, list[Raw]] = {}
        self.streams = 0
        self.server: Server
        self._sink: MemoryObjectSendStream[bytes | None] | None = None

    @property
    def url(self) -> str:
        return self.server.origin + self.base

    @property
    def gets(self) -> list[Received]:
        return [request for request in self.requests if request.method == "GET"]

    # The gateway's side

    async def handle(self, peer: Peer) -> None:
        """Serve one connection."""
        while True:
            request = await peer.request()
            self.requests.append(request)
            route = request.target.removeprefix(f"{self.base}/neuron/").partition("?")[0]
            self.notify()
            if self.tokens is not None and bearer(request) not in self.tokens:
                await peer.send(http_reply(401, b'{"error":"unauthorized"}'))
            elif request.method == "GET":
                raw = self.stream_replies.pop(0) if self.stream_replies else None
                if raw is None or not isinstance(raw, bytes):
                    return await (self.stream if raw is None else raw)(peer)
                await peer.send(raw)
            elif not await self._answer(peer, route, request.body):
                return None

    async def _answer(self, peer: Peer, route: str, body: bytes) -> bool:
        """Answer a frame; return whether the connection goes on."""
        if scripted := self.replies.get(route):
            raw = scripted.pop(0)
            self.posts.append(json.loads(body))
            self.notify()
            if not isinstance(raw, bytes):
                await raw(peer)
                return False
            await peer.send(raw)
            return True
        try:
            reply = await self.take(route, body)
        except TransportError:
            return False
        await peer.send(_raw(reply))
        return True

    async def stream(self, peer: Peer) -> None:
        """Serve an event stream until the test or the neuron ends it."""
        send, receive = anyio.create_memory_object_stream[bytes | None](math.inf)
        async with send, receive, anyio.create_task_group() as group:
            await peer.send(STREAM)
            self._sink = send
            self.streams += 1
            self.notify()

            async def watch() -> None:
                await peer.wait_closed()
                group.cancel_scope.cancel()

            group.start_soon(watch)
            try:
                async for data in receive:
                    if data is None:
                        break  # no last chunk: the stream is cut off
                    await peer.send(chunk(data))
                else:
                    await peer.send(b"0\r\n\r\n")
            except anyio.BrokenResourceError:
                pass
            finally:
                group.cancel_scope.cancel()
                if self._sink is send:
                    self._sink = None
                self.notify()

    def write(self, data: bytes) -> None:
        """Send bytes down the open stream, as one chunk."""
        assert self._sink is not None, "no stream is open"
        self._sink.send_nowait(data)

    def send(self, **frame: Any) -> None:
        self.write(sse(json.dumps(frame), frame["type"]))

    def registered(self, capabilities: Sequence[Mapping[str, Any]], *, session_id: str = "session-1") -> None:
        if self._sink is not None:  # the stream may have ended while the frame was on its way
            super().registered(capabilities, session_id=session_id)

    def end_stream(self, *, cut: bool = False) -> None:
        """End the open stream: as the gateway would, or cut off."""
        assert self._sink is not None, "no stream is open"
        sink, self._sink = self._sink, None
        if cut:
            sink.send_nowait(None)
        sink.close()

    # What came

    async def wait_streams(self, count: int) -> None:
        await self.wait_for(lambda: self.streams >= count and self._sink is not None)

    async def wait_gets(self, count: int) -> None:
        await self.wait_for(lambda: len(self.gets) >= count)


def _raw(reply: Reply) -> bytes:
    headers = [] if reply.retry_after is None else [f"Retry-After: {reply.retry_after:.0f}"]
    body = reply.text.encode() if reply.text else b'{"ok":true}'
    return http_reply(reply.status, body, *headers, content_type="application/json" if not reply.text else "text/plain")


@asynccontextmanager
async def http_gateway(
    *, register: bool = True, tokens: Collection[str] | None = None, base: str = ""
) -> AsyncGenerator[HttpGateway]:
    """Run a scripted gateway."""
    gateway = HttpGateway(register=register, tokens=tokens, base=base)
    async with serving(gateway.handle) as gateway.server:
        yield gateway


class Seen(list[events.Event]):
    """Pass as `on_event`: keeps the events and lets the test wait for them."""

    def __init__(self) -> None:
        super().__init__()
        self._changed = anyio.Event()

    def __call__(self, event: events.Event) -> None:
        self.append(event)
        self._changed.set()
        self._changed = anyio.Event()

    def of(self, kind: type[E]) -> list[E]:
        return [event for event in self if isinstance(event, kind)]

    async def changed(self) -> None:
        """Wait for the next event."""
        await self._changed.wait()

    async def wait(self, kind: type[E], count: int = 1) -> E:
        """Wait until so many events of a kind have come; return the last of these."""
        with anyio.fail_after(10):
            while len(found := self.of(kind)) < count:
                await self.changed()
        return found[count - 1]
