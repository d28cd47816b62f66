"""Short-lived tokens for an enrolled neuron: minted ahead of time, once for all who wait (promises C2, C4)."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping
from inspect import isawaitable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import anyio
import msgspec

from ..errors import CredentialRevoked
from ..logs import named
from ..tokens import BadToken, checked_token
from ..transports._roads import origin_of
from ._wire import (
    INVALID_RESPONSE,
    TokenRequestFailed,
    Wire,
    decoded,
    is_clear_text,
    open_wire,
    refusal,
    shown,
)
from .client_auth import BadKey, ClientAuthenticator, client_secret_post
from .credentials import BadCredentialFile, Credential, default_credential_path, read_credential

if TYPE_CHECKING:
    import httpx

__all__ = ["ClientCredentials", "client_credentials"]

REFRESH_AHEAD = 60.0
"""Seconds before its end at which a token is replaced, or half of its life where that is shorter."""

TIMEOUT = 10.0
"""Seconds for one request: two of them, as after a rotation, are over before whoever asked loses patience."""

TRY_AGAIN = 5.0
"""Seconds between tries to replace a token that is still good."""

INVALID_CLIENT = "invalid_client"

_log = logging.getLogger("neuron_anyio.auth")


class _Minted(msgspec.Struct):
    """The reply of the token endpoint (RFC 6749, section 5.1)."""

    access_token: str
    expires_in: Annotated[float, msgspec.Meta(gt=0)]
    token_type: Any = None


class _Kept:
    """A token that is in use. No struct: nothing should ever show it."""

    __slots__ = ("expires_at", "refresh_at", "token")

    def __init__(self, token: str, *, refresh_at: float, expires_at: float) -> None:
        self.token = token
        self.refresh_at = refresh_at
        self.expires_at = expires_at


class _Flight:
    """One mint under way, for everybody who comes meanwhile. Without token and error it was cancelled."""

    __slots__ = ("done", "error", "token")

    def __init__(self) -> None:
        self.done = anyio.Event()
        self.token: str | None = None
        self.error: TokenRequestFailed | CredentialRevoked | None = None


def client_credentials(
    credentials_file: str | os.PathLike[str] | None = None,
    *,
    authenticator: ClientAuthenticator = client_secret_post,
    http_client: httpx.AsyncClient | None = None,
    refresh_ahead: float = REFRESH_AHEAD,
    timeout: float = TIMEOUT,
) -> ClientCredentials:
    """Make a token source for `auth=` that mints with the credential which `enroll` has written.

    Nothing is read yet. A token is kept until it is 60 s (or half of its life) from its end, and replaced then by
    whoever asks next; while that goes on, and while it fails, the old one is used as long as it lasts. A token that was
    refused is not used again. Callers who need a token at the same time share one request, and its failure.

    The credential in use is read from the file again when the server does not accept it (`invalid_client`): a secret
    that was rotated there is used at once. If it is unchanged, or not accepted either, or if there is no file, the
    source raises `CredentialRevoked`, which ends the neuron; the token that is left, if any, carries its last words.
    What is known not to be accepted is not sent again.

    Args:
        credentials_file: where the credential is; `~/.holokai/neuron-credentials.json` when None.
        authenticator: proves who asks; `private_key_jwt(...)` where a key takes the secret's place.
        http_client: an `httpx.AsyncClient` of yours, with its TLS and proxies; not closed here.
        refresh_ahead: seconds before the end of a token at which it is replaced.
        timeout: seconds for each request.

    Raises:
        ValueError: `refresh_ahead` is negative, or `timeout` not above 0.
    """
    path = default_credential_path() if credentials_file is None else Path(credentials_file)
    return ClientCredentials(
        path, authenticator=authenticator, http_client=http_client, refresh_ahead=refresh_ahead, timeout=timeout
    )


class ClientCredentials:
    """A token source for one credential file; see `client_credentials`.

    Args:
        path: of the credential file.
        authenticator: as there.
        http_client: as there.
        refresh_ahead: as there.
        timeout: as there.
        clock: seconds that only grow.
    """

    def __init__(
        self,
        path: Path,
        *,
        authenticator: ClientAuthenticator = client_secret_post,
        http_client: httpx.AsyncClient | None = None,
        refresh_ahead: float = REFRESH_AHEAD,
        timeout: float = TIMEOUT,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if not refresh_ahead >= 0 or not timeout > 0:
            raise ValueError("refresh_ahead must be 0 s or more, timeout above 0 s")
        self._path = path
        self._authenticator = authenticator
        self._http_client = http_client
        self._refresh_ahead = refresh_ahead
        self._timeout = timeout
        self._clock = clock
        self._credential: Credential | None = None
        self._rejected: Credential | None = None
        self._kept: _Kept | None = None
        self._flight: _Flight | None = None
        self._held: TokenRequestFailed | None = None
        self._held_until = 0.0
        self._has_warned = False

    async def token(self, *, refused: str | None = None) -> str:
        """Return a token that is good for a while.

        Args:
            refused: one that was not accepted, and is not to be given out again.

        Raises:
            CredentialRevoked: there will be no more.
            TokenRequestFailed: none could be had now.
        """
        if self._kept is not None and self._kept.token == refused:
            self._kept = None
        while True:
            now = self._clock()
            kept = self._usable(now)
            if kept is not None and (now < kept.refresh_at or self._flight is not None):
                return kept.token
            if kept is None and self._held is not None and now < self._held_until:
                raise _copy(self._held, self._held_until - now)
            flight = self._flight
            if flight is None:
                return await self._fly(refused)
            await flight.done.wait()
            if flight.error is not None:
                raise _again(flight.error)
            if flight.token is not None:
                return flight.token

    def _usable(self, now: float) -> _Kept | None:
        return self._kept if self._kept is not None and now < self._kept.expires_at else None

    async def _fly(self, refused: str | None) -> str:
        """Mint, and tell all who wait. Cancelled it tells nothing, and one of those who wait takes over."""
        flight = self._flight = _Flight()
        begun = self._clock()
        try:
            minted = await self._mint()
            flight.token = minted.access_token
        except TokenRequestFailed as exc:
            flight.error = exc
            return self._postpone(exc)
        except CredentialRevoked as exc:
            flight.error = exc
            if self._kept is not None:
                self._kept.refresh_at = self._kept.expires_at  # it carries the last words
            raise
        finally:
            self._flight = None
            flight.done.set()
        self._keep(minted, begun, refused)
        return minted.access_token

    def _postpone(self, error: TokenRequestFailed) -> str:
        """Return the token that is still good; raise the error where there is none."""
        now = self._clock()
        pause = error.retry_after or 0.0
        self._held = _copy(error, pause) if pause else None
        self._held_until = now + pause
        kept = self._usable(now)
        if kept is None:
            raise error
        kept.refresh_at = now + max(pause, TRY_AGAIN)
        line = named("token.not_renewed", code=error.code)
        _log.warning(
            "no new token, the old one is used for %.0f s at most: %s", kept.expires_at - now, error, extra=line
        )
        return kept.token

    def _keep(self, minted: _Minted, begun: float, refused: str | None) -> None:
        if minted.access_token == refused:
            self._kept = None  # the server gives out what it has: ask again, rather than send what was refused
            return
        life = minted.expires_in
        self._kept = _Kept(
            minted.access_token,
            refresh_at=begun + max(life - self._refresh_ahead, life / 2),
            expires_at=begun + life,
        )

    async def _mint(self) -> _Minted:
        """Ask with the credential in use, and with the one in the file if that is another."""
        name = ""
        for credential in self._candidates():
            name = credential.client_id
            if credential == self._rejected:
                continue
            try:
                minted = await self._request(credential)
            except TokenRequestFailed as exc:
                if exc.code != INVALID_CLIENT:
                    raise
                self._credential, self._rejected = None, credential
                line = named("credential.not_accepted", client_id=name, path=str(self._path))
                _log.warning("client %s was not accepted; reading %s again", name, self._path, extra=line)
            else:
                self._credential, self._rejected = credential, None
                line = named("token.minted", client_id=name, expires_in=minted.expires_in)
                _log.debug("minted a token for client %s, for %g s", name, minted.expires_in, extra=line)
                return minted
        raise CredentialRevoked(
            f"client {name} is not accepted any more (invalid_client) and {self._path} has no other credential: "
            "it was revoked, or rotated elsewhere; write the new secret there, or run: neuron-anyio enroll"
        )

    def _candidates(self) -> Iterator[Credential]:
        if self._credential is not None:
            yield self._credential
        yield self._read()
        yield self._read()  # the first may have been rotated while it was on its way

    def _read(self) -> Credential:
        try:
            credential = read_credential(self._path)
        except BadCredentialFile as exc:
            raise TokenRequestFailed(str(exc), code="credential_file") from None
        if credential is None:
            raise CredentialRevoked(f"there is no credential at {self._path}; run: neuron-anyio enroll")
        return credential

    async def _request(self, credential: Credential) -> _Minted:
        url = credential.token_endpoint
        if is_clear_text(url) and not self._has_warned:
            self._has_warned = True
            line = named("credential.clear_text", origin=origin_of(url))
            _log.warning("the credential travels in clear text to %s; use https", origin_of(url), extra=line)
        form = {"grant_type": "client_credentials", **await self._proof(credential)}
        async with open_wire(url, self._http_client, self._timeout) as wire:
            return await _asked(wire, url, form)

    async def _proof(self, credential: Credential) -> Mapping[str, str]:
        try:
            proof = self._authenticator(credential)
            return dict(await proof if isawaitable(proof) else proof)
        except (CredentialRevoked, TokenRequestFailed):
            raise
        except BadKey as exc:
            raise TokenRequestFailed(str(exc), code="client_authentication") from None
        except Exception as exc:
            # Its text stays in the cause: it might quote a secret.
            text = f"the client authenticator raised {type(exc).__name__}"
            raise TokenRequestFailed(text, code="client_authentication") from exc

    def __repr__(self) -> str:
        return f"client_credentials({str(self._path)!r})"


async def _asked(wire: Wire, url: str, form: Mapping[str, str]) -> _Minted:
    answer = await wire.post(url, form)
    if (refused := refusal(answer, url, form)) is not None:
        raise refused
    minted = decoded(answer, _Minted, url)
    kind = minted.token_type
    if isinstance(kind, str) and kind.lower() != "bearer":
        raise TokenRequestFailed(
            f"POST {shown(url)}: token_type must be bearer; the server mints for another kind of client",
            code=INVALID_RESPONSE,
            status=answer.status,
        )
    try:
        checked_token(minted.access_token)
    except BadToken as exc:
        text = f"POST {shown(url)}: access_token cannot be used: {str(exc).partition(';')[0]}"
        raise TokenRequestFailed(text, code=INVALID_RESPONSE, status=answer.status) from None
    return minted


def _again(error: TokenRequestFailed | CredentialRevoked) -> TokenRequestFailed | CredentialRevoked:
    """Return an error for another caller: one exception that several raise would gather all their tracebacks."""
    return CredentialRevoked(str(error)) if isinstance(error, CredentialRevoked) else _copy(error, error.retry_after)


def _copy(error: TokenRequestFailed, retry_after: float | None) -> TokenRequestFailed:
    return TokenRequestFailed(str(error), code=error.code, status=error.status, retry_after=retry_after)
