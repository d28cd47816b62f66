"""The two published examples against the public internet, for those who ask for it."""

from __future__ import annotations

import os

import anyio
import pytest

from examples.http_fetch import fetch
from examples.web_search import search
from tests.e2e.examples_support import running, settled

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(
        os.environ.get("E2E_NETWORK") != "1",
        reason="talks to the public internet; opt in with the environment variable E2E_NETWORK=1",
    ),
]


async def test_a_public_page_is_fetched_over_tls() -> None:
    with anyio.fail_after(30):
        async with running(fetch) as (_, client):
            task = await client.submit("examples/http.fetch", {"url": "https://example.com/"})
            status = await settled(client, task.task_id)
    assert status.state == "succeeded", status.failure and status.failure.reason
    assert status.output["status"] == 200
    assert "Example Domain" in status.output["body"]


async def test_the_public_search_page_gives_results_or_says_that_it_is_asked_too_often() -> None:
    with anyio.fail_after(50):
        async with running(search) as (_, client):
            wish = {"query": "structured concurrency", "max_results": 5}
            task = await client.submit("examples/web.search", wish, max_attempts=1)
            status = await settled(client, task.task_id)
    if status.state == "succeeded":
        assert 1 <= len(status.output["results"]) <= 5
        assert all(result["url"].startswith("http") for result in status.output["results"])
    else:
        assert status.failure is not None
        assert status.failure.code == "UPSTREAM_NON_2XX", status.failure.reason
