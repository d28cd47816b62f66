"""One request of a gateway's caller: token, reply, and what goes wrong, in the package's own errors."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from .errors import AuthenticationFailed, NeuronError, TransportError
from .tokens import Credentials

if TYPE_CHECKING:
    import httpx

__all__ = ["TIMEOUT", "RequestRefused", "Wire", "decoded"]

TIMEOUT = 30.0
"""Seconds for each wait of a request, and for the token source."""

UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What decoding a reply may raise, the last for one that is nested too deeply."""

T = TypeVar("T")


class RequestRefused(NeuronError):
    """The gateway refused a request; the message has its reason and what to check.

    You get `AuthenticationFailed` instead for a token that is not accepted, and `TransportError` where no answer came.

    Attributes:
        status: of HTTP.
        code: the gateway's machine-readable reason, or None.
        detail: the gateway's text.
    """

    def __init__(self, message: str, *, status: int, code: str | None, detail: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.detail = detail


class _Problem(msgspec.Struct):
    detail: str = ""
    code: str | None = None


_CHECK: dict[int, str] = {
    HTTPStatus.BAD_REQUEST: "check the arguments",
    HTTPStatus.FORBIDDEN: "check what this token may do",
    HTTPStatus.NOT_FOUND: "check the URL and the id; settled tasks are forgotten after a while",
    HTTPStatus.CONFLICT: "look at the task's state",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "send a reference instead of the data",
    HTTPStatus.UNPROCESSABLE_ENTITY: "use a new idempotency key for a new task",
    HTTPStatus.TOO_MANY_REQUESTS: "try again later",
}


class Wire:
    """Sends requests to one gateway.

    Args:
        base: URL of the gateway, without a slash at the end.
        http: sends them.
        credentials: tokens.
    """

    __slots__ = ("_base", "_credentials", "_http")

    def __init__(self, base: str, http: httpx.AsyncClient, credentials: Credentials) -> None:
        self._base = base
        self._http = http
        self._credentials = credentials

    async def ask(
        self,
        method: str,
        path: str,
        expected: type[T],
        *,
        document: Any = None,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> T:
        """Send a request and decode the reply.

        Raises:
            RequestRefused, AuthenticationFailed, TransportError: see there.
        """
        async with self.exchange(method, path, document=document, query=query, headers=headers) as response:
            body = await response.aread()
        return decoded(body, expected, f"{method} {self._base}{path}")

    @asynccontextmanager
    async def exchange(
        self,
        method: str,
        path: str,
        *,
        document: Any = None,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        silence: float = TIMEOUT,
    ) -> AsyncGenerator[httpx.Response]:
        """Send a request, after a 401 once more with another token; yield a good reply whose body is still to come.

        Raises:
            RequestRefused, AuthenticationFailed, TransportError: see there; also by reading the body inside the block.
        """
        import httpx  # noqa: PLC0415 - costs 90 ms, paid by whoever opened the client

        http = self._http
        body = None if document is None else msgspec.json.encode(document)
        fields = dict(headers or {}) | ({} if body is None else {"Content-Type": "application/json"})
        timeout = httpx.Timeout(TIMEOUT, read=silence)
        what = f"{method} {self._base}{path}"

        def request(token: str | None) -> httpx.Request:
            sent = fields if token is None else fields | {"Authorization": f"Bearer {token}"}
            return http.build_request(
                method, self._base + path, params=query, content=body, headers=sent, timeout=timeout
            )

        token = await self._credentials.get()
        try:
            response = await http.send(request(token), stream=True, follow_redirects=False)
            if response.status_code == HTTPStatus.UNAUTHORIZED:
                await response.aclose()
                fresh = await self._credentials.renew(token)
                if fresh is None:
                    raise _unauthorized(what)
                response = await http.send(request(fresh), stream=True, follow_redirects=False)
            try:
                if not response.is_success:
                    raise await _refusal(what, response)
                self._credentials.note_accepted()
                yield response
            finally:
                await response.aclose()
        except httpx.HTTPError as error:
            raise TransportError(f"{what} failed: {type(error).__name__}: {error}") from error


def decoded(body: bytes, expected: type[T], what: str) -> T:
    """Decode a document.

    Raises:
        TransportError: it is not the one that a gateway sends.
    """
    try:
        return msgspec.json.decode(body, type=expected)
    except UNREADABLE:
        raise TransportError(f"{what}: the reply is not a gateway's; check the URL") from None


def _unauthorized(what: str) -> AuthenticationFailed:
    return AuthenticationFailed(
        f"{what}: 401, the gateway does not accept what auth= gives; "
        "check that the token is meant for it and not expired"
    )


async def _refusal(what: str, response: httpx.Response) -> NeuronError:
    status = response.status_code
    if status == HTTPStatus.UNAUTHORIZED:
        return _unauthorized(what)
    try:
        problem = msgspec.json.decode(await response.aread(), type=_Problem)
    except UNREADABLE:
        problem = _Problem(detail="no reason given")
    check = _CHECK.get(status, "look into the gateway's log" if status >= HTTPStatus.INTERNAL_SERVER_ERROR else "")
    text = ": ".join(part for part in (f"{what}: {status}", problem.detail) if part) + (f" ({check})" if check else "")
    return RequestRefused(text, status=status, code=problem.code, detail=problem.detail)
