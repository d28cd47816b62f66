"""Two sides of a transport under check: what its author supplies, and what every check of it needs."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TypeAlias

import anyio
import msgspec

from neuron_anyio.abc import EventStream, Oversized, Reply, Transport

from .contract import Check, Unexpected, expect

__all__ = [
    "DOCUMENTS",
    "LARGE",
    "NEURON_ID",
    "Answer",
    "OpenPair",
    "Peer",
    "Scene",
    "always",
    "enter",
    "error_of",
    "large_document",
    "name_of",
    "open_scene",
    "push_and_read",
    "read",
    "row",
    "works",
]

Answer: TypeAlias = Callable[[str, bytes], Awaitable[Reply]]
"""Answers a posted frame: called with its path and its body. May raise `TransportError`, see `Peer.loses_posts`."""

NEURON_ID = "check ü/?&#+1"
"""An id with what a careless transport would trip over."""

LARGE = 1_500_000
"""Bytes of a large document: more than any buffer between the two sides."""

DOCUMENTS = (
    '{"type":"cancel"}',
    '{"text":"grüße ☃ 😀 \u2028 \u0085"}',
    '{"escaped":"\\n\\r\\u0000\\\\\\""}',
    '{ "spaced" : [ 1, 2.5e3 , null ] }',
    '" "',
    "0",
    '{"lookalike":"data: x"}',
)
"""Documents of one line each, with whatever a format between the two sides might take for its own."""


class Peer(msgspec.Struct, frozen=True, kw_only=True):
    """The other side of one transport, as the checks steer it. What it cannot do stays None, and is not checked.

    Attributes:
        push: sends one document, JSON text of one line, down the open stream.
        end: ends the open stream as it should end.
        cut: breaks the open stream, so that its reader can tell.
        refuse: answers the next request for a stream with this status.
        keep_alive: sends one sign of life that the stream counts as a comment.
        vanish: goes away, so that nothing reaches it any more.
        subscriber: returns the id of the neuron for which the stream was opened.
        longest: documents with more bytes come out as `Oversized`; None where the bound is above 2 MB.
        has_statuses: statuses, texts and waits of replies cross; else it is 200 or 500 alone.
        loses_posts: a `TransportError` out of the answer becomes a post without a reply.
    """

    push: Callable[[bytes], Awaitable[None]]
    end: Callable[[], Awaitable[None]]
    cut: Callable[[], Awaitable[None]] | None = None
    refuse: Callable[[int], Awaitable[None]] | None = None
    keep_alive: Callable[[], Awaitable[None]] | None = None
    vanish: Callable[[], Awaitable[None]] | None = None
    subscriber: Callable[[], Awaitable[str | None]] | None = None
    longest: int | None = None
    has_statuses: bool = True
    loses_posts: bool = False


OpenPair: TypeAlias = Callable[[Answer], AbstractAsyncContextManager[tuple[Transport, Peer]]]
"""Opens the other side, given what answers posts, and yields a transport that is not open yet, and the other side."""


class _Desk:
    """Answers posts with 200, or as a check says, and keeps what came."""

    def __init__(self) -> None:
        self.posts: list[tuple[str, bytes]] = []
        self.reply: Callable[[str, bytes], Awaitable[Reply]] = self._accept

    async def answer(self, path: str, body: bytes) -> Reply:
        self.posts.append((path, bytes(body)))
        return await self.reply(path, body)

    async def _accept(self, path: str, body: bytes) -> Reply:  # noqa: ARG002 - the signature of an answer
        return Reply(status=200, is_json=True)


class Scene(msgspec.Struct, frozen=True):
    """An open transport, its other side, and who answers its posts."""

    transport: Transport
    peer: Peer
    desk: _Desk


@asynccontextmanager
async def open_scene(open_pair: OpenPair) -> AsyncGenerator[Scene]:
    """Open both sides, and the transport."""
    desk = _Desk()
    async with open_pair(desk.answer) as (transport, peer), transport.open():
        yield Scene(transport, peer, desk)


Play: TypeAlias = Callable[[Scene], Awaitable[None]]


def _on_a_scene(play: Play) -> Callable[[OpenPair], Awaitable[None]]:
    async def opened(open_pair: OpenPair) -> None:
        async with open_scene(open_pair) as scene:
            await play(scene)

    return opened


def large_document(size: int) -> bytes:
    """Return a document of so many bytes, in which hardly any place is the border of a character."""
    snowmen, odd = divmod(size - len('{"large":""}'), len("☃".encode()))
    return f'{{"large":"{"x" * odd}{"☃" * snowmen}"}}'.encode()


async def read(stream: EventStream, count: int) -> list[bytes | Oversized]:
    """Read so many documents, as bytes whichever way they come."""
    found: list[bytes | Oversized] = []
    while len(found) < count:
        try:
            received = await stream.receive()
        except anyio.EndOfStream:
            raise Unexpected(f"the stream ended after {len(found)} of {count} documents") from None
        found += [item.encode() if isinstance(item, str) else item for item in received]
    return found


async def error_of(act: Callable[[], Awaitable[object]]) -> Exception | None:
    """Return what is raised, None where nothing is."""
    try:
        await act()
    except Exception as exc:
        return exc
    return None


def name_of(error: Exception | None) -> str:
    """Return what to call an error, or its absence."""
    return "nothing" if error is None else type(error).__name__


async def push_and_read(scene: Scene, stream: EventStream, *documents: bytes) -> list[bytes | Oversized]:
    """Send documents while somebody reads, and return what comes."""
    found: list[bytes | Oversized] = []

    async def push_all() -> None:
        for document in documents:
            await scene.peer.push(document)

    async with anyio.create_task_group() as group:
        group.start_soon(push_all)
        found += await read(stream, len(documents))
    return found


def always(reply: Reply) -> Answer:
    """Return what gives the same answer to every post."""

    async def answer(path: str, body: bytes) -> Reply:  # noqa: ARG001 - the signature of an answer
        return reply

    return answer


def row(name: str, sentence: str, play: Play) -> Check[OpenPair]:
    """Return a check that is played between an open transport and its other side."""
    return Check(name, sentence, _on_a_scene(play))


async def enter(scene: Scene) -> None:
    """Open the stream, and leave it."""
    async with scene.transport.subscribe(NEURON_ID):
        pass


async def works(scene: Scene) -> None:
    """See that a stream can be opened and read, and a post be answered."""
    async with scene.transport.subscribe(NEURON_ID) as stream:
        await scene.peer.push(b'{"still":"here"}')
        (document,) = await read(stream, 1)
        expect(document == b'{"still":"here"}', "another document came afterwards: {}", document)
    reply = await scene.transport.post("heartbeat", b"{}")
    expect(reply.status == 200, "a post was answered {} afterwards", reply.status)  # noqa: PLR2004 - success
