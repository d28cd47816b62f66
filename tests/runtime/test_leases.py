"""Promises L and H as a gateway sees them, over the in-memory transport."""

from __future__ import annotations

import threading
from typing import Any

import anyio
import msgspec
import pytest

from neuron_anyio import (
    Backoff,
    CancelReason,
    LeaseContext,
    Limits,
    RetryableFailure,
    TerminalFailure,
    Timing,
    TransportError,
    capability,
    on_behalf_of,
    open_neuron,
)
from neuron_anyio.abc import Reply
from neuron_anyio.testing.scripted_gateway import ScriptedGateway
from neuron_anyio.testing.steered_handler import SteeredHandler
from tests.runtime.handlers import echo, settle

pytestmark = pytest.mark.anyio

FAST = Backoff(initial=0.01, maximum=0.02)


class Page(msgspec.Struct):
    url: str
    size: int = 1


def neuron(gateway: ScriptedGateway, *capabilities: Any, **options: Any) -> Any:
    return open_neuron(gateway.transport, neuron_id="neuron-1", capabilities=capabilities, **options)


async def test_L1_a_lease_is_run_and_acked_with_what_the_handler_returned() -> None:
    gateway = ScriptedGateway()
    async with neuron(gateway, echo):
        gateway.lease("l1", value={"a": [1, None, "ü"]})
        ack = await gateway.wait_result("l1")
    assert ack["type"] == "ack"
    assert ack["output"] == {"a": [1, None, "ü"]}


async def test_L11_1_none_is_sent_as_an_output_of_null() -> None:
    gateway = ScriptedGateway()
    async with neuron(gateway, echo):
        gateway.lease("l1", value=None)
        ack = await gateway.wait_result("l1")
    assert "output" in ack
    assert ack["output"] is None


async def test_a_struct_arrives_converted_and_a_struct_goes_out_as_an_object() -> None:
    @capability("test/page")
    async def page(value: Page) -> Page:
        return Page(url=value.url, size=value.size + 1)

    gateway = ScriptedGateway()
    async with neuron(gateway, page):
        gateway.lease("l1", capability="test/page", value={"url": "u"})
        ack = await gateway.wait_result("l1")
    assert ack["output"] == {"url": "u", "size": 2}


async def test_L11_8_an_input_that_does_not_fit_the_annotation_names_path_and_rule_and_never_runs() -> None:
    ran: list[Page] = []

    @capability("test/page")
    async def page(value: Page) -> None:
        ran.append(value)

    gateway = ScriptedGateway()
    async with neuron(gateway, page):
        gateway.lease("l1", capability="test/page", value={"url": 5})
        nack = await gateway.wait_result("l1")
    assert (nack["kind"], nack["code"]) == ("schema-mismatch", "INPUT_SCHEMA_MISMATCH")
    assert (nack["details"]["path"], nack["details"]["rule"]) == ("/url", "type")
    assert ran == []


async def test_L11_9_an_output_against_the_leases_schema_is_a_mismatch() -> None:
    gateway = ScriptedGateway()
    async with neuron(gateway, echo):
        gateway.lease("l1", value="text", output_schema={"type": "number"})
        nack = await gateway.wait_result("l1")
    assert (nack["kind"], nack["code"]) == ("schema-mismatch", "OUTPUT_SCHEMA_MISMATCH")


async def test_L12_reference_D26_the_leases_schema_wins_even_when_it_is_false() -> None:
    gateway = ScriptedGateway()
    async with neuron(gateway, echo):
        gateway.lease("l1", value=1, input_schema=False)
        nack = await gateway.wait_result("l1")
    assert nack["code"] == "INPUT_SCHEMA_MISMATCH"


async def test_L11_10_an_output_that_is_not_json_is_a_mismatch() -> None:
    @capability("test/nan")
    async def nan(_: Any) -> Any:
        return {"x": float("nan")}

    gateway = ScriptedGateway()
    async with neuron(gateway, nan):
        gateway.lease("l1", capability="test/nan")
        nack = await gateway.wait_result("l1")
    assert (nack["kind"], nack["code"]) == ("schema-mismatch", "OUTPUT_NOT_JSON")


async def test_L11_10_bound_of_output_bytes_over_it_the_task_fails_for_good() -> None:
    gateway = ScriptedGateway()
    async with neuron(gateway, echo, limits=Limits(output_bytes=10)):
        gateway.lease("fits", value="12345678")
        gateway.lease("over", value="123456789")
        assert (await gateway.wait_result("fits"))["type"] == "ack"
        nack = await gateway.wait_result("over")
    assert (nack["kind"], nack["code"]) == ("terminal", "OUTPUT_TOO_LARGE")


ENDINGS: list[tuple[str, Any, tuple[str, str]]] = [
    ("L11_2_fail", lambda ctx: ctx.fail("no", code="MINE"), ("terminal", "MINE")),
    ("L11_2_raised", TerminalFailure("no"), ("terminal", "HANDLER_TERMINAL")),
    ("L11_3_retry", lambda ctx: ctx.retry("later", after=1.5), ("retryable", "HANDLER_RETRY")),
    ("L11_3_raised", RetryableFailure("later", code="MINE"), ("retryable", "MINE")),
    ("L11_4_other", KeyError("x"), ("retryable", "HANDLER_THREW")),
    ("L11_4_non_retryable", LookupError("x"), ("retryable", "HANDLER_THREW")),
    ("L11_4_listed", ZeroDivisionError("x"), ("terminal", "HANDLER_THREW")),
    ("L11_group", ExceptionGroup("g", [ValueError(), TerminalFailure("no")]), ("terminal", "HANDLER_TERMINAL")),
]


@pytest.mark.parametrize(("end", "expected"), [ending[1:] for ending in ENDINGS], ids=[ending[0] for ending in ENDINGS])
async def test_L11_what_a_handler_raises_decides_kind_and_code(end: Any, expected: tuple[str, str]) -> None:
    @capability("test/ends", non_retryable=(ZeroDivisionError,))
    async def ends(_: Any, ctx: LeaseContext) -> None:
        if callable(end):
            end(ctx)
        raise end

    gateway = ScriptedGateway()
    async with neuron(gateway, ends):
        gateway.lease("l1", capability="test/ends")
        nack = await gateway.wait_result("l1")
    assert (nack["kind"], nack["code"]) == expected
    assert nack["reason"]


async def test_L11_3_the_wish_for_a_delay_is_sent() -> None:
    @capability("test/later")
    async def later(_: Any) -> None:
        raise RetryableFailure("busy", after=1.5)

    gateway = ScriptedGateway()
    async with neuron(gateway, later):
        gateway.lease("l1", capability="test/later")
        assert (await gateway.wait_result("l1"))["details"] == {"retryAfterMs": 1500}


async def test_L11_2_a_swallowed_fail_still_settles() -> None:
    @capability("test/swallows")
    async def swallows(_: Any, ctx: LeaseContext) -> str:
        try:
            ctx.fail("first")
        except TerminalFailure:
            return "and yet"

    gateway = ScriptedGateway()
    async with neuron(gateway, swallows):
        gateway.lease("l1", capability="test/swallows")
        nack = await gateway.wait_result("l1")
    assert (nack["kind"], nack["reason"]) == ("terminal", "first")


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_L11_5_a_cancellation_that_nobody_asked_for_is_an_outcome_and_the_neuron_lives() -> None:
    """Only asyncio lets a handler pick up somebody else's cancellation; trio has no way to."""
    import asyncio

    @capability("test/stray")
    async def stray(_: Any) -> None:
        task = asyncio.ensure_future(asyncio.sleep(60))
        asyncio.get_running_loop().call_soon(task.cancel)
        await task

    gateway = ScriptedGateway()
    async with neuron(gateway, stray, echo):
        gateway.lease("l1", capability="test/stray")
        nack = await gateway.wait_result("l1")
        assert (nack["kind"], nack["code"]) == ("retryable", "HANDLER_CANCELLED")
        gateway.lease("l2", value=1)
        assert (await gateway.wait_result("l2"))["type"] == "ack"


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_L11_5_a_cancellation_too_late_for_the_handler_is_none_and_the_neuron_lives() -> None:
    """asyncio keeps it for the task's next `await`; a task that ends before takes anyio's task group with it."""
    import asyncio

    @capability("test/late")
    async def late(value: str) -> str:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        return {"whole": "and yet"}[value]

    gateway = ScriptedGateway()
    with anyio.fail_after(10):
        async with neuron(gateway, late):
            for number in range(3):
                gateway.lease(f"returns-{number}", capability="test/late", value="whole")
                assert (await gateway.wait_result(f"returns-{number}"))["output"] == "and yet"
                gateway.lease(f"raises-{number}", capability="test/late", value="broken")
                assert (await gateway.wait_result(f"raises-{number}"))["code"] == "HANDLER_THREW"


async def test_L11_6_system_exit_in_a_thread_is_one_tasks_failure() -> None:
    @capability("test/exits")
    def exits(_: Any) -> None:
        raise SystemExit(3)

    gateway = ScriptedGateway()
    async with neuron(gateway, exits, echo):
        gateway.lease("l1", capability="test/exits")
        nack = await gateway.wait_result("l1")
        assert (nack["kind"], nack["code"]) == ("retryable", "HANDLER_THREW")
        gateway.lease("l2", value=1)
        assert (await gateway.wait_result("l2"))["type"] == "ack"


async def test_L11_7_a_handler_over_its_time_out_is_cancelled_and_retried() -> None:
    reasons: list[CancelReason | None] = []

    @capability("test/slow", timeout=0.05)
    async def slow(_: Any, ctx: LeaseContext) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            reasons.append(ctx.cancel_reason)

    gateway = ScriptedGateway()
    async with neuron(gateway, slow):
        gateway.lease("l1", capability="test/slow")
        nack = await gateway.wait_result("l1")
    assert (nack["kind"], nack["code"]) == ("retryable", "HANDLER_TIMEOUT")
    assert reasons == [CancelReason.TIMEOUT]


async def test_H2_reference_D14_a_def_runs_in_a_thread_and_the_loop_goes_on() -> None:
    gate = threading.Event()

    @capability("test/blocking")
    def blocking(_: Any, ctx: LeaseContext) -> str:
        assert gate.wait(10)
        return threading.current_thread().name

    gateway = ScriptedGateway()
    async with neuron(gateway, blocking, echo):
        gateway.lease("thread", capability="test/blocking")
        gateway.lease("loop", value=1)
        await gateway.wait_result("loop")
        assert gateway.posted("ack", lease_id="thread") == []
        gate.set()
        assert (await gateway.wait_result("thread"))["output"] != threading.current_thread().name


async def test_H2_an_awaitable_that_a_def_returns_is_awaited_in_the_loop() -> None:
    @capability("test/both")
    def both(value: int) -> Any:
        async def rest() -> int:
            await anyio.lowlevel.checkpoint()
            return value + 1

        return rest()

    gateway = ScriptedGateway()
    async with neuron(gateway, both):
        gateway.lease("l1", capability="test/both", value=1)
        assert (await gateway.wait_result("l1"))["output"] == 2


async def test_L5_no_more_handlers_run_than_the_limit_and_the_first_come_is_the_first_served() -> None:
    steered = SteeredHandler(concurrency=2)
    gateway = ScriptedGateway()
    async with neuron(gateway, steered.capability):
        for number in range(6):
            gateway.lease(f"l{number}", capability="test/steered")
        await steered.wait_started(2)
        await settle()
        for number in range(6):
            steered.finish(f"l{number}")
            await gateway.wait_result(f"l{number}")
    assert steered.most == 2
    assert steered.started == [f"l{number}" for number in range(6)]


async def test_L5_reference_D04_a_limit_changes_in_place_up_and_down() -> None:
    steered = SteeredHandler(concurrency=1)
    gateway = ScriptedGateway()
    async with neuron(gateway, steered.capability) as running:
        for number in range(6):
            gateway.lease(f"l{number}", capability="test/steered")
        await steered.wait_started(1)
        await running.update_capability("test/steered", concurrency=3)
        await steered.wait_started(3)
        assert (await gateway.wait_posted("update-capability"))[-1]["capability"]["concurrency"] == 3
        await running.update_capability("test/steered", concurrency=1)
        steered.finish("l0")
        steered.finish("l1")
        await gateway.wait_result("l1")
        await settle()
        # Those that got their slots in one tick may begin in any order on trio.
        assert sorted(steered.started) == ["l0", "l1", "l2"]
        for number in range(2, 6):
            steered.finish(f"l{number}")
        await gateway.wait_result("l5")
    assert steered.most == 3


async def test_max_concurrency_holds_over_all_capabilities() -> None:
    one, two = SteeredHandler("test/one", concurrency=4), SteeredHandler("test/two", concurrency=4)
    gateway = ScriptedGateway()
    async with neuron(gateway, one.capability, two.capability, max_concurrency=3):
        for number in range(4):
            gateway.lease(f"a{number}", capability="test/one")
            gateway.lease(f"b{number}", capability="test/two")
        await one.wait_started(2)
        await settle()
        assert one.running + two.running == 3
        for number in range(4):
            one.finish(f"a{number}")
            two.finish(f"b{number}")
        await gateway.wait_posted("ack", count=8)


async def test_L4_1_a_cancel_before_its_lease_keeps_it_from_running() -> None:
    gateway = ScriptedGateway()
    async with neuron(gateway, echo):
        gateway.cancel("l1")
        gateway.lease("l1", value=1)
        nack = await gateway.wait_result("l1")
    assert (nack["kind"], nack["code"]) == ("cancelled", "CANCELLED")


async def test_L4_2_reference_D01_a_queued_lease_that_is_cancelled_never_starts() -> None:
    steered = SteeredHandler()
    gateway = ScriptedGateway()
    async with neuron(gateway, steered.capability):
        gateway.lease("l1", capability="test/steered")
        gateway.lease("l2", capability="test/steered")
        await steered.wait_started(1)
        gateway.cancel("l2")
        nack = await gateway.wait_result("l2")
        steered.finish("l1")
        await gateway.wait_result("l1")
        await settle()
    assert nack["kind"] == "cancelled"
    assert steered.started == ["l1"]


async def test_L4_2_reference_D02_a_cancel_in_the_same_breath_as_its_lease_wins() -> None:
    steered = SteeredHandler()
    gateway = ScriptedGateway()
    async with neuron(gateway, steered.capability):
        gateway.lease("l1", capability="test/steered")
        gateway.cancel("l1")
        assert (await gateway.wait_result("l1"))["kind"] == "cancelled"


async def test_L4_3_a_running_lease_is_cancelled_and_says_so_when_it_has_ended() -> None:
    reasons: list[CancelReason] = []
    clean_up = anyio.Event()

    @capability("test/cleans")
    async def cleans(_: Any, ctx: LeaseContext) -> str:
        try:
            await anyio.sleep_forever()
        except anyio.get_cancelled_exc_class():
            with anyio.CancelScope(shield=True):
                reasons.append(await ctx.wait_cancelled())
                await clean_up.wait()
            raise
        return "never"

    gateway = ScriptedGateway()
    async with neuron(gateway, cleans):
        gateway.lease("l1", capability="test/cleans")
        await settle()
        gateway.cancel("l1")
        await settle()
        assert gateway.posted("ack", "nack") == []
        clean_up.set()
        nack = await gateway.wait_result("l1")
    assert nack["kind"] == "cancelled"
    assert reasons == [CancelReason.GATEWAY]


async def test_L4_3_reference_D46_what_a_cancelled_handler_returns_all_the_same_is_not_acked() -> None:
    @capability("test/stubborn")
    async def stubborn(_: Any) -> str:
        with anyio.move_on_after(60):
            try:
                await anyio.sleep_forever()
            except anyio.get_cancelled_exc_class():
                return "all the same"
        return "never"

    gateway = ScriptedGateway()
    async with neuron(gateway, stubborn):
        gateway.lease("l1", capability="test/stubborn")
        await settle()
        gateway.cancel("l1")
        assert (await gateway.wait_result("l1"))["kind"] == "cancelled"


async def test_L4_3_a_thread_learns_of_its_cancel_and_its_slot_is_free_when_it_has_ended() -> None:
    started, ended = threading.Event(), threading.Event()

    @capability("test/thread")
    def thread(_: Any, ctx: LeaseContext) -> None:
        started.set()
        while not ended.wait(0.001):
            ctx.check_cancelled()

    gateway = ScriptedGateway()
    async with neuron(gateway, thread):
        gateway.lease("l1", capability="test/thread")
        await anyio.to_thread.run_sync(started.wait)
        gateway.cancel("l1")
        assert (await gateway.wait_result("l1"))["kind"] == "cancelled"
        started.clear()
        gateway.lease("l2", capability="test/thread")
        await anyio.to_thread.run_sync(started.wait)
        ended.set()
        assert (await gateway.wait_result("l2"))["type"] == "ack"


async def test_L4_5_reference_D21_a_cancel_with_the_ack_in_flight_changes_nothing() -> None:
    gateway = ScriptedGateway()
    gateway.hold("ack")
    async with neuron(gateway, echo):
        gateway.lease("l1", value=1)
        await gateway.wait_posted("ack")
        gateway.cancel("l1")
        gateway.cancel("l1")
        await settle()
        gateway.release("ack")
        await settle()
    assert [post["type"] for post in gateway.posted("ack", "nack")] == ["ack"]


async def test_L3_1_reference_D29_the_same_lease_twice_runs_once() -> None:
    steered = SteeredHandler(concurrency=4)
    gateway = ScriptedGateway()
    async with neuron(gateway, steered.capability):
        gateway.lease("l1", capability="test/steered")
        gateway.lease("l1", capability="test/steered")
        await steered.wait_started(1)
        gateway.lease("l1", capability="test/steered")
        await settle()
        steered.finish("l1")
        await gateway.wait_result("l1")
    assert steered.started == ["l1"]
    assert len(gateway.posted("ack")) == 1


async def test_L3_2_a_settled_lease_that_comes_again_is_answered_without_a_run() -> None:
    steered = SteeredHandler(concurrency=4)
    gateway = ScriptedGateway()
    async with neuron(gateway, steered.capability):
        gateway.lease("l1", capability="test/steered")
        steered.finish("l1")
        await gateway.wait_result("l1")
        await settle()
        gateway.lease("l1", capability="test/steered")
        first, again = await gateway.wait_posted("ack", lease_id="l1", count=2)
    assert steered.started == ["l1"]
    assert first["output"] == again["output"] == "done"


async def test_L3_4_a_redelivered_running_task_is_adopted_under_its_newest_id() -> None:
    steered = SteeredHandler(concurrency=4)
    gateway = ScriptedGateway()
    async with neuron(gateway, steered.capability):
        gateway.lease("l1", capability="test/steered", task_id="t")
        await steered.wait_started(1)
        gateway.lease("l2", capability="test/steered", task_id="t", output_schema={"type": "string"})
        await settle()
        gateway.cancel("l1")
        await settle()
        assert steered.contexts[0].lease_id == "l2"
        steered.finish("l1")
        assert (await gateway.wait_result("l2"))["output"] == "done"
    assert steered.started == ["l1"]
    assert gateway.posted("ack", "nack", lease_id="l1") == []


async def test_L3_5_a_result_that_was_not_taken_answers_the_redelivery() -> None:
    gateway = ScriptedGateway()
    gateway.answer("ack", 410)
    runs: list[int] = []

    @capability("test/counts")
    async def counts(_: Any) -> int:
        runs.append(1)
        return len(runs)

    async with neuron(gateway, counts):
        gateway.lease("l1", capability="test/counts", task_id="t")
        await gateway.wait_result("l1")
        await settle()
        gateway.lease("l2", capability="test/counts", task_id="t")
        assert (await gateway.wait_result("l2"))["output"] == 1
    assert runs == [1]


async def test_L9_a_result_is_sent_again_until_it_is_taken() -> None:
    gateway = ScriptedGateway()
    gateway.answer("ack", Reply(status=503, retry_after=0.0), TransportError("reset"), 429)
    timing = Timing(reconnect=FAST)
    async with neuron(gateway, echo, timing=timing):
        gateway.lease("l1", value=1)
        await gateway.wait_posted("ack", count=4)
        await settle()
    assert len(gateway.posted("ack")) == 4


async def test_L9_content_that_is_refused_is_followed_by_one_terminal_nack() -> None:
    gateway = ScriptedGateway()
    gateway.answer("ack", Reply(status=413, text="too large"))
    async with neuron(gateway, echo):
        gateway.lease("l1", value=1)
        nack = (await gateway.wait_posted("nack"))[0]
    assert (nack["kind"], nack["code"]) == ("terminal", "RESULT_REJECTED")
    assert "413" in nack["reason"]


async def test_L9_while_a_result_is_undelivered_its_lease_stays_in_the_heartbeats() -> None:
    gateway = ScriptedGateway()
    gateway.hold("ack")
    async with neuron(gateway, echo, timing=Timing(heartbeat=0.02)):
        gateway.lease("l1", value=1)
        await gateway.wait_posted("ack")
        seen = len(gateway.posted("heartbeat"))
        beats = await gateway.wait_posted("heartbeat", count=seen + 2)
        assert [item["leaseId"] for item in beats[-1]["inFlight"]] == ["l1"]
        gateway.release("ack")


async def test_L6_reference_D35_a_lease_without_time_left_never_starts() -> None:
    gateway = ScriptedGateway()
    async with neuron(gateway, echo):
        gateway.lease("l1", value=1, ttl=-5)
        nack = await gateway.wait_result("l1")
    assert (nack["kind"], nack["code"]) == ("retryable", "LEASE_EXPIRED")


async def test_L6_a_lease_that_runs_out_in_the_queue_never_starts() -> None:
    steered = SteeredHandler()
    gateway = ScriptedGateway()
    async with neuron(gateway, steered.capability):
        gateway.lease("l1", capability="test/steered")
        gateway.lease("l2", capability="test/steered", ttl=0.05)
        await steered.wait_started(1)
        await anyio.sleep(0.06)  # the lease's own time, not a wait for something to happen
        steered.finish("l1")
        assert (await gateway.wait_result("l2"))["code"] == "LEASE_EXPIRED"


async def test_L6_a_queued_lease_goes_back_while_it_still_has_time_for_somebody_else() -> None:
    steered = SteeredHandler()
    gateway = ScriptedGateway()
    async with neuron(gateway, steered.capability):
        gateway.lease("l1", capability="test/steered")
        gateway.lease("l2", capability="test/steered", ttl=0.2)
        begun = anyio.current_time()
        assert (await gateway.wait_result("l2"))["code"] == "LEASE_EXPIRED"
        assert anyio.current_time() - begun >= 0.14
        assert steered.started == ["l1"]
        steered.finish("l1")
        assert (await gateway.wait_result("l1"))["type"] == "ack"


async def test_L7_a_running_lease_that_runs_out_is_lost_and_its_handler_cancelled() -> None:
    gateway = ScriptedGateway()
    gateway.always_answer("heartbeat", 503)
    steered = SteeredHandler()
    async with neuron(gateway, steered.capability):
        gateway.lease("l1", capability="test/steered", ttl=0.1)
        await steered.wait_started(1)
        await steered.wait_running(0)
    assert steered.contexts[0].cancel_reason is CancelReason.LEASE_LOST


async def test_L7_accepted_heartbeats_keep_a_short_lease_alive() -> None:
    gateway = ScriptedGateway()
    steered = SteeredHandler()
    async with neuron(gateway, steered.capability):
        gateway.lease("l1", capability="test/steered", ttl=0.15)
        await gateway.wait_posted("heartbeat", count=8)
        assert steered.running == 1
        steered.finish("l1")
        assert (await gateway.wait_result("l1"))["type"] == "ack"


GIVEN_BACK: list[tuple[str, dict[str, Any], str]] = [
    ("L2_unknown", {"capability": "test/other"}, "UNKNOWN_CAPABILITY"),
    ("L13_scope", {"capability": "test/mine", "onBehalfOf": "somebody else"}, "SCOPE_MISMATCH"),
    ("L13_scope_missing", {"capability": "test/mine"}, "SCOPE_MISMATCH"),
]


@pytest.mark.parametrize(("lease", "code"), [row[1:] for row in GIVEN_BACK], ids=[row[0] for row in GIVEN_BACK])
async def test_L2_what_cannot_run_here_is_given_back(lease: dict[str, Any], code: str) -> None:
    @capability("test/mine", scope=on_behalf_of("me"))
    async def mine(_: Any) -> None:
        raise AssertionError

    gateway = ScriptedGateway()
    async with neuron(gateway, mine):
        gateway.lease("l1", **lease)
        nack = await gateway.wait_result("l1")
    assert (nack["kind"], nack["code"]) == ("retryable", code)


async def test_L2_reference_D35_bound_of_queue_over_it_leases_are_given_back_and_paced() -> None:
    steered = SteeredHandler()
    gateway = ScriptedGateway()
    async with neuron(gateway, steered.capability, limits=Limits(queue=2)):
        for number in range(6):
            gateway.lease(f"l{number}", capability="test/steered")
        nacks = await gateway.wait_posted("nack", count=3)
        assert {nack["code"] for nack in nacks} == {"NEURON_OVERLOADED"}
        assert steered.started == ["l0"]
        for number in range(6):
            steered.finish(f"l{number}")
        await gateway.wait_posted("ack", count=3)


async def test_H3_progress_is_merged_in_order_and_sent_before_the_result() -> None:
    @capability("test/steps")
    async def steps(_: Any, ctx: LeaseContext) -> None:
        for percent in range(0, 101, 2):
            ctx.progress(percent=percent, message=f"at {percent}")
        ctx.progress(data={"k": 1})
        await ctx.progress(percent=250)

    gateway = ScriptedGateway()
    async with neuron(gateway, steps):
        gateway.lease("l1", capability="test/steps")
        await gateway.wait_result("l1")
    kinds = [post["type"] for post in gateway.posted("progress", "ack")]
    assert kinds[-1] == "ack"
    assert 1 <= kinds.count("progress") < 5
    last = gateway.posted("progress")[-1]
    assert (last["percent"], last["data"], last["message"]) == (100.0, {"k": 1}, "at 100")


async def test_H3_progress_from_a_thread_arrives() -> None:
    @capability("test/thread")
    def thread(_: Any, ctx: LeaseContext) -> None:
        ctx.progress(percent=5)

    gateway = ScriptedGateway()
    async with neuron(gateway, thread):
        gateway.lease("l1", capability="test/thread")
        await gateway.wait_result("l1")
    assert gateway.posted("progress")[-1]["percent"] == 5.0


async def test_H3_a_gateway_that_does_not_answer_progress_holds_up_the_result_a_second_at_most() -> None:
    gateway = ScriptedGateway()
    gateway.hold("progress")

    @capability("test/steps")
    async def steps(_: Any, ctx: LeaseContext) -> None:
        ctx.progress(percent=1)

    async with neuron(gateway, steps):
        gateway.lease("l1", capability="test/steps")
        await gateway.wait_result("l1")
        gateway.release("progress")


async def test_L3_5_a_redelivery_while_the_last_progress_is_sent_is_answered_once() -> None:
    @capability("test/steps")
    async def steps(_: Any, ctx: LeaseContext) -> str:
        ctx.progress(percent=1)
        return "done"

    gateway = ScriptedGateway()
    gateway.hold("progress")
    with anyio.fail_after(5):
        async with neuron(gateway, steps):
            gateway.lease("l1", capability="test/steps", task_id="t1")
            await gateway.wait_posted("progress")
            gateway.lease("l2", capability="test/steps", task_id="t1")
            await settle()
            gateway.release("progress")
            await gateway.wait_result("l2")
    assert [post["leaseId"] for post in gateway.posted("ack")] == ["l2"]


async def test_H3_progress_that_nobody_takes_never_holds_up_the_results_of_other_leases() -> None:
    reporting = 0

    @capability("test/steps", concurrency=40)
    async def steps(_: Any, ctx: LeaseContext) -> None:
        nonlocal reporting
        ctx.progress(percent=1)
        reporting += 1
        await anyio.sleep_forever()

    gateway = ScriptedGateway()
    gateway.hold("progress")
    with anyio.fail_after(10):
        async with neuron(gateway, steps, echo, timing=Timing(drain=0.1)):
            for number in range(40):
                gateway.lease(f"slow-{number}", capability="test/steps")
            while reporting < 40:
                await anyio.wait_all_tasks_blocked()
            gateway.lease("quick", capability="test/echo")
            with anyio.fail_after(0.5):
                await gateway.wait_result("quick")
            gateway.release("progress")


async def test_H1_heartbeats_list_running_leases_and_not_queued_ones() -> None:
    steered = SteeredHandler()
    gateway = ScriptedGateway()
    async with neuron(gateway, steered.capability, timing=Timing(heartbeat=0.02)):
        gateway.lease("l1", capability="test/steered")
        gateway.lease("l2", capability="test/steered")
        await steered.wait_started(1)
        seen = len(gateway.posted("heartbeat"))
        beats = await gateway.wait_posted("heartbeat", count=seen + 3)
        assert [item["leaseId"] for item in beats[-1]["inFlight"]] == ["l1"]
        steered.finish("l1")
        steered.finish("l2")
        await gateway.wait_result("l2")


async def test_H1_a_heartbeat_without_an_answer_does_not_stop_the_next() -> None:
    gateway = ScriptedGateway()
    gateway.hold("heartbeat")
    async with neuron(gateway, echo, timing=Timing(heartbeat=0.02)):
        await gateway.wait_posted("heartbeat", count=3)


async def test_middleware_runs_round_the_handler_inside_validation() -> None:
    seen: list[str] = []

    async def outer(ctx: LeaseContext, call_next: Any) -> Any:
        seen.append("outer")
        return [await call_next()]

    async def inner(ctx: LeaseContext, call_next: Any) -> Any:
        seen.append("inner")
        return await call_next()

    gateway = ScriptedGateway()
    async with neuron(gateway, echo, middleware=[outer, inner]):
        gateway.lease("l1", value=1)
        assert (await gateway.wait_result("l1"))["output"] == [1]
    assert seen == ["outer", "inner"]
