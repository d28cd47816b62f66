"""Calls both ways over one byte stream."""

from __future__ import annotations

import json
import logging
import socket
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest
from anyio.abc import ByteStream
from anyio.streams.buffered import BufferedByteReceiveStream

from neuron_anyio.errors import TransportError
from neuron_anyio.framing import Skipped
from neuron_anyio.jsonrpc import METHOD_NOT_FOUND, ROOM, Handlers, RpcConnection, RpcError
from neuron_anyio.local_streams import socket_stream

pytestmark = pytest.mark.anyio

LOG = logging.getLogger("tests.ipc")


@asynccontextmanager
async def pipe() -> AsyncGenerator[tuple[ByteStream, ByteStream]]:
    """Two ends of one connection."""
    left, right = (socket_stream(end) for end in socket.socketpair())
    async with left, right:
        yield left, right


def connection(stream: ByteStream, handlers: Handlers | None = None, **options: Any) -> RpcConnection:
    chosen: dict[str, Any] = {"framing": "lines", "max_bytes": 1_000_000, "name": "the peer", "log": LOG} | options
    return RpcConnection(stream, handlers or Handlers(refuse), **chosen)


async def refuse(method: str, params: bytes) -> Any:
    raise RpcError(f"no {method}", code=METHOD_NOT_FOUND, data=b'{"a":1}')


async def double(method: str, params: bytes) -> Any:
    value = json.loads(params)
    await anyio.sleep(0.001 * (value % 3))
    return value * 2


async def test_calls_of_both_sides_find_their_answers_in_any_order() -> None:
    answers: dict[int, int] = {}
    async with pipe() as (left, right):
        one, other = connection(left, Handlers(double)), connection(right, Handlers(double))

        async def ask(who: RpcConnection, value: int) -> None:
            answers[value] = json.loads(await who.call("double", value))

        with anyio.fail_after(10):
            async with one.running(), other.running(), anyio.create_task_group() as tasks:
                for value in range(50):
                    tasks.start_soon(ask, one if value % 2 else other, value)
    assert answers == {value: value * 2 for value in range(50)}


async def test_an_error_answer_is_raised_with_its_code_and_data() -> None:
    async with pipe() as (left, right):
        one, other = connection(left), connection(right)
        with anyio.fail_after(10):
            async with one.running(), other.running():
                with pytest.raises(RpcError, match="no dance") as caught:
                    await one.call("dance", None)
    assert (caught.value.code, caught.value.data) == (METHOD_NOT_FOUND, b'{"a":1}')


async def test_a_handler_that_fails_answers_with_its_class_alone(caplog: pytest.LogCaptureFixture) -> None:
    async def fail(method: str, params: bytes) -> Any:
        raise KeyError("a secret")

    async with pipe() as (left, right):
        one, other = connection(left), connection(right, Handlers(fail))
        with anyio.fail_after(10):
            async with one.running(), other.running():
                with pytest.raises(RpcError, match=r"^KeyError$"):
                    await one.call("x", None)
                assert other.end is None


async def test_a_cancelled_call_leaves_the_stream_whole_and_its_late_answer_is_dropped() -> None:
    let_go = anyio.Event()

    async def slow(method: str, params: bytes) -> Any:
        if method == "slow":
            await let_go.wait()
        return method

    async with pipe() as (left, right):
        one, other = connection(left), connection(right, Handlers(slow))
        with anyio.fail_after(10):
            async with one.running(), other.running():
                with anyio.move_on_after(0.05):
                    await one.call("slow", "x" * 500_000)
                let_go.set()
                assert json.loads(await one.call("quick", None)) == "quick"


@pytest.mark.parametrize("end", ["closed", "in the middle", "broken"])
async def test_whoever_waits_for_an_answer_learns_that_the_other_side_is_gone(end: str) -> None:
    ended: list[str] = []
    async with pipe() as (left, right):
        one = connection(left, Handlers(refuse, ended=ended.append))
        with anyio.fail_after(10):
            async with one.running(), anyio.create_task_group() as tasks:

                async def ask() -> None:
                    with pytest.raises(TransportError, match="the peer: it has"):
                        await one.call("x", None)

                tasks.start_soon(ask)
                await right.receive()
                if end == "in the middle":
                    await right.send(b'{"jsonrpc"')
                if end == "broken":
                    await one.notify("more", None)  # closing with something unread resets the connection
                    await anyio.lowlevel.checkpoint()
                await right.aclose()
            with pytest.raises(TransportError):
                await one.call("x", None)
    assert ("in the middle" in ended[0]) == (end == "in the middle")
    assert len(ended) == 1


@pytest.mark.parametrize(
    "stray",
    [b"hello", b"{}", b"[]", b"7", b'{"id":7,"result":1}', b'{"method":7}', b"\xff\xfe", b'{"id":{}}', b"[" * 9000],
)
async def test_what_is_no_message_is_dropped_and_the_connection_goes_on(stray: bytes) -> None:
    async with pipe() as (left, right):
        one = connection(left)
        with anyio.fail_after(10):
            async with one.running(), anyio.create_task_group() as tasks:

                async def answer() -> None:
                    lines = BufferedByteReceiveStream(right)
                    asked = json.loads(await lines.receive_until(b"\n", 10_000))
                    await right.send(stray + b"\n" + json.dumps({"id": asked["id"], "result": "yes"}).encode() + b"\n")

                tasks.start_soon(answer)
                assert json.loads(await one.call("x", None)) == "yes"


async def test_a_message_over_the_limit_is_skipped_and_told() -> None:
    skipped: list[Skipped] = []
    async with pipe() as (left, right):
        one = connection(left, Handlers(refuse, skipped=skipped.append), max_bytes=1_000)
        other = connection(right, Handlers(double))
        with anyio.fail_after(10):
            async with one.running(), other.running():
                await other.notify("news", "x" * 5_000)
                assert json.loads(await one.call("double", 4)) == 8
    assert [message.size for message in skipped] == [5_045]


async def test_who_writes_faster_than_the_other_side_reads_waits() -> None:
    sent = 0
    async with pipe() as (left, right):
        one = connection(left)
        with anyio.fail_after(10):
            async with one.running(), anyio.create_task_group() as tasks:

                async def flood() -> None:
                    nonlocal sent
                    while True:
                        await one.notify("news", "x" * 10_000)
                        sent += 10_000
                        await anyio.lowlevel.checkpoint()

                tasks.start_soon(flood)
                await anyio.sleep(0.3)
                tasks.cancel_scope.cancel()
            await right.aclose()
    assert ROOM <= sent < 4 * ROOM  # what the socket took, what is being written, and the room


async def test_what_was_said_last_goes_out_before_the_connection_is_left() -> None:
    told: list[bytes] = []
    async with pipe() as (left, right):
        one, other = (
            connection(left),
            connection(right, Handlers(refuse, notification=lambda _, said: told.append(said))),
        )
        with anyio.fail_after(10):
            async with other.running():
                async with one.running():
                    for number in range(100):
                        await one.notify("news", number)
                await other.wait_ended()
    assert [json.loads(said) for said in told] == list(range(100))


async def test_the_blocks_own_error_comes_out_as_it_is() -> None:
    async with pipe() as (left, _):
        with pytest.raises(KeyError, match="mine"):
            async with connection(left).running():
                raise KeyError("mine")
