"""Patterns of annotated types, matched in linear time before msgspec matches them with Python's `re`.

`re` backtracks: `^(a+)+$` takes a second for 24 characters and twice as long for each one more, and inputs come from
outside. The guard is a schema that asks for nothing but the patterns, judged by the engine that runs in linear time;
what it refuses never reaches msgspec, and everything else is msgspec's to judge and to explain. Inside a union, where a
pattern is one way among others, the guard asks for all that the union does.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final, TypeAlias, cast

from .mismatch import Mismatch, pointer
from .schemas import InvalidSchema, Validator, registered_validator

__all__ = ["PatternGuard", "guard_for"]

Json: TypeAlias = dict[str, Any]

_WALKED: Final = ("properties", "additionalProperties", "items", "prefixItems", "propertyNames")
"""Where msgspec's schemas have schemas of what is inside a value."""

_REF: Final = "#/$defs/"
_WHOLE: Final = "whole."
"""Before the names of definitions as they were, for unions."""


class PatternGuard:
    """Refuses what breaks a pattern.

    Args:
        validator: of the patterns alone.
        names: of the members that the type declares; others are content, and are not shown.
    """

    __slots__ = ("_names", "_validator")

    def __init__(self, validator: Validator, names: Iterable[str]) -> None:
        self._validator = validator
        self._names = frozenset(names)

    def check(self, value: Any) -> None:
        """Let decoded JSON pass.

        Raises:
            Mismatch: a text breaks its pattern, or the members of a union do not fit it.
        """
        violation = self._validator.check(value)
        if violation is None:
            return
        if violation.rule in ("limit", "schema"):
            raise Mismatch(violation.message, path="", rule=violation.rule)
        path = pointer(*self._shown(violation.path, value))
        what = (
            "the text does not match its pattern"
            if violation.rule == "pattern"
            else "the value fits no type of its union"
        )
        raise Mismatch(f"{what} at {path or 'the top'}", path=path, rule=violation.rule)

    def _shown(self, path: str, value: Any) -> Iterator[str]:
        """Follow a path in a value; names that the type does not declare are left out."""
        here = value
        for step in path.split("/")[1:]:
            if isinstance(here, list):
                yield step
                here = cast("list[Any]", here)[int(step)]
            else:
                name = step.replace("~1", "/").replace("~0", "~")
                yield name if name in self._names else "..."
                here = here[name]


def guard_for(schema: Json) -> PatternGuard | None:
    """Return a guard for the schema that msgspec made of a type.

    Returns:
        None where there is no pattern, or one that needs more than linear time (look-around, back-references).
    """
    definitions: Json = schema.get("$defs", {})
    matching: set[str] = set()
    while found := {name for name in definitions if name not in matching and _matches(definitions[name], matching)}:
        matching |= found
    top = {name: part for name, part in schema.items() if name != "$defs"}
    if not _matches(top, matching):
        return None
    guard = _patterns(top, matching)
    guard["$defs"] = {name: _patterns(part, matching) for name, part in definitions.items()} | {
        f"{_WHOLE}{name}": _whole(part) for name, part in definitions.items()
    }
    try:
        return PatternGuard(registered_validator(guard), _names(schema))
    except InvalidSchema:
        return None


def _matches(schema: Any, matching: set[str]) -> bool:
    """Tell whether a schema matches texts by patterns, itself or through these definitions."""
    if isinstance(schema, list):
        return any(_matches(each, matching) for each in cast("list[Any]", schema))
    if not isinstance(schema, dict):
        return False
    members = cast("Json", schema)
    if isinstance(members.get("pattern"), str) or str(members.get("$ref")).removeprefix(_REF) in matching:
        return True
    return any(_matches(each, matching) for each in members.values())


def _patterns(schema: Any, matching: set[str]) -> Any:
    """Return a schema without anything but its patterns."""
    if not _matches(schema, matching):
        return {}
    kept: Json = {name: schema[name] for name in ("pattern", "$ref") if name in schema}
    if _matches(schema.get("anyOf"), matching):
        kept["anyOf"] = _whole(schema["anyOf"])
    for name in _WALKED:
        part = schema.get(name)
        if name == "properties" and part is not None:
            kept[name] = {key: _patterns(each, matching) for key, each in part.items()}
        elif isinstance(part, list):
            kept[name] = [_patterns(each, matching) for each in cast("list[Any]", part)]
        elif isinstance(part, dict):
            kept[name] = _patterns(part, matching)
    return kept


def _whole(schema: Any) -> Any:
    """Return a schema as it is, but with references to the definitions as they were."""
    if isinstance(schema, list):
        return [_whole(each) for each in cast("list[Any]", schema)]
    if not isinstance(schema, dict):
        return schema
    return {
        name: f"{_REF}{_WHOLE}{part.removeprefix(_REF)}" if name == "$ref" else _whole(part)
        for name, part in cast("Json", schema).items()
    }


def _names(schema: Any) -> Iterator[str]:
    """Walk the names of all members that a schema declares."""
    if isinstance(schema, dict):
        members = cast("Json", schema)
        yield from members.get("properties", ())
        schema = list(members.values())
    if isinstance(schema, list):
        for each in cast("list[Any]", schema):
            yield from _names(each)
