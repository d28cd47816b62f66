"""Proxies that the environment names, and private certificate authorities."""

from __future__ import annotations

import ssl
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
import trustme

from neuron_anyio import HttpTransport, NeuronError, Timing, TransportError
from neuron_anyio.http1 import Http1Transport
from tests.runtime.http1_server import Handler, Peer, Server, answering, hang, serving
from tests.runtime.http_gateway import HttpGateway, http_reply

# ruff: noqa: SIM117 - the outer block is the scene, the inner one the act

pytestmark = pytest.mark.anyio

EVENT = http_reply(200, b"data: 1\n\n", "Connection: close", content_type="text/event-stream")
once = answering(EVENT, close=True)


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


async def forward(peer: Peer) -> None:
    """Be a proxy for one request: send it on in its own form, hand back what comes."""
    request = await peer.request()
    url = httpx.URL(request.target)
    head = [
        f"{request.method} {url.raw_path.decode()} HTTP/1.1",
        *(f"{name}: {value}" for name, value in request.headers),
    ]
    async with await anyio.connect_tcp(url.host, url.port or 80) as upstream:
        await upstream.send("\r\n".join([*head, "Connection: close", "", ""]).encode("latin-1") + request.body)
        async for data in upstream:
            await peer.send(data)


@asynccontextmanager
async def scene(answer: Handler) -> AsyncGenerator[tuple[Server, Server]]:
    """Run a gateway and a proxy."""
    async with serving(answer) as gateway, serving(forward) as proxy:
        yield gateway, proxy


async def use(transport: HttpTransport) -> None:
    with anyio.fail_after(10):
        async with transport.open():
            async with transport.subscribe("n") as stream:
                assert list(await stream.receive()) == [b"1"]
            assert (await transport.post("ack", b'{"type":"ack"}')).status == 200


@pytest.mark.parametrize("name", ["HTTP_PROXY", "http_proxy", "ALL_PROXY"])
async def test_a_proxy_of_the_environment_is_used(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with scene(once) as (gateway, proxy):
        monkeypatch.setenv(name, proxy.origin)
        await use(HttpTransport(gateway.origin, auth="t-1"))
        assert [request.target for request in proxy.requests] == [
            f"{gateway.origin}/neuron/events?neuronId=n",
            f"{gateway.origin}/neuron/ack",
        ]
        assert [request.header("authorization") for request in gateway.requests] == ["Bearer t-1"] * 2


@pytest.mark.parametrize("excepted", ["127.0.0.1", "*", "elsewhere.example,127.0.0.1", "127.0.0.1:{port}"])
async def test_no_proxy_is_respected(excepted: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with scene(once) as (gateway, proxy):
        monkeypatch.setenv("HTTP_PROXY", proxy.origin)
        monkeypatch.setenv("NO_PROXY", excepted.format(port=gateway.port))
        await use(HttpTransport(gateway.origin))
        assert (len(proxy.requests), len(gateway.requests)) == (0, 2)


async def test_a_proxy_for_https_is_not_used_for_http(monkeypatch: pytest.MonkeyPatch) -> None:
    async with scene(once) as (gateway, proxy):
        monkeypatch.setenv("HTTPS_PROXY", proxy.origin)
        await use(HttpTransport(gateway.origin))
        assert not proxy.requests


async def test_requests_through_a_proxy_are_bounded_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    async def drip(peer: Peer) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
        for _ in range(1000):
            await peer.send(b"x")
            await anyio.sleep(0.02)

    async with scene(drip) as (gateway, proxy):
        monkeypatch.setenv("HTTP_PROXY", proxy.origin)
        transport = HttpTransport(gateway.origin, timing=Timing(request=0.1))
        async with transport.open():
            with anyio.fail_after(5), pytest.raises(TransportError, match=r"no whole reply within 0.1 s"):
                await transport.post("ack", b"{}")


async def test_the_stream_through_a_proxy_is_bounded_until_it_is_open(monkeypatch: pytest.MonkeyPatch) -> None:
    async with scene(hang) as (gateway, proxy):
        monkeypatch.setenv("HTTP_PROXY", proxy.origin)
        transport = HttpTransport(gateway.origin, timing=Timing(request=0.05))
        async with transport.open():
            with anyio.fail_after(5), pytest.raises(TransportError):
                async with transport.subscribe("n"):
                    raise AssertionError


@pytest.mark.parametrize("proxy", ["gopher://user:s3cr3t@h:1", "socks5://user:s3cr3t@h:1"])
async def test_a_proxy_that_cannot_be_used_is_one_error_with_the_remedy(
    proxy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", proxy)
    with pytest.raises(NeuronError, match=r"proxy .* mend HTTP_PROXY.*NO_PROXY") as caught:
        async with HttpTransport("http://gateway.example").open():
            raise AssertionError
    assert "s3cr3t" not in str(caught.value)


# Certificates


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@asynccontextmanager
async def secure(authority: trustme.CA) -> AsyncGenerator[HttpGateway]:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    gateway = HttpGateway()
    gateway.stream_replies = [EVENT]
    async with serving(gateway.handle, ssl_context=context) as gateway.server:
        yield gateway


def trusting(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


async def test_an_httpx_client_brings_its_own_trust(authority: trustme.CA) -> None:
    async with secure(authority) as gateway, httpx.AsyncClient(verify=trusting(authority)) as client:
        await use(HttpTransport(gateway.url, http_client=client))


async def test_our_own_connections_can_be_given_trust_through_an_httpx_client(authority: trustme.CA) -> None:
    async with secure(authority) as gateway:
        async with httpx.AsyncClient(transport=Http1Transport(ssl_context=trusting(authority))) as client:
            await use(HttpTransport(gateway.url, http_client=client))


async def test_ssl_cert_file_is_honoured(
    authority: trustme.CA, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "authority.pem"
    authority.cert_pem.write_to_path(file)
    monkeypatch.setenv("SSL_CERT_FILE", str(file))
    async with secure(authority) as gateway:
        await use(HttpTransport(gateway.url))


@pytest.mark.parametrize("road", ["own", "httpx"])
async def test_an_unknown_authority_is_a_failed_attempt_that_says_so(authority: trustme.CA, road: str) -> None:
    async with secure(authority) as gateway, httpx.AsyncClient() as client:
        options: dict[str, Any] = {} if road == "own" else {"http_client": client}
        transport = HttpTransport(gateway.url, **options)
        async with transport.open():
            with pytest.raises(TransportError, match=r"(?i)https://127.*certificate"):
                await transport.post("ack", b"{}")
        assert not gateway.requests
