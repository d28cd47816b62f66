"""A neuron inside an asyncio web application, and a caller beside it: both live as long as the application does.

Any ASGI server runs it: `BIGBRAIN_GATEWAY_URL=http://127.0.0.1:8787 hypercorn examples.embed_web_app:app`. Then
`curl http://127.0.0.1:8000/neuron` shows how the neuron stands, and
`curl -d 'some words' http://127.0.0.1:8000/reversed` submits a task and waits for its result.
"""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import TypedDict

import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from neuron_anyio import Neuron, capability, open_neuron
from neuron_anyio.client import GatewayClient, TaskCancelled, TaskFailed

__all__ = ["app", "create_app", "reverse"]

PATIENCE = 20.0
"""Seconds that a request waits for its task: below what browsers and proxies wait."""


class State(TypedDict):
    """What the lifespan gives to every request."""

    neuron: Neuron
    client: GatewayClient


@capability("examples/text.reverse", concurrency=8)
async def reverse(text: str) -> str:
    """Turn a text round."""
    return text[::-1]


def create_app(gateway: str) -> Starlette:
    """Make the application; it serves once the gateway has accepted its neuron."""

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncGenerator[State]:
        async with (
            open_neuron(gateway, neuron_id="web-app", capabilities=[reverse]) as neuron,
            GatewayClient(gateway) as client,
        ):
            yield {"neuron": neuron, "client": client}
        # Here the neuron has drained: the server waits for that before it goes. A neuron that the gateway will not have
        # any more ends the `yield` by an exception; a server that goes on serving all the same fails its health check.

    routes = [Route("/neuron", show_neuron), Route("/reversed", submit, methods=["POST"])]
    return Starlette(routes=routes, lifespan=lifespan)


async def show_neuron(request: Request) -> Response:
    """Show how the neuron stands; with 503 when it takes no work any more, so that this can be a health check."""
    neuron: Neuron = request.state.neuron
    snapshot = neuron.snapshot()
    status = HTTPStatus.SERVICE_UNAVAILABLE if snapshot.draining else HTTPStatus.OK
    return Response(msgspec.json.encode(snapshot), status_code=status, media_type="application/json")


async def submit(request: Request) -> Response:
    """Submit a task with the request's body, which any neuron may get, and answer with its result."""
    client: GatewayClient = request.state.client
    task = await client.submit(reverse.terms.type, (await request.body()).decode("utf-8", "replace"))
    try:
        output = await client.result(task.task_id, timeout=PATIENCE)
    except TimeoutError:
        return JSONResponse({"taskId": task.task_id}, status_code=HTTPStatus.ACCEPTED)
    except (TaskFailed, TaskCancelled) as error:
        return JSONResponse({"taskId": task.task_id, "error": str(error)}, status_code=HTTPStatus.BAD_GATEWAY)
    return JSONResponse({"taskId": task.task_id, "output": output})


app = create_app(os.environ.get("BIGBRAIN_GATEWAY_URL", "http://127.0.0.1:8787"))
