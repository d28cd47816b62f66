"""A neuron as its user holds it: lifespan, events, snapshot, pause and resume, and the order of all that it tells."""

from __future__ import annotations

import logging
import math
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import anyio.lowlevel
import msgspec
import pytest

from neuron_anyio import LeaseContext, Timing, TransportError, capability, events, open_neuron
from neuron_anyio.config import Limits
from neuron_anyio.model import Cancelled, Completed
from neuron_anyio.testing.scripted_gateway import ScriptedGateway
from neuron_anyio.testing.steered_handler import SteeredHandler
from tests.runtime.handlers import echo, settle
from tests.runtime.http_gateway import Seen

pytestmark = pytest.mark.anyio


def neuron(gateway: ScriptedGateway, *capabilities: Any, **options: Any) -> Any:
    return open_neuron(gateway.transport, neuron_id="neuron-1", capabilities=capabilities or [echo], **options)


class LifespanError(Exception):
    pass


class BodyError(Exception):
    pass


# Lifespan


async def test_nothing_is_said_to_the_gateway_before_the_lifespan_is_up_nor_after_it_is_down() -> None:
    gateway = ScriptedGateway()
    posts: list[int] = []

    @asynccontextmanager
    async def lifespan() -> AsyncGenerator[None]:
        await settle()
        posts.append(len(gateway.posts))
        yield
        posts.append(len(gateway.posts))
        await settle()
        posts.append(len(gateway.posts))

    with anyio.fail_after(5):
        async with neuron(gateway, lifespan=lifespan):
            gateway.lease("l1", value=1)
            await gateway.wait_result("l1")
    assert posts[0] == 0
    assert posts[1] == posts[2] == len(gateway.posts)


async def test_each_neuron_has_a_state_of_its_own() -> None:
    states = iter([{"name": "one"}, {"name": "two"}])

    @asynccontextmanager
    async def lifespan() -> AsyncGenerator[dict[str, str]]:
        yield next(states)

    @capability("test/state")
    async def state(value: Any, ctx: LeaseContext) -> Any:
        return ctx.state

    first, second = ScriptedGateway(), ScriptedGateway()
    with anyio.fail_after(5):
        async with neuron(first, state, lifespan=lifespan), neuron(second, state, lifespan=lifespan):
            for gateway in (first, second):
                gateway.lease("l1", capability="test/state")
            outputs = [(await gateway.wait_result("l1"))["output"] for gateway in (first, second)]
    assert outputs == [{"name": "one"}, {"name": "two"}]


async def test_a_lifespan_that_raises_on_its_exit_is_what_comes_out_of_the_block_after_the_drain() -> None:
    @asynccontextmanager
    async def lifespan() -> AsyncGenerator[None]:
        yield
        raise LifespanError

    gateway = ScriptedGateway()
    with anyio.fail_after(5), pytest.raises(LifespanError):
        async with neuron(gateway, lifespan=lifespan) as running:
            gateway.lease("l1", value=1)
            await settle()
    assert gateway.posted("ack")
    assert running.snapshot().connection == "stopped"


async def test_a_lifespan_sees_what_the_body_raises_when_the_neuron_has_ended() -> None:
    seen: list[tuple[Exception, str]] = []

    @asynccontextmanager
    async def lifespan() -> AsyncGenerator[None]:
        try:
            yield
        except BodyError as exc:
            seen.append((exc, running.snapshot().connection))
            raise

    gateway, error = ScriptedGateway(), BodyError()
    with anyio.fail_after(5), pytest.raises(BodyError):
        async with neuron(gateway, lifespan=lifespan) as running:
            raise error
    assert seen == [(error, "stopped")]


async def test_D3_a_lifespan_is_cancelled_with_the_block_while_it_enters_and_while_it_leaves() -> None:
    steps: list[str] = []
    in_exit = anyio.Event()

    @asynccontextmanager
    async def slow_to_enter() -> AsyncGenerator[None]:
        try:
            await anyio.sleep_forever()
            yield
        finally:
            steps.append("never up")

    @asynccontextmanager
    async def slow_to_leave() -> AsyncGenerator[None]:
        yield
        in_exit.set()
        try:
            await anyio.sleep_forever()
        finally:
            steps.append("down at last")

    gateway = ScriptedGateway()
    with anyio.fail_after(5):
        with anyio.move_on_after(0.05):
            async with neuron(gateway, lifespan=slow_to_enter):
                raise AssertionError
        assert gateway.posts == []
        async with anyio.create_task_group() as group:

            async def cancel() -> None:
                await in_exit.wait()
                group.cancel_scope.cancel()

            group.start_soon(cancel)
            async with neuron(gateway, lifespan=slow_to_leave):
                pass
    assert steps == ["never up", "down at last"]


# Events


async def test_on_event_is_told_all_from_the_first_one_in_order() -> None:
    gateway, seen = ScriptedGateway(), Seen()
    with anyio.fail_after(5):
        async with neuron(gateway, on_event=seen):
            gateway.send(type="news", text="unknown to this version")
            gateway.transport.push(b"not JSON")
            gateway.lease("l1", value="content", task_id="t1", attempt=2)
            await seen.wait(events.ResultAccepted)
            gateway.always_answer("ack", 410)
            gateway.lease("l2", value=1, task_id="t2")
            await seen.wait(events.ResultRejected)
            gateway.revoke("test/echo", "policy")
            await seen.wait(events.CapabilityRevoked)
            gateway.transport.break_stream(TransportError("gone"))
            await seen.wait(events.Reconnecting)
    kinds = [type(event).__name__ for event in seen]
    assert kinds[:4] == ["Connected", "FrameReceived", "Registered", "FrameReceived"]
    for name in ("FrameDropped", "LeaseAdmitted", "LeaseStarted", "LeaseSettled", "ResultAccepted"):
        assert name in kinds
    one = [event for event in seen if getattr(event, "lease_id", None) == "l1"]
    assert [type(event).__name__ for event in one] == [
        "LeaseAdmitted",
        "LeaseStarted",
        "LeaseSettled",
        "ResultAccepted",
    ]
    assert {event.origin for event in one} == {"memory:test"}
    assert {getattr(event, "task_id", "t1") for event in one} == {"t1"}
    started, settled = seen.of(events.LeaseStarted)[0], seen.of(events.LeaseSettled)[0]
    assert started.attempt == 2
    assert isinstance(settled.outcome, Completed)
    assert (settled.seconds or 0) >= 0
    (unknown,) = [event for event in seen.of(events.FrameReceived) if event.type == "news"]
    assert unknown.raw is not None
    assert b"unknown to this version" in unknown.raw
    assert kinds.index("Disconnected") < kinds.index("Reconnecting") < kinds.index("Draining")
    shown = repr(list(seen))
    assert "content" not in shown
    assert "unknown to this version" not in shown


async def test_events_are_frozen() -> None:
    for kind in vars(events).values():
        if isinstance(kind, type) and issubclass(kind, events.Event):
            assert kind.__struct_config__.frozen
            assert kind.__name__ == "Event" or kind.__name__ in events.__all__


async def test_a_stream_of_events_tells_all_from_now_on_and_ends_with_the_neuron() -> None:
    gateway = ScriptedGateway()
    told: list[str] = []
    with anyio.fail_after(5):
        async with anyio.create_task_group() as group, neuron(gateway) as running:
            stream = running.events(max_buffer=math.inf)

            async def follow() -> None:
                with stream:
                    told.extend([type(event).__name__ async for event in stream])

            group.start_soon(follow)
            gateway.lease("l1", value=1)
            await gateway.wait_result("l1")
    assert told[0] == "FrameReceived"
    assert {"LeaseAdmitted", "LeaseSettled", "ResultAccepted", "Draining"} <= set(told)
    with running.events() as late:
        assert [event async for event in late] == []


async def test_a_slow_listener_misses_events_and_the_log_says_so_twice_and_not_for_each(
    caplog: pytest.LogCaptureFixture,
) -> None:
    gateway = ScriptedGateway()
    with anyio.fail_after(5):
        async with neuron(gateway) as running:
            with running.events(max_buffer=2) as slow, running.events(max_buffer=math.inf) as quick:
                for number in range(20):
                    gateway.lease(f"l{number}", value=number)
                await gateway.wait_posted("ack", count=20)
                await settle()
                first = [slow.receive_nowait(), slow.receive_nowait()]
                gateway.lease("last", value=1)
                await gateway.wait_result("last")
                every = []
                while quick.statistics().current_buffer_used:
                    every.append(quick.receive_nowait())
    assert first == every[:2]
    lines = [record.getMessage() for record in caplog.records if "listener" in record.getMessage()]
    missed = int(lines[1].rpartition("missed ")[2].split()[0])
    assert lines[0].startswith("a listener is too slow; it misses events, the first a ")
    assert every[2 + missed] in every  # what it got next
    assert len(lines) <= 4
    assert missed > 20


async def test_a_listener_that_goes_away_is_forgotten() -> None:
    gateway = ScriptedGateway()
    with anyio.fail_after(5):
        async with neuron(gateway) as running:
            with running.events():
                pass
            gateway.lease("l1", value=1)
            assert (await gateway.wait_result("l1"))["type"] == "ack"
            assert len(running._listeners._streams) == 0


async def test_an_on_event_that_raises_is_logged_and_harms_nobody(caplog: pytest.LogCaptureFixture) -> None:
    def raises(event: events.Event) -> None:
        raise BodyError("of the listener")

    gateway = ScriptedGateway()
    with anyio.fail_after(5):
        async with neuron(gateway, on_event=raises) as running:
            with running.events() as stream:
                gateway.lease("l1", value=1)
                assert (await gateway.wait_result("l1"))["type"] == "ack"
                assert stream.statistics().current_buffer_used
    assert [record for record in caplog.records if record.levelno == logging.ERROR and record.exc_info]


# Snapshot and session


async def test_a_snapshot_is_frozen_and_shows_each_state_without_any_content() -> None:
    steered, gateway = SteeredHandler(concurrency=2), ScriptedGateway()
    with anyio.fail_after(5):
        async with neuron(gateway, steered.capability) as running:
            for number in range(4):
                gateway.lease(f"l{number}", capability="test/steered", value="content", task_id=f"t{number}")
            await steered.wait_started(2)
            await settle()
            before = running.snapshot()
            gateway.hold("ack")
            steered.finish("l0", lambda _: "content")
            gateway.cancel("l3")
            await gateway.wait_posted("ack", "nack", count=2)
            await steered.wait_started(3)
            await settle()
            after = running.snapshot()
            gateway.release("ack")
            for number in range(4):
                steered.finish(f"l{number}")
            await gateway.wait_posted("ack", count=3)
            await settle()
            last = running.snapshot()
    state = before.capabilities["test/steered"]
    assert (before.connection, before.draining, before.paused) == ("registered", False, False)
    assert (state.limit, state.running, state.queued, state.outcomes) == (2, 2, 2, {})
    assert [(lease.lease_id, lease.state) for lease in before.leases] == [
        ("l0", "running"), ("l1", "running"), ("l2", "queued"), ("l3", "queued"),
    ]  # fmt: skip
    assert all(lease.age >= 0 and 0 < (lease.time_left or 0) <= 60 for lease in before.leases)
    assert after.undelivered == 1
    assert after.capabilities["test/steered"].outcomes == {Completed.__name__: 1, Cancelled.__name__: 1}
    assert {lease.lease_id: lease.state for lease in after.leases}["l0"] == "undelivered"
    assert last.leases == ()
    assert last.undelivered == last.recorded == last.left_behind == 0
    for part in (before, state, before.leases[0]):
        assert type(part).__struct_config__.frozen
    assert "content" not in repr((before, after))
    assert b"content" not in msgspec.json.encode(before)


async def test_the_session_is_what_the_gateway_granted_last() -> None:
    gateway = ScriptedGateway(confirms=False)
    with anyio.fail_after(5):
        async with anyio.create_task_group() as group:

            async def confirm() -> None:
                await gateway.wait_posted("register")
                gateway.registered([{"type": "test/echo", "scope": "any", "concurrency": 2}], session_id="mine")

            group.start_soon(confirm)
            async with neuron(gateway) as running:
                session = running.session
                gateway.registered([{"type": "test/echo", "scope": "any", "concurrency": 1}], session_id="second")
                await settle()
                assert (running.session.id, dict(running.session.capabilities)) == ("second", {"test/echo": 1})
    assert (session.id, dict(session.capabilities)) == ("mine", {"test/echo": 2})
    assert type(session).__struct_config__.frozen


async def test_L5_update_capability_refuses_what_it_does_not_know() -> None:
    gateway = ScriptedGateway()
    with anyio.fail_after(5):
        async with neuron(gateway) as running:
            with pytest.raises(KeyError, match="no capability 'test/other' here; there is test/echo"):
                await running.update_capability("test/other", concurrency=1)
            for wrong in (0, -1, 1.5, True, "2"):
                with pytest.raises(ValueError, match="concurrency must be a whole number, 1 or more"):
                    await running.update_capability("test/echo", concurrency=wrong)
            assert running.snapshot().capabilities["test/echo"].limit == 4


# Pause, resume, drain


async def test_D1_a_pause_keeps_no_drain_up_and_nothing_starts_after_it() -> None:
    steered, gateway = SteeredHandler(concurrency=1), ScriptedGateway()
    with anyio.fail_after(5):
        async with neuron(gateway, steered.capability, echo) as running:
            gateway.lease("l0", capability="test/steered")
            await steered.wait_started()
            running.pause()
            running.pause()
            gateway.lease("l1", value=1)
            await settle()
            steered.finish("l0")
            await running.drain()
            assert (await gateway.wait_result("l1"))["code"] == "NEURON_DRAINING"
            assert (await gateway.wait_result("l0"))["type"] == "ack"
            assert running.snapshot().paused
            running.resume()
            assert not running.snapshot().paused
            gateway.lease("l2", value=1)
            assert (await gateway.wait_result("l2"))["code"] == "NEURON_DRAINING"
            await running.drain()  # a second time it has nothing to do
            running.pause()
    assert running.snapshot().draining


async def test_a_pause_during_the_drain_lets_what_runs_finish() -> None:
    steered, gateway = SteeredHandler(concurrency=1), ScriptedGateway()
    with anyio.fail_after(5):
        async with neuron(gateway, steered.capability) as running, anyio.create_task_group() as group:
            gateway.lease("l0", capability="test/steered")
            await steered.wait_started()
            group.start_soon(running.drain)
            await settle()
            running.pause()
            assert running.snapshot().draining
            steered.finish("l0")
    assert gateway.posted("ack", lease_id="l0")


async def test_a_handler_may_pause_its_neuron_and_change_its_limits() -> None:
    @capability("test/steers")
    async def steers(value: Any, ctx: LeaseContext) -> list[Any]:
        ctx.neuron.pause()
        paused = ctx.neuron.snapshot().paused
        await ctx.neuron.update_capability("test/steers", concurrency=3)
        ctx.neuron.resume()
        return [paused, ctx.neuron.snapshot().paused, ctx.neuron.snapshot().capabilities["test/steers"].limit]

    gateway = ScriptedGateway()
    with anyio.fail_after(5):
        async with neuron(gateway, steers):
            gateway.lease("l1", capability="test/steers")
            assert (await gateway.wait_result("l1"))["output"] == [True, False, 3]


async def test_L2_a_pause_lets_what_arrives_wait_up_to_the_bounds_of_the_queue() -> None:
    gateway = ScriptedGateway()
    with anyio.fail_after(5):
        async with neuron(gateway, limits=Limits(queue=2), timing=Timing(drain=1.0)) as running:
            running.pause()
            for number in range(3):
                gateway.lease(f"l{number}", value=number)
            assert (await gateway.wait_posted("nack"))[0]["code"] == "NEURON_OVERLOADED"
            running.resume()
            await gateway.wait_posted("ack", count=2)


async def test_a_limit_may_be_changed_after_the_end_and_nobody_is_told() -> None:
    gateway = ScriptedGateway()
    async with open_neuron(gateway.transport, neuron_id="n", capabilities=[echo]) as neuron:
        pass
    await neuron.update_capability("test/echo", concurrency=3)
    neuron.resume()
    assert neuron.snapshot().capabilities["test/echo"].limit == 3
    assert not gateway.posted("update-capability")
