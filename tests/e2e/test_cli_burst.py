"""`neuron-anyio run --burst` as a real process: it ends by itself when there is nothing to do (promise D4)."""

from __future__ import annotations

import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.cli_child import ask, call, gateway, running
from tests.e2e.test_cli_run import settled, submit

BACKENDS = pytest.mark.parametrize("backend", ["asyncio", "trio"])

WORKER = """
import anyio

from neuron_anyio import capability


@capability("examples/slow")
async def slow(value):
    await anyio.sleep(value)
    return value
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("burst")
    (path / "worker.py").write_text(WORKER)
    return path


@pytest.fixture(scope="module")
def url(folder: Path) -> Iterator[str]:
    with gateway(folder) as served:
        yield served


@BACKENDS
@pytest.mark.parametrize("options", [["--burst=0.4"], ["--burst", "0.4", "--processes", "2"]], ids=["one", "two"])
def test_what_waits_is_done_however_long_it_takes_and_then_it_ends_with_0(
    options: list[str], backend: str, folder: Path, url: str
) -> None:
    tasks = [submit(url, "examples/slow", seconds) for seconds in (0.9, 0.0, 0.0)]
    done = call("run", "worker.py", *options, "--backend", backend, "--gateway-url", url, cwd=folder)
    assert done.returncode == 0, done.stderr
    assert [settled(url, task)["output"] for task in tasks] == [0.9, 0.0, 0.0]
    assert "started again" not in done.stderr


@BACKENDS
def test_a_gateway_that_is_away_is_waited_for_all_the_same(backend: str, folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    with running(
        "run",
        "worker",
        "--backend",
        backend,
        "--gateway-url",
        f"http://127.0.0.1:{port}",
        cwd=folder,
        env={"NEURON_ANYIO_RUN_BURST": "0.1"},
    ) as child:
        child.wait_for("no stream from")
        with running("gateway", "--port", port, cwd=folder):
            child.wait_for("registered with")
            assert child.end() == 0


def test_D4_a_signal_ends_it_as_ever(folder: Path, url: str) -> None:
    with running("run", "worker", "--gateway-url", url, "--burst", cwd=folder) as child:
        child.wait_for("registered with")
        task = submit(url, "examples/slow", 1000)
        while ask(url, f"/tasks/{task}")["state"] == "pending":
            pass
        child.send(signal.SIGTERM)
        child.wait_for("draining: 1 running")
        child.send(signal.SIGTERM)
        assert child.end() == 143
    ask(url, f"/tasks/{task}/cancel", {})


def test_a_module_in_the_place_of_the_seconds_is_refused(folder: Path) -> None:
    done = call("run", "--burst", "worker.py", "--gateway-url", "http://127.0.0.1:9", cwd=folder)
    assert done.returncode == 2
    assert "'worker.py' is not a number of seconds" in done.stderr
