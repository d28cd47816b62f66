"""The fault gateway's HTTP: which request is answered how."""

from __future__ import annotations

import time
from collections import Counter
from datetime import UTC, datetime
from typing import Any

import anyio
import msgspec

from ..codec import decode_neuron_frame
from ..errors import FrameError
from .book import ACK
from .fault_broker import FaultBroker
from .fault_bytes import chunk, reply, spoilt_reply
from .fault_connection import Connection, Request
from .fault_stream import EventStream
from .faults import ROUTES, Answering, Connecting, Streaming

__all__ = ["FaultHttp"]

TRICKLE = 0.02
"""Seconds between two pieces of a reply that never ends."""

ON_THE_WAY = 0.03
"""Seconds that a frame has to arrive before the reply that it shall overtake."""

OK, BAD_REQUEST, NOT_FOUND, CONFLICT = 200, 400, 404, 409
PREFIX = "/neuron/"
WELCOME = b"<!doctype html><title>Welcome</title>"
USUAL = Streaming()


class FaultHttp:
    """Serves connections.

    Args:
        broker: does what is asked for, and has the fault.

    Attributes:
        requests: how many came, by route.
        strays: targets of requests that no neuron should make: followed redirects, and what is no frame.
    """

    def __init__(self, broker: FaultBroker) -> None:
        self.requests: Counter[str] = Counter()
        self.strays: list[str] = []
        self._broker = broker
        self._first_tokens: dict[str, str | None] = {}

    async def serve(self, connection: Connection) -> None:
        """Serve one connection to its end."""
        if self._broker.struck["armed"] and self._strikes("rst", "close"):
            if isinstance(self._broker.deed, Connecting) and self._broker.deed.kind == "rst":
                connection.reset()
            return
        while (request := await connection.request()) is not None:
            route = _route_of(request)
            if route is None:
                self.strays.append(request.target)
                goes_on = await connection.send(reply(NOT_FOUND))
            else:
                self.requests[route] += 1
                goes_on = await self._answer(connection, route, request)
                self._broker.notify()
            if not goes_on:
                return

    async def _answer(self, connection: Connection, route: str, request: Request) -> bool:
        """Answer one request. Returns whether the connection goes on."""
        try:
            frame = {} if route == "stream" else _frame_of(request)
        except FrameError as exc:
            self.strays.append(f"{request.target}: {exc}")
            return await connection.send(reply(BAD_REQUEST, msgspec.json.encode({"error": str(exc)})))
        fault = self._spoils(route, request)
        if fault is not None:
            return await self._answer_wrongly(connection, frame, fault)
        if route == "stream":
            return await self._answer_stream(connection)
        return await self._answer_frame(connection, route, frame)

    async def _answer_frame(self, connection: Connection, route: str, frame: dict[str, Any]) -> bool:
        broker = self._broker
        if route == ACK and broker.at_moment("ack", frame["leaseId"]):
            await anyio.sleep(ON_THE_WAY)
        status = broker.act(route, frame)
        if self._strikes("stalled-replies", of=route):
            await connection.wait_closed()
            return False
        alive = await connection.send(reply(status))
        if alive and status == OK and route in (ACK, "nack"):
            broker.book.told(frame["leaseId"], time.monotonic())
            if route == ACK:
                broker.at_moment("acked", frame["leaseId"])
        return alive

    async def _answer_stream(self, connection: Connection) -> bool:
        """Hold a stream to its end. Returns whether the connection goes on: only where there was none."""
        broker = self._broker
        shape = broker.deed if isinstance(broker.deed, Streaming) else USUAL
        if self._strikes("stalled-headers"):
            await connection.wait_closed()
            return False
        if broker.struck["pages"] < shape.pages:
            broker.strike("pages")
            return await connection.send(reply(OK, WELCOME, content_type="text/html"))
        if shape != USUAL:
            broker.strike()
        stream = EventStream(connection, shape)
        broker.open_stream(stream)
        if self._strikes("flapping"):
            stream.end()
        try:
            await stream.run()
        finally:
            if broker.stream is stream:
                broker.stream = None
        return False

    async def _answer_wrongly(self, connection: Connection, frame: dict[str, Any], fault: Answering) -> bool:
        broker = self._broker
        broker.strike(fault.route)
        if fault.acts:
            broker.act(fault.route, frame)
        elif fault.status == CONFLICT and fault.route in (ACK, "nack"):
            broker.refuse(frame)
        elif fault.status == CONFLICT and fault.route == "heartbeat":
            broker.forget_neuron()
        if fault.manner == "lost":
            return False
        elsewhere = f"http://localhost:{broker.server.port}/elsewhere"
        alive = await connection.send(spoilt_reply(fault, now=datetime.now(UTC), elsewhere=elsewhere))
        while alive and fault.manner == "endless":
            await anyio.sleep(TRICKLE)
            alive = await connection.send(chunk(b"and so on "))
        return alive and fault.manner == "whole"

    def _spoils(self, route: str, request: Request) -> Answering | None:
        """Return the fault that answers this request, if one does."""
        deed = self._broker.deed
        token = request.headers.get("authorization")
        first = self._first_tokens.setdefault(route, token)
        if not isinstance(deed, Answering) or deed.route != route or (deed.first_token_only and token != first):
            return None
        is_over = deed.times is not None and self._broker.struck[route] >= deed.times
        return None if is_over else deed

    def _strikes(self, *kinds: str, of: str = "") -> bool:
        """Return whether a connection fault of one of these kinds strikes now, and count it."""
        deed = self._broker.deed
        if not isinstance(deed, Connecting) or deed.kind not in kinds or self._broker.struck[of] >= deed.times:
            return False
        self._broker.strike(of)
        return True


def _route_of(request: Request) -> str | None:
    """Return the route that a request asks for, None for one that no neuron should make."""
    name = request.path.removeprefix(PREFIX) if request.path.startswith(PREFIX) else ""
    if request.method == "GET":
        return "stream" if name == "events" else None
    return name if request.method == "POST" and (name in ROUTES[1:] or name == "update-capability") else None


def _frame_of(request: Request) -> dict[str, Any]:
    """Read a frame.

    Raises:
        FrameError: it is none.
    """
    decode_neuron_frame(request.body)
    frame: dict[str, Any] = msgspec.json.decode(request.body)
    return frame
