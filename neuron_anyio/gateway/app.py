"""The gateway as an ASGI application: its routes, and how every error becomes a problem document."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeAlias

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from neuron_anyio.logs import named

from .caller_routes import CallerRoutes
from .gateway import Gateway
from .neuron_routes import NeuronRoutes
from .problems import Refused, problem
from .replies import json_reply, problem_reply

__all__ = ["create_app"]

log: logging.Logger = logging.getLogger("neuron_anyio.gateway")

Endpoint: TypeAlias = Callable[[Request], Awaitable[Response]]


def create_app(gateway: Gateway) -> Starlette:
    """Make the ASGI application of a gateway, and make it known as `gateway.app`.

    Its lifespan runs the gateway unless somebody runs it already: a server other than `open_gateway`'s must speak
    ASGI's lifespan protocol.
    """

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncGenerator[None]:
        if gateway.is_running:
            yield
        else:
            async with gateway.running():
                yield

    neurons, callers = NeuronRoutes(gateway), CallerRoutes(gateway)
    routes: dict[str, dict[str, Endpoint]] = {
        "/neuron/events": {"GET": neurons.events},
        "/neuron/{kind}": {"POST": neurons.post},
        "/tasks": {"POST": callers.submit, "GET": callers.tasks},
        "/tasks/{task_id}": {"GET": callers.task},
        "/tasks/{task_id}/events": {"GET": callers.events},
        "/tasks/{task_id}/cancel": {"POST": callers.cancel},
        "/neurons": {"GET": callers.neurons},
        "/capabilities": {"GET": callers.capabilities},
        "/livez": {"GET": _livez},
        "/readyz": {"GET": _readyz(gateway)},
    }
    gateway.app = app = Starlette(
        routes=[Route(path, _by_method(endpoints), methods=list(endpoints)) for path, endpoints in routes.items()],
        lifespan=lifespan,
        exception_handlers={Refused: _refused, HTTPException: _not_routed, ClientDisconnect: _gone},
    )
    app.router.redirect_slashes = False  # a redirect would go where the request's Host says
    return app


async def _livez(_: Request) -> Response:
    return json_reply({"ok": True})


def _readyz(gateway: Gateway) -> Endpoint:
    async def readyz(_: Request) -> Response:
        if gateway.is_running:
            return json_reply({"ok": True})
        return problem_reply(problem(503, "closing", "the gateway is closing"))

    return readyz


async def _refused(_: Request, error: Exception) -> Response:
    assert isinstance(error, Refused)
    return problem_reply(error.problem)


async def _not_routed(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    detail = f"there is nothing at {request.method} {request.url.path[:200]}"
    code = {404: "no-such-route", 405: "method-not-allowed"}.get(error.status_code, "http")
    reply = problem_reply(problem(error.status_code, code, detail))
    reply.headers.update(error.headers or {})
    return reply


async def _gone(_: Request, __: Exception) -> Response:
    return Response(status_code=400)  # nobody is there to read it


def _by_method(endpoints: dict[str, Endpoint]) -> Endpoint:
    async def run(request: Request) -> Response:
        try:
            return await endpoints["GET" if request.method == "HEAD" else request.method](request)
        except (Refused, HTTPException, ClientDisconnect):
            raise
        except Exception as error:
            return _failed(request, error)

    return run


def _failed(request: Request, error: Exception) -> Response:
    # The exception's text might quote a body; what it is and where it was raised says enough.
    frames = error.__traceback__
    while frames is not None and frames.tb_next is not None:
        frames = frames.tb_next
    where = "" if frames is None else f" at {frames.tb_frame.f_code.co_filename}:{frames.tb_lineno}"
    line = named("gateway.request_failed", method=request.method, error=type(error).__name__)
    log.error("%s %s failed: %s%s", request.method, request.url.path, type(error).__name__, where, extra=line)
    return problem_reply(problem(500, "internal-error", "the gateway failed; its log says where"))
