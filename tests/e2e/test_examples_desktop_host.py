"""The desktop host in Node: the published example over standard input and output of a child."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest
from anyio.abc import Process

from examples.pages import Reply, Request, serve_pages
from neuron_anyio.client import GatewayClient
from neuron_anyio.gateway import open_gateway
from tests.e2e.examples_support import settled

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(shutil.which("node") is None, reason="there is no Node on this machine"),
]

ROOT = Path(__file__).resolve().parents[2]
HOST = ROOT / "examples" / "desktop_host" / "host.mjs"
TOKEN = "token-of-the-desktop-program"


async def greet(request: Request, reply: Reply) -> None:
    await reply.send("grüße".encode())


@asynccontextmanager
async def hosted() -> AsyncGenerator[tuple[Process, GatewayClient]]:
    """Start the host with the http_fetch example as its child."""
    with anyio.fail_after(40):
        async with open_gateway(auth=TOKEN, lease_ttl=2.0) as gateway, GatewayClient(gateway.url, auth=TOKEN) as client:
            command = ["node", str(HOST), sys.executable, "-m", "neuron_anyio", "run", "examples.http_fetch"]
            environment = os.environ | {"BIGBRAIN_GATEWAY_URL": gateway.url, "BIGBRAIN_TOKEN": TOKEN}
            async with await anyio.open_process(
                command, cwd=ROOT, env=environment, stdout=None, stderr=None, start_new_session=True
            ) as process:
                while not any(status.connected for status in await client.neurons()):  # noqa: ASYNC110 - other processes
                    await anyio.sleep(0.02)
                yield process, client
                if process.returncode is None:
                    process.kill()


def children_of(pid: int) -> list[int]:
    return [int(number) for number in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def is_gone(pid: int) -> bool:
    try:
        return "Z" in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return True


async def until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110 - other processes
        await anyio.sleep(0.02)


async def test_the_host_runs_the_http_fetch_example_and_a_signal_drains_it() -> None:
    async with serve_pages(greet) as url, hosted() as (process, client):
        task = await client.submit("examples/http.fetch", {"url": f"{url}/"})
        status = await settled(client, task.task_id)
        assert (status.state, status.output["body"]) == ("succeeded", "grüße")
        process.send_signal(signal.SIGTERM)
        assert await process.wait() == 0
        assert not [entry for entry in await client.neurons() if entry.connected]


async def test_ctrl_c_in_a_terminal_drains_the_neuron_and_cuts_nothing() -> None:
    arrived, go = anyio.Event(), anyio.Event()

    async def hold(request: Request, reply: Reply) -> None:
        arrived.set()
        await go.wait()
        await reply.send(b"whole")

    async with serve_pages(hold) as url, hosted() as (process, client):
        task = await client.submit("examples/http.fetch", {"url": f"{url}/"})
        await arrived.wait()
        os.killpg(process.pid, signal.SIGINT)  # a terminal sends it to all of its foreground group
        await anyio.sleep(0.5)  # a neuron that is forced gives the task back within that time
        go.set()
        assert (await settled(client, task.task_id)).output["body"] == "whole"
        assert await process.wait() == 0


async def test_a_child_that_says_what_is_no_message_is_not_heard_and_its_code_is_the_hosts() -> None:
    says = 'echo garbage; echo null; echo \'{"id":1,"method":"toString"}\'; exit 3'
    environment = os.environ | {"BIGBRAIN_GATEWAY_URL": "http://127.0.0.1:9"}
    with anyio.fail_after(20):
        done = await anyio.run_process(["node", str(HOST), "sh", "-c", says], env=environment, check=False)
    assert (done.returncode, done.stderr) == (3, b"")


async def test_a_killed_host_leaves_no_child_behind() -> None:
    async with hosted() as (process, _):
        (child,) = children_of(process.pid)
        process.kill()
        await process.wait()
        await until(lambda: is_gone(child))


async def test_a_killed_child_ends_its_host() -> None:
    async with hosted() as (process, _):
        (child,) = children_of(process.pid)
        os.kill(child, signal.SIGKILL)
        assert await process.wait() == 1
