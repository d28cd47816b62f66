"""Who is told of a neuron's events: one callback, and any number of streams."""

from __future__ import annotations

import logging
from collections.abc import Callable

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from .events import Event

__all__ = ["Listeners"]


class Listeners:
    """Shows events to all who listen; none of them can hold up or break the neuron.

    Args:
        on_event: told every event from the first one, or None.
        log: logger.
    """

    __slots__ = ("_closed", "_log", "_on_event", "_streams")

    def __init__(self, on_event: Callable[[Event], None] | None, log: logging.Logger) -> None:
        self._on_event = on_event
        self._log = log
        self._closed = False
        self._streams: list[MemoryObjectSendStream[Event]] = []

    def publish(self, event: Event) -> None:
        """Show an event to all who listen."""
        if self._on_event is not None:
            try:
                self._on_event(event)
            except Exception:
                self._log.exception("on_event raised on %s", type(event).__name__)
        for stream in list(self._streams):
            try:
                stream.send_nowait(event)
            except anyio.WouldBlock:
                self._log.warning("a listener is too slow; it misses %s", type(event).__name__)
            except anyio.BrokenResourceError:
                stream.close()
                self._streams.remove(stream)

    def follow(self, max_buffer: float) -> MemoryObjectReceiveStream[Event]:
        """Give a stream of the events from now on; it ends with the neuron."""
        send, receive = anyio.create_memory_object_stream[Event](max_buffer)
        if self._closed:
            send.close()
        else:
            self._streams.append(send)
        return receive

    def close(self) -> None:
        """End every stream: there is nothing more to tell."""
        self._closed = True
        while self._streams:
            self._streams.pop().close()
