"""Every fault, met by this package's neuron over real HTTP: nothing lost, nothing done twice, nothing left."""

from __future__ import annotations

import anyio
import pytest

from neuron_anyio.testing.faults import FAULTS
from neuron_anyio.testing.scenario_play import play
from neuron_anyio.testing.scenarios import SCENARIOS
from tests.faults.neuron import work_in_process

pytestmark = [pytest.mark.anyio, pytest.mark.thorough]


@pytest.mark.parametrize("fault", FAULTS)
async def test_nothing_is_lost_and_nothing_runs_twice(fault: str) -> None:
    with anyio.fail_after(25):
        outcome = await play(SCENARIOS[fault], work_in_process)
    assert outcome.complaints == ()
