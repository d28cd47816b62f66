"""`neuron-anyio run --processes` as real processes: names, restarts, signals, and nobody left behind (D1, D4, D5)."""

from __future__ import annotations

import os
import signal
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.cli_child import PATIENCE, Child, ask, call, gateway, running
from tests.e2e.test_cli_run import settled, submit

BACKENDS = pytest.mark.parametrize("backend", ["asyncio", "trio"])

WORKER = """
import os
import time

import anyio

from neuron_anyio import capability

print("PID", os.getpid(), flush=True)


@capability("examples/echo")
async def echo(value):
    return value


@capability("examples/gated")
async def gated(value):
    print("STARTED", flush=True)
    await anyio.wait_readable(0)
    os.read(0, 1)
    return "released"


@capability("examples/stubborn")
async def stubborn(value):
    print("STARTED", flush=True)
    with anyio.CancelScope(shield=True):
        await anyio.sleep_forever()


@capability("examples/blocks")
async def blocks(value):
    print("STARTED", flush=True)
    time.sleep(1000)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("processes")
    (path / "worker.py").write_text(WORKER)
    return path


@pytest.fixture(scope="module")
def url(folder: Path) -> Iterator[str]:
    with gateway(folder) as served:
        yield served


def command(url: str, name: str, *options: str, number: int = 2) -> list[str]:
    """Return the command line of so many processes under names of this test's own."""
    return ["run", "worker", "--processes", str(number), "--neuron-id", name, "--gateway-url", url, *options]


def pids(child: Child, count: int) -> list[int]:
    return [int(child.wait_for(r"^PID (\d+)$", stream="stdout", count=number + 1)[1]) for number in range(count)]


def free_ports(number: int) -> int:
    """Return a port after which so many others are free, too."""
    for _ in range(100):
        with socket.create_server(("127.0.0.1", 0)) as first:
            port = int(first.getsockname()[1])
        try:
            for each in range(port, port + number + 1):
                socket.create_server(("127.0.0.1", each)).close()
        except (OSError, OverflowError):
            continue
        return port
    raise AssertionError("no ports are free")


def answered(port: int, path: str, wanted: int = 200) -> str:
    """Ask until the answer has this status: the processes are looked at twice a second."""
    until = time.monotonic() + PATIENCE
    while True:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as reply:
                status, text = reply.status, reply.read().decode()
        except urllib.error.HTTPError as refusal:
            with refusal:
                status, text = refusal.code, refusal.read().decode()
        if status == wanted:
            return str(text).strip()
        assert time.monotonic() < until, (status, text)
        time.sleep(0.05)  # the state of another process: nothing here tells of it


@BACKENDS
def test_D4_each_process_is_a_neuron_of_its_own_and_one_signal_drains_all(
    backend: str, folder: Path, url: str, tmp_path: Path
) -> None:
    name, port = f"own-{backend}", free_ports(2)
    options = ["--journal", str(tmp_path / "results.db"), "--health", f"127.0.0.1:{port}", "--backend", backend]
    with running(*command(url, name, *options), cwd=folder) as child:
        child.wait_for("registered with", count=2)
        assert answered(port, "/readyz") == "ready"
        assert answered(port, "/startupz") == "started"
        assert answered(port, "/livez") == "alive"
        assert "each process answers at a port of its own" in answered(port, "/metrics", 404)
        for number in (1, 2):
            assert f'neuron_id="{name}-{number}"' in answered(port + number, "/metrics")
            assert (tmp_path / f"results.db-{number}").exists()
        neurons = {each["neuronId"] for each in ask(url, "/neurons")["neurons"] if each["connected"]}
        assert neurons == {f"{name}-1", f"{name}-2"}
        tasks = [submit(url, "examples/gated") for _ in range(2)]
        child.wait_for("STARTED", stream="stdout", count=2)
        child.send(signal.SIGTERM)
        child.wait_for("draining: 1 running", count=2)
        assert answered(port, "/readyz", 503) == "draining"
        child.release()
        child.release()
        assert child.end() == 0
    assert [settled(url, task)["output"] for task in tasks] == ["released", "released"]


@BACKENDS
def test_a_process_that_dies_is_started_again(backend: str, folder: Path, url: str) -> None:
    with running(*command(url, f"again-{backend}", "--backend", backend), cwd=folder) as child:
        child.wait_for("registered with", count=2)
        first, second = pids(child, 2)
        os.kill(first, signal.SIGKILL)
        child.wait_for(r"process \d ended with exit code 137; it is started again in 0\.5 s")
        child.wait_for("registered with", count=3)
        assert pids(child, 3)[2] not in (first, second)
        assert settled(url, submit(url, "examples/echo", 1))["output"] == 1
        os.kill(pids(child, 3)[2], signal.SIGKILL)
        child.wait_for(r"process \d ended with exit code 137; it is started again in 1\.0 s")
        child.send(signal.SIGTERM)
        assert child.end() == 137  # the highest: one of them is not there to drain


@BACKENDS
def test_D4_wrong_usage_is_not_tried_again(backend: str, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("raise LookupError('nothing')\n")
    arguments = ["run", "broken", "--processes", "2", "--gateway-url", "http://127.0.0.1:9", "--backend", backend]
    with running(*arguments, cwd=tmp_path) as child:
        assert child.end() == 2
        child.wait_for(r"process \d ended with exit code 2, which trying again does not mend", count=2)
        child.wait_for("error: module 'broken' raised LookupError", count=2)


@pytest.mark.parametrize(
    ("backend", "number", "code"),
    [("asyncio", signal.SIGINT, 130), ("trio", signal.SIGTERM, 143)],
    ids=["asyncio", "trio"],
)
def test_D4_the_second_signal_cancels(backend: str, number: signal.Signals, code: int, folder: Path, url: str) -> None:
    with running(*command(url, f"second-{backend}-{code}", "--backend", backend), cwd=folder) as child:
        child.wait_for("registered with", count=2)
        task = submit(url, "examples/gated")
        child.wait_for("STARTED", stream="stdout")
        child.send(signal.SIGTERM)
        child.wait_for("draining: 1 running")
        child.send(number)
        assert child.end() == code
    assert ask(url, f"/tasks/{task}")["giveBacks"] >= 1  # and perhaps sent to the other one, just before that was gone
    ask(url, f"/tasks/{task}/cancel", {})


@BACKENDS
def test_D4_the_third_signal_kills(backend: str, folder: Path, url: str) -> None:
    with running(*command(url, f"third-{backend}", "--backend", backend), cwd=folder) as child:
        child.wait_for("registered with", count=2)
        task = submit(url, "examples/blocks")
        child.wait_for("STARTED", stream="stdout")
        child.send(signal.SIGTERM)
        child.wait_for("stopped after")  # the other one
        child.send(signal.SIGTERM)
        ask(url, f"/tasks/{task}/cancel", {})
        child.send(signal.SIGINT)
        assert child.end() in (130, 143)  # two that come at once are in no order


def test_D1_a_process_that_does_not_end_is_killed_when_the_drain_is_over(folder: Path, url: str) -> None:
    with running(*command(url, "killed", "--drain", "0.1"), cwd=folder) as child:
        child.wait_for("registered with", count=2)
        task = submit(url, "examples/blocks")
        child.wait_for("STARTED", stream="stdout")
        child.send(signal.SIGTERM)
        child.wait_for("a process does not end; it is killed")
        assert child.end() == 137
    ask(url, f"/tasks/{task}/cancel", {})


@pytest.mark.parametrize(("handler", "backend"), [("gated", "asyncio"), ("gated", "trio"), ("blocks", "asyncio")])
def test_D5_a_killed_supervisor_leaves_no_process_behind(handler: str, backend: str, folder: Path, url: str) -> None:
    with running(*command(url, f"orphan-{handler}-{backend}", "--backend", backend), cwd=folder) as child:
        child.wait_for("registered with", count=2)
        task = submit(url, f"examples/{handler}")
        child.wait_for("STARTED", stream="stdout")
        child.process.kill()
        assert child.end() == -signal.SIGKILL  # and both streams are closed, which the processes had, too
        child.wait_for("the supervisor is gone; ending now", count=2)
    ask(url, f"/tasks/{task}/cancel", {})


def test_D5_a_killed_supervisor_leaves_no_process_behind_that_still_imports(tmp_path: Path) -> None:
    (tmp_path / "slow.py").write_text("import time\nprint('IMPORTING', flush=True)\ntime.sleep(1000)\n")
    with running("run", "slow", "--processes", "2", "--gateway-url", "http://127.0.0.1:9", cwd=tmp_path) as child:
        child.wait_for("IMPORTING", stream="stdout", count=2)
        child.process.kill()
        assert child.end() == -signal.SIGKILL
        child.wait_for("the supervisor is gone; ending now", count=2)


@BACKENDS
def test_the_service_manager_is_told_when_all_are_ready(backend: str, folder: Path, url: str, tmp_path: Path) -> None:
    path = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(path)
        manager.settimeout(PATIENCE)
        arguments = command(url, f"notify-{backend}", "--backend", backend)
        with running(*arguments, cwd=folder, env={"NOTIFY_SOCKET": path}) as child:
            said = b""
            while b"READY=1" not in said:
                said += manager.recv(4096) + b"\n"
            assert b"STATUS=2 processes are ready" in said
            child.wait_for("registered with", count=2)
            child.send(signal.SIGTERM)
            while b"STOPPING=1" not in said:
                said += manager.recv(4096) + b"\n"
            assert child.end() == 0
        assert said.count(b"READY=1") == said.count(b"STOPPING=1") == 1


def test_a_signal_before_they_serve_ends_them_with_0(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "slow.py").write_text("import time\nprint('IMPORTING', flush=True)\ntime.sleep(1000)\n")
    arguments = ["run", "slow", "--processes", "2", "--gateway-url", "http://127.0.0.1:9"]
    with running(*arguments, cwd=tmp_path) as child:
        child.wait_for("IMPORTING", stream="stdout", count=2)
        child.send(signal.SIGINT)
        assert child.end() == 0


def test_a_port_too_high_for_all_of_them_is_refused(folder: Path) -> None:
    done = call(*command("http://127.0.0.1:9", "high", "--health", "65534"), cwd=folder)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: --health: with 2 processes the port must be at most 65533\n"
