"""When a connection is reused, when not, who waits for one, and what a time-out says."""

from __future__ import annotations

import os
import socket
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import anyio
import anyio.abc
import anyio.lowlevel
import pytest

from neuron_anyio.http1 import (
    Endpoint,
    ExchangeTimedOut,
    Http1Transport,
    PoolStatistics,
    RawReply,
    ReplyRefused,
)
from tests.runtime.http1_server import OK, Gate, Handler, Peer, Server, answering, hang, reset, serving, unattended

pytestmark = pytest.mark.anyio


async def post(
    transport: Http1Transport, endpoint: Endpoint, body: bytes = b"{}", *, seconds: float = 5.0, idempotent: bool = True
) -> RawReply:
    with anyio.fail_after(10):
        return await transport.request(
            "POST", endpoint, [], body, timeout=seconds, max_reply_bytes=1000, idempotent=idempotent
        )


async def wait_for(transport: Http1Transport, *, waiting: int) -> None:
    while transport.statistics().waiting != waiting:
        await anyio.lowlevel.checkpoint()


# Waiting in line.


@pytest.mark.parametrize("at_once", [1, 4])
async def test_requests_beyond_the_limit_wait_for_a_connection(at_once: int) -> None:
    async with serving(answering(OK)) as server, Http1Transport(max_connections=at_once) as transport:
        replies: list[RawReply] = []

        async def one() -> None:
            replies.append(await post(transport, server.endpoint()))

        async with anyio.create_task_group() as tasks:
            for _ in range(64):
                tasks.start_soon(one)
        assert [reply.status for reply in replies] == [200] * 64
        assert server.connections == at_once
        assert transport.statistics() == PoolStatistics(places=at_once, active=0, idle=at_once, waiting=0)


@asynccontextmanager
async def one_connection_taken(transport: Http1Transport) -> AsyncGenerator[tuple[Server, Gate, anyio.abc.TaskGroup]]:
    gate = Gate()
    async with serving(gate) as server, anyio.create_task_group() as tasks:
        tasks.start_soon(post, transport, server.endpoint("/first"))
        await gate.asked.wait()
        yield server, gate, tasks


async def test_who_waits_longest_is_served_first() -> None:
    async with (
        Http1Transport(max_connections=1) as transport,
        one_connection_taken(transport) as (server, gate, tasks),
    ):
        for number in range(8):
            tasks.start_soon(post, transport, server.endpoint(f"/{number}"))
            await wait_for(transport, waiting=number + 1)
        gate.go.set()
        await wait_for(transport, waiting=0)
        tasks.start_soon(post, transport, server.endpoint("/late"))
    assert [seen.target for seen in server.requests] == ["/first", *(f"/{n}" for n in range(8)), "/late"]
    assert server.connections == 1


async def test_a_waiter_that_gives_up_leaves_the_line_to_the_next() -> None:
    async with (
        Http1Transport(max_connections=1) as transport,
        one_connection_taken(transport) as (server, gate, tasks),
    ):
        with pytest.raises(
            ExchangeTimedOut, match=r"after 0.02 s while waiting for a connection to come free"
        ) as caught:
            await post(transport, server.endpoint("/gave-up"), seconds=0.02)
        assert caught.value.phase == "pool"
        tasks.start_soon(post, transport, server.endpoint("/next"))
        await wait_for(transport, waiting=1)
        gate.go.set()
    assert [seen.target for seen in server.requests] == ["/first", "/next"]


async def test_a_waiter_cancelled_in_the_moment_it_is_served_passes_its_place_on() -> None:
    async with serving(answering(OK)) as server, Http1Transport(max_connections=1) as transport:
        pool, scope = transport._pool, anyio.CancelScope()

        async def cancelled() -> None:
            with scope:
                await post(transport, server.endpoint("/cancelled"))

        assert await pool.acquire(server.endpoint().origin) is None
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(cancelled)
            await wait_for(transport, waiting=1)
            tasks.start_soon(post, transport, server.endpoint("/next"))
            await wait_for(transport, waiting=2)
            pool.release(None, reusable=False)
            scope.cancel()
        assert [seen.target for seen in server.requests] == ["/next"]
        assert transport.statistics() == PoolStatistics(places=1, active=0, idle=1, waiting=0)


async def test_an_idle_connection_elsewhere_makes_room() -> None:
    async with (
        serving(answering(OK)) as one,
        serving(answering(OK)) as other,
        Http1Transport(max_connections=1) as transport,
    ):
        for _ in range(2):
            await post(transport, one.endpoint())
            await post(transport, other.endpoint())
            await one.wait_open(0)
        assert (one.connections, other.connections) == (2, 2)
        assert transport.statistics().places == 1


async def test_a_waiter_for_another_origin_gets_the_place_but_not_the_connection() -> None:
    async with (
        serving(answering(OK)) as other,
        Http1Transport(max_connections=1) as transport,
        one_connection_taken(transport) as (_, gate, tasks),
    ):
        tasks.start_soon(post, transport, other.endpoint("/elsewhere"))
        await wait_for(transport, waiting=1)
        gate.go.set()
    assert [seen.target for seen in other.requests] == ["/elsewhere"]


# Reuse.


async def test_connections_are_closed_when_unused_for_too_long() -> None:
    async with serving(answering(OK)) as server, Http1Transport(idle_timeout=0.0) as transport:
        for _ in range(3):
            await post(transport, server.endpoint())
            assert server.open <= 2
        assert server.connections == 3
        assert transport.statistics().idle == 1


async def test_no_more_connections_are_kept_than_asked_for() -> None:
    async with serving(answering(OK)) as server, Http1Transport(max_idle=2) as transport:
        async with anyio.create_task_group() as tasks:
            for _ in range(6):
                tasks.start_soon(post, transport, server.endpoint())
        await server.wait_open(2)
        assert transport.statistics() == PoolStatistics(places=2, active=0, idle=2, waiting=0)


async def test_a_connection_that_its_server_closed_is_noticed_before_reuse() -> None:
    async with serving(answering(OK, close=True)) as server, Http1Transport() as transport:
        for served in range(3):
            await post(transport, server.endpoint(), idempotent=False)
            await server.wait_open(0)
            assert server.connections == served + 1
            assert transport.statistics().idle == 1


async def test_bytes_that_nobody_asked_for_spoil_an_idle_connection() -> None:
    sent = anyio.Event()

    async def late_408(peer: Peer) -> None:
        await peer.request()
        await peer.send(OK)
        if peer.number == 1:
            await anyio.wait_all_tasks_blocked()
            await peer.send(b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n")
            sent.set()
            await peer.wait_closed()

    async with serving(late_408) as server, Http1Transport() as transport:
        assert (await post(transport, server.endpoint())).status == 200
        await sent.wait()
        assert (await post(transport, server.endpoint())).status == 200
        assert server.connections == 2


async def test_a_connection_with_bytes_after_its_reply_is_not_reused() -> None:
    async with serving(answering(OK + OK)) as server, Http1Transport() as transport:
        for _ in range(2):
            await post(transport, server.endpoint())
        assert server.connections == 2
        assert transport.statistics().places == 0


def dies_at_second(*, by_reset: bool = False, reply: bytes = b"") -> Handler:
    """Serve; but on the first two connections take a second request only to close."""

    async def handle(peer: Peer) -> None:
        await peer.request()
        await peer.send(OK)
        await peer.request()
        if peer.number > 2:
            await peer.send(OK)
            await peer.wait_closed()
        if reply:
            await peer.send(reply)
        if by_reset:
            reset(peer)

    return handle


@pytest.mark.parametrize("by_reset", [False, True])
async def test_a_kept_connection_that_turns_out_dead_is_replaced_by_a_fresh_one(by_reset: bool) -> None:
    async with serving(dies_at_second(by_reset=by_reset)) as server, Http1Transport() as transport:
        async with anyio.create_task_group() as tasks:
            for _ in range(2):
                tasks.start_soon(post, transport, server.endpoint())
        assert (server.connections, transport.statistics().idle) == (2, 2)
        assert (await post(transport, server.endpoint("/again"))).status == 200
        assert server.connections == 3, "the other idle connection may be as dead"
        assert [seen.target for seen in server.requests[2:]] == ["/again", "/again"]
        assert transport.statistics() == PoolStatistics(places=2, active=0, idle=2, waiting=0)


async def test_a_request_that_must_not_be_repeated_is_not() -> None:
    async with serving(dies_at_second()) as server, Http1Transport() as transport:
        await post(transport, server.endpoint())
        with pytest.raises(ReplyRefused, match="closed the connection without a reply"):
            await post(transport, server.endpoint(), idempotent=False)
        assert (server.connections, len(server.requests)) == (1, 2)
        assert transport.statistics().places == 0


async def test_a_reply_that_has_begun_is_not_asked_for_again() -> None:
    async with serving(dies_at_second(reply=OK[:10])) as server, Http1Transport() as transport:
        await post(transport, server.endpoint())
        with pytest.raises(ReplyRefused, match="cut off in the head"):
            await post(transport, server.endpoint())
        assert len(server.requests) == 2


async def test_a_fresh_connection_that_dies_is_not_replaced() -> None:
    async def takes_and_closes(peer: Peer) -> None:
        await peer.request()

    async with serving(takes_and_closes) as server, Http1Transport() as transport:
        with pytest.raises(ReplyRefused, match="closed the connection without a reply"):
            await post(transport, server.endpoint())
        assert server.connections == 1


async def test_a_large_request_is_repeated_too() -> None:
    async with serving(dies_at_second()) as server, Http1Transport() as transport:
        await post(transport, server.endpoint())
        assert (await post(transport, server.endpoint(), b"x" * 1_000_000)).status == 200
        assert len(server.requests[-1].body) == 1_000_000


async def test_c6_tcp_watches_over_connections_and_small_requests_leave_at_once() -> None:
    wanted = {
        "TCP_NODELAY": 1,
        "TCP_KEEPIDLE": 15,
        "TCP_KEEPINTVL": 5,
        "TCP_KEEPCNT": 3,
        "TCP_USER_TIMEOUT": 30_000,
    }
    for probes in (True, False):
        async with serving(answering(OK)) as server, Http1Transport(keep_alive_probes=probes) as transport:
            await post(transport, server.endpoint())
            [connection] = transport._pool._idle
            with socket.socket(fileno=os.dup(connection._socket.fileno())) as raw:
                assert bool(raw.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)) is probes
                assert raw.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1
                for name, value in wanted.items():
                    if probes and hasattr(socket, name):
                        assert raw.getsockopt(socket.IPPROTO_TCP, getattr(socket, name)) == value


# Time-outs.


async def test_a_time_out_says_what_was_waited_for_and_costs_only_its_connection() -> None:
    async with serving(hang) as server, Http1Transport() as transport:
        with pytest.raises(ExchangeTimedOut, match=r"after 0.05 s while waiting for the reply") as caught:
            await post(transport, server.endpoint(), seconds=0.05)
        assert (caught.value.phase, str(caught.value).startswith(server.origin)) == ("read", True)
        assert transport.statistics().places == 0
        await server.wait_open(0)


async def test_a_server_that_stops_reading_is_timed_out() -> None:
    async with unattended() as silent, Http1Transport() as transport:
        with pytest.raises(ExchangeTimedOut, match="sending the request"):
            await post(transport, Endpoint.parse(silent), b"x" * 20_000_000, seconds=0.2)
        assert transport.statistics().places == 0


async def test_the_time_for_a_connection_includes_the_handshake() -> None:
    async with unattended() as silent, Http1Transport(connect_timeout=0.05) as transport:
        endpoint = Endpoint.parse(silent.replace("http:", "https:"))
        with pytest.raises(ExchangeTimedOut, match=r"after 0.05 s while connecting") as caught:
            await post(transport, endpoint)
        assert caught.value.phase == "connect"
        assert transport.statistics().places == 0


async def test_a_body_that_stops_coming_is_timed_out() -> None:
    async def stops(peer: Peer) -> None:
        await peer.request()
        await peer.send(OK[:-1])
        await peer.wait_closed()

    async with serving(stops) as server, Http1Transport() as transport:
        with pytest.raises(ExchangeTimedOut):
            await post(transport, server.endpoint(), seconds=0.05)
        await server.wait_open(0)
