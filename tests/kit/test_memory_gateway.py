"""The gateway in memory: what the real one does, without a socket."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import anyio
import pytest

from neuron_anyio import (
    Backoff,
    GatewayDisconnected,
    LeaseContext,
    RegistrationRejected,
    Timing,
    Transport,
    TransportError,
    capability,
    events,
    on_behalf_of,
    open_neuron,
)
from neuron_anyio.errors import StreamRefused
from neuron_anyio.gateway import MemoryStore, Principal, Refused
from neuron_anyio.testing.memory_gateway import GatewayTransport, MemoryGateway, open_memory_gateway
from neuron_anyio.testing.steered_handler import SteeredHandler
from tests.runtime.handlers import echo
from tests.runtime.http_gateway import Seen

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).resolve().parents[2]
FAST = Timing(reconnect=Backoff(initial=0.01, maximum=0.02))


def neuron(transport: GatewayTransport, *capabilities: Any, **options: Any) -> Any:
    offered = capabilities or [echo]
    return open_neuron(transport, **{"neuron_id": "neuron-1", "capabilities": offered, "timing": FAST, **options})


async def test_a_task_is_run_by_a_neuron_and_its_output_comes_back() -> None:
    with anyio.fail_after(5):
        async with open_memory_gateway() as gateway, neuron(gateway.transport()):
            task = await gateway.submit("test/echo", {"a": [1, None, "ü\u2028"]})
            (settled,) = await gateway.wait_settled(task.task_id)
    assert (settled.state, settled.output) == ("succeeded", {"a": [1, None, "ü\u2028"]})


async def test_two_neurons_share_the_tasks_each_over_its_own_transport() -> None:
    one, two = SteeredHandler(), SteeredHandler()
    with anyio.fail_after(5):
        async with (
            open_memory_gateway() as gateway,
            neuron(gateway.transport(), one.capability),
            neuron(gateway.transport(), two.capability, neuron_id="neuron-2"),
        ):
            tasks = [(await gateway.submit("test/steered", None)).task_id for _ in range(2)]
            await one.wait_started()
            await two.wait_started()
            for steered in (one, two):
                steered.finish(steered.started[0])
            assert [task.state for task in await gateway.wait_settled(*tasks)] == ["succeeded", "succeeded"]
            assert [status.neuron_id for status in gateway.neurons()] == ["neuron-1", "neuron-2"]


async def test_G1_a_retryable_failure_comes_again_until_the_attempts_are_used_up() -> None:
    attempts: list[int] = []

    @capability("test/never")
    async def never(_: Any, ctx: LeaseContext) -> None:
        attempts.append(ctx.attempt)
        ctx.retry("later", code="LATER")

    with anyio.fail_after(5):
        async with (
            open_memory_gateway(max_attempts=3, retry=Backoff(initial=0.01, maximum=0.01)) as gateway,
            neuron(gateway.transport(), never),
        ):
            (settled,) = await gateway.wait_settled((await gateway.submit("test/never", None)).task_id)
    assert attempts == [0, 1, 2]
    assert settled.state == "failed"
    assert settled.failure is not None
    assert settled.failure.code == "LATER"


async def test_L4_3_a_cancel_reaches_the_running_handler() -> None:
    steered = SteeredHandler()
    with anyio.fail_after(5):
        async with open_memory_gateway() as gateway, neuron(gateway.transport(), steered.capability):
            task = await gateway.submit("test/steered", None)
            await steered.wait_started()
            await gateway.cancel(task.task_id)
            (settled,) = await gateway.wait_settled(task.task_id)
    assert settled.state == "cancelled"
    assert steered.contexts[0].cancelled


async def test_C12_a_revoked_capability_is_left_out_until_it_is_allowed_again() -> None:
    seen = Seen()
    with anyio.fail_after(5):
        async with open_memory_gateway() as gateway, neuron(gateway.transport(), on_event=seen):
            await gateway.revoke("test/echo")
            await seen.wait(events.CapabilityRevoked)
            task = await gateway.submit("test/echo", 1)
            assert gateway.task(task.task_id).state == "pending"
            await gateway.allow("test/echo")
            (settled,) = await gateway.wait_settled(task.task_id)
    assert settled.state == "succeeded"


@pytest.mark.parametrize("how", ["dropped", "disconnected", "down"])
async def test_C7_a_neuron_whose_stream_ends_comes_back_and_its_handler_goes_on(how: str) -> None:
    steered, seen = SteeredHandler(), Seen()
    with anyio.fail_after(5):
        async with open_memory_gateway() as gateway:
            transport = gateway.transport()
            async with neuron(transport, steered.capability, on_event=seen):
                task = await gateway.submit("test/steered", None)
                await steered.wait_started()
                if how == "dropped":
                    gateway.drop_stream("neuron-1")
                elif how == "disconnected":
                    await gateway.disconnect("neuron-1")
                else:
                    transport.go_down()
                ended = await seen.wait(events.Disconnected)
                if how == "down":
                    await seen.wait(events.Reconnecting, 3)
                    transport.come_back()
                await seen.wait(events.Registered, 2)
                steered.finish(steered.started[0])
                (settled,) = await gateway.wait_settled(task.task_id)
    assert settled.state == "succeeded"
    assert settled.deliveries == 1
    assert ("cut off" in ended.reason) == (how != "disconnected")


async def test_G4_a_second_session_under_the_same_id_replaces_the_first() -> None:
    with anyio.fail_after(5):
        async with open_memory_gateway() as gateway:
            with pytest.raises(GatewayDisconnected, match="took its place"):
                async with neuron(gateway.transport()), gateway.transport().subscribe("neuron-1"):
                    await anyio.sleep_forever()


async def test_what_a_cut_stream_had_is_lost_and_what_an_ended_one_had_is_not() -> None:
    with anyio.fail_after(5):
        async with open_memory_gateway() as gateway:
            for cut in (True, False):
                async with gateway.transport().subscribe("neuron-1") as stream:
                    await gateway.disconnect("neuron-1")
                    if cut:
                        gateway.drop_stream("neuron-1")  # it has none any more: nothing happens
                    assert len(await stream.receive()) == 1
                    with pytest.raises(anyio.EndOfStream):
                        await stream.receive()
                transport = gateway.transport()
                async with transport.subscribe("neuron-1") as stream:
                    gateway.drop_stream("neuron-1")
                    with pytest.raises(TransportError, match="cut off"):
                        await stream.receive()


async def test_a_reader_that_does_not_read_loses_its_stream() -> None:
    with anyio.fail_after(5):
        async with (
            open_memory_gateway(stream_bytes=2_000) as gateway,
            gateway.transport().subscribe("neuron-1") as stream,
        ):
            await register(gateway, "neuron-1", concurrency=100)
            for _ in range(100):
                await gateway.submit("test/echo", "x" * 100)
            with pytest.raises(TransportError, match="cut off"):
                await stream.receive()


async def register(gateway: MemoryGateway, neuron_id: str, *, concurrency: int = 1) -> None:
    offer = f'{{"type":"test/echo","scope":"any","concurrency":{concurrency}}}'
    frame = f'{{"type":"register","neuronId":"{neuron_id}","protocolVersion":"1.0.0","capabilities":[{offer}]}}'
    assert (await gateway.transport().post("register", frame.encode())).status == 200


async def test_refusals_are_what_they_are_over_http() -> None:
    with anyio.fail_after(5):
        async with open_memory_gateway(body_bytes=1_000) as gateway:
            transport = gateway.transport()
            assert isinstance(transport, Transport)
            too_large = await transport.post("ack", b" " * 1_001)
            assert (too_large.status, too_large.is_json) == (413, True)
            assert (await transport.post("ack", b"{}")).status == 400
            unknown = b'{"type":"ack","leaseId":"l","output":1,"completedAt":"2026-01-01T00:00:00Z"}'
            assert (await transport.post("nack", unknown)).status == 400
            assert (await transport.post("ack", unknown)).status == 409
            with pytest.raises(Refused):
                gateway.task("unknown")
            async with gateway.transport(Principal("one")).subscribe("neuron-1"):
                with pytest.raises(StreamRefused) as refused:
                    async with gateway.transport(Principal("two")).subscribe("neuron-1"):
                        pass
    assert refused.value.status == 409


async def test_C2_a_principal_that_may_not_offer_is_refused_for_good() -> None:
    with anyio.fail_after(5):
        async with open_memory_gateway() as gateway:
            transport = gateway.transport(Principal("someone", user="u2"))
            with pytest.raises(RegistrationRejected) as refused:
                async with neuron(transport, echo.with_options(scope=on_behalf_of("u1"))):
                    pass
    assert refused.value.status == 403


async def test_a_neuron_that_outlives_its_gateway_finds_nobody_and_the_next_one_keeps_the_tasks() -> None:
    store = MemoryStore()
    with anyio.fail_after(5):
        async with open_memory_gateway(store=store) as first:
            transport = first.transport()
            task = await first.submit("test/echo", 5)
        with pytest.raises(TransportError, match="closed"):
            await transport.post("ack", b"{}")
        with pytest.raises(TransportError, match="closed"):
            async with transport.subscribe("neuron-1"):
                pass
        async with open_memory_gateway(store=store) as second, neuron(second.transport()):
            (settled,) = await second.wait_settled(task.task_id)
    assert settled.output == 5


async def test_a_wrong_option_is_named() -> None:
    with pytest.raises(ValueError, match="max_attempts"):
        async with open_memory_gateway(max_attempts=0):
            pass


PROGRAM = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"starlette", "hypercorn", "httpx", "pytest", "hypothesis"}:
            raise ModuleNotFoundError(name, name=name)

sys.meta_path.insert(0, Blocked())

import anyio
from neuron_anyio import capability, open_neuron
from neuron_anyio.testing import ScriptedGateway, open_memory_gateway, run_handler

@capability("test/echo")
async def echo(value):
    return value

async def main():
    async with open_memory_gateway() as gateway:
        async with open_neuron(gateway.transport(), neuron_id="n", capabilities=[echo]):
            task = await gateway.submit("test/echo", 7)
            (settled,) = await gateway.wait_settled(task.task_id)
    print(settled.output, (await run_handler(echo, 8)).output)
    scripted = ScriptedGateway()
    async with open_neuron(scripted.transport, neuron_id="n", capabilities=[echo]):
        scripted.lease("l", value=9)
        print((await scripted.wait_result("l"))["output"])

anyio.run(main, backend=sys.argv[1])
"""


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_it_needs_neither_starlette_nor_hypercorn_nor_any_test_framework(backend: str) -> None:
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-c", PROGRAM, backend], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert ran.stdout.split() == ["7", "8", "9"], ran.stderr
