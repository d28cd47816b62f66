"""Rows of `tests/reference_defects.md` that no other test shows."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from neuron_anyio import Backoff, LeaseContext, Timing, TransportError, capability, events, open_neuron
from neuron_anyio.testing.scripted_gateway import ScriptedGateway
from neuron_anyio.testing.steered_handler import SteeredHandler
from tests.runtime.handlers import echo, settle
from tests.runtime.http1_server import OK, answering, serving
from tests.runtime.http_gateway import Seen, http_gateway

pytestmark = pytest.mark.anyio

FAST = Timing(reconnect=Backoff(initial=0.01, maximum=0.02))


def neuron(gateway: Any, *capabilities: Any, **options: Any) -> Any:
    options.setdefault("timing", FAST)
    return open_neuron(gateway, neuron_id="neuron-1", capabilities=capabilities or [echo], **options)


@pytest.mark.parametrize("wrong", [0, -1, True, 1.5, None])
async def test_L5_reference_D05_a_limit_that_is_no_number_above_0_is_refused_and_changes_nothing(wrong: Any) -> None:
    gateway = ScriptedGateway()
    async with neuron(gateway.transport) as running:
        with pytest.raises(ValueError, match="concurrency must be a whole number, 1 or more"):
            await running.update_capability("test/echo", concurrency=wrong)
        assert running.snapshot().capabilities["test/echo"].limit == 4
        gateway.lease("l1", value=1)
        assert (await gateway.wait_result("l1"))["type"] == "ack"
    assert gateway.posted("update-capability") == []


async def test_L4_5_reference_D20_a_second_cancel_leaves_the_nack_that_answers_the_first_alone() -> None:
    steered, gateway, seen = SteeredHandler(), ScriptedGateway(), Seen()
    gateway.hold("nack")
    async with neuron(gateway.transport, steered.capability, on_event=seen):
        gateway.lease("l1", capability="test/steered")
        await steered.wait_started()
        gateway.cancel("l1")
        await gateway.wait_posted("nack")
        gateway.cancel("l1")
        gateway.cancel("l1")
        await settle()
        gateway.release("nack")
        await seen.wait(events.ResultAccepted)
    assert [(post["type"], post["kind"]) for post in gateway.posted("ack", "nack")] == [("nack", "cancelled")]


@pytest.mark.parametrize("output", [object(), "\ud800", {1: 2}, [float("inf")]], ids=["object", "half", "key", "inf"])
async def test_L11_10_reference_D23_an_output_that_cannot_be_sent_is_a_nack(output: Any) -> None:
    @capability("test/odd")
    async def odd(_: Any) -> Any:
        return output

    gateway = ScriptedGateway()
    async with neuron(gateway.transport, odd):
        gateway.lease("l1", capability="test/odd")
        nack = await gateway.wait_result("l1")
    assert (nack["kind"], nack["code"]) == ("schema-mismatch", "OUTPUT_NOT_JSON")


@pytest.mark.parametrize("side", ["input_schema", "output_schema"])
@pytest.mark.parametrize("schema", [5, "text", {"$ref": "#/nowhere"}, "URL"], ids=["number", "text", "nowhere", "away"])
async def test_L11_11_L12_reference_D25_a_schema_that_cannot_be_used_is_a_nack_and_none_is_fetched(
    side: str, schema: Any
) -> None:
    gateway = ScriptedGateway()
    async with serving(answering(OK)) as server, neuron(gateway.transport):
        schemas: dict[str, Any] = {side: {"$ref": server.url("/schema")} if schema == "URL" else schema}
        gateway.lease("l1", value=1, **schemas)
        nack = await gateway.wait_result("l1")
    assert (nack["kind"], nack["code"]) == ("schema-mismatch", "INVALID_SCHEMA")
    assert server.connections == 0


async def test_D3_reference_D28_a_stop_at_once_says_all_thirteen_last_words_over_http() -> None:
    steered = SteeredHandler()
    async with http_gateway() as gateway:
        with anyio.fail_after(10), anyio.CancelScope() as scope:
            async with neuron(gateway.url, steered.capability) as running:
                for number in range(13):
                    gateway.lease(f"l{number}", capability="test/steered")
                await steered.wait_started()
                while running.snapshot().capabilities["test/steered"].queued < 12:  # noqa: ASYNC110 - it tells nobody
                    await anyio.sleep(0.001)
                scope.cancel()
    nacks = gateway.posted("nack")
    assert sorted(nack["leaseId"] for nack in nacks) == sorted(f"l{number}" for number in range(13))
    assert [nack["code"] for nack in nacks if nack["leaseId"] == "l0"] == ["NEURON_SHUTDOWN"]


async def test_L1_reference_D36_an_input_that_does_not_match_is_answered_while_no_slot_is_free() -> None:
    steered, gateway = SteeredHandler(input_schema={"type": "integer"}), ScriptedGateway()
    async with neuron(gateway.transport, steered.capability):
        gateway.lease("l0", capability="test/steered", value=1)
        await steered.wait_started()
        gateway.lease("l1", capability="test/steered", value="text")
        assert (await gateway.wait_result("l1"))["code"] == "INPUT_SCHEMA_MISMATCH"
        assert steered.running == 1
        steered.finish("l0")


async def test_reference_D42_whatever_goes_wrong_shows_as_an_event() -> None:
    gateway, seen = ScriptedGateway(), Seen()
    gateway.answer("ack", 400)
    async with neuron(gateway.transport, on_event=seen):
        gateway.transport.push(b"{")
        await seen.wait(events.FrameDropped)
        gateway.lease("l1", value=1)
        await seen.wait(events.ResultRejected)
        gateway.transport.break_stream(TransportError("the wire was cut"))
        await seen.wait(events.Disconnected)
        assert "the wire was cut" in (await seen.wait(events.Reconnecting)).reason
        await seen.wait(events.Registered, 2)


async def test_H3_reference_D48_a_handler_that_tells_its_progress_waits_for_no_answer() -> None:
    ended = anyio.Event()

    @capability("test/steps")
    async def steps(_: Any, ctx: LeaseContext) -> None:
        for percent in range(100):
            await ctx.progress(percent=percent)
        ended.set()

    gateway = ScriptedGateway()
    gateway.hold("progress")
    async with neuron(gateway.transport, steps):
        gateway.lease("l1", capability="test/steps")
        with anyio.fail_after(5):
            await ended.wait()
        assert len(gateway.posted("progress")) <= 1, "and that one was not answered"
        gateway.release("progress")
        await gateway.wait_result("l1")
