"""A value that does not fit its type: where and which rule, in words that never quote the value (promise C9)."""

from __future__ import annotations

import re

import msgspec

__all__ = ["BAD_FORM", "OWN_CHECK", "Mismatch", "mismatch_of", "pointer"]

OWN_CHECK = "the type's own check refused the value"
BAD_FORM = "the text does not have the form that its type wants"


class Mismatch(ValueError):
    """A value does not fit its schema or type. Carries where and which rule, never the value.

    Attributes:
        path: JSON pointer into the value, `""` for the whole. A member that the type does not name is `...`.
        rule: JSON Schema keyword that is broken.
        schema_path: JSON pointer into the schema, `""` for an annotation.
    """

    def __init__(self, message: str, *, path: str, rule: str, schema_path: str = "") -> None:
        super().__init__(message)
        self.path: str = path
        self.rule: str = rule
        self.schema_path: str = schema_path


def pointer(*steps: object) -> str:
    """Return the steps as a JSON pointer."""
    return "".join(f"/{str(step).replace('~', '~0').replace('/', '~1')}" for step in steps)


_PLACE = re.compile(r"(.*) - at `(?:key` in `)?\$(.*)`", re.DOTALL)
_STEP = re.compile(r"\.([^.\[\]]+)|\[(\d+|\.\.\.)\]")
_RULES = (
    ("Object missing required field", "required"),
    ("Object contains unknown field", "additionalProperties"),
    ("Expected `str` of length >", "minLength"),
    ("Expected `str` of length", "maxLength"),
    ("Expected `array` of length >", "minItems"),
    ("Expected `array` of length", "maxItems"),
    ("Expected `object` of length >", "minProperties"),
    ("Expected `object` of length", "maxProperties"),
    ("Expected `str` matching regex", "pattern"),
    ("Expected `int` that's a multiple of", "multipleOf"),
    ("Expected `float` that's a multiple of", "multipleOf"),
    ("Expected `int` >=", "minimum"),
    ("Expected `int` >", "exclusiveMinimum"),
    ("Expected `int` <=", "maximum"),
    ("Expected `int` <", "exclusiveMaximum"),
    ("Expected `float` >=", "minimum"),
    ("Expected `float` >", "exclusiveMinimum"),
    ("Expected `float` <=", "maximum"),
    ("Expected `float` <", "exclusiveMaximum"),
    ("Invalid enum value", "enum"),
    ("Expected ", "type"),
    ("Invalid ", "format"),
)
_QUOTING = {
    "enum": "the value is not one of those allowed",
    "additionalProperties": "an undeclared member is there",
    "format": BAD_FORM,
}
"""What is said in place of msgspec's own words, where these may quote the value."""


def mismatch_of(error: msgspec.ValidationError) -> Mismatch:
    """Say what msgspec found, without the value that it may quote."""
    # A check of the type's own is the cause; msgspec adds the place to whatever that said.
    said = "" if error.__cause__ is None else str(error.__cause__)
    text = str(error).removeprefix(said)
    place = _PLACE.fullmatch(text)
    message, steps = (text, "") if place is None else (place[1], place[2])
    path = pointer(*(name or index for name, index in _STEP.findall(steps)))
    rule = next((rule for start, rule in _RULES if message.startswith(start)), "type")
    if rule in _QUOTING:
        message = _QUOTING[rule]
    elif not message.startswith(("Expected ", "Object missing ", "Number out of range")):
        message = OWN_CHECK
    return Mismatch(f"{message} at {path or 'the top'}", path=path, rule=rule)
