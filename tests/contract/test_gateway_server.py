"""Entering and leaving `open_gateway`: addresses, errors, and that nothing is left behind."""

from __future__ import annotations

import errno
import logging
import socket
import struct
import sys
import threading
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
from anyio.abc import SocketAttribute

from neuron_anyio.errors import NeuronError
from neuron_anyio.gateway import BindError, Gateway, MemoryStore, open_gateway
from neuron_anyio.gateway.app import create_app
from tests.contract.gateway_bench import ECHO, event_stream, raw_neuron

pytestmark = pytest.mark.anyio


def open_descriptors() -> int:
    return len(list(Path("/dev/fd").iterdir()))


async def test_it_is_reachable_from_the_first_line_on_and_gone_after_the_last() -> None:
    with anyio.fail_after(5):
        async with open_gateway() as gateway, httpx.AsyncClient() as http:
            assert gateway.url.startswith("http://127.0.0.1:")
            assert (await http.get(f"{gateway.url}/readyz")).json() == {"ok": True}
        async with httpx.AsyncClient() as http:
            with pytest.raises(httpx.ConnectError):
                await http.get(f"{gateway.url}/livez")


async def test_a_port_in_use_is_named_with_the_remedy() -> None:
    with anyio.fail_after(5):
        async with open_gateway() as gateway:
            port = int(gateway.url.rsplit(":", 1)[1])
            with pytest.raises(BindError, match=rf"127\.0\.0\.1 port {port}.*port=0") as caught:
                async with open_gateway(port=port):
                    pass
            assert isinstance(caught.value, NeuronError)
            assert isinstance(caught.value.__cause__, OSError)
            assert caught.value.__cause__.errno == errno.EADDRINUSE
        async with open_gateway(port=port):  # free again at once
            pass


async def test_an_address_of_another_machine_is_refused() -> None:
    with anyio.fail_after(5), pytest.raises(BindError, match="one of this machine"):
        async with open_gateway(host="192.0.2.1"):
            pass


@pytest.mark.skipif(not socket.has_ipv6, reason="the system has no IPv6")
async def test_an_ipv6_address_makes_a_url_that_works() -> None:
    with anyio.fail_after(5):
        async with open_gateway(host="::1") as gateway, httpx.AsyncClient() as http:
            assert gateway.url.startswith("http://[::1]:")
            assert (await http.get(f"{gateway.url}/livez")).status_code == 200


@pytest.mark.parametrize("missing", ["starlette", "hypercorn.asyncio", "hypercorn.trio"])
async def test_a_missing_extra_is_named_with_the_command(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    other = {"hypercorn.asyncio": "hypercorn.trio", "hypercorn.trio": "hypercorn.asyncio"}.get(missing, missing)
    monkeypatch.setitem(sys.modules, missing, None)
    monkeypatch.setitem(sys.modules, other, None)
    with pytest.raises(ImportError, match=r"pip install 'neuron-anyio\[gateway\]'"):
        async with open_gateway():
            pass


@pytest.mark.parametrize(
    "wrong", [{"max_attempts": 0}, {"lease_ttl": 0}, {"lease_ttl": float("inf")}, {"keep_alive": 0}, {"auth": {}}]
)
async def test_a_wrong_argument_is_a_value_error(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        async with open_gateway(**wrong):
            pass


async def test_leaving_ends_streams_without_a_disconnect_within_a_second() -> None:
    with anyio.fail_after(5):
        async with AsyncExitStack() as stack:
            gateway = await stack.enter_async_context(open_gateway())
            async with raw_neuron(gateway.url) as neuron:
                task = await gateway.submit("core/other", 1)
                async with event_stream(gateway.url, f"/tasks/{task.task_id}/events") as follower:
                    await follower.next()
                    began = anyio.current_time()
                    await stack.aclose()
                    assert anyio.current_time() - began < 0.4
                    for stream in (neuron.events, follower):
                        with pytest.raises(StopAsyncIteration):
                            await stream.next()


async def test_leaving_does_not_wait_for_a_request_that_never_ends() -> None:
    with anyio.fail_after(5):
        async with open_gateway() as gateway:
            host, port = gateway.url.removeprefix("http://").split(":")
            half = socket.create_connection((host, int(port)))
            half.sendall(b"POST /tasks HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
            async with httpx.AsyncClient() as http:
                await http.get(f"{gateway.url}/livez")
            began = anyio.current_time()
        assert anyio.current_time() - began < 1
        half.close()


async def test_what_the_body_raises_comes_out_as_it_is() -> None:
    class Own(Exception):
        pass

    with anyio.fail_after(5):
        with pytest.raises(Own) as caught:
            async with open_gateway() as gateway, raw_neuron(gateway.url):
                raise Own
        assert caught.value.__cause__ is None
        with pytest.raises(ExceptionGroup) as group:
            async with open_gateway():
                raise ExceptionGroup("the body's own", [Own()])
        assert len(group.value.exceptions) == 1


async def test_a_cancelled_block_leaves_in_order() -> None:
    with anyio.fail_after(5):
        before = threading.active_count()
        with anyio.move_on_after(0.05) as scope:
            async with open_gateway() as gateway, raw_neuron(gateway.url):
                await anyio.sleep_forever()
        assert scope.cancelled_caught
        assert threading.active_count() <= before + 1  # anyio's resolver thread may stay idle
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", int(gateway.url.rsplit(":", 1)[1])))


async def test_no_descriptor_is_left_behind() -> None:
    async def once() -> None:
        async with open_gateway() as gateway, raw_neuron(gateway.url):
            await gateway.submit(ECHO, 1)

    with anyio.fail_after(10):
        await once()
        before = open_descriptors()
        for _ in range(3):
            await once()
        assert open_descriptors() == before


@pytest.mark.parametrize(
    "request_", ["", "GET /livez HTTP/1.1\r\n\r\n", "GET /neuron/events?neuronId=n HTTP/1.1\r\n\r\n"]
)
@pytest.mark.parametrize("way", ["close", "half-close", "reset"])
async def test_a_connection_ends_when_its_client_has_closed_it(request_: str, way: str) -> None:
    with anyio.fail_after(10):
        async with open_gateway() as gateway:
            port = int(gateway.url.rsplit(":", 1)[1])
            async with httpx.AsyncClient() as http:
                await http.get(f"{gateway.url}/livez")  # now the server has all its tasks
            await anyio.sleep(0.1)
            before = len(anyio.get_running_tasks())
            for _ in range(3):
                async with await anyio.connect_tcp("127.0.0.1", port) as client:
                    if request_:
                        await client.send(request_.replace("\r\n", "\r\nHost: here\r\n", 1).encode())
                    if way == "half-close":
                        await client.send_eof()
                    if request_:
                        assert (await client.receive()).startswith(b"HTTP/1.1 200")
                    if way == "reset":
                        linger = struct.pack("ii", 1, 0)
                        client.extra(SocketAttribute.raw_socket).setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            while len(anyio.get_running_tasks()) > before:  # noqa: ASYNC110 - tasks tell nobody when they end
                await anyio.sleep(0.01)


async def test_the_server_says_nothing_on_a_good_day(caplog: pytest.LogCaptureFixture, capfd: Any) -> None:
    caplog.set_level(logging.INFO)
    with anyio.fail_after(5):
        async with open_gateway() as gateway, raw_neuron(gateway.url):
            pass
    assert [record.name for record in caplog.records if not record.name.startswith(("httpx", "asyncio"))] == []
    assert capfd.readouterr() == ("", "")


async def test_two_gateways_live_side_by_side() -> None:
    with anyio.fail_after(5):
        async with open_gateway() as one, open_gateway() as two, raw_neuron(one.url) as neuron:
            assert one.url != two.url
            await two.submit(ECHO, 2)
            await one.submit(ECHO, 1)
            assert (await neuron.lease())["task"]["input"] == 1
            assert two.counts()["pending"] == 1


async def test_a_restarted_gateway_takes_over_what_its_store_has() -> None:
    with anyio.fail_after(5):
        store = MemoryStore()
        async with open_gateway(store=store) as gateway, raw_neuron(gateway.url) as neuron:
            held, waiting = await gateway.submit(ECHO, 1), await gateway.submit(ECHO, 2)
            lease = await neuron.lease()
        async with open_gateway(store=store) as gateway, raw_neuron(gateway.url) as neuron:
            assert (await neuron.ack(lease, "done")).status_code == 200
            assert gateway.task(held.task_id).output == "done"
            assert (await neuron.lease())["task"]["taskId"] == waiting.task_id


async def test_the_application_runs_under_another_server_by_its_lifespan() -> None:
    with anyio.fail_after(5):
        gateway = Gateway()
        app = create_app(gateway)
        assert gateway.app is app
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as http:
            assert (await http.get("/readyz")).status_code == 503
            async with app.router.lifespan_context(app):
                assert (await http.get("/readyz")).status_code == 200
                assert (await http.post("/tasks", json={"capability": ECHO, "input": 1})).status_code == 201


async def test_an_error_inside_is_a_500_that_quotes_nothing(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    with anyio.fail_after(5):
        async with open_gateway() as gateway, httpx.AsyncClient(base_url=gateway.url) as http:

            def fail(*_: object, **__: object) -> None:
                raise RuntimeError("s3cret")

            monkeypatch.setattr(gateway, "take", fail)
            reply = await http.post("/tasks", json={"capability": ECHO, "input": "s3cret"})
            assert (reply.status_code, reply.json()["code"]) == (500, "internal-error")
            assert reply.headers["content-type"] == "application/problem+json"
    assert "RuntimeError" in caplog.text
    assert "s3cret" not in caplog.text + reply.text
