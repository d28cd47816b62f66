"""Probes, metrics and the service manager, as those who ask see them."""

from __future__ import annotations

import os
import re
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
from anyio import to_thread

from neuron_anyio import Backoff, LeaseContext, NeuronError, Timing, capability, health, open_neuron
from neuron_anyio.gateway import open_gateway
from neuron_anyio.health import Report, ServiceManager, answered, probe_address, watched
from neuron_anyio.metrics import metrics_text
from neuron_anyio.snapshot import CapabilityState, Snapshot
from neuron_anyio.testing.steered_handler import SteeredHandler
from tests.docs.pages import DOCS, rows_of, section_of

pytestmark = pytest.mark.anyio

FAST = Timing(heartbeat=0.1, request=0.2, reconnect=Backoff(initial=0.01, maximum=0.05), drain=5.0)


async def ask(port: int | None, path: str) -> tuple[int, str]:
    def get() -> tuple[int, str]:
        reply = httpx.get(f"http://127.0.0.1:{port}{path}", timeout=10)
        return reply.status_code, reply.text.strip()

    return await to_thread.run_sync(get)


async def until(port: int | None, path: str, status: int) -> str:
    """Ask until the answer has this status; return its text."""
    with anyio.fail_after(15):
        while (answer := await ask(port, path))[0] != status:  # noqa: ASYNC110 - what probes do
            await anyio.sleep(0.05)
    return answer[1]


async def test_a_neuron_is_not_started_not_ready_and_alive_before_it_is_accepted(free_tcp_port: int) -> None:
    opening = open_neuron(
        f"http://127.0.0.1:{free_tcp_port}", neuron_id="n", capabilities=[SteeredHandler().capability]
    )
    async with watched(opening.neuron, probes=0) as port:
        assert await until(port, "/livez", 200) == "alive"
        assert await ask(port, "/startupz") == (503, "not registered yet")
        assert await ask(port, "/readyz") == (503, "not registered (connecting)")


async def test_a_registered_neuron_is_ready_until_it_drains_and_started_for_ever() -> None:
    steered = SteeredHandler()
    with anyio.fail_after(30):
        async with open_gateway() as gateway:
            opening = open_neuron(gateway.url, neuron_id="n", capabilities=[steered.capability], timing=FAST)
            async with watched(opening.neuron, probes="127.0.0.1:0") as port:
                async with opening as neuron, anyio.create_task_group() as tasks:
                    assert await until(port, "/readyz", 200) == "ready"
                    await gateway.submit("test/steered", None)
                    await steered.wait_started()
                    tasks.start_soon(neuron.drain)
                    assert await until(port, "/readyz", 503) == "draining"
                    assert (await ask(port, "/livez"))[0] == 200
                    steered.finish(steered.started[0])
                assert await ask(port, "/startupz") == (200, "started")


async def test_a_heartbeat_that_is_not_taken_makes_a_neuron_unready() -> None:
    with anyio.fail_after(30):
        async with anyio.create_task_group() as tasks:
            gone = anyio.Event()

            async def serve(*, task_status: anyio.abc.TaskStatus[str]) -> None:
                async with open_gateway() as gateway:
                    task_status.started(gateway.url)
                    await gone.wait()

            url = await tasks.start(serve)
            opening = open_neuron(url, neuron_id="n", capabilities=[SteeredHandler().capability], timing=FAST)
            async with watched(opening.neuron, probes=0) as port, opening:
                await until(port, "/readyz", 200)
                gone.set()
                assert "not registered" in await until(port, "/readyz", 503)


async def test_a_blocked_loop_is_told_with_the_handler_that_blocks_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "STALLED", 1.2)  # five seconds would be as true, and longer

    @capability("test/blocks")
    async def blocks(value: Any, ctx: LeaseContext) -> None:
        time.sleep(3)  # noqa: ASYNC251 - the fault

    answers: list[tuple[int, str]] = []

    def look(port: int) -> None:
        end = time.monotonic() + 2.8
        while time.monotonic() < end:
            answers.append((httpx.get(f"http://127.0.0.1:{port}/livez").status_code, ""))
            reply = httpx.get(f"http://127.0.0.1:{port}/readyz")
            answers.append((reply.status_code, reply.text))
            time.sleep(0.1)

    with anyio.fail_after(40):
        async with open_gateway() as gateway:
            opening = open_neuron(gateway.url, neuron_id="n", capabilities=[blocks], timing=FAST)
            async with watched(opening.neuron, probes=0) as port, opening:
                await until(port, "/readyz", 200)
                await gateway.submit("test/blocks", "a secret")
                assert port is not None
                await to_thread.run_sync(look, port)
                assert await until(port, "/livez", 200) == "alive"
    told = {text for status, text in answers if status == 503}
    assert answers[0][0] == 200
    assert any(re.search(r"has not turned for \d s; lease \S+ \(test/blocks\) blocks it", text) for text in told)
    assert "secret" not in str(told)


async def test_other_paths_and_methods_are_refused_and_a_silent_client_holds_nobody_up() -> None:
    opening = open_neuron("http://127.0.0.1:9", neuron_id="n", capabilities=[SteeredHandler().capability])
    async with watched(opening.neuron, probes=0) as port:
        with socket.create_connection(("127.0.0.1", port or 0)):
            assert (await ask(port, "/"))[0] == 404
            assert (await ask(port, "/livez?verbose=1"))[0] == 200
            head = await to_thread.run_sync(lambda: httpx.head(f"http://127.0.0.1:{port}/livez"))
            assert (head.status_code, head.text) == (200, "")
            post = await to_thread.run_sync(lambda: httpx.post(f"http://127.0.0.1:{port}/livez"))
            assert post.status_code == 501


async def test_a_port_that_is_taken_is_one_clear_error() -> None:
    opening = open_neuron("http://127.0.0.1:9", neuron_id="n", capabilities=[SteeredHandler().capability])
    async with watched(opening.neuron, probes="127.0.0.1:0") as port:
        with pytest.raises(NeuronError, match=f"cannot answer probes at 127.0.0.1:{port}: .*give another port"):
            async with watched(opening.neuron, probes=f"127.0.0.1:{port}"):
                raise AssertionError


@pytest.mark.parametrize("probes", ["", "x", "h:", "1:70000", -1, 65536, True, "8080/"])
def test_what_is_no_address_is_named(probes: Any) -> None:
    with pytest.raises(ValueError, match="health must be a port"):
        probe_address(probes)


def test_addresses() -> None:
    assert probe_address(8080) == ("", 8080)
    assert probe_address("127.0.0.1:0") == ("127.0.0.1", 0)
    assert probe_address("[::1]:9") == ("::1", 9)


def test_metrics_are_prometheus_text() -> None:
    state = CapabilityState(limit=4, running=1, queued=2, outcomes={"Completed": 7, "Failed": 1})
    snapshot = Snapshot(
        connection="registered",
        alive=True,
        draining=False,
        paused=False,
        capabilities={"a/b": state},
        undelivered=3,
        recorded=0,
        left_behind=0,
        leases=(),
    )
    text = metrics_text('odd "name"\\\n', snapshot, lag=0.25)
    name, label = r"[a-zA-Z_:][a-zA-Z0-9_:]*", r'[a-z_]+="(?:[^"\\\n]|\\["\\n])*"'
    line = re.compile(rf"# (?:HELP|TYPE) {name} .+|{name}(?:\{{{label}(?:,{label})*\}})? (?:[+-]?[0-9.e+-]+|\+Inf)")
    assert text.endswith("\n")
    for each in text.splitlines():
        assert line.fullmatch(each), each
    assert 'neuron_leases_total{capability="a/b",outcome="Completed"} 7\n' in text
    assert 'neuron_info{neuron_id="odd \\"name\\"\\\\\\n"} 1\n' in text
    assert 'neuron_connection{state="registered"} 1\n' in text
    assert "neuron_loop_lag_seconds 0.25\n" in text


async def test_metrics_count_what_was_done_and_show_no_content() -> None:
    steered = SteeredHandler()
    with anyio.fail_after(30):
        async with open_gateway() as gateway:
            opening = open_neuron(gateway.url, neuron_id="n", capabilities=[steered.capability], timing=FAST)
            async with watched(opening.neuron, probes=0) as port, opening:
                task = await gateway.submit("test/steered", {"key": "a secret"})
                await steered.wait_started()
                steered.finish(steered.started[0])
                await gateway.wait_settled(task.task_id)
                while 'outcome="Completed"} 1' not in (text := (await ask(port, "/metrics"))[1]):  # noqa: ASYNC110 - as above
                    await anyio.sleep(0.05)
    assert "secret" not in text


# As a program

WORKER = """
from neuron_anyio import capability

@capability("test/echo")
async def echo(value):
    return value
"""


@contextmanager
def manager(folder: Path) -> Iterator[tuple[socket.socket, str]]:
    path = str(folder / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(path)
        listening.settimeout(15)
        yield listening, path


def wait_for(listening: socket.socket, wanted: Callable[[str], bool]) -> list[str]:
    lines: list[str] = []
    while not any(map(wanted, lines)):
        lines += listening.recv(4096).decode().split("\n")
    return lines


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
async def test_the_service_manager_is_told_ready_watchdog_and_stopping(tmp_path: Path, backend: str) -> None:
    (tmp_path / "worker.py").write_text(WORKER)
    with anyio.fail_after(40):
        async with open_gateway() as gateway:
            with manager(tmp_path) as (listening, path):
                environment = os.environ | {"NOTIFY_SOCKET": path, "WATCHDOG_USEC": "2000000"}
                command = [sys.executable, "-m", "neuron_anyio", "run", "worker.py", "--backend", backend]
                options = ["--gateway-url", gateway.url, "--log-level", "error", "--health", "127.0.0.1:0"]
                process = subprocess.Popen([*command, *options], cwd=tmp_path, env=environment)  # noqa: ASYNC220 - quick
                try:
                    ready = await to_thread.run_sync(wait_for, listening, "READY=1".__eq__)
                    assert "WATCHDOG=1" in ready
                    alive = await to_thread.run_sync(wait_for, listening, "WATCHDOG=1".__eq__)
                    assert "READY=1" not in alive
                    process.send_signal(signal.SIGTERM)
                    await to_thread.run_sync(wait_for, listening, "STOPPING=1".__eq__)
                    assert await to_thread.run_sync(process.wait) == 0
                finally:
                    process.kill()
                    process.wait()


@pytest.mark.parametrize("address", ["nonsense", "/nowhere/at/all", "@nobody-listens"])
def test_a_service_manager_that_does_not_listen_stops_nobody(address: str) -> None:
    code = (
        "from neuron_anyio.health import Report, ServiceManager\n"
        "manager = ServiceManager()\n"
        "manager.tell(Report(started=True, draining=False, not_ready='', status='ready'))\n"
    )
    environment = os.environ | {"NOTIFY_SOCKET": address}
    subprocess.run([sys.executable, "-W", "error", "-c", code], env=environment, check=True)


def test_what_the_service_manager_could_not_take_is_said_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
    told = ServiceManager()
    report = Report(started=True, draining=False, not_ready="", status="ready")
    told.tell(report)  # nobody listens yet
    with manager(tmp_path) as (listening, _):
        told.tell(report)
        assert listening.recv(4096).decode().split("\n") == ["READY=1", "STATUS=ready"]
        told.tell(report)
        told.tell_stopping()
        told.tell_stopping()
        assert listening.recv(4096) == b"STOPPING=1"
        listening.setblocking(False)
        with pytest.raises(BlockingIOError):
            listening.recv(4096)


def test_a_process_that_has_no_file_left_to_open_does_not_end_for_the_service_manager(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, limits[1]))
    try:
        ServiceManager().tell_stopping()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


async def test_probes_ask_no_name_server_and_end_though_every_common_thread_is_busy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def never(*_: object) -> Any:
        raise AssertionError("a name server was asked")

    monkeypatch.setattr(socket, "gethostbyaddr", never)
    common = to_thread.current_default_thread_limiter()
    waiting = [object() for _ in range(int(common.total_tokens))]
    with anyio.fail_after(10):
        async with answered(lambda path: (200, path), 0) as port:
            assert await ask(port, "/livez") == (200, "/livez")
            for borrower in waiting:
                await common.acquire_on_behalf_of(borrower)
    for borrower in waiting:
        common.release_on_behalf_of(borrower)
    with socket.socket() as trial:
        assert trial.connect_ex(("127.0.0.1", port)) != 0


def test_the_metrics_of_the_page_are_those_of_the_code() -> None:
    state = CapabilityState(limit=1, running=0, queued=0, outcomes={"Completed": 1})
    snapshot = Snapshot(
        connection="registered",
        alive=True,
        draining=False,
        paused=False,
        capabilities={"a/b": state},
        undelivered=0,
        recorded=0,
        left_behind=0,
        leases=(),
    )
    text = metrics_text("n", snapshot, lag=0.0)
    kinds = dict(re.findall(r"^# TYPE (\S+) (\S+)$", text, re.MULTILINE))
    labels = {
        name: set(re.findall(r'(\w+)="', found)) for name, found in re.findall(r"^(\w+)(.*) \S+$", text, re.MULTILINE)
    }
    rows = [row for row in rows_of(section_of(DOCS / "operation.md", "Health")) if row[0].startswith("`neuron_")]
    assert {row[0].strip("`"): row[1] for row in rows} == kinds
    for name, _, listed, _ in rows:
        assert set(re.findall(r"\w+", listed)) == labels[name.strip("`")]


def test_the_probes_of_the_page_are_those_of_the_code() -> None:
    opening = open_neuron("http://127.0.0.1:9", neuron_id="n", capabilities=[SteeredHandler().capability])
    there = health.Health(opening.neuron).answer("/")[1].removeprefix("there are ").split(", ")
    rows = rows_of(section_of(DOCS / "operation.md", "Health"))
    assert [row[0].strip("`") for row in rows if row[0].startswith("`/")] == there
