"""`open_gateway`: the gateway served over real HTTP inside the running event loop."""

from __future__ import annotations

import errno
import logging
import math
import os
import socket
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from importlib import import_module
from typing import TYPE_CHECKING, Any, cast

import anyio

from neuron_anyio.backoff import Backoff
from neuron_anyio.errors import NeuronError
from neuron_anyio.logs import named
from neuron_anyio.taskgroups import body_task_group

from .book import Bounds
from .gateway import BODY_BYTES, KEEP_ALIVE, STREAM_BYTES, Gateway
from .ledger import BOUNDS, RETRY
from .principals import Access
from .store import Store

if TYPE_CHECKING:
    from starlette.types import ASGIApp

__all__ = ["BindError", "open_gateway"]

BACKLOG = 1024
"""Connections that the system accepts ahead: a fleet of neurons that reconnects at once."""

IDLE = 75.0
"""Seconds for which an idle connection is kept: longer than a heartbeat interval, so that posts find one open."""

UNACKNOWLEDGED = 30_000
"""Milliseconds after which a connection whose peer takes nothing is given up, where the system can tell."""

GRACE = 0.4
"""Seconds that readers have to take the end of their streams when the gateway closes."""

LAST = 0.4
"""Seconds that the server has to see that the connections of those who did not were shut down."""

log: logging.Logger = logging.getLogger("neuron_anyio.gateway.http")


class BindError(NeuronError):
    """The gateway cannot listen where it should. The message names address and remedy."""


@asynccontextmanager
async def open_gateway(
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    auth: Access = None,
    max_attempts: int = 3,
    lease_ttl: float = 60.0,
    retry: Backoff = RETRY,
    keep_alive: float = KEEP_ALIVE,
    store: Store | None = None,
    bounds: Bounds = BOUNDS,
    body_bytes: int = BODY_BYTES,
    stream_bytes: int = STREAM_BYTES,
) -> AsyncGenerator[Gateway]:
    """Serve a gateway while the block runs. It is reachable at `gateway.url` from the first line of the block.

    Leaving ends all streams without a `disconnect` and takes less than a second.

    Args:
        host: address or name to listen on.
        port: 0 picks a free one.
        auth: None for everybody; a token; a mapping from tokens to `Principal`s; a callable, sync or async, from a
            token to its principal or None.
        max_attempts: tries of a task that names no number itself.
        lease_ttl: seconds of a lease, for capabilities that name none.
        retry: back-off between the tries of a task.
        keep_alive: seconds between comments on a silent stream.
        store: where tasks are kept; in memory when None.
        bounds: how much is kept.
        body_bytes: largest request body.
        stream_bytes: what may wait for one stream's reader; a slower one loses its stream, not its leases.

    Raises:
        BindError: the address cannot be listened on.
        ImportError: the packages of the extra `gateway` are missing.
        ValueError: an argument is wrong.
    """
    serve, config = _server()
    from .app import create_app  # noqa: PLC0415 - Starlette is an extra, and `_server` has looked for it

    gateway = Gateway(
        auth=auth,
        max_attempts=max_attempts,
        lease_ttl=lease_ttl,
        retry=retry,
        keep_alive=keep_alive,
        store=store,
        bounds=bounds,
        body_bytes=body_bytes,
        stream_bytes=stream_bytes,
    )
    application = create_app(gateway)
    listener = await _listen(host, port)
    gateway.url = _url(listener)
    async with gateway.running(), _served(gateway, application, listener, serve, config):
        yield gateway


def _server() -> tuple[Callable[..., Awaitable[None]], Any]:
    """Return the server for the running event loop, and a configuration for it."""
    # The server has one module for each backend; nothing else in the package asks which one runs.
    on_trio = (trio := sys.modules.get("trio")) is not None and trio.lowlevel.in_trio_run()
    try:
        import_module("starlette")
        backend = "hypercorn.trio" if on_trio else "hypercorn.asyncio"
        serve: Any = import_module(backend).serve
        config: Any = import_module("hypercorn.config").Config()
        _allow_http1_only(import_module("hypercorn.protocol.h11").H11Protocol)
        _allow_prompt_close(import_module(f"{backend}.tcp_server").TCPServer)
    except ImportError as error:
        missing = error.name or "a package"
        remedy = "pip install 'neuron-anyio[gateway]'"
        raise ImportError(f"the gateway needs {missing}, which is not installed: {remedy}", name=error.name) from error
    if log.level == logging.NOTSET:
        log.setLevel(logging.WARNING)  # at INFO the server greets, naming a key that is not its own to handle
    config.http1_only = config.prompt_close = True
    config.errorlog = log
    config.accesslog = None
    config.backlog = BACKLOG
    config.include_server_header = False
    config.keep_alive_timeout = IDLE
    config.keep_alive_max_requests = sys.maxsize
    config.graceful_timeout = GRACE
    return serve, config


def _allow_http1_only(protocol: Any) -> None:
    """Let servers whose configuration says so stay with HTTP/1.1.

    The server offers every client a change to HTTP/2 and has no switch for it; a request that makes the change and gets
    it wrong ends the whole server on trio. Servers of others in this process keep what they have.
    """
    check = protocol._check_protocol  # noqa: SLF001 - there is no public place
    if getattr(check, "is_ours", False):
        return

    async def check_unless_http1_only(self: Any, event: Any) -> None:
        if not getattr(self.config, "http1_only", False):
            await check(self, event)

    setattr(check_unless_http1_only, "is_ours", True)  # noqa: B010 - functions have no such attribute to a type checker
    protocol._check_protocol = check_unless_http1_only  # noqa: SLF001 - as above


def _allow_prompt_close(server: Any) -> None:
    """Let servers whose configuration says so end a connection when its client has closed it.

    The server waits for the next request all the same, as long as for any idle client, with a socket and three tasks.
    """
    read = server._read_data  # noqa: SLF001 - there is no public place
    if getattr(read, "is_ours", False):
        return

    async def read_until_closed(self: Any) -> None:
        await read(self)
        if getattr(self.config, "prompt_close", False):
            self._idle_timeout = self._initiate_server_close  # where an answer is still under way it is idle once more
            await self.idle_task.stop()

    setattr(read_until_closed, "is_ours", True)  # noqa: B010 - functions have no such attribute to a type checker
    server._read_data = read_until_closed  # noqa: SLF001 - as above


@asynccontextmanager
async def _served(
    gateway: Gateway, app: ASGIApp, listener: socket.socket, serve: Callable[..., Awaitable[None]], config: Any
) -> AsyncGenerator[None]:
    stop, done = anyio.Event(), anyio.Event()
    serving: list[anyio.CancelScope] = []
    port = listener.getsockname()[1]
    config.bind = [f"fd://{listener.detach()}"]

    async def run() -> None:
        # Cut off in its own shutdown the server would leave its connections behind: it ends by `stop` alone.
        try:
            with anyio.move_on_after(math.inf, shield=True) as scope:
                serving.append(scope)
                await serve(app, config, shutdown_trigger=stop.wait)
        finally:
            done.set()

    async with body_task_group() as tasks:
        tasks.start_soon(run)
        try:
            yield
        finally:
            gateway.close()
            stop.set()
            with anyio.move_on_after(GRACE, shield=True):
                await done.wait()
            if not done.is_set():
                _shut_down_connections(port)
                with anyio.move_on_after(LAST, shield=True) as last:
                    await done.wait()
                if last.cancelled_caught:
                    log.warning("the server did not end by itself and is cut off", extra=named("gateway.cut_off"))
                    for scope in serving:
                        scope.cancel()


async def _listen(host: str, port: int) -> socket.socket:
    try:
        found = await anyio.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        raise BindError(f"host {host!r} is not known ({error.strerror}); give an address of this machine") from error
    family, kind, protocol, _, address = found[0]
    listener = socket.socket(family, kind, protocol)
    try:
        if os.name == "posix":
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNACKNOWLEDGED)
        listener.bind(address)
        listener.listen(BACKLOG)
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        raise BindError(f"cannot listen on {host} port {port}: {_why(error)}") from error
    return listener


def _why(error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return "something else listens there; stop it, or give another port (port=0 picks a free one)"
    if error.errno == errno.EACCES:
        return "that needs more rights; give a port above 1023"
    if error.errno == errno.EADDRNOTAVAIL:
        return "the address is not one of this machine; give 127.0.0.1, or 0.0.0.0 for all"
    return error.strerror or type(error).__name__


def _url(listener: socket.socket) -> str:
    host, port = cast("tuple[str, int]", listener.getsockname()[:2])
    reachable = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - compared, not bound
    return f"http://[{reachable}]:{port}" if ":" in reachable else f"http://{reachable}:{port}"


def _shut_down_connections(port: int) -> None:
    """Shut down every connection that was accepted on a port.

    A peer that does not read leaves the server inside a write that cannot be cancelled, for as long as the peer lives,
    and the server gives nobody a handle to its connections. The system knows them.
    """
    with suppress(OSError):
        for name in os.listdir("/dev/fd"):  # noqa: PTH208 - numbers, not paths
            with suppress(OSError):
                _shut_down(int(name), port)


def _shut_down(descriptor: int, port: int) -> None:
    copy = os.dup(descriptor)
    try:
        connection = socket.socket(fileno=copy)
    except OSError:
        os.close(copy)  # not a socket
        raise
    with connection:
        internet = connection.family in (socket.AF_INET, socket.AF_INET6) and connection.type == socket.SOCK_STREAM
        if internet and connection.getsockname()[1] == port:
            connection.shutdown(socket.SHUT_RDWR)
