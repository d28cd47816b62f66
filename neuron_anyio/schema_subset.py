"""The part of JSON Schema that is safe to turn into Python code.

fastjsonschema writes a validator as Python source and executes it. It may only be given what can do no harm there, for
any instance: keywords that end quickly and never raise, names and texts that no quoting can break, references that
cannot be confused, no recursion, few and shallow subschemas. Everything else goes to the other engine, which needs no
such care; so each rule here may be as narrow as is easy to see to be right.

Left out, with the reason: `pattern` and `patternProperties` (backtracking), `format` (the same, and not asserted),
`uniqueItems` (unhashable items), `multipleOf` (raises for large numbers, wrong for large floats), `content...` (change
the value), identifiers (change what references mean), and keywords that the draft does not know.
"""

from __future__ import annotations

import re
from typing import Any, Final, cast

from .schema_refs import Schema, subschemas

__all__ = ["is_plain"]

MAX_DEPTH: Final = 8
"""Schemas inside one another: Python allows 20 blocks in a function, and a schema takes two at most."""

MAX_SUBSCHEMAS: Final = 500
"""Some hundred lines of generated code a dozen: a tenth of a second to compile."""

MAX_OPTIONS: Final = 200
"""Of one `enum`, which becomes one expression."""

MAX_EXACT: Final = 1 << 53
"""Numbers up to here are the same as integers and as floats."""

ANNOTATIONS: Final = frozenset({"$comment", "default", "description", "examples", "readOnly", "title", "writeOnly"})

_KEYWORDS_4: Final = frozenset(
    {
        "$ref", "$schema", "additionalItems", "additionalProperties", "allOf", "anyOf", "default", "definitions",
        "dependencies", "description", "enum", "exclusiveMaximum", "exclusiveMinimum", "items", "maxItems", "maxLength",
        "maxProperties", "maximum", "minItems", "minLength", "minProperties", "minimum", "not", "oneOf", "properties",
        "required", "title", "type",
    }
)  # fmt: skip
_KEYWORDS_6: Final = _KEYWORDS_4 | {"const", "contains", "examples", "propertyNames"}
_KEYWORDS_7: Final = _KEYWORDS_6 | {"$comment", "else", "if", "readOnly", "then", "writeOnly"}
KEYWORDS: Final = {4: _KEYWORDS_4, 6: _KEYWORDS_6, 7: _KEYWORDS_7}
"""By draft: what a draft does not know, its metaschema has not looked at."""

BOUNDS: Final = (
    "maxItems", "maxLength", "maxProperties", "maximum", "minItems", "minLength", "minProperties", "minimum",
    "exclusiveMaximum", "exclusiveMinimum",
)  # fmt: skip

# Letters, digits and what neither Python nor its format strings give a meaning to.
_PLAIN_TEXT: Final = re.compile(r"[A-Za-z0-9_ .,:;/@+-]{0,100}")
_DEFINITION: Final = re.compile(r"[A-Za-z0-9_-]{1,100}")
_DEFINITIONS: Final = "#/definitions/"


def is_plain(root: Schema, *, draft: int) -> bool:
    """Tell whether a schema keeps to the part that is safe.

    Args:
        root: a schema that its metaschema accepts and that is not recursive.
        draft: its draft's number; only 4, 6 and 7 have such a part.
    """
    if draft not in KEYWORDS:
        return False
    waiting = [(root, 1)]
    count = 0
    while waiting:
        schema, depth = waiting.pop()
        count += 1
        if depth > MAX_DEPTH or count > MAX_SUBSCHEMAS or not _is_plain_alone(schema, root, draft):
            return False
        waiting.extend((each, depth + 1) for _, each in subschemas(schema) if isinstance(each, dict))
    return _are_distinct(root.get("definitions") or {})


def _is_plain_alone(schema: Schema, root: Schema, draft: int) -> bool:
    return (
        schema.keys() <= KEYWORDS[draft]
        and not any(isinstance(schema.get(annotation), dict) for annotation in ANNOTATIONS)
        and all(_is_plain_number(schema[bound]) for bound in BOUNDS if bound in schema)
        and all(_is_plain_text(name) for name in _names(schema))
        and _is_plain_choice(schema)
        and ("$ref" not in schema or _is_plain_reference(schema["$ref"], root))
        and (schema is root or not schema.keys() & {"$schema", "definitions"})
    )


def _names(schema: Schema) -> list[Any]:
    """List every member's name that goes into the generated code."""
    names = [*schema.get("properties", ()), *schema.get("required", ())]
    for name, needed in schema.get("dependencies", {}).items():
        names += [name, *(cast("list[Any]", needed) if isinstance(needed, list) else ())]
    return names


def _is_plain_choice(schema: Schema) -> bool:
    options = [*schema.get("enum", ()), *([schema["const"]] if "const" in schema else ())]
    return len(options) <= MAX_OPTIONS and all(
        option is None or _is_plain_text(option) or _is_plain_number(option) for option in options
    )


def _is_plain_text(value: Any) -> bool:
    return isinstance(value, str) and _PLAIN_TEXT.fullmatch(value) is not None


def _is_plain_number(value: Any) -> bool:
    return isinstance(value, int | float) and abs(value) <= MAX_EXACT


def _is_plain_reference(reference: str, root: Schema) -> bool:
    return reference.startswith(_DEFINITIONS) and reference.removeprefix(_DEFINITIONS) in root.get("definitions", ())


def _are_distinct(definitions: Schema) -> bool:
    """Tell whether no two definitions become one function, whose name keeps letters and digits only, in lower case."""
    names = {re.sub(r"[^a-z0-9]", "_", name.lower()).strip("_") for name in definitions}
    return len(names) == len(definitions) and all(_DEFINITION.fullmatch(name) for name in definitions)
