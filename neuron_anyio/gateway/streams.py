"""The gateway's end of an event stream: bytes that wait for a reader, bounded."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from neuron_anyio.codec import encode_frame
from neuron_anyio.frames import ServerFrame
from neuron_anyio.wakeup import Wakeup

__all__ = ["KEEP_ALIVE", "Outbox", "Watch", "event", "frame_event"]

Watch = Wakeup
"""Tells one waiter that a task has changed; what it missed meanwhile is told as one change."""

KEEP_ALIVE = b": keep-alive\n\n"
"""A comment: it tells reader and network that the stream lives."""


class Outbox:
    """What is to go out on one stream.

    Its writer takes all that waits at once, so that many leases are one write. What the writer has taken is the
    server's; what waits here is bounded.

    Args:
        limit: bytes that may wait. One event alone may be larger.
    """

    __slots__ = ("_limit", "_parts", "_size", "_wakeup", "abort", "finished")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._parts: list[bytes] = []
        self._size = 0
        self._wakeup = Wakeup()
        self.finished: bool = False
        self.abort: Callable[[], None] | None = None

    def put(self, data: bytes) -> bool:
        """Let bytes follow; return False, and take nothing, when the reader is too slow for them or the end is set."""
        if self.finished or (self._parts and self._size + len(data) > self._limit):
            return False
        self._parts.append(data)
        self._size += len(data)
        self._wakeup.notify()
        return True

    def finish(self) -> None:
        """Let the stream end after what waits."""
        self.finished = True
        self._wakeup.notify()

    def cut(self) -> None:
        """End the stream now, whatever waits, even a write under way."""
        self._parts.clear()
        self._size = 0
        self.finish()
        if self.abort is not None:
            self.abort()

    async def take(self, *, until: float) -> bytes | None:
        """Wait for something to send.

        Args:
            until: when to give up waiting, by the loop's clock.

        Returns:
            All that waits in one piece, `b""` when nothing came in time, None at the end of the stream.
        """
        if not self._parts and not self.finished:
            await self._wakeup.wait(until=until)
        if not self._parts:
            return None if self.finished else b""
        data = b"".join(self._parts)
        self._parts.clear()
        self._size = 0
        return data


def event(name: str, data: bytes) -> bytes:
    """Return one event; `data` has no line breaks."""
    return b"event: %s\ndata: %s\n\n" % (name.encode(), data)


def frame_event(frames: Iterable[ServerFrame]) -> bytes:
    """Return frames as events in one piece (wire specification, section 4)."""
    return b"".join(event(frame.type, encode_frame(frame)) for frame in frames)
