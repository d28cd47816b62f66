"""Faults that a review found, each as small as it gets."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import anyio
import msgspec
import pytest

from neuron_anyio import (
    Backoff,
    BigBrainBroker,
    LeaseContext,
    Limits,
    Timing,
    TransportError,
    capability,
    events,
    open_neuron,
)
from neuron_anyio.abc import EventStream, Oversized, Reply
from neuron_anyio.brokers.memory import MemoryBroker
from neuron_anyio.testing.scripted_gateway import ScriptedGateway
from neuron_anyio.testing.steered_handler import SteeredHandler
from tests.runtime.handlers import echo, settle

pytestmark = pytest.mark.anyio

FAST = Backoff(initial=0.01, maximum=0.02)


def neuron(gateway: ScriptedGateway, *capabilities: Any, **options: Any) -> Any:
    return open_neuron(gateway.transport, neuron_id="neuron-1", capabilities=capabilities or [echo], **options)


# Heartbeats


async def test_H1_heartbeats_go_out_while_leases_start_without_a_pause() -> None:
    held = SteeredHandler()

    @capability("test/fast")
    async def fast(_: Any) -> None:
        return None

    gateway = ScriptedGateway()
    with anyio.fail_after(20):
        async with neuron(gateway, held.capability, fast, timing=Timing(heartbeat=0.01)):
            gateway.lease("held", capability="test/steered")
            await held.wait_started()
            for number in range(1000):
                gateway.lease(f"fast-{number}", capability="test/fast")
            before = len(gateway.posted("heartbeat"))
            await gateway.wait_result("fast-999")
            beats = len(gateway.posted("heartbeat")) - before
            held.finish("held")
    assert beats >= 3


async def test_H1_a_heartbeat_that_hangs_does_not_delay_the_first_one_of_a_shorter_lease() -> None:
    held = SteeredHandler()
    gateway = ScriptedGateway()
    with anyio.fail_after(5):
        async with neuron(gateway, held.capability, timing=Timing(heartbeat=2.0)):
            gateway.hold("heartbeat")
            await gateway.wait_posted("heartbeat")
            gateway.lease("short", capability="test/steered", ttl=0.6)
            await held.wait_started()
            with anyio.move_on_after(0.5):  # the lease lives for 0.6 s, its first heartbeat is due after 0.2 s
                await gateway.wait_posted("heartbeat", count=2)
            beats = len(gateway.posted("heartbeat"))
            gateway.release("heartbeat")
            held.finish("short")
    assert beats >= 2


async def test_H1_a_lease_of_milliseconds_does_not_flood_the_gateway_with_heartbeats() -> None:
    held = SteeredHandler(on_lease_lost="continue")
    gateway = ScriptedGateway()
    with anyio.fail_after(5):
        async with neuron(gateway, held.capability):
            number = 0
            while not held.started:  # on a busy machine such a lease may be over before its turn comes
                number += 1
                gateway.lease(f"tiny-{number}", capability="test/steered", ttl=0.01)
                await settle()
            await anyio.sleep(0.3)
            beats = len(gateway.posted("heartbeat"))
            held.finish(held.started[0])
    assert beats < 30


async def test_C8_an_oversized_lease_puts_no_entry_without_a_task_into_the_heartbeats() -> None:
    held = SteeredHandler()
    gateway = ScriptedGateway()
    gateway.always_answer("nack", 503)
    with anyio.fail_after(5):
        async with neuron(gateway, held.capability, timing=Timing(heartbeat=0.02, drain=0.2, reconnect=FAST)):
            gateway.lease("held", capability="test/steered")
            await held.wait_started()
            gateway.transport.push(Oversized(size=10**9, head=b'{"type":"lease","lease":{"leaseId":"big","expir'))
            await gateway.wait_posted("nack", lease_id="big")
            beats = await gateway.wait_posted("heartbeat", count=len(gateway.posted("heartbeat")) + 2)
            held.finish("held")
    # A gateway that keeps to the specification (taskId has one character or more) refuses the whole frame.
    assert [entry["taskId"] for entry in beats[-1]["inFlight"]] == ["task-held"]


async def test_L7_a_lease_that_was_renewed_after_it_was_lost_can_be_lost_again() -> None:
    held = SteeredHandler(on_lease_lost="continue")
    gateway = ScriptedGateway()
    gateway.always_answer("heartbeat", 503)
    lost = anyio.Semaphore(0)

    def note(event: events.Event) -> None:
        if isinstance(event, events.LeaseLost):
            lost.release()

    with anyio.fail_after(5):
        async with neuron(gateway, held.capability, on_event=note):
            gateway.lease("l0", capability="test/steered", ttl=0.2)
            await held.wait_started()
            await lost.acquire()
            gateway.answer("heartbeat", 200)
            with anyio.move_on_after(2) as waiting:
                await lost.acquire()
            held.finish("l0")
    assert not waiting.cancelled_caught


# Delivery


async def test_L3_5_a_dropped_retryable_result_does_not_hold_up_the_drain(caplog: pytest.LogCaptureFixture) -> None:
    runs = 0

    @capability("test/flaky")
    async def flaky(_: Any) -> str:
        nonlocal runs
        runs += 1
        if runs == 1:
            raise ValueError("the first try")
        return "ok"

    gateway = ScriptedGateway()
    gateway.always_answer("nack", 503)
    with anyio.fail_after(3):
        async with neuron(gateway, flaky, timing=Timing(drain=30.0, reconnect=FAST)):
            gateway.lease("l1", capability="test/flaky", task_id="T")
            await gateway.wait_posted("nack")
            gateway.lease("l2", capability="test/flaky", task_id="T")
            assert (await gateway.wait_result("l2"))["type"] == "ack"
    assert not [record for record in caplog.records if "were not delivered" in record.getMessage()]


async def test_L9_redeliveries_do_not_multiply_the_retries_of_one_result() -> None:
    gateway = ScriptedGateway()
    gateway.always_answer("ack", 503)
    with anyio.fail_after(10):
        slow = Backoff(initial=0.2, maximum=0.2)
        async with neuron(gateway, timing=Timing(drain=0.1, reconnect=slow)):
            gateway.lease("l0", task_id="T")
            await gateway.wait_posted("ack")
            for number in range(30):
                gateway.lease(f"again-{number}", task_id="T")
                await settle()
            before = len(gateway.posted("ack"))
            await anyio.sleep(0.6)
            tries = len(gateway.posted("ack")) - before
    assert tries < 30  # 0.1 s apart on average


async def test_L2_the_same_lease_given_back_and_sent_again_at_once_does_not_spin() -> None:
    gateway = ScriptedGateway()

    def again(path: str, _: dict[str, Any]) -> None:
        if path == "nack":
            gateway.lease("l1", capability="un/known")

    gateway.on_post = again
    with anyio.fail_after(5):
        async with neuron(gateway):
            gateway.lease("l1", capability="un/known")
            await anyio.sleep(0.25)
            rounds = len(gateway.posted("nack"))
            gateway.on_post = lambda _path, _frame: None
    assert rounds < 6


async def test_C9_a_gateway_that_quotes_an_output_does_not_get_it_into_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Validation errors of widespread frameworks hold the refused value, as `input`."""
    caplog.set_level("DEBUG")
    gateway = ScriptedGateway()
    gateway.answer("ack", Reply(status=422, text='{"detail":[{"loc":["body"],"input":"my-secret-output"}]}'))
    async with neuron(gateway):
        gateway.lease("l0", value="my-secret-output")
        await gateway.wait_posted("nack")
    assert not [record for record in caplog.records if "my-secret-output" in record.getMessage()]


# One bad lease never stops the neuron


async def test_L11_an_input_that_is_refused_when_its_slot_comes_free_is_a_mismatch_and_no_end() -> None:
    seen: set[str] = set()

    class Fresh(msgspec.Struct):
        name: str

        def __post_init__(self) -> None:
            if self.name in seen:
                raise ValueError("too late")  # as a check of a deadline would, on the second look
            seen.add(self.name)

    gate = anyio.Event()

    @capability("test/fresh")
    async def fresh(_: Fresh) -> None:
        await gate.wait()

    gateway = ScriptedGateway()
    with anyio.fail_after(5):
        async with neuron(gateway, fresh, echo):
            gateway.lease("l1", capability="test/fresh", value={"name": "first"})
            gateway.lease("l2", capability="test/fresh", value={"name": "second"})
            await settle()
            gate.set()
            assert (await gateway.wait_result("l2"))["code"] == "INPUT_SCHEMA_MISMATCH"
            gateway.lease("l3")
            assert (await gateway.wait_result("l3"))["type"] == "ack"


class Odd(BaseException):
    """Not an Exception, as `pytest.fail` and some libraries raise them."""


@pytest.mark.parametrize("runs", ["loop", "thread"])
async def test_L11_4_an_exception_that_is_no_exception_is_one_tasks_failure(runs: Any) -> None:
    async def in_loop(_: Any) -> None:
        raise Odd

    def in_thread(_: Any) -> None:
        raise Odd

    odd: Any = capability("test/odd")(in_loop if runs == "loop" else in_thread)
    gateway = ScriptedGateway()
    with anyio.fail_after(5):
        async with neuron(gateway, odd, echo):
            gateway.lease("l1", capability="test/odd")
            assert (await gateway.wait_result("l1"))["code"] == "HANDLER_THREW"
            gateway.lease("l2")
            assert (await gateway.wait_result("l2"))["type"] == "ack"


async def test_L11_4_a_group_that_is_nested_too_deeply_to_be_searched_is_one_tasks_failure() -> None:
    @capability("test/deep")
    async def deep(_: Any) -> None:
        error: Exception = ValueError("x")
        for _number in range(3000):
            error = ExceptionGroup("g", [error])
        raise error

    gateway = ScriptedGateway()
    with anyio.fail_after(5):
        async with neuron(gateway, deep, echo):
            gateway.lease("l1", capability="test/deep")
            assert (await gateway.wait_result("l1"))["code"] == "HANDLER_THREW"
            gateway.lease("l2")
            assert (await gateway.wait_result("l2"))["type"] == "ack"


@capability("test/exits", runs="process")
def exits(_: Any) -> None:
    raise SystemExit(3)


async def test_L11_6_system_exit_in_a_process_is_one_tasks_failure() -> None:
    gateway = ScriptedGateway()
    with anyio.fail_after(20):
        async with neuron(gateway, exits, echo):
            gateway.lease("l1", capability="test/exits")
            nacks = await gateway.wait_posted("nack", lease_id="l1")
            assert (nacks[0]["kind"], nacks[0]["code"]) == ("retryable", "HANDLER_THREW")
            gateway.lease("l2")
            assert (await gateway.wait_result("l2"))["type"] == "ack"


class Unspeakable:
    def __str__(self) -> str:
        raise RuntimeError


@pytest.mark.parametrize("update", [{"percent": 10**400}, {"message": Unspeakable()}, {"message": "\ud800"}])
async def test_H3_progress_that_cannot_be_said_fails_neither_handler_nor_log(
    update: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    @capability("test/says")
    async def says(_: Any, ctx: LeaseContext) -> None:
        ctx.progress(**update)

    gateway = ScriptedGateway()
    async with neuron(gateway, says):
        gateway.lease("l1", capability="test/says")
        assert (await gateway.wait_result("l1"))["type"] == "ack"
    assert not [record for record in caplog.records if record.exc_info]


async def test_a_cancel_from_on_event_while_a_lease_is_admitted_does_not_end_the_neuron() -> None:
    broker = MemoryBroker()
    task = broker.submit("test/echo", 1)

    def call_off(event: events.Event) -> None:
        if isinstance(event, events.LeaseAdmitted):
            broker.cancel(task)

    with anyio.fail_after(5):
        async with open_neuron(broker, neuron_id="neuron-1", capabilities=[echo], on_event=call_off):
            await broker.wait_settled(task)
    assert type(task.outcome).__name__ == "Cancelled"


# Limits and connection


async def test_L5_a_limit_raised_between_register_and_its_confirmation_holds() -> None:
    steered = SteeredHandler(concurrency=1)
    gateway = ScriptedGateway()
    with anyio.fail_after(5):
        async with neuron(gateway, steered.capability, timing=Timing(reconnect=FAST)) as running:
            gateway.confirms = False
            gateway.transport.break_stream()
            await gateway.wait_posted("register", count=2)
            await running.update_capability("test/steered", concurrency=4)
            await gateway.wait_posted("update-capability")
            gateway.registered(gateway.posted("register")[1]["capabilities"])
            await settle()
            assert running.snapshot().capabilities["test/steered"].limit == 4


async def test_C12_a_revoked_capability_is_not_announced_by_a_changed_limit() -> None:
    gateway = ScriptedGateway()
    gateway.always_answer("update-capability", 403)
    with anyio.fail_after(5):
        async with neuron(gateway, timing=Timing(reconnect=FAST)) as running:
            gateway.revoke("test/echo", "policy")
            await settle()
            await running.update_capability("test/echo", concurrency=2)
            await settle()
    assert gateway.posted("update-capability") == []


async def test_C2_two_conflicts_with_a_long_outage_between_them_are_not_sixty_seconds_of_conflict(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("neuron_anyio.brokers._bigbrain_answers.CONFLICT_FOR", 0.3)
    gateway = ScriptedGateway()
    down = [TransportError("down")] * 15
    gateway.answer("register", 200, 409, *down, 409)
    with anyio.fail_after(5):
        async with neuron(gateway, timing=Timing(reconnect=Backoff(initial=0.1, maximum=0.1))):
            gateway.transport.break_stream()
            await gateway.wait_posted("register", count=19)
            await settle()


async def test_reference_D45_a_broker_can_be_opened_a_second_time() -> None:
    gateway = ScriptedGateway()
    broker = BigBrainBroker(gateway.transport)
    for _ in range(2):
        with anyio.fail_after(3):
            async with open_neuron(broker, neuron_id="neuron-1", capabilities=[echo]):
                pass


def test_a_generator_function_is_refused_at_the_decorator() -> None:
    async def steps(_: Any) -> AsyncGenerator[int]:
        yield 1

    with pytest.raises(TypeError):
        capability("test/steps")(steps)


# The end


class SlowRoad:
    """A transport whose opening or closing takes for ever."""

    origin = "memory:test"

    def __init__(self, gateway: ScriptedGateway, when: str) -> None:
        self._inner = gateway.transport
        self._when = when

    @asynccontextmanager
    async def open(self) -> AsyncGenerator[None]:
        async with anyio.create_task_group() as group:  # as a transport with a process of its own has
            group.start_soon(anyio.sleep_forever)
            if self._when == "opening":
                await anyio.sleep(5)
            yield
            if self._when == "closing":
                await anyio.sleep(5)
            group.cancel_scope.cancel()

    def subscribe(self, neuron_id: str) -> AbstractAsyncContextManager[EventStream]:
        return self._inner.subscribe(neuron_id)

    async def post(self, path: str, body: bytes) -> Reply:
        return await self._inner.post(path, body)


@pytest.mark.parametrize("when", ["opening", "closing"])
async def test_D3_a_transport_that_hangs_on_opening_or_closing_cannot_make_the_exit_hang(when: str) -> None:
    gateway = ScriptedGateway()
    begun = anyio.current_time()
    with anyio.move_on_after(0.1):
        async with open_neuron(SlowRoad(gateway, when), neuron_id="neuron-1", capabilities=[echo]):
            await anyio.sleep_forever()
    assert anyio.current_time() - begun < 4


async def test_D2_a_child_task_that_cleans_up_for_longer_than_the_grace_does_not_break_the_backend() -> None:
    cleaned: list[str] = []

    @capability("test/parent")
    async def parent(_: Any) -> None:
        async def child() -> None:
            try:
                await anyio.sleep_forever()
            finally:
                with anyio.CancelScope(shield=True):
                    await anyio.sleep(0.5)
                cleaned.append("cleaned")

        async with anyio.create_task_group() as group:
            group.start_soon(child)

    gateway = ScriptedGateway()
    with anyio.fail_after(5):
        async with neuron(gateway, parent, timing=Timing(drain=0.1)):
            gateway.lease("l0", capability="test/parent")
            await settle()
    assert cleaned == ["cleaned"]


async def test_D2_a_stubborn_handler_with_a_task_group_of_its_own_is_left_behind_without_harm() -> None:
    @capability("test/parent")
    async def parent(_: Any) -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(anyio.sleep_forever)
            while True:
                try:
                    await anyio.sleep(0.001)
                except anyio.get_cancelled_exc_class():
                    continue

    gateway = ScriptedGateway()
    with anyio.fail_after(5):
        async with neuron(gateway, parent, timing=Timing(drain=0.1)):
            gateway.lease("l0", capability="test/parent")
            await settle()


async def test_D2_a_shielded_clean_up_is_not_cut_between_two_of_its_steps() -> None:
    cleaned: list[str] = []

    @capability("test/careful")
    async def careful(_: Any) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.sleep(0.3)
                await anyio.sleep(0.3)
                cleaned.append("cleaned")

    gateway = ScriptedGateway()
    with anyio.fail_after(5):
        async with neuron(gateway, careful, timing=Timing(drain=0.1)):
            gateway.lease("l0", capability="test/careful")
            await settle()
    assert cleaned == ["cleaned"]


@pytest.mark.parametrize("anyio_backend", ["trio"])  # asyncio lets SystemExit out of its loop at once
async def test_D3_nothing_starts_any_more_when_a_handler_ends_the_program() -> None:
    """On trio a SIGINT is raised in whatever runs, which may be a handler."""
    started: list[str] = []

    @capability("test/ends")
    async def ends(_: Any, ctx: LeaseContext) -> None:
        started.append(ctx.lease_id)
        raise SystemExit(3)

    gateway = ScriptedGateway()
    with anyio.fail_after(5):
        try:
            async with neuron(gateway, ends, limits=Limits(queue=10)):
                for number in range(5):
                    gateway.lease(f"l{number}", capability="test/ends")
                await anyio.sleep_forever()
        except BaseException as exc:  # SystemExit is the one that is wanted, alone or in a group
            if type(exc) is not SystemExit:
                raise AssertionError(f"{exc!r} came out") from exc
    assert started == ["l0"]
