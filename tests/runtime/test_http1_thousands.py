"""Thousands of requests, cancelled or timed out at random: none costs a place or gets the answer to another."""

from __future__ import annotations

import random
import ssl
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

import anyio
import anyio.lowlevel
import httpx
import pytest
import trustme

from neuron_anyio.errors import TransportError
from neuron_anyio.http1 import Http1Transport
from tests.runtime.http1_server import Peer, Server, reset, serving

pytestmark = [pytest.mark.anyio, pytest.mark.thorough]

PLACES = 4
AT_ONCE = 12
BATCH = 125
LARGE = b"x" * 100_000  # more than is written without an eye on the reply
EMPTY_CHUNK = b"0\r\n\r\n"


# The server: `/<how>/<number>` says how it answers; every reply carries the number of its request.


def reply_to(number: str, *, status: int = 200) -> bytes:
    return b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n%b" % (status, len(number), number.encode())


async def turn(times: int) -> None:
    for _ in range(times):
        await anyio.lowlevel.checkpoint()


async def fast(peer: Peer, number: str) -> None:
    await peer.send(reply_to(number))


async def late(peer: Peer, number: str) -> None:
    await turn(20)
    await peer.send(reply_to(number))


async def pieces(peer: Peer, number: str) -> None:
    wire = b"HTTP/1.1 103 E\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    wire += b"".join(b"1\r\n%c\r\n" % digit for digit in number.encode()) + EMPTY_CHUNK
    for start in range(0, len(wire), 25):
        await peer.send(wire[start : start + 25])
        await turn(2)


async def long(peer: Peer, number: str) -> None:
    await peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    await peer.send(b"%x\r\n%b\r\n" % (len(number), number.encode()))
    for _ in range(10):
        await peer.send(b"2710\r\n" + b" " * 10_000 + b"\r\n")
    await peer.send(EMPTY_CHUNK)


async def twice(peer: Peer, number: str) -> None:
    await peer.send(reply_to(number) + reply_to(number))


async def half(peer: Peer, number: str) -> None:
    await peer.send(reply_to(number + "more")[:-4])
    await peer.wait_closed()


async def never(peer: Peer, number: str) -> None:
    await peer.wait_closed()


async def resets(peer: Peer, number: str) -> None:
    await peer.send(reply_to(number)[:-1])
    reset(peer)


WHOLE = {"fast": fast, "late": late, "pieces": pieces, "long": long, "twice": twice, "closes": fast, "refuses": fast}
HOW = WHOLE | {"half": half, "never": never, "resets": resets}


async def handle(peer: Peer) -> None:
    while True:
        received = await peer.head()
        _, how, number = received.target.split("/")
        if how == "refuses":
            await peer.send(reply_to(number, status=413))
        size = received.header("content-length")
        if received.header("transfer-encoding"):
            await peer._until(EMPTY_CHUNK)
        elif size:
            await peer.exactly(int(size))
        if how != "refuses":
            await HOW[how](peer, number)
        if how in ("closes", "resets"):
            return


# The client: every way to ask. Each returns what it was answered, or "" where it left before.


class Asking:
    def __init__(self, transport: Http1Transport, server: Server) -> None:
        self._transport = transport
        self._client = httpx.AsyncClient(transport=transport, timeout=10, trust_env=False)
        self._server = server

    async def small(self, target: str) -> bytes:
        return await self._post(target, b"{}")

    async def large(self, target: str) -> bytes:
        return await self._post(target, LARGE)

    async def _post(self, target: str, body: bytes) -> bytes:
        url = self._server.url(target)
        reply = await self._transport.request("POST", url, [], body, timeout=10, max_reply_bytes=1_000_000)
        return reply.body

    async def streamed(self, target: str) -> bytes:
        async with self._transport.stream("GET", self._server.url(target), [], timeout=10) as reply:
            return b"".join([chunk async for chunk in reply.chunks])

    async def left(self, target: str) -> bytes:
        async with self._transport.stream("GET", self._server.url(target), [], timeout=10) as reply:
            async for _ in reply.chunks:
                return b""
        return b""

    async def got(self, target: str) -> bytes:
        return (await self._client.get(self._server.url(target))).content

    async def put(self, target: str) -> bytes:
        return (await self._client.put(self._server.url(target), content=LARGE)).content

    async def uploaded(self, target: str) -> bytes:
        request = httpx.Request("POST", self._server.url(target), stream=Upload())
        return (await self._client.send(request)).content

    @property
    def ways(self) -> Mapping[str, Callable[[str], Awaitable[bytes]]]:
        names = ("small", "large", "streamed", "left", "got", "put", "uploaded")
        return {name: getattr(self, name) for name in names}


class Upload(httpx.AsyncByteStream):
    def __init__(self) -> None:
        self._left = 4

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        await anyio.lowlevel.checkpoint()
        if not self._left:
            raise StopAsyncIteration
        self._left -= 1
        return b"x" * 5000


class Storm:
    """Requests at random, and what became of them."""

    def __init__(self, seed: int, transport: Http1Transport, server: Server) -> None:
        self._chance = random.Random(seed)
        self._ways = Asking(transport, server).ways
        self._limiter = anyio.CapacityLimiter(AT_ONCE)
        self._transport = transport
        self._server = server
        self.ended: Counter[str] = Counter()

    async def batch(self, first: int) -> None:
        async with anyio.create_task_group() as tasks:
            for number in range(first, first + BATCH):
                way, how = self._chance.choice(list(self._ways)), self._chance.choice([*WHOLE, *HOW])
                tasks.start_soon(self._one, way, how, number, self._strike(ends_by_itself=how in (*WHOLE, "resets")))
        await self._assert_whole()

    def _strike(self, *, ends_by_itself: bool) -> Callable[[], Awaitable[None]]:
        """Draw when to cancel: after so many turns of the loop, after a time, or never."""
        kind, turns, seconds = self._chance.random(), self._chance.randrange(12), self._chance.random() * 0.02
        if kind < 0.3 and ends_by_itself:
            return anyio.sleep_forever
        if kind < 0.8:
            return lambda: turn(int(1.6**turns))  # 1 to 176
        return lambda: anyio.sleep(seconds)

    async def _one(self, way: str, how: str, number: int, strike: Callable[[], Awaitable[None]]) -> None:
        async with self._limiter:
            with anyio.CancelScope() as scope:

                async def cancel() -> None:
                    await strike()
                    scope.cancel()

                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(cancel)
                    await self._ask(way, how, number)
                    tasks.cancel_scope.cancel()
            self.ended["cancelled"] += scope.cancelled_caught

    async def _ask(self, way: str, how: str, number: int) -> None:
        try:
            answer = await self._ways[way](f"/{how}/{number}")
        except (TransportError, httpx.TransportError) as exc:
            # A kept connection may die under what cannot be sent twice.
            assert how not in WHOLE or way == "uploaded", (way, how, exc)  # noqa: PT017 - it may succeed, too
            self.ended["failed"] += 1
        else:
            if way != "left":
                assert how in WHOLE, (way, how)
                assert answer.rstrip() == b"%d" % number
            self.ended["served"] += 1

    async def _assert_whole(self) -> None:
        """Check that nothing is held, nothing is open, and every place still gives the right answers."""
        now = self._transport.statistics()
        assert (now.active, now.waiting, now.places) == (0, 0, now.idle)
        await self._server.wait_open(now.idle)
        async with anyio.create_task_group() as tasks:
            for number in range(2 * PLACES):
                tasks.start_soon(self._ask, "small", "fast", number)
        assert self._transport.statistics().idle <= PLACES


async def storm(seed: int, *, requests: int, contexts: tuple[ssl.SSLContext | None, ssl.SSLContext | None]) -> None:
    with anyio.fail_after(50):
        async with (
            serving(handle, ssl_context=contexts[0]) as server,
            Http1Transport(ssl_context=contexts[1], max_connections=PLACES) as transport,
        ):
            weather = Storm(seed, transport, server)
            for first in range(1000, 1000 + requests, BATCH):
                await weather.batch(first)
            assert min(weather.ended["cancelled"], weather.ended["served"]) > requests // 5, weather.ended
            assert weather.ended["failed"], weather.ended


@pytest.mark.parametrize("seed", range(4))
async def test_hundreds_of_cancellations_at_random_leave_the_pool_whole(seed: int) -> None:
    """Two thousand in all on each backend."""
    await storm(seed, requests=500, contexts=(None, None))


async def test_cancellations_at_random_leave_the_pool_whole_over_tls() -> None:
    authority = trustme.CA()
    server_context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(server_context)
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    await storm(7, requests=250, contexts=(server_context, trusting))
