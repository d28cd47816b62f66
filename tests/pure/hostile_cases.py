"""Schemas and values that mean harm, each with what must come of it; `hostile_schemas` judges them.

`docs/schemas.md` lists them by these names.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

INVALID, LIMIT, VALID, VIOLATION = "invalid schema", "limit", "valid", "violation"


INVALID, LIMIT, VALID, VIOLATION = "invalid schema", "limit", "valid", "violation"


SECRET = "sEcReT"
"""Part of values, which no message may show."""


class Case(NamedTuple):
    """One attack: a schema, as JSON text or to be written as such, and a value."""

    schema: Any
    value: Any
    outcome: str


class Trap(NamedTuple):
    """Where a request would be noticed: whoever fetched one of these schemas would find the value valid."""

    host: str = "127.0.0.1:9"
    path: str = "/etc/passwd"


NO_TRAP = Trap()


class Section(NamedTuple):
    """Attacks of a kind, and the bound that each outcome owes itself to."""

    cases: dict[str, Case]
    bounds: dict[str, str]


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
DRAFT_2020 = "https://json-schema.org/draft/2020-12/schema"
DRAFT_7 = "http://json-schema.org/draft-07/schema#"
TEXT = "ab01" * 250_000


def cases(trap: Trap = NO_TRAP) -> dict[str, Case]:
    return {name: case for section in sections(trap).values() for name, case in section.cases.items()}


def sections(trap: Trap = NO_TRAP) -> dict[str, Section]:
    work = "20,000,000 evaluations, and 64 for each value"
    once = "20,000,000 evaluations for one value"
    within = "below the bounds on work"
    offline = "nothing is fetched; what a schema refers to stands in it"
    return {
        "References": Section(
            {**_remote(trap), **_references()}, {INVALID: offline, VALID: offline, VIOLATION: offline}
        ),
        "Loops": Section(_loops(), {INVALID: "no schema applies to a value twice by way of itself", VALID: within}),
        "Work": Section(_bombs(), {INVALID: once, LIMIT: work, VALID: within, VIOLATION: within}),
        "Shapes": Section(
            _shapes(),
            {
                INVALID: "256 KiB, 128 levels, 10,000 subschemas, as many meant by dynamic references, "
                "600 on the stack; the metaschema",
                LIMIT: "128 levels",
                VALID: within,
                VIOLATION: within,
            },
        ),
        "Patterns": Section(
            _patterns(),
            {
                INVALID: "no look-around; 4,000 characters with repetitions written out, 40,000 in all; 1 MiB compiled",
                LIMIT: work,
                VALID: "linear time",
                VIOLATION: "linear time",
            },
        ),
        "Numbers": Section(
            _numbers(), {INVALID: "the metaschema; 64 bits or a float", LIMIT: work, VALID: within, VIOLATION: within}
        ),
        "Values": Section(_values(), {LIMIT: "128 levels; JSON", VALID: within, VIOLATION: within}),
        "Equal items": Section(
            _equal_items(), {INVALID: "names are text", LIMIT: work, VALID: "linear time", VIOLATION: "linear time"}
        ),
        "Secrets": Section(
            _secrets(), {LIMIT: "messages show the schema alone", VIOLATION: "messages show the schema alone"}
        ),
    }


def _remote(trap: Trap) -> dict[str, Case]:
    def out(reference: str, **more: Any) -> Case:
        return Case({"$ref": reference, **more}, 1, INVALID)

    web, disk = f"http://{trap.host}", f"file://{trap.path}"
    return {
        "http reference": out(f"{web}/schema"),
        "https reference": out(f"https://{trap.host}/schema.json#/a"),
        "ftp reference": out(f"ftp://{trap.host}/schema"),
        "file reference": out(disk),
        "data reference": out("data:application/json,{}"),
        "reference without a scheme": out(f"//{trap.host}/schema"),
        "reference without a scheme, from a base": out(f"//{trap.host}/schema", **{"$id": f"{web}/a"}),
        "path on this machine": out(trap.path),
        "relative reference": out("other.json"),
        "relative reference from a user's base": out("other.json", **{"$id": f"{web}/"}),
        "relative reference from a base on this machine": out(trap.path, **{"$id": "file:///"}),
        "reference below an identifier that moves the base": Case(
            {"items": {"$id": f"{web}/a/", "items": {"$ref": "b"}}, "$defs": {"b": {"$id": "b"}}}, [[1]], INVALID
        ),
        "no address at all": out("http://[::"),
        "reference that nothing leads to": Case({"$defs": {"a": {"$ref": f"{web}/schema"}}}, 1, INVALID),
        "reference beside others in an old draft": Case(
            {"$schema": DRAFT_7, "properties": {"a": {"$ref": f"{web}/x", "type": "null"}}}, {"a": 1}, INVALID
        ),
        "reference in a default": Case({"$schema": DRAFT_7, "default": {"$ref": f"{web}/x"}}, 1, VALID),
        "dynamic reference out": Case({"$dynamicRef": f"{web}/x#a"}, 1, INVALID),
        "recursive reference out": Case(
            {"$schema": "https://json-schema.org/draft/2019-09/schema", "$recursiveRef": f"{web}/x"}, 1, INVALID
        ),
        "metaschema out": Case({"$schema": f"{web}/meta"}, 1, INVALID),
        "metaschema file": Case({"$schema": disk}, 1, INVALID),
        "metaschema within": Case({"items": {"$id": "http://x/", "$schema": f"{web}/"}}, [], INVALID),
        "another dialect within": Case({"items": {"$id": "http://x/", "$schema": DRAFT_7}}, [], INVALID),
        "own metaschema that refers out": Case(
            {
                "$schema": "http://x/m",
                "$defs": {"m": {"$id": "http://x/m", "$schema": DRAFT_2020, "$ref": f"{web}/x"}},
            },
            1,
            INVALID,
        ),
        "own metaschema that doubles": Case(
            {
                "$schema": "http://x/m",
                "$defs": {
                    "m": {
                        "$id": "http://x/m",
                        "$schema": DRAFT_2020,
                        **chain(30, lambda following: {"allOf": [following, following]}, {}),
                    }
                },
            },
            1,
            VALID,
        ),
        "unknown vocabulary": Case({"$vocabulary": {f"{web}/": True}}, 1, VALID),
    }


def _references() -> dict[str, Case]:
    def out(reference: str, **more: Any) -> Case:
        return Case({"$ref": reference, **more}, 1, INVALID)

    return {
        "pointer to nothing": out("#/$defs/a"),
        "pointer to a number": out("#/x", x=5),
        "pointer of 200 KB": out("#" + "/a" * 100_000),
        "identifier of 100 KB": Case({"$id": "http://x/" + "a/" * 50_000}, 1, INVALID),
        "many identifiers on a long base": Case(
            {"$id": "http://x/" + "a/" * 50_000, "$defs": {f"{n}": {"$id": f"{n}"} for n in range(4_000)}}, 1, INVALID
        ),
        "reference of 100 KB": out("a/" * 50_000),
        "4,000 identifiers": Case(
            {"$id": "http://x/" + "a/" * 900, "$defs": {f"{n}": {"$id": f"{n}"} for n in range(4_000)}}, 1, VALID
        ),
        "anchor of nothing": out("#a"),
        "identifier twice": out("http://x/a", **{"$defs": {"a": {"$id": "http://x/a"}, "b": {"$id": "http://x/a"}}}),
        "anchor twice": out("#a", **{"$defs": {"a": {"$anchor": "a"}, "b": {"$anchor": "a"}}}),
        "through an identifier": out("#/$defs/a/not", **{"$defs": {"a": {"$id": "http://x/a", "not": {"$ref": "b"}}}}),
        "identifier out of place": out("#/x", x={"$id": "http://x/a", "items": {"$ref": "b"}}),
        "a metaschema's identifier": Case({"$id": "https://json-schema.org/draft/2020-12/schema"}, 1, INVALID),
        "past an identifier to a place of its own": out(
            "#/$defs/a/x/b", **{"$defs": {"a": {"$id": "http://x/a", "x": {"b": {"$ref": "b"}}}}}
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
        "circle through an anchor": Case({"$anchor": "a", "allOf": [{"$ref": "#a"}]}, 1, INVALID),
        "circle through an identifier": Case({"$id": "http://x/a", "anyOf": [{"$ref": "a"}]}, 1, INVALID),
        "dynamic circle of two": Case(
            {
                "$defs": {
                    "a": {"$id": "http://x/a", "$dynamicAnchor": "n", "$ref": "b"},
                    "b": {"$id": "http://x/b", "$dynamicAnchor": "n", "$dynamicRef": "#n"},
                },
                "$ref": "http://x/a",
            },
            1,
            INVALID,
        ),
        "circle through names": Case({"propertyNames": {"$ref": "#"}}, {"a": 1}, VALID),
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
        "a metaschema extended": Case({"$dynamicAnchor": "meta", "$ref": DRAFT_2020}, {"not": {"type": "null"}}, VALID),
        "a metaschema extended, deeper": Case(
            {"$dynamicAnchor": "meta", "$ref": DRAFT_2020}, nest(50, lambda inner: {"not": inner}, {}), LIMIT
        ),
        "a metaschema extended many times": Case(
            {"$dynamicAnchor": "meta", "allOf": [{"$ref": DRAFT_2020}] * 8, "additionalProperties": {"$ref": "#"}},
            nest(12, lambda inner: {"not": inner}, {}),
            LIMIT,
        ),
        "unevaluated items in unevaluated items": Case(
            nest(25, lambda inner: {"anyOf": [inner, {}], "unevaluatedItems": False}, {"items": True}), [1], INVALID
        ),
        "conditions doubling": Case(
            chain(40, lambda following: {"if": following, "then": following, "else": following}, {}), 1, INVALID
        ),
        "names asked for of many": Case(
            {"items": {"required": [f"m{n}" for n in range(9_999)]}}, [{}] * 50_000, LIMIT
        ),
        "names depending on a name, of many": Case(
            {"items": {"dependentRequired": {"a": [f"m{n}" for n in range(9_999)]}}}, [{"a": 1}] * 50_000, LIMIT
        ),
        "names judged by many": Case(
            {"propertyNames": {"anyOf": [{"const": f"m{n}"} for n in range(5_000)]}},
            {f"x{n}": 1 for n in range(50_000)},
            LIMIT,
        ),
        "names looked up by many": Case(
            {"propertyNames": {"enum": [f"m{n}" for n in range(20_000)]}},
            {f"x{n}": 1 for n in range(50_000)},
            VIOLATION,
        ),
        "members that match two patterns, recursive": Case(
            {"patternProperties": {"": {"$ref": "#"}, "a": {"$ref": "#"}}}, in_members(60, {}), LIMIT
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
    recursive = {"$schema": "https://json-schema.org/draft/2019-09/schema", "$recursiveAnchor": True}
    return {
        "dynamic references to everywhere": Case(
            {
                "$defs": {str(n): {"$id": f"{n}", "$dynamicAnchor": "a"} for n in range(3_300)},
                "$dynamicAnchor": "a",
                "prefixItems": [{"$dynamicRef": "#a"}] * 3_300,
            },
            [1],
            INVALID,
        ),
        "recursive references to everywhere": Case(
            {
                **recursive,
                "$defs": {str(n): {"$id": f"{n}", "$recursiveAnchor": True} for n in range(2_700)},
                "items": [{"$recursiveRef": "#"}] * 2_700,
            },
            [1],
            INVALID,
        ),
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
        "50 KB of all combinators": Case(
            nest(
                4,
                lambda inner: {
                    "allOf": [inner],
                    "anyOf": [inner],
                    "oneOf": [inner],
                    "not": {"not": inner},
                    "if": inner,
                    "then": inner,
                },
                {"type": "string"},
            ),
            1,
            VIOLATION,
        ),
        "256 KB of combinators": Case({"allOf": [{"anyOf": [{"type": "integer"}]}] * 4_900}, 1, VALID),
        "too many subschemas": Case({"allOf": [{}] * 20_000}, 1, INVALID),
        "a huge enum": Case({"enum": list(range(35_000))}, -1, VIOLATION),
        "a huge list of required names": Case({"required": [f"m{n}" for n in range(25_000)]}, {}, VIOLATION),
        "a name required twice": Case({"required": ["a", "a"]}, {}, INVALID),
        "a key twice: the last counts": Case(b'{"type":"string","type":"integer"}', 1, VALID),
        "a reference twice": Case(b'{"$ref":"http://127.0.0.1:9/","$ref":"#/$defs/a","$defs":{"a":true}}', 1, VALID),
        "a dialect twice": Case(b'{"$schema":"","$schema":"' + DRAFT_2020.encode() + b'"}', 1, VALID),
        "a number for a subschema": Case({"properties": {"a": 5}}, {}, INVALID),
        "a text for a subschema": Case({"items": "object"}, [], INVALID),
        "null for a subschema": Case({"not": None}, [], INVALID),
        "a list for a subschema": Case({"additionalProperties": [{}]}, {}, INVALID),
        "a lone surrogate in a name": Case(b'{"properties":{"\\udc00":{}}}', {}, INVALID),
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


def _numbers() -> dict[str, Case]:
    def of_many(schema: Any, value: Any, outcome: str) -> Case:
        return Case({"items": schema}, [value] * 20_000, outcome)

    return {
        "a huge number": Case(b'{"minimum":' + b"9" * 4_000 + b"}", 1, VIOLATION),
        "a number beyond all": Case(b'{"minimum":1e999}', 1, INVALID),
        "a number of 5,000 digits": Case(b'{"minimum":' + b"9" * 5_000 + b"}", 1, INVALID),
        "a multiple of next to nothing": Case({"multipleOf": 1e-300}, 1e308, VALID),
        "a multiple of more than there is": Case({"multipleOf": 1e308}, 1e-300, VIOLATION),
        "a multiple of a number of 300 digits": Case({"multipleOf": 10**300}, 10**4000, VALID),
        "a multiple of nothing": Case({"multipleOf": 0}, 1, INVALID),
        "a length without end": Case(b'{"maxLength":1e308}', "x", VALID),
        "a count of 400 digits": Case(b'{"minItems":' + b"9" * 400 + b"}", [], VIOLATION),
        "a number of 4,000 digits for 5,000 bounds": Case({"allOf": [{"minimum": 0}] * 5_000}, 10**4000, LIMIT),
        "a number of 4,000 digits for a huge enum": Case({"enum": list(range(35_000))}, 10**4000, LIMIT),
        "an object with such a number for a huge enum": Case(
            {"enum": [{"a": n} for n in range(9_000)]}, {"a": 10**4000}, LIMIT
        ),
        "numbers of 308 digits for 1,000 divisors": of_many({"allOf": [{"multipleOf": 0.5}] * 1_000}, 10**308, LIMIT),
        "large fractions for 1,000 divisors": of_many({"allOf": [{"multipleOf": 1e-300}] * 1_000}, 1e308, LIMIT),
        "fractions for a huge enum": of_many({"enum": list(range(30_000))}, 0.25, LIMIT),
        "integers for a large enum": of_many({"enum": list(range(1_000))}, 5, VALID),
    }


def _equal_items() -> dict[str, Case]:
    count = 100_000
    unique = {"uniqueItems": True}
    digits = [10**20 + n for n in range(count)]
    bits = [[0 if n >> bit & 1 else False for bit in range(17)] for n in range(count)]
    return {
        "100,000 objects, all different": Case(unique, [{"a": n} for n in range(count)], VALID),
        "100,000 objects, the last like the first": Case(
            unique, [{"a": n % (count - 1)} for n in range(count)], VIOLATION
        ),
        "100,000 long integers, whose hashes are alike": Case(unique, digits, VALID),
        "100,000 lists of 0 and false, whose hashes are alike": Case(unique, bits, VALID),
        "large items on many levels": Case(
            {**unique, "items": {"$ref": "#"}}, in_lists(100, [[n] for n in range(20_000)]), LIMIT
        ),
        "deep items": Case(unique, [in_lists(200), 1], LIMIT),
        "long integers for a metaschema's names": Case({"$ref": DRAFT_2020}, {"required": digits}, LIMIT),
        "long integers for names": Case({"required": digits[:10_000]}, {}, INVALID),
        "long integers for types": Case({"$schema": DRAFT_7, "type": digits[:10_000]}, {}, INVALID),
        "long integers for names that depend": Case(
            {"$schema": DRAFT_7, "dependencies": {"a": digits[:10_000]}}, {}, INVALID
        ),
        "long integers for options": Case(
            {"$schema": DRAFT_7.replace("07", "04"), "enum": digits[:10_000]}, 1, VIOLATION
        ),
        "lists of 0 and false for options": Case(
            {"$schema": DRAFT_7.replace("07", "04"), "enum": bits[:2_000]}, 1, VIOLATION
        ),
    }


def _secrets() -> dict[str, Case]:
    old = {"$schema": DRAFT_7}
    return {
        "a secret of the wrong type": Case({"type": "integer"}, SECRET, VIOLATION),
        "a secret of the wrong type, for generated code": Case({**old, "type": "integer"}, SECRET, VIOLATION),
        "a secret that no pattern matches": Case({"items": {"pattern": "^a"}}, [SECRET], VIOLATION),
        "a secret that is not among the options": Case({"enum": ["a", 1]}, {SECRET: SECRET}, VIOLATION),
        "a secret name that is not declared": Case({**old, "additionalProperties": False}, {SECRET: 1}, VIOLATION),
        "a secret name that is too long": Case({"propertyNames": {"maxLength": 1}}, {SECRET: 1}, VIOLATION),
        "a secret twice": Case({"uniqueItems": True}, [SECRET, SECRET], VIOLATION),
        "a secret that no alternative takes": Case({"anyOf": [{"const": 1}, {"type": "null"}]}, [SECRET], VIOLATION),
        "a secret that is forbidden": Case({"not": {"type": "string"}}, SECRET, VIOLATION),
        "a secret left over": Case({"prefixItems": [{}], "unevaluatedItems": False}, [1, SECRET], VIOLATION),
        "a secret beside a lone surrogate": Case({"type": "string", "minLength": 1}, f"{SECRET}\ud800", LIMIT),
        "a secret too deep": Case(TREE, in_lists(200, SECRET), LIMIT),
        "a secret that is not JSON": Case({"type": "integer"}, {SECRET}, LIMIT),
        "a secret too large to be explained": Case({"maxItems": 1}, [SECRET * 1_000] * 5_000, VIOLATION),
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
        "no JSON type, compared": Case({"uniqueItems": True}, [{1}, {1}, 1.5], VALID),
        "no JSON type": Case({"type": "integer"}, {1, 2}, LIMIT),
        "a name that is no text": Case({"properties": {"a": {}}}, {1: 2}, LIMIT),
    }


def _circle() -> list[Any]:
    value: list[Any] = []
    value.append(value)
    return value
