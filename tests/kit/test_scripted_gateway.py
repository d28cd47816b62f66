"""`ScriptedGateway` and `SteeredHandler`: what the script says happens, and a broken road looks like one."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from neuron_anyio import Backoff, GatewayDisconnected, Timing, TransportError, events, open_neuron
from neuron_anyio.abc import Reply
from neuron_anyio.testing import ScriptedGateway, SteeredHandler
from tests.runtime.handlers import echo, settle
from tests.runtime.http_gateway import Seen

pytestmark = pytest.mark.anyio

FAST = Timing(reconnect=Backoff(initial=0.01, maximum=0.02))


def neuron(gateway: ScriptedGateway, *capabilities: Any, **options: Any) -> Any:
    offered = capabilities or [echo]
    return open_neuron(gateway.transport, **{"neuron_id": "n", "capabilities": offered, "timing": FAST, **options})


async def test_a_lease_says_what_the_script_says() -> None:
    gateway, steered = ScriptedGateway(), SteeredHandler(input_schema={"type": "integer"})
    async with neuron(gateway, steered.capability):
        gateway.lease("l1", capability="test/steered", value=5, task_id="t", workflow_id="w", attempt=3, onBehalfOf="u")
        await steered.wait_started()
        task = steered.contexts[0].task
        assert (task.task_id, task.workflow_id, task.attempt, task.on_behalf_of) == ("t", "w", 3, "u")
        steered.finish("l1", lambda ctx: ctx.fail("no"))
        nack = await gateway.wait_result("l1")
        gateway.lease("l2", capability="test/steered", value="text", input_schema=True)
        await steered.wait_started(2)
        steered.finish("l2")
        assert (await gateway.wait_result("l2"))["output"] == "done"
    assert nack["code"] == "HANDLER_TERMINAL"
    assert steered.most == 1


async def test_answers_are_used_one_by_one_then_what_is_always_answered() -> None:
    gateway = ScriptedGateway()
    gateway.answer("ack", 503, TransportError("reset"))
    gateway.answer("ack", Reply(status=429, retry_after=0.0))
    gateway.always_answer("ack", 410)
    decided: list[str] = []
    gateway.on_post = lambda kind, _: decided.append(kind) if kind == "ack" else None
    seen = Seen()
    with anyio.fail_after(5):
        async with neuron(gateway, on_event=seen):
            gateway.lease("l1")
            assert (await seen.wait(events.ResultRejected)).reason
            gateway.always_answer("ack", 200)
            gateway.lease("l2")
            await seen.wait(events.ResultAccepted)
    assert len(gateway.posted("ack", lease_id="l1")) == 4
    assert len(decided) == 4, "of those that were answered"


async def test_what_is_held_waits_for_its_release() -> None:
    gateway, seen = ScriptedGateway(), Seen()
    with anyio.fail_after(5):
        async with neuron(gateway, on_event=seen):
            gateway.hold("ack")
            gateway.lease("l1")
            await gateway.wait_posted("ack")
            await settle()
            assert not seen.of(events.ResultAccepted)
            gateway.release("ack")
            await seen.wait(events.ResultAccepted)
            gateway.release("ack")  # nothing is held


@pytest.mark.parametrize("error", [None, TransportError("reset")])
async def test_C7_a_neuron_reads_what_came_before_the_break_sees_the_break_and_comes_back(
    error: TransportError | None,
) -> None:
    gateway, seen = ScriptedGateway(), Seen()
    with anyio.fail_after(5):
        async with neuron(gateway, on_event=seen):
            gateway.lease("l1")
            gateway.transport.break_stream(error)
            meanwhile = gateway.transport.neuron_id
            with pytest.raises(TransportError, match="no neuron has opened the stream"):
                gateway.lease("l2")
            gateway.transport.break_stream()  # there is none
            await gateway.wait_result("l1")
            assert ("reset" in (await seen.wait(events.Disconnected)).reason) == (error is not None)
            await gateway.wait_posted("register", count=2)
            assert (meanwhile, gateway.transport.neuron_id) == (None, "n"), "who has a stream"
    assert gateway.transport.neuron_id is None


async def test_it_revokes_cancels_and_sends_away() -> None:
    gateway, seen, steered = ScriptedGateway(), Seen(), SteeredHandler()
    with anyio.fail_after(5):
        with pytest.raises(GatewayDisconnected, match="OLD"):
            async with neuron(gateway, steered.capability, on_event=seen):
                gateway.lease("l1", capability="test/steered")
                await steered.wait_started()
                gateway.revoke("test/steered")
                gateway.cancel("l1")
                assert (await gateway.wait_result("l1"))["kind"] == "cancelled"
                gateway.disconnect()
                await gateway.wait_posted("register", count=1)
                await seen.wait(events.Reconnecting)
                await seen.wait(events.Connected, 2)
                gateway.disconnect(reconnectable=False, code="OLD")
                await anyio.sleep_forever()
    assert seen.of(events.CapabilityRevoked)


async def test_an_unconfirmed_register_is_answered_all_the_same() -> None:
    gateway, seen = ScriptedGateway(confirms=False), Seen()
    with anyio.fail_after(5):
        async with anyio.create_task_group() as group:
            group.start_soon(confirm, gateway)
            async with neuron(gateway, on_event=seen) as running:
                assert running.session.id == "session-9"
                assert running.session.capabilities == {"test/echo": 2}


async def confirm(gateway: ScriptedGateway) -> None:
    (register,) = await gateway.wait_posted("register")
    gateway.registered([{**register["capabilities"][0], "concurrency": 2}], session_id="session-9")


async def test_waiting_has_an_end() -> None:
    with pytest.raises(TimeoutError):
        await ScriptedGateway(patience=0.01).wait_posted("ack")
    with pytest.raises(TimeoutError):
        await SteeredHandler(patience=0.01).wait_started()
    with pytest.raises(TimeoutError):
        await SteeredHandler(patience=0.01).wait_running(1)


async def test_a_type_that_no_neuron_posts_is_refused() -> None:
    gateway = ScriptedGateway()
    for call in (gateway.answer, gateway.hold, gateway.release):
        with pytest.raises(ValueError, match=r"neurons post \(ack, heartbeat, .*\), not 'registered'"):
            call("registered")
    with pytest.raises(AssertionError, match="'ack' was posted as 'nack'"):
        await gateway.take("nack", b'{"type":"ack"}')
