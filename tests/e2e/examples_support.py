"""What the tests of the examples share."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any, cast

import anyio
from anyio.lowlevel import current_token

from neuron_anyio import Capability, LeaseContext, open_neuron
from neuron_anyio.client import GatewayClient, TaskStatus
from neuron_anyio.context import Wiring
from neuron_anyio.gateway import Gateway, open_gateway
from neuron_anyio.lease import Lease
from neuron_anyio.model import Delivery, Progress, Task

__all__ = ["context_for", "properties_of", "running", "settled"]


def context_for(capability: str) -> tuple[LeaseContext, list[Progress]]:
    """Return a context for calling a handler without a neuron, and the list that its progress goes to."""
    task = Task(task_id="task-1", workflow_id="task-1", capability=capability, attempt=0, input=b"{}")
    lease = Lease(Delivery(id="lease-1", task=task), source=0, fingerprint=b"", now=anyio.current_time())
    progress: list[Progress] = []

    def take(_: Lease) -> None:
        update = context.take_progress()
        assert update is not None
        progress.append(update)

    wiring = Wiring(
        neuron=cast("Any", None),
        state=None,
        log=logging.getLogger("tests"),
        clock=anyio.current_time,
        on_progress=take,
        token=current_token(),
    )
    context = LeaseContext(lease, wiring)
    return context, progress


def properties_of(schema: Any, struct: type) -> tuple[dict[str, Any], list[str], Any]:
    """Return what a schema says about a struct: properties without titles, required members, additionalProperties."""
    found = schema["$defs"][struct.__name__]
    return found["properties"], found["required"], found.get("additionalProperties")


@asynccontextmanager
async def running(*capabilities: Capability[..., Any]) -> AsyncGenerator[tuple[Gateway, GatewayClient]]:
    """Serve capabilities by a real neuron at a real gateway; yield the gateway and a caller of it."""
    async with (
        open_gateway() as gateway,
        GatewayClient(gateway.url) as client,
        open_neuron(gateway.url, neuron_id="example", capabilities=capabilities),
    ):
        yield gateway, client


async def settled(client: GatewayClient, task_id: str) -> TaskStatus:
    """Return where a task stands once that is for good."""
    async with client.follow(task_id) as updates:
        return [status async for status in updates][-1]
