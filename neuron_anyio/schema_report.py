"""What is said when a value breaks its schema, or when a schema cannot be used.

The law of this file: what is said comes from the schema, from the rule and from positions, never from the value. The
engine's own messages quote the value, so none of them is ever passed on; its errors are read for their places and for
what the schema asked.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Final

import msgspec

if TYPE_CHECKING:
    import jsonschema_rs

__all__ = [
    "NAMED",
    "InvalidSchema",
    "Violation",
    "limit_violation",
    "pointer",
    "quote",
    "report",
    "unlocated_violation",
]

MAX_QUOTED: Final = 100
"""Characters of the schema's own text that a message shows: a line is for reading, an `enum` may have thousands."""

MAX_POINTER: Final = 1000
"""Characters of a pointer. A member's name may be as long as the value; the pointer then ends at an ancestor."""

NAMED: Final = frozenset(
    {"properties", "patternProperties", "dependentSchemas", "dependencies", "definitions", "$defs"}
)
"""Keywords whose members are names with a schema each, so that the step after them in a path is no keyword."""


class InvalidSchema(ValueError):
    """A schema cannot be used: it is no schema, leads outside itself, or could take endless work.

    The message says where and why, and shows nothing but the schema. You get a `Violation` instead when the schema
    is fine and the value is not.
    """


class Violation(msgspec.Struct, frozen=True):
    """How a value breaks its schema, without the value.

    Attributes:
        path: JSON pointer into the value, `""` for the whole of it.
        rule: The keyword that is broken; `limit` when the value could not be judged within bounds, `schema` when it is
            too large to say which.
        schema_path: JSON pointer into the schema, `""` where there is none to name.
        message: One line for people.
    """

    path: str
    rule: str
    schema_path: str
    message: str


def limit_violation(message: str) -> Violation:
    """Make the violation of a value that cannot be judged within bounds."""
    return Violation(path="", rule="limit", schema_path="", message=message)


def unlocated_violation() -> Violation:
    """Make the violation of a value that breaks its schema at a place that would cost too much to find."""
    return Violation(
        path="",
        rule="schema",
        schema_path="",
        message="the value does not match its schema; it is too large or too deep for the place to be found",
    )


def quote(value: Any) -> str:
    """Write a value of the schema on one line, cut where it gets long."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    if not text.isprintable():
        text = json.dumps(value, default=str)
    return _cut(text)


def _printable(text: str) -> str:
    return text if text.isprintable() else ascii(text)


def _cut(text: str) -> str:
    return text if len(text) <= MAX_QUOTED else f"{text[:MAX_QUOTED]}..."


def pointer(steps: Iterable[str | int]) -> str:
    """Write steps as a JSON pointer (RFC 6901), ending at an ancestor where the whole would be too long."""
    text = ""
    for step in steps:
        token = str(step).replace("~", "~0").replace("/", "~1")
        if len(text) + 1 + len(token) > MAX_POINTER:
            break
        text = f"{text}/{token}"
    return text


def report(error: jsonschema_rs.ValidationError, *, of_schema: bool = False) -> Violation:
    """Turn the engine's error into a violation.

    Args:
        error: What the engine raised.
        of_schema: Whether the judged value is itself a schema, so that its members' names may be shown. Else a name
            that the schema does not say itself is shown as `*`.
    """
    kind, evaluated = error.kind.name, error.evaluation_path
    rule = kind if kind == "propertyNames" else _keyword(evaluated)
    said = {step for step in evaluated if isinstance(step, str)}
    shown = [step if of_schema or isinstance(step, int) or step in said else "*" for step in error.instance_path]
    where = _printable(_cut(pointer(shown))) or ("the schema" if of_schema else "the value")
    return Violation(
        path=pointer(error.instance_path),
        rule=rule,
        schema_path=pointer(error.schema_path),
        message=f"{where} breaks `{rule}`: {_demand(error.kind, rule)}",
    )


def _keyword(evaluation_path: list[str | int]) -> str:
    """Find the last keyword of a path, stepping over the names and indexes between keywords."""
    keyword, name_next = "false", False
    for step in evaluation_path:
        if name_next or isinstance(step, int):
            name_next = False
            continue
        keyword, name_next = step, step in NAMED
    return keyword


def _demand(kind: Any, rule: str) -> str:
    """Say what the schema asked for."""
    if rule in _COUNTS:
        return _COUNTS[rule]
    return _DEMANDS.get(kind.name, _breaks)(kind.value)


def _breaks(_: Any) -> str:
    return "the schema asks otherwise"


def _fixed(text: str) -> Callable[[Any], str]:
    return lambda _: text


def _quoted(text: str) -> Callable[[Any], str]:
    return lambda wanted: text.format(quote(wanted))


_COUNTS: Final = {
    "minContains": "too few items match `contains`",
    "maxContains": "too many items match `contains`",
}

_UNDECLARED_MEMBER: Final = _fixed("a member is there that the schema does not declare")
_UNDECLARED_ITEM: Final = _fixed("an item is there that the schema does not declare")

# Keyed by the engine's name for what went wrong. Each entry is given what the schema asked for, except where the engine
# hands out parts of the value there (undeclared members, the errors of alternatives): those are fixed texts.
_DEMANDS: Final[dict[str, Callable[[Any], str]]] = {
    "type": lambda types: f"must be of type {' or '.join(types)}",
    "required": _quoted("the member {} is missing"),
    "enum": _quoted("must be one of {}"),
    "const": _quoted("must be {}"),
    "minimum": _quoted("must be at least {}"),
    "maximum": _quoted("must be at most {}"),
    "exclusiveMinimum": _quoted("must be more than {}"),
    "exclusiveMaximum": _quoted("must be less than {}"),
    "multipleOf": _quoted("must be a multiple of {}"),
    "minLength": _quoted("must have at least {} characters"),
    "maxLength": _quoted("must have at most {} characters"),
    "minItems": _quoted("must have at least {} items"),
    "maxItems": _quoted("must have at most {} items"),
    "minProperties": _quoted("must have at least {} members"),
    "maxProperties": _quoted("must have at most {} members"),
    "pattern": _quoted("must match the pattern {}"),
    "format": _quoted("must be a {}"),
    "contentEncoding": _quoted("must be text in the encoding {}"),
    "contentMediaType": _quoted("must be text of the media type {}"),
    "uniqueItems": _fixed("no two items may be equal"),
    "contains": _fixed("no item matches the schema under `contains`"),
    "propertyNames": _fixed("a member's name does not match the schema for names"),
    "additionalProperties": _UNDECLARED_MEMBER,
    "unevaluatedProperties": _UNDECLARED_MEMBER,
    "additionalItems": _UNDECLARED_ITEM,
    "unevaluatedItems": _UNDECLARED_ITEM,
    "anyOf": _fixed("matches none of the alternatives"),
    "oneOf": _fixed("must match exactly one of the alternatives"),
    "not": _fixed("matches what the schema forbids"),
    "falseSchema": _fixed("the schema allows nothing here"),
}
