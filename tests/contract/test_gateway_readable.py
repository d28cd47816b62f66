"""What the gateway takes can be read by who gets it: no infinite numbers, no bottomless nesting."""

from __future__ import annotations

from typing import Any

import anyio
import httpx
import pytest

from neuron_anyio import capability, open_neuron
from neuron_anyio.client import GatewayClient
from neuron_anyio.gateway import open_gateway
from tests.contract.gateway_bench import AT, ECHO, raw_neuron

pytestmark = pytest.mark.anyio

DEEP = "[" * 100_000 + "]" * 100_000
RULES = {"2e999": "number", "[1, -1e400]": "number", '{"a": {"b": 1e999}}': "number", DEEP: "nested"}


@pytest.mark.parametrize("value", RULES, ids=lambda value: value[:12])
@pytest.mark.parametrize("member", ["input", "metadata"])
async def test_a_task_that_no_neuron_could_read_is_refused_naming_member_and_rule(member: str, value: str) -> None:
    document = {"capability": f'"{ECHO}"', "input": "1"} | {member: value if member == "input" else f'{{"m": {value}}}'}
    body = "{" + ",".join(f'"{name}":{text}' for name, text in document.items()) + "}"
    with anyio.fail_after(10):
        async with open_gateway() as gateway, httpx.AsyncClient(base_url=gateway.url) as http:
            reply = await http.post("/tasks", content=body)
            assert reply.status_code == 400
            assert reply.headers["content-type"] == "application/problem+json"
            detail = reply.json()["detail"].lower()
            assert RULES[value] in detail
            assert member in detail or value == DEEP, "what is deeper than any stack is refused before it has a name"
            assert value not in detail
            assert sum(gateway.counts().values()) == 0


@pytest.mark.parametrize(("kind", "member"), [("ack", "output"), ("nack", "details"), ("progress", "data")])
async def test_a_word_that_no_caller_could_read_is_refused_naming_member_and_rule(kind: str, member: str) -> None:
    rest = {
        "ack": f'"completedAt":"{AT}"',
        "nack": f'"kind":"terminal","reason":"so","failedAt":"{AT}"',
        "progress": f'"sentAt":"{AT}"',
    }[kind]
    with anyio.fail_after(10):
        async with open_gateway() as gateway, raw_neuron(gateway.url) as neuron:
            await gateway.submit(ECHO, 1)
            lease = await neuron.lease()
            body = f'{{"type":"{kind}","leaseId":"{lease["leaseId"]}",{rest},"{member}":1e999}}'
            reply = await neuron.http.post(f"/neuron/{kind}", content=body)
            assert (reply.status_code, reply.json()["code"]) == (400, "invalid-frame")
            assert member in reply.json()["detail"]
            assert "number" in reply.json()["detail"]


@capability("examples/takes")
async def takes(value: Any) -> None:
    assert isinstance(value, list)


async def test_what_is_taken_at_any_depth_can_be_read_by_the_neuron_and_by_the_caller() -> None:
    taken: list[bool] = []
    with anyio.fail_after(30):
        async with (
            open_gateway() as gateway,
            open_neuron(gateway.url, neuron_id="n", capabilities=[takes]),
            GatewayClient(gateway.url) as client,
            httpx.AsyncClient(base_url=gateway.url) as http,
        ):
            for depth in range(100, 1001, 20):
                text = "[" * depth + "]" * depth
                body = f'{{"capability":"examples/takes","input":{text},"metadata":{{"m":{text}}}}}'
                reply = await http.post("/tasks", content=body)
                assert reply.status_code in (201, 400)
                taken.append(reply.status_code == 201)
                if reply.status_code == 201:
                    assert await client.result(reply.json()["taskId"]) is None
    assert taken == sorted(taken, reverse=True)
    assert taken[0]
