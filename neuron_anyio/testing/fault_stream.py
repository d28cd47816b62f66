"""The event stream to one neuron, byte by byte as a fault wants it."""

from __future__ import annotations

from collections import deque
from typing import Any

import anyio
from anyio import CancelScope

from . import fault_bytes
from .fault_connection import Connection
from .faults import Streaming

__all__ = ["EventStream"]

APART = 0.001
"""Seconds between two pieces of an event, so that they do not arrive as one."""

LAST_CHUNK = b"0\r\n\r\n"


class EventStream:
    """One open stream. What is pushed is written in order by `run`.

    Args:
        connection: where to.
        shape: what the bytes look like.

    Attributes:
        mute: nothing is written any more, and nobody is told.
    """

    def __init__(self, connection: Connection, shape: Streaming) -> None:
        self._connection = connection
        self._shape = shape
        self._waiting: deque[bytes] = deque([fault_bytes.BOM] if shape.bom else [])
        self._wake = anyio.Event()
        self._ending = b""
        self._ended = False
        self.mute = False

    def push(self, frame: dict[str, Any]) -> None:
        """Send a frame."""
        self._waiting.extend(fault_bytes.strange(self._shape))
        document = fault_bytes.document(self._shape, frame)
        self._waiting.append(fault_bytes.event(self._shape, document, frame["type"]))
        self._wake.set()

    def end(self) -> None:
        """End the stream as HTTP wants it, after what was pushed."""
        self._finish(LAST_CHUNK)

    def cut(self, frame: dict[str, Any]) -> None:
        """Send half of a frame and close."""
        self.push(frame)
        whole = self._waiting.pop()
        self._waiting.append(whole[: len(whole) // 2])
        self._finish(b"")

    def _finish(self, ending: bytes) -> None:
        self._ending, self._ended = ending, True
        self._wake.set()

    async def run(self) -> None:
        """Write until the stream ends or the neuron has gone."""
        async with anyio.create_task_group() as group:
            group.start_soon(self._watch, group.cancel_scope)
            await self._write()
            group.cancel_scope.cancel()

    async def _watch(self, scope: CancelScope) -> None:
        await self._connection.wait_closed()
        scope.cancel()

    async def _write(self) -> None:
        await self._connection.send(fault_bytes.EVENT_STREAM)
        while True:
            while self._waiting and not self.mute:
                await self._send(self._waiting.popleft())
            if self._ended:
                await self._connection.send(self._ending)
                return
            self._wake = anyio.Event()
            await self._wake.wait()

    async def _send(self, data: bytes) -> None:
        for number, piece in enumerate(fault_bytes.pieces(self._shape, data)):
            if number and self._shape.split != "bytes":
                await anyio.sleep(APART)
            await self._connection.send(fault_bytes.chunk(piece))
