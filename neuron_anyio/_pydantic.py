"""Annotations that are pydantic's, or have a part that is: pydantic judges, here it gets our words.

This file imports pydantic, and is itself imported for such annotations alone.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any, cast

import pydantic
from pydantic_core import PydanticSerializationError

from .jsontext import NotJsonError, read_json, write_json
from .mismatch import BAD_FORM, OWN_CHECK, Mismatch, pointer

__all__ = ["PydanticConverter"]


class PydanticConverter:
    """JSON text to a pydantic type and back.

    Input goes through its validators. Output is taken as an instance or as what makes one, and written by its
    serializers, by alias. An instance is believed as far as pydantic believes it: not looked into again unless its
    configuration says so, but for the types of its fields.

    Args:
        annotation: as a whole, whatever part of it is pydantic's.
        as_output: whether a handler returns it; the schema is then the one of what its serializers write.

    Attributes:
        schema: the type's JSON Schema.

    Raises:
        NameError: it names what is not there (yet).
        Exception: pydantic cannot use it, or has no JSON Schema for it.
    """

    __slots__ = ("_adapter", "_names", "schema")

    def __init__(self, annotation: Any, *, as_output: bool) -> None:
        try:
            self._adapter: pydantic.TypeAdapter[Any] = pydantic.TypeAdapter(annotation)
            self.schema: Mapping[str, Any] | None = self._adapter.json_schema(
                mode="serialization" if as_output else "validation"
            )
            declared = self.schema if not as_output else self._adapter.json_schema(mode="validation")
        except pydantic.PydanticUserError as exc:
            if exc.code == "class-not-fully-defined":
                raise NameError(exc.message.splitlines()[0]) from None
            raise
        self._names = frozenset(_property_names(declared))

    def read(self, text: bytes) -> Any:
        """Return the value of the annotated type.

        Raises:
            Mismatch: the value does not fit.
            NotJsonError: the text is not JSON.
        """
        return self.fit(read_json(text), text)  # pydantic's reader takes NaN

    def fit(self, document: Any, text: bytes) -> Any:
        """Return what `read` does, where the text is decoded already."""
        try:
            return self._adapter.validate_json(text)
        except pydantic.ValidationError as exc:
            raise self._mismatch(exc, document) from None
        except Exception:  # what a validator raises, but for two kinds
            raise Mismatch(OWN_CHECK, path="", rule="type") from None

    def write(self, value: Any) -> bytes:
        """Return a handler's value as JSON text.

        Raises:
            Mismatch: it is not what the annotation says.
            NotJsonError: JSON cannot express it.
        """
        try:
            fitting = self._adapter.validate_python(value)
        except pydantic.ValidationError as exc:
            raise self._mismatch(exc, value) from None
        except Exception:  # what a validator raises, but for two kinds
            raise Mismatch(OWN_CHECK, path="", rule="type") from None
        try:
            plain = self._adapter.dump_python(fitting, mode="json", by_alias=True, warnings="error")
            text = write_json(plain)
            if b"null" in text:
                _refuse_lost_numbers(self._adapter.dump_python(fitting, warnings=False))
        except PydanticSerializationError as exc:
            if str(exc).startswith("Pydantic serializer warnings"):
                raise Mismatch("a member does not have its type", path="", rule="type") from None
            raise NotJsonError("a value has no JSON form (its serializer failed)") from None
        except NotJsonError:
            raise
        except Exception as exc:
            raise NotJsonError(f"a value has no JSON form ({type(exc).__name__})") from None
        return text

    def _mismatch(self, error: pydantic.ValidationError, document: Any) -> Mismatch:
        """Say what pydantic found first, without the value, which its own words may quote."""
        found = error.errors(include_url=False, include_context=False, include_input=False)[0]
        kind: str = found["type"]
        if kind == "json_invalid" and not found["loc"] and not isinstance(document, str):  # deeper than its reader goes
            raise NotJsonError("not readable as JSON (nested too deeply)") from None
        path = pointer(*self._steps(found["loc"], document))
        rule, message = _RULES.get(kind) or _rule(kind)
        if kind == "missing" and found["loc"][-1] in self._names:
            message = f"the member `{found['loc'][-1]}` is missing"
        return Mismatch(f"{message} at {path or 'the top'}", path=path, rule=rule)

    def _steps(self, location: tuple[int | str, ...], document: Any) -> Iterator[int | str]:
        """Follow pydantic's location in the document; it also names the members of unions that were tried."""
        here = document
        for step in location:
            if isinstance(step, str) and isinstance(here, Mapping) and step in here:
                yield step if step in self._names else "..."
            elif isinstance(step, int) and isinstance(here, list | tuple) and step < len(cast("list[Any]", here)):
                yield step
            else:
                continue
            here = cast("Any", here)[step]


def _refuse_lost_numbers(value: Any) -> None:
    """Look for numbers that pydantic has written as null (promise L11.10)."""
    if isinstance(value, float) and not math.isfinite(value):
        raise NotJsonError("a number is NaN or infinite; use None or a string instead")
    if isinstance(value, dict):
        value = list(cast("dict[Any, Any]", value).values())
    if isinstance(value, list | tuple | set | frozenset):
        for item in cast("list[Any]", value):
            _refuse_lost_numbers(item)


def _property_names(schema: Any) -> Iterator[str]:
    if isinstance(schema, list):
        for item in cast("list[Any]", schema):
            yield from _property_names(item)
    elif isinstance(schema, dict):
        for name, value in cast("dict[str, Any]", schema).items():
            if name == "properties" and isinstance(value, dict):
                yield from cast("dict[str, Any]", value)
            yield from _property_names(value)


_RULES = {
    "missing": ("required", "a member is missing"),
    "union_tag_not_found": ("required", "the member that tells the kinds apart is missing"),
    "extra_forbidden": ("additionalProperties", "an undeclared member is there"),
    "string_too_short": ("minLength", "the text is too short"),
    "string_too_long": ("maxLength", "the text is too long"),
    "bytes_too_short": ("minLength", "the text is too short"),
    "bytes_too_long": ("maxLength", "the text is too long"),
    "too_short": ("minItems", "there are too few items"),
    "too_long": ("maxItems", "there are too many items"),
    "string_pattern_mismatch": ("pattern", "the text does not match the pattern"),
    "greater_than": ("exclusiveMinimum", "the number is too small"),
    "greater_than_equal": ("minimum", "the number is too small"),
    "less_than": ("exclusiveMaximum", "the number is too large"),
    "less_than_equal": ("maximum", "the number is too large"),
    "multiple_of": ("multipleOf", "the number is not a multiple of what it must be"),
    "literal_error": ("enum", "the value is not one of those allowed"),
    "enum": ("enum", "the value is not one of those allowed"),
    "union_tag_invalid": ("enum", "the value is not one of those allowed"),
    "value_error": ("type", OWN_CHECK),
    "assertion_error": ("type", OWN_CHECK),
}
"""pydantic's kinds of errors, as keywords of JSON Schema and in words of ours."""

_FORMS = ("date_", "datetime_", "time_", "time_delta_", "timezone_", "uuid_", "url_", "decimal_", "bytes_invalid")


def _rule(kind: str) -> tuple[str, str]:
    if kind.endswith("_type") or kind in ("int_parsing", "int_from_float", "float_parsing", "bool_parsing"):
        return "type", "the value does not have the type that is wanted"
    if kind.startswith(_FORMS):
        return "format", BAD_FORM
    return "type", OWN_CHECK
