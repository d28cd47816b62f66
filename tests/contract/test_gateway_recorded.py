"""Sessions of the published SDK, replayed against the gateway: it must take every request that was accepted then."""

from __future__ import annotations

import json
import re
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import anyio
import pytest

from neuron_anyio.gateway import Gateway, open_gateway
from tests.contract.gateway_bench import ECHO, RawNeuron, open_neuron_stream

pytestmark = pytest.mark.anyio

EXCHANGES = Path(__file__).parents[1] / "vectors" / "bigbrain" / "exchanges"
REFUSED_THEN = "17-register-403"
SESSIONS = sorted(path.stem for path in EXCHANGES.glob("[01]?-*.jsonl") if path.stem != REFUSED_THEN)
LEASE_ID = re.compile(r'"leaseId":"([^"]+)"')


class Replay:
    """One session, with the gateway's own lease ids in the place of the recorded ones."""

    def __init__(self, gateway: Gateway, stack: AsyncExitStack) -> None:
        self.gateway = gateway
        self.stack = stack
        self.neuron: RawNeuron
        self.leases: dict[str, dict[str, Any]] = {}

    async def connect(self) -> None:
        await self.stack.aclose()
        self.neuron = await self.stack.enter_async_context(open_neuron_stream(self.gateway.url, "neuron-1"))
        assert self.neuron.events.status == 200

    async def lease(self) -> dict[str, Any]:
        await self.gateway.submit(ECHO, {"text": "héllo"})
        while True:
            name, frame = await self.neuron.events.next()
            if name == "lease":
                lease: dict[str, Any] = frame["lease"]
                return lease

    async def post(self, path: str, body: str) -> None:
        for recorded in LEASE_ID.findall(body):
            if recorded not in self.leases:
                self.leases[recorded] = await self.lease()
            body = body.replace(f'"{recorded}"', f'"{self.leases[recorded]["leaseId"]}"')
        # The recorded servers sent more leases than was offered; this gateway does not.
        body = re.sub(r'"concurrency":\d+', '"concurrency":100', body)
        reply = await self.neuron.http.post(path, content=body.encode(), headers={"Content-Type": "application/json"})
        assert (reply.status_code, reply.json()) == (200, {"ok": True}), (path, body, reply.text)


@pytest.mark.parametrize("session", SESSIONS)
async def test_every_request_of_the_published_sdk_is_taken(session: str) -> None:
    lines = [json.loads(line) for line in (EXCHANGES / f"{session}.jsonl").read_text(encoding="utf-8").splitlines()]
    requests = [line for line in lines if line["kind"] == "request"]
    with anyio.fail_after(10):
        async with open_gateway() as gateway, AsyncExitStack() as stack:
            replay = Replay(gateway, stack)
            for request in requests:
                if request["method"] == "GET":
                    await replay.connect()
                else:
                    await replay.post(request["path"], request["body"])
    assert any(request["path"] == "/neuron/register" for request in requests)
