"""Our neuron as the worker of a scenario, in the test's own process and over real HTTP."""

from __future__ import annotations

from collections.abc import Callable

import anyio

from benchmarks.faults.work_neuron_anyio import NEURON_ID, Tokens, capabilities, timing
from neuron_anyio import NeuronError, open_neuron
from neuron_anyio.testing.scenarios import Scenario
from neuron_anyio.testing.worklog import WorkLog

__all__ = ["work_in_process"]


async def work_in_process(
    scenario: Scenario, url: str, write: Callable[[str], object], stop: anyio.Event
) -> str | None:
    offered = capabilities(WorkLog(write), concurrency=scenario.concurrency)
    error: str | None = None
    entered = False
    async with anyio.create_task_group() as group:

        async def give_up() -> None:
            await stop.wait()
            if not entered:
                group.cancel_scope.cancel()

        group.start_soon(give_up)
        try:
            async with open_neuron(
                url, neuron_id=NEURON_ID, capabilities=offered, auth=Tokens(), timing=timing(scenario)
            ):
                entered = True
                await stop.wait()
        except NeuronError as exc:
            error = type(exc).__name__
        group.cancel_scope.cancel()
    return error
