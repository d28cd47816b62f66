"""Two neurons with tokens of their own, over real HTTP: neither can speak for the other's leases (promise G4)."""

from __future__ import annotations

import anyio
import httpx
import pytest

from neuron_anyio.gateway import Principal, open_gateway
from tests.contract.gateway_bench import AT, ECHO, raw_neuron

pytestmark = pytest.mark.anyio

TOKENS = {"ann's": Principal("ann"), "eve's": Principal("eve")}


async def test_G4_another_token_cannot_ack_nack_or_report_on_a_lease() -> None:
    with anyio.fail_after(10):
        async with (
            open_gateway(auth=TOKENS) as gateway,
            raw_neuron(gateway.url, "n", token="ann's") as neuron,
            httpx.AsyncClient(base_url=gateway.url, headers={"Authorization": "Bearer eve's"}) as eve,
        ):
            task = await gateway.submit(ECHO, 1)
            lease = await neuron.lease()
            for kind, rest in (
                ("ack", {"output": "eve's", "completedAt": AT}),
                ("nack", {"kind": "terminal", "reason": "so", "failedAt": AT}),
                ("progress", {"percent": 99, "sentAt": AT}),
            ):
                answers: list[httpx.Response] = [
                    await eve.post(f"/neuron/{kind}", json={"type": kind, "leaseId": lease_id, **rest})
                    for lease_id in (lease["leaseId"], "none")
                ]
                assert [reply.status_code for reply in answers] == [409, 409]
                real, unknown = (reply.json() for reply in answers)
                assert real | {"detail": ""} == unknown | {"detail": ""}
                assert real["detail"].replace(lease["leaseId"], "none") == unknown["detail"]
            assert (await neuron.ack(lease, "ann's")).status_code == 200
            assert gateway.task(task.task_id).output == "ann's"


async def test_G4_without_tokens_a_result_may_come_from_anywhere() -> None:
    with anyio.fail_after(10):
        async with open_gateway() as gateway, raw_neuron(gateway.url, "n") as neuron:
            task = await gateway.submit(ECHO, 1)
            lease = await neuron.lease()
            async with httpx.AsyncClient(base_url=gateway.url) as another:
                frame = {"type": "ack", "leaseId": lease["leaseId"], "output": 2, "completedAt": AT}
                assert (await another.post("/neuron/ack", json=frame)).status_code == 200
            assert gateway.task(task.task_id).state == "succeeded"
