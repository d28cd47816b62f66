"""`run_handler` and `start_handler`: a handler is run as a neuron runs it, and seen from all sides."""

from __future__ import annotations

import logging
import threading
import time
import traceback
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import msgspec
import pytest

from neuron_anyio import (
    CancelReason,
    LeaseContext,
    RetryableFailure,
    TerminalFailure,
    Timing,
    capability,
    events,
    on_behalf_of,
)
from neuron_anyio.model import Cancelled, Completed, Failed, FailureKind, GiveBack, GivenBack, Progress
from neuron_anyio.testing import NotCompletedError, run_handler, start_handler
from tests.kit.process_handlers import divide, sleep
from tests.runtime.handlers import echo

pytestmark = pytest.mark.anyio


class Page(msgspec.Struct):
    url: str
    size: int = 1


@capability("test/page")
async def page(value: Page) -> Page:
    return Page(url=value.url, size=value.size + 1)


@capability("test/waits")
async def waits(_: Any, ctx: LeaseContext) -> str:
    ctx.progress(percent=1)
    try:
        await anyio.sleep_forever()
    finally:
        ctx.progress(message=str(ctx.cancel_reason))
    return "never"


@capability("test/thread")
def thread(value: Any, ctx: LeaseContext) -> str:
    for percent in value:
        ctx.progress(percent=percent)
    while not ctx.cancelled:
        time.sleep(0.01)
    ctx.check_cancelled()
    return "never"


# To its end


async def test_a_handler_in_the_loop_gives_its_output_as_the_gateway_reads_it() -> None:
    result = await run_handler(page, {"url": "u"})
    assert result.output == {"url": "u", "size": 2}
    assert isinstance(result.outcome, Completed)
    assert (result.code, result.exception, result.progress) == (None, None, ())
    assert (await run_handler(page, Page("u", 5))).output["size"] == 6


async def test_a_plain_function_runs_in_a_thread() -> None:
    @capability("test/ident")
    def ident(_: Any) -> int:
        return threading.get_ident()

    assert (await run_handler(ident, None)).output != threading.get_ident()


@pytest.mark.parametrize(("value", "output"), [([6, 3], 2.0), ([1, 0], None)])
async def test_a_handler_in_a_process_gives_its_output_or_its_exception(value: list[int], output: float | None) -> None:
    result = await run_handler(divide, value)
    if output is not None:
        assert result.output == output
    else:
        assert result.code == "HANDLER_THREW"
        assert isinstance(result.exception, ZeroDivisionError)


async def test_L11_8_an_input_against_the_annotation_never_reaches_the_handler() -> None:
    result = await run_handler(page, {"url": 5})
    assert result.code == "INPUT_SCHEMA_MISMATCH"
    assert result.seconds == 0.0
    assert not [event for event in result.events if isinstance(event, events.LeaseStarted)]
    with pytest.raises(NotCompletedError, match="INPUT_SCHEMA_MISMATCH") as caught:
        _ = result.output
    assert caught.value.__cause__ is None


async def test_L12_a_schema_of_the_lease_goes_before_the_capabilitys_own() -> None:
    assert (await run_handler(echo, 1, input_schema=False)).code == "INPUT_SCHEMA_MISMATCH"
    assert (await run_handler(echo, 1, output_schema={"type": "string"})).code == "OUTPUT_SCHEMA_MISMATCH"
    assert (await run_handler(echo, 1, input_schema={"type": "integer"}, output_schema=True)).output == 1


@pytest.mark.parametrize(
    ("raised", "code", "retryable"),
    [
        (KeyError("k"), "HANDLER_THREW", True),
        (TerminalFailure("no", code="MINE"), "MINE", False),
        (RetryableFailure("later", after=5.0), "HANDLER_RETRY", True),
        (ExceptionGroup("g", [TerminalFailure("no")]), "HANDLER_TERMINAL", False),
    ],
)
async def test_L11_what_a_handler_raises_is_there_with_its_traceback(
    raised: Exception, code: str, retryable: bool
) -> None:
    @capability("test/raises")
    async def raises(_: Any) -> None:
        raise raised

    result = await run_handler(raises, None)
    assert isinstance(result.outcome, Failed)
    assert (result.code, result.outcome.retryable) == (code, retryable)
    assert result.exception is raised
    with pytest.raises(AssertionError, match=code) as caught:
        _ = result.output
    assert caught.value.__cause__ is raised
    assert "raises" in [entry.name for entry in traceback.extract_tb(raised.__traceback__)]


async def test_a_test_that_fails_within_a_handler_is_its_exception() -> None:
    @capability("test/asserts")
    async def asserts(_: Any) -> None:
        pytest.fail("as it should")

    result = await run_handler(asserts, None)
    assert isinstance(result.exception, pytest.fail.Exception)
    assert result.code == "HANDLER_THREW"


async def test_L11_2_a_verdict_that_the_handler_swallowed_stands_without_an_exception() -> None:
    @capability("test/swallows")
    async def swallows(_: Any, ctx: LeaseContext) -> str:
        try:
            ctx.fail("no", code="MINE", details={"a": 1})
        except TerminalFailure:
            return "all is well"

    result = await run_handler(swallows, None)
    assert (result.code, result.exception) == ("MINE", None)
    with pytest.raises(NotCompletedError, match=r"terminal MINE: no"):
        _ = result.output


async def test_L11_7_the_capabilitys_time_out_holds() -> None:
    @capability("test/slow", timeout=0.02)
    async def slow(_: Any) -> None:
        await anyio.sleep_forever()

    result = await run_handler(slow, None)
    assert isinstance(result.outcome, Failed)
    assert result.outcome.kind is FailureKind.TIMED_OUT
    assert result.seconds > 0.015  # uvloop counts whole milliseconds


async def test_H3_every_call_of_progress_is_there_in_order() -> None:
    @capability("test/reports")
    async def reports(_: Any, ctx: LeaseContext) -> None:
        for percent in (1, 2, 150):
            ctx.progress(percent=percent)
        await ctx.progress(message="m", data={"a": [1]})
        ctx.progress(data=object())  # not JSON: not sent, and no error

    @capability("test/threads")
    def threads(_: Any, ctx: LeaseContext) -> None:
        for percent in (1, 2):
            ctx.progress(percent=percent)

    result = await run_handler(reports, None)
    assert result.progress == (
        Progress(percent=1.0),
        Progress(percent=2.0),
        Progress(percent=100.0),
        Progress(message="m", data=b'{"a":[1]}'),
    )
    assert [update.percent for update in (await run_handler(threads, None)).progress] == [1.0, 2.0]


async def test_what_the_handler_sees_is_what_the_test_says() -> None:
    seen: list[LeaseContext] = []
    order: list[str] = []

    @capability("test/sees", scope=on_behalf_of("user-1"), lease_ttl=30.0)
    async def sees(value: Any, ctx: LeaseContext) -> float:
        seen.append(ctx)
        order.append("handler")
        return ctx.time_left()

    async def around(ctx: LeaseContext, call_next: Callable[[], Awaitable[Any]]) -> Any:
        order.append("middleware")
        return await call_next()

    logger = logging.getLogger("test.kit")
    result = await run_handler(
        sees, 1, task_id="t", attempt=2, metadata={"a": 1}, state="state", middleware=[around], logger=logger
    )
    ctx = seen[0]
    assert (ctx.task.task_id, ctx.attempt, ctx.task.on_behalf_of, ctx.state) == ("t", 2, "user-1", "state")
    assert ctx.task.metadata == {"a": 1}
    assert ctx.log.logger is logger
    assert 29.0 < result.output <= 30.0
    assert order == ["middleware", "handler"]
    assert 0.0 <= result.seconds < 5.0
    assert (await run_handler(echo, None)).outcome == Completed((b"null",))


async def test_L13_a_task_of_another_user_never_runs() -> None:
    mine = echo.with_options(scope=on_behalf_of("user-1"))
    outcome = (await run_handler(mine, 1, on_behalf_of="user-2")).outcome
    assert isinstance(outcome, GivenBack)
    assert outcome.cause is GiveBack.SCOPE_MISMATCH


async def test_L6_a_lease_without_time_never_starts() -> None:
    result = await run_handler(echo, 1, lease_ttl=0)
    assert (result.code, result.seconds) == ("LEASE_EXPIRED", 0.0)


async def test_a_lease_of_the_shortest_time_is_renewed_while_the_handler_runs() -> None:
    @capability("test/some")
    async def some(_: Any, ctx: LeaseContext) -> bool:
        await anyio.sleep(1.0)
        return ctx.cancelled

    assert (await run_handler(some, 1, lease_ttl=0.6)).output is False


async def test_C9_its_repr_holds_neither_input_nor_output() -> None:
    result = await run_handler(echo, "s3cr3t")
    assert "s3cr3t" not in repr(result)
    assert "Completed" in repr(result)


# Half-way


@pytest.mark.parametrize("handler", [waits, thread])
@pytest.mark.parametrize(
    ("stop", "reason", "code"),
    [
        ("cancel", CancelReason.GATEWAY, "CANCELLED"),
        ("lose_lease", CancelReason.LEASE_LOST, "LEASE_EXPIRED"),
        ("shut_down", CancelReason.SHUTDOWN, "NEURON_SHUTDOWN"),
    ],
)
async def test_L4_L7_D3_a_run_is_stopped_in_each_way_without_waiting(
    handler: Any, stop: str, reason: CancelReason, code: str
) -> None:
    with anyio.fail_after(5):
        async with start_handler(handler, [1]) as run:
            await run.wait_progress(1)
            assert run.outcome is None
            getattr(run, stop)()
            result = await run.result()
    assert result.code == code
    assert result.exception is None, "a cancellation is none"
    if handler is waits:
        assert [update.message for update in result.progress] == [None, reason.value]
    assert bool([event for event in result.events if isinstance(event, events.LeaseLost)]) == (stop == "lose_lease")
    assert any(isinstance(event, events.ResultAccepted) for event in result.events)


async def test_cancelled_tasks_of_a_handler_are_no_exception_and_what_one_of_them_raises_is() -> None:
    @capability("test/tasks")
    async def tasks(value: Any, ctx: LeaseContext) -> None:
        async def child() -> None:
            try:
                await anyio.sleep_forever()
            finally:
                if value:
                    raise OSError

        async with anyio.create_task_group() as group:
            group.start_soon(child)
            group.start_soon(anyio.sleep_forever)
            await anyio.lowlevel.checkpoint()
            ctx.progress(percent=50)
            await anyio.sleep_forever()

    for value in (False, True):
        with anyio.fail_after(5):
            async with start_handler(tasks, value) as run:
                await run.wait_progress()
                run.cancel()
                result = await run.result()
        assert result.code == "CANCELLED"
        assert isinstance(result.exception, BaseExceptionGroup) == value


async def test_a_process_is_cancelled() -> None:
    with anyio.fail_after(10):
        async with start_handler(sleep, 60) as run:
            await run.wait_started()
            run.cancel("enough")
            assert isinstance((await run.result()).outcome, Cancelled)


async def test_L7_a_handler_that_goes_on_without_its_lease_completes() -> None:
    go = anyio.Event()
    left: list[float] = []

    @capability("test/goes-on", on_lease_lost="continue")
    async def goes_on(_: Any, ctx: LeaseContext) -> str:
        left.append(ctx.time_left())
        await go.wait()
        left.append(ctx.time_left())
        return "done"

    with anyio.fail_after(5):
        async with start_handler(goes_on, None, timing=Timing(heartbeat=0.02)) as run:
            await run.wait_started()
            run.lose_lease()
            await anyio.sleep(0.1)
            go.set()
            result = await run.result()
    assert result.output == "done"
    assert left[0] > 0.0 == left[1]
    assert sum(isinstance(event, events.LeaseLost) for event in result.events) == 1


async def test_L11_13_a_value_within_the_grace_of_a_shutdown_counts() -> None:
    @capability("test/cleans")
    async def cleans(_: Any, ctx: LeaseContext) -> str:
        with anyio.CancelScope(shield=True):
            await ctx.wait_cancelled()
        return "saved"

    with anyio.fail_after(5):
        async with start_handler(cleans, None) as run:
            await run.wait_started()
            run.shut_down()
            assert (await run.result()).output == "saved"


async def test_a_stop_that_comes_too_late_or_twice_changes_nothing() -> None:
    with anyio.fail_after(5):
        async with start_handler(echo, 1) as run:
            result = await run.result()
            run.cancel()
            run.lose_lease()
            run.shut_down()
            assert (await run.result()) == result
        async with start_handler(waits, None) as run:
            await run.wait_started()
            run.lose_lease()
            run.lose_lease()
            run.cancel()
            run.lose_lease()
            assert isinstance((await run.result()).outcome, Cancelled), "the gateway's word outweighs"


async def test_waiting_for_what_never_comes_says_how_the_handler_ended() -> None:
    with anyio.fail_after(5):
        async with start_handler(page, {"url": 5}) as run:
            with pytest.raises(NotCompletedError, match=r"never called: .*INPUT_SCHEMA_MISMATCH"):
                await run.wait_started()
        async with start_handler(echo, 5) as run:
            await run.wait_started()
            with pytest.raises(NotCompletedError, match="not reported 2 times: it has completed"):
                await run.wait_progress(2)


async def test_D3_leaving_the_block_shuts_the_run_down() -> None:
    reasons: list[CancelReason | None] = []

    @capability("test/left")
    async def left(_: Any, ctx: LeaseContext) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            reasons.append(ctx.cancel_reason)

    with anyio.fail_after(5):
        async with start_handler(left, None) as run:
            await run.wait_started()
        with pytest.raises(ZeroDivisionError):
            async with start_handler(left, None) as run:
                await run.wait_started()
                raise ZeroDivisionError
        with anyio.move_on_after(0.05) as scope:
            await run_handler(left, None)
        assert scope.cancelled_caught
    assert reasons == [CancelReason.SHUTDOWN] * 3


# Wrong calls


async def test_what_capability_did_not_make_is_refused() -> None:
    async def plain(value: Any) -> Any:
        return value

    with pytest.raises(TypeError, match=r"@capability\('namespace/name'\); plain was not"):
        await run_handler(plain, 1)  # type: ignore[arg-type]  # on purpose


@pytest.mark.parametrize("value", [float("nan"), {1: 2}, object(), "\ud800"])
async def test_an_input_that_is_not_json_is_refused(value: Any) -> None:
    with pytest.raises(ValueError, match="input must be JSON"):
        await run_handler(echo, value)


@pytest.mark.parametrize(
    ("option", "error", "match"),
    [
        ({"lease_time": 5}, TypeError, "no option lease_time; there is .*lease_ttl"),
        ({"lease_ttl": -1.0}, ValueError, "lease_ttl must be a finite number"),
        ({"lease_ttl": "5"}, ValueError, "lease_ttl must be a finite number"),
        ({"attempt": -1}, ValueError, "attempt must be a whole number"),
        ({"metadata": [1]}, ValueError, "metadata must be a mapping"),
        ({"metadata": {"a": object()}}, ValueError, "metadata must be JSON"),
        ({"input_schema": {"a": object()}}, ValueError, "input_schema must be JSON"),
    ],
)
async def test_a_wrong_option_is_named(option: dict[str, Any], error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        await run_handler(echo, 1, **option)
