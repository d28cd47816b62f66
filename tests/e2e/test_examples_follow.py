"""What the examples rely on when they follow a task: nothing is left to the garbage collector (promise D5)."""

from __future__ import annotations

import gc

import anyio
import pytest

from neuron_anyio.client import GatewayClient
from neuron_anyio.gateway import open_gateway

pytestmark = pytest.mark.anyio


async def test_D5_a_task_that_is_followed_to_its_end_leaves_no_warning() -> None:
    with anyio.fail_after(5):
        async with open_gateway() as gateway, GatewayClient(gateway.url) as client:
            task = await client.submit("examples/none", None)
            await client.cancel(task.task_id)
            async with client.follow(task.task_id) as updates:
                states = [status.state async for status in updates]
    gc.collect()
    assert states == ["cancelled"]


async def test_D5_a_task_that_is_followed_no_further_leaves_no_warning() -> None:
    with anyio.fail_after(5):
        async with open_gateway() as gateway, GatewayClient(gateway.url) as client:
            task = await client.submit("examples/none", None)
            async with client.follow(task.task_id) as updates:
                async for status in updates:
                    assert status.state == "pending"
                    break
    gc.collect()
