"""A neuron that fetches pages: capability `examples/http.fetch`.

Start it with `neuron-anyio run examples.http_fetch` or `python -m examples.http_fetch`.
"""

from __future__ import annotations

import functools
import ssl
import time
from typing import Annotated, Literal

import anyio
import httpx
from msgspec import Meta, Struct

from neuron_anyio import LeaseContext, capability

__all__ = ["FetchRequest", "Fetched", "fetch"]

MAX_TIMEOUT_MS = 600_000
"""Ten minutes: a page that takes longer is a download, and wants a capability of its own."""

MAX_BODY_BYTES = 10_000_000
"""JSON spends up to six bytes on one of these, and a neuron's output is bounded by 64 MiB."""


class FetchRequest(Struct, forbid_unknown_fields=True):
    """One HTTP request.

    Attributes:
        url: http or https.
        method: of a closed set.
        headers: sent with the request, by name.
        body: sent as UTF-8, None for no body.
        timeout_ms: milliseconds for the whole of it, from the connection to the last byte that is kept.
        max_response_bytes: how much of the body is kept; the rest is not read.
        follow_redirects: whether `Location` is followed.
    """

    url: str
    method: Literal["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"] = "GET"
    headers: dict[str, str] = {}
    body: str | None = None
    timeout_ms: Annotated[int, Meta(ge=1, le=MAX_TIMEOUT_MS)] = 10_000
    max_response_bytes: Annotated[int, Meta(ge=0, le=MAX_BODY_BYTES)] = 1_000_000
    follow_redirects: bool = True


class Fetched(Struct):
    """What came back, whatever its status.

    Attributes:
        status: HTTP status.
        headers: by lower-case name; several of one name are joined by commas.
        body: decoded as UTF-8, with replacement characters where it is something else.
        truncated: whether the body was longer than `max_response_bytes`.
        duration_ms: milliseconds from the request to the last byte that was kept.
        final_url: after redirects.
    """

    status: int
    headers: dict[str, str]
    body: str
    truncated: bool
    duration_ms: int
    final_url: str


@capability(
    "examples/http.fetch",
    concurrency=8,
    lease_ttl=60.0,
    description="Fetch a page over HTTP",
    # The request itself is wrong: no second try will mend it. Everything else that httpx raises is retried.
    non_retryable=(httpx.InvalidURL, httpx.UnsupportedProtocol, httpx.LocalProtocolError, UnicodeEncodeError),
)
async def fetch(page: FetchRequest, ctx: LeaseContext) -> Fetched:
    """Fetch a page, as much of it as is wanted.

    Raises:
        httpx.HTTPError: the network or the server failed.
        TimeoutError: it took longer than `timeout_ms`.
        httpx.InvalidURL, httpx.UnsupportedProtocol, httpx.LocalProtocolError, UnicodeEncodeError: the request cannot
            be sent as it is.
    """
    ctx.progress(percent=10, message="connecting")
    try:
        with anyio.fail_after(page.timeout_ms / 1000):
            return await _fetch(page, ctx)
    except TimeoutError:
        raise TimeoutError(f"no complete response within timeout_ms={page.timeout_ms}") from None


async def _fetch(page: FetchRequest, ctx: LeaseContext) -> Fetched:
    begun = time.monotonic()
    # A client for each task: no cookie of one task reaches another.
    untimed = httpx.Timeout(None)  # the whole is timed, so its phases need not be
    async with (
        httpx.AsyncClient(verify=_tls(), timeout=untimed, follow_redirects=page.follow_redirects) as client,
        client.stream(page.method, page.url, headers=page.headers, content=page.body) as response,
    ):
        body, truncated = await _read(response, page.max_response_bytes, ctx)
        return Fetched(
            status=response.status_code,
            headers=dict(response.headers),
            body=body.decode("utf-8", "replace"),
            truncated=truncated,
            duration_ms=round((time.monotonic() - begun) * 1000),
            final_url=str(response.url),
        )


async def _read(response: httpx.Response, limit: int, ctx: LeaseContext) -> tuple[bytes, bool]:
    """Return the first `limit` bytes of the body, and whether there were more."""
    expected = min(int(response.headers.get("Content-Length", 0)), limit)
    body = bytearray()
    # Leaving the loop early would abandon the async generators inside httpx; cancelling the next read ends them.
    with anyio.CancelScope() as enough:
        async for chunk in response.aiter_bytes():
            if len(body) <= limit:
                body += chunk
            if len(body) > limit:
                enough.cancel()
            elif expected:
                ctx.progress(percent=10 + 90 * min(1.0, len(body) / expected), message=f"{len(body)} bytes")
    return bytes(body[:limit]), len(body) > limit


@functools.cache
def _tls() -> ssl.SSLContext:
    """Return what all clients share: reading the certificates takes longer than fetching a page."""
    return httpx.create_ssl_context()
