"""Exception groups, for callers who want to see one error as one error."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeGuard

__all__ = ["add_context", "alone", "leaves"]


def _is_group(error: BaseException) -> TypeGuard[BaseExceptionGroup[BaseException]]:
    """Return whether an exception holds others."""
    return isinstance(error, BaseExceptionGroup)


def alone(error: BaseException, *, but_not: BaseException | None = None) -> BaseException:
    """Return the one exception of a group of one, however deep.

    A group of more stays a group. `but_not` is not unwrapped, and stands for its copies: trio's scopes pass on copies.
    """
    kept = but_not.exceptions if but_not is not None and _is_group(but_not) else None
    while _is_group(error):
        if error.exceptions == kept:
            return but_not or error
        first, *others = error.exceptions
        if others:
            break
        error = first
    return error


def leaves(error: BaseException) -> Iterator[BaseException]:
    """Yield the exceptions of a group that are no groups, however deep; of any other exception, itself."""
    pending = [error]
    while pending:
        last = pending.pop()
        if _is_group(last):
            pending.extend(reversed(last.exceptions))
        else:
            yield last


def add_context(error: BaseException, cause: BaseException) -> None:
    """Hang `cause` at the end of the chain of contexts of `error`, unless it is in there already."""
    seen: set[int] = set()
    while error is not cause and id(error) not in seen:
        seen.add(id(error))
        if error.__context__ is None:
            error.__context__ = cause
        error = error.__context__
