"""Who is asking: bearer tokens and the principals that they stand for."""

from __future__ import annotations

import hashlib
import hmac
import inspect
import secrets
from collections.abc import Awaitable, Callable, Mapping
from typing import TypeAlias

import msgspec

__all__ = ["ANYBODY", "Access", "Authenticator", "Principal"]


class Principal(msgspec.Struct, frozen=True):
    """What a token stands for.

    Attributes:
        name: for people and for the scope of idempotency keys.
        user: the only user on whose behalf it may offer and submit; None for any.
        namespaces: prefixes of the capability types that it may offer, like `("org/acme",)`; None for any.
    """

    name: str
    user: str | None = None
    namespaces: tuple[str, ...] | None = None

    def may_offer(self, capability: str) -> bool:
        """Return whether a capability type lies in one of its namespaces. Prefixes end at a slash."""
        if self.namespaces is None:
            return True
        return any(f"{capability}/".startswith(prefix.rstrip("/") + "/") for prefix in self.namespaces)

    def may_act_for(self, user: str | None) -> bool:
        """Return whether it may offer or submit for a user; None is nobody in particular."""
        return user is None or self.user is None or self.user == user


ANYBODY = Principal("anybody")
"""Everybody, where the gateway asks for no token."""

Access: TypeAlias = (
    str
    | Mapping[str, Principal]
    | Callable[[str], Principal | None]
    | Callable[[str], Awaitable[Principal | None]]
    | None
)
"""None: open. A token: the only one. A mapping from tokens. A callable, sync or async, from a token to its principal
or None."""


class Authenticator:
    """Turns `Authorization` headers into principals.

    Fixed tokens are kept and looked up as keyed digests: neither the time that a look-up takes nor a repr tells
    anything about them.

    Args:
        auth: see `Access`.

    Raises:
        ValueError: an empty token.
    """

    __slots__ = ("_ask", "_key", "_known")

    def __init__(self, auth: Access) -> None:
        self._key = secrets.token_bytes(32)
        self._known: dict[bytes, Principal] | None = None
        self._ask: Callable[[str], Principal | Awaitable[Principal | None] | None] | None = None
        if auth is None or callable(auth):
            self._ask = auth
            return
        tokens = {auth: Principal("token")} if isinstance(auth, str) else dict(auth)
        if not tokens or not all(tokens):
            raise ValueError("auth must name at least one token, and no empty one")
        self._known = {self._digest(token): principal for token, principal in tokens.items()}

    async def principal(self, authorization: str | None) -> Principal | None:
        """Return who a header's value stands for, None for nobody who may come in."""
        if self._ask is None and self._known is None:
            return ANYBODY
        scheme, _, token = (authorization or "").partition(" ")
        token = token.strip()
        if scheme.lower() != "bearer" or not token:
            return None
        if self._known is not None:
            return self._known.get(self._digest(token))
        assert self._ask is not None
        found = self._ask(token)
        return await found if inspect.isawaitable(found) else found

    def _digest(self, token: str) -> bytes:
        return hmac.digest(self._key, token.encode("utf-8", "surrogateescape"), hashlib.sha256)
