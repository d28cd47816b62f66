"""`neuron-anyio dev`, `gateway` and `submit` as real processes, on a terminal and without one."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import shlex
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.e2e.cli_child import PATIENCE, SCRIPT, WORKER, Child, ask, call, environment, running

BACKENDS = pytest.mark.parametrize("backend", ["asyncio", "trio"])

STEPS = """
import anyio
from neuron_anyio import LeaseContext, capability


@capability("examples/steps")
async def steps(number: int, ctx: LeaseContext) -> int:
    ctx.log.warning("a line of [bold]the handler's[/bold]")
    ctx.progress(percent=50, message="half of [bold]it[/bold]")
    await anyio.wait_readable(0)
    return number
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("dev")
    (path / "worker.py").write_text(WORKER)
    (path / "steps.py").write_text(STEPS)
    (path / "input.json").write_text('{"text": "from a file"}')
    return path


class Dev(NamedTuple):
    child: Child
    url: str
    copied: str


@pytest.fixture(scope="module")
def dev(folder: Path) -> Iterator[Dev]:
    with running("dev", "worker", "--port", "0", cwd=folder) as child:
        url = child.wait_for(r"^gateway at (http://127\.0\.0\.1:\d+)$", stream="stdout")[1]
        copied = child.wait_for(r"^submit with: (neuron-anyio submit .*)$", stream="stdout")[1]
        child.wait_for("^registered examples/text.upper x1", stream="stdout")
        yield Dev(child, url, copied)
        child.send(signal.SIGTERM)
        assert child.end() == 0


@BACKENDS
def test_dev_submits_shows_a_line_for_each_event_and_ends_with_its_tasks(backend: str, folder: Path) -> None:
    tasks = ["--submit", "examples/text.upper", '{"text": "hello"}', "--submit", "examples/thread", "@input.json"]
    done = call("dev", "worker.py", "--port", "0", *tasks, "--once", "--backend", backend, cwd=folder)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    for line in (
        r"lease_\w+ examples/text\.upper started, task task_\w+, attempt 0",
        r"lease_\w+ examples/text\.upper completed after \d\.\d\d s",
        r'task task_\w+ succeeded: "HELLO"',
        r'task task_\w+ succeeded: \{"seen":\{"text":"from a file"\}\}',
    ):
        assert re.search(f"^{line}$", done.stdout, re.MULTILINE), done.stdout


def test_dev_ends_with_1_when_a_task_has_failed(folder: Path) -> None:
    done = call("dev", "worker", "--port", "0", "--submit", "examples/fails", "null", "--once", cwd=folder)
    assert done.returncode == 1
    assert re.search(r"task task_\w+ failed: terminal, COLD: the oven is cold$", done.stdout, re.MULTILINE)
    assert re.search(r"examples/fails failed for good \(COLD: the oven is cold\)", done.stdout)


def test_dev_talks_to_itself_past_the_proxies_of_its_environment(folder: Path) -> None:
    proxies = {"http_proxy": "http://127.0.0.1:9", "all_proxy": "http://127.0.0.1:9", "NO_PROXY": "example.com"}
    done = call("dev", "worker", "--port", "0", "--submit", "examples/thread", "1", "--once", cwd=folder, env=proxies)
    assert done.returncode == 0, done.stderr


def test_the_line_that_dev_prints_can_be_copied_and_run(dev: Dev, folder: Path) -> None:
    program, *arguments = shlex.split(dev.copied)
    assert program == Path(SCRIPT).name
    done = call(*arguments, cwd=folder)
    assert (done.returncode, done.stdout) == (0, '"TEXT"\n'), done.stderr


def test_dev_shows_progress_of_tasks_from_outside(dev: Dev) -> None:
    ask(dev.url, "/tasks", {"capability": "examples/gated", "input": None})
    dev.child.wait_for(r"^lease_\w+ examples/gated 50 % waiting for a byte$", stream="stdout")
    dev.child.release()
    dev.child.wait_for(r"^lease_\w+ examples/gated completed", stream="stdout")


def test_submit_prints_the_tasks_id_and_returns(dev: Dev, folder: Path) -> None:
    arguments = ["submit", "examples/text.upper", "@input.json", "--idempotency-key", "once"]
    first, second = (call(*arguments, cwd=folder, env={"BIGBRAIN_GATEWAY_URL": dev.url}) for _ in range(2))
    assert (first.returncode, first.stderr) == (0, "")
    assert re.fullmatch(r"task_\w+\n", first.stdout)
    assert first.stdout == second.stdout
    assert ask(dev.url, f"/tasks/{first.stdout.strip()}")["capability"] == "examples/text.upper"


def test_submit_and_wait_prints_the_output_alone_and_the_way_to_it_on_stderr(dev: Dev, folder: Path) -> None:
    arguments = ["submit", "examples/text.upper", "-", "--wait", "--gateway-url", dev.url]
    done = call(*arguments, cwd=folder, text='{"text": "grün"}')
    assert (done.returncode, json.loads(done.stdout)) == (0, "GRÜN")
    lines = done.stderr.splitlines()
    assert lines[-1].endswith(" succeeded")
    assert all(re.match(r"task task_\w+ (pending|runs on|succeeded)", line) for line in lines)


def test_submit_and_wait_says_how_a_task_failed_in_one_line(dev: Dev, folder: Path) -> None:
    done = call("submit", "examples/fails", "1", "--wait", "--gateway-url", dev.url, cwd=folder)
    assert (done.returncode, done.stdout) == (1, "")
    assert re.fullmatch(r"error: task task_\w+ failed: terminal, COLD: the oven is cold", done.stderr.splitlines()[-1])


def test_submit_and_wait_says_that_a_task_was_called_off(dev: Dev, folder: Path) -> None:
    arguments = ["submit", "examples/gated", "1", "--wait", "--gateway-url", dev.url]
    with running(*arguments, cwd=folder) as child:
        task = child.wait_for(r"task (task_\w+) runs on \S+: 50 % waiting for a byte")[1]
        ask(dev.url, f"/tasks/{task}/cancel", {"reason": "not needed"})
        assert child.end() == 1
        child.wait_for(rf"error: task {task} cancelled: not needed")


def test_submit_and_wait_follows_a_task_through_its_tries(dev: Dev, folder: Path) -> None:
    arguments = [
        "submit",
        "examples/text.upper",
        '{"words": 1}',
        "--wait",
        "--max-attempts",
        "1",
        "--gateway-url",
        dev.url,
    ]
    done = call(*arguments, cwd=folder)
    assert done.returncode == 1
    assert re.search(r"error: task task_\w+ failed: schema-mismatch, INPUT_SCHEMA_MISMATCH: ", done.stderr)


def test_submit_warns_of_a_capability_that_nobody_offers_and_says_what_is_offered(dev: Dev, folder: Path) -> None:
    done = call("submit", "examples/gated", "1", "--on-behalf-of", "ann", "--gateway-url", dev.url, cwd=folder)
    assert done.returncode == 0
    warning = (
        r"WARNING no neuron offers 'examples/gated' on behalf of ann; offered: examples/deaf, .*; the task waits for"
    )
    assert re.search(warning, done.stderr)
    assert ask(dev.url, f"/tasks/{done.stdout.strip()}")["state"] == "pending"


def test_submit_and_wait_waits_for_a_neuron_where_that_is_wanted(dev: Dev, folder: Path) -> None:
    arguments = ["submit", "examples/steps", "7", "--wait", "--allow-unknown", "--gateway-url", dev.url]
    with running(*arguments, cwd=folder) as child:
        child.wait_for(r"task task_\w+ pending: no neuron offers it")
        with running("run", "steps", "--gateway-url", dev.url, cwd=folder) as neuron:
            child.wait_for(r"runs on \S+: 50 %")
            neuron.release()
            assert child.end() == 0
            assert child.lines["stdout"] == ["7"]
            neuron.send(signal.SIGTERM)
            assert neuron.end() == 0


def test_an_interrupted_submit_ends_with_130_and_without_a_traceback(dev: Dev, folder: Path) -> None:
    with running("submit", "examples/gated", "1", "--wait", "--gateway-url", dev.url, cwd=folder) as child:
        task = child.wait_for(r"task (task_\w+) runs on")[1]
        child.send(signal.SIGINT)
        assert child.end() == 130
    ask(dev.url, f"/tasks/{task}/cancel", {})


@BACKENDS
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
def test_the_gateway_stops_cleanly_with_neurons_connected(number: signal.Signals, backend: str, folder: Path) -> None:
    with running("gateway", "--port", "0", "--backend", backend, "--lease-ttl", "5", cwd=folder) as child:
        url = child.wait_for(r"^gateway at (\S+)$", stream="stdout")[1]
        with running("run", "worker", "--gateway-url", url, cwd=folder) as neuron:
            neuron.wait_for("registered with")
            child.send(number)
            assert child.end() == 0
            assert child.lines["stderr"] == []
            neuron.wait_for("WARNING no stream from")


def test_a_gateway_that_is_open_to_the_network_warns(folder: Path) -> None:
    with running("gateway", "--port", "0", "--host", "0.0.0.0", cwd=folder) as child:
        child.wait_for(r"WARNING 0\.0\.0\.0 is open to everybody; give --token-file to lock it")


class Terminal:
    """A command on a pseudo-terminal."""

    def __init__(self, arguments: list[str], cwd: Path) -> None:
        self._master, slave = pty.openpty()
        self._seen = ""
        self.process = subprocess.Popen(
            [SCRIPT, *arguments], cwd=cwd, env=environment(), stdin=slave, stdout=slave, stderr=slave, close_fds=True
        )
        os.close(slave)

    def wait_for(self, pattern: str) -> re.Match[str]:
        """Read until the terminal has shown a pattern, escape sequences left out."""
        deadline = time.monotonic() + PATIENCE
        while (match := re.search(pattern, re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self._seen))) is None:
            assert select.select([self._master], [], [], max(0, deadline - time.monotonic()))[0], self._seen[-1000:]
            self._seen += self._read()
        return match

    def _read(self) -> str:
        try:
            return os.read(self._master, 65536).decode(errors="replace")
        except OSError:  # how Linux tells of the other side's end
            pytest.fail(f"the command has ended: {self._seen[-1000:]}")

    def type(self, text: str) -> None:
        os.write(self._master, text.encode())

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._master)


@BACKENDS
def test_on_a_terminal_dev_shows_a_table_that_lives_and_drains_at_a_signal(backend: str, folder: Path) -> None:
    tasks = ["--submit", "examples/steps", "5"]
    terminal = Terminal(["dev", "steps", "--port", "0", *tasks, "--backend", backend], folder)
    try:
        terminal.wait_for(r"WARNING a line of \[bold\]the handler's\[/bold\]")
        terminal.wait_for(r"lease +. capability +. age +. progress")
        terminal.wait_for(r"lease_\w+ . examples/steps . \d\.\d s . 50 % half of \[bold\]it\[/bold\]")
        terminal.wait_for("1 running, 0 completed, 0 not completed")
        terminal.type("\n")
        terminal.wait_for(r"task task_\w+ succeeded: 5")
        terminal.wait_for("0 running, 1 completed, 0 not completed")
        terminal.process.send_signal(signal.SIGINT)
        terminal.wait_for("draining: 0 running")
        assert terminal.process.wait(PATIENCE) == 0
    finally:
        terminal.close()


def test_on_a_terminal_submit_shows_progress_in_place_and_then_the_output(dev: Dev, folder: Path) -> None:
    terminal = Terminal(["submit", "examples/gated", "null", "--wait", "--gateway-url", dev.url], folder)
    try:
        terminal.wait_for(r". task task_\w+ runs on \S+: 50 % waiting for a byte")
        dev.child.release()
        terminal.wait_for('"released"')
        assert terminal.process.wait(PATIENCE) == 0
    finally:
        terminal.close()
