"""Backends of the suite, on each of which every async test runs; and what no test may leave behind."""

from __future__ import annotations

import asyncio.constants
import atexit
import functools
import gc
import inspect
import os
import shutil
import signal
import socket
import tempfile
import time
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from hypothesis import HealthCheck, settings

from tests.authority import trust_no_other
from tests.leaks import handler_threads, open_files
from tests.planted import watched_lines

# No test is timed, and a machine that is busy with other things draws examples slowly.
settings.register_profile("suite", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("suite")

# Where a shell has started the suite in the background, SIGINT is ignored, and every child would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Neurons of other suites and programs on this machine are none of this process's; short, for sockets' names are short.
RUNTIME = tempfile.mkdtemp(prefix="na-")
os.environ["XDG_RUNTIME_DIR"] = RUNTIME
atexit.register(shutil.rmtree, RUNTIME, ignore_errors=True)

# asyncio's debug mode notes for every task and callback who made it: of the ten frames, one is enough to find it.
setattr(asyncio.constants, "DEBUG_STACK_DEPTH", 1)  # noqa: B010 - it is declared final

if os.environ.get("E2E_NETWORK") != "1":
    trust_no_other(Path(RUNTIME))

TESTS = Path(__file__).resolve().parent

BACKENDS = [
    pytest.param(("asyncio", {"debug": True, "use_uvloop": False}), id="asyncio"),
    pytest.param(("asyncio", {"use_uvloop": True}), id="uvloop", marks=pytest.mark.thorough),
    pytest.param(("trio", {}), id="trio"),
]

ON_ONE_INTERPRETER = (
    "auth/",
    "contract/test_check_",
    "contract/test_faults_found_gateway",
    "contract/test_strategies",
    "docs/",
    "e2e/test_benchmark",
    "e2e/test_cli_burst",
    "e2e/test_cli_completion",
    "e2e/test_cli_config",
    "e2e/test_cli_numbers",
    "e2e/test_cli_processes",
    "e2e/test_cli_reload",
    "e2e/test_cli_top",
    "e2e/test_cli_usage",
    "e2e/test_examples_desktop_host",
    "e2e/test_examples_neurons",
    "e2e/test_examples_tour",
    "faults/",
    "kit/test_pytest_plugin",
    "operation/test_log_names",
    "operation/test_secrets",
    "operation/test_telemetry_absent",
    "pure/test_benchmark",
    "pure/test_laws",
    "pure/test_leaks",
    "pure/test_planted",
    "pure/test_schemas_",
)
"""Tests of what is the same on every interpreter: pages, usage, token servers, contracts, hostile schemas, source."""

PATIENCE = 1.0
"""Seconds in which what ends by itself may end: a thread that was told to, a file that a cycle of objects holds."""

IDLE_BY_DESIGN = ("process pool shutdown task", "_shutdown_process_pool")
"""Tasks of anyio's that live as long as the event loop."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what runs on one interpreter, before those that are marked are left out."""
    for item in items:
        if item.path.relative_to(TESTS).as_posix().startswith(ON_ONE_INTERPRETER):
            item.add_marker(pytest.mark.thorough)


@pytest.fixture(params=BACKENDS)
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture
def free_tcp_port() -> Iterator[int]:
    """A port on which nobody listens, held so that no other process gets it; who has `reuse_port` may listen there."""
    with socket.socket() as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        holder.bind(("127.0.0.1", 0))
        yield holder.getsockname()[1]


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    """Fail a test after which there are more sockets or files open, or handlers that still run in threads."""
    before = open_files()
    yield
    until = time.monotonic() + PATIENCE
    while (left := [*(open_files() - before), *handler_threads()]) and time.monotonic() < until:
        gc.collect()
        time.sleep(0.01)
    assert not left, "the test left these behind"


@pytest.fixture(autouse=True)
def no_secret_logged() -> Iterator[None]:
    """Fail a test in which the package has logged a secret that a test has planted (promise C9)."""
    with watched_lines() as found:
        yield
    assert not found, "these secrets were logged"


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, object, object]:
    """Fail an async test after which there are more tasks."""
    test = pyfuncitem.obj
    if inspect.iscoroutinefunction(test):

        @functools.wraps(test)
        async def watched(**arguments: Any) -> None:
            for _ in range(20):  # what fixtures have started may have tasks of its own to start
                await anyio.lowlevel.checkpoint()
            before = {task.id for task in anyio.get_running_tasks()}
            await test(**arguments)
            for _ in range(1_000):
                more = [str(task.name) for task in anyio.get_running_tasks() if task.id not in before]
                left = [name for name in more if not name.endswith(IDLE_BY_DESIGN)]
                if not left:
                    return
                await anyio.sleep(0.001)
            raise AssertionError(f"the test left these tasks behind: {left}")

        pyfuncitem.obj = watched
    return (yield)
