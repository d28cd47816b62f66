"""Drains that last, in virtual time: the budget, the order of last words, give-backs at a walking pace (D1 to D3)."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from typing import Any

import anyio
import pytest
from trio.testing import MockClock

from neuron_anyio import Backoff, LeaseContext, Neuron, Timing, TransportError, capability, open_neuron
from neuron_anyio.abc import Reply
from neuron_anyio.testing.scripted_gateway import ScriptedGateway
from tests.runtime.handlers import settle

pytestmark = [pytest.mark.anyio, pytest.mark.virtual_time]

A_LITTLE = 0.2
"""Seconds over a budget that nobody minds: some round trips."""


@pytest.fixture
def anyio_backend() -> Any:
    return "trio", {"clock": MockClock(autojump_threshold=0)}


class Slow(ScriptedGateway):
    """A gateway that takes its time to answer; what was cut off meanwhile has not been said.

    Attributes:
        seconds: how long an answer takes.
        times: when each frame of `posts` was answered.
    """

    def __init__(self, seconds: float = 0.0) -> None:
        super().__init__()
        self.seconds = seconds
        self.times: list[float] = []

    async def take(self, kind: str, body: bytes) -> Reply:
        await anyio.sleep(self.seconds)
        self.times.append(anyio.current_time())
        return await super().take(kind, body)

    def at(self, *types: str) -> list[float]:
        return [time for time, post in zip(self.times, self.posts, strict=True) if post["type"] in types]


class Expiring(Slow):
    """A gateway that takes a lease back when nothing has named it for its whole time; every third heartbeat is lost."""

    def __init__(self, ttl: float) -> None:
        super().__init__()
        self.ttl = ttl
        self.beats = 0
        self.renewed: dict[str, float] = {}
        self.ran_out: list[str] = []

    def give(self, lease_id: str, **more: Any) -> None:
        self.lease(lease_id, ttl=self.ttl, **more)
        self.renewed[lease_id] = anyio.current_time()

    async def take(self, kind: str, body: bytes) -> Reply:
        frame = json.loads(body)
        if kind == "heartbeat":
            self.beats += 1
            if self.beats % 3 == 0:
                raise TransportError("lost")
        now = anyio.current_time()
        named = [entry["leaseId"] for entry in frame.get("inFlight", ())]
        for lease_id in [*named, frame.get("leaseId")]:
            if now - self.renewed.get(lease_id, now) > self.ttl:
                self.ran_out.append(lease_id)
        self.renewed.update(dict.fromkeys(named, now))
        return await super().take(kind, body)


def neuron(gateway: ScriptedGateway, *capabilities: Any, drain: float = 30.0, **timing: Any) -> Any:
    return open_neuron(
        gateway.transport, neuron_id="neuron-1", capabilities=capabilities, timing=Timing(drain=drain, **timing)
    )


def working(seconds: float, **options: Any) -> Any:
    """Return a capability whose runs take so long, and end at once when they are cancelled."""

    @capability("test/work", **{"concurrency": 4, **options})
    async def work(_: Any) -> str:
        await anyio.sleep(seconds)
        return "done"

    return work


def stubborn(seconds: float) -> Any:
    @capability("test/stubborn", concurrency=4)
    async def hold(_: Any) -> None:
        until = anyio.current_time() + seconds
        while anyio.current_time() < until:
            try:
                await anyio.sleep(0.1)
            except anyio.get_cancelled_exc_class():
                with anyio.CancelScope(shield=True):  # virtual time stands still while anything is busy
                    await anyio.sleep(0.1)

    return hold


# Lease times


async def test_D1_a_drain_of_five_lease_times_loses_no_lease_though_every_third_heartbeat_is_lost() -> None:
    gateway = Expiring(30.0)
    async with neuron(gateway, working(150.0), drain=250.0):
        for number in range(4):
            gateway.give(f"l{number}", capability="test/work")
        await settle()
        left = anyio.current_time()
    assert anyio.current_time() - left == pytest.approx(150.0, abs=A_LITTLE)
    assert sorted(ack["leaseId"] for ack in gateway.posted("ack")) == ["l0", "l1", "l2", "l3"]
    assert gateway.posted("nack") == []
    assert gateway.ran_out == []
    assert gateway.beats >= 15


async def test_D1_heartbeats_go_on_while_a_result_waits_for_its_gateway_in_the_drain() -> None:
    gateway = Expiring(30.0)
    gateway.always_answer("ack", 503)

    async def mend() -> None:
        await anyio.sleep(100.0)
        gateway.always_answer("ack", 200)

    backoff = Backoff(initial=1.0, maximum=10.0)
    async with (
        anyio.create_task_group() as group,
        neuron(gateway, working(1.0), drain=150.0, reconnect=backoff) as running,
    ):
        gateway.give("l0", capability="test/work")
        await settle()
        group.start_soon(mend)
    assert running.snapshot().undelivered == 0
    assert gateway.ran_out == []
    assert gateway.beats >= 9


# The budget


@pytest.mark.parametrize("drain", [0.0, 0.5, 5.0, 25.0, 100.0])
async def test_D1_D2_the_exit_is_within_the_budget_whatever_runs(drain: float) -> None:
    gateway = Slow()
    async with neuron(gateway, working(1e6), stubborn(1e6), drain=drain):
        for number in range(4):
            gateway.lease(f"w{number}", capability="test/work")
            gateway.lease(f"s{number}", capability="test/stubborn")
        await settle()
        left = anyio.current_time()
    assert anyio.current_time() - left <= drain + A_LITTLE
    if drain:
        assert Counter(nack["code"] for nack in gateway.posted("nack")) == {"NEURON_SHUTDOWN": 8}
        assert min(gateway.at("nack")) >= left + drain - min(5.0, drain / 5)


async def test_D1_a_gateway_that_takes_nothing_costs_the_budget_and_the_log_counts_what_is_lost(
    caplog: pytest.LogCaptureFixture,
) -> None:
    gateway = Slow()
    gateway.always_answer("ack", 503)
    async with neuron(gateway, working(1.0), drain=30.0) as running:
        for number in range(3):
            gateway.lease(f"l{number}", capability="test/work")
        await settle()
        left = anyio.current_time()
    assert 25.0 <= anyio.current_time() - left <= 30.0 + A_LITTLE
    assert running.snapshot().undelivered == 3
    assert "3 results were not delivered" in caplog.text


# Give-backs


async def test_D1_L2_an_eager_gateway_meets_a_walking_pace_to_the_end_of_the_drain(
    caplog: pytest.LogCaptureFixture,
) -> None:
    gateway = Slow()
    numbers = itertools.count()

    def redeliver(path: str, frame: dict[str, Any]) -> None:
        if path == "nack" and gateway.transport.neuron_id is not None:
            number = next(numbers)
            gateway.lease(f"again-{number}", capability="test/work", task_id=f"task-{number % 20}")

    gateway.on_post = redeliver
    async with neuron(gateway, working(1e6), drain=30.0):
        for number in range(24):
            gateway.lease(f"l{number}", capability="test/work")
        await settle()
        left = anyio.current_time()
    assert anyio.current_time() - left <= 30.0 + A_LITTLE
    given_back = [time - left for time in gateway.at("nack")]
    waves = Counter(round(time, 3) for time in given_back if time < 25.0)
    # One wave at once, one at each end of a pause: 0.1 s doubling to 5 s are ten pauses in 25 s.
    assert 5 <= len(waves) <= 12
    assert max(waves.values()) <= 20
    pauses = [round(later - earlier, 1) for earlier, later in itertools.pairwise(sorted(waves))]
    assert pauses == sorted(pauses)
    assert (pauses[0], pauses[-1]) == (0.1, 5.0)
    given = 24 + next(numbers)
    assert given <= 20 * 14
    assert given - len(gateway.posted("nack")) <= 24, "but for what came while the stream was being left"
    assert "not delivered" not in caplog.text


# Ten thousand wait


async def test_D1_results_go_before_ten_thousand_give_backs_to_a_slow_gateway(
    caplog: pytest.LogCaptureFixture,
) -> None:
    gateway = Slow(0.05)
    async with neuron(gateway, working(3.0), drain=10.0):
        for number in range(10_004):
            gateway.lease(f"l{number}", capability="test/work")
        await anyio.sleep(1.0)
        left = anyio.current_time()
    assert anyio.current_time() - left <= 10.0 + A_LITTLE
    assert {ack["leaseId"] for ack in gateway.posted("ack")} == {"l0", "l1", "l2", "l3"}
    assert max(gateway.at("ack")) <= left + 2.5
    nacks = gateway.posted("nack")
    assert {nack["code"] for nack in nacks} == {"NEURON_DRAINING"}
    assert len(nacks) > 1000
    assert f"{10_000 - len(nacks)} results were not delivered" in caplog.text


@pytest.mark.parametrize("draining", [False, True], ids=["at once", "in the drain"])
async def test_D3_running_leases_have_the_first_of_the_last_words(
    draining: bool, caplog: pytest.LogCaptureFixture
) -> None:
    gateway = Slow(0.05)
    with anyio.CancelScope() as scope:
        async with anyio.create_task_group() as group, neuron(gateway, working(1e6), drain=100.0):
            for number in range(10_004):
                gateway.lease(f"l{number}", capability="test/work")
            await anyio.sleep(1.0)
            before = anyio.current_time() + (0.5 if draining else 0.0)

            async def cancel() -> None:
                await anyio.sleep(before - anyio.current_time())
                scope.cancel()

            if draining:
                group.start_soon(cancel)
            else:
                scope.cancel()
    assert anyio.current_time() - before <= 2.0 + A_LITTLE
    last_words = {
        post["leaseId"]: time for time, post in zip(gateway.times, gateway.posts, strict=True) if "leaseId" in post
    }
    running = {nack["leaseId"] for nack in gateway.posted("nack") if nack["code"] == "NEURON_SHUTDOWN"}
    assert running == {"l0", "l1", "l2", "l3"}
    assert max(last_words[lease_id] for lease_id in running) <= before + 0.051, "with the first that are answered"
    assert f"{10_004 - len(gateway.posted('nack'))} results were not delivered" in caplog.text


# In a hurry


async def test_D3_a_body_that_raises_while_the_neuron_drains_ends_the_drain() -> None:
    gateway = Slow()
    left = 0.0

    async def body(running: Neuron) -> None:
        nonlocal left
        with anyio.move_on_after(5.0):
            await running.drain()
        left = anyio.current_time()
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        async with neuron(gateway, working(1e6), stubborn(1e6), drain=1000.0) as running:
            gateway.lease("l0", capability="test/work")
            gateway.lease("l1", capability="test/stubborn")
            await settle()
            await body(running)
    assert anyio.current_time() - left <= 2.0 + A_LITTLE
    assert {nack["code"] for nack in gateway.posted("nack")} == {"NEURON_SHUTDOWN"}


async def test_D3_a_gateway_that_hangs_costs_two_seconds_in_the_middle_of_a_drain() -> None:
    gateway = Slow()
    with anyio.CancelScope() as scope:
        async with neuron(gateway, working(1e6), drain=1000.0):
            gateway.lease("l0", capability="test/work")
            await settle()
            gateway.seconds = 1e6
            scope.deadline = anyio.current_time() + 10.0
    assert anyio.current_time() - scope.deadline <= 2.0 + A_LITTLE
    assert gateway.posted("nack") == []


async def test_D1_a_second_drain_on_request_ends_with_the_first() -> None:
    gateway = Slow()
    async with neuron(gateway, working(20.0), drain=30.0) as running:
        gateway.lease("l0", capability="test/work")
        await settle()
        begun = anyio.current_time()
        async with anyio.create_task_group() as group:
            group.start_soon(running.drain)
            group.start_soon(running.drain)
    assert anyio.current_time() - begun == pytest.approx(20.0, abs=A_LITTLE)
    assert gateway.posted("ack")


async def test_D1_a_handler_may_ask_for_the_drain_that_waits_for_it() -> None:
    @capability("test/last")
    async def last(_: Any, ctx: LeaseContext) -> str:
        ctx.neuron.pause()
        await anyio.sleep(1.0)
        return "done"

    gateway = Slow()
    async with neuron(gateway, last, drain=30.0):
        gateway.lease("l0", capability="test/last")
        gateway.lease("l1", capability="test/last")
        await settle()
    assert [ack["leaseId"] for ack in gateway.posted("ack")] == ["l0"]
    assert gateway.posted("nack", lease_id="l1")[0]["code"] == "NEURON_DRAINING"
