"""A cancellation at any await costs a connection at most, never a place in the pool."""

from __future__ import annotations

import asyncio
import random
import ssl
from collections.abc import Awaitable, Callable

import anyio
import anyio.abc
import anyio.lowlevel
import pytest
import trustme

from neuron_anyio.http1 import Endpoint, Http1Transport
from tests.runtime.http1_server import OK, Peer, Server, answering, serving

pytestmark = [pytest.mark.anyio, pytest.mark.thorough]

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"


async def piecemeal(peer: Peer) -> None:
    while True:
        await peer.request()
        for start in range(0, len(CHUNKED), 12):
            await peer.send(CHUNKED[start : start + 12])


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def server_context(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    return context


def client_context(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


async def post(transport: Http1Transport, endpoint: Endpoint, body: bytes = b"{}") -> int:
    reply = await transport.request("POST", endpoint, [], body, timeout=10, max_reply_bytes=1000)
    return reply.status


async def cancelled_after(turns: int, work: Callable[[], Awaitable[object]]) -> bool:
    """Cancel work after so many turns of the loop; return whether it got through before."""
    finished = False

    async def run() -> None:
        nonlocal finished
        await work()
        finished = True
        tasks.cancel_scope.cancel()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(run)
        for _ in range(turns):
            await anyio.lowlevel.checkpoint()
        tasks.cancel_scope.cancel()
    return finished


async def assert_whole(transport: Http1Transport, server: Server, max_connections: int) -> None:
    """Check that nothing is held, nothing leaked, and every place still works."""
    now = transport.statistics()
    assert (now.active, now.waiting, now.places) == (0, 0, now.idle)
    await server.wait_open(now.idle)
    async with anyio.create_task_group() as tasks:
        for _ in range(3 * max_connections):
            tasks.start_soon(post, transport, server.endpoint("/after"))
    assert transport.statistics().idle <= max_connections
    assert len([seen for seen in server.requests if seen.target == "/after"]) >= 3 * max_connections


@pytest.mark.parametrize("body", [b"{}", b"x" * 300_000], ids=["small", "large"])
@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
async def test_every_turn_of_an_exchange_may_be_its_last(tls: bool, body: bytes, authority: trustme.CA) -> None:
    """From the first turn on, and one later each time, until an exchange gets through."""
    with anyio.fail_after(30):
        async with (
            serving(piecemeal, ssl_context=server_context(authority) if tls else None) as server,
            Http1Transport(ssl_context=client_context(authority), max_connections=1) as transport,
        ):
            for idle in ("none", "alive", "dead"):
                turns, through = 0, False
                while not through:
                    if idle != "none":
                        await post(transport, server.endpoint())
                    if idle == "dead":
                        for connection in transport._pool._idle:
                            connection.close()
                    through = await cancelled_after(turns, lambda: post(transport, server.endpoint(), body))
                    turns += 1 if turns < 30 else 3
                    now = transport.statistics()
                    assert (now.active, now.waiting, now.places) == (0, 0, now.idle)
                assert turns > 3
            await assert_whole(transport, server, 1)


@pytest.mark.parametrize("anyio_backend", ["asyncio", ("asyncio", {"use_uvloop": True})], ids=["asyncio", "uvloop"])
async def test_asyncios_own_cancellation_leaves_the_pool_working() -> None:
    """It respects no shield, and strikes though the awaited thing has happened already."""
    chance = random.Random(13)
    with anyio.fail_after(30):
        async with serving(answering(OK)) as server, Http1Transport(max_connections=2) as transport:

            async def one() -> None:
                task = asyncio.create_task(post(transport, server.endpoint()))
                for _ in range(chance.randrange(30)):
                    await asyncio.sleep(0)
                task.cancel()
                await asyncio.wait([task])
                assert task.cancelled() or task.result() == 200

            async with anyio.create_task_group() as tasks:
                for _ in range(200):
                    tasks.start_soon(one)
            await assert_whole(transport, server, 2)


async def test_a_cancelled_stream_gives_its_place_back() -> None:
    async def endless(peer: Peer) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            await peer.send(b"x" * 1000)
            await anyio.lowlevel.checkpoint()

    with anyio.fail_after(10):
        async with serving(endless) as server, Http1Transport(max_connections=1) as transport:
            for turns in range(40):

                async def read() -> None:
                    async with transport.stream("GET", server.endpoint(), [], timeout=5) as reply:
                        async for _ in reply.chunks:
                            pass

                assert not await cancelled_after(turns, read)
                assert transport.statistics().places == 0
            await server.wait_open(0)
