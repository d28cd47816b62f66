"""`neuron-anyio run` as a real process: signals, exit codes, and where its settings come from (promises D1, D3, D4)."""

from __future__ import annotations

import re
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.cli_child import PATIENCE, WORKER, Child, ask, gateway, running

BACKENDS = pytest.mark.parametrize("backend", ["asyncio", "trio"])
FORCED = [(signal.SIGINT, 130), (signal.SIGTERM, 143)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("run")
    (path / "worker.py").write_text(WORKER)
    package = path / "company" / "neurons"
    package.mkdir(parents=True)
    (package.parent / "__init__.py").touch()
    (package / "__init__.py").touch()
    (package / "names.py").write_text("TYPE = 'company/echo'\n")
    (package / "echo.py").write_text(
        "from neuron_anyio import capability\nfrom .names import TYPE\n\n\n"
        "@capability(TYPE)\nasync def echo(value):\n    return value\n"
    )
    return path


@pytest.fixture(scope="module")
def url(folder: Path) -> Iterator[str]:
    with gateway(folder) as served:
        yield served


def submit(url: str, kind: str, value: object = None) -> str:
    task_id: str = ask(url, "/tasks", {"capability": kind, "input": value})["taskId"]
    return task_id


def settled(url: str, task_id: str) -> Any:
    """Wait for a task's end on its event stream; return its last status."""
    deadline = time.monotonic() + PATIENCE
    while (status := ask(url, f"/tasks/{task_id}"))["state"] in ("pending", "leased"):
        assert time.monotonic() < deadline, status
        time.sleep(0.02)  # the state of another process: nothing here tells of it
    return status


def registered(child: Child) -> None:
    child.wait_for("registered with")


@BACKENDS
def test_D1_the_first_signal_gives_back_what_waits_and_finishes_what_runs(backend: str, folder: Path, url: str) -> None:
    with running(
        "run", "worker:gated", "--max-concurrency", "1", "--backend", backend, "--gateway-url", url, cwd=folder
    ) as child:
        registered(child)
        tasks = [submit(url, "examples/gated") for _ in range(2)]
        child.wait_for("STARTED", stream="stdout")
        ask_until_leased(url, tasks)
        child.send(signal.SIGTERM)
        child.wait_for(r"draining: 1 running, 1 given back; signal again to cancel")
        child.release()
        assert child.end() == 0
        child.wait_for("stopped after")
    states = sorted(ask(url, f"/tasks/{task}")["state"] for task in tasks)
    assert states == ["pending", "succeeded"]
    assert sum(ask(url, f"/tasks/{task}").get("attempts", 0) for task in tasks) == 1
    for task in tasks:
        if ask(url, f"/tasks/{task}")["state"] == "pending":
            ask(url, f"/tasks/{task}/cancel", {})


def ask_until_leased(url: str, tasks: list[str]) -> None:
    """Wait until the gateway has sent all of these tasks out."""
    deadline = time.monotonic() + PATIENCE
    while any(ask(url, f"/tasks/{task}")["state"] != "leased" for task in tasks):
        assert time.monotonic() < deadline
        time.sleep(0.02)  # as above


@BACKENDS
@pytest.mark.parametrize(("number", "code"), FORCED, ids=["SIGINT", "SIGTERM"])
def test_D4_the_second_signal_cancels_what_runs_and_the_exit_code_names_it(
    number: signal.Signals, code: int, backend: str, folder: Path, url: str
) -> None:
    with running("run", "worker:gated", "--backend", backend, "--gateway-url", url, cwd=folder) as child:
        registered(child)
        task = submit(url, "examples/gated")
        child.wait_for("STARTED", stream="stdout")
        child.send(signal.SIGTERM)
        child.wait_for("draining: 1 running")
        child.send(number)
        child.wait_for("CANCELLED shutdown", stream="stdout")
        assert child.end() == code
    status = ask(url, f"/tasks/{task}")
    assert status["state"] == "pending"
    assert status.get("giveBacks") == 1
    ask(url, f"/tasks/{task}/cancel", {})


@BACKENDS
def test_D4_the_third_signal_ends_at_once(backend: str, folder: Path, url: str) -> None:
    # A name of its own: its lease is left behind and keeps the slot of that name until it expires.
    arguments = [
        "run",
        "worker:stubborn",
        "--neuron-id",
        f"third-{backend}",
        "--backend",
        backend,
        "--gateway-url",
        url,
    ]
    with running(*arguments, cwd=folder) as child:
        registered(child)
        task = submit(url, "examples/stubborn")
        child.wait_for("STARTED", stream="stdout")
        child.send(signal.SIGTERM)
        child.wait_for("draining: 1 running")
        child.send(signal.SIGTERM)
        child.wait_for("STUBBORN", stream="stdout")
        child.send(signal.SIGINT)
        assert child.end() == 130
        assert not [line for line in child.lines["stderr"] if "stopped after" in line]
    ask(url, f"/tasks/{task}/cancel", {})


@BACKENDS
@pytest.mark.parametrize("handler", ["deaf", "stubborn"], ids=["thread", "coroutine"])
def test_D2_a_handler_that_does_not_stop_costs_no_more_than_the_drain(
    handler: str, backend: str, folder: Path, url: str
) -> None:
    arguments = ["run", f"worker:{handler}", "--drain", "0.5", "--backend", backend, "--gateway-url", url]
    with running(*arguments, "--neuron-id", f"{handler}-{backend}", cwd=folder) as child:
        registered(child)
        task = submit(url, f"examples/{handler}")
        child.wait_for("STARTED", stream="stdout")
        child.send(signal.SIGTERM)
        child.wait_for("STUBBORN", stream="stdout")
        child.wait_for(rf"the handler of lease \S+ \(examples/{handler}\) does not end")
        ask(url, f"/tasks/{task}/cancel", {})
        assert child.end(5) == 0


@BACKENDS
def test_C1_a_gateway_that_is_not_up_is_waited_for_and_a_warning_names_it(backend: str, folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    origin = f"http://127.0.0.1:{port}"
    with running("run", "worker", "--backend", backend, "--gateway-url", origin, cwd=folder) as child:
        child.wait_for(rf"WARNING no stream from {origin} \(attempt 1\): .*cannot connect")
        with running("gateway", "--port", port, "--backend", backend, cwd=folder):
            registered(child)
            child.send(signal.SIGTERM)
            assert child.end() == 0


@BACKENDS
def test_D4_a_signal_ends_a_neuron_that_still_waits_for_its_gateway(backend: str, folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        origin = f"http://127.0.0.1:{free.getsockname()[1]}"
    with running("run", "worker", "--backend", backend, "--gateway-url", origin, cwd=folder) as child:
        child.wait_for("no stream from")
        child.send(signal.SIGTERM)
        assert child.end() == 0


@pytest.mark.parametrize(
    ("options", "env", "neuron_id"),
    [
        (["--neuron-id", "by-flag"], {"BIGBRAIN_NEURON_ID": "by-environment"}, "by-flag"),
        ([], {"BIGBRAIN_NEURON_ID": "by-environment"}, "by-environment"),
        ([], {"BIGBRAIN_NEURON_ID": ""}, f"{socket.gethostname()}-worker-pair"),
    ],
    ids=["flag", "environment", "default"],
)
def test_flags_go_before_the_environment_and_that_before_defaults(
    options: list[str], env: dict[str, str], neuron_id: str, folder: Path, url: str
) -> None:
    options = [*options, "--gateway-url", url] if options else options
    env = env | {"BIGBRAIN_GATEWAY_URL": "http://127.0.0.1:9" if options else url}  # nobody is at the former
    wishes = ["--concurrency", "3", "--concurrency", "examples/thread=5"]
    with running("run", "worker:pair", *options, *wishes, cwd=folder, env=env) as child:
        registered(child)
        (found,) = [each for each in ask(url, "/neurons")["neurons"] if each["neuronId"] == neuron_id]
        granted = {each["type"]: each["concurrency"] for each in found["capabilities"]}
        assert granted == {"examples/text.upper": 3, "examples/thread": 5}
        child.send(signal.SIGINT)
        assert child.end() == 0


def test_a_file_inside_a_package_is_imported_as_part_of_it(folder: Path, url: str, tmp_path: Path) -> None:
    file = folder / "company" / "neurons" / "echo.py"
    with running("run", f"{file}:echo", "--gateway-url", url, cwd=tmp_path) as child:
        registered(child)
        assert settled(url, submit(url, "company/echo", {"a": 1}))["output"] == {"a": 1}
        (mine,) = [each["neuronId"] for each in ask(url, "/neurons")["neurons"] if each["connected"]]
        assert mine == f"{socket.gethostname()}-company.neurons.echo-echo"
        child.send(signal.SIGTERM)
        assert child.end() == 0


def test_C4_a_rotated_token_file_is_used_without_a_restart(folder: Path, tmp_path: Path) -> None:
    token_file = tmp_path / "token"
    token_file.write_text("first\n")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    served = ("gateway", "--port", port, "--token-file", str(token_file))
    origin = f"http://127.0.0.1:{port}"
    with running(
        "run", "worker", "--gateway-url", origin, cwd=folder, env={"BIGBRAIN_TOKEN_FILE": str(token_file)}
    ) as child:
        with running(*served, cwd=folder) as first:
            registered(child)
            first.process.kill()
        token_file.write_text("second\n")
        with running(*served, cwd=folder):
            child.wait_for("registered with", count=2)
            assert ask(origin, "/neurons", token="second")["neurons"][0]["registered"]
            child.send(signal.SIGTERM)
            assert child.end() == 0
    assert not [line for line in child.lines["stderr"] if re.search("first|second", line)]


def test_logs_are_plain_lines_with_time_level_and_message(folder: Path, url: str) -> None:
    with running("run", "worker", "--gateway-url", url, cwd=folder) as child:
        registered(child)
        child.send(signal.SIGTERM)
        assert child.end() == 0
    line = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z (INFO|WARNING) \S.*"
    assert all(re.fullmatch(line, each) for each in child.lines["stderr"])
    assert child.lines["stdout"] == []
