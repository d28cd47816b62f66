"""Middleware: in which order, and what each may do to a run; and the context as handlers use it."""

from __future__ import annotations

import logging
import threading
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from anyio import to_thread

from neuron_anyio import CancelReason, LeaseContext, Timing, capability, events, open_neuron, watchdog
from neuron_anyio.testing.scripted_gateway import ScriptedGateway
from tests.runtime.handlers import echo, settle
from tests.runtime.http_gateway import Seen

pytestmark = pytest.mark.anyio


def neuron(gateway: ScriptedGateway, *capabilities: Any, **options: Any) -> Any:
    return open_neuron(gateway.transport, neuron_id="neuron-1", capabilities=capabilities or [echo], **options)


async def result_of(*middleware: Any, handler: Any = echo, value: Any = 1) -> dict[str, Any]:
    """Run one lease through middleware; return its ack or nack. The neuron must survive it."""
    gateway = ScriptedGateway()
    with anyio.fail_after(10):
        async with neuron(gateway, handler, middleware=middleware):
            gateway.lease("l1", capability=handler.terms.type, value=value)
            result = await gateway.wait_result("l1")
            gateway.lease("l2", capability=handler.terms.type, value=value)
            await gateway.wait_result("l2")
    return result


async def test_the_first_middleware_is_the_outermost_on_the_way_in_and_out() -> None:
    steps: list[str] = []

    def named(name: str) -> Any:
        async def middleware(ctx: LeaseContext, call_next: Any) -> Any:
            steps.append(f"{name} in {ctx.lease_id}")
            value = await call_next()
            steps.append(f"{name} out")
            return value

        return middleware

    assert (await result_of(named("a"), named("b"), named("c")))["output"] == 1
    assert steps[:6] == ["a in l1", "b in l1", "c in l1", "c out", "b out", "a out"]


async def test_a_middleware_that_does_not_call_next_answers_in_the_handlers_place() -> None:
    ran: list[Any] = []

    @capability("test/never")
    async def never(value: Any) -> None:
        ran.append(value)

    async def answers(ctx: LeaseContext, call_next: Any) -> None:
        return None

    assert (await result_of(answers, handler=never))["type"] == "ack"
    assert ran == []


async def test_what_a_middleware_returns_is_the_output_and_is_judged_as_one() -> None:
    @capability("test/text")
    async def text(value: Any) -> str:
        return "text"

    async def counts(ctx: LeaseContext, call_next: Any) -> Any:
        return len(await call_next())

    async def shouts(ctx: LeaseContext, call_next: Any) -> Any:
        return (await call_next()).upper()

    assert (await result_of(shouts, handler=text))["output"] == "TEXT"
    assert (await result_of(counts, handler=text))["code"] == "OUTPUT_SCHEMA_MISMATCH"


async def test_a_middleware_may_call_next_again_which_runs_the_handler_again() -> None:
    runs: list[Any] = []

    @capability("test/flaky")
    async def flaky(value: Any) -> int:
        runs.append(value)
        if len(runs) == 1:
            raise ConnectionError
        return len(runs)

    async def retries(ctx: LeaseContext, call_next: Any) -> Any:
        try:
            return await call_next()
        except ConnectionError:
            return await call_next()

    assert (await result_of(retries, handler=flaky))["output"] == 2
    assert runs[:2] == [1, 1]


async def test_a_middleware_that_calls_next_again_while_the_handler_runs_is_told_not_to() -> None:
    async def twice(ctx: LeaseContext, call_next: Any) -> Any:
        async with anyio.create_task_group() as group:
            group.start_soon(call_next)
            group.start_soon(call_next)

    @capability("test/waits")
    async def waits(value: Any) -> None:
        await settle()

    nack = await result_of(twice, handler=waits)
    assert (nack["kind"], nack["code"]) == ("retryable", "HANDLER_THREW")
    assert nack["reason"] == "a middleware called call_next() again while the handler still runs"


async def test_L11_a_middleware_decides_by_what_it_raises() -> None:
    async def raises(ctx: LeaseContext, call_next: Any) -> Any:
        await call_next()
        raise KeyError("k")

    async def fails(ctx: LeaseContext, call_next: Any) -> Any:
        ctx.fail("not today", code="MINE")

    async def hides(ctx: LeaseContext, call_next: Any) -> Any:
        try:
            return await call_next()
        except ZeroDivisionError:
            return "all is well"

    @capability("test/throws")
    async def throws(value: Any) -> Any:
        raise ZeroDivisionError

    assert (await result_of(raises))["code"] == "HANDLER_THREW"
    assert (await result_of(fails))["code"] == "MINE"
    assert (await result_of(hides, handler=throws))["output"] == "all is well"


async def test_L11_4_a_generator_exit_of_their_own_ends_neither_handler_nor_middleware_but_as_a_failure() -> None:
    async def exits(ctx: LeaseContext, call_next: Any) -> Any:
        raise GeneratorExit

    @capability("test/exits")
    async def handler(value: Any) -> Any:
        raise GeneratorExit

    for result in (await result_of(exits), await result_of(handler=handler)):
        assert (result["code"], result["reason"]) == ("HANDLER_THREW", "the handler raised GeneratorExit")


@pytest.mark.parametrize(("end", "expected"), [("cancel", "cancelled"), ("shutdown", "ack")])
async def test_L4_3_L11_13_a_middleware_that_swallows_a_cancellation_gets_what_a_handler_gets(
    end: str, expected: str
) -> None:
    started = anyio.Event()

    @capability("test/waits")
    async def waits(value: Any) -> Any:
        started.set()
        await anyio.sleep_forever()

    async def swallows(ctx: LeaseContext, call_next: Any) -> Any:
        try:
            return await call_next()
        except anyio.get_cancelled_exc_class():
            return "all the same"

    gateway = ScriptedGateway()
    with anyio.fail_after(10):
        async with neuron(gateway, waits, middleware=[swallows], timing=Timing(drain=1.0)) as running:
            gateway.lease("l1", capability="test/waits")
            await started.wait()
            if end == "cancel":
                gateway.cancel("l1")
            else:
                await running.drain()
            result = await gateway.wait_result("l1")
    assert result.get("kind", result["type"]) == expected


async def test_a_middlewares_time_out_is_its_own_and_the_lease_fails_by_it() -> None:
    async def bounds(ctx: LeaseContext, call_next: Any) -> Any:
        with anyio.fail_after(0.05):
            return await call_next()

    @capability("test/slow")
    async def slow(value: Any) -> None:
        await anyio.sleep_forever()

    nack = await result_of(bounds, handler=slow)
    assert (nack["code"], nack["reason"]) == ("HANDLER_THREW", "TimeoutError")


async def test_H2_a_middleware_that_blocks_the_loop_is_named_with_its_stack(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watchdog, "BLOCKED_AFTER", 0.05)
    named = threading.Event()
    lines: list[str] = []

    class Names(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(record.getMessage())
            if "time_to_be_named" in record.getMessage():
                named.set()

    async def blocks(ctx: LeaseContext, call_next: Any) -> Any:
        value = await call_next()
        time_to_be_named = named.wait(5)
        return [value, time_to_be_named]

    handler, logger = Names(), logging.getLogger("neuron_anyio")
    logger.addHandler(handler)
    try:
        assert (await result_of(blocks))["output"] == [1, True]
    finally:
        logger.removeHandler(handler)
    assert sum("has blocked the event loop" in line for line in lines) == 1


# The context


async def test_the_log_of_a_context_names_lease_task_and_capability_from_any_thread(
    caplog: pytest.LogCaptureFixture,
) -> None:
    @capability("test/logs")
    async def logs(value: Any, ctx: LeaseContext) -> None:
        ctx.log.info("from the loop")
        await to_thread.run_sync(ctx.log.info, "from a thread")

    gateway = ScriptedGateway()
    caplog.set_level(logging.INFO)
    with anyio.fail_after(10):
        async with neuron(gateway, logs):
            gateway.lease("l1", capability="test/logs", task_id="t1")
            await gateway.wait_result("l1")
    mine = [record for record in caplog.records if record.getMessage().startswith("from ")]
    assert [record.getMessage() for record in mine] == ["from the loop", "from a thread"]
    fields = {
        (record.__dict__["lease_id"], record.__dict__["task_id"], record.__dict__["capability"]) for record in mine
    }
    assert fields == {("l1", "t1", "test/logs")}
    assert {record.name for record in mine} == {"neuron_anyio"}


async def test_a_context_has_all_that_the_task_came_with() -> None:
    found: list[Any] = []

    @capability("test/looks")
    async def looks(value: Any, ctx: LeaseContext) -> None:
        task = ctx.task
        found.extend([task.task_id, task.workflow_id, task.capability, task.attempt, bytes(task.input)])
        found.extend([ctx.attempt, ctx.idempotency_key, ctx.lease_id, ctx.neuron is running, ctx.state])
        found.append(0 < ctx.time_left() <= 60)

    gateway = ScriptedGateway()
    with anyio.fail_after(10):
        async with neuron(gateway, looks) as running:
            gateway.lease("l1", capability="test/looks", value={"a": 1}, task_id="t1", attempt=3)
            await gateway.wait_result("l1")
    assert found == ["t1", "workflow", "test/looks", 3, b'{"a": 1}', 3, "workflow/t1", "l1", True, None, True]


async def test_a_shielded_handler_waits_for_its_cancellation_and_is_told_why() -> None:
    reasons: list[CancelReason] = []

    @capability("test/shields", timeout=0.1)
    async def shields(value: Any, ctx: LeaseContext) -> None:
        with anyio.move_on_after(5, shield=True):
            reasons.append(await ctx.wait_cancelled())
            reasons.append(await ctx.wait_cancelled())  # a second time it returns at once

    gateway, seen = ScriptedGateway(), Seen()
    with anyio.fail_after(10):
        async with neuron(gateway, shields, on_event=seen):
            gateway.lease("l1", capability="test/shields")
            assert (await gateway.wait_result("l1"))["code"] == "HANDLER_TIMEOUT"
    assert reasons == [CancelReason.TIMEOUT] * 2
    assert seen.of(events.LeaseSettled)[0].seconds is not None


async def test_L11_3_a_wish_for_a_delay_that_is_none_is_the_handlers_own_error() -> None:
    @capability("test/wishes")
    async def wishes(value: float, ctx: LeaseContext) -> None:
        ctx.retry("later", after=-value)

    nack = await result_of(handler=wishes)
    assert nack["code"] == "HANDLER_THREW"
    assert "after must be a finite number of seconds, 0 or more" in nack["reason"]
