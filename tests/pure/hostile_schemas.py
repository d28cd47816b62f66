"""Schemas and values that mean harm, each with what must come of it.

Run as a module it judges them all under limits on time and memory and prints a line of JSON for each, so that a stall
or a crash of an engine is a failed test and not the end of the test run.
"""

from __future__ import annotations

import json
import resource
import socket
import sys
import time
import urllib.request
from collections.abc import Callable
from typing import Any, NamedTuple, NoReturn

from neuron_anyio.schemas import InvalidSchema, SchemaCache, Validator, registered_validator

CPU_SECONDS = 60
MEMORY = 4 << 30

INVALID, LIMIT, VALID, VIOLATION = "invalid schema", "limit", "valid", "violation"


class Case(NamedTuple):
    """One attack: a schema, as JSON text or to be written as such, and a value."""

    schema: Any
    value: Any
    outcome: str


def nest(levels: int, wrap: Callable[[Any], Any], core: Any) -> Any:
    for _ in range(levels):
        core = wrap(core)
    return core


def chain(length: int, step: Callable[[dict[str, str]], Any], last: Any, **more: Any) -> dict[str, Any]:
    """Definitions that refer each to the next."""
    defs = {f"a{n}": step({"$ref": f"#/$defs/a{n + 1}"}) for n in range(length)}
    return {"$defs": {**defs, f"a{length}": last}, "$ref": "#/$defs/a0", **more}


def in_lists(levels: int, core: Any = 1) -> Any:
    return nest(levels, lambda inner: [inner], core)


def in_members(levels: int, core: Any) -> Any:
    return nest(levels, lambda inner: {"a": inner}, core)


BRANCHING = {"properties": {"bad": False, "a": {"anyOf": [{"$ref": "#"}, {"$ref": "#"}]}}}
TREE = {"$defs": {"t": {"items": {"$ref": "#/$defs/t"}}}, "$ref": "#/$defs/t"}
DRAFT_7 = "http://json-schema.org/draft-07/schema#"
TEXT = "ab01" * 250_000


def cases() -> dict[str, Case]:
    return {**_references(), **_loops(), **_bombs(), **_shapes(), **_patterns(), **_values()}


def _references() -> dict[str, Case]:
    def out(reference: str, **more: Any) -> Case:
        return Case({"$ref": reference, **more}, 1, INVALID)

    return {
        "http reference": out("http://127.0.0.1:9/schema"),
        "https reference": out("https://example.com/schema.json#/a"),
        "file reference": out("file:///etc/passwd"),
        "relative reference": out("other.json"),
        "reference with a user's base": out("other.json", **{"$id": "http://127.0.0.1:9/"}),
        "data reference": out("data:application/json,{}"),
        "no address at all": out("http://[::"),
        "dynamic reference out": Case({"$dynamicRef": "http://127.0.0.1:9/x#a"}, 1, INVALID),
        "metaschema out": Case({"$schema": "http://127.0.0.1:9/meta"}, 1, INVALID),
        "metaschema file": Case({"$schema": "file:///etc/passwd"}, 1, INVALID),
        "metaschema within": Case({"items": {"$id": "http://x/", "$schema": "http://127.0.0.1:9/"}}, [], INVALID),
        "another dialect within": Case({"items": {"$id": "http://x/", "$schema": DRAFT_7}}, [], INVALID),
        "unknown vocabulary": Case({"$vocabulary": {"http://127.0.0.1:9/": True}}, 1, VALID),
        "pointer to nothing": out("#/$defs/a"),
        "pointer to a number": out("#/x", x=5),
        "pointer of 200 KB": out("#" + "/a" * 100_000),
        "anchor of nothing": out("#a"),
        "identifier twice": out("http://x/a", **{"$defs": {"a": {"$id": "http://x/a"}, "b": {"$id": "http://x/a"}}}),
        "anchor twice": out("#a", **{"$defs": {"a": {"$anchor": "a"}, "b": {"$anchor": "a"}}}),
        "through an identifier": out("#/$defs/a/not", **{"$defs": {"a": {"$id": "http://x/a", "not": {"$ref": "b"}}}}),
        "identifier out of place": out("#/x", x={"$id": "http://x/a", "items": {"$ref": "b"}}),
        "a metaschema's identifier": Case({"$id": "https://json-schema.org/draft/2020-12/schema"}, 1, INVALID),
        "a metaschema extended": Case(
            {"$dynamicAnchor": "meta", "$ref": "https://json-schema.org/draft/2020-12/schema"}, {}, INVALID
        ),
        "names alike but for punctuation": Case(
            {
                "$schema": DRAFT_7,
                "definitions": {"a-b": {"type": "string"}, "a_b": {"type": "integer"}},
                "properties": {"x": {"$ref": "#/definitions/a-b"}, "y": {"$ref": "#/definitions/a_b"}},
            },
            {"x": "text", "y": "text"},
            VIOLATION,
        ),
    }


def _loops() -> dict[str, Case]:
    two = {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}
    return {
        "reference to itself": Case({"$ref": "#"}, 1, INVALID),
        "empty reference": Case({"$ref": ""}, 1, INVALID),
        "two in a circle": Case({"$ref": "#/$defs/a", "$defs": two}, 1, INVALID),
        "circle in allOf": Case({"allOf": [{"$ref": "#"}]}, 1, INVALID),
        "circle in not": Case({"not": {"$ref": "#"}}, 1, INVALID),
        "circle in if": Case({"if": {"$ref": "#"}, "then": False}, 1, INVALID),
        "circle below": Case({"items": {"$ref": "#/$defs/a"}, "$defs": two}, [], INVALID),
        "circle that nothing leads to": Case({"$defs": two}, 1, VALID),
        "dynamic circle": Case({"$dynamicAnchor": "n", "$dynamicRef": "#n"}, 1, INVALID),
        "recursive circle": Case(
            {"$schema": "https://json-schema.org/draft/2019-09/schema", "$recursiveRef": "#"}, 1, INVALID
        ),
        "circle out of place": Case({"$ref": "#/x", "x": {"anyOf": [{"$ref": "#/x"}]}}, 1, INVALID),
    }


def _bombs() -> dict[str, Case]:
    def twice(keyword: str) -> Callable[[dict[str, str]], Any]:
        return lambda following: {keyword: [following, following]}

    strict = {"unevaluatedProperties": False}
    return {
        "references doubling": Case(chain(60, twice("allOf"), {"type": "integer"}), 1, INVALID),
        "references doubling 22 times": Case(chain(22, twice("allOf"), {"type": "integer"}), 1, INVALID),
        "references doubling 16 times": Case(chain(16, twice("allOf"), {"type": "integer"}), 1, VALID),
        "alternatives doubling": Case(chain(16, twice("anyOf"), {"type": "integer"}), "x", VIOLATION),
        "exclusive alternatives doubling": Case(chain(40, twice("oneOf"), {"type": "integer"}), 1, INVALID),
        "double recursion, shallow": Case(BRANCHING, in_members(5, {"bad": 1}), VIOLATION),
        "double recursion": Case(BRANCHING, in_members(17, {"bad": 1}), VIOLATION),
        "double recursion, deeper": Case(BRANCHING, in_members(40, {"bad": 1}), LIMIT),
        "unevaluated in unevaluated": Case(
            nest(25, lambda inner: {"allOf": [inner], **strict}, {"properties": {"a": True}}), {"a": 1}, INVALID
        ),
        "unevaluated over references": Case(chain(16, twice("allOf"), {}, **strict), {}, INVALID),
        "unevaluated items": Case(chain(16, twice("allOf"), {}, unevaluatedItems=False), [], INVALID),
        "unevaluated out of place": Case(
            {**chain(16, twice("allOf"), {}), "$ref": "#/x", "x": {"$ref": "#/$defs/a0", **strict}}, {}, INVALID
        ),
        "a thousand rules for each of many": Case(
            {"items": {"oneOf": [{"properties": {"a": {"const": n}}} for n in range(1000)]}}, [{"a": 1}] * 50_000, LIMIT
        ),
        "many objects to compare with": Case(
            {"items": {"enum": [{"a": n} for n in range(10_000)]}}, [{"a": -1}] * 5_000, LIMIT
        ),
        "a value that fails a hundred thousand times": Case({"anyOf": [{"items": False}]}, [1] * 100_000, VIOLATION),
        "a value that fails in all ways": Case(
            nest(4, lambda inner: {"anyOf": [inner, {"type": "array", "items": inner}]}, {"const": 2}),
            [1] * 3_000,
            VIOLATION,
        ),
        "a large value that fails everywhere": Case(
            {"anyOf": [{"maxItems": n} for n in range(500)]}, ["x" * 100] * 50_000, VIOLATION
        ),
    }  # fmt: skip


def _shapes() -> dict[str, Case]:
    return {
        "a number": Case(b"5", 1, INVALID),
        "a list": Case(b"[]", 1, INVALID),
        "a text": Case(b'"{}"', 1, INVALID),
        "null": Case(b"null", 1, INVALID),
        "nothing": Case(b"", 1, INVALID),
        "half": Case(b'{"type":', 1, INVALID),
        "not UTF-8": Case(b'{"const":"\xff"}', 1, INVALID),
        "NaN": Case(b'{"minimum":NaN}', 1, INVALID),
        "a lone surrogate": Case(b'{"const":"\\ud800"}', 1, INVALID),
        "too large": Case({"$comment": "x" * 300_000}, 1, INVALID),
        "100,000 levels": Case(b'{"not":' * 35_000 + b"{}" + b"}" * 35_000, 1, INVALID),
        "100,000 lists": Case(b'{"const":' + b"[" * 100_000 + b"]" * 100_000 + b"}", 1, INVALID),
        "200 levels": Case(nest(200, lambda inner: {"not": inner}, {}), 1, INVALID),
        "120 levels": Case(nest(120, lambda inner: {"not": inner}, {}), 1, VALID),
        "a long chain": Case(chain(5_000, lambda following: following, {}), 1, INVALID),
        "a long chain downwards": Case(chain(4_000, lambda following: {"items": following}, {}), in_lists(500), LIMIT),
        "50 KB of combinators": Case(
            nest(12, lambda inner: {"oneOf": [inner, inner]}, {"type": "string"}), 1, VIOLATION
        ),
        "256 KB of combinators": Case({"allOf": [{"anyOf": [{"type": "integer"}]}] * 4_900}, 1, VALID),
        "too many subschemas": Case({"allOf": [{}] * 20_000}, 1, INVALID),
        "a huge enum": Case({"enum": list(range(35_000))}, -1, VIOLATION),
        "a huge number": Case(b'{"minimum":' + b"9" * 4_000 + b"}", 1, VIOLATION),
        "a number beyond all": Case(b'{"minimum":1e999}', 1, INVALID),
        "types of the wrong type": Case({"type": {"type": "string"}}, 1, INVALID),
        "properties of the wrong type": Case({"properties": [1, 2]}, {}, INVALID),
        "all of the wrong type": Case({"allOf": {"a": 1}}, {}, INVALID),
        "required of the wrong type": Case({"required": "abc"}, {}, INVALID),
        "patterns of the wrong type": Case({"patternProperties": ["("]}, {}, INVALID),
        "identifiers of the wrong type": Case({"$id": 1, "$anchor": [], "$ref": {}}, 1, INVALID),
        "code in a name": Case(
            {"$schema": DRAFT_7, "properties": {'"]\n    raise SystemExit(1) #': {"type": "integer"}}}, {}, VALID
        ),
        "code in a text": Case(
            {"$schema": DRAFT_7, "const": '{variable.__class__} "+__import__("os").abort()+"'}, 1, VIOLATION
        ),
    }


def _patterns() -> dict[str, Case]:
    return {
        "nested repetition": Case({"pattern": "^(a+)+$"}, "a" * 50_000 + "!", VIOLATION),
        "overlapping alternatives": Case({"pattern": "^(a|a|aa)*$"}, "a" * 50_000 + "!", VIOLATION),
        "look-ahead": Case({"pattern": "^(?=(a+)+$)"}, "a" * 50 + "!", INVALID),
        "back-reference": Case({"pattern": "(a*)*\\1b"}, "a" * 50, INVALID),
        "no pattern": Case({"pattern": "("}, "a", INVALID),
        "counted repetitions": Case({"pattern": "(?:a{0,100}){0,100}"}, "a", INVALID),
        "stacked repetitions": Case({"pattern": "a{100}{100}{100}"}, "a", INVALID),
        "large classes": Case({"pattern": "\\p{L}{500}"}, "a", INVALID),
        "large classes in one": Case({"pattern": "[\\p{L}\\p{N}]{500}"}, "a", INVALID),
        "spaced repetitions": Case({"pattern": "(?x)(a?){ 2000 }"}, TEXT, INVALID),
        "many automata": Case({"allOf": [{"pattern": f"[^a]{{1,900}}{n}"} for n in range(100)]}, "a", INVALID),
        "many automata for names": Case(
            {"patternProperties": {f"[^a]{{1,900}}{n}": {} for n in range(100)}}, {}, INVALID
        ),
        "unused automata": Case(
            {"$defs": {"a": {"allOf": [{"pattern": f".{{900}}{n}"} for n in range(100)]}}}, 1, INVALID
        ),
        "the heaviest allowed": Case({"pattern": "(?:a|aa|aaa|b){195}c"}, TEXT, VIOLATION),
        "the heaviest allowed, ten times": Case(
            {"allOf": [{"pattern": f"(?:a|aa|aaa|b){{160}}c|{n}x"} for n in range(9)]}, TEXT, LIMIT
        ),
        "heavy patterns for long names": Case(
            {"patternProperties": {f"(?:a|aa|aaa|b){{160}}c|{n}x": {} for n in range(9)}}, {TEXT: 1}, LIMIT
        ),
    }


def _values() -> dict[str, Case]:
    return {
        "deep value": Case(TREE, in_lists(100_000), LIMIT),
        "deep enough": Case(TREE, in_lists(100), VALID),
        "deep value that nobody looks into": Case({"type": "array"}, in_lists(100_000), VALID),
        "deep value of the wrong type": Case({"type": "string"}, in_lists(100_000), VIOLATION),
        "deep value compared": Case({"const": [[1]]}, in_lists(100_000), VIOLATION),
        "deep values compared": Case({"uniqueItems": True}, [in_lists(100_000), in_lists(100_000, 2)], LIMIT),
        "value in itself": Case(TREE, _circle(), LIMIT),
        "deep value on a deep stack": Case(
            {"items": {"anyOf": [{"allOf": [{"allOf": [{"$ref": "#"}]}]}, {}]}, "unevaluatedItems": False},
            in_lists(128),
            LIMIT,
        ),
        "huge number": Case({"minimum": 0, "type": "integer"}, 10**4000, VALID),
        "number without a text": Case({"type": "string"}, 10**5000, VIOLATION),
        "lone surrogate": Case({"type": "string", "minLength": 1}, "\ud800", LIMIT),
        "lone surrogate in a name": Case({"additionalProperties": False}, {"\ud800": 1}, LIMIT),
        "no JSON type": Case({"type": "integer"}, {1, 2}, LIMIT),
        "a name that is no text": Case({"properties": {"a": {}}}, {1: 2}, LIMIT),
    }


def _circle() -> list[Any]:
    value: list[Any] = []
    value.append(value)
    return value


def judge(validator: Validator, value: Any) -> str:
    violation = validator.check(value)
    if violation is None:
        return VALID
    return LIMIT if violation.rule == "limit" else VIOLATION


def outcomes(case: Case) -> set[str]:
    """Judge a case from both sides; its outcomes, which should be one."""
    text = case.schema if isinstance(case.schema, bytes) else json.dumps(case.schema).encode()
    found = {_outcome(SchemaCache().validator, text, case.value)}
    try:
        schema = json.loads(text)
    except (ValueError, RecursionError):
        return found  # nothing that an author could register
    return found | {_outcome(registered_validator, schema, case.value)}


def _outcome(make: Callable[[Any], Validator], schema: Any, value: Any) -> str:
    try:
        return judge(make(schema), value)
    except InvalidSchema:
        return INVALID


def _no_network(*_: Any, **__: Any) -> NoReturn:
    print(json.dumps({"name": "network", "outcomes": ["tried to fetch"], "seconds": 0}), flush=True)
    sys.exit(1)


def main() -> None:
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    socket.socket.connect = _no_network  # type: ignore[method-assign]  # for the whole process
    socket.getaddrinfo = _no_network
    urllib.request.urlopen = _no_network
    for name, case in cases().items():
        began = time.process_time()
        found = sorted(outcomes(case))
        print(json.dumps({"name": name, "outcomes": found, "seconds": time.process_time() - began}), flush=True)


if __name__ == "__main__":
    main()
