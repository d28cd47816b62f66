"""A neuron that mints its tokens, against a gateway that takes no others."""

from __future__ import annotations

import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from itertools import groupby
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio.abc import Process
from anyio.streams.text import TextReceiveStream

from neuron_anyio import CredentialRevoked, LeaseContext, Timing, capability, open_neuron
from neuron_anyio.auth import client_credentials
from neuron_anyio.backoff import Backoff
from neuron_anyio.client import GatewayClient
from neuron_anyio.gateway import Gateway, Principal, open_gateway
from tests.auth.server import TOKEN, AuthServer, auth_server, reply
from tests.auth.support import no_secret_in, stored
from tests.e2e.cli_child import environment

pytestmark = pytest.mark.anyio

CALLER = "token-of-the-caller"

WORKER = """
import logging, sys
import anyio
from neuron_anyio import Timing, capability, serve
from neuron_anyio.auth import client_credentials
from neuron_anyio.backoff import Backoff

logging.getLogger("neuron_anyio").addHandler(logging.NullHandler())

@capability("examples/echo")
async def echo(value, ctx):
    return value

async def main():
    url, path = sys.argv[1:3]
    timing = Timing(heartbeat=0.2, reconnect=Backoff(initial=0.01, maximum=0.05))
    return await serve(url, neuron_id="w", auth=client_credentials(path), capabilities=[echo], timing=timing)

raise SystemExit(anyio.run(main, backend=sys.argv[3]))
"""


@asynccontextmanager
async def locked_gateway(server: AuthServer) -> AsyncGenerator[tuple[Gateway, GatewayClient]]:
    """Run a gateway that takes minted tokens and the caller's, and give that caller's client."""

    def admit(token: str) -> Principal | None:
        return Principal("somebody") if token in server.tokens or token == CALLER else None

    async with open_gateway(auth=admit) as gateway, GatewayClient(gateway.url, auth=CALLER) as client:
        yield gateway, client


async def echoed(client: GatewayClient, value: Any) -> Any:
    task = await client.submit("examples/echo", value)
    return await client.result(task.task_id, timeout=10)


@asynccontextmanager
async def worker(gateway: Gateway, path: Path, backend: str) -> AsyncGenerator[Process]:
    command = [sys.executable, "-c", WORKER, gateway.url, str(path), backend]
    async with await anyio.open_process(command, env=environment()) as process:
        try:
            yield process
        finally:
            if process.returncode is None:
                process.kill()


async def test_C2_reference_D33_a_neuron_survives_a_rotated_secret_and_ends_when_it_is_revoked(
    tmp_path: Path, anyio_backend_name: str
) -> None:
    async with auth_server() as server, locked_gateway(server) as (gateway, client):
        path = stored(server, tmp_path)
        with anyio.fail_after(25):
            async with worker(gateway, path, anyio_backend_name) as process:
                assert await echoed(client, 1) == 1
                stored(server, tmp_path)  # rotated, and what was minted before is not accepted any more
                server.tokens.clear()
                assert await echoed(client, 2) == 2
                secrets = [form["client_secret"][-1] for form in server.forms()]
                assert [secret for secret, _ in groupby(secrets)] == ["1", "3"]
                mints = server.mints
                server.clients.clear()
                server.tokens.clear()
                assert await process.wait() == 1
                assert server.mints == mints + 1
                assert process.stderr is not None
                said = "".join([text async for text in TextReceiveStream(process.stderr)])
        assert said == (
            f"error: client client-1 is not accepted any more (invalid_client) and {path} has no other credential: "
            "it was revoked, or rotated elsewhere; write the new secret there, or run: neuron-anyio enroll\n"
        )
        no_secret_in(said)


async def test_C2_a_neuron_that_is_not_enrolled_ends_with_exit_code_1(tmp_path: Path, anyio_backend_name: str) -> None:
    async with auth_server() as server, locked_gateway(server) as (gateway, _):
        path = tmp_path / "none.json"
        with anyio.fail_after(15):
            async with worker(gateway, path, anyio_backend_name) as process:
                assert await process.wait() == 1
                assert process.stderr is not None
                said = "".join([text async for text in TextReceiveStream(process.stderr)])
        assert said == f"error: there is no credential at {path}; run: neuron-anyio enroll\n"
        assert server.requests == []


@capability("examples/echo", concurrency=20)
async def echo(value: Any, ctx: LeaseContext) -> Any:
    return value


def timing(**changes: Any) -> Timing:
    return Timing(**{"heartbeat": 0.1, "reconnect": Backoff(initial=0.01, maximum=0.05), "drain": 5.0, **changes})


async def test_reference_D32_no_result_is_lost_when_the_token_is_refused(tmp_path: Path) -> None:
    async with auth_server() as server, locked_gateway(server) as (gateway, client):
        auth = client_credentials(stored(server, tmp_path))
        with anyio.fail_after(25):
            async with open_neuron(gateway.url, neuron_id="n", auth=auth, capabilities=[echo], timing=timing()):
                for number in range(5):
                    tasks = [await client.submit("examples/echo", number) for _ in range(10)]
                    server.tokens.clear()
                    for task in tasks:
                        assert await client.result(task.task_id) == number


async def test_C4_tokens_of_a_second_are_replaced_while_the_neuron_works(tmp_path: Path) -> None:
    async with auth_server() as server, locked_gateway(server) as (gateway, client):
        server.expires_in = 0.4
        auth = client_credentials(stored(server, tmp_path))
        with anyio.fail_after(25):
            async with open_neuron(gateway.url, neuron_id="n", auth=auth, capabilities=[echo], timing=timing()):
                while server.mints < 4:
                    assert await echoed(client, "x") == "x"
        assert server.mints < 20


async def test_C4_a_token_server_that_is_away_is_waited_for(tmp_path: Path) -> None:
    async with auth_server() as server, locked_gateway(server) as (gateway, client):
        server.scripted[TOKEN] = [reply(503), reply(200, b"<html>"), reply(302, None, "Location: /x")]
        auth = client_credentials(stored(server, tmp_path))
        with anyio.fail_after(25):
            async with open_neuron(gateway.url, neuron_id="n", auth=auth, capabilities=[echo], timing=timing()):
                assert await echoed(client, 1) == 1
        assert server.mints == 4


async def test_C2_a_revoked_neuron_says_its_last_words_with_the_token_that_is_left(tmp_path: Path) -> None:
    async with auth_server() as server, locked_gateway(server) as (gateway, client):
        server.expires_in = 6
        auth = client_credentials(stored(server, tmp_path))
        go = anyio.Event()

        @capability("examples/slow")
        async def slow(value: Any, ctx: LeaseContext) -> Any:
            go.set()
            with anyio.move_on_after(30):
                await ctx.wait_cancelled()
            return "done all the same"

        options: dict[str, Any] = {"auth": auth, "capabilities": [slow], "timing": timing(drain=2.0)}
        with anyio.fail_after(25):
            with pytest.raises(CredentialRevoked):
                async with open_neuron(gateway.url, neuron_id="n", **options):
                    task = await client.submit("examples/slow", None)
                    await go.wait()
                    server.clients.clear()
                    await anyio.sleep_forever()
            assert await client.result(task.task_id, timeout=5) == "done all the same"


async def test_a_caller_may_mint_its_tokens_too(tmp_path: Path) -> None:
    async with auth_server() as server, locked_gateway(server) as (gateway, _):
        auth = client_credentials(stored(server, tmp_path))
        async with GatewayClient(gateway.url, auth=auth) as client:
            assert await client.neurons() == []
            server.tokens.clear()
            assert await client.neurons() == []
        assert server.mints == 2
