"""A listening port that can go away and come back, and hang up on everybody."""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TypeAlias

import anyio
from anyio import CancelScope
from anyio.abc import TaskGroup, TaskStatus

from .fault_connection import Connection

__all__ = ["HOST", "Server"]

HOST = "127.0.0.1"
BACKLOG = 128

CLOSING = 1.0
"""Seconds that closing a socket may take, also when everything is cancelled."""
Handler: TypeAlias = Callable[[Connection], Awaitable[None]]


class Server:
    """A TCP server on a loopback port of its own.

    Args:
        handler: serves one connection; when it returns, the connection is closed.

    Attributes:
        port: its port; nobody else gets it, whether the server listens or not.
    """

    def __init__(self, handler: Handler) -> None:
        self._handler = handler
        self._connections: dict[Connection, CancelScope] = {}
        self._listening = CancelScope()
        self._away = 0.0
        self._socket = _reserve(0)
        self.port: int = self._socket.getsockname()[1]

    @property
    def connections(self) -> int:
        """Open connections."""
        return len(self._connections)

    def hang_up(self, *, reset: bool = False) -> None:
        """Close every connection, with a reset if so asked."""
        for connection, scope in self._connections.items():
            if reset:
                connection.reset()
            scope.cancel()

    def go_away(self, seconds: float) -> None:
        """Do not listen for some time; connections that are open stay so."""
        self._away = seconds
        self._listening.cancel()

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled; started when the port listens, or refuses because it was told so before."""
        try:
            async with anyio.create_task_group() as group:
                if self._away:
                    task_status.started()
                    task_status = anyio.TASK_STATUS_IGNORED
                while True:
                    await anyio.sleep(self._away)
                    self._away = 0.0
                    self._socket.listen(BACKLOG)
                    task_status.started()
                    task_status = anyio.TASK_STATUS_IGNORED
                    with CancelScope() as self._listening:
                        await self._accept(group)
                    self._socket.close()
                    self._socket = _reserve(self.port)
        finally:
            self._socket.close()

    async def _accept(self, group: TaskGroup) -> None:
        # A listener's `accept` that is cancelled as a connection comes drops it unclosed on asyncio; this cannot.
        while True:
            await anyio.wait_readable(self._socket)
            with suppress(OSError):  # it is gone already
                raw, _ = self._socket.accept()
                group.start_soon(self._serve, raw)

    async def _serve(self, raw: socket.socket) -> None:
        try:
            connection = await Connection.of(raw)
        except (OSError, ValueError):
            raw.close()  # whoever it was has gone already
            return
        except BaseException:  # a cancellation, too, must not leave the socket open
            raw.close()
            raise
        try:
            with CancelScope() as scope:
                self._connections[connection] = scope
                await self._handler(connection)
        finally:
            del self._connections[connection]
            with anyio.move_on_after(CLOSING, shield=True):
                await connection.close()


def _reserve(port: int) -> socket.socket:
    """Bind a port without listening: whoever connects is refused, and nobody else gets it."""
    reserved = socket.socket()
    reserved.setblocking(False)
    reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    reserved.bind((HOST, port))
    return reserved
