"""Replies cut off at every byte, and in pieces of every size: what comes of them does not depend on how they come."""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from contextlib import suppress
from itertools import pairwise

import anyio.lowlevel
import pytest
from anyio.streams.tls import TLSStream
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.runtime.http1_outcomes import DOORS, Outcome, Refused, Served, door, httpx_itself, in_brief
from tests.runtime.http1_replies import CHUNKED, CONTINUE, OK, REPLIES
from tests.runtime.http1_server import Handler, Peer, Server, reset, serving

pytestmark = pytest.mark.anyio

UNTIL_END = b"HTTP/1.1 200 OK\r\n\r\nok"
RICH = CHUNKED.replace(b"2\r\nok", b"2;a\r\nok").removesuffix(b"\r\n") + b"A: b\r\n\r\n"
WIRES = {"length": OK, "chunked": RICH, "informational": CONTINUE + OK, "until the end": UNTIL_END}


def cutting(wire: bytes, *, announced: bool) -> Handler:
    """Answer `/<size>` with so many of the bytes, and end the connection; TLS announces the end if so asked."""

    async def handle(peer: Peer) -> None:
        size = int((await peer.request()).target[1:])
        if size:
            await peer.send(wire[:size])
        if announced and isinstance(peer.stream, TLSStream):
            with suppress(ssl.SSLWantReadError):  # the client's answer, which is not waited for
                peer.stream._ssl_object.unwrap()
            await peer.stream.transport_stream.send(peer.stream._write_bio.read())

    return handle


async def outcomes(server: Server, kind: str, context: ssl.SSLContext | None = None) -> list[list[Outcome]]:
    """Ask for every size through httpx's own transport, and through ours: each size through one of its doors."""
    urls = [server.url(f"/{size}") for size in range(len(WIRES[kind]) + 1)]
    async with httpx_itself(ssl_context=context) as ask:
        there = [await ask("GET", url, b"") for url in urls]
    assert [isinstance(outcome, Served) for outcome in there] == [whole(kind, size) for size in range(len(urls))]
    here = there.copy()
    for turn, name in enumerate(DOORS):
        async with door(name, ssl_context=context) as ask:
            here[turn :: len(DOORS)] = [await ask("GET", url, b"") for url in urls[turn :: len(DOORS)]]
    await server.wait_open(0)
    return [there, here]


def whole(kind: str, size: int) -> bool:
    """Return whether so many bytes are a whole reply."""
    return size >= (UNTIL_END.index(b"ok") if kind == "until the end" else len(WIRES[kind]))


@pytest.mark.parametrize("kind", WIRES)
async def test_a_reply_cut_at_any_byte_fares_as_with_httpx(kind: str) -> None:
    async with serving(cutting(WIRES[kind], announced=True)) as server:
        there, here = await outcomes(server, kind)
    assert list(map(in_brief, here)) == list(map(in_brief, there))


@pytest.mark.parametrize("announced", [True, False], ids=["announced", "cut"])
@pytest.mark.parametrize("kind", ["length", "chunked", "until the end"])
async def test_a_reply_cut_at_any_byte_over_tls_fares_as_with_httpx_but_for_ends_without_good_bye(
    kind: str, announced: bool, server_context: ssl.SSLContext, trusting: ssl.SSLContext
) -> None:
    """Where the end of the connection is the end of the reply, anybody could cut it off; httpx does not look."""
    async with serving(cutting(WIRES[kind], announced=announced), ssl_context=server_context) as server:
        there, here = await outcomes(server, kind, trusting)
    if kind == "until the end" and not announced:
        assert all(isinstance(outcome, Refused) for outcome in here)
    else:
        assert list(map(in_brief, here)) == list(map(in_brief, there))


# Pieces.

ANY = [reply.wire for replies in REPLIES.values() for reply in replies.values()]


def in_pieces(pieces: Sequence[bytes], turns: Sequence[int], *, by_reset: bool) -> Handler:
    async def handle(peer: Peer) -> None:
        await peer.request()
        for piece, wait in zip(pieces, turns, strict=True):
            await peer.send(piece)
            for _ in range(wait):
                await anyio.lowlevel.checkpoint()
        if by_reset:
            reset(peer)

    return handle


async def outcome_of(name: str, handler: Handler) -> Outcome:
    async with serving(handler) as server, door(name) as ask:
        return await ask("GET", server.url(), b"")


@given(data=st.data(), name=st.sampled_from(list(DOORS)), by_reset=st.booleans())
@settings(max_examples=40, suppress_health_check=list(HealthCheck))
async def test_a_reply_in_any_pieces_and_with_any_end_is_the_same_reply(
    data: st.DataObject, name: str, by_reset: bool
) -> None:
    wire = data.draw(st.sampled_from(ANY))
    if data.draw(st.booleans()):
        wire = wire[: data.draw(st.integers(0, len(wire)))]
    cuts = data.draw(st.lists(st.integers(0, len(wire)), max_size=8, unique=True).map(sorted))
    pieces = [wire[start:end] for start, end in pairwise([0, *cuts, len(wire)]) if start < end]
    turns = data.draw(st.lists(st.integers(0, 30), min_size=len(pieces), max_size=len(pieces)))
    at_once = await outcome_of(name, in_pieces([wire] if wire else [], [0] if wire else [], by_reset=False))
    outcome = await outcome_of(name, in_pieces(pieces, turns, by_reset=by_reset))
    if by_reset:  # which may overtake the last bytes, and is no end of a reply that lasts until the end
        assert outcome == at_once or isinstance(outcome, Refused)
    else:
        assert outcome == at_once
