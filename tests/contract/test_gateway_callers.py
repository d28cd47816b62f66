"""The callers' routes over real HTTP."""

from __future__ import annotations

import json
from typing import Any

import anyio
import httpx
import pytest

from neuron_anyio.backoff import Backoff
from neuron_anyio.gateway import Bounds, Principal, Refused, open_gateway
from tests.contract.gateway_bench import AT, ECHO, event_stream, offer, raw_neuron

pytestmark = pytest.mark.anyio

TASK = {"capability": ECHO, "input": None}


async def test_a_task_is_accepted_with_201_and_says_whether_anybody_offers_it() -> None:
    with anyio.fail_after(5):
        async with open_gateway() as gateway, httpx.AsyncClient(base_url=gateway.url) as http:
            reply = await http.post("/tasks", json=TASK)
            status = reply.json()
            assert reply.status_code == 201
            assert reply.headers["location"] == f"/tasks/{status['taskId']}"
            assert (status["state"], status["offered"], status["maxAttempts"]) == ("pending", False, 3)
            assert (await http.get(reply.headers["location"])).json() == status
            async with raw_neuron(gateway.url):
                assert "offered" not in (await http.get(reply.headers["location"])).json(), "it is leased now"
                assert (await http.post("/tasks", json=TASK)).json()["offered"] is True


@pytest.mark.parametrize(
    ("body", "code", "words"),
    [
        (b'{"capability":"core/echo"}', "invalid-document", "`input`"),
        (b'{"input":1}', "invalid-document", "`capability`"),
        (b'{"capability":"core/echo","input":1,"inputs":2}', "invalid-document", "`inputs`"),
        (b'{"capability":"echo","input":1}', "invalid-capability", "segments"),
        (b'{"capability":"core/echo\\n","input":1}', "invalid-capability", "segments"),
        (b'{"capability":"core/echo","input":1,"maxAttempts":0}', "invalid-document", "maxAttempts"),
        (b'{"capability":"core/echo","input":1,"maxAttempts":"3"}', "invalid-document", "maxAttempts"),
        (b'{"capability":"core/echo","input":1,"metadata":[]}', "invalid-document", "metadata"),
        (b'{"capability":"core/echo","input":1,"onBehalfOf":""}', "invalid-document", "onBehalfOf"),
        (b'{"capability":"core/echo","input":NaN}', "not-json", "JSON"),
        (b'{"capability":"core/echo","input":"\xff"}', "not-utf-8", "UTF-8"),
        (b'{"capability":"core/echo","input":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "not-json", "deep"),
        (b"[]", "invalid-document", "object"),
        (b"", "not-json", "JSON"),
    ],
)
async def test_a_document_that_is_no_task_is_refused_naming_what_is_wrong(body: bytes, code: str, words: str) -> None:
    with anyio.fail_after(5):
        async with open_gateway() as gateway, httpx.AsyncClient(base_url=gateway.url) as http:
            reply = await http.post("/tasks", content=body)
            assert (reply.status_code, reply.json()["code"]) == (400, code)
            assert reply.headers["content-type"] == "application/problem+json"
            assert words in reply.json()["detail"]


async def test_inputs_and_outputs_pass_through_as_they_were_written() -> None:
    text = '{"big":123456789012345678901234567890,"f":1.0,"e":1e+22,"s":"\\u00e9é\\u2028","n":[null,{}],"a":1,"a":2}'
    with anyio.fail_after(5):
        async with open_gateway() as gateway, raw_neuron(gateway.url) as neuron:
            reply = await neuron.http.post(
                "/tasks", content=b'{"capability":"core/echo","input":' + text.encode() + b"}"
            )
            task_id = reply.json()["taskId"]
            lease = await neuron.lease()
            body = f'{{"type":"ack","leaseId":"{lease["leaseId"]}","output":{text},"completedAt":"{AT}"}}'
            assert (await neuron.http.post("/neuron/ack", content=body.encode())).status_code == 200
            assert text in (await neuron.http.get(f"/tasks/{task_id}")).text
            stored = gateway.ledger.book.store.get(task_id)
            assert stored is not None
            assert bytes(stored.output or b"").decode() == text


async def test_an_idempotency_key_makes_one_task_and_clashes_with_another() -> None:
    with anyio.fail_after(5):
        async with open_gateway() as gateway, httpx.AsyncClient(base_url=gateway.url) as http:
            headers = {"Idempotency-Key": "order-7"}
            first = await http.post("/tasks", json={**TASK, "input": {"a": 1, "b": [2]}}, headers=headers)
            again = await http.post(
                "/tasks", content=b'{"input":{ "b":[2], "a":1 },"capability":"core/echo"}', headers=headers
            )
            assert (first.status_code, again.status_code) == (201, 200)
            assert first.json()["taskId"] == again.json()["taskId"]
            clash = await http.post("/tasks", json={**TASK, "input": {"a": 2}}, headers=headers)
            assert (clash.status_code, clash.json()["code"]) == (422, "idempotency-key-reused")
            long = await http.post("/tasks", json=TASK, headers={"Idempotency-Key": "x" * 256})
            assert long.status_code == 400
            assert gateway.counts()["pending"] == 1


async def test_a_listing_comes_in_pages_newest_first_and_can_be_narrowed() -> None:
    with anyio.fail_after(5):
        async with open_gateway() as gateway, httpx.AsyncClient(base_url=gateway.url) as http:
            made = [(await gateway.submit(ECHO if n % 2 else "core/other", n)).task_id for n in range(5)]
            await gateway.cancel(made[1])

            async def listing(**query: Any) -> list[str]:
                found: list[str] = []
                while True:
                    page = (await http.get("/tasks", params=query)).json()
                    found += [task["taskId"] for task in page["tasks"]]
                    if "cursor" not in page:
                        return found
                    query["cursor"] = page["cursor"]

            assert await listing() == made[::-1]
            assert await listing(limit=2) == made[::-1]
            assert await listing(capability=ECHO) == [made[3], made[1]]
            assert await listing(state="cancelled") == [made[1]]
            assert await listing(state="failed") == []
            for query in ({"state": "lost"}, {"cursor": "x"}, {"limit": "0"}, {"limit": "1001"}, {"cursor": "9" * 30}):
                reply = await http.get("/tasks", params=query)
                assert (reply.status_code, reply.json()["code"]) == (400, "invalid-query")


async def test_following_a_task_begins_with_where_it_stands_and_ends_when_it_has_settled() -> None:
    with anyio.fail_after(5):
        async with open_gateway() as gateway, raw_neuron(gateway.url) as neuron:
            task = await gateway.submit(ECHO, 1, max_attempts=1)
            lease = await neuron.lease()
            async with event_stream(gateway.url, f"/tasks/{task.task_id}/events") as events:
                name, status = await events.next()
                assert (name, status["state"], status["neuronId"]) == ("state", "leased", "n")
                await neuron.post("progress", leaseId=lease["leaseId"], percent=40, message="half", sentAt=AT)
                name, status = await events.next()
                assert (name, status["progress"]["percent"], status["progress"]["message"]) == ("progress", 40, "half")
                await neuron.post("progress", leaseId=lease["leaseId"], percent=80, data={"n": [1]}, sentAt=AT)
                _, status = await events.next()
                assert status["progress"]["message"] == "half"
                assert (status["progress"]["percent"], status["progress"]["data"]) == (80, {"n": [1]})
                await neuron.ack(lease, {"done": True})
                name, status = await events.next()
                assert (name, status["state"], status["output"]) == ("state", "succeeded", {"done": True})
                with pytest.raises(StopAsyncIteration):
                    await events.next()
            async with event_stream(gateway.url, f"/tasks/{task.task_id}/events") as events:
                assert (await events.next())[1]["state"] == "succeeded"
                with pytest.raises(StopAsyncIteration):
                    await events.next()


async def test_following_an_unknown_task_is_a_404() -> None:
    with anyio.fail_after(5):
        async with open_gateway() as gateway, httpx.AsyncClient(base_url=gateway.url) as http:
            for path in ("/tasks/nope", "/tasks/nope/events"):
                reply = await http.get(path)
                assert (reply.status_code, reply.json()["code"]) == (404, "unknown-task")
            assert (await http.post("/tasks/nope/cancel")).status_code == 404


async def test_cancel_takes_a_reason_or_nothing_and_refuses_what_is_over() -> None:
    with anyio.fail_after(5):
        async with open_gateway() as gateway, raw_neuron(gateway.url, "n", offer("core/quick")) as neuron:
            waiting = await gateway.submit(ECHO, 1)
            reply = await neuron.http.post(f"/tasks/{waiting.task_id}/cancel")
            assert (reply.status_code, reply.json()["state"]) == (200, "cancelled")
            other = await gateway.submit(ECHO, 1)
            reply = await neuron.http.post(f"/tasks/{other.task_id}/cancel", json={"reason": "late"})
            assert reply.json()["cancelReason"] == "late"
            wrong = await neuron.http.post(f"/tasks/{other.task_id}/cancel", json={"why": "late"})
            assert (wrong.status_code, wrong.json()["code"]) == (400, "invalid-document")
            done = await gateway.submit("core/quick", 1)
            await neuron.ack(await neuron.lease())
            reply = await neuron.http.post(f"/tasks/{done.task_id}/cancel")
            assert (reply.status_code, reply.json()["code"]) == (409, "task-settled")


async def test_neurons_and_capabilities_show_who_does_what() -> None:
    with anyio.fail_after(5):
        async with open_gateway() as gateway, raw_neuron(gateway.url, "n", offer(concurrency=2, user="ann")) as neuron:
            await gateway.submit(ECHO, 1, on_behalf_of="ann")
            await gateway.submit("core/wanted", 1)
            await neuron.lease()
            (each,) = (await neuron.http.get("/neurons")).json()["neurons"]
            assert (each["neuronId"], each["connected"], each["leased"]) == ("n", True, 1)
            assert each["capabilities"] == [{"type": ECHO, "concurrency": 2, "leased": 1, "onBehalfOf": "ann"}]
            assert (await neuron.http.get("/capabilities")).json()["capabilities"] == [
                {"type": ECHO, "neurons": 1, "concurrency": 2, "leased": 1, "pending": 0, "revoked": False},
                {"type": "core/wanted", "neurons": 0, "concurrency": 0, "leased": 0, "pending": 1, "revoked": False},
            ]


async def test_a_user_may_submit_for_itself_alone() -> None:
    with anyio.fail_after(5):
        tokens = {"t": Principal("ann", user="ann")}
        headers = {"Authorization": "Bearer t"}
        async with (
            open_gateway(auth=tokens) as gateway,
            httpx.AsyncClient(base_url=gateway.url, headers=headers) as http,
        ):
            assert (await http.post("/tasks", json={**TASK, "onBehalfOf": "bob"})).status_code == 403
            assert (await http.post("/tasks", json={**TASK, "onBehalfOf": "ann"})).status_code == 201


async def test_too_many_open_tasks_are_a_429_that_says_when_to_come_back() -> None:
    with anyio.fail_after(5):
        bounds = Bounds(open_tasks=1)
        async with open_gateway(bounds=bounds) as gateway, httpx.AsyncClient(base_url=gateway.url) as http:
            assert (await http.post("/tasks", json=TASK)).status_code == 201
            reply = await http.post("/tasks", json=TASK)
            assert (reply.status_code, reply.headers["retry-after"]) == (429, "1")


async def test_the_program_round_the_gateway_submits_waits_and_looks_without_http() -> None:
    with anyio.fail_after(5):
        async with (
            open_gateway(retry=Backoff(initial=0.001, maximum=0.001)) as gateway,
            raw_neuron(gateway.url) as neuron,
        ):
            one = await gateway.submit(ECHO, {"n": 1})
            assert one.state == "leased"
            async with anyio.create_task_group() as tasks:

                async def work() -> None:
                    await neuron.nack(await neuron.lease())
                    await neuron.ack(await neuron.lease(), [1])

                tasks.start_soon(work)
                (status,) = await gateway.wait_settled(one.task_id)
            assert (status.state, status.output, status.attempts) == ("succeeded", [1], 2)
            await gateway.wait_settled()
            assert gateway.task(one.task_id) == status
            with pytest.raises(Refused, match="no task 'nope'"):
                gateway.task("nope")
            with pytest.raises(Refused, match="two or more segments"):
                await gateway.submit("echo", 1)


async def test_a_head_request_opens_no_stream() -> None:
    with anyio.fail_after(5):
        async with open_gateway() as gateway, httpx.AsyncClient(base_url=gateway.url) as http:
            reply = await http.head("/neuron/events?neuronId=n")
            assert (reply.status_code, reply.headers["content-type"]) == (200, "text/event-stream")
            assert gateway.neurons() == []


async def test_nothing_of_inputs_outputs_and_tokens_is_logged_or_shown(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(0)
    with anyio.fail_after(5):
        async with open_gateway(auth="tok3n") as gateway, raw_neuron(gateway.url, token="tok3n") as neuron:
            await neuron.http.post("/tasks", json={**TASK, "input": "s3cret", "metadata": {"k": "s3cret"}})
            lease = await neuron.lease()
            await neuron.ack(lease, "s3cret")
            await neuron.http.post("/tasks", content=b'{"capability":"core/echo","input":"s3cret"')
            (status,) = gateway.tasks().tasks
            shown = repr((status, gateway, gateway.neurons(), gateway.ledger.book.store.get(status.task_id)))
    text = caplog.text + shown
    assert "s3cret" not in text
    assert "tok3n" not in text
    assert json.loads(json.dumps(lease))["task"]["input"] == "s3cret"
