"""A worker script as the worker of a scenario: any SDK, any interpreter.

The script is called with the scenario as JSON, the gateway's URL and the path of its work log. It writes a line for
each start and end of a handler (`neuron_anyio.testing.worklog` says how), drains at SIGTERM, and exits with 0,
with 1 where the neuron has given up, with 3 where it had to leave results undelivered.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import anyio
import msgspec
from anyio.abc import Process

from neuron_anyio.testing.scenario_play import Worker
from neuron_anyio.testing.scenarios import Scenario

__all__ = ["worker_script"]

OK, GIVEN_UP, UNDELIVERED = 0, 1, 3
"""Exit statuses. What became of results that were not delivered is the oracle's to say."""

GRACE = 3.0
"""Seconds beyond its drain that a process may take to end; then it is killed."""


def worker_script(command: Sequence[str], *more: str) -> Worker:
    """Make a worker of a command; `more` are arguments that come last."""

    async def work(scenario: Scenario, url: str, write: Callable[[str], object], stop: anyio.Event) -> str | None:
        with tempfile.TemporaryDirectory() as folder:
            log = Path(folder, "work.log")
            arguments = [*command, msgspec.json.encode(scenario).decode(), url, str(log), *more]
            # A proxy of the environment has no business between two processes of one machine.
            environment = {**os.environ, "NO_PROXY": "127.0.0.1,localhost"}
            async with await anyio.open_process(
                arguments,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env=environment,
            ) as process:
                status = await _attend(process, stop, patience=scenario.drain + GRACE)
            for line in _lines(log):
                write(line)
        if status in (OK, UNDELIVERED):
            return None
        # A status has no name: it stands for the error that is expected, where one is.
        return scenario.error if status == GIVEN_UP and scenario.error else f"exit {status}"

    return work


async def _attend(process: Process, stop: anyio.Event, *, patience: float) -> int:
    """Let a process run until it ends or is asked to; return its exit status."""
    async with anyio.create_task_group() as group:

        async def ask_to_stop() -> None:
            await stop.wait()
            with suppress(ProcessLookupError):
                process.terminate()
                await anyio.sleep(patience)
                process.kill()

        group.start_soon(ask_to_stop)
        await process.wait()
        group.cancel_scope.cancel()
    assert process.returncode is not None
    return process.returncode


def _lines(log: Path) -> list[str]:
    return log.read_text(encoding="utf-8").splitlines() if log.exists() else []
