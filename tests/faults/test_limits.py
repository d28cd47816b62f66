"""Members of `Limits` at their bounds, in a running neuron; the rest stands in `tests/pure` (promises C8, L2, L9)."""

from __future__ import annotations

import gc
import json
import tracemalloc
from typing import Any

import anyio
import pytest

from neuron_anyio import Backoff, HttpTransport, Limits, Timing, events, open_neuron
from neuron_anyio.testing.scripted_gateway import ScriptedGateway, stamp
from neuron_anyio.testing.steered_handler import SteeredHandler
from tests.runtime.handlers import echo, settle
from tests.runtime.http1_server import answering, serving
from tests.runtime.http_gateway import HttpGateway, Seen, http_gateway, http_reply, sse

pytestmark = pytest.mark.anyio

FAST = Timing(reconnect=Backoff(initial=0.01, maximum=0.02))
MIB = 1024 * 1024


def neuron(gateway: Any, *capabilities: Any, **options: Any) -> Any:
    options.setdefault("timing", FAST)
    return open_neuron(gateway, neuron_id="neuron-1", capabilities=capabilities or [echo], **options)


def lease_of(size: int, lease_id: str) -> bytes:
    """Return a lease frame of so many bytes."""
    task = {"taskId": lease_id, "workflowId": "w", "capability": "test/echo", "attempt": 0, "input": ""}
    frame = {"type": "lease", "lease": {"leaseId": lease_id, "expiresAt": stamp(60), "task": task}, "sentAt": stamp()}
    task["input"] = "x" * (size - len(json.dumps(frame)))
    return json.dumps(frame).encode()


async def test_C8_bound_of_frame_bytes_a_lease_of_that_size_runs_and_one_byte_more_fails_for_good() -> None:
    bound = MIB
    seen = Seen()
    async with http_gateway() as gateway, neuron(gateway.url, limits=Limits(frame_bytes=bound), on_event=seen):
        for size, lease_id in ((bound, "fits"), (bound + 1, "over"), (bound, "next")):
            gateway.write(sse(lease_of(size, lease_id)))
        assert (await gateway.wait_result("fits"))["type"] == "ack"
        nack = await gateway.wait_result("over")
        assert (await gateway.wait_result("next"))["type"] == "ack"
    assert (nack["kind"], nack["code"]) == ("terminal", "LEASE_TOO_LARGE")
    assert [event.size for event in seen.of(events.FrameDropped)] == [bound + 1]
    assert len(gateway.gets) == 1


async def test_L2_bound_of_queue_bytes_is_one_of_real_memory() -> None:
    steered, gateway = SteeredHandler(), ScriptedGateway()
    value = "x" * (MIB - 2)  # and its two quotes
    async with neuron(gateway.transport, steered.capability, limits=Limits(queue_bytes=16 * MIB)) as running:
        gateway.lease("l0", capability="test/steered")
        await steered.wait_started()
        gc.collect()
        tracemalloc.start()
        try:
            for number in range(1, 17):
                gateway.lease(f"l{number}", capability="test/steered", value=value)
                await settle()
            for number in range(17, 20):
                gateway.lease(f"l{number}", capability="test/steered", value="")
            nacks = await gateway.wait_posted("nack", count=3)
            gc.collect()
            held, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert running.snapshot().capabilities["test/steered"].queued == 16
        assert {nack["leaseId"] for nack in nacks} == {"l17", "l18", "l19"}
        assert {nack["code"] for nack in nacks} == {"NEURON_OVERLOADED"}
        assert 16 * MIB <= held < 17 * MIB
        steered.finish("l0")
        await steered.wait_started(2)
        gateway.lease("l20", capability="test/steered", value=value)
        await settle()
        assert running.snapshot().capabilities["test/steered"].queued == 16
        for number in range(1, 21):
            steered.finish(f"l{number}")
        await gateway.wait_posted("ack", count=18)


async def test_L9_bound_of_undelivered_handlers_wait_and_no_result_is_dropped() -> None:
    gateway, seen = ScriptedGateway(), Seen()
    gateway.always_answer("ack", 503)
    async with neuron(gateway.transport, limits=Limits(undelivered=4), on_event=seen) as running:
        for number in range(4):
            gateway.lease(f"l{number}", value=number)
        await gateway.wait_posted("ack", count=8)
        for number in range(4, 10):
            gateway.lease(f"l{number}", value=number)
        await gateway.wait_posted("ack", count=16)
        assert len(seen.of(events.LeaseStarted)) == 4
        assert (running.snapshot().undelivered, running.snapshot().capabilities["test/echo"].queued) == (4, 6)
        gateway.always_answer("ack", 200)
        await seen.wait(events.ResultAccepted, 10)
    assert {ack["leaseId"]: ack["output"] for ack in gateway.posted("ack")} == {
        f"l{number}": number for number in range(10)
    }
    assert gateway.posted("nack") == []


@pytest.mark.parametrize(("size", "connections"), [(1000, 1), (MIB, 3)])
async def test_bound_of_reply_bytes_over_it_the_rest_is_not_read_and_costs_the_connection(
    size: int, connections: int
) -> None:
    reply = http_reply(200, b"x" * size, content_type="text/plain")
    async with serving(answering(reply)) as server:
        transport = HttpTransport(server.origin, limits=Limits(reply_bytes=1000))
        async with transport.open():
            for _ in range(3):
                with anyio.fail_after(5):
                    assert (await transport.post("ack", b"{}")).status == 200
    assert server.connections == connections


async def ack_after(gateway: HttpGateway, seen: Seen, lease_id: str, count: int) -> None:
    gateway.lease(lease_id, value=lease_id)
    await seen.wait(events.ResultAccepted, count)


async def test_L9_bound_of_reply_bytes_a_result_that_was_taken_with_many_words_is_taken() -> None:
    seen = Seen()
    async with http_gateway() as gateway, neuron(gateway.url, limits=Limits(reply_bytes=1000), on_event=seen):
        for count, size in enumerate((999, 1000, 1001, 10 * MIB), 1):
            gateway.replies["ack"] = [http_reply(200, b"x" * size)]
            await ack_after(gateway, seen, f"l{size}", count)
    assert len(gateway.posted("ack")) == 4
