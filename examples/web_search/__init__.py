"""A neuron that searches the web: capability `examples/web.search`.

Start it with `neuron-anyio run examples.web_search` or `python -m examples.web_search`.
"""

from __future__ import annotations

import functools
import os
import ssl
from http import HTTPStatus
from typing import Annotated

import httpx
from msgspec import Meta, Struct

from neuron_anyio import LeaseContext, capability

from .page import Result, parse_results

__all__ = ["Result", "SearchRequest", "SearchResults", "search"]

ENDPOINT = "https://html.duckduckgo.com/html/"
USER_AGENT = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Safari/537.36"
)
TIMEOUT = 20.0
"""Seconds for each phase of the request: below the lease time, so that a stuck search page fails within its lease."""

MAX_RESULTS = 50
"""One page of results has fewer."""


class SearchRequest(Struct, forbid_unknown_fields=True):
    """One search.

    Attributes:
        query: what to look for, at least one character.
        max_results: at most so many results.
        region: the search page's word for language and country, `wt-wt` for none.
    """

    query: Annotated[str, Meta(min_length=1)]
    max_results: Annotated[int, Meta(ge=1, le=MAX_RESULTS)] = 10
    region: str = "wt-wt"


class SearchResults(Struct):
    """What was found.

    Attributes:
        query: as it was asked.
        results: in the order of the page.
    """

    query: str
    results: list[Result]


@capability("examples/web.search", concurrency=4, lease_ttl=30.0, description="Search the web")
async def search(request: SearchRequest, ctx: LeaseContext) -> SearchResults:
    """Ask the search page and read its results.

    Raises:
        httpx.HTTPError: the network failed.
        TerminalFailure: the page answered with anything but 200, code `UPSTREAM_NON_2XX`.
    """
    ctx.progress(percent=10, message="searching")
    endpoint = os.environ.get("EXAMPLES_WEB_SEARCH_ENDPOINT") or ENDPOINT
    user_agent = os.environ.get("EXAMPLES_WEB_SEARCH_UA") or USER_AGENT
    async with httpx.AsyncClient(verify=_tls(), timeout=TIMEOUT, headers={"User-Agent": user_agent}) as client:
        response = await client.post(endpoint, data={"q": request.query, "kl": request.region})
    if response.status_code != HTTPStatus.OK:  # 202 is how the page says "too many requests"
        ctx.fail(f"the search page answered {response.status_code}", code="UPSTREAM_NON_2XX")
    results = parse_results(response.text)[: request.max_results]
    ctx.progress(percent=100, message=f"{len(results)} results")
    return SearchResults(query=request.query, results=results)


@functools.cache
def _tls() -> ssl.SSLContext:
    """Return what all clients share: reading the certificates takes longer than asking the page."""
    return httpx.create_ssl_context()
