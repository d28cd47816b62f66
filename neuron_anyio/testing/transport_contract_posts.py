"""The sentences of `Transport.post`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import anyio

from neuron_anyio.abc import Reply
from neuron_anyio.errors import StreamRefused, TransportError

from .contract import PATIENCE, Check, LackingAbility, expect, require
from .transport_contract_scene import (
    DOCUMENTS,
    LARGE,
    NEURON_ID,
    OpenPair,
    Scene,
    always,
    enter,
    error_of,
    large_document,
    name_of,
    read,
    row,
    works,
)

__all__ = ["POST_CHECKS"]

STATUSES = (200, 201, 204, 400, 401, 403, 404, 409, 410, 422, 429, 500, 503)

AT_ONCE = 8
"""Posts at the same time: as many as a neuron sends when results and progress meet."""


async def _posts_arrive(scene: Scene) -> None:
    sent = [(path, document.encode()) for path in ("ack", "update-capability") for document in DOCUMENTS]
    sent.append(("ack", large_document(LARGE)))
    for path, body in sent:
        await scene.transport.post(path, body)
    for number, (one, other) in enumerate(zip(scene.desk.posts, sent, strict=False)):
        expect(one[0] == other[0], "post {} arrived as {}, it was sent as {}", number, one[0], other[0])
        expect(one[1] == other[1], "post {} of {} bytes arrived as other {}", number, len(other[1]), len(one[1]))
    expect(len(scene.desk.posts) == len(sent), "{} posts became {}", len(sent), len(scene.desk.posts))


async def _statuses(scene: Scene) -> None:
    for number, status in enumerate(STATUSES if scene.peer.has_statuses else (200, 500), 1):
        scene.desk.reply = always(Reply(status=status))
        found = (await scene.transport.post("ack", b"{}")).status
        expect(found == status, "{} came back as {}", status, found)
        expect(len(scene.desk.posts) == number, "what was answered {} was posted again", status)


async def _replies(scene: Scene) -> None:
    if not scene.peer.has_statuses:
        raise LackingAbility("has_statuses")
    for is_json in (True, False):
        sent = Reply(status=429, text="too many", is_json=is_json, retry_after=7.0)
        scene.desk.reply = always(sent)
        reply = await scene.transport.post("ack", b"{}")
        expect("too many" in reply.text, "the text {} came back as {}", sent.text, reply.text)
        expect(reply.is_json is is_json, "is_json {} came back as {}", is_json, reply.is_json)
        expect(reply.retry_after == sent.retry_after, "the wait of 7 s came back as {}", reply.retry_after)
    scene.desk.reply = always(Reply(status=200))
    wait = (await scene.transport.post("ack", b"{}")).retry_after
    expect(wait is None, "where nothing was said of waiting, retry_after is {}", wait)


async def _posts_at_once(scene: Scene) -> None:
    """Answer none before all have come, and then the last first."""
    here = anyio.Event()
    places = list(range(AT_ONCE))
    turns = [anyio.Event() for _ in places]
    turns[-1].set()
    statuses: dict[int, int] = {}

    async def answer(path: str, body: bytes) -> Reply:  # noqa: ARG001 - the signature of an answer
        number = int(body)
        if len(scene.desk.posts) == AT_ONCE:
            here.set()
        await here.wait()
        await turns[number].wait()
        if number:
            turns[number - 1].set()
        return Reply(status=500 if number % 2 else 200)

    async def post(number: int) -> None:
        statuses[number] = (await scene.transport.post("progress", b"%d" % number)).status

    scene.desk.reply = answer
    with anyio.move_on_after(PATIENCE / 4):
        async with anyio.create_task_group() as group:
            for number in places:
                group.start_soon(post, number)
    come = len(scene.desk.posts)
    expect(come == AT_ONCE, "of {} posts at once {} came before the first was answered", AT_ONCE, come)
    wanted = {number: 500 if number % 2 else 200 for number in places}
    expect(statuses == wanted, "replies by post were {}, not {}", statuses, wanted)


async def _post_beside_a_stream(scene: Scene) -> None:
    """Post from inside an answer's time, with a document that comes before the reply and one after it."""

    async def push_first(path: str, body: bytes) -> Reply:  # noqa: ARG001 - the signature of an answer
        await scene.peer.push(b'{"before":"the reply"}')
        return Reply(status=200)

    scene.desk.reply = push_first
    async with scene.transport.subscribe(NEURON_ID) as stream:
        await scene.transport.post("heartbeat", b"{}")
        await scene.peer.push(b'{"after":"the reply"}')
        found = await read(stream, 2)
    expect(found == [b'{"before":"the reply"}', b'{"after":"the reply"}'], "the stream gave {}", found)


async def _post_cancelled(scene: Scene) -> None:
    begun, released = anyio.Event(), anyio.Event()

    async def hold(path: str, body: bytes) -> Reply:  # noqa: ARG001 - the signature of an answer
        begun.set()
        await released.wait()
        return Reply(status=500)

    scene.desk.reply = hold
    async with anyio.create_task_group() as group:
        group.start_soon(scene.transport.post, "ack", b"{}")
        await begun.wait()
        group.cancel_scope.cancel()
    scene.desk.reply = always(Reply(status=200))
    released.set()
    await works(scene)


async def _post_lost(scene: Scene) -> None:
    if not scene.peer.loses_posts:
        raise LackingAbility("loses_posts")

    async def lose(path: str, body: bytes) -> Reply:  # noqa: ARG001 - the signature of an answer
        raise TransportError("no reply")

    scene.desk.reply = lose
    error = await error_of(lambda: scene.transport.post("ack", b"{}"))
    expect(isinstance(error, TransportError), "{} came out of post()", name_of(error))
    expect(len(scene.desk.posts) == 1, "it was posted {} times", len(scene.desk.posts))
    scene.desk.reply = always(Reply(status=200))
    await works(scene)


async def _unreachable(scene: Scene) -> None:
    vanish = require(scene.peer.vanish, "vanish")
    await vanish()
    acts: dict[str, Callable[[], Awaitable[object]]] = {
        "post()": lambda: scene.transport.post("ack", b"{}"),
        "subscribe()": lambda: enter(scene),
    }
    for name, act in acts.items():
        error = await error_of(act)
        expect(isinstance(error, TransportError), "{} came out of {}", name_of(error), name)
        expect(not isinstance(error, StreamRefused), "StreamRefused came out of {}, and nobody had answered", name)


POST_CHECKS: tuple[Check[OpenPair], ...] = (
    row("posts", "Frames that are posted arrive whole, each once, under their path, also large ones.", _posts_arrive),
    row(
        "statuses",
        "The status of the reply is the other side's, without statuses 200 or 500; nothing is posted again.",
        _statuses,
    ),
    row("replies", "A reply has the other side's text, whether it was JSON, and its wait.", _replies),
    row("at-once", "Several posts are carried at the same time, and each has its own reply.", _posts_at_once),
    row("beside", "Posts and the stream do not hold each other up.", _post_beside_a_stream),
    row("post-cancelled", "`post` can be cancelled at any time and leaves the transport usable.", _post_cancelled),
    row(
        "post-lost",
        "Where no reply comes, `post` raises `TransportError` and repeats nothing; the next one may work.",
        _post_lost,
    ),
    row("unreachable", "Where nobody can be reached, `post` and `subscribe` raise `TransportError`.", _unreachable),
)
