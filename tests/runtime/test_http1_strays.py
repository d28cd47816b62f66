"""Bytes that come too early, too late or to nobody: none of them may pass for the answer to a later request."""

from __future__ import annotations

import ssl
from collections.abc import Awaitable, Callable
from contextlib import suppress

import anyio
import pytest
from anyio.streams.tls import TLSStream

from tests.runtime.http1_outcomes import DOORS, Outcome, door, httpx_itself, in_brief
from tests.runtime.http1_server import OK, Handler, Peer, reset, serving

pytestmark = pytest.mark.anyio

doors = pytest.mark.parametrize("name", DOORS)


def answer(text: str) -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(text), text.encode())


# What a server does with a connection on which nothing is under way.


def sends(data: bytes) -> Callable[[Peer], Awaitable[None]]:
    async def stray(peer: Peer) -> None:
        await peer.send(data)

    return stray


async def resets(peer: Peer) -> None:
    reset(peer)
    await peer.stream.aclose()


async def closes(peer: Peer) -> None:
    await peer.stream.aclose()


async def says_good_bye(peer: Peer) -> None:
    """Announce the end in TLS and leave the connection open; without TLS, close one half of it."""
    if not isinstance(peer.stream, TLSStream):
        await peer.stream.send_eof()
        return
    with suppress(ssl.SSLWantReadError):
        peer.stream._ssl_object.unwrap()
    await peer.stream.transport_stream.send(peer.stream._write_bio.read())


async def forgets_tls(peer: Peer) -> None:
    stream = peer.stream.transport_stream if isinstance(peer.stream, TLSStream) else peer.stream
    await stream.send(answer("in the clear"))


STRAYS: dict[str, Callable[[Peer], Awaitable[None]]] = {
    "a reply": sends(answer("stray")),
    "two replies": sends(answer("stray") * 2),
    "half a reply": sends(b"HTTP/1.1 200 OK\r\nContent-Le"),
    "a large reply": sends(answer("x" * 500_000)),
    "an empty line": sends(b"\r\n"),
    "NUL": sends(b"\0"),
    "a last chunk": sends(b"0\r\n\r\n"),
    "100": sends(b"HTTP/1.1 100 Continue\r\n\r\n"),
    "408": sends(b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\n\r\n"),
    "an end": closes,
    "a half-closed connection": says_good_bye,
    "a reset": resets,
    "clear text": forgets_tls,
}


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
@doors
async def test_nothing_that_comes_between_two_requests_answers_the_second(
    name: str, tls: bool, server_context: ssl.SSLContext, trusting: ssl.SSLContext
) -> None:
    """POST through httpx is not sent twice: the connection must be seen to be spoilt before anything is written."""
    go, done = anyio.Event(), anyio.Event()

    async def handle(peer: Peer) -> None:
        received = await peer.request()
        await peer.send(answer(received.target))
        if received.target.startswith("/first/"):
            await go.wait()
            with suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):
                await STRAYS[received.target.removeprefix("/first/").replace("%20", " ")](peer)
                done.set()
                await peer.wait_closed()
        else:
            await peer.wait_closed()

    async with serving(handle, ssl_context=server_context if tls else None) as server:
        for stray in STRAYS:
            go, done = anyio.Event(), anyio.Event()
            async with door(name, ssl_context=trusting) as ask:
                first, second = f"/first/{stray}".replace(" ", "%20"), "/second"
                assert in_brief(await ask("POST", server.url(first), b"{}")) == (200, first.encode())
                before = server.connections
                go.set()
                if stray == "a large reply":
                    await anyio.sleep(0.01)  # nobody reads it, so that it is never all sent
                else:
                    await done.wait()
                assert in_brief(await ask("POST", server.url(second), b"{}")) == (200, b"/second"), stray
                assert server.connections == before + 1, stray


@doors
async def test_a_reply_before_the_request_does_not_shift_those_that_follow(name: str) -> None:
    answered = anyio.Event()

    async def hasty(peer: Peer) -> None:
        if peer.number == 1:
            await peer.send(answer("hasty"))
        while True:
            received = await peer.request()
            await peer.send(answer(received.target))
            answered.set()

    async with serving(hasty) as server, door(name) as ask:
        assert in_brief(await ask("POST", server.url("/1"), b"{}")) in [(200, b"hasty"), (200, b"/1")]
        await answered.wait()
        for number in range(2, 5):
            assert in_brief(await ask("POST", server.url(f"/{number}"), b"{}")) == (200, b"/%d" % number)
        assert server.connections == 2


# Replies that come while the request is still being sent.


def early(*replies: bytes, late: bytes = b"") -> Handler:
    """Reply to the head, read the body to its end, and reply to that; then serve as usual."""

    async def handle(peer: Peer) -> None:
        while True:
            received = await peer.head()
            if received.target == "/early":
                for reply in replies:
                    await peer.send(reply)
            body = await peer.exactly(int(received.header("content-length") or 0))
            if received.target == "/early":
                await peer.send(late or b"")
            else:
                await peer.send(answer(f"{received.target} {len(body)}"))

    return handle


EARLY: dict[str, tuple[Handler, tuple[int, bytes]]] = {
    "413": (early(b"HTTP/1.1 413 Large\r\nContent-Length: 3\r\n\r\nbig"), (413, b"big")),
    "413 in pieces": (early(b"HTTP/1.1 413 Large\r\nContent-", b"Length: 3\r\n\r\nb", b"ig"), (413, b"big")),
    "413 chunked": (
        early(b"HTTP/1.1 413 Large\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nbig\r\n0\r\n\r\n"),
        (413, b"big"),
    ),
    "200": (early(OK), (200, b"ok")),
    "200, the rest later": (early(OK[:-1], late=OK[-1:]), (200, b"ok")),
    "100": (early(b"HTTP/1.1 100 Continue\r\n\r\n", late=OK), (200, b"ok")),
    "103 in pieces": (early(b"HTTP/1.1 103 E", b"arly\r\nLink: x\r\n\r\n", late=OK), (200, b"ok")),
    "after the body": (early(late=OK), (200, b"ok")),
}


@pytest.mark.parametrize("size", [2, 60_000, 2_000_000])
@pytest.mark.parametrize("kind", EARLY)
async def test_a_reply_that_comes_before_the_body_is_sent_fares_as_with_httpx(kind: str, size: int) -> None:
    handler, expected = EARLY[kind]
    body = b"x" * size
    async with serving(handler) as server:
        async with httpx_itself() as ask:
            there: Outcome = await ask("POST", server.url("/early"), body)
        assert in_brief(there) == expected
        for name in DOORS:
            async with door(name) as ask:
                here = await ask("POST", server.url("/early"), body)
                assert in_brief(here) == expected
                assert name != "httpx" or here == there
                for target in ("/a", "/b"):
                    wanted = b"%b %d" % (target.encode(), size)
                    assert in_brief(await ask("POST", server.url(target), body)) == (200, wanted)
        await server.wait_open(0)
