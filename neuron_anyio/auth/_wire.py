"""Requests to the server that enrols neurons and mints tokens: bounded, timed, and told of without any secret."""

from __future__ import annotations

import ipaddress
import re
import urllib.request
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote_plus, urlencode, urlsplit

import anyio
import msgspec

from ..backoff import parse_retry_after
from ..errors import TransportError
from ..transports._roads import Answer, ClientRoad, DirectRoad, Headers, Road, first_bytes, origin_of

if TYPE_CHECKING:
    import httpx

__all__ = [
    "INVALID_RESPONSE",
    "UNREACHABLE",
    "UNREADABLE",
    "TokenRequestFailed",
    "Wire",
    "checked_base",
    "checked_url",
    "decoded",
    "is_clear_text",
    "open_wire",
    "refusal",
    "shown",
]

INVALID_RESPONSE = "invalid_response"
UNREACHABLE = "unreachable"

REPLY_BYTES = 64 * 1024
"""Largest reply: metadata, tokens and errors take a few kilobytes."""

TEXT_LENGTH = 200
"""Characters of the server's text that are shown."""

UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What decoding may raise, the last for a document that is nested too deeply."""

_CODE = re.compile(r"[!-~]{1,64}")
_PUBLIC = frozenset(
    {"grant_type", "client_id", "client_assertion_type", "scope", "audience", "resource"}
    | {"client_name", "hostname", "capability_types"}
)
"""Fields of a form that may be shown; the value of any other is taken out of what the server says."""

_HEADERS: Headers = [(b"accept", b"application/json"), (b"accept-encoding", b"identity")]

T = TypeVar("T")


class TokenRequestFailed(TransportError):
    """The server that mints tokens could not be asked, refused, or answered what cannot be used.

    A failed attempt to a running neuron. You get `CredentialRevoked` instead when it refused the credential itself.

    Attributes:
        code: OAuth's error code, like `invalid_grant`; `http_<status>` where the server gave none; `unreachable`,
            `invalid_response`, `credential_file` or `client_authentication` where the fault is not the server's word.
        status: HTTP status, or None where no answer came.
    """

    def __init__(self, message: str, *, code: str, status: int | None = None, retry_after: float | None = None) -> None:
        super().__init__(message, retry_after=retry_after)
        self.code = code
        self.status = status


def checked_url(url: str, what: str) -> str:
    """Return a URL that can be asked.

    Args:
        url: as somebody gave it.
        what: its name, for the error.

    Raises:
        ValueError: no http or https, no host, a port out of range, credentials, a fragment or white space in it.
    """
    if any(not "!" <= character <= "~" for character in url):
        raise ValueError(f"{what} holds a space, a line break or another character that no URL has; encode it")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise ValueError(f"{what} has no usable host or port; write https://HOST:PORT") from None
    rule = ""
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0:
        rule = "must begin with https:// (or http://) and name a host; write https://HOST"
    elif parts.username is not None or parts.password is not None:
        rule = "carries credentials; leave them out"
    elif parts.fragment:
        rule = "must not have a fragment; leave out what follows '#'"
    if rule:
        raise ValueError(f"{what} {rule}")
    return url


def checked_base(url: str, what: str) -> str:
    """Return a URL that paths can be put behind, without slashes at its end.

    Raises:
        ValueError: as for `checked_url`, and for a query.
    """
    if urlsplit(checked_url(url, what)).query:
        raise ValueError(f"{what} must end with its path; leave out what follows '?'")
    return url.rstrip("/?#")


def is_clear_text(url: str) -> bool:
    """Return whether secrets that are sent there can be read on the way."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    try:
        is_local = ipaddress.ip_address(host).is_loopback
    except ValueError:
        is_local = host == "localhost" or host.endswith(".localhost")
    return parts.scheme == "http" and not is_local


class Wire:
    """Sends requests, of which none follows a redirect.

    Args:
        road: how they travel.
        timeout: seconds for each whole exchange.
    """

    __slots__ = ("_road", "_timeout")

    def __init__(self, road: Road, timeout: float) -> None:
        self._road = road
        self._timeout = timeout

    async def get(self, url: str) -> Answer:
        """GET a document.

        Raises:
            TokenRequestFailed: no whole answer came.
        """
        what = f"GET {shown(url)}"
        try:
            with anyio.move_on_after(self._timeout):
                async with self._road.stream(url, _HEADERS) as opened:
                    body = await first_bytes(opened.chunks, REPLY_BYTES + 1)
                return _plain(Answer(opened.status, opened.headers, body), what)
        except TokenRequestFailed:
            raise
        except TransportError as exc:
            raise _unreachable(what, url, exc) from exc
        raise TokenRequestFailed(f"{what}: no answer within {self._timeout:g} s", code=UNREACHABLE)

    async def post(self, url: str, form: Mapping[str, str]) -> Answer:
        """POST a form.

        Raises:
            TokenRequestFailed: no whole answer came.
        """
        what = f"POST {shown(url)}"
        headers = [(b"content-type", b"application/x-www-form-urlencoded"), *_HEADERS]
        try:
            answer = await self._road.post(url, headers, urlencode(form).encode("ascii"))
        except TransportError as exc:
            raise _unreachable(what, url, exc) from exc
        return _plain(answer, what)


@asynccontextmanager
async def open_wire(url: str, client: httpx.AsyncClient | None, timeout: float) -> AsyncGenerator[Wire]:  # noqa: ASYNC109 - of each exchange, not of the block
    """Hold connections for the length of the block.

    Args:
        url: where to; the environment may name a proxy for it.
        client: the user's own, None for ours.
        timeout: seconds for each whole exchange.
    """
    # One byte more than may be used tells a reply that is too large from one that just fits.
    if client is not None:
        yield Wire(ClientRoad(client, REPLY_BYTES + 1, request=timeout), timeout)
    elif _is_proxied(url):
        import httpx  # noqa: PLC0415 - costs 90 ms, and nobody pays who mints nothing

        try:
            own = httpx.AsyncClient(timeout=timeout)
        except (ImportError, ValueError) as exc:
            raise TokenRequestFailed(
                f"the proxy that the environment names for {origin_of(url)} cannot be used ({exc}); "
                "mend HTTP_PROXY, HTTPS_PROXY or ALL_PROXY, or name the host in NO_PROXY",
                code=UNREACHABLE,
            ) from exc
        async with own:
            yield Wire(ClientRoad(own, REPLY_BYTES + 1, request=timeout), timeout)
    else:
        from ..http1 import Http1Transport  # noqa: PLC0415 - brings httpx along

        async with Http1Transport() as transport:
            yield Wire(DirectRoad(transport, timeout, REPLY_BYTES + 1), timeout)


def decoded(answer: Answer, expected: type[T], url: str) -> T:
    """Read the document of a success.

    Raises:
        TokenRequestFailed: it is not what it should be. The message names member and rule, never a value.
    """
    what = f"POST {shown(url)}: {answer.status}, but the answer"
    try:
        return msgspec.json.decode(answer.body, type=expected)
    except msgspec.ValidationError as exc:
        text = f"{what} breaks the protocol ({exc}); look into the server's log"
    except UNREADABLE:
        kind = _header(answer.headers, b"content-type").partition(";")[0].strip()[:80]
        named = f" but {kind}" if kind and kind.isprintable() and "json" not in kind.lower() else ""
        text = f"{what} is not JSON{named}; check the server's URL, and what stands between"
    raise TokenRequestFailed(text, code=INVALID_RESPONSE, status=answer.status)


class _Problem(msgspec.Struct):
    error: Any = None
    error_description: Any = None


def refusal(answer: Answer, url: str, form: Mapping[str, str]) -> TokenRequestFailed | None:
    """Return what an answer other than a success says, None for a success.

    Args:
        answer: to the form.
        url: where it was posted to.
        form: what was posted; none of its secrets is in the error, even where the server quotes them.
    """
    status = answer.status
    if HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES:
        return None
    try:
        problem = msgspec.json.decode(answer.body, type=_Problem)
    except UNREADABLE:
        problem = _Problem()
    secrets = [value for name, value in form.items() if name not in _PUBLIC and value]
    code = _without(secrets, problem.error) if isinstance(problem.error, str) else ""
    description = problem.error_description if isinstance(problem.error_description, str) else ""
    if not _CODE.fullmatch(code):
        code = f"http_{status}"
    said = " ".join(_without(secrets, description).split())[:TEXT_LENGTH]
    parts = [f"POST {shown(url)}: {status}", *([] if code.startswith("http_") else [code])]
    if said.isprintable() and said:
        parts.append(said)
    if location := _header(answer.headers, b"location"):
        parts.append(f"redirects are not followed; use the URL that leads there at once: {_place(location)}")
    wait = parse_retry_after(_header(answer.headers, b"retry-after"), now=datetime.now(UTC))
    return TokenRequestFailed(": ".join(parts), code=code, status=status, retry_after=wait)


def _unreachable(what: str, url: str, error: TransportError) -> TokenRequestFailed:
    return TokenRequestFailed(f"{what}: {str(error).removeprefix(f'{origin_of(url)}: ')}", code=UNREACHABLE)


def _plain(answer: Answer, what: str) -> Answer:
    if len(answer.body) > REPLY_BYTES:
        text = f"the answer is longer than {REPLY_BYTES // 1024} KiB; check the server's URL"
    elif _header(answer.headers, b"content-encoding").strip().lower() not in ("", "identity"):
        text = "the answer is compressed although that was not asked for; check what stands between"
    else:
        return answer
    raise TokenRequestFailed(f"{what}: {answer.status}, {text}", code=INVALID_RESPONSE, status=answer.status)


def _header(headers: Headers, name: bytes) -> str:
    return next((value.decode("latin-1") for key, value in headers if key == name), "")


def _without(secrets: list[str], text: str) -> str:
    """Take secrets out of what the server said. Before it is cut: a part of a secret is still one."""
    for secret in secrets:
        text = text.replace(secret, "[secret]").replace(quote_plus(secret), "[secret]")
    return text


def shown(url: str) -> str:
    """Return a URL without its query, as errors show it."""
    return f"{origin_of(url)}{urlsplit(url).path}"


def _place(location: str) -> str:
    shown = re.split(r"[?#]", location, maxsplit=1)[0][:TEXT_LENGTH]
    return shown if shown.isprintable() and "@" not in shown else "a place that cannot be shown"


def _is_proxied(url: str) -> bool:
    parts = urlsplit(url)
    proxies = urllib.request.getproxies()
    return bool(parts.scheme in proxies or "all" in proxies) and not urllib.request.proxy_bypass(parts.netloc)
