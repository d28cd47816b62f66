"""Each check of the transport's contract fails for the defect that it is there for, and for no other."""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import quote

import anyio
import pytest
from anyio.abc import TaskGroup
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from neuron_anyio.abc import EventStream, Oversized, Reply, Transport
from neuron_anyio.errors import StreamRefused, TransportError
from neuron_anyio.testing.transport_contract import TRANSPORT_CHECKS, Answer, ContractBroken, Peer, check_transport

pytestmark = pytest.mark.anyio

LONGEST = 100_000
PATIENCE = 2.0
"""Seconds for each check."""

COMMENT = b": comment"


class Stream:
    """A sound stream; defects override its parts."""

    def __init__(self, transport: Sound, receive: MemoryObjectReceiveStream[bytes | Exception]) -> None:
        self.comments = 0
        self.transport = transport
        self.incoming = receive

    async def receive(self) -> Sequence[bytes | str | Oversized]:
        item = await self.incoming.receive()
        if isinstance(item, Exception):
            raise item
        if item == COMMENT:
            return self.comment()
        if len(item) > LONGEST:
            return [self.oversized(item)]
        return [self.document(item)]

    def comment(self) -> list[bytes]:
        self.comments += 1
        return []

    def oversized(self, item: bytes) -> Oversized:
        return Oversized(size=len(item), head=item[:4096])

    def document(self, item: bytes) -> bytes:
        return item


class Sound:
    """A transport in memory whose other side has every ability, without a defect."""

    stream_type: type[Stream] = Stream
    bystanders: TaskGroup

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.origin = "memory:teeth"
        self.refusals: list[int] = []
        self.gone = False
        self.subscriptions = 0
        self.neuron_id: str | None = None
        self.posting = 0
        self.sink: MemoryObjectSendStream[bytes | Exception]

    @asynccontextmanager
    async def open(self) -> AsyncGenerator[None]:
        yield

    @asynccontextmanager
    async def subscribe(self, neuron_id: str) -> AsyncGenerator[EventStream]:
        await anyio.lowlevel.checkpoint()
        self.check_reachable()
        if self.refusals:
            raise self.refusal(self.refusals.pop(0))
        self.subscriptions += 1
        self.neuron_id = neuron_id
        self.sink, incoming = anyio.create_memory_object_stream[bytes | Exception](math.inf)
        with self.sink, incoming:
            yield self.stream_type(self, incoming)

    async def post(self, path: str, body: bytes) -> Reply:
        await anyio.lowlevel.checkpoint()
        self.check_reachable()
        self.posting += 1
        try:
            return await self.answer(path, body)
        finally:
            self.posting -= 1

    def check_reachable(self) -> None:
        if self.gone:
            raise self.unreachable()

    def unreachable(self) -> Exception:
        return TransportError("gone")

    def refusal(self, status: int) -> Exception:
        return StreamRefused("refused", status=status)

    # The other side

    async def push(self, document: bytes) -> None:
        self.sink.send_nowait(document)

    async def end(self) -> None:
        self.sink.close()

    async def cut(self) -> None:
        self.sink.send_nowait(TransportError("cut"))

    async def keep_alive(self) -> None:
        self.sink.send_nowait(COMMENT)

    async def refuse(self, status: int) -> None:
        self.refusals.append(status)

    async def vanish(self) -> None:
        self.gone = True

    async def subscriber(self) -> str | None:
        return self.neuron_id


# Defects of the transport itself


class ChangesItsName(Sound):
    @asynccontextmanager
    async def open(self) -> AsyncGenerator[None]:
        self.origin = "memory:open"
        yield


class HoldsCancellationUp(Sound):
    @asynccontextmanager
    async def open(self) -> AsyncGenerator[None]:
        try:
            yield
        except anyio.get_cancelled_exc_class():
            with anyio.move_on_after(PATIENCE + 0.5, shield=True):
                await anyio.sleep_forever()
            raise


class LeavesATask(Sound):
    @asynccontextmanager
    async def open(self) -> AsyncGenerator[None]:
        self.bystanders.start_soon(anyio.sleep_forever)
        yield


# Defects of the stream


class Ascii(Stream):
    def document(self, item: bytes) -> bytes:
        return item.replace("ü".encode(), b"u")


class ForgetsTheFirst(Stream):
    fresh = True

    async def receive(self) -> Sequence[bytes | str | Oversized]:
        if self.fresh and self.incoming.statistics().current_buffer_used > 2:
            await self.incoming.receive()
        self.fresh = False
        return await super().receive()


class CutsLargeOnes(Stream):
    def document(self, item: bytes) -> bytes:
        return item[:50_000]


class DecodesByBlocks(Stream):
    def document(self, item: bytes) -> bytes:
        blocks = [item[start : start + 65_536] for start in range(0, len(item), 65_536)]
        return b"".join(block.decode(errors="replace").encode() for block in blocks)


class WrongSize(Stream):
    def oversized(self, item: bytes) -> Oversized:
        return Oversized(size=LONGEST, head=item[:4096])


class CountsTwice(Stream):
    def comment(self) -> list[bytes]:
        self.comments += 2
        return []


class CountsDocuments(Stream):
    def document(self, item: bytes) -> bytes:
        self.comments += b": " in item and b"not a comment" in item
        return item


class BreaksAtTheEnd(Stream):
    async def receive(self) -> Sequence[bytes | str | Oversized]:
        try:
            return await super().receive()
        except anyio.EndOfStream:
            raise TransportError("the stream ended") from None


class EndsWhereItBreaks(Stream):
    async def receive(self) -> Sequence[bytes | str | Oversized]:
        try:
            return await super().receive()
        except TransportError:
            raise anyio.EndOfStream from None


class SpoilsWhenCancelled(Stream):
    async def receive(self) -> Sequence[bytes | str | Oversized]:
        try:
            return await super().receive()
        except anyio.get_cancelled_exc_class():
            self.transport.gone = True
            raise


class TwiceOnly(Sound):
    @asynccontextmanager
    async def subscribe(self, neuron_id: str) -> AsyncGenerator[EventStream]:
        if self.subscriptions == 2:
            raise TransportError("no third time")
        async with super().subscribe(neuron_id) as stream:
            yield stream


class EscapesTwice(Sound):
    async def subscriber(self) -> str | None:
        return None if self.neuron_id is None else quote(self.neuron_id)


class NoStatus(Sound):
    def refusal(self, status: int) -> Exception:
        return TransportError(f"refused with {status}")


class BrokenForGood(Sound):
    async def cut(self) -> None:
        await super().cut()
        self.gone = True


class Deafened(Sound):
    async def push(self, document: bytes) -> None:
        if not self.posting:
            await super().push(document)


# Defects of posts


class ShortPaths(Sound):
    async def post(self, path: str, body: bytes) -> Reply:
        return await super().post(path.partition("-")[0], body)


class ReadsStatuses(Sound):
    async def post(self, path: str, body: bytes) -> Reply:
        reply = await super().post(path, body)
        return Reply(status=404) if reply.status == 410 else reply


class HasNoWait(Sound):
    async def post(self, path: str, body: bytes) -> Reply:
        reply = await super().post(path, body)
        return Reply(status=reply.status, text=reply.text, is_json=reply.is_json)


class OneAfterTheOther(Sound):
    def __init__(self, answer: Answer) -> None:
        super().__init__(answer)
        self.lock = anyio.Lock()

    async def post(self, path: str, body: bytes) -> Reply:
        async with self.lock:
            return await super().post(path, body)


class SpoiltByCancelledPost(Sound):
    async def post(self, path: str, body: bytes) -> Reply:
        try:
            return await super().post(path, body)
        except anyio.get_cancelled_exc_class():
            self.gone = True
            raise


class InventsReplies(Sound):
    async def post(self, path: str, body: bytes) -> Reply:
        try:
            return await super().post(path, body)
        except TransportError:
            if self.gone:
                raise
            return Reply(status=500)


class RepeatsWhatWasLost(Sound):
    async def post(self, path: str, body: bytes) -> Reply:
        try:
            return await super().post(path, body)
        except TransportError:
            return await super().post(path, body)


class RepeatsWhatWasRefused(Sound):
    async def post(self, path: str, body: bytes) -> Reply:
        reply = await super().post(path, body)
        return await super().post(path, body) if reply.status == 503 else reply


class RaisesWhatItLikes(Sound):
    def unreachable(self) -> Exception:
        return OSError("nobody there")


def streaming(kind: type[Stream]) -> type[Sound]:
    return type(kind.__name__, (Sound,), {"stream_type": kind})


DEFECTS: dict[str, type[Sound]] = {
    "origin": ChangesItsName,
    "documents": streaming(Ascii),
    "open-inside": streaming(ForgetsTheFirst),
    "neuron-id": EscapesTwice,
    "large": streaming(CutsLargeOnes),
    "oversized": streaming(WrongSize),
    "comments": streaming(CountsTwice),
    "no-comments": streaming(CountsDocuments),
    "end": streaming(BreaksAtTheEnd),
    "break": streaming(EndsWhereItBreaks),
    "again": TwiceOnly,
    "refused": NoStatus,
    "receive-cancelled": streaming(SpoilsWhenCancelled),
    "posts": ShortPaths,
    "statuses": ReadsStatuses,
    "replies": HasNoWait,
    "at-once": OneAfterTheOther,
    "beside": Deafened,
    "post-cancelled": SpoiltByCancelledPost,
    "post-lost": InventsReplies,
    "unreachable": RaisesWhatItLikes,
    "cancelled": HoldsCancellationUp,
    "nothing-left": LeavesATask,
}


MORE: list[tuple[str, type[Sound]]] = [
    ("large", streaming(DecodesByBlocks)),
    ("break", BrokenForGood),
    ("statuses", RepeatsWhatWasRefused),
    ("post-lost", RepeatsWhatWasLost),
]
"""Second defects, each of another half of its sentence."""


async def broken_by(kind: type[Sound]) -> list[ContractBroken]:
    """Return what the checks find in a transport."""

    @asynccontextmanager
    async def open_pair(answer: Answer) -> AsyncGenerator[tuple[Transport, Peer]]:
        pair = kind(answer)
        pair.bystanders = bystanders
        names: list[str] = ["push", "end", "cut", "keep_alive", "refuse", "vanish", "subscriber"]
        abilities: dict[str, Any] = {name: getattr(pair, name) for name in names}
        yield pair, Peer(longest=LONGEST, loses_posts=True, **abilities)

    found: list[ContractBroken] = []
    async with anyio.create_task_group() as bystanders:
        try:
            assert await check_transport(open_pair, patience=PATIENCE) == []
        except ContractBroken as exc:
            found = [exc]
        except ExceptionGroup as group:
            found = [exc for exc in group.exceptions if isinstance(exc, ContractBroken)]
        bystanders.cancel_scope.cancel()
    return found


async def test_a_sound_transport_breaks_nothing() -> None:
    assert await broken_by(Sound) == []


def test_there_is_a_defect_for_each_check() -> None:
    assert list(DEFECTS) == [check.name for check in TRANSPORT_CHECKS]


@pytest.mark.parametrize(("name", "kind"), [*DEFECTS.items(), *MORE])
async def test_each_defect_is_found_by_its_own_check_and_by_no_other(name: str, kind: type[Sound]) -> None:
    found = await broken_by(kind)
    assert [exc.name for exc in found] == [name], "\n".join(map(str, found))
    (only,) = found
    assert only.sentence in str(only)
    assert only.seen in str(only)


async def test_several_broken_sentences_come_as_one_group() -> None:
    class Worse(ReadsStatuses, NoStatus):
        pass

    assert {exc.name for exc in await broken_by(Worse)} == {"statuses", "refused"}
