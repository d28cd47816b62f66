"""Replies that are no gateway's, over real HTTP: one clear error each, whatever is wrong with them."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress

import anyio
import pytest
from anyio.abc import SocketAttribute, SocketStream

from neuron_anyio._client_wire import decoded
from neuron_anyio.client import GatewayClient, RequestRefused
from neuron_anyio.errors import TransportError
from neuron_anyio.statuses import TaskPage

pytestmark = pytest.mark.anyio

DEEP = b"[" * 100_000 + b"]" * 100_000
UNREADABLE = {
    "text": b"<html>",
    "nothing": b"",
    "another document": b"[]",
    "not UTF-8": b'{"taskId": "\xff"}',
    "too deep": DEEP,
    "too deep in a member": b'{"taskId": "t", "output": ' + DEEP + b"}",
}


@asynccontextmanager
async def answering(status: int, body: bytes) -> AsyncGenerator[str]:
    """Answer every request with one reply."""
    head = f"HTTP/1.1 {status} So\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode()

    async def answer(stream: SocketStream) -> None:
        async with stream:
            received = b""
            while b"\r\n\r\n" not in received:
                received += await stream.receive()
            await stream.send(head + body)
            with suppress(anyio.EndOfStream, anyio.BrokenResourceError):
                await stream.receive()  # until the client closes

    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, answer)
        yield f"http://127.0.0.1:{listener.extra(SocketAttribute.local_port)}"
        tasks.cancel_scope.cancel()


@pytest.mark.parametrize("body", UNREADABLE.values(), ids=UNREADABLE)
async def test_a_reply_that_cannot_be_read_says_so_and_what_to_check(body: bytes) -> None:
    with anyio.fail_after(10):
        async with answering(200, body) as url, GatewayClient(url) as client:
            with pytest.raises(TransportError, match="the reply is not a gateway's; check the URL"):
                await client.task("t")


@pytest.mark.parametrize("body", UNREADABLE.values(), ids=UNREADABLE)
async def test_a_refusal_whose_text_cannot_be_read_is_still_a_refusal(body: bytes) -> None:
    with anyio.fail_after(10):
        async with answering(404, body) as url, GatewayClient(url) as client:
            with pytest.raises(RequestRefused) as caught:
                await client.task("t")
            assert caught.value.status == 404


def test_a_document_that_is_deeper_than_the_stack_is_no_gateways() -> None:
    with pytest.raises(TransportError, match="check the URL"):
        decoded(b'{"tasks": ' + DEEP + b"}", TaskPage, "GET http://gateway/tasks")
