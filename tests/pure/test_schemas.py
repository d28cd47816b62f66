"""JSON Schema: which draft, which engine, what is accepted, what is said (promises L11.8, L11.9, L11.11, L12)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import jsonschema
import pytest

from neuron_anyio.capability import capability
from neuron_anyio.schemas import InvalidSchema, Validator, Violation, _Generated, registered_validator, wire_validator

DRAFTS = {
    4: "http://json-schema.org/draft-04/schema#",
    6: "http://json-schema.org/draft-06/schema#",
    7: "http://json-schema.org/draft-07/schema#",
    2019: "https://json-schema.org/draft/2019-09/schema",
    2020: "https://json-schema.org/draft/2020-12/schema",
}
PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string", "minLength": 1}, "age": {"type": "integer", "minimum": 0}},
    "required": ["name"],
    "additionalProperties": False,
}


def from_wire(schema: Any) -> Validator:
    return wire_validator(json.dumps(schema).encode())


def both(schema: Any) -> list[Validator]:
    return [registered_validator(schema), from_wire(schema)]


def of_draft(draft: int, schema: Mapping[str, Any]) -> dict[str, Any]:
    return {"$schema": DRAFTS[draft], **schema}


def is_generated(schema: Mapping[str, Any]) -> bool:
    return isinstance(registered_validator(schema), _Generated)


# --- the trivial schemas ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [None, True, 0, -1.5, "", "x", [], [1], {}, {"a": {}}, 2**70])
def test_l12_empty_and_true_accept_everything_and_false_nothing(value: Any) -> None:
    for validator in both({}) + both(True):
        assert validator.check(value) is None
    for validator in both(False):
        violation = validator.check(value)
        assert violation is not None
        assert (violation.path, violation.rule) == ("", "false")


@pytest.mark.parametrize("schema", [[], [{}], [["type", "string"]], (), "", "{}", 0, 1, 1.5, None])
def test_L11_11_a_schema_is_an_object_or_a_boolean_and_nothing_else(schema: Any) -> None:
    rule = "a schema is an object, or true or false"
    with pytest.raises(InvalidSchema, match=rule):
        registered_validator(schema)
    with pytest.raises(InvalidSchema, match=rule):
        from_wire(schema)
    if schema is not None:
        with pytest.raises(InvalidSchema, match=rule) as caught:
            capability("examples/any", input_schema=schema)(lambda value: value)
        assert caught.value.__notes__ == ["in input_schema of capability 'examples/any'"]


# --- drafts ----------------------------------------------------------------------------------------------------------


def test_l12_no_dialect_means_2020_12() -> None:
    for validator in both({"prefixItems": [{"type": "integer"}]}):
        assert validator.check(["x"]) is not None
    for validator in both({"items": {"type": "integer"}, "prefixItems": [{"type": "string"}]}):
        assert validator.check(["x", 1]) is None
    for schema in (
        {"items": [{"type": "integer"}]},
        {"definitions": {"a": {"items": [{}]}}, "$ref": "#/definitions/a"},
    ):
        with pytest.raises(InvalidSchema, match="/items breaks `type`"):
            registered_validator(schema)


@pytest.mark.parametrize(
    ("schema", "value", "accepting"),
    [
        ({"const": 1}, 2, {4}),
        ({"if": {}, "then": {"type": "null"}}, 1, {4, 6}),
        ({"dependentRequired": {"a": ["b"]}}, {"a": 1}, {4, 6, 7}),
        ({"prefixItems": [{"type": "null"}]}, [1], {4, 6, 7, 2019}),
        ({"items": {}, "additionalItems": {"type": "null"}}, [1], {4, 6, 7, 2019, 2020}),
        ({"unevaluatedProperties": {"type": "null"}}, {"a": 1}, {4, 6, 7}),
        ({"type": "integer"}, 1.0, {6, 7, 2019, 2020}),
        ({"$ref": "#/definitions/a", "type": "null", "definitions": {"a": {}}}, 1, {4, 6, 7}),
    ],
)
def test_a_schema_means_what_its_draft_says(schema: dict[str, Any], value: Any, accepting: set[int]) -> None:
    for draft in DRAFTS:
        for validator in both(of_draft(draft, schema)):
            assert (validator.check(value) is None) == (draft in accepting), draft


@pytest.mark.parametrize("draft", DRAFTS)
@pytest.mark.parametrize("spelling", [str, lambda uri: uri.rstrip("#"), lambda uri: uri.rstrip("#") + "#"])
def test_a_draft_is_known_with_and_without_the_hash(draft: int, spelling: Any) -> None:
    schema = {"$schema": spelling(DRAFTS[draft]), "maximum": 1}
    assert from_wire(schema).check(1) is None
    assert from_wire(schema).check(2) is not None


@pytest.mark.parametrize(
    "named",
    ["http://json-schema.org/draft-03/schema#", "http://json-schema.org/schema#", "", "draft-07", 7, None, ["x"],
     "http://example.com/draft-07/schema"],
)  # fmt: skip
def test_l11_11_another_dialect_is_refused_by_name(named: Any) -> None:
    for make in (registered_validator, from_wire):
        with pytest.raises(InvalidSchema, match=r"`\$schema` .* is none of draft-04"):
            make({"$schema": named})


# --- which engine ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("draft", [4, 6, 7])
@pytest.mark.parametrize(
    "schema",
    [
        PERSON,
        {"items": [{"type": "integer"}, {}], "additionalItems": False},
        {"anyOf": [{"type": "null"}, {"enum": ["a", 1, 1.5, None, True]}]},
        {"oneOf": [{"minimum": 1}, {"maximum": -1}], "not": {"enum": [0]}},
        {"definitions": {"a": {"type": "string"}, "B_1": {}}, "items": {"$ref": "#/definitions/a"}},
        {"dependencies": {"a": ["b"], "c": {"minProperties": 2}}},
        {"title": "T", "description": "any 'text' {at} \"all\" \\ \n", "default": "%s{}", "type": "string"},
    ],
)
def test_an_authors_plain_schema_of_an_old_draft_is_generated_code(draft: int, schema: dict[str, Any]) -> None:
    assert is_generated(of_draft(draft, schema))


@pytest.mark.parametrize(
    "schema",
    [
        {"pattern": "a"},
        {"patternProperties": {"a": {}}},
        {"format": "date"},
        {"uniqueItems": True},
        {"multipleOf": 2},
        {"contentEncoding": "base64"},
        {"contentMediaType": "application/json"},
        {"x-vendor": 1},
        {"$id": "http://example.com/a"},
        {"items": {"$id": "#a"}},
        {"properties": {"a": {"$ref": "#"}}},
        {"definitions": {"t": {"items": {"$ref": "#/definitions/t"}}}, "$ref": "#/definitions/t"},
        {"properties": {"a": {}, "b": {"$ref": "#/properties/a"}}},
        {"definitions": {"a-b": {}, "a_b": {}}},
        {"definitions": {"a": {}, "A": {}}},
        {"definitions": {"a": {}, "a_": {}}},
        {"definitions": {"a/b": {}}},
        {"properties": {'a"b': {}}},
        {"properties": {"a{b}": {}}},
        {"properties": {"a\\": {}}},
        {"properties": {"a\nb": {}}},
        {"properties": {"é": {}}},
        {"properties": {"x" * 101: {}}},
        {"required": ["a'b"]},
        {"dependencies": {"a'": ["b"]}},
        {"dependencies": {"a": ["b'"]}},
        {"enum": ["{}"]},
        {"enum": [[1]]},
        {"const": {"a": 1}},
        {"enum": list(range(201))},
        {"maximum": 2**53 + 1},
        {"const": 1e300},
        {"default": {"$ref": "http://example.com/"}},
        {"not": {"not": {"not": {"not": {"not": {"not": {"not": {"not": {}}}}}}}}},
        {"allOf": [{}] * 501},
        {"items": {"$schema": "http://json-schema.org/draft-07/schema#"}},
        {"items": {"definitions": {"a": {}}}},
    ],
)
def test_what_could_harm_generated_code_is_left_to_the_other_engine(schema: dict[str, Any]) -> None:
    assert not is_generated(of_draft(7, schema))


@pytest.mark.parametrize(
    ("draft", "keyword"),
    [(4, "const"), (4, "contains"), (4, "propertyNames"), (6, "if"), (4, "examples"), (6, "$comment")],
)
def test_a_keyword_that_the_draft_does_not_know_is_left_to_the_other_engine(draft: int, keyword: str) -> None:
    assert not is_generated(of_draft(draft, {keyword: {"properties": 5}}))


@pytest.mark.parametrize("draft", [2019, 2020])
def test_new_drafts_and_no_draft_are_left_to_the_other_engine(draft: int) -> None:
    assert not is_generated(of_draft(draft, PERSON))
    assert not is_generated(PERSON)


def test_nothing_from_the_wire_is_ever_generated_code() -> None:
    assert not isinstance(from_wire(of_draft(7, PERSON)), _Generated)


def test_definitions_that_differ_in_punctuation_alone_are_kept_apart() -> None:
    schema = of_draft(
        7,
        {
            "definitions": {"a-b": {"type": "string"}, "a_b": {"type": "integer"}, "A-B": {"type": "null"}},
            "items": [{"$ref": "#/definitions/a-b"}, {"$ref": "#/definitions/a_b"}, {"$ref": "#/definitions/A-B"}],
        },
    )
    for validator in both(schema):
        assert validator.check(["x", 1, None]) is None
        assert [validator.check(value) is None for value in ([1], ["x", "x"], ["x", 1, 1])] == [False] * 3


def test_the_authors_schema_is_neither_changed_nor_kept() -> None:
    schema: dict[str, Any] = of_draft(7, {"properties": {"a": {"default": 1, "type": "integer"}}})
    before = json.dumps(schema)
    validator = registered_validator(schema)
    value: dict[str, Any] = {}
    assert validator.check(value) is None
    assert (json.dumps(schema), value) == (before, {})
    schema["properties"]["a"]["type"] = "string"
    assert validator.check({"a": 1}) is None


def test_any_mapping_can_be_registered() -> None:
    assert registered_validator(MappingProxyType({"type": "string"})).check(1) is not None


@pytest.mark.parametrize("schema", [5, None, "string", [], ["a"], {"const": object()}, {"const": {1: {2, "\ud800"}}}])
def test_l11_11_what_is_no_json_cannot_be_registered(schema: Any) -> None:
    with pytest.raises(InvalidSchema):
        registered_validator(schema)


# --- what is accepted ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("draft", DRAFTS)
def test_l12_format_is_not_asserted(draft: int) -> None:
    for validator in both(of_draft(draft, {"format": "email"})):
        assert validator.check("nobody") is None


NUMBERS = [0, 1, -1, 2, 3, 1.0, 1.5, -0.0, 2**53, 2**53 + 1, float(2**53), 2**63, 2**64, 2**64 + 1, -(2**70), 1e300,
           1e22, 10**22, True, False, "1", None, [], {}]  # fmt: skip
NUMBER_RULES: list[dict[str, Any]] = [
    {"type": "integer"},
    {"type": "number"},
    {"type": "boolean"},
    {"type": ["integer", "boolean"]},
    {"minimum": 1},
    {"maximum": 2**53},
    {"maximum": 2**64},
    {"maximum": 1e22},
    {"minimum": 0.5},
    {"enum": [1]},
    {"enum": [0, True]},
    {"enum": [2**64]},
    {"enum": [1.0, False]},
    {"multipleOf": 2},
    {"multipleOf": 0.5},
]


@pytest.mark.parametrize("draft", DRAFTS)
@pytest.mark.parametrize("rule", NUMBER_RULES, ids=str)
def test_numbers_are_judged_as_a_second_opinion_judges_them(draft: int, rule: dict[str, Any]) -> None:
    schema = of_draft(draft, rule)
    other = jsonschema.validators.validator_for(schema)(schema)
    for validator in both(schema):
        for number in NUMBERS:
            assert (validator.check(number) is None) == other.is_valid(number), number


CASES: list[tuple[dict[str, Any], list[Any]]] = [
    (PERSON, [{"name": "x"}, {"name": ""}, {}, {"name": "x", "age": -1}, {"name": "x", "b": 1}, [], None]),
    ({"const": {"a": [1, None]}}, [{"a": [1, None]}, {"a": [1.0, None]}, {"a": [True, None]}, {"a": [1]}]),
    ({"enum": [[1], {}, "a", None]}, [[1], [1.0], [True], {}, [], "a", "b", None, 0, False]),
    ({"uniqueItems": True}, [[1, 1.0], [1, True], [[1], [True]], [{"a": 1}, {"a": 1.0}], [0, False], ["a", "b"], []]),
    ({"minLength": 2, "maxLength": 2}, ["\u00e9", "\u00e9\u00e9", "\U0001d4b3" * 2, "\U0001f469\u200d", "abc", 5]),
    ({"contains": {"type": "string"}}, [[], [1], [1, "a"], "a", {}]),
    ({"contains": {}, "minContains": 2, "maxContains": 3}, [[], [1], [1, 2], [1, 2, 3, 4]]),
    ({"propertyNames": {"maxLength": 1}}, [{}, {"a": 1}, {"ab": 1}, ["ab"]]),
    ({"patternProperties": {"^a": {"type": "null"}}, "additionalProperties": False}, [{"a": None}, {"a": 1}, {"b": 1}]),
    ({"dependentRequired": {"a": ["b"]}}, [{"a": 1}, {"a": 1, "b": 1}, {"b": 1}]),
    ({"dependentSchemas": {"c": {"minProperties": 2}}}, [{"c": 1}, {"c": 1, "d": 1}, {"d": 1}]),
    ({"if": {"required": ["a"]}, "then": {"maxProperties": 1}, "else": False}, [{}, {"a": 1}, {"a": 1, "b": 1}, 5]),
    ({"oneOf": [{"type": "integer"}, {"minimum": 2}]}, [1, 2.5, 3, 1.5, "x"]),
    ({"not": {"anyOf": [{"type": "string"}, {"type": "null"}]}}, ["x", None, 1]),
    ({"allOf": [{"properties": {"a": {}}}], "unevaluatedProperties": False}, [{}, {"a": 1}, {"b": 1}]),
    ({"prefixItems": [{}], "unevaluatedItems": False}, [[], [1], [1, 2]]),
    ({"items": {"$ref": "#"}, "maxItems": 1}, [[], [[]], [[[], []]], [1], 1]),
    ({"$ref": "#/$defs/a%25~1b", "$defs": {"a%/b": {"type": "null"}}}, [None, 1]),
    ({"$id": "http://x/y", "$ref": "z", "$defs": {"q": {"$id": "z", "type": "null"}}}, [None, 1]),
    ({"$ref": "#q", "$defs": {"q": {"$anchor": "q", "type": "null"}}}, [None, 1]),
    ({"$ref": "#/x-own/q", "x-own": {"q": {"type": "null"}}}, [None, 1]),
    ({"$ref": "https://json-schema.org/draft/2020-12/schema"}, [{}, True, {"type": "x"}, {"not": {"not": 5}}, 5]),
    (
        {
            "$id": "http://x/strict", "$dynamicAnchor": "node", "$ref": "tree", "unevaluatedProperties": False,
            "$defs": {"tree": {"$id": "tree", "$dynamicAnchor": "node", "type": "object", "properties": {
                "data": True, "children": {"items": {"$dynamicRef": "#node"}}}}},
        },
        [{}, {"data": 1}, {"daat": 1}, {"children": [{"data": 1}]}, {"children": [{"daat": 1}]}],
    ),
]  # fmt: skip


@pytest.mark.parametrize(("schema", "values"), CASES, ids=lambda case: json.dumps(case)[:60])
def test_values_are_judged_as_a_second_opinion_judges_them(schema: dict[str, Any], values: list[Any]) -> None:
    other = jsonschema.Draft202012Validator(schema)
    for validator in both(schema):
        assert [validator.check(value) is None for value in values] == [other.is_valid(value) for value in values]


# --- what is said ----------------------------------------------------------------------------------------------------


def said(schema: Any, value: Any) -> Violation:
    """The violation, which has to be the same for both sides."""
    found = {validator.check(value) for validator in both(schema)}
    assert len(found) == 1
    violation = found.pop()
    assert violation is not None
    return violation


@pytest.mark.parametrize(
    ("schema", "value", "path", "rule", "schema_path", "message"),
    [
        (PERSON, {}, "", "required", "/required", 'the value breaks `required`: the member "name" is missing'),
        (PERSON, {"name": 5}, "/name", "type", "/properties/name/type",
         "/name breaks `type`: must be of type string"),
        (PERSON, {"name": "x", "age": -1}, "/age", "minimum", "/properties/age/minimum",
         "/age breaks `minimum`: must be at least 0"),
        (PERSON, {"name": "x", "secret": 1}, "", "additionalProperties", "/additionalProperties",
         "the value breaks `additionalProperties`: a member is there that the schema does not declare"),
        ({"additionalProperties": False}, {"secret": 1}, "", "additionalProperties", "/additionalProperties",
         "the value breaks `additionalProperties`: the schema allows nothing here"),
        ({"additionalProperties": {"type": "integer"}}, {"secret": "x"}, "/secret", "type",
         "/additionalProperties/type", "/* breaks `type`: must be of type integer"),
        ({"properties": {"a/b": {"items": {"properties": {"c~": False}}}}}, {"a/b": [0, {"c~": 1}]}, "/a~1b/1/c~0",
         "properties", "/properties/a~1b/items/properties/c~0",
         "/a~1b/1/c~0 breaks `properties`: the schema allows nothing here"),
        ({"$ref": "#/$defs/a", "$defs": {"a": {"enum": ["a", 1]}}}, 2, "", "enum", "/$defs/a/enum",
         'the value breaks `enum`: must be one of ["a", 1]'),
        ({"const": "x" * 300}, 2, "", "const", "/const",
         f'the value breaks `const`: must be "{"x" * 99}...'),
        ({"type": ["null", "string"]}, 2, "", "type", "/type",
         "the value breaks `type`: must be of type null or string"),
        ({"pattern": "^a\u2028$"}, "b", "", "pattern", "/pattern",
         'the value breaks `pattern`: must match the pattern "^a\\u2028$"'),
        ({"required": ["a\nb"]}, {}, "", "required", "/required",
         'the value breaks `required`: the member "a\\nb" is missing'),
        ({"dependentRequired": {"a": ["b"]}}, {"a": 1}, "", "dependentRequired", "/dependentRequired",
         'the value breaks `dependentRequired`: the member "b" is missing'),
        ({"contains": {"type": "string"}, "minContains": 2}, ["a"], "", "minContains", "/minContains",
         "the value breaks `minContains`: too few items match `contains`"),
        ({"propertyNames": {"maxLength": 3}}, {"secret": 1}, "", "propertyNames", "/propertyNames/maxLength",
         "the value breaks `propertyNames`: a member's name does not match the schema for names"),
        ({"anyOf": [{"type": "null"}, {"type": "string"}]}, 5, "", "anyOf", "/anyOf",
         "the value breaks `anyOf`: matches none of the alternatives"),
        ({"not": {"type": "integer"}}, 5, "", "not", "/not", "the value breaks `not`: matches what the schema forbids"),
        ({"unevaluatedProperties": False}, {"secret": 5}, "", "unevaluatedProperties", "/unevaluatedProperties",
         "the value breaks `unevaluatedProperties`: a member is there that the schema does not declare"),
        ({"prefixItems": [{}], "items": False}, [1, 2], "/1", "items", "/items",
         "/1 breaks `items`: the schema allows nothing here"),
        ({"exclusiveMaximum": 10.5}, 11, "", "exclusiveMaximum", "/exclusiveMaximum",
         "the value breaks `exclusiveMaximum`: must be less than 10.5"),
        ({"uniqueItems": True}, [1, 1], "", "uniqueItems", "/uniqueItems",
         "the value breaks `uniqueItems`: no two items may be equal"),
    ],
)  # fmt: skip
def test_l11_8_a_violation_names_place_rule_and_what_the_rule_wants(
    schema: Any, value: Any, path: str, rule: str, schema_path: str, message: str
) -> None:
    assert said(schema, value) == Violation(path=path, rule=rule, schema_path=schema_path, message=message)


@pytest.mark.parametrize("draft", [4, 6, 7])
def test_both_engines_say_the_same(draft: int) -> None:
    schema = of_draft(draft, PERSON)
    assert is_generated(schema)
    assert said(schema, {"name": "x", "age": "old"}).message == "/age breaks `type`: must be of type integer"


def test_a_pointer_that_would_be_too_long_ends_at_an_ancestor() -> None:
    schema = {"properties": {"a": {"additionalProperties": {"type": "integer"}}}}
    violation = said(schema, {"a": {"k" * 100_000: "x"}})
    assert violation.path == "/a"
    assert violation.message == "/a/* breaks `type`: must be of type integer"


def test_a_large_value_is_refused_without_its_place() -> None:
    schema = {"items": {"anyOf": [{"type": "integer"}, {"type": "null"}]}}
    assert said(schema, ["x"] * 1000).path == "/0"
    violation = said(schema, ["x" * 1000] * 10_000)
    assert (violation.path, violation.rule) == ("", "schema")
    plain = said({"items": {"type": "integer"}}, ["x" * 1000] * 10_000)
    assert plain.path == "/0"


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        ({"type": 5}, "/type breaks `anyOf`: matches none of the alternatives; it is 5"),
        ({"properties": {"a": {"minLength": -1}}}, "/properties/a/minLength breaks `minimum`: must be at least 0"),
        ({"required": "a"}, '/required breaks `type`: must be of type array; it is "a"'),
        ({"items": {"pattern": "^(?!a)"}}, '/items/pattern breaks `pattern`: must be a "regex" that runs in linear'),
        ({"$ref": "https://example.com/a"}, '`$ref` "https://example.com/a" leads out of the schema, and nothing is'),
        ({"$ref": "#/$defs/a"}, '`$ref` "#/$defs/a" leads to no schema'),
        ({"$ref": "#"}, "a reference leads back to where it stands"),
    ],
)  # fmt: skip
def test_l11_11_an_invalid_schema_is_refused_with_place_and_reason(schema: Any, message: str) -> None:
    for make in (registered_validator, from_wire):
        with pytest.raises(InvalidSchema) as caught:
            make(schema)
        assert str(caught.value).startswith(message)
        assert str(caught.value).isprintable()
