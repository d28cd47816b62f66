"""The same scenarios with the neuron in a process of its own, as another SDK would be played."""

from __future__ import annotations

import sys

import anyio
import msgspec
import pytest

from benchmarks.faults.process import worker_script
from neuron_anyio.testing.scenario_play import play
from neuron_anyio.testing.scenarios import SCENARIOS

pytestmark = [pytest.mark.anyio, pytest.mark.thorough]

START = 5.0
"""Seconds that a process may take to start on a machine with other things to do."""


@pytest.mark.parametrize("fault", ["answer.ack.503-burst", "answer.stream.403"])
async def test_a_process_is_judged_by_its_work_log_and_its_exit_status(fault: str, anyio_backend_name: str) -> None:
    scenario = SCENARIOS[fault]
    worker = worker_script([sys.executable, "-m", "benchmarks.faults.work_neuron_anyio"], anyio_backend_name)
    with anyio.fail_after(25):
        outcome = await play(msgspec.structs.replace(scenario, bound=scenario.bound + START), worker)
    assert outcome.complaints == ()
    assert outcome.verdict.starts == 1


async def test_a_process_that_does_nothing_loses_the_task() -> None:
    scenario = msgspec.structs.replace(SCENARIOS["answer.stream.500"], bound=0.3, drain=0.1)
    worker = worker_script([sys.executable, "-c", "import time; time.sleep(60)"])
    with anyio.fail_after(10):
        outcome = await play(scenario, worker)
    assert outcome.verdict.lost == 1
    assert "the fault never struck" in outcome.complaints
    assert outcome.error == "exit -15"
