"""What neurons talk to: the event stream and the six posts (wire specification, section 1)."""

from __future__ import annotations

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from .event_stream import EventStream
from .gateway import Gateway
from .posts import POSTS, take_post
from .problems import Refused, problem
from .replies import authenticated, json_reply, read_body

__all__ = ["NeuronRoutes"]


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
        await take_post(self._gateway, kind, body, principal)
        return json_reply({"ok": True})
