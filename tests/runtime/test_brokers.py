"""The seam between a neuron and its task systems: a second, quite different broker, and two at once."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from neuron_anyio import (
    Backoff,
    BigBrainBroker,
    Broker,
    LeaseContext,
    MemoryTransport,
    RetryableFailure,
    Timing,
    Transport,
    TransportError,
    capability,
    open_neuron,
)
from neuron_anyio.abc import Reply
from neuron_anyio.brokers.memory import MemoryBroker
from neuron_anyio.model import Cancelled, Completed, Failed, FailureKind, GiveBack, GivenBack, Offer
from neuron_anyio.testing.scripted_gateway import ScriptedGateway
from neuron_anyio.testing.steered_handler import SteeredHandler
from tests.runtime.handlers import echo, settle

pytestmark = pytest.mark.anyio


def neuron(*brokers: Any, capabilities: Any, **options: Any) -> Any:
    return open_neuron(brokers, neuron_id="neuron-1", capabilities=capabilities, **options)


async def answer(path: str, body: bytes) -> Reply:
    return Reply(status=200)


def test_the_shipped_brokers_and_transports_are_what_the_seams_say() -> None:
    transport = MemoryTransport(answer)
    assert isinstance(transport, Transport)
    assert isinstance(BigBrainBroker(transport), Broker)
    assert isinstance(MemoryBroker(), Broker)


async def test_a_pull_broker_hands_out_no_more_than_there_are_free_slots() -> None:
    steered = SteeredHandler(concurrency=2)
    broker = MemoryBroker()
    async with neuron(broker, capabilities=[steered.capability]) as running:
        tasks = [broker.submit("test/steered", number) for number in range(5)]
        await steered.wait_started(2)
        await settle()
        assert sum(task.deliveries for task in tasks) == 2
        assert running.snapshot().capabilities["test/steered"].queued == 0
        for task in tasks:
            steered.finish(f"{task.task_id}/1")
        with anyio.fail_after(5):
            await broker.wait_settled(*tasks)
    assert [task.deliveries for task in tasks] == [1] * 5
    assert steered.most == 2


async def test_a_list_fans_out_into_several_outputs_in_its_order() -> None:
    broker = MemoryBroker(fans_out=True)
    async with neuron(broker, capabilities=[echo]):
        several, one, none = (broker.submit("test/echo", value) for value in ([{"n": 1}, None, "x"], "single", []))
        with anyio.fail_after(5):
            await broker.wait_settled(several, one, none)
    assert several.outputs == [{"n": 1}, None, "x"]
    assert one.outputs == ["single"]
    assert none.outputs == []


async def test_a_delivery_without_expiry_never_runs_out() -> None:
    lefts: list[float] = []

    @capability("test/left")
    async def left(_: Any, ctx: LeaseContext) -> None:
        lefts.append(ctx.time_left())

    broker = MemoryBroker()
    async with neuron(broker, capabilities=[left]):
        with anyio.fail_after(5):
            await broker.wait_settled(broker.submit("test/left", None))
    assert lefts == [float("inf")]


async def test_a_retryable_failure_counts_and_its_delay_is_kept() -> None:
    times: list[float] = []

    @capability("test/flaky")
    async def flaky(_: Any) -> str:
        times.append(anyio.current_time())
        if len(times) == 1:
            raise RetryableFailure("busy", after=0.1)
        return "done"

    broker = MemoryBroker()
    async with neuron(broker, capabilities=[flaky]):
        task = broker.submit("test/flaky", None)
        with anyio.fail_after(5):
            await broker.wait_settled(task)
    assert task.attempts == 1
    assert isinstance(task.outcome, Completed)
    assert times[1] - times[0] >= 0.1 - 1e-9  # a clock of whole milliseconds may hit it exactly


async def test_what_a_stop_cuts_goes_back_uncounted_and_a_second_neuron_finishes_it() -> None:
    steered = SteeredHandler()
    broker = MemoryBroker()
    async with neuron(broker, capabilities=[steered.capability], timing=Timing(drain=0.1)):
        task = broker.submit("test/steered", None)
        await steered.wait_started(1)
    assert (task.attempts, task.outcome) == (0, None)
    steered.finish(f"{task.task_id}/2")
    async with neuron(broker, capabilities=[steered.capability]):
        with anyio.fail_after(5):
            await broker.wait_settled(task)
    assert task.outputs == ["done"]


async def test_a_give_back_waits_for_its_delay() -> None:
    broker = MemoryBroker()
    ran: list[float] = []

    @capability("test/echo")
    async def late(_: Any) -> None:
        ran.append(anyio.current_time())

    async with neuron(broker, capabilities=[late]) as running:
        running.pause()
        task = broker.submit("test/echo", None)
        broker._hand_out(broker._waiting.pop()[2])
        given_back = GivenBack(cause=GiveBack.OVERLOADED, reason="full", delay=0.1)
        begun = anyio.current_time()
        # Settled behind the neuron's back: the book forgets the paused delivery with the neuron.
        assert (await broker.settle(f"{task.task_id}/1", given_back)).verdict.name == "ACCEPTED"
        assert broker._waiting[0][0] >= begun + 0.1
        assert ran == []


async def test_a_cancel_reaches_a_pulled_delivery() -> None:
    steered = SteeredHandler()
    broker = MemoryBroker()
    async with neuron(broker, capabilities=[steered.capability]):
        task = broker.submit("test/steered", None)
        await steered.wait_started(1)
        broker.cancel(task)
        with anyio.fail_after(5):
            await broker.wait_settled(task)
    assert task.outcome == Cancelled()


async def test_a_failure_keeps_its_kind_for_a_broker_that_is_not_bigbrain() -> None:
    @capability("test/typed")
    async def typed(value: int) -> int:
        return value

    broker = MemoryBroker()
    async with neuron(broker, capabilities=[typed]):
        task = broker.submit("test/typed", "text")
        with anyio.fail_after(5):
            await broker.wait_settled(task)
    assert isinstance(task.outcome, Failed)
    assert task.outcome.kind is FailureKind.INPUT_MISMATCH


async def test_two_brokers_share_the_slots_of_one_neuron() -> None:
    steered = SteeredHandler(concurrency=2)
    pull, push = MemoryBroker(), ScriptedGateway()
    async with neuron(pull, BigBrainBroker(push.transport), capabilities=[steered.capability]) as running:
        pulled = [pull.submit("test/steered", number) for number in range(2)]
        await steered.wait_started(2)
        push.lease("pushed", capability="test/steered")
        await settle()
        state = running.snapshot().capabilities["test/steered"]
        assert (state.running, state.queued) == (2, 1)
        late = pull.submit("test/steered", "late")
        await settle()
        assert late.deliveries == 0, "the pushed lease came first"
        steered.finish(f"{pulled[0].task_id}/1")
        await steered.wait_started(3)
        assert steered.started[2] == "pushed"
        for lease_id in ("pushed", f"{pulled[1].task_id}/1", f"{late.task_id}/1"):
            steered.finish(lease_id)
        assert (await push.wait_result("pushed"))["output"] == "done"
        with anyio.fail_after(5):
            await pull.wait_settled(*pulled, late)
    assert steered.most == 2


async def test_two_brokers_may_use_the_same_ids_for_different_leases() -> None:
    one, two = ScriptedGateway(), ScriptedGateway()
    async with neuron(BigBrainBroker(one.transport), BigBrainBroker(two.transport), capabilities=[echo]):
        one.lease("l1", value=1, task_id="t")
        two.lease("l1", value=2, task_id="t")
        assert (await one.wait_result("l1"))["output"] == 1
        assert (await two.wait_result("l1"))["output"] == 2


async def test_one_broker_that_ends_for_good_ends_the_neuron_and_the_other_is_drained() -> None:
    from neuron_anyio import RegistrationRejected

    refusing, healthy = ScriptedGateway(), MemoryBroker()
    refusing.always_answer("register", 403)
    with pytest.raises(RegistrationRejected):
        async with neuron(BigBrainBroker(refusing.transport), healthy, capabilities=[echo]):
            raise AssertionError


async def test_L5_a_broker_that_breaks_while_it_is_told_a_limit_is_told_again_and_the_neuron_lives() -> None:
    told: list[int] = []

    class Breaking(MemoryBroker):
        async def announce(self, offer: Offer) -> None:
            told.append(offer.concurrency)
            if len(told) == 1:
                raise ValueError("a broker's own mistake")
            if len(told) == 2:
                raise TransportError("not now", retry_after=0.01)
            await super().announce(offer)
            taken.set()

    taken = anyio.Event()
    broker = Breaking()
    fast = Timing(reconnect=Backoff(initial=0.001, maximum=0.001))
    with anyio.fail_after(5):
        async with neuron(broker, capabilities=[echo], timing=fast) as running:
            await running.update_capability("test/echo", concurrency=7)
            await taken.wait()
            task = broker.submit("test/echo", 1)
            await broker.wait_settled(task)
    assert told == [7, 7, 7]
    assert broker.offers["test/echo"].concurrency == 7
