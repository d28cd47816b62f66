"""From a handler's annotations to converters and schemas; msgspec or pydantic does the work, here it gets its words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, TypeGuard, get_args, get_origin

import msgspec

from .jsonforms import MAPPINGS, REMEDY, Part, is_pydantic, objection, parts_of, unhashable
from .jsontext import NotJsonError, read_json, write_json
from .mismatch import OWN_CHECK, Mismatch, mismatch_of
from .pattern_guard import guard_for
from .schemas import Validator

__all__ = ["Converter", "Mismatch", "converter_for", "judge"]

VALUES = ("const", "default", "enum", "examples")
"""Keywords of a schema that hold values, not schemas."""

NAMED = ("$defs", "patternProperties", "properties")
"""Keywords that hold schemas by names of one's own."""

NARROWING = {"maxLength", "minLength", "pattern"}
"""What says more of a decimal's text than msgspec does; whoever wrote it means text."""


class Converter(Protocol):
    """JSON text to one annotated type and back.

    Attributes:
        schema: the type's JSON Schema, None where anything goes.
    """

    schema: Mapping[str, Any] | None

    def read(self, text: bytes) -> Any:
        """Return the value of the annotated type.

        Raises:
            Mismatch: the value does not fit.
            NotJsonError: the text is not JSON.
        """
        ...

    def fit(self, document: Any, text: bytes) -> Any:
        """Return what `read` does, where the text is decoded already: that is done once if the type allows it.

        Args:
            document: what `read_json` made of the text; it may be the value that is returned.
            text: the JSON text.

        Raises:
            Mismatch: the value does not fit.
            NotJsonError: the text is not JSON.
        """
        ...

    def write(self, value: Any) -> bytes:
        """Return a value as JSON text.

        Raises:
            Mismatch: the value does not fit.
            NotJsonError: JSON cannot express it.
        """
        ...


class _Untyped:
    """What `Any`, `object` and no annotation get: decoded JSON as it is."""

    __slots__ = ("schema",)

    def __init__(self) -> None:
        self.schema: Mapping[str, Any] | None = None

    def read(self, text: bytes) -> Any:
        return read_json(text)

    def fit(self, document: Any, text: bytes) -> Any:  # noqa: ARG002 - for those who need it
        return document

    def write(self, value: Any) -> bytes:
        return write_json(value)


def judge(validator: Validator, value: Any) -> None:
    """Judge decoded JSON by a schema.

    Raises:
        Mismatch: it breaks the schema.
    """
    violation = validator.check(value)
    if violation is not None:
        raise Mismatch(violation.message, path=violation.path, rule=violation.rule, schema_path=violation.schema_path)


class _Typed:
    """A converter on msgspec."""

    __slots__ = ("_decoder", "_guard", "_plain", "schema")

    def __init__(self, annotation: Any) -> None:
        annotation = type(None) if annotation is None else annotation
        self._decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(annotation)
        schema = msgspec.json.schema(annotation, schema_hook=_schema_of_object)
        self.schema: Mapping[str, Any] | None = _readable(schema)
        self._guard = guard_for(schema)
        self._plain = _plain(annotation)

    def read(self, text: bytes) -> Any:
        if self._guard is not None:
            self._guard.check(read_json(text))
        return self._decoded(text)

    def fit(self, document: Any, text: bytes) -> Any:
        if self._plain is not None and type(document) is self._plain.kind:
            return document
        if self._guard is not None:
            self._guard.check(document)
        return self._decoded(text)

    def _decoded(self, text: bytes) -> Any:
        try:
            return self._decoder.decode(text)
        except msgspec.ValidationError as exc:
            raise mismatch_of(exc) from None
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
            raise NotJsonError(f"not readable as JSON ({type(exc).__name__})") from None
        except Exception:  # msgspec lets pass what a type's own `__post_init__` raises, but for two kinds
            raise Mismatch(OWN_CHECK, path="", rule="type") from None

    def write(self, value: Any) -> bytes:
        text = write_json(value)
        if self._plain is None or not text.startswith(self._plain.start):
            self.read(text)
        return text


class _Plain(msgspec.Struct, frozen=True):
    """What decoded JSON has to be to fit an annotation as it is, and how its text starts."""

    kind: type
    start: bytes


def _plain(annotation: Any) -> _Plain | None:
    """Return what fits `dict`, `dict[str, Any]`, `list` and `list[Any]`, None for annotations that say more."""
    origin, arguments = get_origin(annotation) or annotation, get_args(annotation)
    if origin in MAPPINGS and arguments in ((), (str, Any), (str, object)):
        return _Plain(dict, b"{")
    if origin is list and arguments in ((), (Any,), (object,)):
        return _Plain(list, b"[")
    return None


def converter_for(annotation: Any, capability: str, place: str, *, as_output: bool = False) -> Converter:
    """Return the converter for an annotation.

    Args:
        annotation: resolved, as `typing.get_type_hints` gives it with extras.
        capability: its type, for messages.
        place: the parameter, for messages.
        as_output: for what a handler returns.

    Raises:
        TypeError: it has no JSON form; the message names the place, the type and the remedy.
        NameError: a member of it names what is not there (yet).
    """
    if annotation in (Any, object):
        return _Untyped()
    where = f"capability {capability!r}: {place} is annotated {annotation!r}, which"
    try:
        parts = list(parts_of(annotation))
        by_pydantic = any(is_pydantic(part.value) for part in parts)
        objections = [(part, _objection(part, by_pydantic=by_pydantic, as_output=as_output)) for part in parts]
        refusal = next((_told(annotation, part, *found) for part, found in objections if found), None)
        if refusal is None:
            return _by_pydantic(annotation, as_output=as_output) if by_pydantic else _Typed(annotation)
    except NameError as exc:
        raise NameError(f"{place} is annotated {annotation!r}, and in it {exc}") from None
    except Exception as exc:  # annotations are code, and a Struct's are evaluated only now
        refusal = f"has no JSON form ({_gist(exc)}); {REMEDY}"
    raise TypeError(f"{where} {refusal}")


def _gist(error: Exception) -> str:
    """Return the line that says what is wrong: pydantic begins with it, msgspec ends with it."""
    lines = str(error).splitlines() or [type(error).__name__]
    return lines[0 if is_pydantic(error) else -1]


def _objection(part: Part, *, by_pydantic: bool, as_output: bool) -> tuple[str, str] | None:
    if not by_pydantic:
        return objection(part, as_output=as_output)
    kind: type[Any] = part.value if isinstance(part.value, type) else type(part.value)
    if issubclass(kind, msgspec.Struct | msgspec.Meta):
        return "mixes pydantic, which judges the whole of an annotation, with msgspec", "use one of them"
    return unhashable(part)


def _told(annotation: Any, part: Part, problem: str, remedy: str) -> str:
    place = f"in {part.place} " if part.place else ""
    subject = "" if part.value is annotation or part.is_metadata else f"holds {part.value!r}, which "
    return f"{place}{subject}{problem}; {remedy}"


def _by_pydantic(annotation: Any, *, as_output: bool) -> Converter:
    from ._pydantic import PydanticConverter  # noqa: PLC0415 - whoever has no such annotation does not pay for it

    converter = PydanticConverter(annotation, as_output=as_output)
    converter.schema = _readable(converter.schema)
    return converter


def _schema_of_object(kind: type) -> dict[str, Any]:
    if kind is object:
        return {"title": "any JSON"}  # msgspec takes an empty schema for none
    raise NotImplementedError


def _readable(schema: Any) -> Any:
    """Cut docstrings, which are taken over whole, to their first paragraph on one line.

    Says what the converters take, too: a member of a set twice, and a decimal that is a number.
    """
    if _is_array(schema):
        return [_readable(item) for item in schema]
    if not _is_object(schema):
        return schema
    readable = {name: _readable_member(name, value) for name, value in schema.items()}
    if readable.get("uniqueItems") is True:
        del readable["uniqueItems"]
    if readable.get("format") == "decimal" and readable.get("type") == "string" and not readable.keys() & NARROWING:
        readable["type"] = ["string", "number"]
    return readable


def _readable_member(name: str, value: Any) -> Any:
    if name == "description" and isinstance(value, str):
        return " ".join(value.split("\n\n")[0].split())
    if name in NAMED and _is_object(value):
        return {each: _readable(schema) for each, schema in value.items()}
    return value if name in VALUES else _readable(value)


def _is_array(value: object) -> TypeGuard[list[Any]]:
    return isinstance(value, list)


def _is_object(value: object) -> TypeGuard[dict[str, Any]]:
    return isinstance(value, dict)
