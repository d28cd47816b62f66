"""Neurons against the gateway that ships, over real HTTP."""

from __future__ import annotations

from collections import Counter
from typing import Any

import anyio
import pytest

from neuron_anyio import AuthenticationFailed, Backoff, Timing, capability, events, open_neuron
from neuron_anyio.client import GatewayClient, TaskCancelled
from neuron_anyio.gateway import Gateway, open_gateway
from neuron_anyio.testing.steered_handler import SteeredHandler
from tests.runtime.handlers import echo
from tests.runtime.http_gateway import Seen

# ruff: noqa: SIM117 - the outer block is the scene, the inner one the act

pytestmark = pytest.mark.anyio

FAST = Timing(reconnect=Backoff(initial=0.01, maximum=0.02))


def neuron(url: str, *capabilities: Any, neuron_id: str = "neuron-1", **options: Any) -> Any:
    options.setdefault("timing", FAST)
    return open_neuron(url, neuron_id=neuron_id, capabilities=capabilities, **options)


async def test_a_task_travels_from_its_caller_to_a_handler_and_back() -> None:
    with anyio.fail_after(20):
        async with open_gateway(auth="t-1") as gateway, GatewayClient(gateway.url, auth="t-1") as client:
            async with neuron(gateway.url, echo, auth="t-1") as running:
                assert running.session.id is not None
                assert running.session.capabilities == {"test/echo": 4}
                task = await client.submit("test/echo", {"text": "ü😀\u2028", "none": None, "big": 2**60})
                assert await client.result(task.task_id) == {"text": "ü😀\u2028", "none": None, "big": 2**60}
            assert [entry.connected for entry in await client.neurons()] in ([], [False])


async def test_a_token_that_the_gateway_does_not_know_is_one_error() -> None:
    with anyio.fail_after(20):
        async with open_gateway(auth="t-1") as gateway:
            with pytest.raises(AuthenticationFailed):
                async with neuron(gateway.url, echo, auth="t-2"):
                    raise AssertionError


async def test_a_caller_cancels_a_running_task(neuron_gateway: Gateway) -> None:
    steered = SteeredHandler()
    with anyio.fail_after(20):
        async with GatewayClient(neuron_gateway.url) as client:
            async with neuron(neuron_gateway.url, steered.capability):
                task = await client.submit("test/steered", None)
                await steered.wait_started()
                await client.cancel(task.task_id, "not needed any more")
                await steered.wait_running(0)
                with pytest.raises(TaskCancelled):
                    await client.result(task.task_id)


async def test_a_stream_that_the_gateway_loses_costs_no_task_a_second_run(neuron_gateway: Gateway) -> None:
    steered, seen = SteeredHandler(), Seen()
    with anyio.fail_after(20):
        async with neuron(neuron_gateway.url, echo, steered.capability, on_event=seen):
            task = await neuron_gateway.submit("test/steered", None)
            await steered.wait_started()
            neuron_gateway.drop_stream("neuron-1")
            await seen.wait(events.Registered, 2)
            steered.finish(steered.started[0])
            after = await neuron_gateway.submit("test/echo", "after")
            settled = await neuron_gateway.wait_settled(task.task_id, after.task_id)
    assert [status.output for status in settled] == ["done", "after"]
    assert len(steered.started) == 1


async def test_two_neurons_share_the_work(neuron_gateway: Gateway) -> None:
    with anyio.fail_after(20):
        one, two = SteeredHandler(concurrency=2), SteeredHandler(concurrency=2)
        async with (
            neuron(neuron_gateway.url, one.capability, neuron_id="one"),
            neuron(neuron_gateway.url, two.capability, neuron_id="two"),
        ):
            tasks = [await neuron_gateway.submit("test/steered", number) for number in range(4)]
            await one.wait_started(2)
            await two.wait_started(2)
            for steered in (one, two):
                for lease_id in steered.started:
                    steered.finish(lease_id)
            settled = await neuron_gateway.wait_settled(*(task.task_id for task in tasks))
    assert Counter(status.neuron_id for status in settled) == {"one": 2, "two": 2}


async def test_two_hundred_small_tasks_run_once_each_and_never_more_than_eight_at_a_time(
    neuron_gateway: Gateway,
) -> None:
    running = most = 0
    runs: Counter[int] = Counter()

    @capability("test/small", concurrency=8)
    async def small(number: int) -> int:
        nonlocal running, most
        running += 1
        most = max(most, running)
        runs[number] += 1
        await anyio.lowlevel.checkpoint()
        running -= 1
        return number * number

    with anyio.fail_after(30):
        async with neuron(neuron_gateway.url, small) as one:
            tasks = [await neuron_gateway.submit("test/small", number) for number in range(200)]
            settled = await neuron_gateway.wait_settled(*(task.task_id for task in tasks))
            assert one.snapshot().capabilities["test/small"].running == 0
    assert [status.output for status in settled] == [number * number for number in range(200)]
    assert {status.attempts for status in settled} <= {0, 1}
    assert set(runs.values()) == {1}
    assert 1 < most <= 8
