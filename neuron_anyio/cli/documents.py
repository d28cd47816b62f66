"""JSON on a command line: reading what a user typed, and making up an input to copy."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import msgspec

from .problems import Wrong

__all__ = ["compact", "read_document", "sample"]

_SAMPLES: Mapping[str, Any] = {
    "string": "text",
    "integer": 1,
    "number": 1.5,
    "boolean": True,
    "null": None,
    "array": [],
    "object": {},
}


def read_document(text: str, label: str) -> Any:
    """Return the JSON value that an argument stands for: itself, `@FILE`, or `-` for stdin.

    Args:
        text: the argument.
        label: its name, for errors.

    Raises:
        Wrong: it is not JSON, or its file cannot be read. Never shows the document.
    """
    try:
        if text == "-":
            raw = sys.stdin.buffer.read()
        elif text.startswith("@"):
            raw = Path(text[1:]).read_bytes()
        else:
            raw = text.encode()
    except OSError as exc:
        raise Wrong(f"{label}: cannot read {text[1:]} ({exc.strerror}); check the path after '@'") from None
    except UnicodeEncodeError:
        raise Wrong(f"{label} is not UTF-8") from None
    try:
        return msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        reason = str(exc) if isinstance(exc, msgspec.DecodeError) else type(exc).__name__
        remedy = "quote it for the shell, like '{\"name\": 1}', or give @FILE or - for stdin"
        raise Wrong(f"{label} is not JSON: {reason}; {remedy}") from None


def compact(value: Any) -> str:
    """Return a value as JSON text on one line."""
    return msgspec.json.encode(value).decode()


def sample(schema: Any) -> Any:
    """Make up an input for a schema: what it names as a value, else its required members by their types.

    A help for people and no promise: a pattern, a range or a format may want something else.
    """
    return _sample(schema, schema, frozenset())


def _sample(schema: Any, root: Any, inside: frozenset[str]) -> Any:
    """Make up a value; `inside` are the references that it is part of, which have no end if they are followed again."""
    if not isinstance(schema, Mapping):
        return None
    known = cast("Mapping[str, Any]", schema)
    named = [known[word] for word in ("const", "default") if word in known]
    named += [known[word][0] for word in ("examples", "enum") if known.get(word)]
    if named:
        return named[0]
    if "$ref" in known:
        reference: str = known["$ref"]
        return None if reference in inside else _sample(_referenced(root, reference), root, inside | {reference})
    for word in ("anyOf", "oneOf", "allOf"):
        parts: Sequence[Any] = known.get(word, ())
        fresh = [part for part in parts if not _refers_to(part, inside)]
        if fresh:
            return _sample(fresh[0], root, inside)
    properties: Mapping[str, Any] = known.get("properties", {})
    if known.get("required"):
        return {name: _sample(properties.get(name), root, inside) for name in known["required"]}
    kind: Any = known.get("type", "object" if properties else None)
    return _SAMPLES.get(kind) if isinstance(kind, str) else None


def _refers_to(schema: Any, references: frozenset[str]) -> bool:
    return isinstance(schema, Mapping) and cast("Mapping[str, Any]", schema).get("$ref") in references


def _referenced(root: Any, reference: str) -> Any:
    found: Any = root
    for part in reference.removeprefix("#").split("/")[1:]:
        name = part.replace("~1", "/").replace("~0", "~")
        found = cast("Mapping[str, Any]", found).get(name) if isinstance(found, Mapping) else None
    return found
