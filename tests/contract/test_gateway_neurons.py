"""What a neuron sees of the gateway over real HTTP: promises G1 to G4 from outside, streams, and refusals."""

from __future__ import annotations

import json
import socket
from typing import Any

import anyio
import httpx
import pytest

from neuron_anyio.backoff import Backoff
from neuron_anyio.errors import TransportError
from neuron_anyio.gateway import Principal, open_gateway
from tests.contract.gateway_bench import AT, ECHO, offer, open_neuron_stream, raw_neuron

pytestmark = pytest.mark.anyio


async def submit(url: str, capability: str = ECHO, value: Any = None, **rest: Any) -> dict[str, Any]:
    async with httpx.AsyncClient(base_url=url) as http:
        reply = await http.post("/tasks", json={"capability": capability, "input": value, **rest})
        assert reply.status_code == 201
        status: dict[str, Any] = reply.json()
        return status


async def look(url: str, task_id: str) -> dict[str, Any]:
    async with httpx.AsyncClient(base_url=url) as http:
        status: dict[str, Any] = (await http.get(f"/tasks/{task_id}")).json()
        return status


async def test_a_lease_goes_out_and_its_ack_settles_the_task() -> None:
    with anyio.fail_after(5):
        async with open_gateway() as gateway, raw_neuron(gateway.url) as neuron:
            task = await submit(gateway.url, value={"text": "héllo 😀", "n": None}, metadata={"trace": "1"})
            lease = await neuron.lease()
            assert lease["task"] == {
                "taskId": task["taskId"],
                "workflowId": task["taskId"],
                "capability": ECHO,
                "input": {"text": "héllo 😀", "n": None},
                "attempt": 0,
                "metadata": {"trace": "1"},
            }
            reply = await neuron.ack(lease, {"echo": 1})
            assert (reply.status_code, reply.json()) == (200, {"ok": True})
            status = await look(gateway.url, task["taskId"])
            assert (status["state"], status["output"], status["attempts"]) == ("succeeded", {"echo": 1}, 1)


async def test_the_stream_says_what_it_is_and_begins_with_a_comment() -> None:
    with anyio.fail_after(5):
        async with open_gateway() as gateway:
            host, port = gateway.url.removeprefix("http://").split(":")
            async with await anyio.connect_tcp(host, int(port)) as stream:
                await stream.send(b"GET /neuron/events?neuronId=n HTTP/1.1\r\nHost: x\r\n\r\n")
                text = b""
                while b": keep-alive\n\n" not in text:
                    text += await stream.receive()
            head = text.lower()
            assert head.startswith(b"http/1.1 200")
            assert b"content-type: text/event-stream\r\n" in head
            assert b"cache-control: no-store\r\n" in head


async def test_a_silent_stream_carries_comments() -> None:
    with anyio.fail_after(5):
        async with open_gateway(keep_alive=0.01) as gateway, raw_neuron(gateway.url) as neuron:
            before = neuron.events.comments
            await anyio.sleep(0.1)  # real time is what is tested here
            await submit(gateway.url)
            await neuron.lease()
            assert neuron.events.comments - before >= 3


async def test_a_frame_is_an_event_of_its_type_on_one_line_even_for_input_with_line_breaks() -> None:
    with anyio.fail_after(5):
        async with open_gateway() as gateway, raw_neuron(gateway.url) as neuron:
            text = b'{"capability":"core/echo","input":{\r\n "a": [1,\n2], "b": "x\\ny"}}'
            assert (await neuron.http.post("/tasks", content=text)).status_code == 201
            assert (await neuron.lease())["task"]["input"] == {"a": [1, 2], "b": "x\ny"}


async def test_G1_a_retryable_nack_is_tried_again_with_a_new_lease_until_it_fails() -> None:
    with anyio.fail_after(5):
        retry = Backoff(initial=0.001, maximum=0.001)
        async with open_gateway(retry=retry, max_attempts=2) as gateway, raw_neuron(gateway.url) as neuron:
            task = await submit(gateway.url)
            first = await neuron.lease()
            await neuron.nack(first, code="HANDLER_THREW")
            second = await neuron.lease()
            assert (second["task"]["attempt"], second["task"]["taskId"]) == (1, task["taskId"])
            assert second["leaseId"] != first["leaseId"]
            await neuron.nack(second, code="HANDLER_THREW", details={"n": 1})
            status = await look(gateway.url, task["taskId"])
            assert status["state"] == "failed"
            assert status["failure"] == {
                "kind": "retryable",
                "reason": "so",
                "code": "HANDLER_THREW",
                "details": {"n": 1},
            }
            assert (status["attempts"], status["results"], status["deliveries"]) == (2, 2, 2)


async def test_G1_a_drained_neuron_gives_back_and_another_takes_over() -> None:
    with anyio.fail_after(5):
        async with open_gateway() as gateway, raw_neuron(gateway.url, "old") as old:
            task = await submit(gateway.url)
            lease = await old.lease()
            async with raw_neuron(gateway.url, "new") as new:
                await old.nack(lease, code="NEURON_SHUTDOWN")
                again = await new.lease()
                assert (again["task"]["taskId"], again["task"]["attempt"]) == (task["taskId"], 0)
                async with httpx.AsyncClient(base_url=gateway.url) as http:
                    neurons = (await http.get("/neurons")).json()["neurons"]
                assert {each["neuronId"]: each["draining"] for each in neurons} == {"old": True, "new": False}


async def test_G2_no_more_leases_go_out_than_granted() -> None:
    with anyio.fail_after(5):
        async with open_gateway() as gateway, raw_neuron(gateway.url, "n", offer(concurrency=2)) as neuron:
            for number in range(4):
                await submit(gateway.url, value=number)
            first, second = await neuron.lease(), await neuron.lease()
            assert gateway.counts() == {"pending": 2, "leased": 2, "succeeded": 0, "failed": 0, "cancelled": 0}
            await neuron.post("update-capability", neuronId="n", capability=offer(concurrency=3))
            assert (await neuron.next("registered"))["capabilities"] == [offer(concurrency=3)]
            third = await neuron.lease()
            assert gateway.counts()["pending"] == 1
            for lease in (first, second, third):
                await neuron.ack(lease)
            assert [lease["task"]["input"] for lease in (first, second, third, await neuron.lease())] == [0, 1, 2, 3]


async def test_G3_on_behalf_of_routes_to_the_users_own_neuron() -> None:
    with anyio.fail_after(5):
        async with (
            open_gateway() as gateway,
            raw_neuron(gateway.url, "all", offer(concurrency=5)) as everybodys,
            raw_neuron(gateway.url, "ann", offer(concurrency=5, user="ann")) as anns,
        ):
            for_ann = await submit(gateway.url, onBehalfOf="ann")
            for_bob = await submit(gateway.url, onBehalfOf="bob")
            rest = await submit(gateway.url)
            lease = await anns.lease()
            assert (lease["task"]["taskId"], lease["task"]["onBehalfOf"]) == (for_ann["taskId"], "ann")
            assert (await everybodys.lease())["task"]["taskId"] == rest["taskId"]
            assert (await look(gateway.url, for_bob["taskId"]))["offered"] is False


async def test_G4_leases_of_a_dropped_stream_expire_and_are_redelivered() -> None:
    with anyio.fail_after(5):
        async with open_gateway(lease_ttl=0.05) as gateway:
            async with raw_neuron(gateway.url, "gone") as gone:
                task = await submit(gateway.url)
                first = await gone.lease()
            async with raw_neuron(gateway.url, "next") as other:
                second = await other.lease()
                assert second["task"]["taskId"] == task["taskId"]
                assert second["task"]["attempt"] == 1
                assert second["leaseId"] != first["leaseId"]


async def test_G4_heartbeats_keep_the_leases_of_a_dropped_stream() -> None:
    with anyio.fail_after(10):
        async with open_gateway(lease_ttl=1.0) as gateway, httpx.AsyncClient(base_url=gateway.url) as http:
            async with raw_neuron(gateway.url) as neuron:
                task = await submit(gateway.url)
                lease = await neuron.lease()
            held = [{"leaseId": lease["leaseId"], "taskId": task["taskId"], "startedAt": AT}]
            beat = {"type": "heartbeat", "neuronId": "n", "inFlight": held, "sentAt": AT}
            before = (await look(gateway.url, task["taskId"]))["leaseExpiresAt"]
            assert (await http.post("/neuron/heartbeat", json=beat)).status_code == 200
            assert (await look(gateway.url, task["taskId"]))["leaseExpiresAt"] > before
            ack = {"type": "ack", "leaseId": lease["leaseId"], "output": 1, "completedAt": AT}
            assert (await http.post("/neuron/ack", json=ack)).status_code == 200


async def test_G4_a_second_session_takes_the_place_of_the_first() -> None:
    with anyio.fail_after(5):
        async with open_gateway() as gateway, raw_neuron(gateway.url) as first:
            await submit(gateway.url)
            lease = await first.lease()
            async with raw_neuron(gateway.url) as second:
                goodbye = await first.next("disconnect")
                assert (goodbye["reconnectable"], goodbye["code"]) == (False, "REPLACED")
                with pytest.raises(StopAsyncIteration):
                    await first.events.next()
                assert (await second.heartbeat(lease)).status_code == 200
                assert (await second.ack(lease, 1)).status_code == 200
                await submit(gateway.url)
                await second.lease()


async def test_a_cancelled_task_sends_its_holder_a_cancel() -> None:
    with anyio.fail_after(5):
        async with open_gateway() as gateway, raw_neuron(gateway.url) as neuron:
            task = await submit(gateway.url)
            lease = await neuron.lease()
            await neuron.http.post(f"/tasks/{task['taskId']}/cancel", json={"reason": "enough"})
            frame = await neuron.next("cancel")
            assert (frame["leaseId"], frame["reason"]) == (lease["leaseId"], "enough")
            await neuron.nack(lease, "cancelled", code="CANCELLED")
            assert (await look(gateway.url, task["taskId"]))["state"] == "cancelled"


async def test_operators_revoke_allow_and_disconnect() -> None:
    with anyio.fail_after(5):
        async with open_gateway() as gateway, raw_neuron(gateway.url) as neuron:
            await gateway.revoke(ECHO, "policy")
            assert (await neuron.next("capability-revoked"))["reason"] == "policy"
            await submit(gateway.url)
            await gateway.allow(ECHO)
            assert (await neuron.next("registered"))["capabilities"] == [offer()]
            await neuron.lease()
            await gateway.disconnect("n", "maintenance", code="MAINTENANCE")
            frame = await neuron.next("disconnect")
            assert (frame["reason"], frame["code"], frame["reconnectable"]) == ("maintenance", "MAINTENANCE", True)
            with pytest.raises(StopAsyncIteration):
                await neuron.events.next()


async def test_a_dropped_stream_can_be_forced_for_tests_of_neurons() -> None:
    with anyio.fail_after(5):
        async with open_gateway() as gateway, raw_neuron(gateway.url) as neuron:
            gateway.drop_stream("n")
            with pytest.raises((StopAsyncIteration, TransportError)):
                await neuron.events.next()
            assert gateway.neurons() == []


# ---- refusals


def problem_of(reply: httpx.Response) -> tuple[int, str, str]:
    assert reply.headers["content-type"] == "application/problem+json"
    document = reply.json()
    assert document["status"] == reply.status_code
    assert set(document) == {"status", "title", "detail", "code"}
    return reply.status_code, document["code"], document["detail"]


async def test_refusals_are_problems_that_say_what_is_wrong() -> None:
    ack = {"type": "ack", "leaseId": "nope", "output": 1, "completedAt": AT}
    register = {"type": "register", "neuronId": "n", "protocolVersion": "1.0.0", "capabilities": [offer()]}
    cases: list[tuple[str, Any, int, str, str]] = [
        ("/neuron/register", register, 409, "no-stream", "GET /neuron/events"),
        ("/neuron/register", {**register, "capabilities": []}, 400, "invalid-frame", "capabilities"),
        ("/neuron/register", b"{", 400, "invalid-frame", "JSON"),
        ("/neuron/register", b'{"type":"register","neuronId":"\xff"}', 400, "not-utf-8", "UTF-8"),
        ("/neuron/ack", register, 400, "wrong-route", "/neuron/register"),
        ("/neuron/ack", ack, 409, "lease-gone", "nope"),
        ("/neuron/ack", {**ack, "completedAt": "yesterday"}, 400, "invalid-frame", "completedAt"),
        ("/neuron/steal", ack, 404, "no-such-route", "/neuron/steal"),
    ]
    with anyio.fail_after(5):
        async with open_gateway() as gateway, httpx.AsyncClient(base_url=gateway.url) as http:
            for path, body, status, code, words in cases:
                content = body if isinstance(body, bytes) else json.dumps(body).encode()
                found = problem_of(await http.post(path, content=content))
                assert found[:2] == (status, code), path
                assert words in found[2]
            assert problem_of(await http.get("/neuron/events"))[:2] == (400, "no-neuron-id")
            assert problem_of(await http.get("/elsewhere"))[:2] == (404, "no-such-route")
            reply = await http.delete("/neuron/ack")
            assert problem_of(reply)[:2] == (405, "method-not-allowed")
            assert reply.headers["allow"] == "POST"


async def test_a_body_over_the_bound_is_refused_whether_or_not_it_says_its_length() -> None:
    async def pieces() -> Any:
        for _ in range(20):
            yield b" " * 100

    with anyio.fail_after(5):
        async with open_gateway(body_bytes=1000) as gateway, httpx.AsyncClient(base_url=gateway.url) as http:
            assert problem_of(await http.post("/neuron/ack", content=b" " * 1001))[:2] == (413, "body-too-large")
            assert problem_of(await http.post("/neuron/ack", content=pieces()))[:2] == (413, "body-too-large")
            assert problem_of(await http.post("/neuron/ack", content=b" " * 1000))[0] == 400


async def test_who_brings_no_token_or_a_wrong_one_is_told_to() -> None:
    with anyio.fail_after(5):
        async with open_gateway(auth="s3cret") as gateway, httpx.AsyncClient(base_url=gateway.url) as http:
            for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic s3cret"}):
                for method, path in (("GET", "/neuron/events?neuronId=n"), ("POST", "/neuron/ack"), ("GET", "/tasks")):
                    reply = await http.request(method, path, headers=headers)
                    assert problem_of(reply)[0] == 401
                    assert reply.headers["www-authenticate"].startswith("Bearer")
            assert (await http.get("/livez")).status_code == 200
            async with raw_neuron(gateway.url, token="s3cret"):
                pass
            assert "s3cret" not in repr(
                vars(gateway.authenticator) if hasattr(gateway.authenticator, "__dict__") else ""
            )


@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_a_callable_turns_tokens_into_principals(kind: str) -> None:
    def sync(token: str) -> Principal | None:
        return Principal("acme", namespaces=("org/acme",)) if token == "good" else None

    async def asynchronous(token: str) -> Principal | None:
        await anyio.lowlevel.checkpoint()
        return sync(token)

    with anyio.fail_after(5):
        async with open_gateway(auth=sync if kind == "sync" else asynchronous) as gateway:
            async with open_neuron_stream(gateway.url, token="good") as neuron:
                status, code, detail = problem_of(await neuron.register(offer("core/x"), offer("org/acme/y")))
                assert (status, code) == (403, "namespace")
                assert "core/x" in detail
                assert (await neuron.register(offer("org/acme/y"))).status_code == 200
            async with open_neuron_stream(gateway.url, token="bad") as neuron:
                assert neuron.events.status == 401


async def test_one_neuron_id_belongs_to_one_token_at_a_time() -> None:
    tokens = {"a": Principal("a"), "b": Principal("b")}
    with anyio.fail_after(5):
        async with (
            open_gateway(auth=tokens) as gateway,
            raw_neuron(gateway.url, token="a"),
            open_neuron_stream(gateway.url, token="b") as neuron,
        ):
            assert neuron.events.status == 409


# ---- slow readers


async def test_a_reader_that_does_not_read_loses_its_stream_and_holds_up_nobody() -> None:
    with anyio.fail_after(20):
        async with open_gateway(stream_bytes=100_000) as gateway:
            host, port = gateway.url.removeprefix("http://").split(":")
            with socket.create_connection((host, int(port))) as slow:
                slow.sendall(b"GET /neuron/events?neuronId=slow HTTP/1.1\r\nHost: x\r\n\r\n")
                async with raw_neuron(gateway.url, "quick", offer("core/quick")) as quick:
                    many: dict[str, Any] = {"protocolVersion": "1.0.0", "capabilities": [offer(concurrency=1_000)]}
                    while (await quick.post("register", neuronId="slow", **many)).status_code != 200:
                        pass
                    sent = 0
                    while {each.neuron_id for each in gateway.neurons() if each.connected} == {"slow", "quick"}:
                        await gateway.submit(ECHO, "x" * 50_000)
                        sent += 1
                        assert sent < 1_000, "the buffer is bounded"
                        await gateway.submit("core/quick", sent)
                        await quick.ack(await quick.lease())
                assert gateway.counts()["leased"] >= sent - 1, "its leases stay until they expire"
                began = anyio.current_time()
        assert anyio.current_time() - began < 1
