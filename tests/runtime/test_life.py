"""Entering, leaving, draining, and which exception comes out (promises D1 to D3, D5)."""

from __future__ import annotations

import logging
import threading
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest

from neuron_anyio import (
    Backoff,
    CancelReason,
    GatewayDisconnected,
    LeaseContext,
    Timing,
    TransportError,
    capability,
    events,
    open_neuron,
)
from neuron_anyio.testing.scripted_gateway import ScriptedGateway
from neuron_anyio.testing.steered_handler import SteeredHandler
from tests.runtime.handlers import echo, settle

pytestmark = pytest.mark.anyio


def neuron(gateway: ScriptedGateway, *capabilities: Any, **options: Any) -> Any:
    return open_neuron(gateway.transport, neuron_id="neuron-1", capabilities=capabilities or [echo], **options)


async def test_D1_leaving_gives_queued_leases_back_and_lets_running_ones_finish() -> None:
    steered = SteeredHandler()
    gateway = ScriptedGateway()
    async with anyio.create_task_group() as group, neuron(gateway, steered.capability):
        for number in range(4):
            gateway.lease(f"l{number}", capability="test/steered")
        await steered.wait_started(1)

        async def finish_later() -> None:
            await gateway.wait_posted("nack", count=3)
            gateway.lease("late", capability="test/steered")
            await gateway.wait_posted("nack", count=4)
            steered.finish("l0")

        group.start_soon(finish_later)
    assert {nack["code"] for nack in gateway.posted("nack")} == {"NEURON_DRAINING"}
    assert gateway.posted("ack", lease_id="l0")
    assert steered.started == ["l0"]


async def test_D1_reference_D03_heartbeats_and_cancels_live_to_the_end_of_the_drain() -> None:
    steered = SteeredHandler()
    gateway = ScriptedGateway()
    quick = Timing(heartbeat=0.02)
    async with anyio.create_task_group() as group, neuron(gateway, steered.capability, timing=quick):
        gateway.lease("l0", capability="test/steered")
        await steered.wait_started(1)

        async def cancel_later() -> None:
            seen = len(gateway.posted("heartbeat"))
            beats = await gateway.wait_posted("heartbeat", count=seen + 4)
            assert beats[-1]["inFlight"]
            gateway.cancel("l0")

        group.start_soon(cancel_later)
    assert gateway.posted("nack", lease_id="l0")[0]["kind"] == "cancelled"


async def test_D1_reference_D27_what_takes_longer_than_the_budget_is_cut_and_goes_back() -> None:
    steered = SteeredHandler(concurrency=2)
    gateway = ScriptedGateway()
    async with neuron(gateway, steered.capability, timing=Timing(drain=0.2)):
        gateway.lease("l0", capability="test/steered")
        gateway.lease("l1", capability="test/steered")
        await steered.wait_started(2)
    nacks = gateway.posted("nack")
    assert [(nack["kind"], nack["code"]) for nack in nacks] == [("retryable", "NEURON_SHUTDOWN")] * 2
    assert {context.cancel_reason for context in steered.contexts} == {CancelReason.SHUTDOWN}


async def test_L11_13_a_valid_value_within_the_grace_is_acked() -> None:
    @capability("test/graceful")
    async def graceful(_: Any) -> str:
        try:
            await anyio.sleep_forever()
        except anyio.get_cancelled_exc_class():
            return "half done"
        raise AssertionError

    gateway = ScriptedGateway()
    async with neuron(gateway, graceful, timing=Timing(drain=2.0)):
        gateway.lease("l0", capability="test/graceful")
        await settle()
    assert gateway.posted("ack")[0]["output"] == "half done"


async def test_D2_a_thread_that_does_not_end_costs_the_grace_and_the_log_names_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    gate = threading.Event()
    ended = threading.Event()

    @capability("test/thread")
    def thread(_: Any) -> None:
        gate.wait(30)
        ended.set()

    gateway = ScriptedGateway()
    seen: list[events.Event] = []
    with anyio.fail_after(5):
        async with neuron(gateway, thread, timing=Timing(drain=0.2), on_event=seen.append) as running:
            gateway.lease("l0", capability="test/thread")
            await settle()
    assert running.snapshot().left_behind == 1
    gate.set()
    await anyio.to_thread.run_sync(ended.wait)
    assert gateway.posted("nack")[0]["code"] == "NEURON_SHUTDOWN"
    assert any("l0" in record.getMessage() and record.levelno == logging.ERROR for record in caplog.records)
    assert [event.lease_id for event in seen if isinstance(event, events.HandlerBlocked)] == ["l0"]


async def test_D2_a_handler_that_swallows_cancellation_costs_the_grace_and_the_log_names_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    closed: list[str] = []

    @capability("test/stubborn")
    async def stubborn(_: Any) -> None:
        try:
            while True:
                try:
                    await anyio.sleep(0.001)
                except anyio.get_cancelled_exc_class():
                    continue
        finally:
            closed.append("closed")

    gateway = ScriptedGateway()
    with anyio.fail_after(5):
        async with neuron(gateway, stubborn, timing=Timing(drain=0.2)):
            gateway.lease("l0", capability="test/stubborn")
            await settle()
    assert gateway.posted("nack")[0]["code"] == "NEURON_SHUTDOWN"
    assert closed == ["closed"]
    assert any("l0" in record.getMessage() and record.levelno == logging.ERROR for record in caplog.records)


async def test_D1_results_are_delivered_within_the_budget_although_the_gateway_refuses_at_first() -> None:
    gateway = ScriptedGateway()
    gateway.answer("ack", 503, 503, 503)
    async with neuron(gateway, echo, timing=Timing(reconnect=Backoff(initial=0.01, maximum=0.02))):
        gateway.lease("l0", value=1)
        await gateway.wait_posted("ack")
    assert len(gateway.posted("ack")) == 4


async def test_D1_drain_on_request_lets_the_block_go_on() -> None:
    steered = SteeredHandler()
    gateway = ScriptedGateway()
    async with neuron(gateway, steered.capability) as running:
        gateway.lease("l0", capability="test/steered")
        await steered.wait_started(1)
        steered.finish("l0")
        await running.drain()
        assert gateway.posted("ack")
        assert running.snapshot().draining
        gateway.lease("l1", capability="test/steered")
        assert (await gateway.wait_result("l1"))["code"] == "NEURON_DRAINING"


async def test_D3_a_cancelled_block_cancels_handlers_at_once_and_says_last_words() -> None:
    steered = SteeredHandler()
    gateway = ScriptedGateway()
    with anyio.CancelScope() as scope:
        async with neuron(gateway, steered.capability):
            gateway.lease("l0", capability="test/steered")
            gateway.lease("l1", capability="test/steered")
            await steered.wait_started(1)
            scope.cancel()
            await anyio.sleep_forever()
    assert [nack["leaseId"] for nack in gateway.posted("nack")] == ["l0", "l1"]
    assert [nack["code"] for nack in gateway.posted("nack")] == ["NEURON_SHUTDOWN", "NEURON_DRAINING"]
    assert steered.started == ["l0"]


async def test_D3_a_transport_that_hangs_cannot_make_the_exit_hang() -> None:
    steered = SteeredHandler()
    gateway = ScriptedGateway()
    gateway.hold("nack")
    with anyio.fail_after(5), anyio.CancelScope() as scope:
        async with neuron(gateway, steered.capability):
            gateway.lease("l0", capability="test/steered")
            await steered.wait_started(1)
            scope.cancel()
    gateway.release("nack")


async def test_D3_a_cancellation_during_the_drain_ends_it() -> None:
    steered = SteeredHandler()
    gateway = ScriptedGateway()
    with anyio.fail_after(5), anyio.CancelScope() as scope:
        async with anyio.create_task_group() as group:

            async def cancel_later() -> None:
                await gateway.wait_posted("nack", lease_id="l1")
                scope.cancel()

            group.start_soon(cancel_later)
            async with neuron(gateway, steered.capability):
                gateway.lease("l0", capability="test/steered")
                gateway.lease("l1", capability="test/steered")
                await steered.wait_started(1)
    assert gateway.posted("nack", lease_id="l0")[0]["code"] == "NEURON_SHUTDOWN"


class BodyError(Exception):
    pass


async def test_D3_the_bodys_exception_comes_out_as_it_is() -> None:
    steered = SteeredHandler()
    gateway = ScriptedGateway()
    error = BodyError("mine")
    with pytest.raises(BodyError) as caught:
        async with neuron(gateway, steered.capability):
            gateway.lease("l0", capability="test/steered")
            await steered.wait_started(1)
            raise error
    assert caught.value is error
    assert gateway.posted("nack")[0]["code"] == "NEURON_SHUTDOWN"


async def test_a_group_that_the_body_raises_comes_out_as_that_group() -> None:
    gateway = ScriptedGateway()
    group = ExceptionGroup("mine", [BodyError("a"), BodyError("b")])
    with pytest.raises(ExceptionGroup) as caught:
        async with neuron(gateway):
            raise group
    assert caught.value is group


async def test_a_group_of_one_interrupt_that_the_body_raises_comes_out_as_that_group() -> None:
    gateway = ScriptedGateway()
    group = BaseExceptionGroup("mine", [KeyboardInterrupt()])
    caught: BaseException | None = None
    try:
        async with neuron(gateway):
            raise group
    except BaseException as exc:  # the interrupt in it must not end the test run
        caught = exc
    assert isinstance(caught, BaseExceptionGroup)  # trio's scopes hand on a copy of it
    assert (caught.message, caught.exceptions) == (group.message, group.exceptions)


async def test_a_fatal_error_and_a_body_that_fails_of_it_give_the_bodys_with_the_other_as_context() -> None:
    gateway = ScriptedGateway()
    with pytest.raises(BodyError) as caught:
        async with neuron(gateway):
            gateway.disconnect("go", reconnectable=False)
            try:
                await anyio.sleep_forever()
            finally:
                raise BodyError from None
    chain: list[BaseException | None] = [caught.value.__context__]
    while chain[-1] is not None:
        chain.append(chain[-1].__context__)
    assert any(isinstance(link, GatewayDisconnected) for link in chain)


async def test_keyboard_interrupt_in_the_body_is_not_translated() -> None:
    gateway = ScriptedGateway()
    caught: BaseException | None = None
    try:
        async with neuron(gateway):
            raise KeyboardInterrupt
    except BaseException as exc:  # the interrupt must not end the test run
        caught = exc
    assert type(caught) is KeyboardInterrupt


async def test_a_lifespan_gives_its_value_to_every_handler_and_ends_after_the_last() -> None:
    steps: list[str] = []

    @asynccontextmanager
    async def lifespan() -> AsyncGenerator[dict[str, int]]:
        steps.append("up")
        yield {"answer": 42}
        steps.append("down")

    @capability("test/state")
    async def state(_: Any, ctx: LeaseContext) -> int:
        await anyio.lowlevel.checkpoint()
        steps.append("ran")
        return int(ctx.state["answer"])

    gateway = ScriptedGateway()
    async with neuron(gateway, state, lifespan=lifespan):
        gateway.lease("l0", capability="test/state")
        assert (await gateway.wait_result("l0"))["output"] == 42
    assert steps == ["up", "ran", "down"]


async def test_a_lifespan_that_fails_is_the_callers_own_exception() -> None:
    @asynccontextmanager
    async def lifespan() -> AsyncGenerator[None]:
        if gateway.posts == []:
            raise BodyError
        yield

    gateway = ScriptedGateway()

    with pytest.raises(BodyError):
        async with neuron(gateway, lifespan=lifespan):
            raise AssertionError


async def test_after_its_end_a_neuron_says_so() -> None:
    gateway = ScriptedGateway()
    async with neuron(gateway) as running:
        assert running.snapshot().connection == "registered"
    assert running.snapshot().connection == "stopped"


async def test_a_fatal_error_is_logged_when_it_happens(caplog: pytest.LogCaptureFixture) -> None:
    gateway = ScriptedGateway()
    with pytest.raises(GatewayDisconnected):
        async with neuron(gateway):
            gateway.disconnect("go", reconnectable=False)
            await anyio.sleep_forever()
    assert [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]


async def test_pause_lets_what_arrives_wait_and_resume_starts_it() -> None:
    gateway = ScriptedGateway()
    async with neuron(gateway) as running:
        running.pause()
        gateway.lease("l0", value=1)
        await settle()
        assert gateway.posted("ack") == []
        assert running.snapshot().capabilities["test/echo"].queued == 1
        running.resume()
        assert (await gateway.wait_result("l0"))["type"] == "ack"


async def test_D5_a_stream_that_never_came_back_does_not_keep_the_neuron_from_leaving() -> None:
    gateway = ScriptedGateway()
    with anyio.fail_after(5):
        async with neuron(gateway, timing=Timing(reconnect=Backoff(initial=60, maximum=60))):
            gateway.transport.break_stream(TransportError("gone"))
            await settle()


BAD_ARGUMENTS: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"capabilities": []}, ValueError, "capabilities is empty"),
    ({"capabilities": [echo, echo]}, ValueError, "occurs twice"),
    ({"capabilities": [print]}, TypeError, "not made by @capability"),
    ({"neuron_id": ""}, ValueError, "neuron_id"),
    ({"neuron_id": "\ud800"}, ValueError, "surrogate"),
    ({"max_concurrency": 0}, ValueError, "max_concurrency"),
    ({"middleware": print}, TypeError, "middleware must be a sequence"),
    ({"middleware": [None]}, TypeError, "middleware must be a sequence"),
    ({"lifespan": 5}, TypeError, "lifespan must be a function"),
    ({"on_event": 5}, TypeError, "on_event must be a function"),
    ({"on_event": settle}, TypeError, "not `async def`"),
    ({"gateway": "127.0.0.1:8080"}, ValueError, "http://"),
    ({"gateway": "http://"}, ValueError, "names no host"),
    ({"gateway": "http://user:pass@host"}, ValueError, "credentials"),
    ({"gateway": "http://host:99999"}, ValueError, "port"),
    ({"gateway": "http://host", "auth": "two\nlines"}, ValueError, "line break"),
    ({"gateway": "http://host", "auth": ""}, ValueError, "empty"),
    ({"auth": "token"}, TypeError, "auth and http_client go with a URL"),
    ({"gateway": 5}, TypeError, "gateway must be"),
    ({"gateway": []}, TypeError, "gateway must be"),
]


@pytest.mark.parametrize(("change", "kind", "text"), BAD_ARGUMENTS)
async def test_reference_D49_bad_arguments_are_refused_before_anything_runs(
    change: dict[str, Any], kind: type[Exception], text: str
) -> None:
    options = {"gateway": ScriptedGateway().transport, "neuron_id": "neuron-1", "capabilities": [echo], **change}
    with pytest.raises(kind, match=text) as caught:
        async with open_neuron(**options):
            raise AssertionError
    assert "pass" not in str(caught.value)


async def test_D1_a_gateway_that_redelivers_at_once_does_not_make_the_drain_spin_or_last() -> None:
    gateway = ScriptedGateway()
    returned = 0

    def eager(path: str, frame: dict[str, Any]) -> None:
        nonlocal returned
        if path == "nack":
            returned += 1
            if gateway.transport.neuron_id is not None:
                gateway.lease(f"again-{returned}", task_id="t")

    gateway.on_post = eager
    begun = anyio.current_time()
    async with neuron(gateway, timing=Timing(drain=20.0)) as running:
        running.pause()
        gateway.lease("l0", task_id="t")
        await settle()
    assert anyio.current_time() - begun < 5
    assert 1 <= returned < 10
