"""The fault gateway's connections and streams, byte by byte."""

from __future__ import annotations

import anyio
import pytest

from neuron_anyio.testing.fault_gateway import open_fault_gateway
from tests.faults.client import Answer, Client

pytestmark = [pytest.mark.anyio, pytest.mark.thorough]


# Connections


async def test_nobody_listens_for_a_while() -> None:
    async with open_fault_gateway("connection.refused") as gateway:
        client = Client(gateway)
        with pytest.raises(OSError, match=r"refused|attempts failed"):
            await client.post("register")
        with anyio.fail_after(5):
            await anyio.sleep(0.25)
            assert (await client.post("register")).status == 200


@pytest.mark.parametrize("kind", ["rst", "close"])
async def test_all_connections_end_once_a_handler_runs_and_the_next_three_too(kind: str) -> None:
    ends = (anyio.BrokenResourceError,) if kind == "rst" else (anyio.EndOfStream, anyio.BrokenResourceError)
    async with open_fault_gateway(f"connection.{kind}") as gateway:
        client = Client(gateway)
        gateway.submit("test/echo", None)
        async with client.events() as events:
            await events.frame("lease")
            with pytest.raises(ends):
                await client.post("progress")
            with anyio.fail_after(5), pytest.raises(ends):
                while True:
                    await events.stream.receive()
        for _ in range(3):
            with pytest.raises((*ends, OSError)):
                await client.post("register")
        assert (await client.post("register")).status == 200


async def test_a_stream_is_cut_within_a_lease_that_comes_whole_on_the_next() -> None:
    async with open_fault_gateway("connection.close-mid-frame") as gateway:
        client = Client(gateway)
        gateway.submit("test/echo", None)
        async with client.events() as events:
            with anyio.fail_after(5), pytest.raises(anyio.EndOfStream):
                while True:
                    events.answer.parser.feed_data(await events.stream.receive())
            assert b'"leaseId":"lease-1"' in events.answer.body
            assert not events.answer.body.endswith(b"\n")
            assert not events.answer.complete
        async with client.events() as events:
            assert (await events.frame("lease"))["lease"]["leaseId"] == "lease-2"


@pytest.mark.parametrize("fault", ["connection.half-open", "connection.stalled-headers", "connection.stalled-replies"])
async def test_what_stalls_says_nothing_and_stays_open(fault: str) -> None:
    async with open_fault_gateway(fault) as gateway:
        client = Client(gateway)
        gateway.submit("test/echo", None)
        answered = anyio.Event()

        async def ask() -> None:
            if fault == "connection.stalled-replies":
                await client.post("register")
            else:
                async with client.events(register=fault == "connection.half-open") as events:
                    await events.frame("lease")
            answered.set()

        with anyio.fail_after(5):
            async with anyio.create_task_group() as group:
                group.start_soon(ask)
                while not gateway.book.strikes:  # noqa: ASYNC110 - some faults strike before anything is answered
                    await anyio.sleep(0.01)
                await anyio.sleep(0.1)  # in which nothing comes
                assert not answered.is_set()
                group.cancel_scope.cancel()
        with anyio.fail_after(5):
            async with client.events() as events:
                await events.frame("lease")


async def test_a_flapping_stream_ends_five_times_at_once() -> None:
    async with open_fault_gateway("connection.flapping") as gateway:
        client = Client(gateway)
        answers = [await client.ask("stream") for _ in range(5)]
        assert [(answer.status, answer.complete, answer.body) for answer in answers] == [(200, True, b"")] * 5
        async with client.events() as events:
            await events.frame("registered")


# The stream


@pytest.mark.parametrize("what", ["byte-by-byte", "split-utf8", "split-crlf", "cr-only", "comments", "bom"])
async def test_the_stream_looks_odd_and_says_the_same(what: str) -> None:
    async with open_fault_gateway(f"stream.{what}") as gateway:
        gateway.submit("test/echo", {"text": "ü漢🙂"})
        async with Client(gateway).events() as events:
            lease = await events.frame("lease")
            assert lease["lease"]["task"]["input"] == {"text": "ü漢🙂"}
            check_odd(what, events.answer)


def check_odd(what: str, answer: Answer) -> None:
    text = answer.body
    match what:
        case "byte-by-byte":
            assert {len(chunk) for chunk in answer.chunks} == {1}
        case "split-utf8":
            assert any(chunk[0] & 0xC0 == 0x80 for chunk in answer.chunks)
        case "split-crlf":
            assert any(chunk.startswith(b"\n") for chunk in answer.chunks)
            assert text.count(b"\n") == text.count(b"\r\n")
        case "cr-only":
            assert b"\n" not in text
            assert b"\r\r" in text
        case "comments":
            assert text.startswith(b": ")
        case _:
            assert text.startswith(b"\xef\xbb\xbf")


@pytest.mark.parametrize("what", ["unknown-types", "malformed-json", "deep-nesting"])
async def test_strange_documents_come_before_each_frame(what: str) -> None:
    async with open_fault_gateway(f"stream.{what}") as gateway, Client(gateway).events() as events:
        strange = []
        with anyio.fail_after(5):
            while '"type":"registered"' not in (document := await events.document()):
                strange.append(document)
        assert len(strange) == {"unknown-types": 4, "malformed-json": 6, "deep-nesting": 1}[what]
        if what == "deep-nesting":
            assert strange[0].startswith("[" * 200_000 + "]")


async def test_every_object_of_the_wire_has_an_unknown_member_but_not_the_users() -> None:
    async with open_fault_gateway("stream.unknown-members") as gateway, Client(gateway).events() as events:
        gateway.submit("test/echo", {"a": 1})
        frame = await events.frame("lease")
        assert all("x-new" in item for item in (frame, frame["lease"], frame["lease"]["task"]))
        assert frame["lease"]["task"]["input"] == {"a": 1}


async def test_a_page_comes_instead_of_the_stream_twice() -> None:
    async with open_fault_gateway("stream.html") as gateway:
        client = Client(gateway)
        answers = [await client.ask("stream") for _ in range(2)]
        assert [answer.headers["content-type"] for answer in answers] == ["text/html"] * 2
        async with client.events() as events:
            await events.frame("registered")
