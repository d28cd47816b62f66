"""A transport outlives its loop, and no loop keeps a transport alive. The server is a thread: loops come and go."""

from __future__ import annotations

import contextvars
import gc
import socket
import threading
import time
import warnings
import weakref
from collections.abc import Generator
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest

from neuron_anyio.http1 import Http1Transport
from tests.runtime.http1_server import OK

LOOPS: dict[str, dict[str, Any]] = {
    "asyncio": {"backend": "asyncio"},
    "uvloop": {"backend": "asyncio", "backend_options": {"use_uvloop": True}},
    "trio": {"backend": "trio"},
}
VARIABLE: contextvars.ContextVar[object] = contextvars.ContextVar("VARIABLE")


def _answer(connection: socket.socket) -> None:
    with connection:
        while data := connection.recv(65536):
            if data.endswith(b"{}"):
                time.sleep(0.02)  # so that the client has to wait
                connection.sendall(OK)


@pytest.fixture
def url() -> Generator[str]:
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=_answer, args=(connection,), daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    yield f"http://127.0.0.1:{listener.getsockname()[1]}/"
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()


async def post(transport: Http1Transport, url: str) -> bytes:
    with anyio.fail_after(5):
        return (await transport.request("POST", url, [], b"{}", timeout=3, max_reply_bytes=100)).body


@pytest.mark.parametrize("first", LOOPS)
@pytest.mark.parametrize("second", LOOPS)
def test_a_transport_goes_on_in_the_loop_of_a_later_run(url: str, first: str, second: str) -> None:
    transport = Http1Transport()
    for name in (first, second, first):
        for _ in range(2):
            assert anyio.run(partial(post, transport, url), **LOOPS[name]) == b"ok"
    anyio.run(transport.aclose, **LOOPS[second])
    assert transport.statistics().places == 0


def descriptors() -> int:
    return len(list(Path("/dev/fd").iterdir()))


@pytest.mark.parametrize("loop", LOOPS)
def test_a_transport_that_nobody_has_closed_goes_with_its_last_user_and_its_sockets_with_it(
    url: str, loop: str
) -> None:
    async def main() -> None:
        await post(Http1Transport(), url)
        gc.collect()
        before = descriptors()
        for _ in range(20):
            await post(Http1Transport(), url)
        gc.collect()
        with anyio.fail_after(5):
            while descriptors() > before + 2:  # noqa: ASYNC110 - the server's ends close in threads
                await anyio.sleep(0.01)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # of the sockets: that they are left is what is tested
        anyio.run(main, **LOOPS[loop])
        gc.collect()


class Api:
    """Holds a client that holds a method of it: an ordinary circle, of which the collector closes the sockets first."""

    def __init__(self) -> None:
        self.client = httpx.AsyncClient(transport=Http1Transport(), event_hooks={"response": [self.note]})

    async def note(self, reply: httpx.Response) -> None:
        del reply


@pytest.mark.parametrize("loop", LOOPS)
def test_what_the_garbage_collector_closes_takes_nobodys_file_descriptor_along(url: str, loop: str) -> None:
    async def main() -> None:
        for _ in range(5):
            assert (await Api().client.post(url, content=b"{}")).text == "ok"
            gc.collect()
            ours, theirs = socket.socketpair()
            with ours, theirs:
                for each, other in ((ours, theirs), (theirs, ours)):
                    each.setblocking(False)
                    other.send(b"x")
                    with anyio.fail_after(5):
                        await anyio.wait_readable(each)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # as above
        anyio.run(main, **LOOPS[loop])
        gc.collect()


class _Large:
    pass


@pytest.mark.parametrize("loop", LOOPS)
def test_a_kept_connection_keeps_no_context_variable_of_who_used_it(url: str, loop: str) -> None:
    async def main() -> None:
        transport = Http1Transport()
        kept: list[weakref.ref[_Large]] = []

        async def use() -> None:
            value = _Large()
            VARIABLE.set(value)
            kept.append(weakref.ref(value))
            await post(transport, url)

        async with anyio.create_task_group() as group:
            group.start_soon(use)
        await anyio.wait_all_tasks_blocked()
        gc.collect()
        assert transport.statistics().idle == 1
        assert kept[0]() is None
        await transport.aclose()

    anyio.run(main, **LOOPS[loop])
