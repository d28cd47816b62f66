"""Every fault, met by this package's neuron over real HTTP: nothing lost, nothing done twice, nothing left."""

from __future__ import annotations

import gc
import os
import stat
import threading
from contextlib import suppress
from pathlib import Path

import anyio
import pytest

from neuron_anyio.testing.faults import FAULTS
from neuron_anyio.testing.scenario_play import play
from neuron_anyio.testing.scenarios import SCENARIOS
from tests.faults.neuron import work_in_process

pytestmark = [pytest.mark.anyio, pytest.mark.thorough]


def threads() -> set[threading.Thread]:
    """Return the threads that somebody has started; the test runner's own show up as dummies, and when they like."""
    return {thread for thread in threading.enumerate() if not isinstance(thread, threading._DummyThread)}


def sockets() -> int:
    """Count open sockets. Other handles are left out: uvloop opens one of its own when it first polls a socket."""
    found = 0
    for path in Path("/dev/fd").iterdir():
        with suppress(OSError):  # the one of this very look
            found += stat.S_ISSOCK(os.fstat(int(path.name)).st_mode)
    return found


@pytest.mark.parametrize("fault", FAULTS)
async def test_nothing_is_lost_and_nothing_runs_twice(fault: str) -> None:
    await anyio.sleep(0.001)  # anyio's plugin lets trio wait in a thread, from the first wait on
    tasks, threads_before, open_before = len(anyio.get_running_tasks()), threads(), sockets()
    with anyio.fail_after(25):
        outcome = await play(SCENARIOS[fault], work_in_process)
    assert outcome.complaints == ()
    gc.collect(0)
    with anyio.move_on_after(1):
        while sockets() > open_before:  # noqa: ASYNC110 - uvloop closes some turns later, and tells nobody
            await anyio.sleep(0.001)
    assert len(anyio.get_running_tasks()) == tasks
    assert threads() <= threads_before  # trio's own end when they have been idle for a while
    assert sockets() == open_before
