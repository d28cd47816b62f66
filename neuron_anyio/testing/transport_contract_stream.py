"""The sentences of `EventStream`, and of how one is opened."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import anyio

from neuron_anyio.abc import Oversized
from neuron_anyio.errors import StreamRefused, TransportError

from .contract import Check, expect, require
from .transport_contract_scene import (
    DOCUMENTS,
    LARGE,
    NEURON_ID,
    OpenPair,
    Scene,
    enter,
    error_of,
    large_document,
    name_of,
    push_and_read,
    read,
    row,
    works,
)

__all__ = ["STREAM_CHECKS"]


async def _documents_come(scene: Scene) -> None:
    sent = [document.encode() for document in DOCUMENTS * 3]
    async with scene.transport.subscribe(NEURON_ID) as stream:
        found = await push_and_read(scene, stream, *sent)
    pairs = enumerate(zip(found, sent, strict=False))
    differing = next((number for number, (one, other) in pairs if one != other), None)
    expect(differing is None and len(found) == len(sent), "document {} came otherwise, or elsewhere", differing)


async def _open_inside(scene: Scene) -> None:
    async with scene.transport.subscribe(NEURON_ID) as stream:
        for number in range(3):
            await scene.peer.push(b"%d" % number)
        await anyio.sleep(0.01)  # nobody reads yet
        found = await read(stream, 3)
    expect(found == [b"0", b"1", b"2"], "documents that were sent before the first receive came as {}", found)


async def _for_the_neuron(scene: Scene) -> None:
    subscriber = require(scene.peer.subscriber, "subscriber")
    async with scene.transport.subscribe(NEURON_ID):
        found = await subscriber()
    expect(found == NEURON_ID, "it was opened for {}, not for {}", found, NEURON_ID)


async def _large_documents(scene: Scene) -> None:
    longest = LARGE if scene.peer.longest is None else min(LARGE, scene.peer.longest)
    document = large_document(longest)
    async with scene.transport.subscribe(NEURON_ID) as stream:
        (found,) = await push_and_read(scene, stream, document)
    size = len(found) if isinstance(found, bytes) else found.size
    expect(found == document, "a document of {} bytes came out as other {} bytes", longest, size)


async def _oversized(scene: Scene) -> None:
    bound = require(scene.peer.longest, "longest")
    document = b'{"type":"lease","x":"' + b"x" * bound + b'"}'
    async with scene.transport.subscribe(NEURON_ID) as stream:
        large, following = await push_and_read(scene, stream, document, b'{"next":1}')
    expect(isinstance(large, Oversized), "a document of {} bytes came whole", len(document))
    assert isinstance(large, Oversized)
    expect(large.size == len(document), "its size is told as {}, it is {}", large.size, len(document))
    expect(large.head == document[:4096], "its head is not its first 4096 bytes")
    expect(following == b'{"next":1}', "what follows came as {}", following)


async def _comments(scene: Scene) -> None:
    keep_alive = require(scene.peer.keep_alive, "keep_alive")
    async with scene.transport.subscribe(NEURON_ID) as stream:
        before: Any = stream.comments
        expect(type(before) is int and before >= 0, "comments is {}", before)
        await keep_alive()
        received: Sequence[object] = await stream.receive()
        expect(not received, "a sign of life came as documents: {}", received)
        expect(stream.comments == before + 1, "comments went from {} to {}", before, stream.comments)
        await scene.peer.push(b'{"next":1}')
        expect(await read(stream, 1) == [b'{"next":1}'], "the document after it did not come")


async def _no_comments(scene: Scene) -> None:
    async with scene.transport.subscribe(NEURON_ID) as stream:
        before: Any = stream.comments
        expect(type(before) is int and before >= 0, "comments is {}", before)
        await scene.peer.push(b'": not a comment"')
        await read(stream, 1)
        expect(stream.comments == before, "a document was counted as a sign of life")


async def _ends(scene: Scene) -> None:
    async with scene.transport.subscribe(NEURON_ID) as stream:
        await scene.peer.push(b'{"last":1}')
        await scene.peer.end()
        expect(await read(stream, 1) == [b'{"last":1}'], "what was sent before the end did not come")
        error = await error_of(stream.receive)
        while error is None:
            error = await error_of(stream.receive)
    expect(isinstance(error, anyio.EndOfStream), "{} came out of receive()", name_of(error))


async def _breaks(scene: Scene) -> None:
    cut = require(scene.peer.cut, "cut")
    async with scene.transport.subscribe(NEURON_ID) as stream:
        await scene.peer.push(b'{"first":1}')
        await read(stream, 1)
        await cut()
        error = await error_of(stream.receive)
        while error is None:
            error = await error_of(stream.receive)
    expect(isinstance(error, TransportError), "{} came out of receive()", name_of(error))
    await works(scene)


async def _again(scene: Scene) -> None:
    for number in range(3):
        async with scene.transport.subscribe(NEURON_ID) as stream:
            await scene.peer.push(b"%d" % number)
            found = await read(stream, 1)
            expect(found == [b"%d" % number], "the stream that was opened as number {} gave {}", number + 1, found)
            if number == 0:
                await scene.peer.push(b'{"never":"read"}')
            elif number == 1:
                await scene.peer.end()
                await error_of(stream.receive)


async def _refused(scene: Scene) -> None:
    refuse = require(scene.peer.refuse, "refuse")
    for status in (404, 503):
        await refuse(status)
        error = await error_of(lambda: enter(scene))
        expect(isinstance(error, StreamRefused), "{} came out of subscribe()", name_of(error))
        assert isinstance(error, StreamRefused)
        expect(error.status == status, "its status is {}, the answer's was {}", error.status, status)
    await works(scene)


async def _receive_cancelled(scene: Scene) -> None:
    async with scene.transport.subscribe(NEURON_ID) as stream:
        with anyio.move_on_after(0.02) as scope:
            while True:
                await stream.receive()
        expect(scope.cancelled_caught, "receive() ended otherwise")
    await works(scene)


STREAM_CHECKS: tuple[Check[OpenPair], ...] = (
    row("documents", "Documents come out of the stream whole, in order, with every character.", _documents_come),
    row("open-inside", "Inside the block of `subscribe` the stream is open: nothing sent then is lost.", _open_inside),
    row("neuron-id", "The stream is that of the neuron that asks, whatever its id is made of.", _for_the_neuron),
    row("large", "A document of 1.5 MB comes whole, where no smaller bound is declared.", _large_documents),
    row(
        "oversized", "A document over the bound is skipped and comes out as `Oversized`: its size and head.", _oversized
    ),
    row("comments", "A sign of life makes `receive` return nothing, and is counted in `comments`.", _comments),
    row("no-comments", "`comments` counts nothing but signs of life.", _no_comments),
    row("end", "After a clean end, and what was sent before it, `receive` raises `EndOfStream`.", _ends),
    row("break", "Where the stream breaks, `receive` raises `TransportError`, and another may be opened.", _breaks),
    row("again", "A stream can be opened again, whichever way the one before it was left.", _again),
    row("refused", "An answer that is no stream makes `subscribe` raise `StreamRefused` with its status.", _refused),
    row("receive-cancelled", "`receive` can be cancelled; then a new stream can be opened.", _receive_cancelled),
)
