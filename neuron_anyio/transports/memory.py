"""BigBrain frames within one process: for tests, virtual time, and a gateway in the same program."""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from ..abc import Oversized, Reply
from ..errors import TransportError

__all__ = ["MemoryTransport"]


class MemoryTransport:
    """A transport whose other side is a function.

    Args:
        on_post: what a gateway does with a posted frame: called with its type and JSON text, answers with a `Reply`; it
            may wait, and may raise `TransportError` for a road that is broken.
        origin: its name in events and logs.

    Attributes:
        neuron_id: who has the stream open; None while nobody has.
    """

    def __init__(self, on_post: Callable[[str, bytes], Awaitable[Reply]], *, origin: str = "memory:") -> None:
        self.origin = origin
        self.neuron_id: str | None = None
        self._on_post = on_post
        self._stream: MemoryObjectSendStream[bytes | Oversized | Exception] | None = None
        self._opened = anyio.Event()

    def push(self, document: bytes | Oversized) -> None:
        """Send one document down the open stream.

        Raises:
            TransportError: no stream is open.
        """
        if self._stream is None:
            raise TransportError("no neuron has opened the stream")
        self._stream.send_nowait(document)

    def break_stream(self, error: TransportError | None = None) -> None:
        """End the stream: cleanly, or with an error."""
        if self._stream is not None:
            if error is not None:
                self._stream.send_nowait(error)
            self._stream.close()
            self._stream = self.neuron_id = None

    async def wait_subscribed(self) -> None:
        """Wait until a neuron has the stream open."""
        while self._stream is None:
            await self._opened.wait()

    @asynccontextmanager
    async def open(self) -> AsyncGenerator[None]:
        """Nothing to acquire."""
        yield

    @asynccontextmanager
    async def subscribe(self, neuron_id: str) -> AsyncGenerator[_MemoryStream]:
        """Open the stream."""
        send, receive = anyio.create_memory_object_stream[bytes | Oversized | Exception](math.inf)
        with send, receive:
            self._stream, self.neuron_id = send, neuron_id
            self._opened.set()
            self._opened = anyio.Event()
            try:
                yield _MemoryStream(receive)
            finally:
                if self._stream is send:
                    self._stream = self.neuron_id = None

    async def post(self, path: str, body: bytes) -> Reply:
        """Hand one frame to the other side."""
        return await self._on_post(path, body)


class _MemoryStream:
    comments = 0

    def __init__(self, receive: MemoryObjectReceiveStream[bytes | Oversized | Exception]) -> None:
        self._receive = receive

    async def receive(self) -> Sequence[bytes | str | Oversized]:
        item = await self._receive.receive()
        if isinstance(item, Exception):
            raise item
        return [item]
