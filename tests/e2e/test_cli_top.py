"""`neuron-anyio top` and `control` as real processes, beside neurons that run (promise C9: no task's content)."""

from __future__ import annotations

import json
import re
import signal
import socket
import stat
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from neuron_anyio.control import ANSWER
from tests.e2e.cli_child import PATIENCE, SCRIPT, WORKER, Child, call, environment, gateway, running
from tests.e2e.test_cli_dev import Terminal
from tests.e2e.test_cli_run import settled, submit

BACKENDS = pytest.mark.parametrize("backend", ["asyncio", "trio"])
SECRET = "nobody's business"
FOLDER = "neuron-anyio"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("top")
    (path / "worker.py").write_text(WORKER.replace("waiting for a byte", SECRET))
    return path


@pytest.fixture(scope="module")
def url(folder: Path) -> Iterator[str]:
    with gateway(folder) as served:
        yield served


@pytest.fixture
def runtime() -> Iterator[Path]:
    """A folder with a short name: the path of a socket may have about a hundred characters."""
    with TemporaryDirectory(prefix="top-") as path:
        yield Path(path)


@pytest.fixture
def env(runtime: Path) -> Mapping[str, str]:
    return {"XDG_RUNTIME_DIR": str(runtime)}


def gated(child: Child, url: str) -> str:
    child.wait_for("registered with")
    task = submit(url, "examples/gated", SECRET)
    child.wait_for("STARTED", stream="stdout")
    return task


def snapshots(folder: Path, env: Mapping[str, str], *options: str) -> list[Any]:
    done = call("top", "--json", *options, cwd=folder, env=env)
    assert done.returncode == 0, done.stderr
    found: list[Any] = json.loads(done.stdout)
    return found


@BACKENDS
def test_C9_top_shows_the_leases_of_a_neuron_and_no_content(
    backend: str, folder: Path, url: str, runtime: Path, env: Mapping[str, str]
) -> None:
    arguments = ["run", "worker", "--neuron-id", f"top/{backend}", "--backend", backend, "--gateway-url", url]
    with running(*arguments, cwd=folder, env=env) as child:
        task = gated(child, url)
        done = call("top", "--once", "--backend", backend, cwd=folder, env=env)
        assert (done.returncode, done.stderr) == (0, "")
        about, head, row = done.stdout.splitlines()
        assert about == f"top/{backend} (process {child.process.pid}): registered; 1 running, 0 queued, 0 undelivered"
        assert head.split() == ["neuron", "lease", "capability", "task", "state", "age", "left", "progress"]
        lease = r"lease_\w+"
        pattern = rf"top/{backend} +{lease} +examples/gated +{task} +running +\d+\.\d s +\d+\.\d s +50 %"
        assert re.fullmatch(pattern, row)

        (status,) = snapshots(folder, env)
        (shown,) = status["snapshot"]["leases"]
        assert (shown["task_id"], shown["percent"], shown["state"]) == (task, 50.0, "running")
        assert SECRET not in done.stdout + json.dumps(status)

        (path,) = (runtime / FOLDER).iterdir()
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        child.release()
        child.send(signal.SIGTERM)
        assert child.end() == 0
    assert list((runtime / FOLDER).iterdir()) == []


@BACKENDS
def test_control_pauses_resumes_and_drains_a_neuron(
    backend: str, folder: Path, url: str, env: Mapping[str, str]
) -> None:
    name = f"control-{backend}"
    with running(
        "run", "worker", "--neuron-id", name, "--backend", backend, "--gateway-url", url, cwd=folder, env=env
    ) as child:
        task = gated(child, url)
        done = call("control", "pause", "--neuron-id", name, cwd=folder, env=env)
        assert (done.returncode, done.stdout) == (0, f"{name}: pause\n")
        assert snapshots(folder, env)[0]["snapshot"]["paused"]
        second = submit(url, "examples/thread", 1)
        assert call("control", "resume", cwd=folder, env=env).returncode == 0
        assert settled(url, second)["output"] == {"seen": 1}
        for _ in range(2):  # the second is no second signal
            assert call("control", "drain", cwd=folder, env=env).returncode == 0
        child.wait_for("draining: 1 running")
        assert snapshots(folder, env)[0]["snapshot"]["draining"]
        child.release()
        assert child.end() == 0
    assert settled(url, task)["output"] == "released"


def test_top_shows_every_process_and_passes_over_the_socket_of_a_dead_one(
    folder: Path, url: str, env: Mapping[str, str]
) -> None:
    with running("run", "worker:pair", "--neuron-id", "dead", "--gateway-url", url, cwd=folder, env=env) as child:
        child.wait_for("registered with")
        child.process.kill()
        child.end()
    arguments = ["run", "worker:pair", "--processes", "2", "--neuron-id", "many", "--gateway-url", url]
    with running(*arguments, cwd=folder, env=env) as child:
        child.wait_for("registered with", count=2)
        assert [each["neuron_id"] for each in snapshots(folder, env)] == ["many-1", "many-2"]
        assert [each["neuron_id"] for each in snapshots(folder, env, "--neuron-id", "many")] == ["many-1", "many-2"]
        assert [each["neuron_id"] for each in snapshots(folder, env, "--neuron-id", "many-2")] == ["many-2"]
        child.send(signal.SIGTERM)
        assert child.end() == 0
    done = call("top", "--once", "--neuron-id", "many", cwd=folder, env=env)
    assert (done.returncode, done.stdout) == (1, "")
    assert re.fullmatch(r"error: no neuron many answers in \S+; start one with neuron-anyio run, or .*\n", done.stderr)


def test_neurons_that_do_not_answer_are_waited_for_together(
    folder: Path, runtime: Path, env: Mapping[str, str]
) -> None:
    (runtime / FOLDER).mkdir(mode=0o700)
    with ExitStack() as stack:
        for name in ("one", "two", "three"):
            listener = stack.enter_context(socket.socket(socket.AF_UNIX))
            listener.bind(str(runtime / FOLDER / f"{name}.sock"))
            listener.listen()
        began = time.monotonic()
        done = call("top", "--once", cwd=folder, env=env)
        assert time.monotonic() - began < 2 * ANSWER
    assert (done.returncode, done.stderr.count("gives no answer: none within 5 s")) == (1, 3)


@pytest.mark.parametrize("command", ["top >&-", "top --json | true", "top --json 2>&1 | true"])
def test_D4_top_ends_quietly_where_nobody_reads_it(command: str, folder: Path, env: Mapping[str, str]) -> None:
    done = subprocess.run(
        ["bash", "-c", f"{SCRIPT} {command}"],
        cwd=folder,
        env=environment(**env),
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
    )
    assert not re.search("Traceback|NoneType|BrokenPipe|Exception ignored", done.stdout + done.stderr)


@BACKENDS
def test_on_a_terminal_top_shows_a_table_that_lives_until_a_signal(
    backend: str, folder: Path, url: str, env: Mapping[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", env["XDG_RUNTIME_DIR"])
    name = f"live-{backend}"
    with running("run", "worker", "--neuron-id", name, "--gateway-url", url, cwd=folder) as child:
        task = gated(child, url)
        terminal = Terminal(["top", "--backend", backend], folder)
        try:
            terminal.wait_for(rf"{name} . lease_\w+ . examples/gated . {task} . running . \d+\.\d s . \d+\.\d s . 50 %")
            terminal.wait_for(rf"{name} \(process \d+\): registered; 1 running")
            child.release()
            terminal.wait_for(rf"{name} \(process \d+\): registered; 0 running")
            child.send(signal.SIGTERM)
            terminal.wait_for("no neuron answers in")
            terminal.process.send_signal(signal.SIGINT)
            assert terminal.process.wait(PATIENCE) == 0
        finally:
            terminal.close()
        assert child.end() == 0


def test_a_socket_of_ones_own_choice_and_none_at_all(
    folder: Path, url: str, runtime: Path, env: Mapping[str, str]
) -> None:
    path = str(runtime / "mine.sock")
    arguments = ["run", "worker:pair", "--gateway-url", url, "--neuron-id"]
    with running(*arguments, "mine", "--control", path, cwd=folder, env=env) as child:
        child.wait_for("registered with")
        assert snapshots(folder, env, "--control", path)[0]["neuron_id"] == "mine"
        done = call(*arguments, "other", "--control", path, cwd=folder, env=env)
        error = f"error: cannot listen at {path}: another program listens there; give --control another path\n"
        assert done.returncode == 1
        assert done.stderr.endswith(error)
        child.send(signal.SIGTERM)
        assert child.end() == 0
    with running(*arguments, "off", "--control", "off", cwd=folder, env=env) as child:
        child.wait_for("registered with")
        assert not (runtime / FOLDER).exists()
        child.send(signal.SIGTERM)
        assert child.end() == 0


def test_a_folder_that_is_open_to_others_is_not_used_and_a_neuron_does_without(
    folder: Path, url: str, runtime: Path, env: Mapping[str, str]
) -> None:
    (runtime / FOLDER).mkdir(mode=0o777)
    (runtime / FOLDER).chmod(0o777)
    with running("run", "worker:pair", "--neuron-id", "open", "--gateway-url", url, cwd=folder, env=env) as child:
        child.wait_for(r"INFO no control socket: \S+ must be a folder of this user's with mode 0700")
        child.wait_for("registered with")
        child.send(signal.SIGTERM)
        assert child.end() == 0
