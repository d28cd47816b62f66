"""What a scenario complains of, with neurons that do their work badly."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import anyio
import msgspec
import pytest

from neuron_anyio.testing.scenario_play import Worker, play
from neuron_anyio.testing.scenarios import SCENARIOS, TEXT, WORK, Scenario
from neuron_anyio.testing.worklog import WorkLog
from tests.faults.client import Client

pytestmark = [pytest.mark.anyio, pytest.mark.thorough]


def bad_worker(output: Any, *, runs: int = 1, acks: int = 1) -> Worker:
    """Make a neuron that has one stream and no patience."""

    async def work(scenario: Scenario, url: str, write: Callable[[str], object], stop: anyio.Event) -> str | None:
        client, log = Client(url), WorkLog(write)
        offer = {"type": WORK, "scope": "any", "concurrency": 1}
        async with client.events(capabilities=[offer]) as events:
            lease = (await events.frame("lease"))["lease"]
            for _ in range(runs):
                log.ended(lease["task"]["taskId"], log.started(lease["task"]["taskId"]))
            for _ in range(acks):
                await client.post("ack", leaseId=lease["leaseId"], output=output)
        await stop.wait()
        return None

    return work


@pytest.mark.parametrize(
    ("worker", "complaint"),
    [
        (bad_worker("something else"), "1 wrong"),
        (bad_worker(TEXT, runs=2), "1 double"),
        (bad_worker(TEXT, acks=3), "2 answered_twice"),
        (bad_worker(TEXT, runs=0, acks=0), "task-1 is pending, not succeeded"),
    ],
)
async def test_bad_work_is_complained_of(worker: Worker, complaint: str) -> None:
    scenario = msgspec.structs.replace(SCENARIOS["stream.comments"], bound=0.3)
    with anyio.fail_after(10):
        assert complaint in (await play(scenario, worker)).complaints


async def test_good_work_is_not() -> None:
    with anyio.fail_after(10):
        assert (await play(SCENARIOS["stream.comments"], bad_worker(TEXT))).complaints == ()


async def test_a_lease_on_behalf_of_somebody_else_must_not_be_answered() -> None:
    scenario = msgspec.structs.replace(
        SCENARIOS["lease.another-user"], tasks=SCENARIOS["stream.comments"].tasks, bound=0.3
    )
    with anyio.fail_after(10):
        assert "1 wrong" in (await play(scenario, bad_worker(TEXT))).complaints


async def test_an_unexpected_end_is_complained_of() -> None:
    async def give_up(scenario: Scenario, url: str, write: Callable[[str], object], stop: anyio.Event) -> str | None:
        return "OutOfPatience"

    with anyio.fail_after(10):
        outcome = await play(SCENARIOS["stream.comments"], give_up)
    assert "the neuron ends with OutOfPatience, not None" in outcome.complaints
    assert "1 lost" in outcome.complaints
    assert "the fault never struck" in outcome.complaints
    assert json.loads(msgspec.json.encode(outcome))["verdict"]["lost"] == 1
