"""The fault gateway as a bare client sees it: the bytes of every kind of fault, and a gateway that keeps its word."""

from __future__ import annotations

import gzip
import json
from typing import Any

import anyio
import msgspec
import pytest

from neuron_anyio.codec import decode_server_frame
from neuron_anyio.frames import Lease
from neuron_anyio.testing.fault_gateway import FaultGateway, open_fault_gateway
from neuron_anyio.testing.faults import FAULTS, ROUTES
from neuron_anyio.testing.scenarios import SCENARIOS
from tests.faults.client import NOW, Answer, Client

pytestmark = [pytest.mark.anyio, pytest.mark.thorough]

CONNECTIONS = "refused rst close close-mid-frame half-open stalled-headers stalled-replies flapping"
ANSWERS = (
    "500 502 503-burst 429-seconds 429-date 429-absurd 401-once 401-always 401-until-refreshed 403 409 404-ingress "
    "redirect huge endless not-json gzip cut-off lost-after-acted"
)
STREAMS = (
    "byte-by-byte split-utf8 split-crlf cr-only comments bom unknown-types unknown-members malformed-json deep-nesting "
    "html malformed-lease"
)
LEASES = (
    "twice redelivered-queued redelivered-running redelivered-finished cancel-before cancel-queued cancel-running "
    "cancel-ack-in-flight cancel-after two-thousand twenty-megabytes expired-on-arrival expired-in-queue "
    "clock-hour-ahead clock-hour-behind another-user revoked-in-flight disconnect-reconnectable disconnect-final "
    "restart-with-state restart-without-state"
)


# The table


def test_the_ids_are_these_and_no_others() -> None:
    wanted = {f"connection.{what}" for what in CONNECTIONS.split()}
    wanted |= {f"stream.{what}" for what in STREAMS.split()} | {f"lease.{what}" for what in LEASES.split()}
    wanted |= {f"answer.{route}.{what}" for route in ROUTES for what in ANSWERS.split()}
    wanted -= {"answer.stream.not-json", "answer.stream.lost-after-acted"}
    assert set(FAULTS) == wanted
    assert set(SCENARIOS) == wanted


def test_every_fault_says_in_one_line_what_it_does() -> None:
    for fault in FAULTS.values():
        assert 10 < len(fault.summary) < 100
        assert "\n" not in fault.summary
        assert fault.family in ("connection", "answer", "stream", "lease")


def test_the_table_goes_through_json() -> None:
    assert json.loads(msgspec.json.encode(list(FAULTS.values())))[0]["id"] == "connection.refused"


@pytest.mark.parametrize(
    ("argument", "named"), [({"fault": "answer.ack.418"}, "fault"), ({"lease_ttl": 0}, "lease_ttl")]
)
async def test_a_wrong_argument_is_named(argument: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=f"{named} must be"):
        async with open_fault_gateway(**argument):
            raise AssertionError


# A gateway that keeps its word


async def test_without_a_fault_a_task_is_leased_and_its_result_taken() -> None:
    async with open_fault_gateway() as gateway:
        client = Client(gateway)
        task_id = gateway.submit("test/echo", {"text": "ü"}, on_behalf_of="user-1", expected="text")
        async with client.events() as events:
            await events.frame("registered")
            lease = await events.frame("lease")
            assert isinstance(decode_server_frame(json.dumps(lease).encode(), strict=True), Lease)
            assert lease["lease"]["task"]["input"] == {"text": "ü"}
            assert lease["lease"]["task"]["onBehalfOf"] == "user-1"
            assert (await client.post("ack")).status == 200
            with anyio.fail_after(5):
                await gateway.wait_done()
        verdict = gateway.verdict()
        assert verdict.states == {task_id: "succeeded"}
        assert (verdict.lost, verdict.wrong, verdict.seconds_to_recover) == (0, 0, None)
        assert gateway.requests == {"stream": 1, "register": 1, "ack": 1}


async def test_cancel_revoke_grant_and_disconnect_are_said_on_the_stream() -> None:
    async with open_fault_gateway() as gateway, Client(gateway).events() as events:
        task_id = gateway.submit("test/echo", None)
        await events.frame("lease")
        gateway.cancel(task_id)
        assert (await events.frame("cancel"))["leaseId"] == "lease-1"
        gateway.revoke("test/echo")
        assert (await events.frame("capability-revoked"))["capability"] == "test/echo"
        gateway.submit("test/echo", None)
        gateway.grant()
        await events.frame("registered")
        await events.frame("lease")
        gateway.disconnect(reconnectable=True)
        assert (await events.frame("disconnect"))["reconnectable"] is True
        with anyio.fail_after(5), pytest.raises(anyio.EndOfStream):
            while not events.answer.complete:
                events.answer.parser.feed_data(await events.stream.receive())
            raise anyio.EndOfStream


async def test_a_lease_without_heartbeats_runs_out_and_comes_again() -> None:
    async with open_fault_gateway(lease_ttl=0.15) as gateway:
        client = Client(gateway)
        gateway.submit("test/echo", None)
        async with client.events() as events:
            assert (await events.frame("lease"))["lease"]["task"]["attempt"] == 0
            for _ in range(6):
                await anyio.sleep(0.05)
                held = {"leaseId": "lease-1", "taskId": "task-1", "startedAt": NOW}
                assert (await client.post("heartbeat", inFlight=[held])).status == 200
            assert gateway.book.tasks["task-1"].lease == "lease-1"
            second = await events.frame("lease")
            assert (second["lease"]["leaseId"], second["lease"]["task"]["attempt"]) == ("lease-2", 1)
            assert (await client.post("ack")).status == 409


async def test_a_new_stream_gets_what_nobody_showed_a_sign_of() -> None:
    async with open_fault_gateway() as gateway:
        client = Client(gateway)
        gateway.submit("test/echo", 1)
        gateway.submit("test/echo", 2)
        async with client.events() as events:
            await events.frame("lease")
            await events.frame("lease")
            await client.post("progress", leaseId="lease-2")
        async with client.events() as events:
            lease = await events.frame("lease")
        assert (lease["lease"]["task"]["input"], lease["lease"]["leaseId"]) == (1, "lease-3")
        assert gateway.book.tasks["task-2"].lease == "lease-2"


async def test_a_heartbeat_before_register_is_404_and_a_stray_request_is_noted(fault_gateway: FaultGateway) -> None:
    client = Client(fault_gateway)
    assert (await client.post("heartbeat")).status == 404
    async with await anyio.connect_tcp("127.0.0.1", client.port) as stream:
        await stream.send(b"POST /elsewhere HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
        assert (await stream.receive()).startswith(b"HTTP/1.1 404 ")
    assert fault_gateway.strays == ["/elsewhere"]


@pytest.mark.parametrize("fault_gateway", ["answer.register.500"], indirect=True)
async def test_what_is_no_frame_is_answered_400_and_noted(fault_gateway: FaultGateway) -> None:
    answer = await Client(fault_gateway).post("register", capabilities="all")
    assert answer.status == 400
    assert "capabilities" in json.loads(answer.body)["error"]
    (stray,) = fault_gateway.strays
    assert stray.startswith("/neuron/register: ")
    assert fault_gateway.book.strikes == []


# Answers


@pytest.mark.parametrize("route", ROUTES)
async def test_a_status_comes_as_often_as_it_says_and_then_no_more(route: str) -> None:
    async with open_fault_gateway(f"answer.{route}.503-burst") as gateway:
        gateway.submit("test/echo", None)
        client = Client(gateway)
        if route not in ("stream", "register"):
            async with client.events() as events:
                await events.frame("lease")
        with anyio.move_on_after(1):
            statuses = [(await client.ask(route)).status for _ in range(5)]
        assert statuses == [503] * 5
        assert len(gateway.book.strikes) == 5
        if route != "stream":
            assert (await client.ask(route)).status in (200, 404)


@pytest.mark.parametrize("what", ["403", "409", "404-ingress", "429-absurd", "redirect"])
async def test_refusals_are_what_they_are_called(what: str) -> None:
    async with open_fault_gateway(f"answer.register.{what}") as gateway:
        answer = await Client(gateway).post("register")
    assert str(answer.status) == ("307" if what == "redirect" else what[:3])
    if what == "redirect":
        assert answer.headers["location"] == gateway.url.replace("127.0.0.1", "localhost") + "/elsewhere"
    if what == "429-absurd":
        assert answer.headers["retry-after"] == "9999999999"
    if what == "404-ingress":
        assert answer.headers["content-type"] == "text/html"


@pytest.mark.parametrize("fault_gateway", ["answer.register.429-date"], indirect=True)
async def test_a_date_to_retry_after_lies_at_most_a_second_ahead(fault_gateway: FaultGateway) -> None:
    answer = await Client(fault_gateway).post("register")
    assert answer.headers["retry-after"].endswith(" GMT")


@pytest.mark.parametrize("fault_gateway", ["answer.register.401-until-refreshed"], indirect=True)
async def test_a_token_is_refused_until_it_is_another(fault_gateway: FaultGateway) -> None:
    client = Client(fault_gateway)
    assert [(await client.post("register", token=token)).status for token in "aaba"] == [401, 401, 200, 401]


@pytest.mark.parametrize("what", ["huge", "not-json", "gzip", "cut-off", "lost-after-acted", "endless"])
async def test_what_is_acted_on_counts_whatever_the_reply_is_like(what: str) -> None:
    async with open_fault_gateway(f"answer.ack.{what}") as gateway:
        client = Client(gateway)
        gateway.submit("test/echo", None)
        async with client.events() as events:
            await events.frame("lease")
            if what == "lost-after-acted":
                with pytest.raises((anyio.EndOfStream, anyio.BrokenResourceError)):
                    await client.post("ack")
            elif what == "endless":
                with anyio.move_on_after(0.2) as patience:
                    await client.post("ack")
                assert patience.cancelled_caught
            else:
                check_spoilt(what, await client.post("ack"))
        assert gateway.verdict().states == {"task-1": "succeeded"}
        assert gateway.verdict().answered_twice == 0


def check_spoilt(what: str, answer: Answer) -> None:
    assert answer.status == 200
    assert answer.complete == (what != "cut-off")
    if what == "huge":
        assert len(answer.body) > 8_000_000
    if what == "not-json":
        assert (answer.body, answer.headers["content-type"]) == (b"<oops", "application/json")
    if what == "gzip":
        assert json.loads(gzip.decompress(answer.body)) == {"ok": True}


async def test_an_ack_that_is_answered_409_leaves_the_task_to_others() -> None:
    async with open_fault_gateway("answer.ack.409") as gateway:
        client = Client(gateway)
        gateway.submit("test/echo", None)
        async with client.events() as events:
            await events.frame("lease")
            assert (await client.post("ack")).status == 409
            assert (await events.frame("lease"))["lease"]["leaseId"] == "lease-2"


# What is left


async def test_nothing_is_left_when_the_block_is_left_with_streams_open() -> None:
    tasks = len(anyio.get_running_tasks())
    async with anyio.create_task_group() as group:
        opened = anyio.Event()

        async def hold(client: Client) -> None:
            with pytest.raises((anyio.EndOfStream, anyio.BrokenResourceError)):
                async with client.events() as events:
                    opened.set()
                    while True:
                        await events.document()

        async with open_fault_gateway() as gateway:
            group.start_soon(hold, Client(gateway))
            with anyio.fail_after(5):
                await opened.wait()
            assert gateway.connections >= 1
    assert gateway.connections == 0
    assert len(anyio.get_running_tasks()) == tasks
