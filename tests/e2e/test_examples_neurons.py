"""The two published examples as neurons: through a gateway, and as programs of their own."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

import anyio
import pytest

from examples.http_fetch import fetch
from examples.pages import Reply, Request, serve_pages
from examples.web_search import search
from neuron_anyio.client import GatewayClient
from neuron_anyio.gateway import open_gateway
from tests.e2e.examples_support import running, settled

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).resolve().parents[2]

RESULT = '<a class="result__a" href="//h/l/?uddg=https%3A%2F%2Fa.example%2F">t</a><p class="result__snippet">s</p>'


async def greet(request: Request, reply: Reply) -> None:
    await reply.send(b"hello")


async def test_a_page_is_fetched_through_a_gateway() -> None:
    with anyio.fail_after(10):
        async with serve_pages(greet) as url, running(fetch) as (_, client):
            task = await client.submit("examples/http.fetch", {"url": f"{url}/"})
            status = await settled(client, task.task_id)
    assert status.state == "succeeded"
    assert sorted(status.output) == ["body", "duration_ms", "final_url", "headers", "status", "truncated"]
    assert (status.output["status"], status.output["body"]) == (200, "hello")
    assert status.progress is not None
    assert status.progress.percent == 100


@pytest.mark.parametrize(
    ("wish", "kind", "code"),
    [
        ({"url": "ftp://127.0.0.1/"}, "terminal", "HANDLER_THREW"),
        ({"url": "http://127.0.0.1:1/"}, "retryable", "HANDLER_THREW"),
        ({"url": "http://127.0.0.1/", "method": "MOVE"}, "schema-mismatch", "INPUT_SCHEMA_MISMATCH"),
        ({"url": "http://127.0.0.1/", "more": 1}, "schema-mismatch", "INPUT_SCHEMA_MISMATCH"),
        ({}, "schema-mismatch", "INPUT_SCHEMA_MISMATCH"),
    ],
)
async def test_a_fetch_that_fails_tells_the_gateway_how(wish: dict[str, Any], kind: str, code: str) -> None:
    with anyio.fail_after(10):
        async with running(fetch) as (_, client):
            task = await client.submit("examples/http.fetch", wish, max_attempts=1)
            status = await settled(client, task.task_id)
    assert status.state == "failed"
    assert status.failure is not None
    assert (status.failure.kind, status.failure.code) == (kind, code)


async def test_a_cancelled_fetch_ends_its_request_and_is_cancelled() -> None:
    gone = anyio.Event()

    async def endless(request: Request, reply: Reply) -> None:
        await reply.start(headers={"Content-Length": "100000000"})
        try:
            while True:
                await reply.write(b"x" * 1024)
                await anyio.sleep(0.01)
        finally:
            gone.set()

    with anyio.fail_after(10):
        async with serve_pages(endless) as url, running(fetch) as (_, client):
            task = await client.submit("examples/http.fetch", {"url": f"{url}/", "max_response_bytes": 10_000_000})
            async with client.follow(task.task_id) as updates:
                async for status in updates:
                    if status.progress is not None and (status.progress.percent or 0) > 10:
                        await client.cancel(task.task_id)
            await gone.wait()
    assert status.state == "cancelled"
    assert status.failure is not None
    assert (status.failure.kind, status.failure.code) == ("cancelled", "CANCELLED")


async def test_a_search_runs_through_a_gateway(monkeypatch: pytest.MonkeyPatch) -> None:
    async def page(request: Request, reply: Reply) -> None:
        await reply.send(RESULT.encode())

    with anyio.fail_after(10):
        async with serve_pages(page) as url, running(search) as (_, client):
            monkeypatch.setenv("EXAMPLES_WEB_SEARCH_ENDPOINT", url)
            task = await client.submit("examples/web.search", {"query": "a"})
            status = await settled(client, task.task_id)
    assert status.output == {"query": "a", "results": [{"title": "t", "url": "https://a.example/", "snippet": "s"}]}
    assert status.progress is not None
    assert status.progress.percent == 100


async def test_a_search_that_is_rate_limited_fails_for_good(monkeypatch: pytest.MonkeyPatch) -> None:
    async def page(request: Request, reply: Reply) -> None:
        await reply.send(status=202)

    with anyio.fail_after(10):
        async with serve_pages(page) as url, running(search) as (_, client):
            monkeypatch.setenv("EXAMPLES_WEB_SEARCH_ENDPOINT", url)
            task = await client.submit("examples/web.search", {"query": "a"})
            status = await settled(client, task.task_id)
    assert status.state == "failed"
    assert status.failure is not None
    assert (status.failure.kind, status.failure.code) == ("terminal", "UPSTREAM_NON_2XX")
    assert status.deliveries == 1


def environment(**variables: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("BIGBRAIN_", "LOG_LEVEL"))}
    return kept | variables


@pytest.mark.parametrize("example", ["http_fetch", "web_search"])
async def test_an_example_is_a_program_that_a_signal_drains(example: str, tmp_path: Path) -> None:
    async def page(request: Request, reply: Reply) -> None:
        await reply.send(RESULT.encode())

    token_file = tmp_path / "token"
    token_file.write_text("secret\n")
    inputs = {"http_fetch": ("examples/http.fetch", "url"), "web_search": ("examples/web.search", "query")}
    with anyio.fail_after(20):
        async with (
            serve_pages(page) as url,
            open_gateway(auth="secret") as gateway,
            GatewayClient(gateway.url, auth="secret") as client,
        ):
            variables = environment(
                BIGBRAIN_GATEWAY_URL=gateway.url,
                BIGBRAIN_NEURON_ID="from-environment",
                BIGBRAIN_TOKEN_FILE=str(token_file),
                BIGBRAIN_TOKEN="another, that is not read",
                EXAMPLES_WEB_SEARCH_ENDPOINT=url,
            )
            command = [sys.executable, "-m", f"examples.{example}"]
            async with await anyio.open_process(command, cwd=ROOT, env=variables) as process:
                capability, member = inputs[example]
                task = await client.submit(capability, {member: url})
                status = await settled(client, task.task_id)
                process.send_signal(signal.SIGTERM)
                assert process.stderr is not None
                log = b"".join([chunk async for chunk in process.stderr]).decode()
                assert await process.wait() == 0
    assert (status.state, status.neuron_id) == ("succeeded", "from-environment")
    assert "secret" not in log
    assert url not in log


@pytest.mark.parametrize(
    ("variables", "named"),
    [
        ({}, "BIGBRAIN_GATEWAY_URL"),
        ({"BIGBRAIN_GATEWAY_URL": "http://127.0.0.1:1", "LOG_LEVEL": "loud"}, "LOG_LEVEL"),
        ({"BIGBRAIN_GATEWAY_URL": "no-url"}, "no-url"),
        ({"BIGBRAIN_GATEWAY_URL": "http://127.0.0.1:1", "BIGBRAIN_TOKEN": "a\nb"}, "token"),
    ],
)
async def test_a_wrong_environment_is_one_line_and_exit_code_2(variables: dict[str, str], named: str) -> None:
    command = [sys.executable, "-m", "examples.http_fetch"]
    with anyio.fail_after(20):
        done = await anyio.run_process(command, cwd=ROOT, env=environment(**variables), check=False)
    assert done.returncode == 2
    assert done.stderr.decode().startswith("error: ")
    assert named in done.stderr.decode()
    assert done.stderr.count(b"\n") == 1


async def test_the_command_line_serves_an_example() -> None:
    command = [sys.executable, "-m", "neuron_anyio", "run", "examples.http_fetch", "--gateway-url"]
    with anyio.fail_after(20):
        async with (
            serve_pages(greet) as url,
            open_gateway() as gateway,
            GatewayClient(gateway.url) as client,
            await anyio.open_process([*command, gateway.url], cwd=ROOT, env=environment(), stderr=None) as process,
        ):
            task = await client.submit("examples/http.fetch", {"url": url})
            assert (await client.result(task.task_id))["body"] == "hello"
            process.send_signal(signal.SIGTERM)
            assert await process.wait() == 0


async def test_the_command_line_tries_an_example_out() -> None:
    command = [sys.executable, "-m", "neuron_anyio", "dev", "examples.http_fetch", "--port", "0", "--once"]
    with anyio.fail_after(20):
        async with serve_pages(greet) as url:
            submission = ["--submit", "examples/http.fetch", f'{{"url": "{url}"}}']
            done = await anyio.run_process([*command, *submission], cwd=ROOT, env=environment(), check=False)
    assert done.returncode == 0, done.stderr.decode()
    assert b'"body":"hello"' in done.stdout.replace(b" ", b"")
