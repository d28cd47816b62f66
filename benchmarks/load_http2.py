"""The gateway of `benchmarks.load`, over HTTP/2 without TLS. `python -m benchmarks.load_http2 WARM_UP LEASES`."""

from __future__ import annotations

import asyncio
import sys
from functools import partial
from typing import cast

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, RequestReceived, StreamEnded, WindowUpdated

from . import wire
from .load import Session
from .meter import report

__all__: list[str] = []

_STREAM = [(":status", "200"), ("content-type", "text/event-stream")]
_OK = [(":status", "200"), ("content-type", "application/json")]


class _Server(asyncio.Protocol):
    """The one connection. As a neuron's event stream it takes bytes and sends what the flow control lets through."""

    transport: asyncio.Transport

    def __init__(self, session: Session) -> None:
        self._session = session
        self._http = H2Connection(H2Configuration(client_side=False))
        self._bodies: dict[int, bytearray] = {}
        self._events = 0
        self._unsent = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass
        self._http.initiate_connection()
        self._flush()

    def data_received(self, data: bytes) -> None:
        for event in self._http.receive_data(data):
            if isinstance(event, RequestReceived):
                self._begin(event.stream_id, dict(event.headers)[b":method"])
            elif isinstance(event, DataReceived):
                self._bodies[event.stream_id] += event.data
                self._http.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            elif isinstance(event, StreamEnded) and event.stream_id in self._bodies:
                self._end(event.stream_id)
            elif isinstance(event, WindowUpdated):
                self.write(b"")
        self._flush()

    def _begin(self, stream: int, method: bytes) -> None:
        if method == b"GET":
            self._events, self._session.stream = stream, self
            self._http.send_headers(stream, _STREAM)
        else:
            self._bodies[stream] = bytearray()

    def _end(self, stream: int) -> None:
        self._http.send_headers(stream, _OK)
        self._http.send_data(stream, b"{}", end_stream=True)
        self._session.take(bytes(self._bodies.pop(stream)))

    def write(self, data: bytes) -> None:
        """Send a piece of the event stream."""
        self._unsent += data
        while self._unsent and (window := self._http.local_flow_control_window(self._events)) > 0:
            size = min(window, self._http.max_outbound_frame_size)
            self._http.send_data(self._events, bytes(self._unsent[:size]))
            del self._unsent[:size]

    def _flush(self) -> None:
        self.transport.write(self._http.data_to_send())

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        if self._session.stream is self and not self._session.ended.done():
            self._session.ended.set_result(None)


async def _main(warm_up: int, leases: int) -> None:
    session = Session(warm_up, leases)

    async def attend(port: int) -> None:  # noqa: ARG001 - leases do not name it
        await session.ended

    await wire.serve(partial(_Server, session), attend)
    report(session.meter.figures())


if __name__ == "__main__":
    wire.run(_main(int(sys.argv[1]), int(sys.argv[2])))
