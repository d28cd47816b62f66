"""What holds for any schema and any value: the engines agree, messages keep values to themselves, work is bounded."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import jsonschema
import pytest
from fastjsonschema import JsonSchemaValueException
from hypothesis import HealthCheck, event, given, reject, settings
from hypothesis import strategies as st

from neuron_anyio.schema_cost import cost_of
from neuron_anyio.schema_refs import Document
from neuron_anyio.schemas import InvalidSchema, Validator, Violation, _Generated, registered_validator, wire_validator

pytestmark = pytest.mark.thorough

EXAMPLES = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])

NAMES = st.sampled_from(["a", "b", "ab", "a b", "a-b", "id", "0"])
TEXTS = st.sampled_from(["", "a", "b", "ab", "abc", "a b"])
NUMBERS = st.one_of(
    st.integers(-3, 3),
    st.sampled_from([0.0, -0.0, 1.0, 1.5, -2.5, 2.0**53, 2**53 + 1, 2**63, 2**64, -(2**70), 1e300, 10**400]),
)
SCALARS = st.one_of(st.none(), st.booleans(), NUMBERS, TEXTS)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=4), max_leaves=8
)
PLAIN_NUMBERS = st.one_of(st.integers(-3, 3), st.sampled_from([0.5, 1.0, -1.5]))
PLAIN_SCALARS = st.one_of(st.none(), st.booleans(), PLAIN_NUMBERS, TEXTS)
COUNTS = st.integers(0, 3)
TYPES = st.sampled_from(["null", "boolean", "integer", "number", "string", "array", "object"])
DRAFTS = {
    4: "http://json-schema.org/draft-04/schema#",
    6: "http://json-schema.org/draft-06/schema#",
    7: "http://json-schema.org/draft-07/schema#",
}


def plain_schemas(draft: int) -> st.SearchStrategy[Any]:
    """Schemas in the part of a draft that may become generated code."""
    leaf: st.SearchStrategy[Any] = keywords(draft, st.nothing())
    if draft > 4:
        leaf |= st.booleans()
    return st.recursive(leaf, lambda inner: keywords(draft, inner), max_leaves=6)


def keywords(draft: int, inner: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """A schema with any of a draft's keywords; those with schemas in them where there are such."""
    some = st.lists(inner, min_size=1, max_size=3)
    choices: dict[str, st.SearchStrategy[Any]] = {
        **dict.fromkeys(("minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties"), COUNTS),
        "type": TYPES | st.lists(TYPES, min_size=1, max_size=3, unique=True),
        "enum": st.lists(PLAIN_SCALARS, min_size=1, max_size=3, unique_by=json.dumps),
        "minimum": PLAIN_NUMBERS,
        "maximum": PLAIN_NUMBERS,
        "required": st.lists(NAMES, min_size=1, max_size=2, unique=True),
        "default": VALUES.filter(lambda value: not isinstance(value, dict)),
        "title": TEXTS,
    }
    if draft > 4:
        choices |= {"const": PLAIN_SCALARS, "exclusiveMinimum": PLAIN_NUMBERS, "exclusiveMaximum": PLAIN_NUMBERS}
    if not inner.is_empty:
        choices |= {
            **dict.fromkeys(("allOf", "anyOf", "oneOf"), some),
            "not": inner,
            "items": inner | some,
            "properties": st.dictionaries(NAMES, inner, max_size=3),
            "additionalProperties": inner | st.booleans(),
            "additionalItems": inner | st.booleans(),
            "dependencies": st.dictionaries(
                NAMES, inner | st.lists(NAMES, min_size=1, max_size=2, unique=True), max_size=2
            ),
        }
        if draft > 4:
            choices |= {"contains": inner, "propertyNames": inner}
        if draft > 6:
            choices |= {"if": inner, "then": inner, "else": inner}
    return st.lists(st.sampled_from(sorted(choices)), max_size=4, unique=True).flatmap(
        lambda names: st.fixed_dictionaries({name: choices[name] for name in names}).map(without_traps)
    )


def without_traps(schema: dict[str, Any]) -> dict[str, Any]:
    """Leave out what the second opinion stumbles over: it takes the length of any `items` beside `additionalItems`."""
    if isinstance(schema.get("items"), bool):
        schema.pop("additionalItems", None)
    return schema


@st.composite
def rooted(draw: st.DrawFn, draft: int) -> dict[str, Any]:
    """A plain schema with its draft's name, and definitions that it refers to."""
    root = draw(plain_schemas(draft).filter(lambda schema: isinstance(schema, dict)))
    defined = draw(st.dictionaries(st.sampled_from(["d", "e", "F"]), plain_schemas(draft), max_size=2))
    for name in defined:
        how = draw(st.sampled_from(["allOf", "anyOf"]))
        root = {how: [root, {"$ref": f"#/definitions/{name}"}]}
    return {**root, "$schema": DRAFTS[draft], "definitions": defined}


@st.composite
def near(draw: st.DrawFn, schema: Any, root: dict[str, Any]) -> Any:  # noqa: PLR0911 -- one for each kind of rule
    """A value that a schema may well accept: it follows types, members, items and choices, with a slip now and then."""
    if not isinstance(schema, dict) or draw(st.integers(0, 9)) == 0:
        return draw(VALUES)
    if "$ref" in schema:
        return draw(near(root["definitions"].get(schema["$ref"].rpartition("/")[2]), root))
    if "const" in schema or "enum" in schema:
        return schema.get("const", schema.get("enum", [None])[0])
    for keyword in ("allOf", "anyOf", "oneOf"):
        if keyword in schema and draw(st.booleans()):
            return draw(near(draw(st.sampled_from(schema[keyword])), root))
    wanted = schema.get("type", "object" if {"properties", "required"} & schema.keys() else "array")
    wanted = wanted if isinstance(wanted, str) else wanted[0]
    if wanted == "object":
        members = {**dict.fromkeys(schema.get("required", ()), True), **schema.get("properties", {})}
        return {name: draw(near(inner, root)) for name, inner in members.items()}
    if wanted == "array":
        items = schema.get("items", True)
        if isinstance(items, list):
            return [draw(near(inner, root)) for inner in items]
        return draw(st.lists(near(items, root), min_size=schema.get("minItems", 0), max_size=4))
    numbers = {"integer": st.integers(-3, 3), "number": NUMBERS, "string": TEXTS, "boolean": st.booleans()}
    return draw(numbers.get(wanted, st.none()))


@pytest.mark.parametrize("draft", DRAFTS)
def test_both_engines_agree(draft: int) -> None:
    generated = 0

    @EXAMPLES
    @given(schema=rooted(draft), data=st.data())
    def agree(schema: dict[str, Any], data: st.DataObject) -> None:
        nonlocal generated
        try:
            validator = registered_validator(schema)
        except InvalidSchema:
            reject()
        event(type(validator).__name__)
        if not isinstance(validator, _Generated):
            return  # it asks for a member that it does not allow, say, which the generator refuses
        generated += 1
        other = jsonschema.validators.validator_for(schema)(schema)
        for value in data.draw(st.lists(near(schema, schema), min_size=3, max_size=3), label="values"):
            accepted = validator._judge._validator.is_valid(value)
            event(f"accepted: {accepted}")
            assert accepts(validator._accept, value) == accepted
            assert other.is_valid(value) == accepted

    agree()
    assert generated > 50, "the strategy has left the part that becomes generated code"


def accepts(function: Callable[[Any], Any], value: Any) -> bool:
    before = json.dumps(value)
    try:
        function(value)
    except JsonSchemaValueException:
        return False
    finally:
        assert json.dumps(value) == before
    return True


# --- messages keep values to themselves ------------------------------------------------------------------------------

VALUE_MARK, NAME_MARK, NUMBER_MARK = "sEcReTvalue", "sEcReTname", 987654321987

MARKED = st.recursive(
    st.one_of(
        st.sampled_from(
            [VALUE_MARK, f"a{VALUE_MARK}\n", NUMBER_MARK, -NUMBER_MARK, NUMBER_MARK + 0.5, "a", 1, None, True]
        ),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.sampled_from([NAME_MARK, f"{NAME_MARK}/~2", "a", "b"]), inner, max_size=3),
    ),
    max_leaves=6,
)
RULES: list[Any] = [
    False,
    *({"type": kind} for kind in ("null", "boolean", "integer", "string", "array", "object")),
    {"const": 1},
    {"enum": ["a", 1]},
    {"minimum": 1e30},
    {"maximum": 0},
    {"exclusiveMinimum": 10**20},
    {"exclusiveMaximum": -1},
    {"multipleOf": 2.25},
    {"minLength": 100},
    {"maxLength": 0},
    {"pattern": "^b"},
    {"minItems": 3},
    {"maxItems": 0},
    {"uniqueItems": True},
    {"contains": {"const": 5}},
    {"contains": True, "minContains": 3, "maxContains": 1},
    {"minProperties": 3},
    {"maxProperties": 0},
    {"required": ["z"]},
    {"dependentRequired": {"a": ["z"], "b": ["z"]}},
    {"propertyNames": {"maxLength": 0}},
    {"propertyNames": {"enum": ["a"]}},
    {"additionalProperties": False},
    {"properties": {"a": {}}, "additionalProperties": False},
    {"patternProperties": {"^s": False}},
    {"unevaluatedProperties": False},
    {"unevaluatedItems": False},
    {"prefixItems": [{}], "items": False},
    {"anyOf": [{"const": 1}, {"pattern": "b"}, {"required": ["z"]}]},
    {"oneOf": [{}, {}]},
    {"not": {}},
    {"if": True, "then": {"const": 5}},
    {"contentEncoding": "base64", "format": "email"},
]
OLD_RULES: list[dict[str, Any]] = [
    {"contentEncoding": "base64"},
    {"contentMediaType": "application/json"},
    {"items": [{}], "additionalItems": False},
    {"dependencies": {"a": ["z"], "b": False}},
]


@pytest.mark.parametrize("rule", [*RULES, *OLD_RULES], ids=str)
def test_c9_a_violation_shows_nothing_of_the_value(rule: Any) -> None:
    deep = {"anyOf": [rule, {"items": {"$ref": "#"}, "additionalProperties": {"$ref": "#"}, "minProperties": 1}]}
    nested = {"items": rule, "additionalProperties": rule, "type": ["array", "object"]}
    schemas = [rule, deep, nested] if rule in RULES else [{"$schema": DRAFTS[7], **rule}]
    broken = 0

    @settings(max_examples=40, deadline=None)
    @given(value=MARKED)
    def keeps_quiet(value: Any) -> None:
        nonlocal broken
        for schema in schemas:
            violation = wire_validator(json.dumps(schema).encode()).check(value)
            if violation is not None:
                broken += 1
                assert_quiet(violation)

    keeps_quiet()
    assert broken


def assert_quiet(violation: Violation) -> None:
    told = f"{violation.message} {violation.rule} {violation.schema_path}"
    assert violation.message.isprintable()
    assert NAME_MARK not in told
    for mark in (VALUE_MARK, str(NUMBER_MARK)):
        assert mark not in repr(violation)


# --- work is bounded -------------------------------------------------------------------------------------------------


@st.composite
def referring(draw: st.DrawFn) -> dict[str, Any]:
    """Schemas that refer to one another, recursion included; only later ones apply to the same value."""
    names = ["p", "q", "r", "s"]
    anywhere = st.sampled_from([{"$ref": f"#/$defs/{name}"} for name in names])
    below = {
        "properties": st.dictionaries(st.sampled_from(["a", "b"]), anywhere, min_size=1, max_size=2),
        "patternProperties": st.dictionaries(st.sampled_from(["a", "b", ""]), anywhere, min_size=1, max_size=2),
        "additionalProperties": anywhere,
        "items": anywhere,
        "contains": anywhere,
    }
    defs: dict[str, Any] = {}
    for place, name in enumerate(names):
        later = st.sampled_from([{"$ref": f"#/$defs/{name}"} for name in names[place + 1 :]] or [{}])
        some = st.lists(later, min_size=1, max_size=2)
        same = {"allOf": some, "anyOf": some, "if": later, "else": later}
        defs[name] = draw(st.fixed_dictionaries({}, optional={**below, **same}))
    return {"$defs": defs, "$ref": "#/$defs/p"}


MEMBERS = st.recursive(
    st.none(),
    lambda inner: st.dictionaries(st.sampled_from(["a", "b", "c"]), inner, min_size=1) | st.lists(inner, min_size=1),
    max_leaves=8,
)


@EXAMPLES
@given(schema=referring(), value=MEMBERS)
def test_l12_the_work_of_a_check_is_never_underestimated(schema: dict[str, Any], value: Any) -> None:
    cost = cost_of(Document(schema, id_keyword="$id", is_old=False, dialect=""))
    size = cost.size(value)
    assert size is not None
    assert evaluations(schema, value, schema, {}) <= cost.work(size.weights)


def evaluations(schema: Any, value: Any, root: dict[str, Any], counted: dict[tuple[int, int], int]) -> int:
    """Count the schemas and keywords that an evaluation looks at which leaves nothing out."""
    known = counted.get((id(schema), id(value)))
    if known is None:
        own = 1 + len(schema)
        known = own + sum(evaluations(inner, each, root, counted) for inner, each in applied(schema, value, root))
        counted[id(schema), id(value)] = known
    return known


def applied(schema: dict[str, Any], value: Any, root: dict[str, Any]) -> Iterator[tuple[dict[str, Any], Any]]:
    """Walk what a schema applies, and the value that each is applied to."""
    if "$ref" in schema:
        yield root["$defs"][schema["$ref"][-1]], value
    for word in ("allOf", "anyOf"):
        yield from ((inner, value) for inner in schema.get(word, ()))
    yield from ((schema[word], value) for word in ("if", "else") if word in schema)
    if isinstance(value, list):
        yield from ((schema[word], each) for word in ("items", "contains") if word in schema for each in value)
    elif isinstance(value, dict):
        for name, each in value.items():
            found = [inner for pattern, inner in schema.get("patternProperties", {}).items() if pattern in name]
            found += [schema["properties"][name]] if name in schema.get("properties", {}) else []
            if not found and "additionalProperties" in schema:
                found = [schema["additionalProperties"]]
            yield from ((inner, each) for inner in found)


# --- nothing else comes out ------------------------------------------------------------------------------------------

WORDS = """
    type enum const allOf anyOf oneOf not if then properties patternProperties items prefixItems contains required
    dependencies $ref $dynamicRef $recursiveRef $id id $anchor $dynamicAnchor $recursiveAnchor $defs definitions
    unevaluatedProperties unevaluatedItems pattern minimum multipleOf maxLength uniqueItems
"""
ODD = st.recursive(
    SCALARS | st.sampled_from(["#", "#/$defs/a", "#/items", "http://x/a", "a", "(", "object", "integer", "\ud800"]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(WORDS.split()) | NAMES, inner, max_size=4)
    ),
    max_leaves=12,
)
DIALECTS = st.sampled_from([None, *DRAFTS.values(), "https://json-schema.org/draft/2019-09/schema"])


@EXAMPLES
@given(
    schema=ODD,
    draft=st.sampled_from([None, *DRAFTS.values(), "https://json-schema.org/draft/2019-09/schema"]),
    value=ODD,
)
def test_l11_11_nothing_but_invalid_schema_and_violations_comes_out(schema: Any, draft: str | None, value: Any) -> None:
    if isinstance(schema, dict) and draft is not None:
        schema["$schema"] = draft
    for make in (registered_validator, lambda schema: wire_validator(json.dumps(schema).encode())):
        assert outcome(make, schema, value).isprintable()


def outcome(make: Callable[[Any], Validator], schema: Any, value: Any) -> str:
    try:
        violation = make(schema).check(value)
    except InvalidSchema as exc:
        return str(exc)
    return violation.message if violation else ""
