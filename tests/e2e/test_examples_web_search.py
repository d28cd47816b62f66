from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import parse_qs

import anyio
import httpx
import msgspec
import pytest

from examples.pages import Reply, Request, serve_pages
from examples.web_search import Result, SearchRequest, SearchResults, search
from examples.web_search.page import parse_results, target_of
from neuron_anyio import TerminalFailure
from neuron_anyio.model import Progress
from tests.e2e.examples_support import context_for, properties_of

ENDPOINT = "EXAMPLES_WEB_SEARCH_ENDPOINT"


def entry(title: str, href: str, snippet: str) -> str:
    """One result in the markup of the public page."""
    return f"""
      <div class="result results_links results_links_deep web-result ">
        <div class="links_main links_deep result__body">
          <h2 class="result__title"><a rel="nofollow" class="result__a" href="{href}">{title}</a></h2>
          <div class="result__extras"><div class="result__extras__url">
            <span class="result__icon"><a rel="nofollow" href="{href}"><img src="//icons/x.ico" alt=""></a></span>
            <a class="result__url" href="{href}">shown.example</a>
          </div></div>
          <a class="result__snippet" href="{href}">{snippet}</a>
          <div class="clear"></div>
        </div>
      </div>"""


def page_of(*entries: str) -> str:
    body = "".join(entries)
    return f"<!DOCTYPE html><html><body><div id='links' class='results'>{body}</div></body></html>"


class SearchPage:
    """Answers every request alike; keeps what was asked."""

    def __init__(self, html: str, *, status: int = 200) -> None:
        self.html = html
        self.status = status
        self.requests: list[Request] = []

    async def __call__(self, request: Request, reply: Reply) -> None:
        self.requests.append(request)
        await reply.send(self.html.encode(), status=self.status)


@asynccontextmanager
async def served(page: SearchPage, monkeypatch: pytest.MonkeyPatch) -> AsyncGenerator[SearchPage]:
    async with serve_pages(page) as url:
        monkeypatch.setenv(ENDPOINT, f"{url}/html/")
        yield page


async def call(**wish: Any) -> tuple[SearchResults, list[Progress]]:
    context, progress = context_for("examples/web.search")
    with anyio.fail_after(5):
        return await search(msgspec.convert(wish, SearchRequest), context), progress


def test_the_terms_are_the_published_ones() -> None:
    assert search.terms.type == "examples/web.search"
    assert (search.terms.scope, search.terms.concurrency, search.terms.lease_ttl) == ("any", 4, 30.0)


def test_the_input_schema_is_the_published_one() -> None:
    properties, required, additional = properties_of(search.input_schema, SearchRequest)
    assert required == ["query"]
    assert additional is False
    assert properties == {
        "query": {"type": "string", "minLength": 1},
        "max_results": {"type": "integer", "minimum": 1, "maximum": 50, "default": 10},
        "region": {"type": "string", "default": "wt-wt"},
    }


def test_the_output_schema_is_the_published_one() -> None:
    properties, required, _ = properties_of(search.output_schema, SearchResults)
    assert required == ["query", "results"]
    assert properties == {
        "query": {"type": "string"},
        "results": {"type": "array", "items": {"$ref": "#/$defs/Result"}},
    }
    properties, required, _ = properties_of(search.output_schema, Result)
    assert required == ["title", "url", "snippet"]
    assert properties == {name: {"type": "string"} for name in required}


@pytest.mark.parametrize(
    "document",
    [
        b"{}",
        b'{"query":""}',
        b'{"query":7}',
        b'{"query":"a","max_results":100}',
        b'{"query":"a","max_results":0}',
        b'{"query":"a","maxResults":5}',
        b'{"query":"a","region":null}',
        b'{"query":"a","page":2}',
    ],
)
def test_an_input_outside_the_schema_is_refused(document: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - where and why is the library's business
        search.read_input(document, None)


@pytest.mark.parametrize(
    ("href", "target"),
    [
        ("//duckduckgo.com/l/?uddg=https%3A%2F%2Fa.example%2Fp%3Fq%3D1%26r%3D2&rut=abc", "https://a.example/p?q=1&r=2"),
        ("//duckduckgo.com/l/?rut=abc&uddg=http%3A%2F%2Fa.example%2F", "http://a.example/"),
        ("//duckduckgo.com/l/?rut=abc", "https://duckduckgo.com/l/?rut=abc"),
        ("//a.example/p?q=1", "https://a.example/p?q=1"),
        ("//a.example/other?uddg=https%3A%2F%2Fb.example", "https://a.example/other?uddg=https%3A%2F%2Fb.example"),
        ("https://a.example/p", "https://a.example/p"),
        ("", ""),
    ],
)
def test_redirect_links_are_unwrapped(href: str, target: str) -> None:
    assert target_of(href) == target


def test_results_are_read_with_their_markup_removed() -> None:
    html = page_of(
        entry("A <b>bold</b>\n &amp; more", "//duckduckgo.com/l/?uddg=https%3A%2F%2Fa.example%2F&amp;rut=1", "one"),
        entry("B", "https://b.example/", "a <b>few</b> words and <i>more</i>  of them &#x27;here&#x27;"),
    )
    assert parse_results(html) == [
        Result(title="A bold & more", url="https://a.example/", snippet="one"),
        Result(title="B", url="https://b.example/", snippet="a few words and more of them 'here'"),
    ]


def test_results_without_title_url_or_snippet_are_dropped() -> None:
    html = page_of(
        entry("", "https://a.example/", "no title"),
        entry("no url", "", "no url"),
        entry("no snippet", "https://c.example/", "  "),
        '<h2><a class="result__a" href="https://d.example/">no snippet element</a></h2>',
        entry("kept", "https://e.example/", "kept"),
    )
    assert [result.title for result in parse_results(html)] == ["kept"]


def test_a_snippet_in_another_element_is_read_to_its_own_end() -> None:
    html = (
        '<a class="result__a" href="https://a.example/">t</a>'
        '<div class="x result__snippet"><div>inner</div> outer</div><div>not this</div>'
    )
    assert parse_results(html) == [Result(title="t", url="https://a.example/", snippet="inner outer")]


@pytest.mark.parametrize("html", ["", "<", "<a class='result__a", "no markup", "<a class='result__snippet'>x</a>"])
def test_a_page_without_results_gives_none(html: str) -> None:
    assert parse_results(html) == []


@pytest.mark.anyio
async def test_a_search_posts_the_form_and_returns_results(monkeypatch: pytest.MonkeyPatch) -> None:
    html = page_of(entry("A", "https://a.example/", "first"), entry("B", "//b.example/", "second"))
    async with served(SearchPage(html), monkeypatch) as page:
        found, progress = await call(query="wörter & more", region="de-de")
    assert found == SearchResults(
        query="wörter & more",
        results=[
            Result(title="A", url="https://a.example/", snippet="first"),
            Result(title="B", url="https://b.example/", snippet="second"),
        ],
    )
    [request] = page.requests
    assert (request.method, request.target) == ("POST", "/html/")
    assert request.headers["content-type"] == "application/x-www-form-urlencoded"
    assert parse_qs(request.body.decode()) == {"q": ["wörter & more"], "kl": ["de-de"]}
    assert [update.percent for update in progress] == [10, 100]


@pytest.mark.anyio
async def test_the_region_is_neutral_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    async with served(SearchPage(page_of()), monkeypatch) as page:
        found, _ = await call(query="a")
    assert found.results == []
    assert parse_qs(page.requests[0].body.decode())["kl"] == ["wt-wt"]


@pytest.mark.anyio
async def test_no_more_results_come_back_than_were_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    incomplete = entry("", "https://x.example/", "dropped before they are counted")
    entries = [entry(f"t{number}", f"https://h{number}.example/", "s") for number in range(12)]
    async with served(SearchPage(page_of(incomplete, *entries)), monkeypatch):
        ten, _ = await call(query="a")
        two, _ = await call(query="a", max_results=2)
    assert len(ten.results) == 10
    assert [result.title for result in two.results] == ["t0", "t1"]


@pytest.mark.anyio
@pytest.mark.parametrize("status", [202, 204, 302, 403, 429, 500])
async def test_any_status_but_200_fails_for_good(status: int, monkeypatch: pytest.MonkeyPatch) -> None:
    async with served(SearchPage("", status=status), monkeypatch):
        with pytest.raises(TerminalFailure, match=str(status)) as caught:
            await call(query="a")
    assert caught.value.code == "UPSTREAM_NON_2XX"


@pytest.mark.anyio
async def test_a_connection_that_fails_is_retryable(free_tcp_port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ENDPOINT, f"http://127.0.0.1:{free_tcp_port}/")
    with pytest.raises(httpx.ConnectError) as caught:
        await call(query="a")
    assert not isinstance(caught.value, (TerminalFailure, *search.terms.non_retryable))


@pytest.mark.anyio
async def test_endpoint_and_user_agent_are_read_for_each_call(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = SearchPage(page_of()), SearchPage(page_of())
    async with served(first, monkeypatch):
        await call(query="a")
        async with served(second, monkeypatch):
            monkeypatch.setenv("EXAMPLES_WEB_SEARCH_UA", "tests/1.0")
            await call(query="a")
    assert "Chrome/" in first.requests[0].headers["user-agent"]
    assert second.requests[0].headers["user-agent"] == "tests/1.0"
