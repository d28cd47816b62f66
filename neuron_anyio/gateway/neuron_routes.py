"""What neurons talk to: the event stream and the six posts (wire specification, section 1)."""

from __future__ import annotations

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from neuron_anyio.codec import decode_neuron_frame
from neuron_anyio.errors import FrameError

from .event_stream import EventStream
from .gateway import Gateway
from .problems import Refused, problem
from .replies import authenticated, check_readable, json_reply, read_body

__all__ = ["NeuronRoutes"]

POSTS = frozenset({"register", "update-capability", "heartbeat", "ack", "nack", "progress"})


class NeuronRoutes:
    """Endpoints for neurons."""

    __slots__ = ("_gateway",)

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    async def events(self, request: Request) -> Response:
        """Open a neuron's event stream."""
        gateway = self._gateway
        principal = await authenticated(gateway, request)
        neuron_id = request.query_params.get("neuronId")
        if not neuron_id:
            detail = "the query must name the neuron: GET /neuron/events?neuronId=..."
            raise Refused(problem(400, "no-neuron-id", detail))
        stream = gateway.stream(neuron_id, principal)
        return EventStream(stream, keep_alive=gateway.keep_alive)

    async def post(self, request: Request) -> Response:
        """Take a frame."""
        kind = request.path_params["kind"]
        if kind not in POSTS:
            raise HTTPException(404)
        principal = await authenticated(self._gateway, request)
        body = await read_body(request, self._gateway.body_bytes)
        try:
            frame = decode_neuron_frame(body)
        except FrameError as error:
            raise Refused(problem(400, "invalid-frame", str(error))) from None
        for name in ("output", "details", "data"):
            if (value := getattr(frame, name, None)) is not None:
                check_readable(value, f"{frame.type}: {name}", code="invalid-frame")
        if frame.type != kind:
            detail = f"type is {frame.type!r}; post it to /neuron/{frame.type}"
            raise Refused(problem(400, "wrong-route", detail))
        await self._gateway.handle(frame, principal)
        return json_reply({"ok": True})
