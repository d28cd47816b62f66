"""On what terms a function is offered: type, scope, concurrency and so on, checked where they are written."""

from __future__ import annotations

import builtins
import inspect
import math
from typing import Literal, TypeAlias, cast, get_args

import msgspec

from .frames import CAPABILITY_TYPE

__all__ = ["OnBehalfOf", "Runs", "Terms", "on_behalf_of"]

Runs: TypeAlias = Literal["loop", "thread", "process"]

LEASE_TTL = (1.0, 3600.0)
"""Bounds of a wished lease time in seconds (BigBrain specification, section 3.1)."""


class OnBehalfOf(msgspec.Struct, frozen=True):
    """A scope: only tasks of this user. Made by `on_behalf_of`."""

    user: str


def on_behalf_of(user: str) -> OnBehalfOf:
    """Make a scope that takes only this user's tasks.

    Raises:
        ValueError: the user is empty.
    """
    if not _is_text(user):
        raise ValueError("on_behalf_of() takes the user's id, a string that is not empty")
    return OnBehalfOf(user)


class Terms(msgspec.Struct, frozen=True, kw_only=True):
    """On what terms a function is offered; `capability` describes the members.

    Raises:
        ValueError: a member breaks its rule; the message names it.
    """

    type: str
    scope: Literal["any"] | OnBehalfOf = "any"
    concurrency: int = 1
    lease_ttl: float | None = None
    timeout: float | None = None
    description: str | None = None
    runs: Runs = "loop"
    non_retryable: tuple[builtins.type[Exception], ...] = ()
    on_lease_lost: Literal["cancel", "continue"] = "cancel"

    def __post_init__(self) -> None:
        for rule in (self._check_type, self._check_numbers, self._check_choices):
            problem = rule()
            if problem is not None:
                raise ValueError(f"capability {self.type!r}: {problem}")

    def _check_type(self) -> str | None:
        if not _is_type(self.type):
            return (
                "the type must be namespaced, at least two segments of A-Z a-z 0-9 _ . - joined by '/', "
                "for example 'examples/http.fetch'"
            )
        return None

    def _check_numbers(self) -> str | None:
        if not _is_whole(self.concurrency) or self.concurrency < 1:
            return f"concurrency must be a whole number, 1 or more, not {self.concurrency!r}"
        low, high = LEASE_TTL
        if self.lease_ttl is not None and not (_is_number(self.lease_ttl) and low <= self.lease_ttl <= high):
            return f"lease_ttl must be {low:g} to {high:g} seconds or None, not {self.lease_ttl!r}"
        if self.timeout is not None and not (_is_number(self.timeout) and self.timeout > 0):
            return f"timeout must be a number of seconds above 0 or None, not {self.timeout!r}"
        return None

    def _check_choices(self) -> str | None:
        if not _is_scope(self.scope):
            return f"scope must be 'any' or on_behalf_of(user), not {self.scope!r}"
        if self.runs not in get_args(Runs):
            return f"runs must be 'loop', 'thread' or 'process', not {self.runs!r}"
        if self.on_lease_lost not in ("cancel", "continue"):
            return f"on_lease_lost must be 'cancel' or 'continue', not {self.on_lease_lost!r}"
        if not _are_exception_classes(self.non_retryable):
            return "non_retryable must be a tuple of exception classes"
        if self.description is not None and not _is_text(self.description):
            return "description must be a string that is not empty, or None"
        return None


# Users without a type checker hand over anything; these take what the annotations already promise to others.


def _is_type(value: object) -> bool:
    return isinstance(value, str) and CAPABILITY_TYPE.fullmatch(value) is not None


def _is_text(value: object) -> bool:
    return isinstance(value, str) and value != ""


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_scope(value: object) -> bool:
    return value == "any" or isinstance(value, OnBehalfOf)


def _are_exception_classes(value: object) -> bool:
    return isinstance(value, tuple) and all(map(_is_exception_class, cast("tuple[object, ...]", value)))


def _is_exception_class(value: object) -> bool:
    return inspect.isclass(value) and issubclass(value, Exception)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
