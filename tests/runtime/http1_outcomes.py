"""What came of a request: the same question to httpx's own transport and to every door of ours."""

from __future__ import annotations

import ssl
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import NamedTuple, TypeAlias

import anyio
import httpx

from neuron_anyio.errors import TransportError
from neuron_anyio.http1 import Http1Transport

__all__ = ["DOORS", "UNUSED", "Ask", "Outcome", "Refused", "Served", "door", "httpx_itself", "in_brief"]

MIB = 1024 * 1024
SECONDS = 10.0


class Served(NamedTuple):
    """A whole reply.

    Attributes:
        status: status code.
        headers: names in lower case, sorted.
        body: all of it.
    """

    status: int
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes


class Refused(NamedTuple):
    """No reply, or half of one.

    Attributes:
        error: what was raised.
    """

    error: type[Exception]


Outcome: TypeAlias = Served | Refused
Ask: TypeAlias = Callable[[str, str, bytes], Awaitable[Outcome]]
"""Takes method, URL and body."""


def in_brief(outcome: Outcome) -> tuple[int, bytes] | None:
    """Return status and body; None where there is no whole reply."""
    return (outcome.status, outcome.body) if isinstance(outcome, Served) else None


def _served(status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> Served:
    return Served(status, tuple(sorted((name.lower(), value) for name, value in headers)), body)


def _by_request(transport: Http1Transport) -> Ask:
    async def ask(method: str, url: str, body: bytes) -> Outcome:
        try:
            reply = await transport.request(method, url, [], body, timeout=SECONDS, max_reply_bytes=10 * MIB)
        except TransportError as exc:
            return Refused(type(exc))
        assert not reply.truncated
        return _served(reply.status, reply.headers, reply.body)

    return ask


def _by_stream(transport: Http1Transport) -> Ask:
    async def ask(method: str, url: str, body: bytes) -> Outcome:
        try:
            async with transport.stream(method, url, [], body, timeout=SECONDS) as reply:
                return _served(reply.status, reply.headers, b"".join([chunk async for chunk in reply.chunks]))
        except TransportError as exc:
            return Refused(type(exc))

    return ask


def _by_httpx(transport: httpx.AsyncBaseTransport) -> Ask:
    # Without `async with`: the transport belongs to whoever made it.
    client = httpx.AsyncClient(transport=transport, timeout=SECONDS, trust_env=False)

    async def ask(method: str, url: str, body: bytes) -> Outcome:
        try:
            async with client.stream(method, url, content=body) as response:
                got = b"".join([chunk async for chunk in response.aiter_raw()])
        except httpx.TransportError as exc:
            return Refused(type(exc))
        return _served(response.status_code, response.headers.raw, got)

    return ask


DOORS: Mapping[str, Callable[[Http1Transport], Ask]] = {
    "request": _by_request,
    "stream": _by_stream,
    "httpx": _by_httpx,
}
"""Of ours; the last is `httpx.AsyncClient(transport=ours)`."""


@asynccontextmanager
async def door(name: str, *, ssl_context: ssl.SSLContext | None = None) -> AsyncGenerator[Ask]:
    """Open a pool of ours and one of its doors; nothing may be left in it at the end but idle connections."""
    with anyio.fail_after(2 * SECONDS):
        async with Http1Transport(ssl_context=ssl_context, max_connections=2) as transport:
            yield DOORS[name](transport)
            now = transport.statistics()
            assert (now.active, now.waiting, now.places) == (0, 0, now.idle)


UNUSED = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""For httpx's transport where there is no TLS; else it reads the authorities anew each time."""


@asynccontextmanager
async def httpx_itself(*, ssl_context: ssl.SSLContext | None = None) -> AsyncGenerator[Ask]:
    """Open httpx's own transport."""
    with anyio.fail_after(2 * SECONDS):
        async with httpx.AsyncHTTPTransport(verify=ssl_context or UNUSED) as transport:
            yield _by_httpx(transport)
