"""What the loop watches, it watches once, wakes one task for, and lets go of where nobody reads."""

from __future__ import annotations

import socket
from collections.abc import Generator

import anyio
import anyio.lowlevel
import httpx
import pytest

from neuron_anyio import _http1_readiness, _http1_wire, native_loop
from neuron_anyio._http1_connection import Connection
from neuron_anyio._http1_readiness import Readiness
from neuron_anyio._http1_request import Origin
from neuron_anyio.http1 import ExchangeFailed, ExchangeTimedOut, Http1Transport
from neuron_anyio.wakeup import Wakeup
from tests.runtime.http1_server import OK, Peer, answering, serving

pytestmark = pytest.mark.anyio

KIB = 1024


@pytest.fixture
def pair() -> Generator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.setblocking(False)
    yield ours, theirs
    ours.close()
    theirs.close()


class Counted(Readiness):
    """Counts how often the loop says that there is something."""

    __slots__ = ("looks",)

    def __init__(self, connected: socket.socket) -> None:
        super().__init__(connected)
        self.looks = 0

    def look(self) -> None:
        self.looks += 1
        super().look()


async def turns(count: int) -> None:
    for _ in range(count):
        await anyio.lowlevel.checkpoint()


async def test_a_wait_ends_when_something_comes_and_again_for_the_next_thing(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    ours, theirs = pair
    readiness = Readiness(ours)
    for text in (b"one", b"two", b"three"):
        assert not readiness.now()
        with anyio.fail_after(5):
            async with anyio.create_task_group() as group:
                group.start_soon(readiness.wait)
                await anyio.wait_all_tasks_blocked()
                theirs.send(text)
        assert readiness.now()
        assert ours.recv(10) == text
    readiness.close()


async def test_what_nobody_reads_does_not_keep_the_loop_busy(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    readiness = Counted(ours)
    with anyio.fail_after(5):
        async with anyio.create_task_group() as group:
            group.start_soon(readiness.wait)
            await anyio.wait_all_tasks_blocked()
            theirs.send(b"x")
        await turns(50)
        assert readiness.looks <= 4
        ours.recv(10)
        theirs.send(b"y")
        await readiness.wait()  # the watch is taken up again
    readiness.close()


async def test_one_wait_that_was_cancelled_costs_the_next_one_nothing(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    ours, theirs = pair
    readiness = Readiness(ours)
    for _ in range(3):
        with anyio.move_on_after(0.01) as patience:
            await readiness.wait()
        assert patience.cancelled_caught
    theirs.send(b"x")
    with anyio.fail_after(5):
        await readiness.wait()
    assert ours.recv(10) == b"x"
    readiness.close()


async def test_a_second_task_that_waits_is_refused(pair: tuple[socket.socket, socket.socket]) -> None:
    readiness = Readiness(pair[0])
    async with anyio.create_task_group() as group:
        group.start_soon(readiness.wait)
        await anyio.wait_all_tasks_blocked()
        with pytest.raises(anyio.BusyResourceError):
            await readiness.wait()
        group.cancel_scope.cancel()
    readiness.close()


async def test_closing_wakes_who_waits_and_the_next_socket_of_that_number_is_watched_anew(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    origin = Origin("http", "gateway.example", 80)
    number = pair[0].fileno()
    connection = Connection(origin, pair[0])
    with anyio.fail_after(5):
        async with anyio.create_task_group() as group:

            async def read() -> None:
                with pytest.raises(ExchangeFailed, match="the HTTP transport was closed"):
                    await connection.receive()

            group.start_soon(read)
            await anyio.wait_all_tasks_blocked()
            connection.close()
        other, theirs = socket.socketpair()
        with theirs:
            other.setblocking(False)
            assert number in (other.fileno(), theirs.fileno())  # the system gives the lowest number that is free
            second = Connection(origin, other)
            async with anyio.create_task_group() as group:
                group.start_soon(anyio.lowlevel.checkpoint)
                theirs.setblocking(False)
                theirs.send(b"anew")
                assert await second.receive() == b"anew"
            second.close()


async def test_a_kept_connection_that_the_server_closes_is_not_used_and_not_watched_for_ever() -> None:
    async def once(peer: Peer) -> None:
        await peer.request()
        await peer.send(OK)

    async with serving(once) as server, Http1Transport() as transport:
        with anyio.fail_after(5):
            for _ in range(3):
                reply = await transport.request("POST", server.endpoint(), [], b"{}", timeout=5, max_reply_bytes=100)
                assert reply.body == b"ok"
                await server.wait_open(0)
                await turns(5)
        assert server.connections == 3


async def test_the_time_for_all_holds_over_many_short_waits() -> None:
    async def drips(peer: Peer) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
        while True:
            await peer.send(b"x")
            await anyio.sleep(0.01)

    async with serving(drips) as server, Http1Transport() as transport:
        with anyio.fail_after(5), pytest.raises(ExchangeTimedOut, match=r"after 0\.2 s while waiting for the reply"):
            await transport.request("POST", server.endpoint(), [], b"{}", timeout=0.2, max_reply_bytes=10**6)
        assert transport.statistics().places == 0


async def test_a_server_that_never_lets_the_client_wait_is_out_of_time_too() -> None:
    async def floods(peer: Peer) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            await peer.send(b"x" * 4 * KIB)

    async with serving(floods) as server, Http1Transport() as transport:
        with anyio.fail_after(5), pytest.raises(ExchangeTimedOut, match=r"after 0\.1 s"):
            await transport.request("POST", server.endpoint(), [], b"{}", timeout=0.1, max_reply_bytes=10**12)


async def test_a_queue_before_the_pool_is_a_part_of_the_time_for_all() -> None:
    async def slow(peer: Peer) -> None:
        await peer.request()
        await anyio.sleep(10)

    async with serving(slow) as server, Http1Transport(max_connections=1) as transport:
        with anyio.fail_after(5):
            async with anyio.create_task_group() as group:

                async def first() -> None:
                    async with transport.stream("GET", server.endpoint(), [], timeout=5):
                        pytest.fail("the stream must not open")

                group.start_soon(first)
                await anyio.wait_all_tasks_blocked()
                with pytest.raises(ExchangeTimedOut, match="while waiting for a connection to come free"):
                    await transport.request("POST", server.endpoint(), [], b"{}", timeout=0.05, max_reply_bytes=100)
                group.cancel_scope.cancel()


async def test_replies_that_are_the_same_byte_for_byte_share_nothing_that_can_be_changed() -> None:
    async with serving(answering(OK)) as server, Http1Transport() as transport:
        first, second = [
            await transport.request("POST", server.endpoint(), [], b"{}", timeout=5, max_reply_bytes=100)
            for _ in range(2)
        ]
    assert first == second
    first.headers.clear()
    assert second.header(b"content-length") == b"2"


async def test_C9_what_httpx_is_answered_is_not_kept_in_memory_for_another_reply() -> None:
    secret = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\ns3cr3t"
    async with serving(answering(secret)) as server, httpx.AsyncClient(transport=Http1Transport()) as client:
        assert (await client.post(server.url())).text == "s3cr3t"
    assert secret not in _http1_wire._recalled


async def test_the_same_bytes_are_another_reply_to_another_method() -> None:
    async with serving(answering(OK[:-2])) as server, Http1Transport() as transport:  # a HEAD's reply has no body
        head = await transport.request("HEAD", server.endpoint(), [], b"", timeout=5, max_reply_bytes=100)
        assert (head.status, head.body) == (200, b"")
        with pytest.raises(ExchangeTimedOut):  # to a GET the body is still to come
            await transport.request("GET", server.endpoint(), [], b"", timeout=0.1, max_reply_bytes=100)


async def test_the_native_clock_is_the_loops() -> None:
    clock = native_loop.loop_clock()
    before = anyio.current_time()
    assert before <= clock() <= anyio.current_time()
    assert clock is not anyio.current_time


async def test_a_loop_that_offers_nothing_of_its_own_is_served_by_anyio(
    monkeypatch: pytest.MonkeyPatch, pair: tuple[socket.socket, socket.socket]
) -> None:
    ours, theirs = pair
    for module in (native_loop, _http1_readiness):
        monkeypatch.setattr(module, "native_loop", object)
    assert native_loop.loop_clock() is anyio.current_time
    assert native_loop.event_maker() is anyio.Event
    readiness = Readiness(ours)
    theirs.send(b"x")
    with anyio.fail_after(5):
        await readiness.wait()
    readiness.close()


async def test_a_wakeup_on_native_events_wakes_one_waiter_each_time_and_survives_its_cancellation() -> None:
    wakeup = Wakeup(native_loop.event_maker())
    assert not await wakeup.wait(until=anyio.current_time() + 0.01)
    wakeup.notify()
    wakeup.notify()
    assert await wakeup.wait()
    woken: list[bool] = []

    async def wait() -> None:
        woken.append(await wakeup.wait())

    with anyio.fail_after(5):
        for number in range(3):
            async with anyio.create_task_group() as group:
                group.start_soon(wait)
                await anyio.wait_all_tasks_blocked()
                if number == 1:
                    group.cancel_scope.cancel()
                wakeup.notify()
                wakeup.notify()
            if number == 1:
                assert await wakeup.wait()  # who was cancelled has not taken it
    assert woken == [True, True]
