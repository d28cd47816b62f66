"""Handlers share long-lived tasks; none of them may notice, whatever another one has done to the task."""

from __future__ import annotations

import contextvars
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from neuron_anyio import LeaseContext, capability, open_neuron
from neuron_anyio.lanes import IN_A_ROW, MAX_IDLE, Lane
from neuron_anyio.testing.scripted_gateway import ScriptedGateway

pytestmark = pytest.mark.anyio

COLOUR: contextvars.ContextVar[str] = contextvars.ContextVar("COLOUR", default="none")


async def test_a_handler_sees_the_context_variables_of_the_block_and_none_of_another_handler() -> None:
    @capability("test/colours", concurrency=1)
    async def colours(value: str) -> list[str]:
        seen = [COLOUR.get()]
        COLOUR.set(value)
        await anyio.lowlevel.checkpoint()
        seen.append(COLOUR.get())
        seen.append(await anyio.to_thread.run_sync(COLOUR.get))
        async with anyio.create_task_group() as group:

            async def child() -> None:
                seen.append(COLOUR.get())

            group.start_soon(child)
        return seen

    COLOUR.set("block")
    gateway = ScriptedGateway()
    with anyio.fail_after(10):
        async with open_neuron(gateway.transport, neuron_id="n", capabilities=[colours]):
            COLOUR.set("body")
            for number in range(4):  # the later ones start from the ends of the earlier ones
                gateway.lease(f"l{number}", capability="test/colours", value=f"colour {number}")
            for number in range(4):
                output = (await gateway.wait_result(f"l{number}"))["output"]
                assert output == ["block"] + [f"colour {number}"] * 3
    COLOUR.set("none")


async def test_middleware_and_handler_share_the_context_variables_of_their_lease_alone() -> None:
    async def paints(ctx: LeaseContext, call_next: Any) -> Any:
        before = COLOUR.get()
        COLOUR.set(ctx.lease_id)
        return [before, await call_next(), COLOUR.get()]

    @capability("test/painted", concurrency=1)
    def painted(_: Any) -> Any:
        return COLOUR.get()

    gateway = ScriptedGateway()
    with anyio.fail_after(10):
        async with open_neuron(gateway.transport, neuron_id="n", capabilities=[painted], middleware=[paints]):
            for name in ("l1", "l2"):
                gateway.lease(name, capability="test/painted")
            for name in ("l1", "l2"):
                assert (await gateway.wait_result(name))["output"] == ["none", name, name]


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_L11_5_a_task_that_is_cancelled_long_after_its_handler_has_ended_takes_nothing_with_it() -> None:
    """On asyncio alone: a time-out of a handler's own that it has forgotten to take back."""
    import asyncio

    tasks: list[asyncio.Task[Any]] = []

    @capability("test/forgets", concurrency=1)
    async def forgets(value: int) -> int:
        task = asyncio.current_task()
        assert task is not None
        tasks.append(task)
        return value

    gateway = ScriptedGateway()
    with anyio.fail_after(10):
        async with open_neuron(gateway.transport, neuron_id="n", capabilities=[forgets]):
            for number in range(20):
                gateway.lease(f"l{number}", capability="test/forgets", value=number)
                if number % 3 == 0 and tasks:
                    tasks[-1].cancel()  # in the moment in which it is woken
                ack = await gateway.wait_result(f"l{number}")
                # The worst that may happen is that the gateway sends it again.
                assert ack.get("output", number) == number
                assert ack.get("code", "HANDLER_CANCELLED") == "HANDLER_CANCELLED"
                tasks[-1].cancel()  # while it rests
                await anyio.lowlevel.checkpoint()
            assert len(set(tasks)) > 1


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_L4_3_a_cancel_that_meets_one_of_the_handlers_own_ends_that_lease_alone() -> None:
    """On asyncio alone: it folds both into one, which no scope takes for its own."""
    import asyncio

    @capability("test/cuts_itself", concurrency=1)
    async def cuts_itself(_: Any, ctx: LeaseContext) -> None:
        task = asyncio.current_task()
        assert task is not None

        async def watch() -> None:
            await ctx.wait_cancelled()
            task.cancel()

        watching = asyncio.create_task(watch())
        started.set()
        await anyio.sleep_forever()
        await watching

    started = anyio.Event()
    gateway = ScriptedGateway()
    with anyio.fail_after(10):
        async with open_neuron(gateway.transport, neuron_id="n", capabilities=[cuts_itself]) as neuron:
            gateway.lease("l1", capability="test/cuts_itself")
            await started.wait()
            await anyio.wait_all_tasks_blocked()
            gateway.cancel("l1")
            assert (await gateway.wait_result("l1"))["kind"] == "cancelled"
            assert not neuron.snapshot().draining


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize("runs_in_middleware", [False, True])
async def test_a_handler_that_swallows_a_cancellation_of_its_task_leaves_no_count_of_it(
    runs_in_middleware: bool,
) -> None:
    """On asyncio alone: from Python 3.13 on, an `asyncio.TaskGroup` in a task with such a count cancels it anew."""
    import asyncio

    async def swallow(value: Any) -> None:
        task = asyncio.current_task()
        assert task is not None
        counts.append(task.cancelling())
        task.cancel()
        try:
            await asyncio.sleep(5)
        except asyncio.CancelledError:
            return

    async def around(ctx: LeaseContext, call_next: Any) -> Any:
        await swallow(ctx)
        return await call_next()

    @capability("test/swallows", concurrency=1)
    async def swallows(value: Any) -> None:
        if not runs_in_middleware:
            await swallow(value)

    counts: list[int] = []
    middleware = [around] if runs_in_middleware else []
    gateway = ScriptedGateway()
    with anyio.fail_after(10):
        async with open_neuron(gateway.transport, neuron_id="n", capabilities=[swallows], middleware=middleware):
            for number in range(3):
                gateway.lease(f"l{number}", capability="test/swallows")
            for number in range(3):
                assert (await gateway.wait_result(f"l{number}"))["type"] == "ack"
    assert counts == [0, 0, 0]


async def test_a_worker_that_a_handler_started_has_none_of_its_context_variables() -> None:
    seen: list[str] = []

    @capability("test/reports", concurrency=1)
    async def reports(value: int, ctx: LeaseContext) -> None:
        COLOUR.set(f"colour {value}")
        if value == 0:
            await ctx.neuron.update_capability("test/reports", concurrency=2)
        ctx.progress(percent=value)
        await gateway.wait_posted("progress", lease_id=ctx.lease_id)
        await gateway.wait_posted("update-capability")

    gateway = ScriptedGateway()
    gateway.on_post = lambda _kind, _frame: seen.append(COLOUR.get())
    with anyio.fail_after(10):
        async with open_neuron(gateway.transport, neuron_id="n", capabilities=[reports]):
            for number in range(2):
                gateway.lease(f"l{number}", capability="test/reports", value=number)
                await gateway.wait_result(f"l{number}")
    assert set(seen) == {"none"}


async def test_jobs_begin_in_their_order_and_never_more_than_the_most_at_once() -> None:
    begun: list[int] = []
    at_once = most_at_once = 0

    async def carry(job: int) -> None:
        nonlocal at_once, most_at_once
        begun.append(job)
        at_once += 1
        most_at_once = max(most_at_once, at_once)
        await anyio.lowlevel.checkpoint()
        at_once -= 1

    lane = Lane(carry, name="lane", most=3)
    for job in range(10):
        lane.push(job)
    with anyio.fail_after(5):
        async with anyio.create_task_group() as group:
            lane.open(group)
            for job in range(10, 50):
                lane.push(job)
                if job % 7 == 0:
                    await anyio.lowlevel.checkpoint()
            while len(begun) < 50 or at_once:
                await anyio.lowlevel.checkpoint()
            group.cancel_scope.cancel()
    assert begun == list(range(50))
    assert most_at_once == 3


async def test_no_more_workers_rest_than_most_neurons_need() -> None:
    gate, done = anyio.Event(), 0

    async def carry(_: int) -> None:
        nonlocal done
        await gate.wait()
        done += 1

    lane = Lane(carry, name="lane")
    with anyio.fail_after(5):
        async with anyio.create_task_group() as group:
            lane.open(group)
            for job in range(3 * MAX_IDLE):
                lane.push(job)
            await anyio.wait_all_tasks_blocked()
            gate.set()
            await anyio.wait_all_tasks_blocked()
            assert done == 3 * MAX_IDLE
            assert sum(task.name == "lane" for task in anyio.get_running_tasks()) == MAX_IDLE
            group.cancel_scope.cancel()


async def test_a_spent_task_is_replaced() -> None:
    seen: list[int] = []

    async def carry(_: int) -> bool:
        seen.append(anyio.get_current_task().id)
        return True

    lane = Lane(carry, name="lane", most=1)
    with anyio.fail_after(5):
        async with anyio.create_task_group() as group:
            lane.open(group)
            for job in range(5):
                lane.push(job)
            while len(seen) < 5:
                await anyio.lowlevel.checkpoint()
            group.cancel_scope.cancel()
    assert len(seen) == 5


async def test_what_ends_the_program_leaves_the_rest_to_the_others() -> None:
    carried: list[int] = []

    async def carry(job: int) -> None:
        if job == 0:
            raise ZeroDivisionError
        carried.append(job)

    lane = Lane(carry, name="lane")
    with pytest.raises(ExceptionGroup), anyio.fail_after(5):
        async with anyio.create_task_group() as group:
            lane.open(group)
            lane.push(0)
            lane.push(1)
            await anyio.sleep_forever()
    assert carried in ([], [1])


async def test_H1_jobs_that_never_wait_let_the_loop_turn() -> None:
    seen = ""

    async def carry(_: int) -> None:
        nonlocal seen
        seen += "j"

    async def turn() -> None:
        nonlocal seen
        while True:
            seen += "t"
            await anyio.lowlevel.checkpoint()

    lane = Lane(carry, name="lane", most=1)
    with anyio.fail_after(5):
        async with anyio.create_task_group() as group:
            lane.open(group)
            for job in range(1000):
                lane.push(job)
            group.start_soon(turn)
            while seen.count("j") < 1000:
                await anyio.lowlevel.checkpoint()
            group.cancel_scope.cancel()
    assert max(map(len, seen.split("t"))) <= 2 * IN_A_ROW  # trio may take the same task twice in a row


async def test_H1_several_workers_whose_jobs_never_wait_let_the_loop_turn_as_often_as_one() -> None:
    seen = ""
    pushed = 5

    async def carry(_: int) -> None:
        nonlocal seen, pushed
        seen += "j"
        if pushed < 1000:  # as a handler's end lets the next one start
            pushed += 1
            lane.push(0)

    async def turn() -> None:
        nonlocal seen
        while True:
            seen += "t"
            await anyio.lowlevel.checkpoint()

    lane = Lane(carry, name="lane")
    with anyio.fail_after(5):
        async with anyio.create_task_group() as group:
            for job in range(pushed):
                lane.push(job)
            lane.open(group)
            group.start_soon(turn)
            while seen.count("j") < 1000:
                await anyio.lowlevel.checkpoint()
            group.cancel_scope.cancel()
    assert max(map(len, seen.split("t"))) <= 3 * IN_A_ROW  # trio may take the same tasks twice in a row


async def test_jobs_that_wait_are_all_begun_within_a_few_turns() -> None:
    begun, gate = 0, anyio.Event()

    async def carry(_: int) -> None:
        nonlocal begun
        begun += 1
        await gate.wait()

    lane = Lane(carry, name="lane")
    with anyio.fail_after(5):
        async with anyio.create_task_group() as group:
            lane.open(group)
            for job in range(500):
                lane.push(job)
            for _ in range(40):
                await anyio.lowlevel.checkpoint()
            assert begun == 500
            gate.set()
            await anyio.wait_all_tasks_blocked()
            lane.push(0)  # and those that rest are found again
            await anyio.wait_all_tasks_blocked()
            assert begun == 501
            group.cancel_scope.cancel()
