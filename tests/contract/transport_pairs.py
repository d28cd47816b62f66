"""The project's transports with their other sides, as `check_transport` wants them."""

from __future__ import annotations

import json
import math
import socket
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from functools import partial
from urllib.parse import parse_qs, urlsplit

import anyio
import httpx
import msgspec
from anyio.abc import ByteStream
from anyio.streams.memory import MemoryObjectSendStream

from neuron_anyio import HttpTransport, IpcTransport, Limits, MemoryTransport, TransportError
from neuron_anyio.abc import Reply, Transport
from neuron_anyio.framing import Framing
from neuron_anyio.ipc_host import serve_bridge
from neuron_anyio.local_streams import socket_stream
from neuron_anyio.testing.transport_contract import Answer, Peer
from tests.runtime import http1_server
from tests.runtime.http_gateway import STREAM, chunk, http_reply, sse

__all__ = ["LONGEST", "http_pair", "httpx_pair", "ipc_pair", "memory_pair"]

LONGEST = 100_000
"""Bytes of the largest document that the transports over HTTP are told to take."""

HEAD = STREAM.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")


class HttpPeer:
    """A gateway's routes over real TCP: one stream, and posts that a function answers."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self._refusals: list[int] = []
        self._subscriber: str | None = None
        self._sink: MemoryObjectSendStream[bytes | None] | None = None
        self._gone = False

    async def handle(self, peer: http1_server.Peer) -> None:
        while True:
            request = await peer.request()
            if self._gone:
                return None
            if request.method == "GET":
                if not self._refusals:
                    query = parse_qs(urlsplit(request.target).query)
                    (self._subscriber,) = query["neuronId"]
                    return await self._stream(peer)
                await peer.send(http_reply(self._refusals.pop(0)))
                continue
            try:
                reply = await self._answer(request.target.removeprefix("/neuron/"), request.body)
            except TransportError:
                return None
            await peer.send(raw(reply))

    async def _stream(self, peer: http1_server.Peer) -> None:
        send, receive = anyio.create_memory_object_stream[bytes | None](math.inf)
        async with send, receive, anyio.create_task_group() as group:
            self._sink = send

            async def watch() -> None:
                await peer.wait_closed()
                group.cancel_scope.cancel()

            group.start_soon(watch)
            await peer.send(HEAD)
            try:
                async for data in receive:
                    if data is None:
                        break  # no last chunk: the stream is cut off
                    await peer.send(chunk(data))
                else:
                    await peer.send(b"0\r\n\r\n")
            except anyio.BrokenResourceError:
                pass
            group.cancel_scope.cancel()

    async def _write(self, data: bytes | None) -> None:
        assert self._sink is not None, "no stream is open"
        await self._sink.send(data)

    async def push(self, document: bytes) -> None:
        await self._write(sse(document))

    async def keep_alive(self) -> None:
        await self._write(b": keep-alive\n\n")

    async def end(self) -> None:
        assert self._sink is not None, "no stream is open"
        self._sink.close()

    async def cut(self) -> None:
        await self._write(None)

    async def refuse(self, status: int) -> None:
        self._refusals.append(status)

    async def vanish(self) -> None:
        self._gone = True

    async def subscriber(self) -> str | None:
        return self._subscriber

    def abilities(self) -> Peer:
        return Peer(
            push=self.push,
            end=self.end,
            cut=self.cut,
            refuse=self.refuse,
            keep_alive=self.keep_alive,
            vanish=self.vanish,
            subscriber=self.subscriber,
            longest=LONGEST,
            loses_posts=True,
        )


def raw(reply: Reply) -> bytes:
    headers = [] if reply.retry_after is None else [f"Retry-After: {reply.retry_after:.0f}"]
    if reply.status == 204:
        return b"HTTP/1.1 204 No Content\r\n\r\n"
    body = json.dumps(reply.text) if reply.is_json else reply.text
    kind = "application/json" if reply.is_json else "text/plain"
    return http_reply(reply.status, body.encode(), *headers, content_type=kind)


Make = Callable[[str], HttpTransport]


def over_http(url: str) -> HttpTransport:
    return HttpTransport(url, limits=Limits(frame_bytes=LONGEST))


@asynccontextmanager
async def http_pair(answer: Answer, make: Make = over_http) -> AsyncGenerator[tuple[Transport, Peer]]:
    """Open the transport over our own HTTP/1 connections."""
    peer = HttpPeer(answer)
    async with http1_server.serving(peer.handle) as server:
        yield make(server.origin), peer.abilities()


@asynccontextmanager
async def httpx_pair(answer: Answer) -> AsyncGenerator[tuple[Transport, Peer]]:
    """Open the transport over a client of the user's."""
    peer = HttpPeer(answer)
    async with http1_server.serving(peer.handle) as server, httpx.AsyncClient(trust_env=False) as client:
        limits = Limits(frame_bytes=LONGEST)
        yield HttpTransport(server.origin, http_client=client, limits=limits), peer.abilities()


@asynccontextmanager
async def ipc_pair(answer: Answer, framing: Framing = "lines") -> AsyncGenerator[tuple[Transport, Peer]]:
    """Open the transport to a host program, which speaks HTTP to the gateway."""
    peer = HttpPeer(answer)
    left, right = (socket_stream(end) for end in socket.socketpair())

    async def connect() -> ByteStream:
        return right

    async with http1_server.serving(peer.handle) as server, left, right, anyio.create_task_group() as tasks:
        upstream = HttpTransport(server.origin, limits=Limits(frame_bytes=LONGEST))
        tasks.start_soon(partial(serve_bridge, left, upstream, framing=framing))
        yield IpcTransport(connect, framing=framing), msgspec.structs.replace(peer.abilities(), keep_alive=None)
        tasks.cancel_scope.cancel()


@asynccontextmanager
async def memory_pair(
    answer: Answer, make: Callable[[Answer], MemoryTransport] = MemoryTransport
) -> AsyncGenerator[tuple[Transport, Peer]]:
    """Open the transport within the process."""
    transport = make(answer)

    async def push(document: bytes) -> None:
        transport.push(document)

    async def end() -> None:
        transport.break_stream()

    async def cut() -> None:
        transport.break_stream(TransportError("cut"))

    async def subscriber() -> str | None:
        return transport.neuron_id

    yield transport, Peer(push=push, end=end, cut=cut, subscriber=subscriber, loses_posts=True)
