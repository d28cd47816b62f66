"""Python values to JSON text and back, refusing what JSON cannot say.

msgspec writes NaN as `null` and number keys as strings. Both would change a task's result in silence, so they are
refused here (promise L11.10).
"""

from __future__ import annotations

import dataclasses
import enum
import math
from collections.abc import Iterable
from typing import Any

import msgspec

__all__ = ["NotJsonError", "read_json", "write_json"]

_SAFE = frozenset({str, int, bool, bytes, type(None)})
"""Types that are written as they are: most of what there is, and told from others at once."""

_COLLECTIONS = (list, tuple, set, frozenset)

_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder()


class NotJsonError(ValueError):
    """A value that JSON cannot express. The message names the rule, never the value."""


def read_json(text: bytes) -> Any:
    """Decode JSON text.

    Raises:
        NotJsonError: it is not JSON, or nested too deeply to be read.
    """
    try:
        return _decoder.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        raise NotJsonError(f"not readable as JSON ({type(exc).__name__})") from None


def write_json(value: Any) -> bytes:
    """Encode a value as JSON text: what JSON knows, and what msgspec turns into it (Structs, dataclasses, dates).

    Raises:
        NotJsonError: NaN or an infinity, a key that is not a string, an object without a JSON form or whose attributes
            raise, a lone surrogate, a circle, a `Raw` that is not JSON.
    """
    try:
        text = _encoder.encode(value)
        _refuse_silent_changes(value)
    except NotJsonError:
        raise
    except Exception as exc:  # an object's own attributes may raise anything
        raise NotJsonError(_why(exc)) from None
    return text


def _why(exc: Exception) -> str:
    if isinstance(exc, RecursionError):
        return "the value is nested too deeply or contains itself"
    if isinstance(exc, UnicodeEncodeError):
        return "a string contains a lone surrogate, which UTF-8 cannot express"
    if isinstance(exc, TypeError):
        return f"a value or a key has no JSON form: {exc}"
    return f"a value has no JSON form ({type(exc).__name__})"


def _refuse_silent_changes(value: Any) -> None:
    pending: list[Any] = [value]
    while pending:
        item = pending.pop()
        if isinstance(item, dict):
            pending += [each for each in _values(item) if type(each) not in _SAFE]
        elif isinstance(item, _COLLECTIONS):
            pending += [each for each in _items(item) if type(each) not in _SAFE]
        elif isinstance(item, float):
            if not math.isfinite(item):
                raise NotJsonError("a number is NaN or infinite; use None or a string instead")
        elif isinstance(item, str | int | bytes):
            continue
        elif isinstance(item, enum.Enum):
            pending.append(item.value)
        elif isinstance(item, msgspec.Raw):
            read_json(bytes(item))
        else:
            pending += [getattr(item, name, None) for name in _members(item.__class__)]


def _items(collection: Any) -> Iterable[Any]:
    items: Iterable[Any] = collection
    return items


def _values(mapping: Any) -> Iterable[Any]:
    for key in mapping:
        if not isinstance(key, str):
            raise NotJsonError(f"a key is of type {type(key).__name__}; JSON keys are strings")
    values: Iterable[Any] = mapping.values()
    return values


def _members(kind: type[Any]) -> Iterable[str]:
    """Return the names of the members that msgspec writes of an object: of a Struct, a dataclass or an attrs class."""
    if issubclass(kind, msgspec.Struct):
        return kind.__struct_fields__
    if dataclasses.is_dataclass(kind):
        return [field.name for field in dataclasses.fields(kind)]
    return [attribute.name for attribute in getattr(kind, "__attrs_attrs__", ())]
