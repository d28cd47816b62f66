"""BigBrain frames over HTTP: an event stream down, one POST per frame up (BigBrain specification, section 1)."""

from __future__ import annotations

import logging
import os
import ssl
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

import anyio

from .._http1_client import Http1Client
from ..abc import Oversized, Reply
from ..backoff import parse_retry_after
from ..config import Limits, Timing
from ..errors import NeuronError, StreamRefused, TransportError
from ..sse import EventDecoder, OversizedEvent
from ..tokens import Auth, Credentials
from ._roads import Answer, ClientRoad, DirectRoad, Headers, Opened, Road, first_bytes, origin_of

if TYPE_CHECKING:
    import httpx


__all__ = ["HttpTransport", "checked_url"]

UNAUTHORIZED = 401
OK = 200
PLAIN = (b"accept-encoding", b"identity")
"""Frames are small and have to arrive one by one: nothing is gained by compression, and latency lost."""

TEXT_LENGTH = 300
"""Characters of a gateway's text that are shown: a line, not a page."""


def checked_url(url: str) -> str:
    """Return a gateway's base URL without trailing slashes.

    Raises:
        ValueError: no http or https, no host, a port out of range, credentials, a query or white space in it.
    """
    if any(character <= " " for character in url):
        raise ValueError("the gateway's URL contains a space or a line break; strip what it was read from")
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https"):
        raise ValueError(
            "the gateway's URL must begin with http:// or https://, "
            f"for example http://127.0.0.1:8080; got {_shown(url)}"
        )
    try:
        host, port = parts.hostname, parts.port
    except ValueError as exc:
        raise ValueError(f"the gateway's URL has no usable port: {exc}") from None
    if port == 0:
        raise ValueError("the gateway's URL has no usable port: 0 is none")
    if not host:
        raise ValueError("the gateway's URL names no host; write http://HOST:PORT")
    if parts.username is not None or parts.password is not None:
        raise ValueError("the gateway's URL carries credentials; give them as auth=...")
    if parts.query or parts.fragment:
        raise ValueError("the gateway's URL must end with its path; leave out what follows '?' or '#'")
    return url.rstrip("/")


def _shown(url: str) -> str:
    return repr(url) if "@" not in url else "a URL with credentials"


class HttpTransport:
    """The published wire: `GET {url}/neuron/events` and `POST {url}/neuron/{frame}`.

    Args:
        url: base URL of the gateway; its path is kept.
        auth: a token, a callable that returns one, or a token source.
        ssl_context: for https over our own connections; default verifies against the system's authorities.
        http_client: an `httpx.AsyncClient` of the user's; else our own connections, or an httpx client of our own where
            the environment names a proxy for this URL.
        timing: `request` bounds each POST and the opening of the stream.
        limits: `frame_bytes` and `reply_bytes`.
        log: logger.

    Raises:
        ValueError: the URL or a static token cannot be used.
    """

    def __init__(
        self,
        url: str,
        *,
        auth: Auth | None = None,
        ssl_context: ssl.SSLContext | None = None,
        http_client: httpx.AsyncClient | None = None,
        timing: Timing = Timing(),  # noqa: B008 - frozen
        limits: Limits = Limits(),  # noqa: B008 - frozen
        log: logging.Logger | None = None,
    ) -> None:
        self._url = checked_url(url)
        self.origin: str = origin_of(self._url)
        self._credentials = Credentials(auth, patience=timing.request)
        self._http_client = http_client
        self._ssl_context = ssl_context
        self._timing = timing
        self._limits = limits
        self._log = logging.getLogger("neuron_anyio") if log is None else log
        self._road: Road | None = None
        self._headers: tuple[str | None, Headers] = (None, [])  # of POSTs, and the token that is in them

    def open(self) -> AbstractAsyncContextManager[None]:
        """Hold connections for the length of the block."""
        self._road = self._choose_road()
        return self._road

    def _choose_road(self) -> Road:
        if self._http_client is not None:
            return ClientRoad(self._http_client, self._limits.reply_bytes)
        if not _proxied(self._url):
            own = Http1Client(ssl_context=self._ssl_context)
            return DirectRoad(own, self._timing.request, self._limits.reply_bytes)
        import httpx  # noqa: PLC0415 - 90 ms, and seldom needed

        try:
            client = httpx.AsyncClient(timeout=self._timing.request)
        except (ImportError, ValueError) as exc:
            raise NeuronError(
                f"the proxy that the environment names for {self.origin} cannot be used ({exc}); "
                "mend HTTP_PROXY, HTTPS_PROXY or ALL_PROXY, or name the host in NO_PROXY"
            ) from exc
        return ClientRoad(client, self._limits.reply_bytes, request=self._timing.request)

    @asynccontextmanager
    async def subscribe(self, neuron_id: str) -> AsyncGenerator[_HttpEventStream]:
        """Open the event stream. A token that is refused is renewed once (promise C4)."""
        url = f"{self._url}/neuron/events?neuronId={quote(neuron_id, safe='-._~')}"
        token = await self._credentials.get()
        async with self._try_stream(url, token) as opened:
            if opened.status != UNAUTHORIZED:
                stream = await self._stream_of(opened, url, token)
                del opened  # or its headers would stay for as long as the stream
                yield stream
                return
        renewed = await self._credentials.renew(token)
        if renewed is None:
            raise StreamRefused(self._refusal(url, UNAUTHORIZED, "the token was refused"), status=UNAUTHORIZED)
        async with self._try_stream(url, renewed) as opened:
            if opened.status == UNAUTHORIZED:
                self._credentials.note_refused_again()
            yield await self._stream_of(opened, url, renewed)

    def _try_stream(self, url: str, token: str | None) -> AbstractAsyncContextManager[Opened]:
        assert self._road is not None, "open() the transport first"
        headers = [
            (b"accept", b"text/event-stream"),
            PLAIN,
            (b"cache-control", b"no-store"),
            *_authorization(token),
        ]
        return self._road.stream(url, headers)

    async def _stream_of(self, opened: Opened, url: str, token: str | None) -> _HttpEventStream:
        content_type = _header(opened.headers, b"content-type")
        is_stream = content_type.partition(";")[0].strip().lower() == "text/event-stream"
        if opened.status == OK and is_stream and not _is_encoded(opened.headers):
            return _HttpEventStream(opened.chunks, self._limits.frame_bytes)
        if location := _header(opened.headers, b"location"):
            text = f"redirects are not followed; use the URL that leads there at once: {location.partition('?')[0]}"
        elif opened.status != OK:
            text = await self._text_of(opened)
        elif is_stream:
            text = "its content-encoding cannot be read here; a proxy must not compress the event stream"
        else:
            text = f"its content type is {_without(token, content_type)[:80]!r}, not text/event-stream"
        raise StreamRefused(
            self._refusal(url, opened.status, _without(token, text)),
            status=opened.status,
            retry_after=_retry_after(opened.headers),
        )

    async def _text_of(self, opened: Opened) -> str:
        body = b""
        with anyio.move_on_after(self._timing.request), suppress(TransportError):
            body = await first_bytes(opened.chunks, self._limits.reply_bytes)
        return _said(opened.headers, body)

    def _refusal(self, url: str, status: int, text: str) -> str:
        path = urlsplit(url).path
        return f"{self.origin} answered {status} to GET {path}{': ' if text else ''}{_line(text)}"

    async def post(self, path: str, body: bytes) -> Reply:
        """POST one frame. A token that is refused is renewed once (promise C4); a redirect is not followed."""
        url = f"{self._url}/neuron/{path}"
        token = await self._credentials.get()
        answer = await self._post(url, token, body)
        if answer.status == UNAUTHORIZED:
            renewed = await self._credentials.renew(token)
            if renewed is not None:
                token = renewed
                answer = await self._post(url, renewed, body)
                if answer.status == UNAUTHORIZED:
                    self._credentials.note_refused_again()
        if OK <= answer.status < 300:  # noqa: PLR2004 - the class of success
            self._credentials.note_accepted()
            return Reply(status=answer.status)  # nobody reads what an acceptance says
        return Reply(
            status=answer.status,
            text=_line(_without(token, _said(answer.headers, answer.body))),
            is_json="json" in _header(answer.headers, b"content-type").lower(),
            retry_after=_retry_after(answer.headers),
        )

    def _post(self, url: str, token: str | None, body: bytes) -> Awaitable[Answer]:
        assert self._road is not None, "open() the transport first"
        known, headers = self._headers
        if not headers or known != token:
            headers = [(b"content-type", b"application/json"), PLAIN, *_authorization(token)]
            self._headers = token, headers
        return self._road.post(url, headers, body)

    def __repr__(self) -> str:
        return f"<HttpTransport to {self.origin}>"


class _HttpEventStream:
    """The open stream: chunks in, documents out."""

    def __init__(self, chunks: AsyncIterator[bytes], frame_bytes: int) -> None:
        self._chunks = chunks
        self._decoder = EventDecoder(max_event_bytes=frame_bytes)

    @property
    def comments(self) -> int:
        """Comment lines so far."""
        return self._decoder.comments

    async def receive(self) -> Sequence[bytes | str | Oversized]:
        """Wait for the next chunk and return the documents that it completes."""
        try:
            chunk = await anext(self._chunks)
        except StopAsyncIteration:
            raise anyio.EndOfStream from None
        return [
            Oversized(size=event.size, head=event.head) if isinstance(event, OversizedEvent) else event.data
            for event in self._decoder.push(chunk)
        ]


def _authorization(token: str | None) -> Headers:
    return [] if token is None else [(b"authorization", b"Bearer " + token.encode("ascii"))]


def _header(headers: Headers, name: bytes) -> str:
    return next((value.decode("latin-1") for key, value in headers if key == name), "")


def _retry_after(headers: Headers) -> float | None:
    value = _header(headers, b"retry-after")
    return parse_retry_after(value, now=datetime.now(UTC)) if value else None


def _is_encoded(headers: Headers) -> bool:
    return _header(headers, b"content-encoding").strip().lower() not in ("", "identity")


def _said(headers: Headers, body: bytes) -> str:
    return "" if _is_encoded(headers) else body.decode("utf-8", "replace")


def _without(token: str | None, text: str) -> str:
    """Take a token out of what the other side said. Before it is cut: a part of a token is still a secret."""
    return text if token is None else text.replace(token, "[token]")


def _line(text: str) -> str:
    """Return a text as one short line."""
    return " ".join(text.split())[:TEXT_LENGTH]


def _proxied(url: str) -> bool:
    if sys.platform not in ("darwin", "win32") and not any(name.lower().endswith("_proxy") for name in os.environ):
        return False  # here the environment alone can name one
    import urllib.request  # noqa: PLC0415 - 10 ms, for those alone who may have a proxy

    parts = urlsplit(url)
    proxies = urllib.request.getproxies()
    if not (parts.scheme in proxies or "all" in proxies):
        return False
    return not urllib.request.proxy_bypass(parts.netloc)
