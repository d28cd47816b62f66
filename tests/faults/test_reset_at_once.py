"""A gateway, or what stands before it, that accepts each connection and resets it at once."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import anyio
import pytest

from neuron_anyio import Backoff, Timing, capability, open_neuron

pytestmark = [pytest.mark.anyio, pytest.mark.thorough]

CONNECTIONS = 300
RESET = struct.pack("ii", 1, 0)


class Resetting:
    """Counts the connections that it has reset."""

    def __init__(self, listener: socket.socket) -> None:
        self.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        self.connections = 0
        self._listener = listener

    def run(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            connection.close()


@contextmanager
def resetting() -> Iterator[Resetting]:
    """Run it in a thread: only another thread can be faster than the loop that has just connected."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = Resetting(listener)
        thread = threading.Thread(target=server.run)
        thread.start()
        try:
            yield server
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


@capability("test/echo")
async def echo(value: str) -> str:
    return value


async def test_C5_connections_that_are_reset_at_once_are_an_outage_and_not_the_end() -> None:
    timing = Timing(reconnect=Backoff(initial=0.0001, maximum=0.0002))
    with resetting() as server:
        async with anyio.create_task_group() as group:

            async def leave_after_enough() -> None:
                with anyio.move_on_after(10):
                    while server.connections < CONNECTIONS:  # noqa: ASYNC110 - the count is another thread's
                        await anyio.sleep(0.01)
                group.cancel_scope.cancel()

            group.start_soon(leave_after_enough)
            async with open_neuron(server.url, neuron_id="neuron-1", capabilities=[echo], timing=timing):
                raise AssertionError
    assert server.connections >= CONNECTIONS
