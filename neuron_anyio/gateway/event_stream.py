"""Event streams as ASGI replies."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Protocol

import anyio
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from .streams import KEEP_ALIVE

__all__ = ["EventStream", "Source"]

HEADERS = [
    (b"content-type", b"text/event-stream"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),  # a proxy that collects before it sends would hold leases back
]


class Source(Protocol):
    """What a stream sends.

    Attributes:
        abort: set by the stream: ends it at once, even in the middle of a write.
    """

    abort: Callable[[], None] | None

    async def take(self, *, until: float) -> bytes | None:
        """Wait for bytes to send; `b""` when none came in time, None at the end."""
        ...

    def cut(self) -> None:
        """Note that the reader is gone, and abort."""
        ...


class EventStream(Response):
    """A reply that lasts: what its source gives, comments while that is nothing, until it or the reader ends.

    Args:
        stream: gives the source, and learns of the end.
        keep_alive: seconds between comments.
    """

    def __init__(self, stream: AbstractContextManager[Source], *, keep_alive: float) -> None:
        super().__init__()
        self._stream = stream
        self._keep_alive = keep_alive

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send until the end."""
        if scope["method"] == "HEAD":
            await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
            await send({"type": "http.response.body", "body": b"", "more_body": False})
            return
        ended = False
        with self._stream as source:
            async with anyio.create_task_group() as tasks:
                source.abort = tasks.cancel_scope.cancel
                tasks.start_soon(self._watch_reader, receive, source)
                await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
                await self._send_all(source, send)
                source.abort = None
                ended = not tasks.cancel_scope.cancel_called
                tasks.cancel_scope.cancel()
            # Outside the group: a server that is cancelled in the last write takes the reply for complete, and the
            # reader, who got no end, waits for ever.
            if ended:
                await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _send_all(self, source: Source, send: Send) -> None:
        data: bytes | None = KEEP_ALIVE  # one at once, so that the reader knows that the stream stands
        while data is not None:
            await send({"type": "http.response.body", "body": data or KEEP_ALIVE, "more_body": True})
            data = await source.take(until=anyio.current_time() + self._keep_alive)

    @staticmethod
    async def _watch_reader(receive: Receive, source: Source) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        source.cut()
