"""What annotations are made of, and which parts of them have no JSON form.

msgspec takes some types at their word and fails at the first value, and ignores constraints that are not its own. Both
are found here before anything runs.
"""

from __future__ import annotations

import collections.abc
import dataclasses
import datetime as dt
import decimal
import enum
import inspect
import sys
import types
import typing
import uuid
from collections.abc import Iterator
from typing import Any, Literal, NamedTuple, TypeVar, cast

import msgspec

__all__ = ["MAPPINGS", "REMEDY", "Part", "is_pydantic", "objection", "parts_of", "unhashable"]


class Part(NamedTuple):
    """A part of an annotation.

    Attributes:
        value: a type, a form of `typing`, or what `Annotated` adds.
        place: the member of a class where it stands, like `Page.url`; empty in the annotation itself.
        is_metadata: whether `Annotated` adds it.
    """

    value: Any
    place: str
    is_metadata: bool = False


def parts_of(annotation: Any) -> Iterator[Part]:
    """Walk an annotation: what it consists of, and the members of its classes, each class once.

    Raises:
        NameError: a member's annotation names what is not there (yet).
    """
    seen: set[Any] = set()
    pending = [Part(annotation, "")]
    while pending:
        part = pending.pop()
        yield part
        if part.is_metadata:
            continue
        origin = _origin(part.value)
        if origin is not Literal:
            arguments = [argument for each in typing.get_args(part.value) for argument in _flat(each)]
            metadata = getattr(part.value, "__metadata__", ())
            pending += [Part(each, part.place) for each in arguments if not any(each is other for other in metadata)]
            pending += [Part(each, part.place, is_metadata=True) for each in metadata]
        if not _has_members(origin) or origin in seen:
            continue
        seen.add(origin)
        pending += [Part(kind, place) for place, kind in _members(origin, part.place)]


def _origin(annotation: Any) -> Any:
    return typing.get_origin(annotation) or annotation


def _flat(argument: Any) -> list[Any]:
    return cast("list[Any]", argument) if isinstance(argument, list) else [argument]  # parameters of a `Callable`


def _has_members(kind: Any) -> bool:
    return isinstance(kind, typing.NewType) or _is_alias(kind) or (isinstance(kind, type) and not is_pydantic(kind))


def _is_alias(kind: Any) -> bool:
    return type(kind).__name__ == "TypeAliasType"  # of `typing` from Python 3.12, of `typing_extensions` before


def _members(kind: Any, place: str) -> list[tuple[str, Any]]:
    if isinstance(kind, typing.NewType):
        return [(place, kind.__supertype__)]
    if _is_alias(kind):
        return [(place or kind.__name__, kind.__value__)]  # a place, so that its own type variables are none
    names = _field_names(kind)
    hints = typing.get_type_hints(kind, include_extras=True) if names else {}
    return [(f"{kind.__name__}.{name}", hints[name]) for name in names if name in hints]


def _field_names(kind: Any) -> list[str]:
    if hasattr(kind, "__struct_fields__"):
        return list(kind.__struct_fields__)
    if dataclasses.is_dataclass(kind):
        return [field.name for field in dataclasses.fields(kind)]
    if _is_typed_dict(kind):
        return list(kind.__annotations__)
    if hasattr(kind, "__attrs_attrs__"):
        return [attribute.name for attribute in kind.__attrs_attrs__]
    return list(getattr(kind, "_fields", ()))  # of a NamedTuple


def _is_typed_dict(kind: Any) -> bool:
    return hasattr(kind, "__required_keys__") and hasattr(kind, "__total__")  # `typing_extensions` has its own


PYDANTIC = ("pydantic", "pydantic_core", "pydantic_settings", "pydantic_extra_types")


def is_pydantic(value: Any) -> bool:
    """Tell whether pydantic has made it, without importing pydantic."""
    if "pydantic" not in sys.modules:
        return False
    kind: type[Any] = value if isinstance(value, type) else type(value)
    names = (base.__module__.partition(".")[0] for base in kind.__mro__)
    return (
        any(name in PYDANTIC for name in names)
        or hasattr(kind, "__get_pydantic_core_schema__")
        or hasattr(kind, "__pydantic_validator__")
    )


def objection(part: Part, *, as_output: bool) -> tuple[str, str] | None:
    """Say what is wrong with a part and what to do, where msgspec would not say it.

    Args:
        part: of an annotation without anything of pydantic's.
        as_output: of what a handler returns.
    """
    if part.is_metadata:
        return _ignored(part.value)
    return (
        (None if part.place else _unnamed(part.value))
        or unhashable(part)
        or _wrong_keys(part.value, as_output=as_output)
        or (("has no JSON form", REMEDY) if _is_foreign(part.value) else None)
    )


def _ignored(metadata: Any) -> tuple[str, str] | None:
    if type(metadata).__module__.partition(".")[0] == "annotated_types":
        return f"has the constraint {metadata!r}, which would be ignored", "write it with msgspec.Meta(...)"
    return None


def _unnamed(annotation: Any) -> tuple[str, str] | None:
    if isinstance(annotation, TypeVar):
        return "is a type variable", "name a type in its place"
    if inspect.isclass(annotation) and getattr(annotation, "__parameters__", None):
        return "is generic", f"say of what, for example {annotation.__name__}[int]"
    return None


def unhashable(part: Part) -> tuple[str, str] | None:
    """Say what is wrong with a part that is a set of what cannot be in one, as `objection` does."""
    first = _first_argument(part.value)
    if _origin(part.value) in SETS and not _is_hashable(first):
        return f"is a set of {_shown(first)}, which cannot be in a set", "use a list"
    return None


def _wrong_keys(annotation: Any, *, as_output: bool) -> tuple[str, str] | None:
    first = _first_argument(annotation)
    if _origin(annotation) in MAPPINGS and not _is_key(first, as_output=as_output):
        return f"has keys that are {_shown(first)}; JSON keys are strings", "use dict[str, ...]"
    return None


def _first_argument(annotation: Any) -> Any:
    return next(iter(typing.get_args(annotation)), Any)


REMEDY = (
    "use a msgspec.Struct, a dataclass, a TypedDict, a pydantic model or plain JSON types, "
    "or leave it unannotated and give a schema"
)

SETS = (set, frozenset, collections.abc.Set, collections.abc.MutableSet)
MAPPINGS = (dict, collections.abc.Mapping, collections.abc.MutableMapping)
TEXTS = (str, dt.datetime, dt.date, dt.time, dt.timedelta, uuid.UUID, decimal.Decimal, bytes, int, float)
UNIONS = (typing.Union, types.UnionType)


def _shown(annotation: Any) -> str:
    return annotation.__name__ if type(annotation) is type else repr(annotation)


def _bare(annotation: Any) -> Any:
    """Take off what wraps a type and changes nothing about its values' Python type."""
    while True:
        origin = typing.get_origin(annotation)
        if origin is typing.Annotated:
            annotation = annotation.__origin__
        elif isinstance(annotation, typing.NewType):
            annotation = annotation.__supertype__
        elif _is_alias(annotation):
            annotation = annotation.__value__
        else:
            return annotation


def _is_hashable(annotation: Any) -> bool:
    kind = _bare(annotation)
    origin = _origin(kind)
    arguments = typing.get_args(kind)
    if origin in UNIONS:
        return all(map(_is_hashable, arguments))
    if origin is tuple:
        return all(_is_hashable(each) for each in arguments if each is not Ellipsis)
    if origin is frozenset or not inspect.isclass(origin):
        return True
    if issubclass(origin, msgspec.Struct):
        return bool(origin.__struct_config__.frozen)
    return getattr(origin, "__hash__", None) is not None and not _is_typed_dict(origin) and origin not in MAPPINGS


def _is_key(annotation: Any, *, as_output: bool) -> bool:
    kind = _bare(annotation)
    if kind in (Any, object) or isinstance(kind, TypeVar):
        return True
    origin = _origin(kind)
    arguments = typing.get_args(kind)
    if origin in UNIONS:
        return all(_is_key(each, as_output=as_output) for each in arguments)
    if origin is Literal:
        return all(isinstance(each, str if as_output else str | int) for each in arguments)
    if not isinstance(origin, type):
        return False
    if issubclass(origin, enum.Enum):
        return issubclass(origin, str) or not as_output
    return origin is str if as_output else origin in TEXTS


def _is_foreign(value: Any) -> bool:
    """Tell whether msgspec would hand the type over to a hook, which there is not."""
    origin = _origin(value)
    if value in (Any, object, msgspec.UnsetType) or isinstance(value, TypeVar):
        return False
    if _is_record(origin):
        return False
    try:
        found: Any = msgspec.inspect.type_info(value)
    except Exception:  # it has a word of its own for this, in the decoder
        return False
    return isinstance(found, msgspec.inspect.CustomType)


def _is_record(kind: Any) -> bool:
    return inspect.isclass(kind) and (
        issubclass(kind, msgspec.Struct)
        or dataclasses.is_dataclass(kind)
        or _is_typed_dict(kind)
        or hasattr(kind, "__attrs_attrs__")
    )
