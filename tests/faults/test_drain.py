"""Drains under pressure, on every backend: handlers that will not end, cancels, and what is left (D1, D2, D3, D5)."""

from __future__ import annotations

import gc
import threading
from pathlib import Path
from typing import Any

import anyio
import pytest

from neuron_anyio import CancelReason, LeaseContext, Neuron, Timing, capability, events, open_neuron
from neuron_anyio.gateway import open_gateway
from neuron_anyio.testing.scripted_gateway import ScriptedGateway
from neuron_anyio.testing.steered_handler import SteeredHandler
from tests.faults.stubborn import STUBBORN
from tests.leaks import handler_threads, open_files
from tests.runtime.handlers import settle
from tests.runtime.http_gateway import Seen

pytestmark = pytest.mark.anyio

DRAIN = 0.4
NOW = 2.0
"""Seconds of a budget: of these tests' drains, and of last words (promise D3)."""

A_LITTLE = 1.0
"""Seconds over a budget that a busy machine may take."""

LEASE = 0.4
"""Seconds of a short lease: heartbeats every 0.13 s."""


def neuron(gateway: Any, *capabilities: Any, drain: float = 10.0, **options: Any) -> Any:
    return open_neuron(gateway, neuron_id="neuron-1", capabilities=capabilities, timing=Timing(drain=drain), **options)


async def until(condition: Any) -> None:
    with anyio.fail_after(10):
        while not condition():  # noqa: ASYNC110 - what it looks at tells nobody
            await anyio.sleep(0.005)


# D2: handlers that will not end


async def left_with(name: str, folder: Path, *, hurry: bool) -> tuple[float, Neuron, ScriptedGateway]:
    """Leave a neuron in which such a handler runs; return what that took."""
    kind = STUBBORN[name]
    ended, free, started = threading.Event(), threading.Event(), folder / "started"
    gateway, seen = ScriptedGateway(), Seen()
    stubborn = kind.make(ended.set, free)
    try:
        with anyio.fail_after(15), anyio.CancelScope() as scope:
            drain = 100.0 if hurry else DRAIN
            async with neuron(gateway.transport, stubborn, drain=drain, on_event=seen) as running:
                gateway.lease("l0", capability="test/stubborn", value=str(started))
                await seen.wait(events.LeaseStarted)
                await settle()
                if kind.tells:
                    await until(started.exists)
                left = anyio.current_time()
                if hurry:
                    scope.cancel()
        took = anyio.current_time() - left
        assert running.snapshot().left_behind == kind.stays == len(handler_threads())
    finally:
        free.set()
    await until(lambda: running.snapshot().left_behind == 0)
    return took, running, gateway


@pytest.mark.parametrize("name", STUBBORN)
async def test_D2_reference_D27_a_handler_that_will_not_end_costs_the_grace_and_the_log_names_it(
    name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    kind = STUBBORN[name]
    took, _, gateway = await left_with(name, tmp_path, hurry=False)
    assert took <= DRAIN + kind.holds + A_LITTLE
    assert [(nack["leaseId"], nack["code"]) for nack in gateway.posted("ack", "nack")] == [("l0", "NEURON_SHUTDOWN")]
    named = "the handler of lease l0 (test/stubborn) does not end; left behind" in caplog.text
    assert named is not kind.ends


@pytest.mark.parametrize("name", ["swallows", "blocks_in_a_c_call"])
async def test_D3_a_handler_that_will_not_end_costs_two_seconds_when_all_is_cancelled(
    name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    took, _, gateway = await left_with(name, tmp_path, hurry=True)
    assert took <= NOW + A_LITTLE
    assert [(nack["leaseId"], nack["code"]) for nack in gateway.posted("ack", "nack")] == [("l0", "NEURON_SHUTDOWN")]
    assert "left behind" in caplog.text


# D1: what comes in the drain


async def test_D1_L4_a_cancel_in_the_drain_ends_its_handler_and_no_other() -> None:
    steered, gateway = SteeredHandler(concurrency=3), ScriptedGateway()
    async with anyio.create_task_group() as group, neuron(gateway.transport, steered.capability):
        for number in range(5):
            gateway.lease(f"l{number}", capability="test/steered")
        await steered.wait_started(3)

        async def meanwhile() -> None:
            await gateway.wait_posted("nack", count=2)
            gateway.cancel("l4")  # given back already
            gateway.cancel("l5")  # comes after its cancel
            gateway.lease("l5", capability="test/steered")
            gateway.cancel("l1")
            await gateway.wait_posted("nack", count=4)
            assert steered.running == 2
            steered.finish("l0")
            steered.finish("l2")

        group.start_soon(meanwhile)
    said = {
        post["leaseId"]: (post["type"], post.get("kind"), post.get("code")) for post in gateway.posted("ack", "nack")
    }
    assert len(gateway.posted("ack", "nack")) == 6
    assert said == {
        "l0": ("ack", None, None),
        "l1": ("nack", "cancelled", "CANCELLED"),
        "l2": ("ack", None, None),
        "l3": ("nack", "retryable", "NEURON_DRAINING"),
        "l4": ("nack", "retryable", "NEURON_DRAINING"),
        "l5": ("nack", "cancelled", "CANCELLED"),
    }
    assert [context.cancel_reason for context in steered.contexts] == [None, CancelReason.GATEWAY, None]


async def test_D1_H1_over_http_a_drain_of_five_lease_times_loses_nothing() -> None:
    starts: list[int] = []
    reasons: list[CancelReason | None] = []
    seconds = 5 * LEASE

    @capability("test/long", concurrency=3)
    async def long(number: int, ctx: LeaseContext) -> int:
        starts.append(number)
        await anyio.sleep(seconds)
        reasons.append(ctx.cancel_reason)
        return number

    with anyio.fail_after(20):
        async with open_gateway(lease_ttl=LEASE) as gateway:
            async with neuron(gateway.url, long) as running:
                tasks = [await gateway.submit("test/long", number) for number in range(5)]
                await until(lambda: len(starts) == 3)
                left = anyio.current_time()
            took, seconds = anyio.current_time() - left, 0.0
            assert running.snapshot().undelivered == 0
            ran = await gateway.wait_settled(*(task.task_id for task in tasks[:3]))
            async with neuron(gateway.url, long):
                gone_back = await gateway.wait_settled(*(task.task_id for task in tasks[3:]))
    assert 4 * LEASE <= took <= 5 * LEASE + A_LITTLE
    assert [status.output for status in (*ran, *gone_back)] == [0, 1, 2, 3, 4]
    assert (sorted(starts), reasons) == ([0, 1, 2, 3, 4], [None] * 5)


# D5: what is left


@pytest.mark.parametrize("end", ["drain", "cut", "now"])
async def test_D5_a_stop_under_load_leaves_no_task_no_file_and_no_thread_that_runs_a_handler(
    end: str, tmp_path: Path
) -> None:
    def in_thread(_: Any) -> None:
        pass

    async def scene(name: str) -> None:
        steered, seen = SteeredHandler(concurrency=4), Seen()
        threads = capability("test/thread", concurrency=4)(in_thread)
        drain = DRAIN if end == "cut" else 10.0
        async with open_gateway() as gateway:
            with anyio.CancelScope() as scope:
                async with neuron(
                    gateway.url, steered.capability, threads, drain=drain, on_event=seen, journal=tmp_path / name
                ):
                    for number in range(8):
                        await gateway.submit("test/steered", number)
                        await gateway.submit("test/thread", number)
                    await steered.wait_started(4)
                    await seen.wait(events.ResultAccepted, 4)
                    if end == "drain":
                        for lease_id in steered.started:
                            steered.finish(lease_id)
                    if end == "now":
                        scope.cancel()

    with anyio.fail_after(25):
        await scene("first")  # once for what is made once: threads that idle, what the backend opens for itself
        gc.collect(0)
        tasks, files = len(anyio.get_running_tasks()), open_files()
        await scene("second")
        gc.collect(0)
        with anyio.move_on_after(1):
            await until(lambda: len(open_files()) <= len(files))  # uvloop closes some turns later
    assert len(anyio.get_running_tasks()) == tasks
    assert len(open_files()) <= len(files), open_files() - files
    assert handler_threads() == []
