"""The project's brokers with their task systems, as `check_broker` wants them."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

from neuron_anyio import Backoff, BigBrainBroker, HttpTransport, Timing, TransportError
from neuron_anyio.abc import Broker, Reply, Transport
from neuron_anyio.brokers.memory import MemoryBroker, MemoryTask
from neuron_anyio.gateway import Gateway, open_gateway
from neuron_anyio.model import Cancelled, Completed, Dropped, Progress
from neuron_anyio.testing.broker_contract import NEURON_ID, TaskSystem, TaskView
from neuron_anyio.testing.memory_gateway import open_memory_gateway

__all__ = [
    "TIMING",
    "GatewaySystem",
    "MemorySystem",
    "gateway_in_memory",
    "gateway_over_http",
    "memory_system",
]

LEASE_TIME = 1.0
"""Seconds that the gateway's leases last."""

RETRY = Backoff(initial=0.05, maximum=0.1)
TIMING = Timing(reconnect=Backoff(initial=0.05, maximum=0.1))


# A task system that pulls


class MemorySystem:
    """What callers of a `MemoryBroker` can do."""

    def __init__(self, broker: MemoryBroker) -> None:
        self.broker = broker
        self.tasks: dict[str, MemoryTask] = {}

    async def submit(self, capability: str, value: Any) -> str:
        task = self.broker.submit(capability, value)
        self.tasks[task.task_id] = task
        return task.task_id

    async def look(self, task_id: str) -> TaskView:
        task = self.tasks[task_id]
        progress = task.progress[-1] if task.progress else None
        match task.outcome:
            case None:
                taken = task in self.broker._delivered.values()
                return TaskView(state="taken" if taken else "waiting", progress=progress)
            case Completed():
                return TaskView(state="completed", outputs=task.outputs, progress=progress)
            case Cancelled():
                return TaskView(state="cancelled")
            case Dropped():
                return TaskView(state="dropped")
            case _:
                return TaskView(state="failed")

    async def cancel(self, task_id: str) -> None:
        self.broker.cancel(self.tasks[task_id])

    async def offered(self) -> Mapping[str, int]:
        return {name: offer.concurrency for name, offer in self.broker.offers.items()}

    def abilities(self, **more: Any) -> TaskSystem:
        return TaskSystem(
            submit=self.submit,
            look=self.look,
            cancel=self.cancel,
            offered=self.offered,
            pulls=True,
            shows_progress=True,
            delays_retries=True,
            delays_give_backs=True,
            tells_drops=True,
            **more,
        )


@asynccontextmanager
async def memory_system(*, fans_out: bool = False) -> AsyncGenerator[tuple[Broker, TaskSystem]]:
    broker = MemoryBroker(fans_out=fans_out)
    yield broker, MemorySystem(broker).abilities(fans_out=fans_out)


# BigBrain


class Road:
    """A transport that can be made to fail: everything that is tried, and nothing that is open."""

    def __init__(self, transport: Transport) -> None:
        self.origin = transport.origin
        self.open = transport.open
        self.is_down = False
        self._transport = transport

    def _check(self) -> None:
        if self.is_down:
            raise TransportError("the road is down")

    @asynccontextmanager
    async def subscribe(self, neuron_id: str) -> AsyncGenerator[Any]:
        self._check()
        async with self._transport.subscribe(neuron_id) as stream:
            yield stream

    async def post(self, path: str, body: bytes) -> Reply:
        self._check()
        return await self._transport.post(path, body)


class GatewaySystem:
    """What callers and operators of the gateway can do."""

    def __init__(self, gateway: Gateway, road: Road) -> None:
        self.gateway = gateway
        self.road = road

    async def submit(self, capability: str, value: Any) -> str:
        return (await self.gateway.submit(capability, value)).task_id

    async def look(self, task_id: str) -> TaskView:
        status = self.gateway.task(task_id)
        states: Mapping[str, Any] = {"pending": "waiting", "leased": "taken", "succeeded": "completed"}
        reported = status.progress
        return TaskView(
            state=states.get(status.state, status.state),
            outputs=[status.output] if status.state == "succeeded" else [],
            progress=None if reported is None else Progress(percent=reported.percent, message=reported.message),
        )

    async def cancel(self, task_id: str) -> None:
        await self.gateway.cancel(task_id)

    async def offered(self) -> Mapping[str, int]:
        return {slots.type: slots.concurrency for neuron in self.gateway.neurons() for slots in neuron.capabilities}

    async def disconnect(self) -> None:
        self.gateway.drop_stream(NEURON_ID)

    async def expel(self) -> None:
        await self.gateway.disconnect(NEURON_ID, reconnectable=False)

    @asynccontextmanager
    async def outage(self) -> AsyncGenerator[None]:
        self.road.is_down = True
        try:
            yield
        finally:
            self.road.is_down = False

    def abilities(self) -> TaskSystem:
        return TaskSystem(
            submit=self.submit,
            look=self.look,
            cancel=self.cancel,
            offered=self.offered,
            disconnect=self.disconnect,
            outage=self.outage,
            expel=self.expel,
            lease_time=LEASE_TIME,
            shows_progress=True,
            delays_retries=True,
        )


Make = Callable[[Transport], Broker]


def bigbrain(transport: Transport) -> Broker:
    return BigBrainBroker(transport, timing=TIMING)


@asynccontextmanager
async def gateway_over_http(make: Make = bigbrain) -> AsyncGenerator[tuple[Broker, TaskSystem]]:
    """Open the gateway that ships, over real HTTP."""
    async with open_gateway(lease_ttl=LEASE_TIME, retry=RETRY) as gateway:
        road = Road(HttpTransport(gateway.url, timing=TIMING))
        yield make(road), GatewaySystem(gateway, road).abilities()


@asynccontextmanager
async def gateway_in_memory(make: Make = bigbrain) -> AsyncGenerator[tuple[Broker, TaskSystem]]:
    """Open the gateway that ships, without a socket."""
    async with open_memory_gateway(lease_ttl=LEASE_TIME, retry=RETRY) as gateway:
        road = Road(gateway.transport())
        yield make(road), GatewaySystem(gateway, road).abilities()
