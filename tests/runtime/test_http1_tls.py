"""HTTPS: who is trusted, what a cut means, and that everything else is as without."""

from __future__ import annotations

import ssl

import anyio
import anyio.abc
import anyio.lowlevel
import httpx
import pytest
import trustme
from anyio.streams.tls import TLSAttribute, TLSStream

from neuron_anyio._http1_connection import default_ssl_context
from neuron_anyio.http1 import Endpoint, ExchangeFailed, Http1Transport, RawReply
from tests.runtime.http1_server import OK, Peer, answering, serving

pytestmark = pytest.mark.anyio

MIB = 1024 * 1024


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def server_context(authority: trustme.CA) -> ssl.SSLContext:
    return issue(authority, "localhost", "127.0.0.1", "::1", "xn--bcher-kva.localhost")


@pytest.fixture
def trusting(authority: trustme.CA) -> ssl.SSLContext:
    context = default_ssl_context()
    authority.configure_trust(context)
    return context


def issue(authority: trustme.CA, *names: str) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert(*names).configure_cert(context)
    return context


async def post(transport: Http1Transport, endpoint: Endpoint, body: bytes = b"{}") -> RawReply:
    with anyio.fail_after(20):
        return await transport.request("POST", endpoint, [], body, timeout=15, max_reply_bytes=100 * MIB)


@pytest.mark.parametrize(
    ("address", "host"), [("127.0.0.1", "127.0.0.1"), ("127.0.0.1", "localhost"), ("::1", "[::1]")]
)
async def test_a_trusted_server_is_served_on_one_connection(
    address: str, host: str, server_context: ssl.SSLContext, trusting: ssl.SSLContext
) -> None:
    agreed: list[str | None] = []

    async def handle(peer: Peer) -> None:
        agreed.append(peer.stream.extra(TLSAttribute.alpn_protocol))
        await answering(OK)(peer)

    server_context.set_alpn_protocols(["h2", "http/1.1"])
    async with (
        serving(handle, ssl_context=server_context, address=address, host=host) as server,
        Http1Transport(ssl_context=trusting) as transport,
    ):
        for _ in range(20):
            assert (await post(transport, server.endpoint())).body == b"ok"
        assert (server.connections, agreed) == (1, ["http/1.1"])


async def test_an_unknown_authority_is_named_with_what_to_do(server_context: ssl.SSLContext) -> None:
    async with serving(answering(OK), ssl_context=server_context) as server, Http1Transport() as transport:
        with pytest.raises(ExchangeFailed) as caught:
            await post(transport, server.endpoint())
        assert caught.value.phase == "connect"
        text = str(caught.value)
        assert text.startswith(f"{server.origin}: the server's certificate was not accepted: ")
        assert "unable to get local issuer certificate" in text
        assert "pass ssl_context=" in text
        assert transport.statistics().places == 0
        async with httpx.AsyncClient(transport=transport) as client:
            with pytest.raises(httpx.ConnectError, match="certificate was not accepted"):
                await client.get(server.url())


async def test_a_certificate_for_another_name_is_refused(authority: trustme.CA, trusting: ssl.SSLContext) -> None:
    elsewhere = issue(authority, "elsewhere.example")
    async with (
        serving(answering(OK), ssl_context=elsewhere) as server,
        Http1Transport(ssl_context=trusting) as transport,
    ):
        with pytest.raises(ExchangeFailed, match="not accepted: IP address mismatch"):
            await post(transport, server.endpoint())
        assert server.requests == []


async def test_a_port_that_speaks_no_tls_is_told_apart(trusting: ssl.SSLContext) -> None:
    async def plain(peer: Peer) -> None:
        await peer.send(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
        await peer.wait_closed()

    async def nothing(peer: Peer) -> None:
        await peer.stream.receive()

    for handler in (plain, nothing):
        async with serving(handler) as server, Http1Transport(ssl_context=trusting) as transport:
            endpoint = Endpoint.parse(server.origin.replace("http:", "https:"))
            with pytest.raises(ExchangeFailed, match=r"the TLS handshake failed: .*; check that this port speaks"):
                await post(transport, endpoint)
            await server.wait_open(0)


async def test_a_context_that_offers_more_than_http1_is_refused(
    server_context: ssl.SSLContext, trusting: ssl.SSLContext
) -> None:
    server_context.set_alpn_protocols(["h2"])
    trusting.set_alpn_protocols(["h2", "http/1.1"])
    async with (
        serving(answering(OK), ssl_context=server_context) as server,
        Http1Transport(ssl_context=trusting) as transport,
    ):
        with pytest.raises(ExchangeFailed, match="TLS agreed on h2"):
            await post(transport, server.endpoint())
        await server.wait_open(0)


@pytest.mark.parametrize("waiting", [False, True], ids=["idle", "handed over"])
@pytest.mark.parametrize("size", [10, 200_000])
async def test_a_second_reply_that_nobody_asked_for_is_not_taken_for_the_next(
    size: int, waiting: bool, server_context: ssl.SSLContext, trusting: ssl.SSLContext
) -> None:
    """Both are read from the socket at once, but TLS gives out one record at a time."""
    go = anyio.Event()

    async def twice(peer: Peer) -> None:
        await peer.request()
        await go.wait()
        assert isinstance(peer.stream, TLSStream)
        for text in (b"ok", b"x" * size):
            head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(text)
            peer.stream._ssl_object.write(head + text)
        await peer.stream.transport_stream.send(peer.stream._write_bio.read())
        await peer.wait_closed()

    async with (
        serving(twice, ssl_context=server_context) as server,
        Http1Transport(ssl_context=trusting, max_connections=1) as transport,
    ):

        async def one() -> None:
            assert (await post(transport, server.endpoint())).body == b"ok"

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(one)
            if waiting:
                tasks.start_soon(one)
                while not transport.statistics().waiting:
                    await anyio.lowlevel.checkpoint()
            go.set()
        await one()
        assert server.connections == 2 + waiting


async def test_large_bodies_travel_and_early_refusals_are_seen(
    server_context: ssl.SSLContext, trusting: ssl.SSLContext
) -> None:
    async def echo(peer: Peer) -> None:
        while True:
            received = await peer.head()
            if received.target == "/refuse":
                await peer.send(b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\n\r\n")
                await anyio.sleep_forever()
            body = await peer.exactly(int(received.header("content-length") or 0))
            await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body))
            await peer.send(body)

    body = bytes(range(256)) * (20 * MIB // 256)
    async with (
        serving(echo, ssl_context=server_context) as server,
        Http1Transport(ssl_context=trusting) as transport,
    ):
        for _ in range(2):
            assert (await post(transport, server.endpoint(), body)).body == body
        assert server.connections == 1
        assert (await post(transport, server.endpoint("/refuse"), body)).status == 413
        assert transport.statistics().places == 0


async def test_closing_ends_a_stream_that_another_task_reads(
    server_context: ssl.SSLContext, trusting: ssl.SSLContext
) -> None:
    async def head_only(peer: Peer) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\n\r\n")
        await peer.wait_closed()

    transport = Http1Transport(ssl_context=trusting)

    async def read(endpoint: Endpoint, *, task_status: anyio.abc.TaskStatus[None]) -> None:
        async with transport.stream("GET", endpoint, [], timeout=5) as reply:
            task_status.started()
            with pytest.raises(ExchangeFailed, match="the HTTP transport was closed"):
                await anext(reply.chunks)

    with anyio.fail_after(5):
        async with serving(head_only, ssl_context=server_context) as server, anyio.create_task_group() as tasks:
            await tasks.start(read, server.endpoint())
            await anyio.wait_all_tasks_blocked()
            await transport.aclose()
            await server.wait_open(0)


def test_the_default_context_verifies() -> None:
    context = default_ssl_context()
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)
    assert not context.options & ssl.OP_IGNORE_UNEXPECTED_EOF
