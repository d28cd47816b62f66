"""What the strategies have in common: JSON, names, moments, and how an argument is taken."""

from __future__ import annotations

import string
from datetime import datetime, timedelta, timezone
from typing import Any, TypeAlias, TypeVar, cast

import msgspec
from hypothesis import strategies as st
from hypothesis.errors import InvalidArgument
from hypothesis.strategies import SearchStrategy
from msgspec import Raw

__all__ = [
    "CAPABILITY_TYPES",
    "IDS",
    "TEXTS",
    "TIMESTAMPS",
    "Json",
    "as_json",
    "chosen",
    "json_texts",
    "json_values",
    "metadata_values",
    "optional_json_texts",
    "raw",
]

Json: TypeAlias = bool | int | float | str | list[Any] | dict[str, Any] | None

_CHARACTERS = st.characters(exclude_categories=["Cs"])  # a lone surrogate has no UTF-8

TEXTS = st.text(_CHARACTERS, max_size=20)
IDS = st.text(_CHARACTERS, min_size=1, max_size=20)
_SEGMENTS = st.text(f"{string.ascii_letters}{string.digits}_.-", min_size=1, max_size=8)
CAPABILITY_TYPES = st.lists(_SEGMENTS, min_size=2, max_size=4).map("/".join)

_OFFSETS = st.integers(-23 * 60 - 59, 23 * 60 + 59).map(lambda minutes: timezone(timedelta(minutes=minutes)))
# Two days off the calendar's ends, so that every offset can be turned into UTC.
TIMESTAMPS = st.datetimes(
    min_value=datetime(1, 1, 3),  # noqa: DTZ001 - the bounds are naive, `timezones` adds the zone
    max_value=datetime(9999, 12, 29),  # noqa: DTZ001 - as above
    timezones=_OFFSETS,
)

_T = TypeVar("_T")


def chosen(name: str, given: SearchStrategy[_T] | None, default: SearchStrategy[_T]) -> SearchStrategy[_T]:
    """Return the strategy that a caller gave for a member, or the default where there is none.

    Raises:
        InvalidArgument: what was given is no strategy.
    """
    if given is None:
        return default
    if not isinstance(cast("object", given), SearchStrategy):
        kind = type(given).__name__
        raise InvalidArgument(f"{name} must be a strategy, not {kind}; write st.just(...) round a single value")
    return given


def json_values(*, max_leaves: int = 10) -> SearchStrategy[Json]:
    """Return a strategy for JSON values as Python holds them: `json_values(max_leaves=3)`.

    Numbers are those that every encoder can write: integers of 64 bits, finite floats.

    Args:
        max_leaves: about how many values a list or an object holds in all.

    Raises:
        InvalidArgument: `max_leaves` is not a whole number above 0.
    """
    if (
        isinstance(cast("object", max_leaves), bool)
        or not isinstance(cast("object", max_leaves), int)
        or max_leaves < 1
    ):
        raise InvalidArgument(f"max_leaves must be a whole number, 1 or more, not {max_leaves!r}")
    leaves = (
        st.none()
        | st.booleans()
        | st.integers(-(2**63), 2**64 - 1)
        | st.floats(allow_nan=False, allow_infinity=False)
        | TEXTS
    )
    return st.recursive(
        leaves,
        lambda inner: st.lists(inner, max_size=5) | st.dictionaries(TEXTS, inner, max_size=5),
        max_leaves=max_leaves,
    )


def metadata_values() -> SearchStrategy[dict[str, Any] | None]:
    """Return a strategy for a task's metadata, None included."""
    return st.none() | st.dictionaries(TEXTS, json_values(max_leaves=3), max_size=3)


def as_json(value: object) -> bytes:
    """Return a value that a strategy gave as JSON text.

    Raises:
        InvalidArgument: it is none.
    """
    try:
        return msgspec.json.encode(value)
    except (TypeError, ValueError, RecursionError) as exc:
        raise InvalidArgument(f"a strategy must give JSON values: {exc}") from None


def raw(value: object) -> Raw:
    """Return a value that a strategy gave as undecoded JSON.

    Raises:
        InvalidArgument: it is none.
    """
    return Raw(as_json(value))


def json_texts(values: SearchStrategy[Any] | None = None) -> SearchStrategy[bytes]:
    """Return a strategy for JSON text, of any values or of those given."""
    return (json_values() if values is None else values).map(as_json)


def optional_json_texts(values: SearchStrategy[Any] | None = None) -> SearchStrategy[bytes | None]:
    """Return a strategy for JSON text or None; of given values None stands for itself."""
    if values is None:
        return st.none() | json_texts()
    return values.map(lambda value: None if value is None else as_json(value))
