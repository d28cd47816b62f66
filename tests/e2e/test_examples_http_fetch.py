from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import httpx
import msgspec
import pytest

from examples.http_fetch import Fetched, FetchRequest, fetch
from examples.pages import Page, Reply, Request, serve_pages
from neuron_anyio import LeaseContext
from tests.e2e.examples_support import context_for, properties_of

pytestmark = pytest.mark.anyio


async def call(**wish: Any) -> Fetched:
    context, _ = context_for("examples/http.fetch")
    with anyio.fail_after(5):
        return await fetch(msgspec.convert(wish, FetchRequest), context)


class Site:
    """Pages by target; what was asked is kept."""

    def __init__(self, pages: dict[str, Page]) -> None:
        self._pages = pages
        self.requests: list[Request] = []
        self.url = ""

    async def __call__(self, request: Request, reply: Reply) -> None:
        self.requests.append(request)
        await self._pages[request.target](request, reply)


@asynccontextmanager
async def site(pages: dict[str, Page] | Page) -> AsyncGenerator[Site]:
    made = Site(pages if isinstance(pages, dict) else {"/": pages})
    async with serve_pages(made) as url:
        made.url = url
        yield made


def page(body: bytes = b"", *, status: int = 200, **headers: str) -> Page:
    async def send(request: Request, reply: Reply) -> None:
        await reply.send(body, status=status, headers={name.replace("_", "-"): text for name, text in headers.items()})

    return send


def test_the_terms_are_the_published_ones() -> None:
    assert fetch.terms.type == "examples/http.fetch"
    assert (fetch.terms.scope, fetch.terms.concurrency, fetch.terms.lease_ttl) == ("any", 8, 60.0)


def test_the_input_schema_is_the_published_one() -> None:
    properties, required, additional = properties_of(fetch.input_schema, FetchRequest)
    assert required == ["url"]
    assert additional is False
    assert properties == {
        "url": {"type": "string"},
        "method": {"enum": ["DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"], "default": "GET"},
        "headers": {"type": "object", "additionalProperties": {"type": "string"}, "default": {}},
        "body": {"anyOf": [{"type": "string"}, {"type": "null"}], "default": None},
        "timeout_ms": {"type": "integer", "minimum": 1, "maximum": 600_000, "default": 10_000},
        "max_response_bytes": {"type": "integer", "minimum": 0, "maximum": 10_000_000, "default": 1_000_000},
        "follow_redirects": {"type": "boolean", "default": True},
    }


def test_the_output_schema_is_the_published_one() -> None:
    properties, required, _ = properties_of(fetch.output_schema, Fetched)
    assert properties == {
        "status": {"type": "integer"},
        "headers": {"type": "object", "additionalProperties": {"type": "string"}},
        "body": {"type": "string"},
        "truncated": {"type": "boolean"},
        "duration_ms": {"type": "integer"},
        "final_url": {"type": "string"},
    }
    assert required == list(properties)


@pytest.mark.parametrize(
    "document",
    [
        b"{}",
        b'{"url":"http://h/","method":"MOVE"}',
        b'{"url":"http://h/","method":"get"}',
        b'{"url":"http://h/","cookies":{}}',
        b'{"url":"http://h/","timeoutMs":5}',
        b'{"url":"http://h/","timeout_ms":0}',
        b'{"url":"http://h/","max_response_bytes":-1}',
        b'{"url":"http://h/","headers":{"a":1}}',
        b'{"url":"http://h/","headers":null}',
        b'{"url":7}',
        b"null",
    ],
)
def test_an_input_outside_the_schema_is_refused(document: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - where and why is the library's business
        fetch.read_input(document, None)


def test_an_input_with_every_member_is_read() -> None:
    document = (
        b'{"url":"http://h/","method":"POST","headers":{"a":"b"},"body":"c","timeout_ms":10000,'
        b'"max_response_bytes":1000000,"follow_redirects":true}'
    )
    wish = fetch.read_input(document, None)
    assert wish == FetchRequest(url="http://h/", method="POST", headers={"a": "b"}, body="c")


async def test_a_page_comes_back_with_status_headers_and_body() -> None:
    async with site(page("grüezi".encode(), X_Name="value")) as served:
        got = await call(url=f"{served.url}/")
    assert (got.status, got.body, got.truncated) == (200, "grüezi", False)
    assert got.headers["x-name"] == "value"
    assert got.final_url == f"{served.url}/"
    assert 0 <= got.duration_ms < 5000


async def test_method_headers_and_body_reach_the_server() -> None:
    async with site(page()) as served:
        await call(url=f"{served.url}/", method="POST", headers={"X-Wish": "1"}, body="wünsche")
    [request] = served.requests
    assert (request.method, request.headers["x-wish"], request.body.decode()) == ("POST", "1", "wünsche")


@pytest.mark.parametrize("status", [204, 301, 404, 429, 500, 503])
async def test_a_status_that_is_no_success_is_data(status: int) -> None:
    async with site(page(b"" if status == 204 else b"why", status=status)) as served:
        got = await call(url=f"{served.url}/")
    assert got.status == status


async def test_bytes_that_are_not_utf8_become_replacement_characters() -> None:
    async with site(page(b"a\xff\xfeb\xc3")) as served:
        got = await call(url=f"{served.url}/")
    assert got.body == "a\ufffd\ufffdb\ufffd"


@pytest.mark.parametrize(
    ("limit", "body", "truncated"), [(6, "abcdef", False), (5, "abcde", True), (1, "a", True), (0, "", True)]
)
async def test_the_body_is_clipped_at_the_limit(limit: int, body: str, truncated: bool) -> None:
    async with site(page(b"abcdef")) as served:
        got = await call(url=f"{served.url}/", max_response_bytes=limit)
    assert (got.body, got.truncated) == (body, truncated)


async def test_an_empty_body_at_limit_zero_is_whole() -> None:
    async with site(page(b"")) as served:
        got = await call(url=f"{served.url}/", max_response_bytes=0)
    assert (got.body, got.truncated) == ("", False)


async def test_no_more_is_read_than_is_kept() -> None:
    written = 0
    gone = anyio.Event()

    async def endless(request: Request, reply: Reply) -> None:
        nonlocal written
        await reply.start()
        try:
            while True:
                await reply.write(b"x" * 65_536)
                written += 65_536
        finally:
            gone.set()

    async with site(endless) as served:
        got = await call(url=f"{served.url}/", max_response_bytes=100_000)
        with anyio.fail_after(5):
            await gone.wait()
    assert (len(got.body), got.truncated) == (100_000, True)
    assert written < 32 * 1024 * 1024  # what sockets hold


async def test_a_page_that_stalls_after_the_limit_is_not_waited_for() -> None:
    async def stalls(request: Request, reply: Reply) -> None:
        await reply.start()
        await reply.write(b"abcdef")
        await anyio.sleep_forever()

    async with site(stalls) as served:
        got = await call(url=f"{served.url}/", max_response_bytes=3)
    assert (got.body, got.truncated) == ("abc", True)


async def test_redirects_are_followed_unless_told_otherwise() -> None:
    pages = {"/old": page(status=302, Location="/new"), "/new": page(b"here")}
    async with site(pages) as served:
        followed = await call(url=f"{served.url}/old")
        stayed = await call(url=f"{served.url}/old", follow_redirects=False)
    assert (followed.status, followed.body, followed.final_url) == (200, "here", f"{served.url}/new")
    assert (stayed.status, stayed.headers["location"], stayed.final_url) == (302, "/new", f"{served.url}/old")


async def test_a_cookie_of_one_task_does_not_reach_the_next() -> None:
    async with site(page(Set_Cookie="who=first")) as served:
        await call(url=f"{served.url}/")
        await call(url=f"{served.url}/")
    assert ["cookie" in request.headers for request in served.requests] == [False, False]


async def test_a_page_that_takes_too_long_is_a_timeout_that_names_the_bound() -> None:
    async def stalls(request: Request, reply: Reply) -> None:
        await reply.start()
        await anyio.sleep_forever()

    async with site(stalls) as served:
        with pytest.raises(TimeoutError, match="timeout_ms=50"):
            await call(url=f"{served.url}/", timeout_ms=50)


async def test_a_connection_that_fails_raises_something_retryable(free_tcp_port: int) -> None:
    with pytest.raises(httpx.ConnectError) as caught:
        await call(url=f"http://127.0.0.1:{free_tcp_port}/")
    assert not isinstance(caught.value, fetch.terms.non_retryable)


async def test_a_body_that_breaks_off_raises_something_retryable() -> None:
    async def breaks_off(request: Request, reply: Reply) -> None:
        await reply.start(headers={"Content-Length": "10"})
        await reply.write(b"abc")

    async with site(breaks_off) as served:
        with pytest.raises(httpx.RemoteProtocolError) as caught:
            await call(url=f"{served.url}/")
    assert not isinstance(caught.value, fetch.terms.non_retryable)


@pytest.mark.parametrize("url", ["ftp://h/", "h/path", "http://", "javascript:alert(1)", "http://[::1", "http://h:x/"])
async def test_a_url_that_cannot_be_fetched_fails_for_good(url: str) -> None:
    with pytest.raises(fetch.terms.non_retryable):
        await call(url=url)


@pytest.mark.parametrize("headers", [{"a b": "c"}, {"a": "b\r\nc: d"}, {"a": "ü"}])
async def test_a_header_that_cannot_be_sent_fails_for_good(headers: dict[str, str]) -> None:
    async with site(page()) as served:
        with pytest.raises(fetch.terms.non_retryable):
            await call(url=f"{served.url}/", headers=headers)
    assert not served.requests


async def test_a_redirect_to_another_scheme_fails_for_good() -> None:
    async with site(page(status=302, Location="ftp://h/")) as served:
        with pytest.raises(fetch.terms.non_retryable):
            await call(url=f"{served.url}/")


async def test_progress_follows_the_length_of_the_page() -> None:
    halfway = anyio.Event()

    async def in_two_parts(request: Request, reply: Reply) -> None:
        await reply.start(headers={"Content-Length": "10"})
        await reply.write(b"a" * 5)
        await halfway.wait()
        await reply.write(b"b" * 5)

    context, progress = context_for("examples/http.fetch")
    async with site(in_two_parts) as served, anyio.create_task_group() as group:

        async def release(context: LeaseContext) -> None:
            while len(progress) < 2:
                await anyio.lowlevel.checkpoint()
            halfway.set()

        group.start_soon(release, context)
        with anyio.fail_after(5):
            await fetch(FetchRequest(url=f"{served.url}/"), context)
    assert [update.percent for update in progress] == [10, 55, 100]


async def test_a_cancelled_fetch_closes_its_connection() -> None:
    asked, gone = anyio.Event(), anyio.Event()

    async def streams(request: Request, reply: Reply) -> None:
        await reply.start()
        asked.set()
        try:
            while True:
                await reply.write(b"x" * 65_536)
        finally:
            gone.set()

    async with site(streams) as served:
        async with anyio.create_task_group() as group:
            context, _ = context_for("examples/http.fetch")
            wish = FetchRequest(url=f"{served.url}/", max_response_bytes=10_000_000)
            group.start_soon(fetch, wish, context)
            with anyio.fail_after(5):
                await asked.wait()
            group.cancel_scope.cancel()
        with anyio.fail_after(5):
            await gone.wait()
