"""Enrolment of a neuron: the device flow of RFC 8628 (BigBrain specification, section 9.2).

    ask for a device code  ->  an administrator approves  ->  poll until the credential comes, once  ->  write it

Nothing waits between the reply that holds the credential and the file that keeps it: no cancellation can come there.
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Awaitable, Callable, Sequence
from http import HTTPStatus
from inspect import isawaitable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import anyio
import msgspec

from ..errors import CredentialRevoked, NeuronError
from ..logs import named
from ._wire import (
    INVALID_RESPONSE,
    UNREACHABLE,
    TokenRequestFailed,
    Wire,
    checked_base,
    decoded,
    is_clear_text,
    open_wire,
    refusal,
    shown,
)
from .client_auth import ClientAuthenticator, client_secret_post
from .credentials import (
    BadCredentialFile,
    Credential,
    check_writable,
    default_credential_path,
    read_credential,
    write_credential,
)
from .discovery import Endpoints, discovered
from .minting import ClientCredentials

if TYPE_CHECKING:
    import httpx

__all__ = ["Approval", "Enrollment", "EnrollmentFailed", "enroll"]

GRANT = "urn:ietf:params:oauth:grant-type:device_code"

TIMEOUT = 30.0
"""Seconds for one request. Generous: the reply that is given up may be the one with the credential."""

INTERVAL = 5.0
"""Seconds between polls where the server names none, and what `slow_down` adds (RFC 8628, section 3.5)."""

SHORTEST, LONGEST = 1.0, 60.0
"""Seconds between polls: a server that says 0 is not hammered, and an approval is noticed within a minute."""

MOST_PATIENCE = 86_400.0
"""Seconds; no administrator is waited for longer, whatever the server says."""

EXPIRED = "expired_token"
NOT_WRITTEN = "credential_not_written"

_PASSES = frozenset(
    {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.CONFLICT, HTTPStatus.TOO_EARLY, HTTPStatus.TOO_MANY_REQUESTS}
)
"""4xx of a poll that say "not now": a 409 comes where it meets the approval being written."""

_log = logging.getLogger("neuron_anyio.auth")


class EnrollmentFailed(NeuronError):
    """The neuron was not enrolled. The message says why and what to do.

    Attributes:
        code: `access_denied`, `expired_token`, `device_request_failed`, `invalid_response`, `credential_not_written`,
            `credential_file`, `unreachable`, or what else the server said, like `invalid_grant`.
    """

    def __init__(self, message: str, *, code: str) -> None:
        super().__init__(message)
        self.code = code


class Approval(msgspec.Struct, frozen=True):
    """What an administrator needs to approve a neuron. For their eyes: reprs and logs have neither code nor full URL.

    Attributes:
        verification_uri: page to open.
        user_code: code to enter there.
        verification_uri_complete: the page with the code filled in, where the server has one.
        expires_in: seconds until it is too late.
    """

    verification_uri: str
    user_code: str
    verification_uri_complete: str | None
    expires_in: float

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        """Leave the code out (promise C9)."""
        return [("verification_uri", self.verification_uri), ("expires_in", self.expires_in)]

    def __repr__(self) -> str:
        return f"Approval({', '.join(f'{name}={value!r}' for name, value in self.__rich_repr__())})"


class Enrollment(msgspec.Struct, frozen=True):
    """How an enrolment ended well.

    Attributes:
        status: `already-enrolled` where the file held a credential that still mints.
        client_id: the neuron's client.
        path: of the credential file.
    """

    status: Literal["enrolled", "already-enrolled"]
    client_id: str
    path: Path


class _Device(msgspec.Struct):
    """The reply of the device authorization endpoint (RFC 8628, section 3.2)."""

    device_code: Annotated[str, msgspec.Meta(min_length=1)]
    user_code: Annotated[str, msgspec.Meta(min_length=1)]
    verification_uri: Annotated[str, msgspec.Meta(min_length=1)]
    expires_in: float
    verification_uri_complete: Any = None
    interval: Any = None


class _Redeemed(msgspec.Struct):
    """What counts of the reply that ends the polls. The token beside it can be minted again, the credential cannot."""

    client_id: Annotated[str, msgspec.Meta(min_length=1)]
    client_secret: Annotated[str, msgspec.Meta(min_length=1)]


async def enroll(
    moku_url: str,
    *,
    name: str,
    on_approval: Callable[[Approval], Awaitable[object] | object],
    hostname: str | None = None,
    capabilities: Sequence[str] = (),
    credentials_file: str | os.PathLike[str] | None = None,
    authenticator: ClientAuthenticator = client_secret_post,
    http_client: httpx.AsyncClient | None = None,
    timeout: float = TIMEOUT,  # noqa: ASYNC109 - of each request, not of the call
    sleep: Callable[[float], Awaitable[None]] = anyio.sleep,
) -> Enrollment:
    """Enrol this neuron: wait until an administrator has approved it, and keep the credential in a file.

    Where the file already holds a credential that mints, nothing else happens. Where that is revoked, it is replaced.
    Cancelled, it leaves the file as it was; a credential that was on its way at that moment is lost, and unused.

    Args:
        moku_url: base URL of the server that enrols; not the gateway's.
        name: shown to the administrator.
        on_approval: called once with what the administrator needs, sync or async. Show it to people, not to logs.
        hostname: shown to the administrator; this host's when None.
        capabilities: types that this neuron will offer, shown to the administrator.
        credentials_file: where the credential goes; `~/.holokai/neuron-credentials.json` when None.
        authenticator: as in `client_credentials`, for a credential that is there already.
        http_client: an `httpx.AsyncClient` of yours, with its TLS and proxies; not closed here.
        timeout: seconds for each request.
        sleep: waits between two polls; tests replace it.

    Raises:
        EnrollmentFailed: denied, too late, or the server, the way to it or the file are not in order.
        ValueError: the URL cannot be used, or the name is empty.
    """
    base = checked_base(moku_url, "the server's URL")
    if not name.strip():
        raise ValueError("name is empty; give the name under which the administrator shall see this neuron")
    path = default_credential_path() if credentials_file is None else Path(credentials_file)
    if (client_id := await _client_that_mints(path, base, authenticator, http_client, timeout)) is not None:
        return Enrollment("already-enrolled", client_id, path)
    _see_that_it_can_be_written(path)
    if is_clear_text(base):
        line = named("enrolment.clear_text", server=base)
        _log.warning("the credential will come in clear text from %s; use https", base, extra=line)
    form = {"client_name": name, "hostname": hostname or socket.gethostname()}
    if capabilities:
        form["capability_types"] = ",".join(capabilities)
    async with open_wire(base, http_client, timeout) as wire:
        endpoints = await discovered(wire, base)
        device = await _begin(wire, endpoints, form)
        poll = _Poll(wire, endpoints, device, sleep)
        shown_to_people = on_approval(_approval(device, endpoints))
        if isawaitable(shown_to_people):
            await shown_to_people
        redeemed = await poll.run()
        # From here to the file without an `await`.
        credential = Credential(redeemed.client_id, redeemed.client_secret, endpoints.token, base)
        _write(path, credential)
        return Enrollment("enrolled", credential.client_id, path)


async def _client_that_mints(
    path: Path,
    base: str,
    authenticator: ClientAuthenticator,
    client: httpx.AsyncClient | None,
    timeout: float,  # noqa: ASYNC109 - of each request
) -> str | None:
    """Return the client in a credential file if it still mints, None where there is none, or none any more."""
    try:
        credential = read_credential(path)
        if credential is None:
            return None
        if credential.moku_base_url.rstrip("/") != base:
            line = named("enrolment.other_server", path=str(path))
            _log.warning(
                "the credential in %s is from %s, not from %s", path, credential.moku_base_url, base, extra=line
            )
        await ClientCredentials(path, authenticator=authenticator, http_client=client, timeout=timeout).token()
    except CredentialRevoked:
        line = named("enrolment.anew", path=str(path))
        _log.warning("the credential in %s is not accepted any more; enrolling anew", path, extra=line)
        return None
    except BadCredentialFile as exc:
        raise EnrollmentFailed(str(exc), code="credential_file") from exc
    except TokenRequestFailed as exc:
        raise EnrollmentFailed(
            f"the credential in {path} could not be tried: {exc}; try again, or delete it to enrol anew", code=exc.code
        ) from exc
    return credential.client_id


async def _begin(wire: Wire, endpoints: Endpoints, form: dict[str, str]) -> _Device:
    """Ask for a device code."""
    try:
        answer = await wire.post(endpoints.device, form)
        refused = refusal(answer, endpoints.device, form)
        device = decoded(answer, _Device, endpoints.device) if refused is None else None
    except TokenRequestFailed as exc:
        raise EnrollmentFailed(str(exc), code=exc.code) from exc
    if refused is not None or device is None:
        raise EnrollmentFailed(f"no device code: {refused}; check the server's URL", code="device_request_failed")
    return device


def _approval(device: _Device, endpoints: Endpoints) -> Approval:
    """Return what people need. What a terminal would obey rather than show is refused."""
    complete = device.verification_uri_complete
    complete = complete if isinstance(complete, str) and complete.isprintable() and complete else None
    for field in ("user_code", "verification_uri"):
        if not getattr(device, field).isprintable():
            raise EnrollmentFailed(
                f"POST {shown(endpoints.device)}: {field} has characters that cannot be shown", code=INVALID_RESPONSE
            )
    return Approval(device.verification_uri, device.user_code, complete, min(device.expires_in, MOST_PATIENCE))


class _Poll:
    """Asks for the credential until it comes, or the device code's time is over."""

    def __init__(
        self, wire: Wire, endpoints: Endpoints, device: _Device, sleep: Callable[[float], Awaitable[None]]
    ) -> None:
        self._wire = wire
        self._url = endpoints.token
        self._form = {"grant_type": GRANT, "device_code": device.device_code}
        self._sleep = sleep
        self._interval = _interval(device.interval)
        self._deadline = anyio.current_time() + min(device.expires_in, MOST_PATIENCE)

    async def run(self) -> _Redeemed:
        """Return the credential.

        Raises:
            EnrollmentFailed: there will be none.
        """
        pause = self._interval
        while (left := self._deadline - anyio.current_time()) > 0:
            await self._sleep(min(pause, left))
            try:
                answer = await self._wire.post(self._url, self._form)
                refused = refusal(answer, self._url, self._form)
                if refused is None:
                    return decoded(answer, _Redeemed, self._url)
            except TokenRequestFailed as exc:
                refused = exc
            pause = max(self._pause_after(refused), min(refused.retry_after or 0.0, LONGEST))
        raise _expired()

    def _pause_after(self, refused: TokenRequestFailed) -> float:
        """Return the seconds until the next poll.

        Raises:
            EnrollmentFailed: there is none.
        """
        code, status = refused.code, refused.status
        if code in ("slow_down", UNREACHABLE):  # RFC 8628 wants fewer polls after a time-out, too
            self._interval = min(self._interval + INTERVAL, max(self._interval, LONGEST))
        elif code == EXPIRED:
            raise _expired() from refused
        elif code == "access_denied":
            raise EnrollmentFailed(
                "the administrator has denied this neuron; ask them, and try again", code=code
            ) from (refused)
        elif code != "authorization_pending" and (status is None or not _passes(status)):
            raise EnrollmentFailed(
                f"{refused}; enrol again, and revoke a client that the administrator sees for this neuron", code=code
            ) from refused
        if code != "authorization_pending":
            line = named("enrolment.asks_again", code=code, delay=self._interval)
            _log.warning("%s; asking again in %g s", refused, self._interval, extra=line)
        return self._interval


def _passes(status: int) -> bool:
    return status in _PASSES or status >= HTTPStatus.INTERNAL_SERVER_ERROR


def _interval(said: Any) -> float:
    if not isinstance(said, int | float) or isinstance(said, bool):
        return INTERVAL
    return min(max(float(said), SHORTEST), LONGEST)


def _expired() -> EnrollmentFailed:
    return EnrollmentFailed("nobody has approved this neuron in time; enrol again", code=EXPIRED)


def _see_that_it_can_be_written(path: Path) -> None:
    try:
        check_writable(path)
    except OSError as exc:
        raise EnrollmentFailed(
            f"a credential could not be written to {path} ({exc.strerror}); give a place that can be written to",
            code=NOT_WRITTEN,
        ) from exc


def _write(path: Path, credential: Credential) -> None:
    try:
        write_credential(path, credential)
    except OSError as exc:
        raise EnrollmentFailed(
            f"client {credential.client_id} was enrolled, and its credential is lost: {path} cannot be written "
            f"({exc.strerror}); mend that, revoke the client and enrol again",
            code=NOT_WRITTEN,
        ) from exc
