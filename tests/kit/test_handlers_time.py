"""Handlers in virtual time: what takes hours in production takes none here."""

from __future__ import annotations

from typing import Any

import anyio
import pytest
from trio.testing import MockClock

from neuron_anyio import LeaseContext, capability, events
from neuron_anyio.testing import run_handler, start_handler

pytestmark = [pytest.mark.anyio, pytest.mark.virtual_time]

HOUR = 3600.0


@pytest.fixture
def anyio_backend() -> Any:
    return "trio", {"clock": MockClock(autojump_threshold=0)}


@capability("test/sleeps")
async def sleeps(value: float, ctx: LeaseContext) -> bool:
    ctx.progress(percent=0)
    await anyio.sleep(value)
    ctx.progress(percent=100)
    return ctx.cancelled


async def test_H1_a_handler_of_ten_hours_keeps_its_lease() -> None:
    result = await run_handler(sleeps, 10 * HOUR, lease_ttl=30.0)
    assert result.output is False
    assert result.seconds == pytest.approx(10 * HOUR)
    assert [update.percent for update in result.progress] == [0.0, 100.0]


async def test_L11_7_a_time_out_of_an_hour_takes_none() -> None:
    result = await run_handler(sleeps.with_options(timeout=HOUR), 2 * HOUR)
    assert result.code == "HANDLER_TIMEOUT"
    assert result.seconds == pytest.approx(HOUR)


async def test_L7_a_lease_is_lost_at_the_very_moment() -> None:
    async with start_handler(sleeps, HOUR) as run:
        await run.wait_progress()
        begun = anyio.current_time()
        run.lose_lease()
        result = await run.result()
        assert anyio.current_time() - begun < 0.01
    assert result.code == "LEASE_EXPIRED"
    assert [event for event in result.events if isinstance(event, events.LeaseLost)]


async def test_D2_a_handler_that_does_not_end_is_left_behind_after_a_second() -> None:
    @capability("test/stubborn")
    async def stubborn(_: Any) -> None:
        with anyio.CancelScope(shield=True):
            await anyio.sleep(60.0)

    begun = anyio.current_time()
    async with start_handler(stubborn, None) as run:
        await run.wait_started()
        run.shut_down()
        await anyio.sleep(0.9)
        within = run.outcome
        await anyio.sleep(0.2)
        assert (within is None, run.outcome is None) == (True, False)
        result = await run.result()
    assert anyio.current_time() - begun == pytest.approx(60.0, abs=0.1), "its neuron can end only with it"
    assert result.code == "NEURON_SHUTDOWN"
    assert [event for event in result.events if isinstance(event, events.HandlerBlocked)]
