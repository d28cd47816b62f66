"""From a handler's annotations to converters and schemas; msgspec does the work, here it gets its words."""

from __future__ import annotations

import inspect
import re
import typing
from collections.abc import Callable, Mapping
from typing import Any, TypeGuard

import msgspec

from .jsontext import NotJsonError, read_json

__all__ = ["Converter", "Mismatch", "annotations_of", "converter_for"]


class Mismatch(ValueError):
    """A value does not fit its schema or type. Carries where and which rule, never the value.

    Attributes:
        path: JSON pointer into the value, `""` for the whole.
        rule: JSON Schema keyword that is broken.
        schema_path: JSON pointer into the schema, `""` for an annotation.
    """

    def __init__(self, message: str, *, path: str, rule: str, schema_path: str = "") -> None:
        super().__init__(message)
        self.path = path
        self.rule = rule
        self.schema_path = schema_path


class Converter:
    """JSON text to one annotated type.

    Attributes:
        is_typed: False for `Any`, `object` and no annotation, where decoded JSON is given as it is.
        schema: the type's JSON Schema, None where anything goes.
    """

    __slots__ = ("_decoder", "is_typed", "schema")

    def __init__(self, decoder: msgspec.json.Decoder[Any] | None, schema: Mapping[str, Any] | None) -> None:
        self._decoder = decoder
        self.is_typed = decoder is not None
        self.schema = schema

    def read(self, text: bytes) -> Any:
        """Return the value of the annotated type.

        Raises:
            Mismatch: the value does not fit.
            NotJsonError: the text is not JSON.
        """
        if self._decoder is None:
            return read_json(text)
        try:
            return self._decoder.decode(text)
        except msgspec.ValidationError as exc:
            raise _mismatch(exc) from None
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
            raise NotJsonError(f"not readable as JSON ({type(exc).__name__})") from None
        except Exception:  # msgspec lets pass what a type's own `__post_init__` raises, but for two kinds
            raise Mismatch(OWN_CHECK, path="", rule="type") from None


def annotations_of(
    function: Callable[..., Any], capability: str, local_names: Mapping[str, Any]
) -> tuple[Any, Any, bool]:
    """Return the input's annotation, the output's, and whether there is a parameter for the context.

    Raises:
        TypeError: the function cannot be called with an input and a context, or an annotation cannot be resolved.
    """
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        raise TypeError(
            f"capability {capability!r}: the decorator goes on a function, def handler(input, ctx), not on {function!r}"
        ) from None
    takes = [parameter for parameter in parameters if parameter.kind in positional]
    extra = [p.name for p in parameters if p not in takes[:2] and p.default is p.empty and p.kind != p.VAR_KEYWORD]
    if not takes or extra:
        raise TypeError(
            f"capability {capability!r}: a handler takes the input, and if it wants one a LeaseContext: "
            f"def handler(input, ctx). This one has {_signature(function)}"
        )
    target: Any = function
    while not inspect.isroutine(target) and hasattr(target, "func"):
        target = target.func
    if not inspect.isroutine(target) and not inspect.isclass(target):
        target = type(target).__call__
    try:
        hints = typing.get_type_hints(target, localns=dict(local_names), include_extras=True)
    except NameError as exc:
        raise TypeError(
            f"capability {capability!r}: the annotation {exc.name!r} cannot be found when the decorator runs; "
            "define or import it above the handler, outside `if TYPE_CHECKING`"
        ) from None
    except Exception as exc:  # an annotation is code
        raise TypeError(
            f"capability {capability!r}: an annotation cannot be evaluated ({exc}); mend it, or leave it out"
        ) from None
    takes_context = len(takes) > 1 and (takes[1].default is takes[1].empty or takes[1].name == "ctx")
    return hints.get(takes[0].name, Any), hints.get("return", Any), takes_context


def _signature(function: Callable[..., Any]) -> str:
    return f"{getattr(function, '__qualname__', function)}{inspect.signature(function)}"


def converter_for(annotation: Any, capability: str, place: str) -> Converter:
    """Return the converter for an annotation.

    Raises:
        TypeError: msgspec cannot express it; the message names the place, the type and the remedy.
    """
    if annotation in (Any, object):
        return Converter(None, None)
    if annotation is None:
        annotation = type(None)
    try:
        decoder = msgspec.json.Decoder(annotation)
        schema = _with_short_descriptions(msgspec.json.schema(annotation))
    except Exception as exc:  # a Struct's annotations are evaluated only now
        raise TypeError(
            f"capability {capability!r}: {place} is annotated {annotation!r}, which has no JSON form "
            f"({str(exc).splitlines()[-1]}); use a msgspec.Struct or plain JSON types, or leave it unannotated and "
            "give a schema"
        ) from None
    return Converter(decoder, schema)


def _with_short_descriptions(schema: Any) -> Any:
    """Cut docstrings, which msgspec takes over whole, to their first paragraph on one line."""
    if _is_array(schema):
        return [_with_short_descriptions(item) for item in schema]
    if not _is_object(schema):
        return schema
    return {
        name: " ".join(value.split("\n\n")[0].split())
        if name == "description" and isinstance(value, str)
        else _with_short_descriptions(value)
        for name, value in schema.items()
    }


def _is_array(value: object) -> TypeGuard[list[Any]]:
    return isinstance(value, list)


def _is_object(value: object) -> TypeGuard[dict[str, Any]]:
    return isinstance(value, dict)


OWN_CHECK = "the type's own check refused the value"

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
    "format": "the text does not have the form that its type wants",
}
"""What is said in place of msgspec's own words, where these may quote the value."""


def _mismatch(error: msgspec.ValidationError) -> Mismatch:
    """Say what msgspec found, without the value that it may quote."""
    # A check of the type's own is the cause; msgspec adds the place to whatever that said.
    said = "" if error.__cause__ is None else str(error.__cause__)
    text = str(error).removeprefix(said)
    place = _PLACE.fullmatch(text)
    message, steps = (text, "") if place is None else (place[1], place[2])
    path = "".join(f"/{name or index}" for name, index in _STEP.findall(steps))
    rule = next((rule for start, rule in _RULES if message.startswith(start)), "type")
    if rule in _QUOTING:
        message = _QUOTING[rule]
    elif not message.startswith(("Expected ", "Object missing ", "Number out of range")):
        message = OWN_CHECK
    return Mismatch(f"{message} at {path or 'the top'}", path=path, rule=rule)
