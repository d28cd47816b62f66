"""This package as a worker: `python -m benchmarks.faults.work_neuron_anyio SCENARIO URL LOG [BACKEND]`."""

from __future__ import annotations

import itertools
import logging
import sys
from typing import Any

import anyio
import msgspec

from neuron_anyio import Backoff, Capability, LeaseContext, Timing, capability, on_behalf_of, serve
from neuron_anyio.testing.fault_leases import USER
from neuron_anyio.testing.scenarios import PERSONAL, WORK, Scenario
from neuron_anyio.testing.worklog import WorkLog, append_to

__all__ = ["NEURON_ID", "Tokens", "capabilities", "timing"]

NEURON_ID = "neuron-1"


class Tokens:
    """A source that makes a new token whenever one was refused."""

    def __init__(self) -> None:
        self._numbers = itertools.count(2)
        self._token = "token-1"

    async def token(self, *, refused: str | None) -> str:
        """Return a token."""
        if refused == self._token:
            self._token = f"token-{next(self._numbers)}"
        return self._token


def timing(scenario: Scenario) -> Timing:
    """Return the neuron's times."""
    initial, maximum = scenario.backoff
    return Timing(
        heartbeat=scenario.heartbeat,
        request=scenario.request,
        drain=scenario.drain,
        stream_idle=scenario.stream_idle,
        reconnect=Backoff(initial=initial, maximum=maximum),
    )


def capabilities(log: WorkLog, *, concurrency: int) -> list[Capability[..., Any]]:
    """Make the handlers that every scenario's tasks are for."""

    async def work(value: dict[str, Any], ctx: LeaseContext) -> Any:
        run = log.started(ctx.task.task_id)
        try:
            if value["progress"]:
                ctx.progress(percent=1)
            await anyio.sleep(value["seconds"])
            if ctx.attempt < value["fails"]:
                raise RuntimeError("as the task wishes")
            return value["text"]
        finally:
            log.ended(ctx.task.task_id, run)

    return [
        capability(WORK, concurrency=concurrency)(work),
        capability(PERSONAL, scope=on_behalf_of(USER), concurrency=concurrency)(work),
    ]


async def _main(scenario: Scenario, url: str, log: WorkLog) -> int:
    offered = capabilities(log, concurrency=scenario.concurrency)
    return await serve(url, neuron_id=NEURON_ID, auth=Tokens(), capabilities=offered, timing=timing(scenario))


if __name__ == "__main__":
    logging.disable()
    status = anyio.run(
        _main,
        msgspec.json.decode(sys.argv[1], type=Scenario),
        sys.argv[2],
        WorkLog(append_to(sys.argv[3])),
        backend=sys.argv[4] if len(sys.argv) > 4 else "asyncio",
    )
    raise SystemExit(status)
