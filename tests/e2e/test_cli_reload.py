"""`neuron-anyio run --reload` as a real process: new code after a drain, and signals as ever (promises D1, D4)."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.cli_child import Child, ask, call, environment, gateway, running
from tests.e2e.test_cli_run import settled, submit

BACKENDS = pytest.mark.parametrize("backend", ["asyncio", "trio"])

WORKER = """
import os

import anyio

from neuron_anyio import capability
from parts.version import VERSION


@capability("examples/version")
async def version(value):
    return VERSION


@capability("examples/gated")
async def gated(value):
    print("STARTED", flush=True)
    await anyio.wait_readable(0)
    os.read(0, 1)
    return VERSION
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "worker.py").write_text(WORKER)
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "version.py").write_text("VERSION = 'one'\n")
    return tmp_path


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with gateway(tmp_path_factory.mktemp("gateway")) as served:
        yield served


def started(child: Child, url: str) -> str:
    """Let the gated handler start; return its task."""
    child.wait_for("registered with")
    task = submit(url, "examples/gated")
    child.wait_for("STARTED", stream="stdout")
    return task


@BACKENDS
def test_D1_a_change_drains_what_runs_and_starts_the_new_code(backend: str, folder: Path, url: str) -> None:
    version = folder / "parts" / "version.py"
    with running("run", "worker.py", "--reload", "--backend", backend, "--gateway-url", url, cwd=folder) as child:
        task = started(child, url)
        version.write_text("VERSION = 'two'\n")
        child.wait_for(r"changed: version\.py; draining and starting again")
        child.wait_for("draining: 1 running")
        child.release()
        assert settled(url, task)["output"] == "one"
        child.wait_for("registered with", count=2)
        assert settled(url, submit(url, "examples/version"))["output"] == "two"

        version.write_text("VERSION =\n")
        child.wait_for(r"error: module 'worker' raised SyntaxError when it was imported: .*version\.py, line 1")
        child.wait_for("the neuron has ended with exit code 2; waiting for a change in")
        version.write_text("VERSION = 'three'\n")
        child.wait_for("registered with", count=3)
        assert settled(url, submit(url, "examples/version"))["output"] == "three"
        child.send(signal.SIGTERM)
        assert child.end() == 0


def test_a_package_that_appears_with_its_files_is_a_change(folder: Path, url: str) -> None:
    worker = folder / "worker.py"
    worker.write_text("import more.parts\n" + WORKER)
    (folder / "elsewhere").mkdir()
    (folder / "elsewhere" / "parts.py").write_text("")
    with running("run", "worker.py", "--reload", "--gateway-url", url, cwd=folder) as child:
        child.wait_for("the neuron has ended with exit code 2; waiting for a change in")
        (folder / "empty").mkdir()
        (folder / "elsewhere").rename(folder / "more")
        child.wait_for(r"changed: more; draining and starting again")
        child.wait_for("registered with")
        assert not any("empty" in line or "change detected" in line for line in child.lines["stderr"])
        child.send(signal.SIGTERM)
        assert child.end() == 0


@BACKENDS
def test_D4_the_first_signal_drains_and_the_second_cancels(backend: str, folder: Path, url: str) -> None:
    with running("run", "worker", "--reload", "--backend", backend, "--gateway-url", url, cwd=folder) as child:
        task = started(child, url)
        child.send(signal.SIGINT)
        child.wait_for("draining: 1 running")
        child.send(signal.SIGINT)
        assert child.end() == 130
    assert ask(url, f"/tasks/{task}")["state"] == "pending"
    ask(url, f"/tasks/{task}/cancel", {})


@BACKENDS
def test_D4_a_signal_during_a_drain_for_a_change_does_not_cut_it(backend: str, folder: Path, url: str) -> None:
    with running("run", "worker", "--reload", "--backend", backend, "--gateway-url", url, cwd=folder) as child:
        task = started(child, url)
        (folder / "parts" / "version.py").write_text("VERSION = 'two'\n")
        child.wait_for("draining: 1 running")
        child.send(signal.SIGTERM)
        child.release()
        assert child.end() == 0
    assert settled(url, task)["output"] == "one"


@BACKENDS
def test_D4_a_signal_ends_the_wait_for_a_change(backend: str, folder: Path, url: str) -> None:
    (folder / "worker.py").write_text("raise LookupError('nothing')\n")
    with running("run", "worker", "--reload", "--backend", backend, "--gateway-url", url, cwd=folder) as child:
        child.wait_for("waiting for a change")
        child.send(signal.SIGTERM)
        assert child.end() == 0


def test_D5_a_killed_supervisor_leaves_no_neuron_behind(folder: Path, url: str) -> None:
    with running("run", "worker", "--reload", "--gateway-url", url, cwd=folder) as child:
        task = started(child, url)
        child.process.kill()
        assert child.end() == -signal.SIGKILL  # and both streams are closed, which the neuron had, too
        child.wait_for("the supervisor is gone; ending now")
    assert ask(url, f"/tasks/{task}")["state"] == "pending"
    ask(url, f"/tasks/{task}/cancel", {})


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["nowhere.py"], "there is no Python file nowhere.py; "),
        (["worker", "--processes", "2"], "--reload goes with neither --processes nor --burst; leave out one of them"),
        (["worker", "--burst"], "--reload goes with neither --processes nor --burst; leave out one of them"),
        (["worker", "--gateway-url", "stdio:"], "stdio: is one stream for one process; leave out --reload and --proc"),
    ],
)
def test_what_does_not_go_together_is_said_in_one_line(arguments: list[str], error: str, folder: Path) -> None:
    done = call("run", "--reload", *arguments, cwd=folder, env={"BIGBRAIN_GATEWAY_URL": "http://127.0.0.1:9"})
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"error: {error}")
    assert len(done.stderr.splitlines()) == 1


def test_a_missing_extra_is_one_line_that_says_how_to_install_it(folder: Path) -> None:
    code = (
        "import sys; sys.modules['watchfiles'] = None; sys.argv[1:] = ['run', 'worker', '--reload']\n"
        "from neuron_anyio.cli import main; sys.exit(main())"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", code],
        cwd=folder,
        env=environment(BIGBRAIN_GATEWAY_URL="http://127.0.0.1:9"),
        capture_output=True,
        text=True,
        check=False,
    )
    remedy = "run: pip install 'neuron-anyio[reload]'"
    assert done.stderr == f"error: --reload needs watchfiles, which is missing; {remedy}\n"
    assert done.returncode == 2
