"""Faults that a reviewer found by hand in the gateway, its client and the command line."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import count
from typing import Any

import anyio
import httpx
import msgspec
import pytest

from neuron_anyio import frames
from neuron_anyio.client import GatewayClient
from neuron_anyio.gateway import GatewayLedger, MemoryStore, Principal, open_gateway
from neuron_anyio.gateway.tasks import Submission
from tests.contract.gateway_bench import AT, ECHO, offer, open_neuron_stream, raw_neuron

pytestmark = pytest.mark.anyio

WHEN = datetime(2026, 1, 2, tzinfo=UTC)
ANN = Principal("ann")


def a_ledger(store: MemoryStore, ids: count[int]) -> GatewayLedger:
    return GatewayLedger(new_id=lambda kind: f"{kind}-{next(ids)}", wall=lambda: WHEN, store=store)


def a_session(ledger: GatewayLedger, principal: Principal = ANN, *types: str) -> list[Any]:
    """Open a session of neuron `n` and register; return the frames that it is sent."""
    ledger.open_session("n", principal, 0.0)
    offers = tuple(frames.CapabilityOffer(type=kind, scope="any", concurrency=1) for kind in types or (ECHO,))
    frame = frames.Register(neuron_id="n", protocol_version="1.0.0", capabilities=offers)
    turn = ledger.handle(frame, principal, 0.0)
    assert turn.problem is None
    return [send.frame for send in turn.sends]


async def test_G1_a_give_back_that_is_posted_again_after_a_restart_costs_the_task_nothing() -> None:
    store, ids = MemoryStore(), count()
    before = a_ledger(store, ids)
    before.submit(Submission(capability=ECHO, input=msgspec.Raw(b"1")), ANN, 0.0)
    lease = next(frame.lease for frame in a_session(before) if isinstance(frame, frames.Lease))
    nack = frames.Nack(
        lease_id=lease.lease_id, kind="retryable", reason="so", code="UNKNOWN_CAPABILITY", failed_at=WHEN
    )
    assert before.handle(nack, ANN, 0.0).problem is None
    after = a_ledger(store, ids)
    after.restore(0.0)
    after.handle(nack, ANN, 0.0)
    (task,) = store.all()
    assert (task.attempts, task.expiries) == (0, 0)


async def test_G1_a_result_after_a_nack_is_refused_after_a_restart_too() -> None:
    store, ids = MemoryStore(), count()
    before = a_ledger(store, ids)
    before.submit(Submission(capability=ECHO, input=msgspec.Raw(b"1")), ANN, 0.0)
    lease = next(frame.lease for frame in a_session(before) if isinstance(frame, frames.Lease))
    nack = frames.Nack(lease_id=lease.lease_id, kind="retryable", reason="so", failed_at=WHEN)
    assert before.handle(nack, ANN, 0.0).problem is None
    after = a_ledger(store, ids)
    after.restore(0.0)
    turn = after.handle(frames.Ack(lease_id=lease.lease_id, completed_at=WHEN), ANN, 0.0)
    assert turn.problem is not None
    assert turn.problem.code == "lease-gone"


@pytest.mark.parametrize("code", ["NEURON_SHUTDOWN", "NEURON_DRAINING"])
async def test_G1_the_give_back_of_a_replaced_process_does_not_stop_the_session_that_replaced_it(code: str) -> None:
    with anyio.fail_after(10):
        async with open_gateway() as gateway, raw_neuron(gateway.url, "n") as old:
            await gateway.submit(ECHO, 1)
            lease = await old.lease()
            async with raw_neuron(gateway.url, "n") as new:
                assert (await old.nack(lease, code=code)).status_code == 200
                again = await new.lease()
                assert again["task"]["taskId"] == lease["task"]["taskId"]
                (neuron,) = gateway.neurons()
                assert not neuron.draining


async def test_G3_what_a_former_owner_of_a_neuron_id_offered_is_not_granted_to_the_next_one() -> None:
    ledger = a_ledger(MemoryStore(), count())
    ledger.revoke("org/secret", 0.0, reason="so")
    a_session(ledger, ANN, "org/secret", ECHO)
    neuron = ledger.roster.neurons["n"]
    assert neuron.session is not None
    ledger.close_session(neuron.session.session_id, 0.0)
    a_session(ledger, Principal("bob", namespaces=("core",)), ECHO)
    turn = ledger.allow("org/secret", 0.0)
    granted = [o.type for s in turn.sends if isinstance(s.frame, frames.Registered) for o in s.frame.capabilities]
    assert "org/secret" not in granted


@pytest.mark.parametrize("value", ["1e999", "[" * 900 + "]" * 900])
async def test_G1_an_output_that_no_caller_can_read_does_not_spoil_the_listing(value: str) -> None:
    with anyio.fail_after(10):
        async with open_gateway() as gateway, raw_neuron(gateway.url, "n") as neuron:
            await gateway.submit(ECHO, 1)
            lease_id = (await neuron.lease())["leaseId"]
            body = f'{{"type":"ack","leaseId":"{lease_id}","output":{value},"completedAt":"{AT}"}}'
            reply = await neuron.http.post("/neuron/ack", content=body.encode())
            assert reply.status_code in (200, 400)
            async with GatewayClient(gateway.url) as client:
                assert len([status async for status in client.tasks()]) == 1


async def test_G4_a_lease_time_beyond_the_calendar_is_refused_at_the_start() -> None:
    with anyio.fail_after(10), pytest.raises(ValueError, match="lease_ttl"):
        async with open_gateway(lease_ttl=1e12):
            pass


async def test_a_head_request_for_the_events_of_an_unknown_task_is_answered_like_a_get() -> None:
    with anyio.fail_after(10):
        async with open_gateway() as gateway, httpx.AsyncClient(base_url=gateway.url) as http:
            assert (await http.head("/tasks/none/events")).status_code == 404


async def test_a_slash_too_many_is_a_problem_document_and_no_redirect() -> None:
    with anyio.fail_after(10):
        async with open_gateway() as gateway, httpx.AsyncClient(base_url=gateway.url) as http:
            reply = await http.get("/tasks/", headers={"Host": "elsewhere.example"})
            assert reply.status_code == 404
            assert reply.headers["content-type"] == "application/problem+json"


async def test_an_idempotency_key_that_no_header_can_carry_is_a_value_error_that_names_it() -> None:
    with anyio.fail_after(10):
        async with open_gateway() as gateway, GatewayClient(gateway.url) as client:
            for key in ("\u00e9", "a\nb"):
                with pytest.raises(ValueError, match="idempotency_key"):
                    await client.submit(ECHO, 1, idempotency_key=key)


async def test_G1_ack_twice_after_expiry_after_cancel_and_of_strangers() -> None:
    with anyio.fail_after(15):
        async with open_gateway(lease_ttl=0.2) as gateway, raw_neuron(gateway.url, "n") as neuron:
            first = await gateway.submit(ECHO, 1)
            lease = await neuron.lease()
            assert (await neuron.ack(lease, 5)).status_code == 200
            assert (await neuron.ack(lease, 5)).status_code == 200
            assert (await neuron.ack(lease, 6)).status_code == 409
            assert (await neuron.nack(lease)).status_code == 409
            assert gateway.task(first.task_id).output == 5
            second = await gateway.submit(ECHO, 1)
            late = await neuron.lease()
            newer = await neuron.lease()
            assert newer["leaseId"] != late["leaseId"]
            assert newer["task"]["attempt"] == late["task"]["attempt"] + 1
            assert (await neuron.ack(late)).status_code == 409
            await gateway.cancel(second.task_id)
            await neuron.next("cancel")
            assert (await neuron.nack(newer, "retryable")).status_code == 200
            assert gateway.task(second.task_id).state == "cancelled"
            assert (await neuron.ack(newer)).status_code == 409
            assert (await gateway.cancel(second.task_id)).state == "cancelled"
            assert (await neuron.http.post("/tasks/none/cancel")).status_code == 404
            assert (await neuron.http.post(f"/tasks/{first.task_id}/cancel")).status_code == 409


async def test_G4_a_heartbeat_does_not_renew_what_another_neuron_holds() -> None:
    with anyio.fail_after(10):
        async with (
            open_gateway(lease_ttl=30) as gateway,
            raw_neuron(gateway.url, "n") as one,
            raw_neuron(gateway.url, "m", offer("core/other")) as other,
        ):
            task = await gateway.submit(ECHO, 1)
            lease = await one.lease()
            before = gateway.task(task.task_id).lease_expires_at
            assert (await other.heartbeat(lease)).status_code == 200
            assert gateway.task(task.task_id).lease_expires_at == before


async def test_G4_registering_without_a_stream_or_posting_under_a_foreign_token_is_refused() -> None:
    tokens = {"t1": Principal("ann"), "t2": Principal("bob")}
    with anyio.fail_after(10):
        async with open_gateway(auth=tokens) as gateway, raw_neuron(gateway.url, "n", token="t1"):
            async with httpx.AsyncClient(base_url=gateway.url, headers={"Authorization": "Bearer t2"}) as http:
                document = {"neuronId": "n", "protocolVersion": "1.0.0", "capabilities": [offer()]}
                assert (await http.post("/neuron/register", json={"type": "register", **document})).status_code == 403
                document["neuronId"] = "nobody"
                assert (await http.post("/neuron/register", json={"type": "register", **document})).status_code == 409
                assert (await http.get("/neuron/events?neuronId=n")).status_code == 409
            async with open_neuron_stream(gateway.url, "m", token="t1") as silent:
                assert (await silent.heartbeat()).status_code == 404


@pytest.mark.parametrize(
    "upgrade",
    [
        b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAAA\r\n\r\n",
        b"Connection: Upgrade\r\nUpgrade: h2c\r\n\r\n",
    ],
)
async def test_a_broken_upgrade_to_http_2_ends_one_connection_and_not_the_gateway(upgrade: bytes) -> None:
    with anyio.fail_after(10):
        async with open_gateway() as gateway, httpx.AsyncClient(base_url=gateway.url) as http:
            host, port = gateway.url.removeprefix("http://").split(":")
            async with await anyio.connect_tcp(host, int(port)) as stranger:
                await stranger.send(b"GET /livez HTTP/1.1\r\nHost: a\r\n" + upgrade)
                with anyio.move_on_after(1):
                    async for _ in stranger:
                        pass
            assert (await http.get("/livez")).status_code == 200
