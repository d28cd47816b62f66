"""A lease leaves nothing that only the garbage collector can take away: collecting would hold up the loop."""

from __future__ import annotations

import gc
import time
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from neuron_anyio import LeaseContext, RetryableFailure, Timing, capability, open_neuron
from neuron_anyio.testing.scripted_gateway import ScriptedGateway

pytestmark = pytest.mark.anyio


@capability("test/many", concurrency=4, timeout=0.05)
async def many(value: str, ctx: LeaseContext) -> str:
    match value:
        case "waits":
            await anyio.lowlevel.checkpoint()
        case "reports":
            ctx.progress(percent=10, message="a tenth")
            await anyio.sleep(0.01)
        case "fails":
            ctx.fail("no", code="MINE")
        case "asks for another try":
            raise RetryableFailure("later")
        case "takes too long" | "is called off":
            await anyio.sleep_forever()
        case _:
            pass
    return value


@capability("test/thread", timeout=0.05)
def in_thread(value: str, ctx: LeaseContext) -> str:
    while value == "thread, too long":
        ctx.check_cancelled()
        time.sleep(0.001)
    return value


def ours_among(garbage: list[Any]) -> list[str]:
    kinds = (type(each) for each in garbage)
    return sorted({kind.__qualname__ for kind in kinds if kind.__module__.startswith("neuron_anyio")})


@pytest.mark.parametrize(
    "value",
    [
        "",
        "waits",
        "reports",
        "fails",
        "asks for another try",
        "takes too long",
        "is called off",
        "thread",
        "thread, too long",
    ],
)
async def test_a_lease_leaves_no_circle_of_references(value: str) -> None:
    name = "test/thread" if value.startswith("thread") else "test/many"
    gateway = ScriptedGateway()
    timing = Timing(heartbeat=60.0)
    async with open_neuron(gateway.transport, neuron_id="n", capabilities=[many, in_thread], timing=timing):
        gateway.lease("warm up", capability=name)
        await gateway.wait_result("warm up")
        await anyio.wait_all_tasks_blocked()
        gc.collect()
        gc.disable()
        gc.set_debug(gc.DEBUG_SAVEALL)
        try:
            for number in range(5):
                lease_id = f"l{number}"
                gateway.lease(lease_id, capability=name, value=value)
                if value == "is called off":
                    await anyio.wait_all_tasks_blocked()
                    gateway.cancel(lease_id)
                await gateway.wait_result(lease_id)
            await anyio.wait_all_tasks_blocked()
            gc.collect()
            found = ours_among(gc.garbage)
        finally:
            gc.set_debug(0)
            gc.enable()
            gc.garbage.clear()
    assert found == []
