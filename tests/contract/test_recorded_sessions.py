"""Our neuron in the sessions that the published one was recorded in.

The gateway's side is played again. Where the recorded neuron was right ours must say the same, but for wording and
moments; where it was wrong (the recording's note says so) the test says what is right.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest

from neuron_anyio import (
    Backoff,
    Capability,
    GatewayDisconnected,
    LeaseContext,
    RegistrationRejected,
    Timing,
    capability,
    open_neuron,
)
from neuron_anyio.testing.steered_handler import SteeredHandler
from tests.contract.recordings import Recording, Replay, normalised
from tests.runtime.http1_server import serving
from tests.runtime.http_gateway import bearer

# ruff: noqa: SIM117 - the outer block is the scene, the inner one the act

pytestmark = pytest.mark.anyio

Handler = Capability[..., Any]


@asynccontextmanager
async def replayed(name: str) -> AsyncGenerator[tuple[Recording, Replay]]:
    recording = Recording.load(name)
    gateway = Replay(recording)
    with anyio.fail_after(15):
        async with serving(gateway.handle) as gateway.server:
            yield recording, gateway


def neuron(gateway: Replay, handler: Handler, **options: Any) -> Any:
    options.setdefault("timing", Timing(reconnect=Backoff(initial=0.01, maximum=0.02)))
    options.setdefault("auth", "token-1")
    return open_neuron(gateway.url, neuron_id="neuron-1", capabilities=[handler], **options)


def echo(**options: Any) -> Callable[[Callable[..., Any]], Handler]:
    return capability("core/echo", **options)


def steered(**options: Any) -> SteeredHandler:
    return SteeredHandler("core/echo", **options)


async def playing(name: str, handler: Handler, *lease_ids: str, **options: Any) -> tuple[Recording, Replay]:
    """Play a session from beginning to end, until these leases are settled."""
    async with replayed(name) as (recording, gateway), anyio.create_task_group() as group:
        group.start_soon(gateway.play)
        async with neuron(gateway, handler, **options):
            await gateway.settled(*lease_ids)
            await gateway.said_all()
        assert not gateway.left
    return recording, gateway


def check_same(recording: Recording, gateway: Replay) -> None:
    """See to it that our requests are those of the recording, in their order."""
    assert [f"{request.method} {request.target}" for request in gateway.requests] == recording.targets
    assert [bearer(request) for request in gateway.requests] == recording.tokens
    assert list(map(normalised, gateway.posts)) == list(map(normalised, recording.frames))
    for request, recorded in zip(gateway.requests, recording.requests, strict=True):
        headers = dict(recorded["headers"])
        for name in ("Accept", "Cache-Control", "Content-Type"):
            assert request.header(name.lower()) == (None if headers.get(name) == "*/*" else headers.get(name))


def verdicts(gateway: Replay) -> dict[str, tuple[str, ...]]:
    """Return kind and code of each nack, and of each ack its type, by lease."""
    found = {frame["leaseId"]: frame for frame in gateway.posted("ack", "nack")}
    assert len(found) == len(gateway.posted("ack", "nack"))
    return {
        lease_id: ("ack",) if frame["type"] == "ack" else (frame["kind"], frame["code"])
        for lease_id, frame in found.items()
    }


async def test_01_the_happy_path() -> None:
    @echo()
    async def handler(value: Any) -> Any:
        return {"echo": value}

    check_same(*await playing("01", handler, "l1"))


async def test_02_progress() -> None:
    async with replayed("02") as (recording, gateway), anyio.create_task_group() as group:

        @echo()
        async def handler(_: Any, ctx: LeaseContext) -> Any:
            ctx.progress(percent=0, message="start")
            await gateway.wait_posted("progress")
            ctx.progress(percent=33.3, data={"rows": 12, "x": None})
            await gateway.wait_posted("progress", count=2)
            ctx.progress(message="only")
            await gateway.wait_posted("progress", count=3)
            ctx.progress(percent=150)  # clamped, and overtaken by the next
            ctx.progress(percent=100, message="")
            return {"ok": True}

        group.start_soon(gateway.play)
        async with neuron(gateway, handler):
            await gateway.settled("l1")
    check_same(recording, gateway)


async def test_03_a_handler_that_fails_for_good() -> None:
    @echo()
    async def handler(value: Any, ctx: LeaseContext) -> Any:
        if "code" in value:
            ctx.fail("invalid API key", code="INVALID_API_KEY")
        ctx.fail("no code given")

    recording, gateway = await playing("03", handler, "l1", "l2")
    check_same(recording, gateway)
    assert [nack["reason"] for nack in gateway.posted("nack")] == ["invalid API key", "no code given"]


async def test_04_a_handler_that_raises() -> None:
    raised = {1: RuntimeError("boom"), 2: ValueError(), 3: KeyError("x"), 4: TimeoutError()}

    @echo()
    async def handler(value: Any) -> Any:
        raise raised[value["k"]]

    recording, gateway = await playing("04", handler, "l1", "l2", "l3", "l4")
    check_same(recording, gateway)
    for ours, theirs in zip(gateway.posted("nack"), recording.of("nack"), strict=True):
        assert theirs["reason"] in ours["reason"]


async def test_05_the_cancel_of_a_running_lease() -> None:
    handler = steered()
    async with replayed("05") as (recording, gateway), anyio.create_task_group() as group:
        async with neuron_while(gateway, handler, group):
            await gateway.play(2)
            await handler.wait_started()
            await gateway.play()  # the cancel, once more, and one for a lease that nobody knows
            await gateway.settled("l1")
            await gateway.said_all()
    check_same(recording, gateway)


async def test_06_a_queued_lease_that_is_cancelled_never_runs() -> None:
    handler = steered()
    async with replayed("06") as (_, gateway), anyio.create_task_group() as group:
        async with neuron_while(gateway, handler, group):
            await gateway.play()
            await gateway.settled("l2")
            handler.finish("l1")
            await gateway.settled("l1")
    assert handler.started == ["l1"]
    assert verdicts(gateway) == {"l2": ("cancelled", "CANCELLED"), "l1": ("ack",)}


async def test_07_input_schemas_and_which_of_them_counts() -> None:
    @echo(input_schema={"type": "object", "required": ["registered"]})
    async def handler(_: Any) -> Any:
        return {"ok": 1}

    _, gateway = await playing("07", handler, "l1", "l2", "l3", "l4", "l5")
    assert verdicts(gateway) == {
        "l1": ("schema-mismatch", "INPUT_SCHEMA_MISMATCH"),
        "l2": ("schema-mismatch", "INPUT_SCHEMA_MISMATCH"),
        "l3": ("ack",),
        "l4": ("ack",),  # {} is a schema; the recorded neuron fell back to the registered one
        "l5": ("schema-mismatch", "INVALID_SCHEMA"),
    }


async def test_08_output_schemas_and_an_output_of_null() -> None:
    @echo(output_schema={"type": "object", "required": ["r"]})
    async def handler(value: Any) -> Any:
        return value["out"]

    recording, gateway = await playing("08", handler, "l1", "l2", "l3")
    recorded = list(map(normalised, recording.frames))
    recorded[-1]["output"] = None  # the recorded neuron left it out
    assert list(map(normalised, gateway.posts)) == recorded
    assert "output" in gateway.posted("ack")[-1]


async def test_09_refused_tokens_are_renewed() -> None:
    tokens = iter(["token-1", "token-2", "token-2", "token-1", "token-2"])

    @echo()
    async def handler(_: Any) -> Any:
        return {"ok": 1}

    check_same(*await playing("09", handler, "l1", auth=lambda: next(tokens)))


async def test_10_streams_that_end_break_and_are_refused() -> None:
    @echo()
    async def handler(_: Any) -> Any:
        return {"ok": 1}

    async with replayed("10") as (recording, gateway), anyio.create_task_group() as group:
        group.start_soon(gateway.play)
        async with neuron(gateway, handler):
            await gateway.wait_posted("register", count=3)
    check_same(recording, gateway)


async def test_11_a_drain_gives_back_what_waits_and_what_comes() -> None:
    handler = steered()
    async with replayed("11") as (_, gateway), anyio.create_task_group() as group:

        async def drive() -> None:
            await gateway.settled("l2", "l3")  # at once, not when the slot comes free
            assert handler.running == 1
            await gateway.play()
            await gateway.settled("l4")
            handler.finish("l1", lambda _: {"lease": "l1"})

        async with neuron_while(gateway, handler, group):
            await gateway.play(4)
            await handler.wait_started()
            await gateway.said_all()
            group.start_soon(drive)
    back = ("retryable", "NEURON_DRAINING")
    assert verdicts(gateway) == {"l2": back, "l3": back, "l4": back, "l1": ("ack",)}
    assert handler.started == ["l1"]


async def test_12_a_changed_limit_is_told_and_kept() -> None:
    @echo(concurrency=2, lease_ttl=60.0)
    async def handler(_: Any, ctx: LeaseContext) -> Any:
        return {"lease": ctx.lease_id}

    async with replayed("12") as (recording, gateway), anyio.create_task_group() as group:
        group.start_soon(gateway.play)
        async with neuron(gateway, handler) as running:
            await running.update_capability("core/echo", concurrency=5)
            await gateway.wait_posted("update-capability")
            await running.update_capability("core/echo", concurrency=1)
            await gateway.wait_posted("register", count=2)
    check_same(recording, gateway)


async def test_13_heartbeats_list_what_runs() -> None:
    handler = steered()
    timing = Timing(heartbeat=0.05)
    async with replayed("13") as (recording, gateway), anyio.create_task_group() as group:
        async with neuron_while(gateway, handler, group, timing=timing):
            await gateway.play()
            await handler.wait_started()
            await gateway.wait_posted("heartbeat", count=len(gateway.posted("heartbeat")) + 3)
            handler.finish("l1", lambda _: {"lease": "l1"})
            handler.finish("l2", lambda _: {"lease": "l2"})
            await gateway.settled("l1", "l2")
            await gateway.wait_posted("heartbeat", count=len(gateway.posted("heartbeat")) + 2)
    seen = [[(entry["leaseId"], entry["taskId"]) for entry in beat["inFlight"]] for beat in gateway.posted("heartbeat")]
    assert seen.count([("l1", "t-l1")]) >= 3
    assert seen[-1] == []
    running = [beat for beat in gateway.posted("heartbeat") if beat["inFlight"]]
    assert len({beat["inFlight"][0]["startedAt"][:19] for beat in running}) <= 2  # one moment, told again
    assert running[0].keys() == recording.of("heartbeat")[0].keys()
    assert list(map(normalised, gateway.posted("ack"))) == list(map(normalised, recording.of("ack")))


async def test_14_a_lease_that_nobody_can_run_goes_back() -> None:
    @echo()
    async def handler(_: Any) -> Any:
        raise AssertionError

    _, gateway = await playing("14", handler, "l1")
    assert verdicts(gateway) == {"l1": ("retryable", "UNKNOWN_CAPABILITY")}


async def test_15_what_a_drain_cuts_goes_back_and_is_not_called_off() -> None:
    handler = steered()
    timing = Timing(drain=0.1)
    async with replayed("15") as (_, gateway), anyio.create_task_group() as group:
        async with neuron_while(gateway, handler, group, timing=timing):
            await gateway.play()
            await handler.wait_started()
            await gateway.said_all()
    assert verdicts(gateway) == {"l2": ("retryable", "NEURON_DRAINING"), "l1": ("retryable", "NEURON_SHUTDOWN")}


async def test_16_a_revoked_capability_is_not_run_and_a_final_disconnect_is_final() -> None:
    handler = steered()
    async with replayed("16") as (_, gateway), anyio.create_task_group() as group:
        group.start_soon(play_as_far_as_it_goes, gateway)
        with pytest.raises(GatewayDisconnected, match="maintenance") as caught:
            async with neuron(gateway, handler.capability):
                await anyio.sleep_forever()
        group.cancel_scope.cancel()
    assert caught.value.code == "GOING_AWAY"
    assert verdicts(gateway)["l1"] == ("retryable", "CAPABILITY_REVOKED")
    assert not handler.started
    assert not gateway.posted("ack")
    assert (len(gateway.gets), len(gateway.posted("register"))) == (1, 1)


async def test_17_a_namespace_that_is_refused_is_an_error() -> None:
    @echo()
    async def handler(_: Any) -> Any:
        raise AssertionError

    async with replayed("17") as (recording, gateway):
        with pytest.raises(RegistrationRejected, match="namespace not authorized") as caught:
            async with neuron(gateway, handler):
                raise AssertionError
        check_same(recording, gateway)
    assert caught.value.status == 403
    assert "core/echo for any" in str(caught.value)


async def test_18_comments_junk_and_characters_cut_in_two() -> None:
    inputs: list[Any] = []

    @echo()
    async def handler(value: Any) -> Any:
        inputs.append(value)
        return {"ok": 1}

    check_same(*await playing("18", handler, "l1", "l2"))
    assert inputs == [{"a": 1}, {"s": "é"}]


async def play_as_far_as_it_goes(gateway: Replay) -> None:
    await gateway.play(4)
    await gateway.play(1)  # a lease after the last word: the neuron may be gone already


@asynccontextmanager
async def neuron_while(
    gateway: Replay, handler: SteeredHandler, group: anyio.abc.TaskGroup, **options: Any
) -> AsyncGenerator[None]:
    """Run a neuron whose first part of the stream is played while it enters."""
    group.start_soon(gateway.play, 1)
    async with neuron(gateway, handler.capability, **options):
        yield
