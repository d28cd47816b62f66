"""The fast path, against servers of which every byte is decided here."""

from __future__ import annotations

import re
from collections.abc import Sequence

import anyio
import anyio.lowlevel
import pytest

from neuron_anyio._http1_connection import Connection
from neuron_anyio._http1_exchange import ReplyBody
from neuron_anyio._http1_request import Outgoing
from neuron_anyio.errors import TransportError
from neuron_anyio.http1 import (
    Endpoint,
    ExchangeFailed,
    ExchangeTimedOut,
    Header,
    Http1Transport,
    Origin,
    RawReply,
    RequestRefused,
    StreamReply,
)
from tests.runtime.http1_server import OK, Peer, answering, reset, serving

pytestmark = pytest.mark.anyio

MIB = 1024 * 1024
HEADERS = ((b"authorization", b"Bearer hunter2"), (b"content-type", b"application/json"))
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-Trailer: t\r\n\r\n"


async def post(
    transport: Http1Transport,
    endpoint: Endpoint,
    body: bytes = b"{}",
    *,
    headers: Sequence[Header] = HEADERS,
    max_reply_bytes: int = MIB,
) -> RawReply:
    with anyio.fail_after(20):
        return await transport.request("POST", endpoint, headers, body, timeout=15, max_reply_bytes=max_reply_bytes)


async def test_a_post_carries_method_target_headers_and_body() -> None:
    async with serving(answering(OK)) as server, Http1Transport() as transport:
        reply = await post(transport, server.endpoint("/neurons/n-1?x=y"), b'{"a":1}')
        assert (reply.status, reply.body, reply.truncated) == (200, b"ok", False)
        assert (reply.header(b"content-length"), reply.header(b"x-absent")) == (b"2", None)
        [seen] = server.requests
        assert (seen.method, seen.target, seen.body) == ("POST", "/neurons/n-1?x=y", b'{"a":1}')
        assert seen.headers == [
            ("host", f"127.0.0.1:{server.port}"),
            ("authorization", "Bearer hunter2"),
            ("content-type", "application/json"),
            ("content-length", "7"),
        ]


async def test_a_get_carries_no_length_and_a_url_may_be_a_string() -> None:
    async with serving(answering(OK)) as server, Http1Transport() as transport:
        reply = await transport.request("GET", server.url("/a"), [], b"", timeout=5, max_reply_bytes=10)
        assert reply.status == 200
        assert server.requests[0].headers == [("host", f"127.0.0.1:{server.port}")]


async def test_an_ipv6_literal_is_reached_and_named_with_brackets() -> None:
    async with serving(answering(OK), address="::1", host="[::1]") as server, Http1Transport() as transport:
        assert (await post(transport, server.endpoint())).status == 200
        assert server.requests[0].header("host") == f"[::1]:{server.port}"


async def test_a_host_name_is_resolved() -> None:
    async with serving(answering(OK), host="localhost") as server, Http1Transport() as transport:
        assert (await post(transport, server.endpoint())).status == 200


async def test_requests_one_after_another_share_one_connection() -> None:
    async with serving(answering(OK, CHUNKED, OK)) as server, Http1Transport() as transport:
        for _ in range(50):
            assert (await post(transport, server.endpoint())).body == b"ok"
        assert (server.connections, len(server.requests)) == (1, 50)
        assert transport.statistics().idle == 1


async def test_a_reset_is_an_error_that_names_the_origin() -> None:
    async def break_off(peer: Peer) -> None:
        await peer.request()
        await peer.send(OK[:20])
        reset(peer)

    async with serving(break_off) as server, Http1Transport() as transport:
        with pytest.raises(TransportError, match=r"reset|cut off") as caught:
            await post(transport, server.endpoint())
        assert str(caught.value).startswith(server.origin)


async def test_a_refused_connection_names_origin_and_reason(free_tcp_port: int) -> None:
    async with Http1Transport() as transport:
        with pytest.raises(ExchangeFailed, match="cannot connect: Connection refused") as caught:
            await post(transport, Endpoint.parse(f"http://127.0.0.1:{free_tcp_port}/"))
        assert str(caught.value).startswith(f"http://127.0.0.1:{free_tcp_port}: ")
        assert caught.value.phase == "connect"
        assert transport.statistics().places == 0


async def test_a_name_that_cannot_be_resolved_is_a_connection_error() -> None:
    endpoint = Endpoint(Origin("http", "a" * 64, 80), b"/", b"a")
    async with Http1Transport() as transport:
        with pytest.raises(ExchangeFailed, match="cannot connect"):
            await post(transport, endpoint)


@pytest.mark.parametrize(
    ("method", "headers"),
    [
        ("POST", [(b"authorization", b"Bearer hunter2\r\nX-Evil: 1")]),
        ("POST", [(b"x\r\ny", b"hunter2")]),
        ("PO ST", []),
        ("PÖST", []),
        ("POST", [(b"Content-Length", b"0")]),
    ],
)
async def test_a_request_that_would_break_its_lines_never_reaches_the_server(
    method: str, headers: list[Header]
) -> None:
    async with serving(answering(OK)) as server, Http1Transport() as transport:
        with pytest.raises(RequestRefused) as caught:
            await transport.request(method, server.endpoint(), headers, b"", timeout=5, max_reply_bytes=MIB)
        assert "hunter2" not in str(caught.value)
        assert server.connections == 0


async def test_a_reply_is_cut_at_the_size_that_was_asked_for() -> None:
    big = b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n" + b"x" * 1_000_000
    async with serving(answering(big)) as server, Http1Transport() as transport:
        for limit in (0, 1000, 999_999):
            reply = await post(transport, server.endpoint(), max_reply_bytes=limit)
            assert (reply.body, reply.truncated) == (b"x" * limit, True)
        reply = await post(transport, server.endpoint(), max_reply_bytes=1_000_000)
        assert (len(reply.body), reply.truncated) == (1_000_000, False)


async def test_an_endless_reply_is_left_when_enough_of_it_came() -> None:
    async def flood(peer: Peer) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            await peer.send(b"x" * 65536)

    async with serving(flood) as server, Http1Transport() as transport:
        assert (await post(transport, server.endpoint(), max_reply_bytes=MIB)).truncated
        await server.wait_open(0)


async def test_a_large_body_goes_up_and_comes_down() -> None:
    body = bytes(range(256)) * (20 * MIB // 256)

    async def echo(peer: Peer) -> None:
        while True:
            received = await peer.request()
            await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(received.body))
            await peer.send(received.body)

    async with serving(echo) as server, Http1Transport() as transport:
        reply = await post(transport, server.endpoint(), body, max_reply_bytes=len(body))
        assert reply.body == body
        assert (await post(transport, server.endpoint(), b"small")).body == b"small"
        assert server.connections == 1


REFUSAL = b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 3\r\n\r\nbig"


@pytest.mark.parametrize("then", ["closes", "resets", "stops reading", "drips"])
async def test_a_server_may_refuse_a_large_body_without_reading_it(then: str) -> None:
    async def refuse(peer: Peer) -> None:
        await peer.head()
        await peer.send(REFUSAL[:-1])
        if then == "drips":
            await anyio.wait_all_tasks_blocked()
        await peer.send(REFUSAL[-1:])
        if then == "resets":
            reset(peer)
        elif then != "closes":
            await anyio.sleep_forever()

    async with serving(refuse) as server, Http1Transport() as transport:
        reply = await post(transport, server.endpoint(), b"x" * 20 * MIB)
        assert (reply.status, reply.body) == (413, b"big")
        assert transport.statistics().places == 0, "half a request was written, so the connection is spent"


async def test_a_success_before_the_body_was_read_does_not_stop_the_body() -> None:
    async def eager(peer: Peer) -> None:
        while True:
            received = await peer.head()
            await peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            body = await peer.exactly(int(received.header("content-length") or 0))
            await peer.send(b"%x\r\n%d\r\n0\r\n\r\n" % (len(str(len(body))), len(body)))

    async with serving(eager) as server, Http1Transport() as transport:
        for _ in range(2):
            assert (await post(transport, server.endpoint(), b"x" * 5 * MIB)).body == b"%d" % (5 * MIB)
        assert server.connections == 1


async def test_a_whole_success_before_the_body_was_read_ends_the_exchange() -> None:
    async def uninterested(peer: Peer) -> None:
        await peer.head()
        await peer.send(OK)
        await anyio.sleep_forever()

    async with serving(uninterested) as server, Http1Transport() as transport:
        assert (await post(transport, server.endpoint(), b"x" * 20 * MIB)).body == b"ok"
        assert transport.statistics().places == 0


async def test_a_server_that_streams_its_reply_while_it_reads_is_not_starved() -> None:
    async def echo_pieces(peer: Peer) -> None:
        await peer.head()
        await peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in range(64):
            piece = await peer.exactly(16 * 1024)
            await peer.send(b"%x\r\n%b\r\n" % (len(piece), piece))
        await peer.send(b"0\r\n\r\n")

    async with serving(echo_pieces) as server, Http1Transport() as transport:
        assert (await post(transport, server.endpoint(), b"x" * MIB)).body == b"x" * MIB


async def test_a_reply_that_comes_early_is_not_collected_without_bound() -> None:
    sent = 0

    async def flood(peer: Peer) -> None:
        nonlocal sent
        await peer.head()
        await peer.send(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            await peer.send(b"x" * MIB)
            sent += MIB

    async with serving(flood) as server, Http1Transport() as transport:
        with pytest.raises(ExchangeTimedOut, match="sending the request"):
            await transport.request("POST", server.endpoint(), [], b"x" * 20 * MIB, timeout=0.4, max_reply_bytes=MIB)
    assert sent < 16 * MIB, "one MiB and what the sockets hold"


@pytest.mark.parametrize("reply", [b"", b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n"])
async def test_a_server_that_hangs_up_on_arrival_is_an_error_or_its_last_words(
    reply: bytes, monkeypatch: pytest.MonkeyPatch, anyio_backend_name: str
) -> None:
    async def hang_up(peer: Peer) -> None:
        if reply:
            await peer.send(reply)
        reset(peer)

    async with serving(hang_up) as server, Http1Transport() as transport:
        connect = transport._connect

        async def connect_and_wait_for_the_reset(origin: Origin) -> Connection:
            connection = await connect(origin)
            while not connection.is_stale():  # so that the server has seen it come
                await anyio.lowlevel.checkpoint()
            await server.wait_open(0)
            return connection

        monkeypatch.setattr(transport, "_connect", connect_and_wait_for_the_reset)
        try:
            status = (await post(transport, server.endpoint())).status
        except ExchangeFailed as exc:
            status, failure = 0, exc
        if status:
            assert (status, bool(reply)) == (408, True)
            return
        assert re.search("reset|Broken pipe", str(failure))
        # The others learn of it when they read, and drop what they have not read when a write fails.
        assert anyio_backend_name != "trio" or (failure.phase, reply) == ("write", b"")


def test_c9_nothing_shows_headers_or_bodies() -> None:
    secret = [(b"set-cookie", b"hunter2")]
    assert repr(RawReply(200, secret, b"hunter2")) == "RawReply(status=200, headers=1, body=7 bytes)"
    assert repr(StreamReply(200, secret, ReplyBody(None))) == "StreamReply(status=200, headers=1)"  # type: ignore[arg-type]  # any body
    assert repr(Outgoing(head=b"hunter2", body=b"hunter2")) == "Outgoing(body=7 bytes, repeatable=False)"


@pytest.mark.parametrize(
    "wrong", [{"max_connections": 0}, {"max_idle": -1}, {"connect_timeout": 0.0}, {"idle_timeout": -1.0}]
)
def test_senseless_bounds_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="must be"):
        Http1Transport(**wrong)  # type: ignore[arg-type]  # each is of another type
