"""Who is told of a neuron's events: one callback, and any number of streams."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from .events import Event
from .lease import Lease
from .logs import named

__all__ = ["Listeners"]


class Listeners:
    """Shows events to all who listen; none of them can hold up or break the neuron.

    Args:
        on_event: told every event from the first one, or None.
        origins: names of the brokers, by number.
        log: logger.
    """

    __slots__ = ("_closed", "_log", "_on_event", "_origins", "_streams")

    def __init__(
        self, on_event: Callable[[Event], None] | None, *, origins: Sequence[str], log: logging.Logger
    ) -> None:
        self._on_event = on_event
        self._origins = origins
        self._log = log
        self._closed = False
        self._streams: dict[MemoryObjectSendStream[Event], int] = {}  # with how many events each has missed in a row

    def tell_of(self, lease: Lease, kind: Callable[..., Event], **fields: object) -> None:
        """Show an event of a lease. It is made only where somebody listens."""
        if self._on_event is not None or self._streams:
            origin, task = self._origins[lease.source], lease.delivery.task
            about = {"lease_id": lease.delivery.id, "task_id": task.task_id, "capability": task.capability}
            self.publish(kind(origin=origin, **(about | fields)))

    def publish(self, event: Event) -> None:
        """Show an event to all who listen."""
        if self._on_event is not None:
            try:
                self._on_event(event)
            except Exception:
                line = named("listener.raised", about=type(event).__name__)
                self._log.exception("on_event raised on %s", type(event).__name__, extra=line)
        for stream in list(self._streams):
            self._send(stream, event)

    def _send(self, stream: MemoryObjectSendStream[Event], event: Event) -> None:
        try:
            stream.send_nowait(event)
        except anyio.WouldBlock:
            if not self._streams[stream]:
                line = named("listener.slow", about=type(event).__name__)
                self._log.warning(
                    "a listener is too slow; it misses events, the first a %s", type(event).__name__, extra=line
                )
            self._streams[stream] += 1
        except anyio.BrokenResourceError:
            self._drop(stream)
        else:
            self._tell_missed(stream)

    def _tell_missed(self, stream: MemoryObjectSendStream[Event]) -> None:
        if self._streams[stream]:
            missed = self._streams[stream]
            line = named("listener.missed", events=missed)
            self._log.warning("a listener that was too slow has missed %d events", missed, extra=line)
            self._streams[stream] = 0

    def _drop(self, stream: MemoryObjectSendStream[Event]) -> None:
        self._tell_missed(stream)
        del self._streams[stream]
        stream.close()

    def follow(self, max_buffer: float) -> MemoryObjectReceiveStream[Event]:
        """Give a stream of the events from now on; it ends with the neuron."""
        send, receive = anyio.create_memory_object_stream[Event](max_buffer)
        if self._closed:
            send.close()
        else:
            self._streams[send] = 0
        return receive

    def close(self) -> None:
        """End every stream: there is nothing more to tell."""
        self._closed = True
        for stream in list(self._streams):
            self._drop(stream)
