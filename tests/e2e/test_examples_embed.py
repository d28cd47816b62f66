from __future__ import annotations

import signal
import socket
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
import sniffio
import trio

from examples.embed_trio import count_words, program
from examples.embed_web_app import create_app
from neuron_anyio.client import GatewayClient
from neuron_anyio.gateway import open_gateway

ROOT = Path(__file__).resolve().parents[2]


def test_a_trio_program_does_tasks_until_its_own_event_is_set() -> None:
    async def scenario() -> tuple[Any, list[str]]:
        async with open_gateway() as gateway, GatewayClient(gateway.url) as client:
            stop = trio.Event()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(program, gateway.url, stop)
                task = await client.submit(count_words.terms.type, "to be or not to be")
                output = await client.result(task.task_id, timeout=5)
                stop.set()
            return output, [neuron.neuron_id for neuron in gateway.neurons()]

    async def bounded() -> tuple[Any, list[str]]:
        with trio.fail_after(10):
            return await scenario()

    output, connected = trio.run(bounded)
    assert output == {"to": 2, "be": 2, "or": 1, "not": 1}
    assert connected == []


@pytest.mark.anyio
async def test_the_trio_example_is_a_program_that_a_signal_ends() -> None:
    with anyio.fail_after(20):
        async with (
            open_gateway() as gateway,
            GatewayClient(gateway.url) as client,
            await anyio.open_process(
                [sys.executable, "examples/embed_trio.py", gateway.url], cwd=ROOT, stderr=None
            ) as process,
        ):
            task = await client.submit(count_words.terms.type, "one two two")
            assert await client.result(task.task_id) == {"one": 1, "two": 2}
            process.send_signal(signal.SIGINT)
            assert await process.wait() == 0


@asynccontextmanager
async def served(app: Any) -> AsyncGenerator[str]:
    """Serve an ASGI application; yield its URL. Its lifespan has ended when the block has."""
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    config = import_module("hypercorn.config").Config()
    config.bind = [f"fd://{listener.detach()}"]
    config.loglevel = "ERROR"
    serve = import_module(f"hypercorn.{sniffio.current_async_library()}").serve
    stop = anyio.Event()

    async def run() -> None:
        await serve(app, config, shutdown_trigger=stop.wait)

    async with anyio.create_task_group() as group:
        group.start_soon(run)
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            stop.set()


@pytest.mark.anyio
async def test_a_web_application_shows_its_neuron_and_submits_tasks() -> None:
    with anyio.fail_after(15):
        async with open_gateway() as gateway:
            async with served(create_app(gateway.url)) as url, httpx.AsyncClient(base_url=url) as browser:
                before = (await browser.get("/neuron")).json()
                answer = await browser.post("/reversed", content="Grüße")
                after = (await browser.get("/neuron")).json()
            assert gateway.neurons() == []
    assert before["connection"] == "registered"
    assert answer.status_code == 200
    assert answer.json()["output"] == "eßürG"
    assert after["capabilities"]["examples/text.reverse"]["outcomes"] == {"Completed": 1}
    assert after["leases"] == []


@pytest.mark.anyio
async def test_a_web_application_tells_of_a_task_that_was_called_off() -> None:
    with anyio.fail_after(15):
        async with (
            open_gateway() as gateway,
            served(create_app(gateway.url)) as url,
            httpx.AsyncClient(base_url=url) as browser,
        ):
            assert (await browser.get("/neuron")).status_code == 200
            await gateway.revoke("examples/text.reverse")
            async with anyio.create_task_group() as group:
                answers: list[httpx.Response] = []

                async def ask() -> None:
                    answers.append(await browser.post("/reversed", content="abc"))

                group.start_soon(ask)
                with gateway.watch(None) as watch:
                    while not (waiting := gateway.tasks().tasks):
                        await watch.wait(until=float("inf"))
                await gateway.cancel(waiting[0].task_id)
    assert answers[0].status_code == 502
    assert "cancelled" in answers[0].json()["error"]


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])  # on trio this server ends at once, which tells as well
async def test_a_web_application_is_unhealthy_once_its_neuron_was_sent_away_for_good() -> None:
    with anyio.fail_after(15):
        async with open_gateway() as gateway:
            with pytest.raises(BaseExceptionGroup) as caught:
                async with served(create_app(gateway.url)) as url, httpx.AsyncClient(base_url=url) as browser:
                    assert (await browser.get("/neuron")).status_code == 200
                    await gateway.disconnect("web-app", reconnectable=False)
                    while (await browser.get("/neuron")).status_code != 503:
                        await anyio.lowlevel.checkpoint()
    assert "GatewayDisconnected" in str(caught.value.exceptions[0])
