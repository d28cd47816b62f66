"""Where a transport gets its token from, and what happens when one is refused (promise C4)."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from typing import Any, Protocol, TypeAlias, runtime_checkable

import anyio

from .errors import AuthenticationFailed, CredentialRevoked, TransportError

__all__ = ["Auth", "BadToken", "Credentials", "TokenSource", "checked_token"]

STATIC_REFUSALS = 2
"""A token that never changes and was refused twice before it was ever accepted is wrong."""

SOURCE_REFUSALS = 5
"""A source may give stale tokens for a while; five in a row before any was accepted are no accident."""


@runtime_checkable
class TokenSource(Protocol):
    """What gives tokens and may be told that one was refused."""

    async def token(self, *, refused: str | None) -> str:
        """Return a token. `refused` is the one that the gateway has just not accepted, None else.

        Raises:
            CredentialRevoked: there will be no more tokens.
        """
        ...


Auth: TypeAlias = str | Callable[[], "str | Awaitable[str]"] | TokenSource
"""A token, a callable that returns one (asked for every request), or a token source."""


class BadToken(ValueError):
    """A token cannot be sent. The message never holds any of it, so that it can be logged."""


def checked_token(token: Any) -> str:
    """Return a token that can be sent as a header.

    Raises:
        BadToken: it is not text, empty, or has a line break or another character that no header may have.
    """
    if not isinstance(token, str):
        raise BadToken(f"a token must be a string, not {type(token).__name__}")
    if not token:
        raise BadToken("the token is empty")
    if any(not "!" <= character <= "~" for character in token):
        raise BadToken(
            "the token contains a line break, a space or another character that a header must not have; "
            "strip what it was read from, for example with token_file(path)"
        )
    return token


class Credentials:
    """One transport's tokens.

    Args:
        auth: as the user gave it; None for requests without a token.
        patience: seconds that a source may take.

    Raises:
        ValueError: a static token that cannot be sent.
        TypeError: not a token, callable or source.
    """

    def __init__(self, auth: Auth | None, *, patience: float) -> None:
        self._auth = checked_token(auth) if isinstance(auth, str) else auth
        if auth is not None and not isinstance(auth, str | TokenSource) and not callable(auth):
            raise TypeError("auth must be a token, a callable that returns one, or an object with token(refused=...)")
        self._patience = patience
        self._refreshing: anyio.Lock | None = None
        self._renewals = 0
        self._replaced: str | None = None
        self._fresh: str | None = None
        self._refusals = 0
        self._accepted = False

    async def get(self) -> str | None:
        """Return the token for one request, None where none is used.

        Raises:
            TransportError: the source failed.
            CredentialRevoked: there will be no more tokens.
        """
        token = await self._ask(refused=None)
        if token == self._replaced:
            self._replaced = None  # given out again: its next refusal is a new one
        return token

    async def renew(self, refused: str | None) -> str | None:
        """Return another token than the one that was refused, or None when there is none.

        Requests that were refused together share one question to the source: those that come while it is asked, and
        those with the same token that come later.

        Raises:
            AuthenticationFailed: so many were refused before any was accepted that the next will be too.
            TransportError, CredentialRevoked: as for `get`.
        """
        self._note_refusal()
        if refused is None or isinstance(self._auth, str):
            return None
        seen = self._renewals
        if self._refreshing is None:
            self._refreshing = anyio.Lock()
        async with self._refreshing:
            if seen == self._renewals and self._replaced != refused:
                await self._renew(refused)
            fresh = self._fresh
        return None if fresh == refused else fresh

    async def _renew(self, refused: str) -> None:
        self._fresh = self._replaced = None
        try:
            self._fresh = await self._ask(refused=refused)
        except Exception:
            self._renewals += 1  # whoever waits for this answer shares the failure
            raise
        self._renewals += 1
        if self._fresh != refused:
            self._replaced = refused

    def note_accepted(self) -> None:
        """Note that the gateway took a posted frame, and with it the token."""
        self._accepted = True
        self._refusals = 0

    def note_refused_again(self) -> None:
        """Note that the renewed token was refused as well.

        Raises:
            AuthenticationFailed: as for `renew`.
        """
        self._fresh = None
        self._note_refusal()

    def _note_refusal(self) -> None:
        self._refusals += 1
        static = self._auth is None or isinstance(self._auth, str)
        if not self._accepted and self._refusals >= (STATIC_REFUSALS if static else SOURCE_REFUSALS):
            what = {True: "the token was refused", False: "every token of the source was refused"}[static]
            if self._auth is None:
                what = "the gateway wants a token and none was given (auth=...)"
            raise AuthenticationFailed(
                f"{what} (401, {self._refusals} times); check that it is meant for this gateway and not expired"
            )

    async def _ask(self, *, refused: str | None) -> str | None:
        auth = self._auth
        if auth is None or isinstance(auth, str):
            return auth
        try:
            with anyio.move_on_after(self._patience):
                answer: Any = auth.token(refused=refused) if isinstance(auth, TokenSource) else auth()
                return checked_token(await answer if inspect.isawaitable(answer) else answer)
        except (TransportError, CredentialRevoked, AuthenticationFailed):
            raise
        except Exception as exc:
            if isinstance(exc, BadToken):
                raise TransportError(f"the token source gave no usable token: {exc}") from None
            # Its text stays in the cause: it might quote the token.
            raise TransportError(f"the token source raised {type(exc).__name__}") from exc
        raise TransportError(f"the token source gave no token within {self._patience:g} s")
