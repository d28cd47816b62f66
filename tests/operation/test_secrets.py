"""A broad part of life with secrets in all that it handles, and none in any log line of it (promise C9)."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import msgspec
import pytest

from neuron_anyio import (
    AuthenticationFailed,
    Backoff,
    LeaseContext,
    Limits,
    Timing,
    TransportError,
    capability,
    open_neuron,
)
from neuron_anyio.abc import Reply
from neuron_anyio.auth import TokenRequestFailed, enroll
from neuron_anyio.cli.logs import set_up_logging
from neuron_anyio.journal import open_journal
from neuron_anyio.logs import JsonFormatter
from neuron_anyio.testing.scripted_gateway import ScriptedGateway
from tests.auth.server import DEVICE, TOKEN, auth_server, error, reply
from tests.auth.support import Clock, source_for
from tests.operation import secret_handlers
from tests.planted import MARKERS, SECRET, leaks_in
from tests.runtime.handlers import settle
from tests.runtime.http_gateway import http_gateway

pytestmark = pytest.mark.anyio

FAST = Timing(drain=1.0, heartbeat=0.05, request=1.0, reconnect=Backoff(initial=0.001, maximum=0.01))
IN, OUT = f"{SECRET}-input", f"{SECRET}-output"
QUOTES = Reply(status=422, text=f"output {OUT} is not allowed", is_json=True)
"""What widespread frameworks answer to a result that they refuse."""


class Seen(logging.Handler):
    """Keeps all that is logged, as it is and in both forms."""

    def __init__(self) -> None:
        super().__init__(logging.NOTSET)
        self.records: list[logging.LogRecord] = []
        self.texts: list[str] = []
        self._forms = (JsonFormatter(), logging.Formatter("%(asctime)s.%(msecs)03dZ %(levelname)s %(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)
        self.texts += [form.format(record) for form in self._forms]

    @property
    def names(self) -> set[str]:
        return {record.__dict__["event"] for record in self.records if "event" in record.__dict__}


@pytest.fixture
def seen() -> Iterator[Seen]:
    """Watch every logger, at DEBUG."""
    handler, level = Seen(), logging.root.level
    logging.root.addHandler(handler)
    logging.root.setLevel(logging.DEBUG)
    yield handler
    logging.root.removeHandler(handler)
    logging.root.setLevel(level)
    assert handler.records
    ours = [record for record in handler.records if record.name.startswith("neuron_anyio")]
    assert [leak for record in ours for leak in leaks_in(record)] == []
    assert [text for text in handler.texts if MARKERS.search(text)] == []


# Handlers of every kind of failure


class Page(msgspec.Struct):
    url: str
    size: int = 0


@capability("test/life", concurrency=8, timeout=0.3, output_schema={"not": {"const": f"{OUT}-mismatch"}})
async def life(value: Any, ctx: LeaseContext) -> Any:
    ctx.progress(percent=500, message=f"{SECRET}-message", data={"note": f"{SECRET}-data"})
    ctx.progress(data={SECRET: object()})
    match value["does"]:
        case "fails":
            ctx.fail(f"{SECRET}-reason", code="NO", details={"note": f"{SECRET}-details"})
        case "retries":
            ctx.retry(f"{SECRET}-reason")
        case "raises":
            raise ValueError(f"{SECRET}-exception of {value}")
        case "raises a group":
            raise ExceptionGroup(f"{SECRET}-group", [ValueError(f"{SECRET}-one"), OSError(f"{SECRET}-two")])
        case "takes long":
            await anyio.sleep_forever()
        case "mismatch":
            return f"{OUT}-mismatch"
        case "no JSON":
            return {OUT: object()}
        case "too large":
            return OUT * 1000
    return OUT


@capability("test/typed")
async def typed(page: Page) -> Page:
    return page


@capability("test/thread")
def thread(value: Any, ctx: LeaseContext) -> Any:
    raise ValueError(f"{SECRET}-in-a-thread {value}")


@capability("test/blocks")
async def blocks(value: Any) -> str:
    time.sleep(1.3)  # noqa: ASYNC251 - the fault
    return OUT


DOES = ["fails", "retries", "raises", "raises a group", "takes long", "mismatch", "no JSON", "too large", "returns"]


async def test_C9_no_ending_of_a_handler_shows_a_secret(seen: Seen) -> None:
    gateway = ScriptedGateway()
    gateway.answer("progress", Reply(status=500, text=f"{SECRET}-data"), TransportError("the road broke"))
    capabilities: list[Any] = [life, typed, thread, blocks, secret_handlers.raises_there]
    with anyio.fail_after(30):
        async with open_neuron(
            gateway.transport, neuron_id="n", capabilities=capabilities, timing=FAST, limits=Limits(output_bytes=2000)
        ):
            for number, does in enumerate(DOES):
                gateway.lease(f"l{number}", capability="test/life", value={"does": does, "with": IN})
            for lease_id, kind, value in (
                ("typed", "test/typed", {"url": IN, "size": f"{IN}-seven"}),
                ("untyped", "test/typed", [IN]),
                ("thread", "test/thread", IN),
                ("blocks", "test/blocks", IN),
                ("process", "test/raises-there", IN),
                ("unknown", "test/nobody", IN),
            ):
                gateway.lease(lease_id, capability=kind, value=value, metadata={"note": f"{SECRET}-metadata"})
            gateway.lease("schema", capability="test/life", value=IN, input_schema={"const": f"{IN}-other"})
            gateway.lease("unusable", capability="test/life", value=IN, input_schema={"type": f"{SECRET}-schema"})
            gateway.lease("user", capability="test/life", value=IN, onBehalfOf=f"{SECRET}-user")
            for lease_id in (*(f"l{n}" for n in range(len(DOES))), "typed", "thread", "process", "schema", "unusable"):
                await gateway.wait_result(lease_id)
            await gateway.wait_result("blocks")
    assert {
        "lease.failed",
        "lease.given_back",
        "handler.blocking",
        "progress.clamped",
        "progress.unsendable",
    } <= seen.names


async def test_C9_no_frame_that_cannot_be_read_shows_a_secret(seen: Seen) -> None:
    gateway = ScriptedGateway()
    with anyio.fail_after(20):
        async with open_neuron(
            gateway.transport, neuron_id="n", capabilities=[life], timing=FAST, limits=Limits(frame_bytes=4096)
        ):
            push = gateway.transport.push
            lease: dict[str, Any] = {"type": "lease", "sentAt": "2026-05-09T10:00:00Z"}
            push(IN.encode())
            push(f'{{"type": "lease", "lease": {{"leaseId": "m1", "task": {{"input": "{IN}", '.encode())
            push(json.dumps({**lease, "lease": {"leaseId": "m2", "task": {"input": IN, "taskId": 7}}}).encode())
            push(json.dumps({**lease, "lease": {"leaseId": "m3", "expiresAt": f"{IN}-when", "task": IN}}).encode())
            push(json.dumps({"type": IN, "data": IN}).encode())
            push(json.dumps({"type": "cancel", "leaseId": {IN: IN}}).encode())
            push(b"\xff" + IN.encode())
            gateway.lease("m4", capability="test/life", value=IN * 1000)
            await gateway.wait_result("m2")
            await settle()
    assert {"frame.dropped", "lease.given_back"} <= seen.names


async def test_C9_no_result_that_is_not_taken_shows_a_secret(seen: Seen) -> None:
    gateway = ScriptedGateway()

    def raises(event: object) -> None:
        raise RuntimeError(f"{event!r}")

    with anyio.fail_after(20):
        async with open_neuron(gateway.transport, neuron_id="n", capabilities=[life], timing=FAST, on_event=raises):
            gateway.answer("ack", QUOTES, Reply(status=503, text=OUT), Reply(status=409, text=OUT, is_json=True))
            gateway.answer("nack", Reply(status=400, text=f"{SECRET}-reason"))
            gateway.answer("heartbeat", Reply(status=500, text=IN), Reply(status=404, text=IN))
            for number in range(4):
                gateway.lease(f"l{number}", capability="test/life", value={"does": "returns"})
                await gateway.wait_result(f"l{number}")
                await settle()
            gateway.lease("l4", capability="test/life", value={"does": "fails"})
            await gateway.wait_posted("nack", lease_id="l4")
            await gateway.wait_posted("heartbeat", count=3)
    assert {"result.rejected", "result.not_delivered", "listener.raised", "connection.forgotten"} <= seen.names


@pytest.mark.parametrize("end", ["drain", "cancel", "error"])
async def test_C9_no_end_shows_a_secret(seen: Seen, end: str) -> None:
    begun = anyio.Event()

    @capability("test/stubborn")
    async def stubborn(value: Any) -> None:
        local = f"{SECRET}-local {value}"
        begun.set()
        try:
            await anyio.sleep_forever()
        finally:
            raise ValueError(local)

    gateway = ScriptedGateway()
    gateway.always_answer("nack", Reply(status=503, text=IN))
    with anyio.fail_after(20), anyio.CancelScope() as scope:
        try:
            async with open_neuron(gateway.transport, neuron_id="n", capabilities=[stubborn], timing=Timing(drain=0.2)):
                gateway.lease("l1", capability="test/stubborn", value=IN)
                gateway.lease("l2", capability="test/stubborn", value=IN)
                await begun.wait()
                if end == "cancel":
                    scope.cancel()
                    await anyio.lowlevel.checkpoint()
                if end == "error":
                    raise KeyError(f"{SECRET}-body")
        except KeyError:
            pass
    assert {"neuron.undelivered", "neuron.stopped"} <= seen.names


async def test_C9_L10_no_journal_shows_a_secret(seen: Seen, tmp_path: Path) -> None:
    path = tmp_path / "results.db"
    gateway = ScriptedGateway()
    gateway.always_answer("ack", Reply(status=503, text=OUT))
    options: dict[str, Any] = {"neuron_id": "n", "capabilities": [life], "journal": path, "timing": Timing(drain=0.2)}
    with anyio.fail_after(30):
        async with open_neuron(gateway.transport, **options):
            gateway.lease("l1", capability="test/life", value={"does": "returns", "with": IN})
            await gateway.wait_result("l1")
        async with open_journal(
            path, gateway="memory:test", neuron_id="n", log=logging.getLogger("neuron_anyio")
        ) as file:
            (record,) = file.recorded
            for key, value in ((b"broken", b"\xff" + OUT.encode()), (b"odd", record.value[:20] + OUT.encode())):
                file.put(key, value)
            file.release()
        path.chmod(0o644)
        gateway.always_answer("ack", 200)
        async with open_neuron(gateway.transport, **options):
            await gateway.wait_posted("ack", lease_id="l1", count=2)
    assert {"journal.restored", "journal.unreadable", "journal.was_open", "neuron.undelivered"} <= seen.names


# Tokens and credentials


async def test_C9_C4_no_token_is_shown_whether_it_is_taken_or_not(seen: Seen) -> None:
    tokens = iter([f"{SECRET}-old", f"{SECRET}-of-two\nlines", "", f"{SECRET}-token"])
    last = f"{SECRET}-token"

    def ask() -> str:
        nonlocal last
        last = next(tokens, last)
        return last

    with anyio.fail_after(20):
        async with (
            http_gateway(tokens={f"{SECRET}-token"}) as gateway,
            open_neuron(gateway.url, neuron_id="n", capabilities=[life], auth=ask, timing=FAST),
        ):
            gateway.lease("l1", capability="test/life", value={"does": "returns", "with": IN})
            await gateway.wait_result("l1")
            before = len(gateway.requests)
            gateway.tokens = {f"{SECRET}-another"}
            gateway.end_stream(cut=True)
            await gateway.wait_for(lambda: len(gateway.requests) > before + 4)
    assert {"connection.reconnecting", "connection.close"} <= seen.names


async def test_C9_C4_a_token_that_is_never_taken_is_not_shown(seen: Seen) -> None:
    with anyio.fail_after(20):
        async with http_gateway(tokens=set()) as gateway:
            opening = open_neuron(gateway.url, neuron_id="n", capabilities=[life], auth=f"{SECRET}-token", timing=FAST)
            with pytest.raises(AuthenticationFailed) as refused:
                async with opening:
                    pass
    assert SECRET not in str(refused.value)


async def test_C9_no_secret_of_minting_and_enrolment_is_shown(seen: Seen, tmp_path: Path) -> None:
    quoted = "the secret s3cret-of-client-1 is good, and we are busy"
    with anyio.fail_after(30):
        async with auth_server() as server:
            server.scripted[TOKEN] = [error("server_error", 500, quoted), reply(200, quoted.encode())]
            clock = Clock()
            source = source_for(server, tmp_path, clock)
            for _ in range(2):
                with pytest.raises(TokenRequestFailed):
                    await source.token()
                clock.now += 400
            await source.token()
            clock.now += 870
            server.scripted[TOKEN] = [error("server_error", 503, quoted)]
            await source.token()
            server.clients.clear()
            server.scripted[DEVICE] = []
            server.verdict = "approved"
            server.metadata = quoted
            await enroll(
                server.url, name="n", on_approval=lambda _: None, credentials_file=tmp_path / "credential.json"
            )
    assert {"token.minted", "token.not_renewed", "credential.not_accepted", "enrolment.anew"} <= seen.names


# The guard itself


async def test_what_is_searched_finds_a_secret_in_either_form(capsys: pytest.CaptureFixture[str]) -> None:
    root = logging.root.handlers[:], logging.root.level
    try:
        for form in ("text", "json"):
            set_up_logging("debug", form)
            logging.getLogger("neuron_anyio").debug("a %s", SECRET)
            assert MARKERS.search(capsys.readouterr().err)
    finally:
        logging.root.handlers[:], level = root
        logging.root.setLevel(level)
