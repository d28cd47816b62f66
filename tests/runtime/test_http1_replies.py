"""Replies of every kind, the same bytes through httpx's own transport and through every door of ours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import anyio
import pytest

from tests.runtime.http1_outcomes import DOORS, Ask, Outcome, Refused, door, httpx_itself, in_brief
from tests.runtime.http1_replies import REPLIES, TO_HEAD, Reply
from tests.runtime.http1_server import Handler, Peer, Server, serving

pytestmark = pytest.mark.anyio

KINDS = {**REPLIES, "to HEAD": TO_HEAD}
kinds = pytest.mark.parametrize("kind", KINDS)


def replying(replies: Sequence[Reply], *, then_closes: bool) -> Handler:
    """Answer `/first/<number>` with the bytes of that reply; every other request with what it asked for."""

    async def handle(peer: Peer) -> None:
        while True:
            _, what, number = (await peer.request()).target.split("/")
            if what == "first":
                await peer.send(replies[int(number)].wire)
            else:
                body = b"answer to %b" % number.encode()
                await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
            if then_closes:
                return

    return handle


async def outcomes(ask: Ask, server: Server, method: str, replies: Sequence[Reply]) -> list[Outcome]:
    return [await ask(method, server.url(f"/first/{number}"), b"") for number in range(len(replies))]


@kinds
async def test_a_reply_fares_as_with_httpx_or_the_table_says_why(kind: str) -> None:
    names, replies = list(KINDS[kind]), list(KINDS[kind].values())
    method = "HEAD" if kind == "to HEAD" else "GET"
    here: dict[str, list[Outcome]] = {}
    async with serving(replying(replies, then_closes=True)) as server:
        async with httpx_itself() as ask:
            there = await outcomes(ask, server, method, replies)
        for name in DOORS:
            async with door(name) as ask:
                here[name] = await outcomes(ask, server, method, replies)
        await server.wait_open(0)
    found: dict[str, object] = {}
    for number, (name, reply) in enumerate(zip(names, replies, strict=True)):
        ours: Mapping[str, Outcome] = {opened: here[opened][number] for opened in DOORS}
        if {in_brief(outcome) for outcome in ours.values()} != {reply.served}:
            found[name] = ours
        elif reply.served and len(set(ours.values())) > 1:
            found[name] = "the doors differ", ours
        elif (ours["httpx"] != there[number]) is not bool(reply.httpx):
            found[name] = ours["httpx"], "httpx", there[number]
    assert not found


@kinds
@pytest.mark.parametrize("name", DOORS)
async def test_a_reply_never_answers_the_next_request(name: str, kind: str) -> None:
    """Here the server does not close: what is refused is refused without that, and what came too much is not used."""
    replies = {title: reply for title, reply in KINDS[kind].items() if not reply.until_end}
    method = "HEAD" if kind == "to HEAD" else "GET"
    found: dict[str, object] = {}
    async with serving(replying(list(replies.values()), then_closes=False)) as server, door(name) as ask:
        for number, (title, reply) in enumerate(replies.items()):
            first = await ask(method, server.url(f"/first/{number}"), b"")
            before = server.connections
            second = await ask("GET", server.url(f"/next/{number}"), b"")
            kept = server.connections == before
            if in_brief(first) != reply.served or in_brief(second) != (200, b"answer to %d" % number):
                found[title] = first, second
            elif reply.kept is not None and kept is not (reply.kept and reply.served is not None):
                found[title] = "kept" if kept else "not kept"
        assert server.open <= 1
    assert not found


@pytest.mark.parametrize("name", DOORS)
async def test_informational_replies_without_end_are_refused(name: str) -> None:
    async def endless(peer: Peer) -> None:
        await peer.request()
        while True:
            await peer.send(b"HTTP/1.1 102 Processing\r\n\r\n" * 10)

    async with serving(endless) as server, door(name) as ask:
        assert isinstance(await ask("GET", server.url(), b""), Refused)
        await server.wait_open(0)


@pytest.mark.parametrize("name", DOORS)
async def test_a_reply_may_come_byte_by_byte(name: str) -> None:
    wire = REPLIES["informational"]["several 1xx"].wire

    async def slowly(peer: Peer) -> None:
        while True:
            await peer.request()
            for byte in wire:
                await peer.send(bytes([byte]))
                await anyio.sleep(0.0002)

    async with serving(slowly) as server, door(name) as ask:
        for _ in range(2):
            assert in_brief(await ask("GET", server.url(), b"")) == (200, b"ok")
        assert server.connections == 1
