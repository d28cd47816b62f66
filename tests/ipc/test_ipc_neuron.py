"""Neurons that reach the gateway through a host program: same capabilities, same handlers as over HTTP."""

from __future__ import annotations

import os
import signal
import socket
import sys
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from subprocess import PIPE
from typing import Any

import anyio
import pytest
from anyio.abc import ByteStream

from neuron_anyio import (
    Backoff,
    CancelReason,
    GatewayDisconnected,
    HttpTransport,
    IpcTransport,
    LeaseContext,
    Timing,
    TransportError,
    capability,
    open_neuron,
)
from neuron_anyio.client import GatewayClient
from neuron_anyio.framing import Framing
from neuron_anyio.gateway import Gateway, open_gateway
from neuron_anyio.ipc_host import run_neuron_process, serve_bridge, serve_unix
from neuron_anyio.local_streams import socket_stream
from neuron_anyio.testing.steered_handler import SteeredHandler

pytestmark = pytest.mark.anyio

FAST = Timing(reconnect=Backoff(initial=0.01, maximum=0.05), drain=5.0)
TOKEN = "token-of-the-host"

WORKER = """
import os, time
from neuron_anyio import LeaseContext, capability

@capability("test/echo")
async def echo(value, ctx: LeaseContext):
    print("a stray line that must not stand between frames", flush=True)
    os.write(1, b"and another\\n")
    ctx.progress(percent=50)
    return value

@capability("test/slow", runs="thread")
def slow(value, ctx: LeaseContext):
    open(value["path"], "w").write(str(os.getpid()))
    while not os.path.exists(value["path"] + ".go"):
        ctx.check_cancelled()
        time.sleep(0.01)
    return "done"
"""


@capability("test/echo", concurrency=4)
async def echo(value: Any, ctx: LeaseContext) -> Any:
    ctx.progress(percent=50, message="half")
    return value


class Pair:
    """A neuron's stream to a host that runs beside it."""

    def __init__(self, url: str, *, framing: Framing = "lines", token: str = TOKEN) -> None:
        self.ends = socket.socketpair()
        self.left, self.right = (socket_stream(end) for end in self.ends)
        self._transport = HttpTransport(url, auth=token, timing=FAST)
        self._framing: Framing = framing
        self.scope = anyio.CancelScope()

    async def connect(self) -> ByteStream:
        return self.right

    async def serve(self) -> None:
        with self.scope:
            await serve_bridge(self.left, self._transport, framing=self._framing)

    def neuron(self, *capabilities: Any, **options: Any) -> Any:
        transport = IpcTransport(self.connect, framing=self._framing, origin="ipc:test", timing=FAST)
        options.setdefault("timing", FAST)
        return open_neuron(transport, neuron_id="neuron-1", capabilities=capabilities, **options)


@asynccontextmanager
async def hosted(framing: Framing = "lines") -> AsyncGenerator[tuple[Gateway, GatewayClient, Pair]]:
    with anyio.fail_after(30):
        async with open_gateway(auth=TOKEN) as gateway, GatewayClient(gateway.url, auth=TOKEN) as client:
            pair = Pair(gateway.url, framing=framing)
            async with pair.right, anyio.create_task_group() as tasks:
                tasks.start_soon(pair.serve)
                yield gateway, client, pair
                tasks.cancel_scope.cancel()


@pytest.mark.parametrize("framing", ["lines", "lengths"])
async def test_a_lease_goes_to_a_neuron_without_a_token_and_its_result_comes_back(framing: Framing) -> None:
    values: list[Any] = [None, {"text": "ü😀\u2028\nline"}, "x" * 3_000_000, [1, 2.5, {"a": []}]]
    async with hosted(framing) as (_, client, pair), pair.neuron(echo) as neuron:
        assert neuron.session.capabilities == {"test/echo": 4}
        tasks = [await client.submit("test/echo", value) for value in values]
        assert [await client.result(task.task_id) for task in tasks] == values


async def test_a_cancel_reaches_the_handler() -> None:
    steered = SteeredHandler()
    async with hosted() as (_, client, pair), pair.neuron(steered.capability):
        task = await client.submit("test/steered", None)
        await steered.wait_started()
        await client.cancel(task.task_id)
        await steered.wait_running(0)


async def test_C7_a_stream_that_the_gateway_drops_is_opened_again_and_running_work_goes_on() -> None:
    steered = SteeredHandler()
    async with hosted() as (gateway, client, pair), pair.neuron(steered.capability) as neuron:
        task = await client.submit("test/steered", None)
        await steered.wait_started()
        with neuron.events() as events:
            gateway.drop_stream("neuron-1")
            async for event in events:
                if type(event).__name__ == "Registered":
                    break
        steered.finish(steered.started[0])
        assert await client.result(task.task_id) == "done"
    assert len(steered.started) == 1


async def test_a_gateway_that_is_not_there_yet_is_waited_for(free_tcp_port: int) -> None:
    with anyio.fail_after(30):
        pair = Pair(f"http://127.0.0.1:{free_tcp_port}")
        async with pair.right, anyio.create_task_group() as tasks:
            tasks.start_soon(pair.serve)
            with anyio.move_on_after(0.3) as waited:
                async with pair.neuron(echo):
                    raise AssertionError
            assert waited.cancelled_caught
            tasks.cancel_scope.cancel()


async def test_a_token_that_is_refused_ends_the_neuron_with_the_hosts_words() -> None:
    with anyio.fail_after(30):
        async with open_gateway(auth=TOKEN) as gateway:
            pair = Pair(gateway.url, token="wrong")
            async with pair.right, anyio.create_task_group() as tasks:
                tasks.start_soon(pair.serve)
                with pytest.raises(GatewayDisconnected, match="token"):
                    async with pair.neuron(echo):
                        raise AssertionError
                tasks.cancel_scope.cancel()


async def test_a_host_that_goes_away_ends_the_neuron_when_its_handlers_have_ended() -> None:
    steered = SteeredHandler()
    async with hosted() as (_, client, pair):
        with pytest.raises(GatewayDisconnected, match="ipc:test: it has"):
            async with pair.neuron(steered.capability, timing=Timing(drain=1.0)):
                await client.submit("test/steered", None)
                await steered.wait_started()
                pair.scope.cancel()
                await anyio.sleep_forever()
    assert steered.contexts[0].cancel_reason is CancelReason.SHUTDOWN


async def test_a_host_that_is_gone_before_the_neuron_connects_is_one_error() -> None:
    left, right = (socket_stream(end) for end in socket.socketpair())
    await left.aclose()

    async def connect() -> ByteStream:
        return right

    with anyio.fail_after(10), pytest.raises(GatewayDisconnected, match="ipc:"):
        async with open_neuron(IpcTransport(connect), neuron_id="n", capabilities=[echo]):
            raise AssertionError


async def test_a_host_that_never_answers_is_an_error_after_the_request_time() -> None:
    left, right = (socket_stream(end) for end in socket.socketpair())

    async def connect() -> ByteStream:
        return right

    transport = IpcTransport(connect, timing=Timing(request=0.1))
    async with left, right:
        with anyio.fail_after(10):
            async with transport.open():
                with pytest.raises(TransportError, match=r"did not answer attach within 0\.1 s"):
                    async with transport.subscribe("n"):
                        raise AssertionError


async def test_a_neuron_can_post_nothing_but_frames() -> None:
    async with hosted() as (_, _, pair):
        transport = IpcTransport(pair.connect, timing=FAST)
        async with transport.open():
            with pytest.raises(TransportError, match="nothing that a neuron may post"):
                await transport.post("../tasks", b"{}")


# As a child


@pytest.fixture
def worker(tmp_path: Path) -> Path:
    path = tmp_path / "worker.py"
    path.write_text(WORKER)
    return path


def command(worker: Path, backend: str = "asyncio") -> list[str]:
    run = [sys.executable, "-m", "neuron_anyio", "run", str(worker), "--gateway-url", "stdio:", "--neuron-id", "child"]
    return [*run, "--backend", backend, "--log-level", "error"]


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
async def test_a_child_serves_over_stdio_prints_what_it_likes_and_drains(worker: Path, backend: str) -> None:
    stop = anyio.Event()
    codes: list[int] = []
    with anyio.fail_after(50):
        async with open_gateway(auth=TOKEN) as gateway, GatewayClient(gateway.url, auth=TOKEN) as client:

            async def host() -> None:
                transport = HttpTransport(gateway.url, auth=TOKEN)
                codes.append(await run_neuron_process(command(worker, backend), transport, stop=stop))

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(host)
                done = await client.submit("test/echo", {"a": "ü"})
                assert await client.result(done.task_id) == {"a": "ü"}
                path = worker.with_name("running")
                running = await client.submit("test/slow", {"path": str(path)})
                await seen(path)
                stop.set()
                path.with_name("running.go").touch()
                assert await client.result(running.task_id) == "done"
    assert codes == [0]


async def test_a_child_does_not_see_the_signals_of_its_hosts_terminal(worker: Path) -> None:
    path = worker.with_name("running")
    with anyio.fail_after(50):
        async with open_gateway(auth=TOKEN) as gateway, GatewayClient(gateway.url, auth=TOKEN) as client:
            await client.submit("test/slow", {"path": str(path)})
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(run_neuron_process, command(worker), HttpTransport(gateway.url, auth=TOKEN))
                child = int(await seen(path))
                assert os.getpgid(child) == child
                tasks.cancel_scope.cancel()


async def test_a_child_that_is_killed_is_told_to_its_host_and_its_lease_runs_again(worker: Path) -> None:
    path = worker.with_name("running")
    with anyio.fail_after(50):
        async with open_gateway(auth=TOKEN, lease_ttl=1.0) as gateway, GatewayClient(gateway.url, auth=TOKEN) as client:
            transport = HttpTransport(gateway.url, auth=TOKEN)
            task = await client.submit("test/slow", {"path": str(path)})

            async def kill() -> None:
                os.kill(int(await seen(path)), signal.SIGKILL)

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(kill)
                assert await run_neuron_process(command(worker), transport) == -signal.SIGKILL
            path.with_name("running.go").touch()
            stop = anyio.Event()
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(run_until(command(worker), HttpTransport(gateway.url, auth=TOKEN), stop))
                assert await client.result(task.task_id) == "done"
                stop.set()


def run_until(run: list[str], transport: HttpTransport, stop: anyio.Event) -> Callable[[], Any]:
    async def go() -> None:
        assert await run_neuron_process(run, transport, stop=stop) == 0

    return go


async def test_a_child_whose_host_is_killed_ends_by_itself(worker: Path) -> None:
    host = worker.with_name("host.py")
    path = worker.with_name("running")
    with anyio.fail_after(50):
        async with open_gateway(auth=TOKEN) as gateway, GatewayClient(gateway.url, auth=TOKEN) as client:
            run = [*command(worker), "--drain", "1"]
            host.write_text(
                "import anyio\n"
                "from neuron_anyio import HttpTransport\n"
                "from neuron_anyio.ipc_host import run_neuron_process\n"
                f"anyio.run(run_neuron_process, {run!r}, HttpTransport({gateway.url!r}, auth={TOKEN!r}))\n"
            )
            await client.submit("test/slow", {"path": str(path)})
            async with await anyio.open_process(
                [sys.executable, str(host)], stdin=None, stdout=PIPE, stderr=None
            ) as process:
                child = int(await seen(path))
                process.kill()
                await process.wait()
            await until(lambda: not is_alive(child))


async def test_a_child_is_ended_when_its_host_is_cancelled(worker: Path) -> None:
    path = worker.with_name("running")
    with anyio.fail_after(50):
        async with open_gateway(auth=TOKEN) as gateway, GatewayClient(gateway.url, auth=TOKEN) as client:
            await client.submit("test/slow", {"path": str(path)})
            async with anyio.create_task_group() as tasks:
                transport = HttpTransport(gateway.url, auth=TOKEN)
                tasks.start_soon(run_neuron_process, command(worker), transport)
                child = int(await seen(path))
                tasks.cancel_scope.cancel()
            assert not is_alive(child)


async def until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110 - another process does it, and tells nobody
        await anyio.sleep(0.02)


async def seen(path: Path) -> str:
    """Wait for a file with something in it."""
    await until(lambda: path.exists() and path.read_text() != "")
    return path.read_text()  # noqa: ASYNC240 - one number


def is_alive(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False


# Over a Unix socket


async def test_a_neuron_serves_over_a_unix_socket_for_the_same_user_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "host"
    with anyio.fail_after(30):
        async with open_gateway(auth=TOKEN) as gateway, GatewayClient(gateway.url, auth=TOKEN) as client:

            def transport() -> HttpTransport:
                return HttpTransport(gateway.url, auth=TOKEN)

            async with anyio.create_task_group() as tasks:
                await tasks.start(lambda **status: serve_unix(path, transport, **status))
                assert path.stat().st_mode & 0o777 == 0o700
                async with open_neuron(IpcTransport.unix(path), neuron_id="n", capabilities=[echo]):
                    task = await client.submit("test/echo", 7)
                    assert await client.result(task.task_id) == 7
                monkeypatch.setattr(os, "getuid", lambda: 12_345)
                with pytest.raises(TransportError, match="belongs to user"):
                    async with IpcTransport.unix(path).open():
                        raise AssertionError
                monkeypatch.undo()
                with pytest.raises(OSError, match="another program listens there"):
                    await serve_unix(path, transport)
                tasks.cancel_scope.cancel()
    assert not path.exists()


async def test_a_socket_that_a_dead_host_left_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "host"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            await tasks.start(lambda **status: serve_unix(path, lambda: HttpTransport("http://127.0.0.1:9"), **status))
            tasks.cancel_scope.cancel()


async def test_a_socket_at_which_nobody_listens_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(TransportError, match=r"cannot connect to .*nowhere: No such file"):
        async with IpcTransport.unix(tmp_path / "nowhere").open():
            raise AssertionError
