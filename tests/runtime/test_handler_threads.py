"""Handlers in worker threads: how they learn of their end, what they may call, and how many there are (H2, L8, L11)."""

from __future__ import annotations

import contextvars
import functools
import math
import threading
import time
from collections.abc import Callable
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from anyio import from_thread, to_thread

from neuron_anyio import LeaseContext, Timing, capability, events, open_neuron
from neuron_anyio.testing.scripted_gateway import ScriptedGateway
from tests.runtime.handlers import echo
from tests.runtime.http_gateway import Seen

pytestmark = pytest.mark.anyio

SHORT = 0.3
"""Seconds of a lease, a time-out or a drain."""


def neuron(gateway: ScriptedGateway, *capabilities: Any, **options: Any) -> Any:
    return open_neuron(gateway.transport, neuron_id="neuron-1", capabilities=capabilities, **options)


async def reached(event: threading.Event) -> None:
    with anyio.fail_after(10):
        while not event.is_set():  # noqa: ASYNC110 - a thread's event
            await anyio.sleep(0.002)


# L8: cancelled in every way, noticed in every way


async def by_gateway(gateway: ScriptedGateway, _: Any) -> None:
    gateway.cancel("l1")


async def by_itself(_gateway: ScriptedGateway, _: Any) -> None:
    """The time-out and the lease's end come by themselves."""


async def by_drain(_gateway: ScriptedGateway, running: Any) -> None:
    await running.drain()


WAYS: dict[str, tuple[Any, str, dict[str, Any]]] = {
    "cancel": (by_gateway, "CANCELLED", {}),
    "time-out": (by_itself, "HANDLER_TIMEOUT", {"timeout": SHORT}),
    "lease lost": (by_itself, "LEASE_EXPIRED", {}),
    "shutdown": (by_drain, "NEURON_SHUTDOWN", {}),
}
NOTICED: dict[str, Callable[[LeaseContext], None]] = {
    "ctx": lambda ctx: ctx.check_cancelled(),
    "anyio": lambda _: from_thread.check_cancelled(),
}


@pytest.mark.parametrize("notice", NOTICED)
@pytest.mark.parametrize("way", WAYS)
async def test_L8_a_thread_that_asks_is_told_of_every_cancellation(way: str, notice: str) -> None:
    act, code, options = WAYS[way]
    started, may_end, raised = threading.Event(), threading.Event(), threading.Event()

    @capability("test/asks", **options)
    def asks(_: Any, ctx: LeaseContext) -> None:
        started.set()
        try:
            while True:
                NOTICED[notice](ctx)
                time.sleep(0.001)
        finally:
            assert ctx.cancelled
            raised.set()
            may_end.wait(5)

    gateway = ScriptedGateway()
    if way == "lease lost":
        gateway.always_answer("heartbeat", 503)
    with anyio.fail_after(10):
        async with neuron(gateway, asks, timing=Timing(drain=1.0)) as running, anyio.create_task_group() as group:
            gateway.lease("l1", capability="test/asks", ttl=SHORT if way == "lease lost" else 60.0)
            await reached(started)
            group.start_soon(act, gateway, running)
            await reached(raised)
            await anyio.wait_all_tasks_blocked()
            assert running.snapshot().capabilities["test/asks"].running == 1
            assert gateway.posted("ack", "nack") == []
            may_end.set()
            nack = await gateway.wait_result("l1")
    assert nack["code"] == code


async def test_L8_a_thread_that_was_not_yet_begun_when_it_was_cancelled_never_runs() -> None:
    ran: list[int] = []

    @capability("test/counts", concurrency=200)
    def counts(number: int) -> None:
        ran.append(number)

    gateway, seen = ScriptedGateway(), Seen()
    with anyio.fail_after(10):
        async with neuron(gateway, counts, on_event=seen):
            for number in range(200):
                gateway.lease(f"l{number}", capability="test/counts", value=number)
                gateway.cancel(f"l{number}")
            await gateway.wait_posted("ack", "nack", count=200)
    kinds = {post["leaseId"]: post.get("kind", "acked") for post in gateway.posted("ack", "nack")}
    assert set(kinds.values()) <= {"cancelled"}


async def test_L4_3_what_a_thread_returns_after_its_cancel_is_not_acked_and_its_error_is_no_failure() -> None:
    started, go = threading.Event(), threading.Event()

    @capability("test/late")
    def late(how: str) -> str:
        started.set()
        assert go.wait(5)
        if how == "raises":
            raise ValueError(how)
        return how

    gateway = ScriptedGateway()
    with anyio.fail_after(10):
        async with neuron(gateway, late):
            for how in ("returns", "raises"):
                gateway.lease(how, capability="test/late", value=how)
                await reached(started)
                gateway.cancel(how)
                await anyio.wait_all_tasks_blocked()
                go.set()
                assert (await gateway.wait_result(how))["kind"] == "cancelled"
                started.clear()
                go.clear()


async def test_L11_13_a_valid_value_that_a_thread_returns_within_the_grace_is_acked() -> None:
    started = threading.Event()

    @capability("test/half")
    def half(_: Any, ctx: LeaseContext) -> str:
        started.set()
        while not ctx.cancelled:
            time.sleep(0.001)
        return "half done"

    gateway = ScriptedGateway()
    with anyio.fail_after(10):
        async with neuron(gateway, half, timing=Timing(drain=2.0)):
            gateway.lease("l1", capability="test/half")
            await reached(started)
    assert gateway.posted("ack")[0]["output"] == "half done"


ENDINGS: list[tuple[BaseException, str]] = [
    (SystemExit(3), "the handler raised SystemExit"),
    (KeyboardInterrupt(), "the handler raised KeyboardInterrupt"),
    (GeneratorExit(), "the handler raised GeneratorExit"),
    (BaseExceptionGroup("g", [SystemExit(3), ValueError()]), "the handler raised BaseExceptionGroup"),
    (ExceptionGroup("g", [ValueError("x")]), "x"),
    (ValueError("x"), "x"),
]


@pytest.mark.parametrize(("error", "reason"), ENDINGS, ids=[type(row[0]).__name__ for row in ENDINGS])
async def test_L11_6_whatever_a_thread_raises_is_one_tasks_failure(error: BaseException, reason: str) -> None:
    @capability("test/ends")
    def ends(_: Any) -> None:
        raise error

    gateway = ScriptedGateway()
    with anyio.fail_after(10):
        async with neuron(gateway, ends, echo):
            gateway.lease("l1", capability="test/ends")
            nack = await gateway.wait_result("l1")
            assert (nack["kind"], nack["code"], nack["reason"]) == ("retryable", "HANDLER_THREW", reason)
            gateway.lease("l2", value=1)
            assert (await gateway.wait_result("l2"))["type"] == "ack"


# H2: how many, and next to whom


async def test_L5_as_many_threads_run_at_once_as_the_limit_says_and_not_only_anyios_forty() -> None:
    barrier = threading.Barrier(100)

    @capability("test/meets", concurrency=100)
    def meets(_: Any) -> None:
        barrier.wait(10)

    gateway = ScriptedGateway()
    with anyio.fail_after(15):
        async with neuron(gateway, meets):
            for number in range(100):
                gateway.lease(f"l{number}", capability="test/meets")
            await gateway.wait_posted("ack", count=100)


async def test_H2_handlers_and_the_users_own_threads_do_not_starve_each_other() -> None:
    free, started = threading.Event(), threading.Event()

    @capability("test/quick")
    def quick(_: Any) -> None:
        pass

    @capability("test/blocks", concurrency=60)
    def blocks(_: Any) -> None:
        started.set()
        free.wait(10)

    gateway = ScriptedGateway()
    with anyio.fail_after(15):
        async with neuron(gateway, quick, blocks), anyio.create_task_group() as group:
            try:
                for _ in range(100):
                    group.start_soon(to_thread.run_sync, lambda: free.wait(10))
                await anyio.wait_all_tasks_blocked()
                gateway.lease("quick", capability="test/quick")
                assert (await gateway.wait_result("quick"))["type"] == "ack"
            finally:
                free.set()
        free.clear()
        gateway = ScriptedGateway()
        async with neuron(gateway, blocks):
            try:
                for number in range(60):
                    gateway.lease(f"l{number}", capability="test/blocks")
                await reached(started)
                assert await to_thread.run_sync(lambda: "mine") == "mine"
            finally:
                free.set()
            await gateway.wait_posted("ack", count=60)


# H2: what a thread may do


variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")


async def test_H2_a_thread_sees_the_context_variables_of_its_middleware_and_sets_them_for_nobody_else() -> None:
    async def sets(ctx: LeaseContext, call_next: Any) -> Any:
        before = variable.get()
        variable.set(ctx.lease_id)
        return [before, *(await call_next()), variable.get()]

    @capability("test/reads")
    def reads(_: Any) -> list[str]:
        seen = variable.get()
        variable.set("by the thread")
        return [seen]

    gateway = ScriptedGateway()
    with anyio.fail_after(10):
        async with neuron(gateway, reads, middleware=[sets]):
            for lease_id in ("l1", "l2"):
                gateway.lease(lease_id, capability="test/reads")
                assert (await gateway.wait_result(lease_id))["output"] == ["unset", lease_id, lease_id]


async def test_H2_a_thread_may_call_into_the_loop_and_everything_of_its_context() -> None:
    @capability("test/calls")
    def calls(_: Any, ctx: LeaseContext) -> dict[str, Any]:
        ctx.progress(percent=1)
        ctx.log.info("from a thread")
        return {
            "run": from_thread.run(there, 1),
            "run_sync": from_thread.run_sync(threading.get_ident) != threading.get_ident(),
            "time_left": 0 < ctx.time_left() <= 60,
            "attempt": ctx.attempt,
            "lease_id": ctx.lease_id,
            "key": ctx.idempotency_key,
            "state": ctx.state,
            "neuron_id": ctx.neuron.neuron_id,
            "running": from_thread.run_sync(ctx.neuron.snapshot).capabilities["test/calls"].running,
            "cancelled": ctx.cancelled,
            "reason": ctx.cancel_reason,
            "checked": [check() for check in (ctx.check_cancelled, from_thread.check_cancelled)],
        }

    async def there(number: int) -> int:
        await anyio.lowlevel.checkpoint()
        return number + 1

    gateway = ScriptedGateway()
    with anyio.fail_after(10):
        async with neuron(gateway, calls):
            gateway.lease("l1", capability="test/calls", attempt=2)
            result = await gateway.wait_result("l1")
    assert result["output"] == {
        "run": 2,
        "run_sync": True,
        "time_left": True,
        "attempt": 2,
        "lease_id": "l1",
        "key": "workflow/task-l1",
        "state": None,
        "neuron_id": "neuron-1",
        "running": 1,
        "cancelled": False,
        "reason": None,
        "checked": [None, None],
    }


async def test_L8_a_thread_that_waits_in_the_loop_may_wait_for_its_cancellation_there() -> None:
    started = threading.Event()

    @capability("test/waits")
    def waits(_: Any, ctx: LeaseContext) -> str:
        started.set()
        return str(from_thread.run(ctx.wait_cancelled).value)

    gateway = ScriptedGateway()
    with anyio.fail_after(10):
        async with neuron(gateway, waits):
            gateway.lease("l1", capability="test/waits")
            await reached(started)
            await anyio.wait_all_tasks_blocked()
            gateway.cancel("l1")
            assert (await gateway.wait_result("l1"))["kind"] == "cancelled"


async def test_L8_the_time_out_of_a_middleware_tells_the_thread_and_waits_for_its_end() -> None:
    noticed: list[str] = []

    async def bounds(ctx: LeaseContext, call_next: Any) -> Any:
        for _ in range(2):
            with anyio.move_on_after(0.05):
                await call_next()
        return "cut twice"

    @capability("test/slow")
    def slow(_: Any, ctx: LeaseContext) -> Any:
        try:
            while True:
                ctx.check_cancelled()
                time.sleep(0.001)
        finally:
            assert ctx.cancelled
            assert ctx.cancel_reason is None
            noticed.append(ctx.lease_id)

    gateway = ScriptedGateway()
    with anyio.fail_after(10):
        async with neuron(gateway, slow, middleware=[bounds]):
            gateway.lease("l1", capability="test/slow")
            assert (await gateway.wait_result("l1"))["output"] == "cut twice"
    assert noticed == ["l1", "l1"]


async def test_H2_an_awaitable_of_a_thread_is_cancelled_in_the_loop() -> None:
    at = anyio.Event()

    @capability("test/both")
    def both(_: Any) -> Any:
        async def rest() -> None:
            at.set()
            await anyio.sleep(math.inf)

        return rest()

    gateway = ScriptedGateway()
    with anyio.fail_after(10):
        async with neuron(gateway, both):
            gateway.lease("l1", capability="test/both")
            await at.wait()
            gateway.cancel("l1")
            assert (await gateway.wait_result("l1"))["kind"] == "cancelled"


def test_H2_generators_are_refused() -> None:
    def numbers(_: Any) -> Any:
        yield 1

    async def more_numbers(_: Any) -> Any:
        yield 1

    class Numbers:
        def __call__(self, _: Any) -> Any:
            yield 1

    for function in (numbers, more_numbers, functools.partial(numbers), Numbers()):
        with pytest.raises(TypeError, match="must not yield"):
            capability("test/numbers")(function)


async def test_D2_a_thread_that_was_left_behind_is_counted_until_it_ends_and_harms_nobody() -> None:
    free, started = threading.Event(), threading.Event()

    @capability("test/stays")
    def stays(_: Any, ctx: LeaseContext) -> None:
        started.set()
        free.wait(10)
        ctx.progress(percent=1)

    gateway, seen = ScriptedGateway(), Seen()
    try:
        with anyio.fail_after(10):
            async with neuron(gateway, stays, timing=Timing(drain=0.2), on_event=seen) as running:
                gateway.lease("l1", capability="test/stays")
                await reached(started)
        assert running.snapshot().left_behind == 1
    finally:
        free.set()
    with anyio.fail_after(5):
        while running.snapshot().left_behind:  # noqa: ASYNC110 - it tells nobody
            await anyio.sleep(0.002)
    assert [event.lease_id for event in seen.of(events.HandlerBlocked)] == ["l1"]
