"""Hosts and neurons that send garbage, too much, everything twice, or nothing any more."""

from __future__ import annotations

import errno
import json
import logging
import os
import socket
import subprocess
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio.abc import ByteStream

from neuron_anyio import (
    Backoff,
    GatewayDisconnected,
    HttpTransport,
    IpcTransport,
    Limits,
    Timing,
    TransportError,
    capability,
    open_neuron,
)
from neuron_anyio.framing import Framing, Skipped
from neuron_anyio.gateway import open_gateway
from neuron_anyio.ipc_host import serve_bridge, serve_unix
from neuron_anyio.jsonrpc import ROOM, SERVED_AT_ONCE, TOO_LARGE, Handlers, RpcConnection, RpcError
from neuron_anyio.local_streams import listening_unix, socket_stream
from neuron_anyio.testing.steered_handler import SteeredHandler

pytestmark = pytest.mark.anyio

FAST = Timing(reconnect=Backoff(initial=0.01, maximum=0.05), request=5.0, drain=20.0)
LOG = logging.getLogger("tests.ipc")

REGISTERED = (
    b'{"type":"registered","sessionId":"s","acceptedAt":"2026-01-01T00:00:00Z",'
    b'"capabilities":[{"type":"test/steered","scope":"any","concurrency":1}]}'
)
LEASE = (
    b'{"type":"lease","sentAt":"2026-01-01T00:00:00Z","lease":{"leaseId":"lease-1","expiresAt":"2026-01-01T01:00:00Z",'
    b'"task":{"taskId":"t","workflowId":"w","capability":"test/steered","input":null,"attempt":0}}}'
)


def ends() -> tuple[ByteStream, ByteStream]:
    left, right = socket.socketpair()
    return socket_stream(left), socket_stream(right)


def frame(document: bytes) -> bytes:
    return b'{"jsonrpc":"2.0","method":"frame","params":{"channel":"c","frame":%b}}\n' % document


@asynccontextmanager
async def hosted_by(
    stream: ByteStream, then: Callable[[dict[str, Any]], Awaitable[None]]
) -> AsyncGenerator[anyio.CancelScope]:
    """Answer a neuron's calls as a host does; `then` sees each call after its answer. Cancelled, the host is gone."""

    async def serve() -> None:
        text = b""
        async with stream:
            with scope, suppress(anyio.EndOfStream):
                while True:
                    *lines, text = (text + await stream.receive()).split(b"\n")
                    for call in map(json.loads, lines):
                        result = {"attach": {"channel": "c"}, "invoke": {"status": 200}}.get(call["method"], {})
                        answer = {"jsonrpc": "2.0", "id": call["id"], "result": result}
                        await stream.send(json.dumps(answer).encode() + b"\n")
                        await then(call)

    scope = anyio.CancelScope()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(serve)
        yield scope
        scope.cancel()


@pytest.mark.parametrize(
    "garbage",
    [
        b'{"method":"frame","params":{"channel":"\xff","frame":{}}}',
        b'{"method":"end","params":{"channel":"c","reason":"\xff"}}',
        b'{"method":"oversized","params":{"channel":"c","size":1,"head":"\xff"}}',
        b'{"method":"frame","params":{"channel":"c","frame":{"type":"\xff"}}}',
        b'{"method":"frame","params":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"id":1,"error":{"code":1,"message":"again","data":"\xff"}}',
        b'{"id":null,"result":{}}',
        b"\x00\xff",
    ],
    ids=lambda garbage: garbage[:60].decode("latin-1"),
)
async def test_what_a_host_sends_that_cannot_be_read_is_dropped_and_the_neuron_goes_on(garbage: bytes) -> None:
    left, right = ends()
    steered = SteeredHandler()

    async def connect() -> ByteStream:
        return right

    async def then(call: dict[str, Any]) -> None:
        if call.get("params", {}).get("path") == "register":
            await left.send(garbage + b"\n" + frame(REGISTERED) + frame(LEASE))

    with anyio.fail_after(10):
        async with hosted_by(left, then):
            transport = IpcTransport(connect, timing=FAST)
            async with open_neuron(transport, neuron_id="n", capabilities=[steered.capability], timing=FAST):
                await steered.wait_started()
                steered.finish(steered.started[0])


async def test_D1_a_neuron_whose_host_is_gone_does_not_wait_for_what_cannot_be_delivered_any_more() -> None:
    left, right = ends()
    steered = SteeredHandler()

    async def connect() -> ByteStream:
        return right

    async def then(call: dict[str, Any]) -> None:
        if call.get("params", {}).get("path") == "register":
            await left.send(frame(REGISTERED) + frame(LEASE))

    async def finish() -> None:
        await steered.wait_started()
        host.cancel()
        await anyio.sleep(0.1)  # the neuron has seen that it is gone
        steered.finish(steered.started[0])

    with anyio.fail_after(10):  # far below the drain's twenty seconds
        async with hosted_by(left, then) as host:
            transport = IpcTransport(connect, timing=FAST)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(finish)
                with pytest.raises(GatewayDisconnected, match="ipc: it has"):
                    async with open_neuron(transport, neuron_id="n", capabilities=[steered.capability], timing=FAST):
                        await anyio.sleep_forever()
    assert steered.contexts[0].cancel_reason is None


async def test_who_asks_and_does_not_read_the_answers_is_not_read_from_either() -> None:
    served = 0

    async def refuse(method: str, params: bytes) -> Any:
        nonlocal served
        served += 1
        raise RpcError("no", data=json.dumps("x" * ROOM).encode())

    left, right = ends()
    handlers = Handlers(refuse)
    connection = RpcConnection(left, handlers, framing="lines", max_bytes=1000, name="the peer", log=LOG)
    async with left, right:
        with anyio.fail_after(10):
            async with connection.running():
                with anyio.move_on_after(1.0):
                    while True:
                        await right.send(b'{"id":1,"method":"x"}\n' * 100)
                await right.aclose()
    assert served <= 2 * SERVED_AT_ONCE


@pytest.mark.parametrize("framing", ["lines", "lengths"])
async def test_a_call_and_an_answer_that_are_too_large_are_refused_and_not_left_waiting(framing: Framing) -> None:
    async def echo(method: str, params: bytes) -> Any:
        return "x" * 2000 if method == "large" else json.loads(params)

    skipped: list[Skipped] = []
    left, right = ends()
    one = RpcConnection(left, Handlers(echo), framing=framing, max_bytes=1000, name="one", log=LOG)
    other = RpcConnection(
        right, Handlers(echo, skipped=skipped.append), framing=framing, max_bytes=1000, name="other", log=LOG
    )
    with anyio.fail_after(10):
        async with one.running(), other.running():
            for method, params in (("small", "x" * 2000), ("large", None)):
                with pytest.raises(RpcError, match="too large") as caught:
                    await (one if method == "small" else other).call(method, params)
                assert caught.value.code == TOO_LARGE
            assert json.loads(await one.call("small", "y")) == "y"
    assert [each.size > 1000 for each in skipped] == [True, True]


async def test_L9_a_frame_that_the_host_does_not_hold_is_refused_for_its_size() -> None:
    left, right = ends()

    async def connect() -> ByteStream:
        return right

    with anyio.fail_after(20):
        async with open_gateway() as gateway, anyio.create_task_group() as tasks:
            serve = serve_bridge
            limits = Limits(frame_bytes=10_000, output_bytes=10_000)
            tasks.start_soon(lambda: serve(left, HttpTransport(gateway.url), limits=limits))
            transport = IpcTransport(connect, timing=FAST)
            async with transport.open():
                reply = await transport.post("ack", b'{"type":"ack","output":"%b"}' % (b"x" * 20_000))
            assert (reply.status, "too large" in reply.text) == (413, True)
            tasks.cancel_scope.cancel()


async def test_a_neuron_that_subscribes_twice_is_refused_and_its_host_goes_on() -> None:
    left, right = ends()

    async def ask(number: int, method: str, params: object) -> None:
        call = {"jsonrpc": "2.0", "id": number, "method": method, "params": params}
        await right.send(json.dumps(call).encode() + b"\n")

    with anyio.fail_after(10):
        async with open_gateway() as gateway, anyio.create_task_group() as tasks:
            tasks.start_soon(serve_bridge, left, HttpTransport(gateway.url))
            await ask(1, "attach", {"neuronId": "n"})
            await ask(2, "subscribe", {"channel": "neuron-1"})
            await ask(3, "subscribe", {"channel": "neuron-1"})
            await ask(4, "detach", {"neuronId": "n"})
            await ask(5, "no such method", [])
            text, answers = b"", dict[int, Any]()
            while len(answers) < 5:
                *lines, text = (text + await right.receive()).split(b"\n")
                answers |= {message["id"]: message for message in map(json.loads, lines)}
            assert "subscribed to already" in answers[3]["error"]["message"]
            assert answers[5]["error"]["code"] == -32601
            await right.aclose()


async def test_a_host_that_fails_at_one_neuron_serves_the_next(tmp_path: Path) -> None:
    @capability("test/echo")
    async def echo(value: object) -> object:
        return value

    failures = [RuntimeError("not this time")]
    with anyio.fail_after(20):
        async with open_gateway() as gateway, anyio.create_task_group() as tasks:

            def transport() -> HttpTransport:
                if failures:
                    raise failures.pop()
                return HttpTransport(gateway.url)

            await tasks.start(lambda **status: serve_unix(tmp_path / "host", transport, **status))
            with pytest.raises(GatewayDisconnected):
                async with open_neuron(IpcTransport.unix(tmp_path / "host"), neuron_id="n", capabilities=[echo]):
                    raise AssertionError
            async with open_neuron(IpcTransport.unix(tmp_path / "host"), neuron_id="n", capabilities=[echo]):
                pass
            tasks.cancel_scope.cancel()


def test_a_listener_that_stands_still_with_a_full_queue_is_not_replaced_and_holds_nobody_up(tmp_path: Path) -> None:
    path = tmp_path / "host"
    waiting: list[socket.socket] = []
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen(0)
        try:
            while not waiting or waiting[-1].connect_ex(str(path)) == 0:
                waiting.append(socket.socket(socket.AF_UNIX))
                waiting[-1].setblocking(False)
            with pytest.raises(OSError, match="another program listens there") as caught, listening_unix(path):
                raise AssertionError
            assert caught.value.errno == errno.EADDRINUSE
            assert path.exists()
        finally:
            for each in waiting:
                each.close()


PROGRAM = """
import sys, anyio
from neuron_anyio import IpcTransport, TransportError
async def main():
    try:
        async with IpcTransport.stdio().open():
            print("stray", flush=True)
    except TransportError as exc:
        print(exc, file=sys.stderr or sys.stdout, flush=True)
anyio.run(main, backend=sys.argv[1])
"""


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize(
    ("redirected", "said"),
    [
        ("< /dev/null", "standard input is a file or a device"),
        ("< /dev/zero", "standard input is a file or a device"),
        ("<&-", "standard input is closed"),
        ("> /dev/null", "standard output is a file or a device"),
        (">&-", "standard output is closed"),
        ("", "stray"),
        ("2>&-", ""),
    ],
)
def test_standard_streams_that_no_host_has_made_are_one_clear_error(backend: str, redirected: str, said: str) -> None:
    command = f'"$0" -W error -c "$1" "$2" {redirected}'
    done = subprocess.run(
        ["sh", "-c", command, sys.executable, PROGRAM, backend],
        input=b"",
        capture_output=True,
        check=True,
        timeout=30,
        env=os.environ,
    )
    assert said in done.stderr.decode()
    assert "Traceback" not in done.stderr.decode()
    assert b"stray" not in done.stdout


def test_a_final_error_says_so() -> None:
    assert TransportError("gone", is_final=True).is_final
    assert not TransportError("later").is_final
