"""Replies that are read while they come, and what closing does to everything under way."""

from __future__ import annotations

import anyio
import anyio.abc
import anyio.lowlevel
import pytest

from neuron_anyio.errors import TransportError
from neuron_anyio.http1 import (
    Endpoint,
    ExchangeFailed,
    ExchangeTimedOut,
    Http1Transport,
    PoolStatistics,
    RawReply,
    ReplyRefused,
)
from tests.runtime.http1_server import OK, Peer, answering, hang, serving, unattended

pytestmark = pytest.mark.anyio


async def post(transport: Http1Transport, endpoint: Endpoint) -> RawReply:
    with anyio.fail_after(10):
        return await transport.request("POST", endpoint, [], b"{}", timeout=5, max_reply_bytes=1000)


async def test_a_stream_gives_chunks_as_they_come_and_has_no_time_limit_of_its_own() -> None:
    step = anyio.Event()

    async def events(peer: Peer) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        for event in (b"data: 1\n\n", b"data: 2\n\n"):
            await peer.send(b"%x\r\n%b\r\n" % (len(event), event))
            await step.wait()
        await peer.send(b"0\r\n\r\n")
        await peer.wait_closed()

    async with serving(events) as server, Http1Transport() as transport:
        deadline = anyio.current_effective_deadline()
        async with transport.stream("GET", server.endpoint(), [(b"accept", b"text/event-stream")], timeout=5) as (
            status,
            headers,
            chunks,
        ):
            assert (status, headers[0]) == (200, (b"content-type", b"text/event-stream"))
            assert anyio.current_effective_deadline() == deadline
            assert await anext(chunks) == b"data: 1\n\n"
            step.set()
            assert [chunk async for chunk in chunks] == [b"data: 2\n\n"]
            assert transport.statistics().idle == 1
        assert server.requests[0].header("accept") == "text/event-stream"


@pytest.mark.parametrize(
    ("framing", "body", "clean"),
    [
        (b"", b"abc", True),
        (b"Content-Length: 3\r\n", b"abc", True),
        (b"Content-Length: 4\r\n", b"abc", False),
        (b"Transfer-Encoding: chunked\r\n", b"3\r\nabc\r\n0\r\n\r\n", True),
        (b"Transfer-Encoding: chunked\r\n", b"3\r\nabc\r\n", False),
        (b"Transfer-Encoding: chunked\r\n", b"4\r\nabc", False),
    ],
)
async def test_a_stream_ends_cleanly_only_where_its_reply_does(framing: bytes, body: bytes, clean: bool) -> None:
    reply = b"HTTP/1.1 200 OK\r\n" + framing + b"\r\n" + body
    got = b""
    async with serving(answering(reply, close=True)) as server, Http1Transport() as transport:
        with anyio.fail_after(5):
            async with transport.stream("GET", server.endpoint(), [], timeout=5) as reply_stream:
                try:
                    async for chunk in reply_stream.chunks:
                        got += chunk
                    ended = True
                except ReplyRefused:
                    ended = False
        assert (got, ended) == (b"abc", clean)
        assert transport.statistics().active == 0


async def test_a_stream_left_early_costs_its_connection() -> None:
    async def endless(peer: Peer) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            await peer.send(b"x" * 1000)

    async with serving(endless) as server, Http1Transport() as transport:
        async with transport.stream("GET", server.endpoint(), [], timeout=5) as reply:
            assert await anext(reply.chunks)
        await server.wait_open(0)
        assert transport.statistics().places == 0
        with pytest.raises(ExchangeFailed, match="after the reply was closed"):
            await anext(reply.chunks)


async def test_a_stream_without_headers_in_time_is_a_time_out() -> None:
    async with serving(hang) as server, Http1Transport() as transport:
        stream = transport.stream("GET", server.endpoint(), [], timeout=0.05)
        with pytest.raises(ExchangeTimedOut, match=r"after 0.05 s while waiting for the reply"):
            async with stream:
                pytest.fail("the stream must not open")
        await server.wait_open(0)


async def test_a_stream_is_opened_once() -> None:
    async with serving(answering(OK)) as server, Http1Transport() as transport:
        stream = transport.stream("GET", server.endpoint(), [], timeout=5)
        async with stream:
            pass
        with pytest.raises(RuntimeError, match="was opened before"):
            async with stream:
                pytest.fail("the stream must not open")
        assert len(server.requests) == 1
        assert transport.statistics().active == 0


async def test_an_error_in_the_block_of_a_stream_comes_out_as_it_is() -> None:
    async with serving(answering(OK)) as server, Http1Transport() as transport:
        with pytest.raises(KeyError, match="mine"):
            async with transport.stream("GET", server.endpoint(), [], timeout=5):
                raise KeyError("mine")


async def test_closing_the_transport_ends_a_stream_that_another_task_reads() -> None:
    opened = anyio.Event()

    async def read(transport: Http1Transport, endpoint: Endpoint) -> None:
        async with transport.stream("GET", endpoint, [], timeout=5) as reply:
            opened.set()
            with pytest.raises(ExchangeFailed, match="the HTTP transport was closed"):
                await anext(reply.chunks)

    async def head_only(peer: Peer) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\n\r\n")
        await peer.wait_closed()

    async with serving(head_only) as server, anyio.create_task_group() as tasks:
        transport = Http1Transport()
        with anyio.fail_after(5):
            tasks.start_soon(read, transport, server.endpoint())
            await opened.wait()
            await anyio.wait_all_tasks_blocked()
            await transport.aclose()
    assert transport.statistics().places == 0


# Closing.


async def test_closing_ends_what_is_under_way_and_what_waits() -> None:
    failures: list[str] = []

    async def fails(transport: Http1Transport, endpoint: Endpoint) -> None:
        with pytest.raises(ExchangeFailed, match="the HTTP transport was closed") as caught:
            await post(transport, endpoint)
        failures.append(caught.value.phase)

    asked = anyio.Event()

    async def hangs(peer: Peer) -> None:
        await peer.request()
        asked.set()
        await peer.wait_closed()

    async with serving(hangs) as server, unattended() as silent, anyio.create_task_group() as tasks:
        transport = Http1Transport(max_connections=2)
        tasks.start_soon(fails, transport, server.endpoint())
        await asked.wait()
        tasks.start_soon(fails, transport, Endpoint.parse(silent))
        while transport.statistics().active < 2:
            await anyio.lowlevel.checkpoint()
        tasks.start_soon(fails, transport, server.endpoint())
        while not transport.statistics().waiting:
            await anyio.lowlevel.checkpoint()
        await transport.aclose()
        await server.wait_open(0)
        with pytest.raises(ExchangeFailed, match="the HTTP transport was closed"):
            await post(transport, server.endpoint())
        await transport.aclose()
    assert sorted(failures) == ["pool", "read", "read"]
    assert transport.statistics() == PoolStatistics(places=0, active=0, idle=0, waiting=0)


async def test_a_connection_that_comes_up_after_the_closing_is_closed() -> None:
    async with serving(answering(OK)) as server, anyio.create_task_group() as tasks:
        transport = Http1Transport()

        async def fails() -> None:
            with pytest.raises(TransportError, match="the HTTP transport was closed"):
                await post(transport, server.endpoint())

        tasks.start_soon(fails)
        while not transport.statistics().places:
            await anyio.lowlevel.checkpoint()
        await transport.aclose()
        await server.wait_open(0)
    assert transport.statistics().places == 0


async def test_a_connection_given_back_after_the_closing_is_not_kept() -> None:
    async with serving(answering(OK)) as server:
        transport = Http1Transport()
        pool, origin = transport._pool, server.endpoint().origin
        assert await pool.acquire(origin) is None
        connection = await transport._connect(origin)
        pool.adopt(connection)
        await transport.aclose()
        pool.release(connection, reusable=True)
        await server.wait_open(0)
        assert transport.statistics() == PoolStatistics(places=0, active=0, idle=0, waiting=0)


async def test_closing_does_not_look_like_a_dead_connection_that_is_worth_another_try() -> None:
    async def one_then_hang(peer: Peer) -> None:
        await peer.request()
        await peer.send(OK)
        await hang(peer)

    async with serving(one_then_hang) as server:
        transport = Http1Transport()
        await post(transport, server.endpoint())

        async def fails() -> None:
            with pytest.raises(ExchangeFailed, match="the HTTP transport was closed"):
                await post(transport, server.endpoint())

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(fails)
            while len(server.requests) < 2:
                await anyio.lowlevel.checkpoint()
            await transport.aclose()
        await anyio.wait_all_tasks_blocked()
        assert server.connections == 1
