"""How requests travel: over our own connections, or over an httpx client with all that it brings."""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from typing import TYPE_CHECKING, Protocol
from urllib.parse import urlsplit

import anyio

from .._http1_client import RawReply as Answer
from .._http1_client import StreamReply as Opened
from ..errors import TransportError

if TYPE_CHECKING:
    import httpx

    from .._http1_client import Http1Client
    from .._http1_request import Prepared

__all__ = ["Answer", "ClientRoad", "DirectRoad", "Headers", "Opened", "Road", "first_bytes", "origin_of", "unwind"]

Headers = list[tuple[bytes, bytes]]


class Road(Protocol):
    """How requests travel: our own connections, or an httpx client. Leaving it as a block closes what is our own."""

    async def __aenter__(self) -> None: ...

    async def __aexit__(self, *exc_info: object) -> None: ...

    def post(self, url: str, headers: Headers, body: bytes) -> Awaitable[Answer]: ...

    def stream(self, url: str, headers: Headers) -> AbstractAsyncContextManager[Opened]: ...


class DirectRoad:
    """Our own connections. What is posted often with the very same list of headers has its head rendered once."""

    def __init__(self, client: Http1Client, request: float, reply_bytes: int) -> None:
        self._client = client
        self._request = request
        self._reply_bytes = reply_bytes
        self._prepared: dict[str, tuple[Headers, Prepared]] = {}

    async def __aenter__(self) -> None:
        pass

    async def __aexit__(self, *_: object) -> None:
        await self._client.aclose()

    def post(self, url: str, headers: Headers, body: bytes) -> Awaitable[Answer]:
        known, prepared = self._prepared.get(url, (None, None))
        if prepared is None or known is not headers:
            prepared = self._client.prepare("POST", url, headers)
            self._prepared[url] = headers, prepared
        return self._client.send(prepared, body, timeout=self._request, max_reply_bytes=self._reply_bytes)

    def stream(self, url: str, headers: Headers) -> AbstractAsyncContextManager[Opened]:
        return self._client.stream("GET", url, headers, timeout=self._request)


class ClientRoad:
    """An httpx client: proxies, HTTP/2, certificates of the user's. Its time-outs are the user's business.

    Args:
        client: the client.
        reply_bytes: as in `Limits`.
        request: seconds as in `Timing`, for a client of our own; None for a user's.
    """

    def __init__(self, client: httpx.AsyncClient, reply_bytes: int, *, request: float | None = None) -> None:
        self._client = client
        self._reply_bytes = reply_bytes
        self._request = request

    async def __aenter__(self) -> None:
        pass

    async def __aexit__(self, *_: object) -> None:
        if self._request is not None:
            await self._client.aclose()

    async def post(self, url: str, headers: Headers, body: bytes) -> Answer:
        import httpx  # noqa: PLC0415 - there already, the client is of it

        patience = math.inf if self._request is None else self._request
        try:
            with anyio.move_on_after(patience):
                async with self._client.stream(
                    "POST", url, headers=headers, content=body, follow_redirects=False
                ) as response:
                    kept = await first_bytes(_raw_body(response), self._reply_bytes)
                    return Answer(response.status_code, _lowered(response.headers.raw), kept)
        except httpx.HTTPError as exc:
            raise _broken(url, exc) from exc
        raise TransportError(f"{origin_of(url)}: no whole reply within {patience:g} s")

    @asynccontextmanager
    async def stream(self, url: str, headers: Headers) -> AsyncGenerator[Opened]:
        response = await self._open(url, headers)
        chunks = _chunks_of(response, url)
        try:
            yield Opened(response.status_code, _lowered(response.headers.raw), chunks)
        finally:
            with anyio.move_on_after(1, shield=True):
                await unwind(chunks)
                await response.aclose()

    async def _open(self, url: str, headers: Headers) -> httpx.Response:
        """Send the request. httpx's read time-out would hold for the body too, which may be silent for ever."""
        import httpx  # noqa: PLC0415 - as above

        limits = self._client.timeout.as_dict()
        request = self._client.build_request("GET", url, headers=headers)
        request.extensions["timeout"] = {**limits, "read": None}
        patience = self._request
        if patience is None:
            patience = sum(math.inf if limit is None else limit for limit in limits.values())
        try:
            with anyio.move_on_after(patience):
                return await self._client.send(request, stream=True, follow_redirects=False)
        except httpx.HTTPError as exc:
            raise _broken(url, exc) from exc
        raise TransportError(f"{origin_of(url)}: no reply to the request for the stream within {patience:g} s")


def _raw_body(response: httpx.Response) -> AsyncIterator[bytes]:
    """Return the body as it comes: undecoded, and also where a mock's response was whole from the start."""
    import httpx  # noqa: PLC0415 - as above

    assert isinstance(response.stream, httpx.AsyncByteStream), "an async client gives async streams"
    return aiter(response.stream)


async def _chunks_of(response: httpx.Response, url: str) -> AsyncIterator[bytes]:
    import httpx  # noqa: PLC0415 - as above

    try:
        async for chunk in _raw_body(response):
            yield chunk
    except httpx.HTTPError as exc:
        raise _broken(url, exc) from exc


def _broken(url: str, error: httpx.HTTPError) -> TransportError:
    said: BaseException = error
    while not str(said) and (deeper := said.__cause__ or said.__context__) is not None:
        said = deeper  # on trio httpx says nothing, and what it comes from does
    return TransportError(f"{origin_of(url)}: {type(error).__name__}{': ' if str(said) else ''}{said}")


def origin_of(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def _lowered(headers: list[tuple[bytes, bytes]]) -> Headers:
    return [(name.lower(), value) for name, value in headers]


async def unwind(chunks: AsyncIterator[bytes]) -> None:
    """Leave a body in the middle: cancelled where they wait, the generators below end in their order."""
    with anyio.CancelScope() as scope, suppress(TransportError):
        scope.cancel()
        async for _ in chunks:
            pass


async def first_bytes(chunks: AsyncIterator[bytes], limit: int) -> bytes:
    """Read a body, or the beginning of a long one."""
    kept = b""
    with anyio.CancelScope() as enough:
        async for chunk in chunks:
            kept += chunk[: limit - len(kept)]
            if len(kept) >= limit:
                # Cancelled, not left: generators of httpx that are never resumed are a warning on trio.
                enough.cancel()
    return kept
