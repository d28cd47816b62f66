"""Promises C as a gateway sees them, over the in-memory transport."""

from __future__ import annotations

import json
import logging
from typing import Any

import anyio
import pytest

from neuron_anyio import (
    Backoff,
    GatewayDisconnected,
    Limits,
    NeuronError,
    RegistrationRejected,
    Timing,
    TransportError,
    events,
    open_neuron,
)
from neuron_anyio.abc import Oversized, Reply
from neuron_anyio.testing.scripted_gateway import ScriptedGateway, stamp
from neuron_anyio.testing.steered_handler import SteeredHandler
from tests.runtime.handlers import echo, settle

pytestmark = pytest.mark.anyio

FAST = Timing(reconnect=Backoff(initial=0.01, maximum=0.02))


def neuron(gateway: ScriptedGateway, *capabilities: Any, **options: Any) -> Any:
    return open_neuron(
        gateway.transport, neuron_id="neuron-1", capabilities=capabilities or [echo], **{"timing": FAST, **options}
    )


async def test_C1_entering_ends_when_the_register_was_accepted_and_registered_came() -> None:
    gateway = ScriptedGateway()
    async with neuron(gateway) as running:
        assert running.session.id == "session-1"
        assert running.session.capabilities == {"test/echo": 4}
        assert running.snapshot().connection == "registered"
    register = gateway.posted("register")[0]
    assert register["neuronId"] == "neuron-1"
    assert register["protocolVersion"] == "1.0.0"
    assert register["capabilities"] == [{"type": "test/echo", "scope": "any", "concurrency": 4}]


async def test_C1_without_a_registered_frame_entering_ends_a_second_after_the_acceptance() -> None:
    gateway = ScriptedGateway(confirms=False)
    async with neuron(gateway) as running:
        assert running.session.id is None
        assert running.session.capabilities == {"test/echo": 4}


async def test_C1_entering_can_be_bounded_by_the_caller() -> None:
    gateway = ScriptedGateway()
    gateway.always_answer("register", 503)
    with pytest.raises(TimeoutError):
        with anyio.fail_after(0.1):
            async with neuron(gateway):
                raise AssertionError
    assert gateway.transport.neuron_id is None


@pytest.mark.parametrize("status", [400, 403, 404, 405, 422])
async def test_C2_a_refused_register_is_one_typed_error_that_says_what_to_check(status: int) -> None:
    gateway = ScriptedGateway()
    gateway.always_answer("register", Reply(status=status, text="this namespace is not yours"))
    with pytest.raises(RegistrationRejected) as caught:
        async with neuron(gateway):
            raise AssertionError
    assert caught.value.status == status
    assert "this namespace is not yours" in str(caught.value)
    assert "check" in str(caught.value)
    if status == 403:
        assert "test/echo for any" in str(caught.value)


@pytest.mark.parametrize("failure", [Reply(status=500), Reply(status=409), Reply(status=429), TransportError("reset")])
async def test_C3_a_register_that_failed_is_tried_again_on_the_open_stream(failure: Reply | TransportError) -> None:
    gateway = ScriptedGateway()
    gateway.answer("register", failure, failure)
    seen: list[events.Event] = []
    async with neuron(gateway, on_event=seen.append):
        pass
    assert len(gateway.posted("register")) == 3
    assert sum(isinstance(event, events.Connected) for event in seen) == 1


async def test_C3_a_lease_that_comes_before_the_acceptance_is_served() -> None:
    gateway = ScriptedGateway()
    gateway.hold("register")
    async with anyio.create_task_group() as group:

        async def run() -> None:
            async with neuron(gateway):
                await gateway.wait_result("l1")

        group.start_soon(run)
        await gateway.wait_posted("register")
        gateway.lease("l1", value=1)
        assert (await gateway.wait_result("l1"))["type"] == "ack"
        gateway.release("register")


async def test_C3_a_heartbeat_answered_404_means_register_again() -> None:
    gateway = ScriptedGateway()
    async with neuron(gateway, timing=Timing(heartbeat=0.02)):
        gateway.answer("heartbeat", 404)
        await gateway.wait_posted("register", count=2)


async def test_C2_reference_D08_disconnect_for_good_ends_the_neuron_with_one_typed_error() -> None:
    gateway = ScriptedGateway()
    with pytest.raises(GatewayDisconnected, match="too old") as caught:
        async with neuron(gateway):
            gateway.disconnect("too old", code="OLD", reconnectable=False)
            await anyio.sleep_forever()
    assert caught.value.code == "OLD"


async def test_C2_a_fatal_error_drains_before_it_is_raised() -> None:
    steered = SteeredHandler()
    gateway = ScriptedGateway()
    with pytest.raises(GatewayDisconnected):
        async with neuron(gateway, steered.capability):
            gateway.lease("l1", capability="test/steered")
            gateway.lease("l2", capability="test/steered")
            await steered.wait_started(1)
            gateway.disconnect("go", reconnectable=False)
            try:
                await anyio.sleep_forever()
            finally:
                steered.finish("l1")
    assert gateway.posted("ack", lease_id="l1")
    assert gateway.posted("nack", lease_id="l2")[0]["code"] == "NEURON_DRAINING"


async def test_C7_after_a_broken_stream_it_connects_registers_and_goes_on() -> None:
    steered = SteeredHandler()
    gateway = ScriptedGateway()
    seen: list[events.Event] = []
    async with neuron(gateway, steered.capability, on_event=seen.append):
        gateway.lease("l1", capability="test/steered")
        await steered.wait_started(1)
        gateway.transport.break_stream(TransportError("reset"))
        await gateway.wait_posted("register", count=2)
        assert steered.running == 1
        steered.finish("l1")
        assert (await gateway.wait_result("l1"))["type"] == "ack"
    kinds = [type(event).__name__ for event in seen]
    assert kinds.index("Disconnected") < kinds.index("Reconnecting")
    assert kinds.count("Connected") == 2


async def test_C7_results_are_delivered_while_the_stream_is_down() -> None:
    steered = SteeredHandler()
    gateway = ScriptedGateway()
    slow = Timing(reconnect=Backoff(initial=30, maximum=30))
    async with neuron(gateway, steered.capability, timing=slow):
        gateway.lease("l1", capability="test/steered")
        await steered.wait_started(1)
        gateway.transport.break_stream()
        await settle()
        steered.finish("l1")
        assert (await gateway.wait_result("l1"))["type"] == "ack"


async def test_disconnect_that_allows_it_reconnects() -> None:
    gateway = ScriptedGateway()
    async with neuron(gateway):
        gateway.disconnect("restart")
        await gateway.wait_posted("register", count=2)


async def test_C8_reference_D41_unknown_types_and_members_are_tolerated_and_shown() -> None:
    gateway = ScriptedGateway()
    seen: list[events.Event] = []
    async with neuron(gateway, on_event=seen.append):
        gateway.send(type="brand-new", secret="x")
        gateway.lease("l1", value=1, brandNew=True)
        assert (await gateway.wait_result("l1"))["type"] == "ack"
    raw = [event.raw for event in seen if isinstance(event, events.FrameReceived) and event.type == "brand-new"]
    assert [json.loads(text) for text in raw if text is not None] == [{"type": "brand-new", "secret": "x"}]
    assert "secret" not in repr(seen)


@pytest.mark.parametrize("document", [b"[]", b"5", b"null", b'{"type":[]}', b"{", b"[" * 200_000, b"\xff"])
async def test_C8_an_unreadable_frame_is_dropped_with_an_event_and_the_stream_lives(document: bytes) -> None:
    gateway = ScriptedGateway()
    seen: list[events.Event] = []
    async with neuron(gateway, on_event=seen.append):
        gateway.transport.push(document)
        gateway.lease("l1", value=1)
        assert (await gateway.wait_result("l1"))["type"] == "ack"
    assert [event.size for event in seen if isinstance(event, events.FrameDropped)] == [len(document)]
    assert sum(isinstance(event, events.Connected) for event in seen) == 1


async def test_C8_a_malformed_lease_whose_id_can_be_read_is_given_back() -> None:
    gateway = ScriptedGateway()
    async with neuron(gateway):
        gateway.send(type="lease", lease={"leaseId": "l1", "task": {"taskId": 5}}, sentAt=stamp())
        nack = await gateway.wait_result("l1")
    assert (nack["kind"], nack["code"]) == ("retryable", "MALFORMED_LEASE")


async def test_C8_a_malformed_repeat_of_a_lease_that_is_held_changes_nothing() -> None:
    steered = SteeredHandler()
    gateway = ScriptedGateway()
    async with neuron(gateway, steered.capability):
        gateway.lease("l1", capability="test/steered")
        await steered.wait_started(1)
        gateway.send(type="lease", lease={"leaseId": "l1"}, sentAt=stamp())
        await settle()
        steered.finish("l1")
        assert (await gateway.wait_result("l1"))["type"] == "ack"


async def test_C8_an_event_over_the_size_limit_is_refused_for_good() -> None:
    gateway = ScriptedGateway()
    async with neuron(gateway):
        head = b'{"type":"lease","lease":{"leaseId":"l1","expiresAt":"2026-'
        gateway.transport.push(Oversized(size=10**9, head=head))
        nack = await gateway.wait_result("l1")
    assert (nack["kind"], nack["code"]) == ("terminal", "LEASE_TOO_LARGE")


async def test_C11_reference_D50_a_smaller_grant_limits_what_runs() -> None:
    steered = SteeredHandler(concurrency=4)
    gateway = ScriptedGateway(confirms=False)
    async with anyio.create_task_group() as group:

        async def grant() -> None:
            await gateway.wait_posted("register")
            gateway.registered([{"type": "test/steered", "scope": "any", "concurrency": 1}])

        group.start_soon(grant)
        async with neuron(gateway, steered.capability) as running:
            assert running.session.capabilities == {"test/steered": 1}
            for number in range(3):
                gateway.lease(f"l{number}", capability="test/steered")
            await steered.wait_started(1)
            await settle()
            assert steered.running == 1
            for number in range(3):
                steered.finish(f"l{number}")
            await gateway.wait_posted("ack", count=3)
    assert steered.most == 1


async def test_C11_what_was_not_granted_is_a_warning_and_its_leases_go_back(caplog: pytest.LogCaptureFixture) -> None:
    steered = SteeredHandler()
    gateway = ScriptedGateway(confirms=False)
    async with anyio.create_task_group() as group:

        async def grant() -> None:
            await gateway.wait_posted("register")
            gateway.registered([{"type": "test/echo", "scope": "any", "concurrency": 4}])

        group.start_soon(grant)
        with caplog.at_level(logging.WARNING, "neuron_anyio"):
            async with neuron(gateway, echo, steered.capability):
                gateway.lease("l1", capability="test/steered")
                assert (await gateway.wait_result("l1"))["code"] == "CAPABILITY_REVOKED"
    assert any("test/steered" in record.getMessage() for record in caplog.records)


async def test_C12_reference_D09_a_revoked_capability_ends_its_queue_and_is_left_out_of_the_next_register() -> None:
    steered = SteeredHandler()
    gateway = ScriptedGateway()
    async with neuron(gateway, echo, steered.capability):
        gateway.lease("l1", capability="test/steered")
        gateway.lease("l2", capability="test/steered")
        await steered.wait_started(1)
        gateway.revoke("test/steered", "policy")
        assert (await gateway.wait_result("l2"))["code"] == "CAPABILITY_REVOKED"
        steered.finish("l1")
        assert (await gateway.wait_result("l1"))["type"] == "ack"
        gateway.transport.break_stream()
        registers = await gateway.wait_posted("register", count=2)
    assert [offer["type"] for offer in registers[-1]["capabilities"]] == ["test/echo"]


async def test_C12_with_nothing_left_to_offer_it_stays_connected_and_warns(caplog: pytest.LogCaptureFixture) -> None:
    gateway = ScriptedGateway()
    with caplog.at_level(logging.WARNING, "neuron_anyio"):
        async with neuron(gateway) as running:
            gateway.revoke("test/echo", "policy")
            await settle()
            assert running.snapshot().connection == "registered"
    assert any("nothing is left to offer" in record.getMessage() for record in caplog.records)


async def test_C5_the_first_third_and_tenth_attempt_warn_with_the_origin(caplog: pytest.LogCaptureFixture) -> None:
    gateway = ScriptedGateway()
    attempts = 0

    def count(event: events.Event) -> None:
        nonlocal attempts
        attempts += isinstance(event, events.Reconnecting)

    timing = Timing(reconnect=Backoff(initial=0.001, maximum=0.001))
    with caplog.at_level(logging.WARNING, "neuron_anyio"):
        async with neuron(gateway, on_event=count, timing=timing):
            while attempts < 10:
                gateway.transport.break_stream()
                await gateway.wait_posted("register", count=len(gateway.posted("register")) + 1)
    warned = [record.getMessage() for record in caplog.records if "no stream from memory:test" in record.getMessage()]
    assert len(warned) == 3


async def test_C6_three_heartbeats_without_an_answer_end_the_stream() -> None:
    gateway = ScriptedGateway()
    gateway.always_answer("heartbeat", TransportError("no answer"))
    async with neuron(gateway, timing=Timing(heartbeat=0.01, reconnect=FAST.reconnect)):
        await gateway.wait_posted("register", count=2)


async def test_C6_stream_idle_ends_a_silent_stream() -> None:
    gateway = ScriptedGateway()
    async with neuron(gateway, timing=Timing(stream_idle=0.05, reconnect=FAST.reconnect)):
        await gateway.wait_posted("register", count=2)


async def test_C9_reprs_events_and_logs_hold_no_input_and_no_output(caplog: pytest.LogCaptureFixture) -> None:
    gateway = ScriptedGateway()
    seen: list[events.Event] = []
    with caplog.at_level(logging.DEBUG):
        async with neuron(gateway, on_event=seen.append, limits=Limits(queue=100)) as running:
            gateway.lease("l1", value={"planted": "s3cr3t"})
            gateway.lease("l2", value={"planted": "s3cr3t"}, input_schema={"type": "array"})
            gateway.lease("l3", value={"planted": "s3cr3t"}, output_schema={"const": 1})
            await gateway.wait_posted("ack")
            await gateway.wait_posted("nack", count=2)
            shown = repr(running.snapshot()) + repr(seen)
    assert "s3cr3t" not in shown + caplog.text
    assert "s3cr3t" not in json.dumps(gateway.posted("nack"))


async def test_a_listener_follows_the_events_from_then_on() -> None:
    gateway = ScriptedGateway()
    async with neuron(gateway) as running:
        with running.events() as stream:
            gateway.lease("l1", value=1)
            with anyio.fail_after(5):
                async for event in stream:
                    if isinstance(event, events.ResultAccepted):
                        break
    assert event.lease_id == "l1"


async def test_the_stream_of_events_ends_with_the_neuron() -> None:
    gateway = ScriptedGateway()
    async with neuron(gateway) as running:
        stream = running.events()
        gone = running.events()
        gone.close()
        gateway.lease("l1", value=1)
        await gateway.wait_result("l1")
    with anyio.fail_after(5):
        async with stream:
            seen = [type(event).__name__ async for event in stream]
    assert seen[-1] == "Draining"
    with running.events() as late:
        assert [event async for event in late] == []


async def test_a_slow_listener_misses_events_and_the_log_says_so(caplog: pytest.LogCaptureFixture) -> None:
    gateway = ScriptedGateway()
    async with neuron(gateway) as running:
        with running.events(max_buffer=1):
            gateway.lease("l1", value=1)
            await gateway.wait_result("l1")
    assert "too slow" in caplog.text


async def test_an_on_event_that_raises_does_not_hurt(caplog: pytest.LogCaptureFixture) -> None:
    def broken(event: events.Event) -> None:
        raise ValueError(event)

    gateway = ScriptedGateway()
    async with neuron(gateway, on_event=broken):
        gateway.lease("l1", value=1)
        await gateway.wait_result("l1")
    assert "on_event raised" in caplog.text


async def test_an_intake_that_breaks_in_an_unforeseen_way_is_one_neuron_error() -> None:
    gateway = ScriptedGateway()

    class Broken(type(gateway.transport)):  # type: ignore[misc]  # mypy takes no computed base
        def subscribe(self, neuron_id: str) -> Any:
            raise ZeroDivisionError

    gateway.transport.__class__ = Broken
    with pytest.raises(NeuronError) as caught:
        async with neuron(gateway):
            raise AssertionError
    assert type(caught.value) is NeuronError
    assert "ZeroDivisionError" in str(caught.value)
