"""The gateway in memory in virtual time: hours of leases, heartbeats and back-off."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import anyio
import pytest
from trio.testing import MockClock

from neuron_anyio import Backoff, capability, events, open_neuron
from neuron_anyio.testing.memory_gateway import GatewayTransport, MemoryGateway, open_memory_gateway
from neuron_anyio.testing.steered_handler import SteeredHandler

pytestmark = [pytest.mark.anyio, pytest.mark.virtual_time]

HOUR = 3600.0


@pytest.fixture
def anyio_backend() -> Any:
    return "trio", {"clock": MockClock(autojump_threshold=0)}


def neuron(transport: GatewayTransport, *capabilities: Any, **options: Any) -> Any:
    return open_neuron(transport, **{"neuron_id": "neuron-1", "capabilities": capabilities, **options})


async def test_H1_a_handler_of_ten_hours_keeps_its_lease_by_heartbeats() -> None:
    @capability("test/long")
    async def long(_: Any) -> str:
        await anyio.sleep(10 * HOUR)
        return "done"

    async with open_memory_gateway(lease_ttl=30.0) as gateway, neuron(gateway.transport(), long):
        task = await gateway.submit("test/long", None)
        (settled,) = await gateway.wait_settled(task.task_id)
    assert (settled.state, settled.deliveries, settled.expiries) == ("succeeded", 1, 0)
    assert anyio.current_time() >= 10 * HOUR


async def test_L7_G4_a_lease_that_runs_out_in_an_outage_is_lost_here_and_delivered_there() -> None:
    gone, there = SteeredHandler(), SteeredHandler()
    seen: list[events.Event] = []
    async with open_memory_gateway(lease_ttl=60.0) as gateway:
        transport = gateway.transport()
        async with neuron(transport, gone.capability, on_event=seen.append):
            task = await gateway.submit("test/steered", None)
            await gone.wait_started()
            begun = anyio.current_time()
            transport.go_down()
            async with neuron(gateway.transport(), there.capability, neuron_id="neuron-2"):
                await anyio.sleep(59.0)
                assert (gone.running, there.running) == (1, 0)
                await anyio.sleep(12.0)
                assert (gone.running, there.running) == (0, 1)
                assert there.contexts[0].attempt == 1
                there.finish(there.started[0])
                (settled,) = await gateway.wait_settled(task.task_id)
            transport.come_back()
            assert 60.0 <= anyio.current_time() - begun <= 72.0
            await anyio.sleep(31.0)
            assert are_registered(gateway) == {"neuron-1": True}
    assert settled.expiries == 1
    assert [event for event in seen if isinstance(event, events.LeaseLost)]


def are_registered(gateway: MemoryGateway) -> dict[str, bool]:
    return {neuron.neuron_id: neuron.registered for neuron in gateway.neurons()}


async def test_C5_an_outage_of_an_hour_is_met_with_back_off_and_ends_with_a_registered_neuron() -> None:
    seen: list[tuple[float, events.Event]] = []
    steered = SteeredHandler()
    async with open_memory_gateway() as gateway:
        transport = gateway.transport()
        options = {"on_event": lambda event: seen.append((anyio.current_time(), event))}
        async with neuron(transport, steered.capability, **options):
            transport.go_down()
            await anyio.sleep(HOUR)
            transport.come_back()
            await anyio.sleep(31.0)
            assert are_registered(gateway) == {"neuron-1": True}
    tries = [time for time, event in seen if isinstance(event, events.Reconnecting)]
    assert 180 <= len(tries) <= 320, "half of 30 s on average"
    assert all(later - earlier <= 30.1 for earlier, later in pairwise(tries))


async def test_G1_the_back_off_between_tries_is_waited_for() -> None:
    times: list[float] = []

    @capability("test/fails")
    async def fails(_: Any) -> None:
        times.append(anyio.current_time())
        raise OSError

    retry = Backoff(initial=600.0, maximum=HOUR)
    async with open_memory_gateway(max_attempts=3, retry=retry) as gateway, neuron(gateway.transport(), fails):
        (settled,) = await gateway.wait_settled((await gateway.submit("test/fails", None)).task_id)
    assert settled.state == "failed"
    assert [round(later - earlier) for earlier, later in pairwise(times)] == [600, 1200]


async def test_C6_a_silent_stream_lives_by_the_gateways_comments(memory_gateway: MemoryGateway) -> None:
    seen: list[events.Event] = []
    steered = SteeredHandler()
    async with neuron(memory_gateway.transport(), steered.capability, on_event=seen.append):
        await anyio.sleep(HOUR)
        assert are_registered(memory_gateway) == {"neuron-1": True}
    assert not [event for event in seen if isinstance(event, events.Disconnected)]
