"""Spans and metrics for OpenTelemetry, as its SDK sees them."""

from __future__ import annotations

import io
import json
import logging
import threading
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from opentelemetry import baggage, trace
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor
from opentelemetry.trace import SpanKind, StatusCode

from neuron_anyio import (
    CancelReason,
    Limits,
    MemoryTransport,
    RegistrationRejected,
    Timing,
    capability,
    events,
    open_neuron,
)
from neuron_anyio.abc import Reply
from neuron_anyio.context import LeaseContext
from neuron_anyio.logs import JsonFormatter
from neuron_anyio.telemetry import Telemetry
from neuron_anyio.testing.scripted_gateway import ScriptedGateway
from tests.operation.telemetry_bench import BAGGAGE, PARENT, SPAN, TRACE, Sdk
from tests.operation.telemetry_handlers import loads_nothing, where_there
from tests.runtime.handlers import echo, settle

pytestmark = pytest.mark.anyio

HEADERS = {"traceparent": PARENT, "baggage": BAGGAGE}


def here() -> dict[str, str]:
    """Return where the caller is."""
    current = trace.get_current_span().get_span_context()
    return {
        "trace": f"{current.trace_id:032x}",
        "span": f"{current.span_id:016x}",
        "user": str(baggage.get_baggage("user")),
    }


@capability("test/where")
async def where(value: Any) -> dict[str, str]:
    await anyio.lowlevel.checkpoint()
    return here()


@capability("test/where-in-a-thread")
def where_in_a_thread(value: Any) -> dict[str, str]:
    return here()


@asynccontextmanager
async def running(
    *capabilities: Any, telemetry: Telemetry, gateway: ScriptedGateway | None = None, **options: Any
) -> AsyncGenerator[ScriptedGateway]:
    gateway = ScriptedGateway() if gateway is None else gateway
    with anyio.fail_after(20):
        async with open_neuron(
            gateway.transport, neuron_id="neuron-1", capabilities=capabilities, telemetry=telemetry, **options
        ):
            yield gateway


async def result_of(handler: Any, sdk: Sdk, value: Any = None, *, metadata: Any = None, **options: Any) -> Any:
    """Run one lease, `l1`; return its ack or nack."""
    async with running(handler, telemetry=sdk.telemetry, **options) as gateway:
        gateway.lease("l1", capability=handler.terms.type, value=value, attempt=2, metadata=metadata)
        return await gateway.wait_result("l1")


def about(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


# Where a span belongs


@pytest.mark.parametrize(
    "metadata",
    [
        HEADERS,
        {"TraceParent": PARENT, "BAGGAGE": BAGGAGE},
        {"headers": HEADERS},
        {"trace_context": {"TRACEPARENT": PARENT}, "otel": {"Baggage": [BAGGAGE]}},
        {**HEADERS, "headers": {"traceparent": "00-" + "1" * 32 + "-" + "2" * 16 + "-01"}},
    ],
    ids=["plain", "other-case", "headers", "nested", "its-own-first"],
)
async def test_a_span_is_the_child_of_the_one_in_the_metadata_and_links_to_it(metadata: Any) -> None:
    sdk = Sdk()
    output = (await result_of(where, sdk, metadata=metadata))["output"]
    span = sdk.span()
    assert span.context is not None
    assert span.parent is not None
    assert (span.name, span.kind) == ("process test/where", SpanKind.CONSUMER)
    assert (f"{span.parent.trace_id:032x}", f"{span.parent.span_id:016x}") == (TRACE, SPAN)
    assert [link.context.span_id for link in span.links] == [span.parent.span_id]
    assert output == {"trace": TRACE, "span": f"{span.context.span_id:016x}", "user": "ann"}


@pytest.mark.parametrize(
    "metadata",
    [None, {}, {"traceparent": 7}, {"traceparent": "no"}, {"headers": [PARENT]}, {"headers": {"traceparent": []}}],
)
async def test_a_span_without_a_caller_is_a_root_whatever_span_the_neuron_was_opened_in(metadata: Any) -> None:
    sdk = Sdk()
    with sdk.tracers.get_tracer("program").start_as_current_span("main"):
        await result_of(where, sdk, metadata=metadata)
    assert sdk.span().parent is None
    assert not sdk.span().links


async def test_a_span_is_described_by_the_conventions() -> None:
    sdk = Sdk()
    await result_of(echo, sdk, 1)
    assert about(sdk.span()) == {
        "messaging.system": "bigbrain",
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.destination.name": "test/echo",
        "messaging.client.id": "neuron-1",
        "messaging.message.id": "l1",
        "messaging.message.conversation_id": "workflow",
        "neuron.task.id": "task-l1",
        "neuron.task.attempt": 2,
        "neuron.outcome": "completed",
    }
    assert sdk.span().status.status_code is StatusCode.UNSET


async def test_a_gateways_address_is_in_spans_and_metrics() -> None:
    gateway = ScriptedGateway()
    gateway.transport = MemoryTransport(gateway.take, origin="https://gateway.example")
    sdk = Sdk()
    await result_of(echo, sdk, 1, gateway=gateway)
    for said in (about(sdk.span()), sdk.points("messaging.process.duration")[0][0]):
        assert (said["server.address"], said["server.port"]) == ("gateway.example", 443)


# How it ends


@capability("test/ends", timeout=0.2, output_schema={"not": {"const": "mismatch"}})
async def ends(value: Any, ctx: LeaseContext) -> Any:
    match value:
        case "fails":
            ctx.fail(f"it {value}", code="NO_SUCH_PAGE")
        case "fails in words":
            ctx.fail(f"it {value}", code="the page of Ann is not there")
        case "retries":
            ctx.retry(f"it {value}")
        case "raises":
            raise ValueError(f"it {value}, planted-secret".upper())
        case "takes long":
            await anyio.sleep_forever()
        case "no JSON":
            return object()
    return value


@pytest.mark.parametrize(
    ("value", "code"),
    [
        ("fails", "NO_SUCH_PAGE"),
        ("fails in words", "TERMINAL"),
        ("retries", "HANDLER_RETRY"),
        ("raises", "HANDLER_THREW"),
        ("takes long", "HANDLER_TIMEOUT"),
        ("mismatch", "OUTPUT_SCHEMA_MISMATCH"),
        ("no JSON", "OUTPUT_NOT_JSON"),
        ("x" * 2000, "OUTPUT_TOO_LARGE"),
    ],
)
async def test_L11_a_failure_is_an_error_with_the_code_of_its_nack(value: str, code: str) -> None:
    sdk = Sdk()
    nack = await result_of(ends, sdk, value, limits=Limits(output_bytes=1000))
    said = about(sdk.span())
    assert (said["neuron.outcome"], said["error.type"], said["neuron.nack.code"]) == ("failed", code, code)
    assert nack["code"] == code or value == "fails in words"
    assert sdk.span().status.status_code is StatusCode.ERROR
    assert nack["reason"] not in sdk.said()
    ((point, count),) = sdk.points("messaging.process.duration")
    assert (point["error.type"], point["neuron.outcome"], count) == (code, "failed", 1)


async def test_L11_8_an_input_that_does_not_match_has_no_run_and_so_no_span_but_is_counted() -> None:
    @capability("test/number")
    async def number(value: int) -> int:
        return value

    sdk = Sdk()
    assert (await result_of(number, sdk, "seven"))["code"] == "INPUT_SCHEMA_MISMATCH"
    assert sdk.spans() == []
    ((point, count),) = sdk.points("neuron.leases")
    assert (point["error.type"], point["neuron.outcome"], count) == ("INPUT_SCHEMA_MISMATCH", "failed", 1)
    assert sdk.points("messaging.process.duration") == []


async def test_L4_3_a_cancelled_run_is_no_error_and_says_who_cancelled_it() -> None:
    sdk = Sdk()
    begun = anyio.Event()

    @capability("test/waits")
    async def waits(value: Any) -> None:
        begun.set()
        await anyio.sleep_forever()

    async with running(waits, telemetry=sdk.telemetry) as gateway:
        gateway.lease("l1", capability="test/waits")
        await begun.wait()
        assert sdk.spans() == []
        gateway.cancel("l1")
        await gateway.wait_result("l1")
    said = about(sdk.span())
    assert (said["neuron.outcome"], said["neuron.cancel_reason"]) == ("cancelled", CancelReason.GATEWAY.value)
    assert "error.type" not in said
    assert sdk.span().status.status_code is StatusCode.UNSET


async def test_L11_13_a_run_that_the_shutdown_cuts_is_given_back() -> None:
    sdk = Sdk()
    begun = anyio.Event()

    @capability("test/waits")
    async def waits(value: Any) -> None:
        begun.set()
        await anyio.sleep_forever()

    async with running(waits, telemetry=sdk.telemetry, timing=Timing(drain=0.1)) as gateway:
        gateway.lease("l1", capability="test/waits")
        await begun.wait()
    said = about(sdk.span())
    assert (said["neuron.outcome"], said["neuron.nack.code"]) == ("given_back", "NEURON_SHUTDOWN")
    assert said["neuron.cancel_reason"] == "shutdown"


async def test_D2_the_span_of_a_handler_that_is_left_behind_ends_with_its_outcome() -> None:
    sdk = Sdk()
    begun, go = anyio.Event(), threading.Event()
    blocked: list[events.Event] = []

    @capability("test/stuck")
    def stuck(value: Any) -> None:
        anyio.from_thread.run_sync(begun.set)
        go.wait(15)

    def note(event: events.Event) -> None:
        if isinstance(event, events.HandlerBlocked):
            blocked.append(event)
            go.set()

    async with running(stuck, telemetry=sdk.telemetry, timing=Timing(drain=0.2), on_event=note) as gateway:
        gateway.lease("l1", capability="test/stuck", task_id="t")
        await begun.wait()
        gateway.lease("l2", capability="test/stuck", task_id="t")
    assert len(blocked) == 1
    said = about(sdk.span())
    assert (said["neuron.outcome"], said["messaging.message.id"]) == ("given_back", "l2")


async def test_L3_4_a_task_that_comes_again_while_it_runs_is_one_span_with_the_newest_lease() -> None:
    sdk = Sdk()
    begun, go = anyio.Event(), anyio.Event()

    @capability("test/waits", concurrency=4)
    async def waits(value: Any) -> None:
        begun.set()
        await go.wait()

    async with running(waits, telemetry=sdk.telemetry) as gateway:
        gateway.lease("l1", capability="test/waits", task_id="t")
        await begun.wait()
        gateway.lease("l2", capability="test/waits", task_id="t")
        await settle()
        go.set()
        await gateway.wait_result("l2")
        gateway.lease("l3", capability="test/waits", task_id="other")
        await gateway.wait_result("l3")
    assert [about(span)["messaging.message.id"] for span in sdk.spans()] == ["l2", "l3"]


async def test_a_middleware_that_runs_a_handler_twice_has_one_span() -> None:
    async def twice(ctx: LeaseContext, call_next: Any) -> Any:
        first = await call_next()
        assert await call_next() == first
        return first

    sdk = Sdk()
    output = (await result_of(where, sdk, middleware=[twice]))["output"]
    context = sdk.span().context
    assert context is not None
    assert output["span"] == f"{context.span_id:016x}"


# Exceptions


async def test_C9_an_exception_is_recorded_without_what_it_says() -> None:
    sdk = Sdk()
    await result_of(ends, sdk, "raises")
    (event,) = sdk.span().events
    said = dict(event.attributes or {})
    assert (event.name, said["exception.type"]) == ("exception", "ValueError")
    assert "in ends" in str(said["exception.stacktrace"])
    assert "exception.message" not in said


async def test_the_message_of_an_exception_is_recorded_where_that_is_asked() -> None:
    class OwnError(Exception):
        pass

    @capability("test/raises")
    async def raises(value: Any) -> None:
        raise OwnError("in words")

    sdk = Sdk(exception_messages=True)
    await result_of(raises, sdk)
    said = dict(sdk.span().events[0].attributes or {})
    assert (said["exception.message"], said["exception.type"]) == ("in words", f"{__name__}.{OwnError.__qualname__}")


async def test_an_exception_that_cannot_be_told_is_still_the_outcome() -> None:
    class Broken(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    @capability("test/raises")
    async def raises(value: Any) -> None:
        raise Broken

    sdk = Sdk(exception_messages=True)
    assert (await result_of(raises, sdk))["code"] == "HANDLER_THREW"
    assert len(sdk.span().events) == 1


# Where the span is current


async def test_the_span_is_current_in_a_thread() -> None:
    sdk = Sdk()
    output = (await result_of(where_in_a_thread, sdk, metadata=HEADERS))["output"]
    context = sdk.span().context
    assert context is not None
    assert output == {"trace": TRACE, "span": f"{context.span_id:016x}", "user": "ann"}


async def test_the_span_is_current_in_middleware_and_what_that_starts_is_current_in_a_process() -> None:
    sdk = Sdk()
    seen: list[str] = []

    async def wraps(ctx: LeaseContext, call_next: Any) -> Any:
        seen.append(here()["span"])
        with sdk.tracers.get_tracer("program").start_as_current_span("inner"):
            seen.append(here()["span"])
            return await call_next()

    result = await result_of(where_there, sdk, metadata=HEADERS, middleware=[wraps])
    context = sdk.span().context
    assert context is not None
    assert seen[0] == f"{context.span_id:016x}"
    assert result["output"] == {"trace": TRACE, "span": seen[1], "user": "ann"}


async def test_a_process_of_a_neuron_without_telemetry_loads_none_of_it() -> None:
    gateway = ScriptedGateway()
    with anyio.fail_after(20):
        async with open_neuron(gateway.transport, neuron_id="n", capabilities=[loads_nothing]):
            gateway.lease("l1", capability="test/loads-nothing")
            assert (await gateway.wait_result("l1"))["output"] is True


async def test_nothing_of_a_lease_is_current_in_the_next_one() -> None:
    @capability("test/leaks")
    async def leaks(value: Any) -> dict[str, str]:
        before = here()
        from opentelemetry import context

        context.attach(baggage.set_baggage("user", "bob"))
        return before

    sdk = Sdk()
    async with running(leaks, telemetry=sdk.telemetry) as gateway:
        gateway.lease("l1", capability="test/leaks", metadata=HEADERS)
        gateway.lease("l2", capability="test/leaks")
        first = (await gateway.wait_result("l1"))["output"]
        second = (await gateway.wait_result("l2"))["output"]
    assert (first["trace"], first["user"]) == (TRACE, "ann")
    assert second["trace"] != TRACE
    assert second["user"] == "None"


async def test_lines_of_a_handler_can_be_found_by_their_span() -> None:
    @capability("test/logs")
    def logs(value: Any, ctx: LeaseContext) -> None:
        ctx.log.warning("here")

    sdk = Sdk()
    stream = io.StringIO()
    logger = logging.Logger("of this test")  # noqa: LOG001 - one that no other test has
    logger.addHandler(handler := logging.StreamHandler(stream))
    handler.setFormatter(JsonFormatter())
    await result_of(logs, sdk, metadata=HEADERS, logger=logger)
    (line,) = [json.loads(line) for line in stream.getvalue().splitlines() if '"here"' in line]
    context = sdk.span().context
    assert context is not None
    assert (line["trace_id"], line["span_id"]) == (TRACE, f"{context.span_id:016x}")


# Several


async def test_neurons_with_one_telemetry_keep_their_spans_and_gauges_apart() -> None:
    sdk, other = Sdk(), Sdk()
    first, second, third = ScriptedGateway(), ScriptedGateway(), ScriptedGateway()
    go = anyio.Event()

    @capability("test/waits")
    async def waits(value: Any) -> Any:
        await go.wait()
        return value

    def neuron(gateway: ScriptedGateway, neuron_id: str, telemetry: Telemetry) -> Any:
        return open_neuron(gateway.transport, neuron_id=neuron_id, capabilities=[waits], telemetry=telemetry)

    with anyio.fail_after(20):
        async with (
            neuron(first, "a", sdk.telemetry),
            neuron(second, "b", sdk.telemetry),
            neuron(third, "c", other.telemetry),
        ):
            for gateway in (first, second, third):
                gateway.lease("l1", capability="test/waits", value=1)
            await settle()
            ids = {point["messaging.client.id"]: value for point, value in sdk.points("neuron.running")}
            assert ids == {"a": 1, "b": 1}
            go.set()
            for gateway in (first, second, third):
                await gateway.wait_result("l1")
    assert sorted(about(span)["messaging.client.id"] for span in sdk.spans()) == ["a", "b"]
    assert about(other.span())["messaging.client.id"] == "c"
    assert sdk.points("neuron.running") == []


# Metrics


async def test_leases_and_results_are_counted_and_timed() -> None:
    sdk = Sdk()
    async with running(echo, telemetry=sdk.telemetry) as gateway:
        gateway.answer("ack", 200, Reply(status=409, text="gone", is_json=True))
        for number in (1, 2):
            gateway.lease(f"l{number}", value=number)
            await gateway.wait_result(f"l{number}")
            await settle()
        consumed = sdk.points("messaging.client.consumed.messages")
        operation = {"messaging.system": "bigbrain", "messaging.destination.name": "test/echo"}
        assert consumed == [({**operation, "messaging.operation.name": "receive"}, 2)]
        processed = {**operation, "messaging.operation.name": "process", "neuron.outcome": "completed"}
        assert sdk.points("messaging.process.duration") == [(processed, 2)]
        assert sdk.points("neuron.leases") == [(processed, 2)]
        settled = {**operation, "messaging.operation.name": "settle", "messaging.operation.type": "settle"}
        assert sdk.points("messaging.client.operation.duration") == [
            (settled, 1),
            ({**settled, "error.type": "result_rejected"}, 1),
        ]


async def test_gauges_show_slots_queue_and_undelivered_results_from_any_thread() -> None:
    sdk = Sdk()
    go = anyio.Event()

    @capability("test/waits", concurrency=2)
    async def waits(value: Any) -> Any:
        await go.wait()
        return value

    def seen() -> list[float]:
        return [
            value
            for name in ("neuron.slots", "neuron.running", "neuron.queued", "neuron.undelivered")
            for _, value in sdk.points(name)
        ]

    async with running(waits, telemetry=sdk.telemetry) as gateway:
        gateway.hold("ack")
        for number in range(3):
            gateway.lease(f"l{number}", capability="test/waits", value=number)
        await settle()
        assert seen() == [2, 2, 1, 0]
        go.set()
        await gateway.wait_posted("ack", count=3)
        assert seen() == [2, 0, 0, 3]
        while await anyio.to_thread.run_sync(seen) != [2, 0, 0, 3]:  # noqa: ASYNC110 - another thread sees it later
            await anyio.sleep(0.05)
        ((who, lag),) = sdk.points("neuron.loop.lag")
        assert who == {"messaging.system": "bigbrain", "messaging.client.id": "neuron-1"}
        assert lag >= 0
        gateway.release("ack")


async def test_L2_capabilities_that_are_not_ours_are_not_in_metrics() -> None:
    sdk = Sdk()
    async with running(echo, telemetry=sdk.telemetry) as gateway:
        for number in range(3):
            gateway.lease(f"l{number}", capability=f"made/up-{number}")
        await gateway.wait_posted("nack", count=3)
        await settle()
        ((point, count),) = sdk.points("messaging.client.operation.duration")
    assert count == 3
    assert "messaging.destination.name" not in point
    assert "made/up" not in sdk.said()


# What may go wrong


async def test_D3_what_the_block_raises_comes_out_as_it_is_and_no_span_is_left_open() -> None:
    sdk = Sdk()
    begun = anyio.Event()

    @capability("test/waits")
    async def waits(value: Any) -> None:
        begun.set()
        await anyio.sleep_forever()

    with pytest.raises(KeyError, match="mine"):
        async with running(waits, telemetry=sdk.telemetry) as gateway:
            gateway.lease("l1", capability="test/waits")
            await begun.wait()
            raise KeyError("mine")
    assert about(sdk.span())["neuron.nack.code"] == "NEURON_SHUTDOWN"


async def test_D3_a_cancelled_block_ends_its_spans() -> None:
    sdk = Sdk()
    begun = anyio.Event()

    @capability("test/waits")
    async def waits(value: Any) -> None:
        begun.set()
        await anyio.sleep_forever()

    with anyio.CancelScope() as scope:
        async with running(waits, telemetry=sdk.telemetry) as gateway:
            gateway.lease("l1", capability="test/waits")
            await begun.wait()
            scope.cancel()
            await anyio.sleep_forever()
    assert scope.cancelled_caught
    assert about(sdk.span())["neuron.outcome"] == "given_back"


async def test_C2_a_neuron_that_is_refused_says_so_with_telemetry_too() -> None:
    gateway = ScriptedGateway()
    gateway.always_answer("register", Reply(status=403, text="no"))
    with pytest.raises(RegistrationRejected):
        async with running(echo, telemetry=Sdk().telemetry, gateway=gateway):
            pass


async def test_a_span_processor_that_raises_costs_the_span_and_not_the_task(caplog: pytest.LogCaptureFixture) -> None:
    class Raises(SpanProcessor):
        def on_start(self, span: Span, parent_context: Any = None) -> None:
            raise RuntimeError("full")

    sdk = Sdk()
    sdk.tracers.add_span_processor(Raises())
    assert (await result_of(echo, sdk, 7))["output"] == 7
    assert "no span for lease l1" in caplog.text


async def test_a_listener_of_the_users_hears_every_event_even_where_a_span_cannot_end() -> None:
    class Raises(SpanProcessor):
        def on_end(self, span: ReadableSpan) -> None:
            raise RuntimeError("full")

    heard: list[events.Event] = []
    sdk = Sdk()
    sdk.tracers.add_span_processor(Raises())
    assert (await result_of(echo, sdk, 7, on_event=heard.append))["output"] == 7
    assert [type(event) for event in heard if isinstance(event, events.LeaseSettled)] == [events.LeaseSettled]


async def test_C9_no_input_and_no_output_is_in_spans_or_metrics() -> None:
    sdk = Sdk()
    metadata = {**HEADERS, "note": "planted-secret-metadata"}
    await result_of(echo, sdk, "planted-secret-value", metadata=metadata)
    await result_of(ends, sdk, "raises", metadata=metadata)
    assert "process test/echo" in sdk.said()
    assert "process test/ends" in sdk.said()
    assert "planted-secret-" not in sdk.said()
    assert "PLANTED-SECRET" not in sdk.said()


async def test_a_telemetry_without_an_sdk_does_nothing() -> None:
    gateway = ScriptedGateway()
    async with running(echo, telemetry=Telemetry(), gateway=gateway):
        gateway.lease("l1", value=7)
        assert (await gateway.wait_result("l1"))["output"] == 7
