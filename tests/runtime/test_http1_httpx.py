"""The same pool behind `httpx.AsyncClient`, compared with httpx's own transport."""

from __future__ import annotations

import gzip
from collections.abc import AsyncGenerator, AsyncIterator

import anyio
import httpx
import pytest

from neuron_anyio.http1 import Http1Transport
from tests.runtime.http1_server import OK, Gate, Handler, Peer, answering, hang, reset, serving, unattended

pytestmark = pytest.mark.anyio

MIB = 1024 * 1024


def client_of(transport: httpx.AsyncBaseTransport | None = None, **timeouts: float) -> httpx.AsyncClient:
    timeout = httpx.Timeout(5.0) if not timeouts else httpx.Timeout(5.0, **timeouts)
    return httpx.AsyncClient(transport=transport or Http1Transport(), timeout=timeout)


@pytest.mark.parametrize("line", [b"HTTP/1.1 200 OK", b"HTTP/1.0 404 Not Found", b"HTTP/1.1 500"])
async def test_version_and_reason_are_those_of_httpx(line: bytes) -> None:
    seen: list[tuple[int, str, str]] = []
    async with serving(answering(line + b"\r\nContent-Length: 0\r\n\r\n", close=True)) as server:
        for transport in (httpx.AsyncHTTPTransport(), Http1Transport()):
            async with client_of(transport) as client:
                response = await client.get(server.url())
                seen.append((response.status_code, response.reason_phrase, response.http_version))
    assert seen[0] == seen[1]


async def test_a_client_posts_gets_and_streams_on_one_connection() -> None:
    async def echo(peer: Peer) -> None:
        while True:
            body = gzip.compress((await peer.request()).body)
            head = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(body)
            await peer.send(head + body)

    async with serving(echo) as server, client_of() as client:
        response = await client.post(server.url("/a?b=c"), json={"a": 1})
        assert response.json() == {"a": 1}
        assert (await client.get(server.url())).content == b""
        async with client.stream("PUT", server.url(), content=b"x" * 10) as streamed:
            assert await streamed.aread() == b"x" * 10
        assert server.connections == 1
        [first, *_] = server.requests
        assert (first.method, first.target, first.header("content-length")) == ("POST", "/a?b=c", "7")
        assert first.header("host") == f"127.0.0.1:{server.port}"


async def test_a_large_body_goes_up_in_pieces_and_comes_down_in_pieces() -> None:
    piece = bytes(range(256)) * 256

    async def pieces() -> AsyncGenerator[bytes]:
        for _ in range(20 * MIB // len(piece)):
            yield piece
        yield b""

    async def echo(peer: Peer) -> None:
        received = await peer.request()
        assert received.header("transfer-encoding") == "chunked"
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(received.body))
        await peer.send(received.body)

    with anyio.fail_after(30):
        async with serving(echo) as server, client_of() as client:
            size = 0
            async with client.stream("POST", server.url(), content=pieces()) as response:
                async for chunk in response.aiter_raw():
                    size += len(chunk)
            assert size == 20 * MIB


class Pieces(httpx.AsyncByteStream):
    def __init__(self, *pieces: bytes) -> None:
        self._pieces = pieces
        self.iterated_in: int | None = None
        self.closed = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        self.iterated_in = anyio.get_current_task().id
        try:
            for piece in self._pieces:
                yield piece
        finally:
            self.closed = True


async def test_a_body_of_unknown_length_is_sent_chunked() -> None:
    body = Pieces(b"ab", b"", b"c")
    async with serving(answering(OK)) as server, client_of() as client:
        await client.send(httpx.Request("POST", server.url(), stream=body))
        [seen] = server.requests
        assert (seen.header("transfer-encoding"), seen.body) == ("chunked", b"abc")
        assert body.iterated_in == anyio.get_current_task().id
        assert server.connections == 1


async def test_a_body_in_pieces_may_declare_its_length() -> None:
    async with serving(answering(OK)) as server, client_of() as client:
        request = httpx.Request("POST", server.url(), headers={"Content-Length": "3"}, stream=Pieces(b"ab", b"c"))
        await client.send(request)
        assert server.requests[0].body == b"abc"
        assert server.requests[0].header("transfer-encoding") is None


@pytest.mark.parametrize("pieces", [(b"ab",), (b"abc", b"d")], ids=["shorter", "longer"])
async def test_a_body_that_breaks_its_declared_length_is_an_error_and_costs_the_connection(
    pieces: tuple[bytes, ...],
) -> None:
    transport = Http1Transport()
    async with serving(answering(OK)) as server, client_of(transport) as client:
        request = httpx.Request("POST", server.url(), headers={"Content-Length": "3"}, stream=Pieces(*pieces))
        with pytest.raises(httpx.LocalProtocolError, match="than its content-length"):
            await client.send(request)
        assert transport.statistics().places == 0


async def test_an_error_of_the_body_comes_out_as_it_is() -> None:
    async def broken() -> AsyncGenerator[bytes]:
        yield b"a"
        raise KeyError("mine")

    transport = Http1Transport()
    async with serving(hang) as server, client_of(transport) as client:
        with pytest.raises(KeyError, match="mine"):
            await client.post(server.url(), content=broken())
        assert transport.statistics().places == 0


@pytest.mark.parametrize("then_closes", [True, False])
async def test_a_refusal_stops_a_body_in_pieces_and_closes_it(then_closes: bool) -> None:
    async def refuse(peer: Peer) -> None:
        await peer.head()
        await peer.send(b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 3\r\n\r\nbig")
        if not then_closes:
            await anyio.sleep_forever()

    body = Pieces(*[b"x" * MIB] * 50)
    with anyio.fail_after(10):
        async with serving(refuse) as server, client_of() as client:
            response = await client.send(httpx.Request("POST", server.url(), stream=body))
            assert (response.status_code, response.content) == (413, b"big")
    assert body.closed


async def test_the_head_of_a_refusal_is_enough_to_stop_a_body() -> None:
    async def refuse(peer: Peer) -> None:
        await peer.head()
        await peer.send(b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 3\r\n\r\n")
        await anyio.sleep_forever()

    with anyio.fail_after(10):
        async with (
            serving(refuse) as server,
            client_of() as client,
            client.stream("POST", server.url(), content=b"x" * 20 * MIB) as response,
        ):
            assert response.status_code == 413


@pytest.mark.parametrize(
    ("headers", "content"),
    [
        ({"X-A": "hunter2\r\nX-Evil: 1"}, b""),
        ({"X-A": "hunter2\0"}, b""),
        ({"X A": "hunter2"}, b""),
        ({"Content-Length": "1", "Transfer-Encoding": "chunked"}, b"a"),
        ({"Content-Length": "x"}, b"a"),
        ({"Content-Length": "7"}, b"a"),
    ],
)
async def test_headers_that_cannot_be_sent_are_refused_before_anything_is(
    headers: dict[str, str], content: bytes
) -> None:
    async with serving(answering(OK)) as server, client_of() as client:
        with pytest.raises(httpx.LocalProtocolError) as caught:
            await client.post(server.url(), headers=headers, content=content)
        assert "hunter2" not in str(caught.value)
        assert server.connections == 0


async def test_an_unknown_scheme_or_transfer_encoding_is_refused() -> None:
    async with client_of() as client:
        with pytest.raises(httpx.UnsupportedProtocol):
            await client.get("ftp://127.0.0.1/")
        with pytest.raises(httpx.LocalProtocolError, match="port"):
            await client.get("http://127.0.0.1:99999/")
        request = httpx.Request("POST", "http://h/", headers={"Transfer-Encoding": "gzip"}, stream=Pieces(b"a"))
        with pytest.raises(httpx.LocalProtocolError, match="no transfer-encoding but chunked"):
            await client.send(request)


# Errors and time-outs by their httpx names.


async def test_every_wait_has_its_own_time_out() -> None:
    async with unattended() as silent, serving(hang) as server:
        async with client_of(read=0.03) as client:
            with pytest.raises(httpx.ReadTimeout, match="waiting for the reply"):
                await client.get(server.url())
        async with client_of(connect=0.03) as client:
            with pytest.raises(httpx.ConnectTimeout, match="connecting"):
                await client.get(silent.replace("http:", "https:"))
        async with client_of(write=0.1) as client:
            with pytest.raises(httpx.WriteTimeout, match="sending the request"):
                await client.post(silent, content=b"x" * 20 * MIB)
        async with client_of(write=0.1) as client:
            with pytest.raises(httpx.WriteTimeout, match="sending the request"):
                await client.send(
                    httpx.Request(
                        "POST", silent, stream=Pieces(*[b"x" * MIB] * 20), extensions={"timeout": {"write": 0.1}}
                    )
                )


async def test_waiting_for_a_place_is_a_pool_timeout() -> None:
    gate = Gate()
    transport = Http1Transport(max_connections=1)
    async with (
        serving(gate) as server,
        client_of(transport, pool=0.03) as client,
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(client.get, server.url("/first"))
        await gate.asked.wait()
        with pytest.raises(httpx.PoolTimeout, match="waiting for a connection to come free"):
            await client.get(server.url("/second"))
        gate.go.set()


async def test_a_slow_upload_does_not_use_up_the_time_for_the_reply() -> None:
    """The read time-out begins when the request is written."""

    async def slow() -> AsyncGenerator[bytes]:
        for _ in range(5):
            await anyio.sleep(0.05)
            yield b"x"

    async with serving(answering(OK)) as server, client_of(read=0.1) as client:
        assert (await client.post(server.url(), content=slow())).status_code == 200


async def test_a_body_that_stops_coming_is_a_read_timeout() -> None:
    async def stops(peer: Peer) -> None:
        await peer.request()
        await peer.send(OK[:-1])
        await peer.wait_closed()

    transport = Http1Transport()
    async with serving(stops) as server, client_of(transport, read=0.05) as client:
        with pytest.raises(httpx.ReadTimeout):
            await client.get(server.url())
        assert transport.statistics().places == 0


async def test_failures_have_their_httpx_names(free_tcp_port: int) -> None:
    async def break_off(peer: Peer) -> None:
        await peer.request()
        await peer.send(OK[:-1])
        await anyio.wait_all_tasks_blocked()
        reset(peer)

    async with serving(break_off) as server, client_of() as client:
        with pytest.raises(httpx.ConnectError, match="Connection refused"):
            await client.get(f"http://127.0.0.1:{free_tcp_port}/")
        with pytest.raises(httpx.ReadError, match="reset") as caught:
            await client.get(server.url())
        assert caught.value.request.url == server.url()
        await client._transport.aclose()
        with pytest.raises(httpx.ConnectError, match="was closed"):
            await client.get(server.url())


# Repetition.


def dies_at_second() -> Handler:
    async def handle(peer: Peer) -> None:
        await peer.request()
        await peer.send(OK)
        await peer.request()
        if peer.number > 1:
            await peer.send(OK)

    return handle


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "PUT", "DELETE"])
async def test_what_may_be_repeated_is_repeated_when_a_kept_connection_is_dead(method: str) -> None:
    async with serving(dies_at_second()) as server, client_of() as client:
        await client.get(server.url())
        assert (await client.request(method, server.url())).status_code == 200
        assert server.connections == 2


@pytest.mark.parametrize("method", ["POST", "PATCH"])
async def test_what_may_not_is_not(method: str) -> None:
    async with serving(dies_at_second()) as server, client_of() as client:
        await client.get(server.url())
        with pytest.raises(httpx.RemoteProtocolError, match="without a reply"):
            await client.request(method, server.url())
        assert server.connections == 1


async def test_a_body_that_was_iterated_is_not_sent_again() -> None:
    async with serving(dies_at_second()) as server, client_of() as client:
        await client.get(server.url())
        with pytest.raises(httpx.RemoteProtocolError, match="without a reply"):
            await client.send(httpx.Request("PUT", server.url(), stream=Pieces(b"a")))
        assert server.connections == 1


# Life of a connection.


async def test_a_request_that_announces_the_end_ends_its_connection() -> None:
    async with serving(answering(OK)) as server, client_of() as client:
        for _ in range(2):
            await client.get(server.url(), headers={"Connection": "close"})
        assert server.connections == 2


async def test_a_response_left_or_cancelled_half_way_costs_its_connection_only() -> None:
    async def endless(peer: Peer) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\n\r\nabc")
        await peer.wait_closed()

    transport = Http1Transport(max_connections=1)
    with anyio.fail_after(10):
        async with serving(endless) as server, client_of(transport) as client:
            async with client.stream("GET", server.url()) as response:
                assert transport.statistics().active == 1
            assert (response.is_closed, transport.statistics().places) == (True, 0)
            with anyio.CancelScope() as scope:
                async with client.stream("GET", server.url()) as response:
                    async for chunk in response.aiter_raw():
                        assert chunk == b"abc"
                        scope.cancel()
            assert scope.cancelled_caught
            assert transport.statistics().places == 0
            await server.wait_open(0)


async def test_a_small_response_gives_its_connection_back_before_it_is_read() -> None:
    transport = Http1Transport(max_connections=1)
    async with serving(answering(OK)) as server, client_of(transport) as client:
        async with client.stream("GET", server.url()) as first:
            assert (await client.get(server.url())).content == b"ok"
            assert await first.aread() == b"ok"
        assert server.connections == 1
