"""A strategy for JSON Schemas together with values of which it is sure how they are judged.

Nothing here evaluates a schema. Each rule is made together with a strategy for what it accepts and one for what it
refuses, and rules of rules are put together so that both stay certain.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple, TypeAlias, cast, get_args

import msgspec
from hypothesis import strategies as st
from hypothesis.errors import InvalidArgument
from hypothesis.strategies import SearchStrategy

from .strategy_values import TEXTS, Json, json_values

__all__ = ["Draft", "schemas_with_instances"]

Draft: TypeAlias = Literal["4", "6", "7", "2019-09", "2020-12"]

_URIS = {
    "4": "http://json-schema.org/draft-04/schema#",
    "6": "http://json-schema.org/draft-06/schema#",
    "7": "http://json-schema.org/draft-07/schema#",
    "2019-09": "https://json-schema.org/draft/2019-09/schema",
    "2020-12": "https://json-schema.org/draft/2020-12/schema",
}
_DEFAULT: Draft = "2020-12"
_NEW = ("2019-09", "2020-12")

DEPTH = 2
"""How deep rules of rules go: every keyword is met inside every other, and a schema still fits on a screen."""


class _Rule(NamedTuple):
    """A schema, and values that it accepts and refuses for certain. `refused` is None where it refuses nothing."""

    schema: dict[str, Any]
    accepted: SearchStrategy[Json]
    refused: SearchStrategy[Json] | None


_INTEGERS = st.integers(-100, 100)
_NAMES = st.sampled_from(["a", "b", "c d", "é", "x-1", "$y"])
_TYPES = ("null", "boolean", "integer", "string", "array", "object")
_OF_TYPE: dict[str, SearchStrategy[Json]] = {
    "null": st.none(),
    "boolean": st.booleans(),
    "integer": _INTEGERS,
    "string": TEXTS,
    "array": st.lists(json_values(max_leaves=2), max_size=3),
    "object": st.dictionaries(TEXTS, json_values(max_leaves=2), max_size=3),
}


def _others(*types: str) -> SearchStrategy[Json]:
    """Values of other types than these. A fraction stands for the numbers that are no integers, for `integer` alone."""
    left: list[SearchStrategy[Json]] = [_OF_TYPE[name] for name in _TYPES if name not in types]
    return st.one_of([*left, *([st.just(0.5)] if types == ("integer",) else [])])


# ---- rules about one value


def _of_type(draw: st.DrawFn, _: Draft) -> _Rule:
    name = draw(st.sampled_from(_TYPES))
    return _Rule({"type": name}, _OF_TYPE[name], _others(name))


def _of_types(draw: st.DrawFn, _: Draft) -> _Rule:
    names = draw(st.lists(st.sampled_from(_TYPES), min_size=2, max_size=3, unique=True))
    return _Rule({"type": names}, st.one_of([_OF_TYPE[name] for name in names]), _others(*names))


def _numbers(draw: st.DrawFn, draft: Draft) -> _Rule:
    low, span = draw(_INTEGERS), draw(st.integers(2, 50))
    high, exclusive = low + span, draw(st.booleans())
    schema: dict[str, Any] = {"type": draw(st.sampled_from(["integer", "number"]))}
    if not exclusive:
        schema |= {"minimum": low, "maximum": high}
    elif draft == "4":
        schema |= {"minimum": low, "exclusiveMinimum": True, "maximum": high, "exclusiveMaximum": True}
    else:
        schema |= {"exclusiveMinimum": low, "exclusiveMaximum": high}
    accepted: SearchStrategy[Json] = st.integers(low + exclusive, high - exclusive)
    if schema["type"] == "number":
        accepted |= st.integers(4 * low + 1, 4 * high - 1).map(lambda quarters: quarters / 4)
    outside = st.integers(high + (not exclusive), high + 100) | st.integers(low - 100, low - (not exclusive))
    others = _others("integer") if schema["type"] == "integer" else _others("integer", "number")
    return _Rule(schema, accepted, outside | others)


def _multiples(draw: st.DrawFn, _: Draft) -> _Rule:
    step = draw(st.integers(2, 12))
    schema = {"type": "integer", "multipleOf": step}
    return _Rule(schema, _INTEGERS.map(lambda times: times * step), _INTEGERS.map(lambda times: times * step + 1))


def _lengths(draw: st.DrawFn, _: Draft) -> _Rule:
    low, span = draw(st.integers(0, 3)), draw(st.integers(0, 3))
    characters = st.characters(exclude_categories=["Cs"])
    refused = st.text(characters, min_size=low + span + 1, max_size=low + span + 4) | _others("string")
    if low:
        refused |= st.text(characters, max_size=low - 1)
    schema = {"type": "string", "minLength": low, "maxLength": low + span}
    return _Rule(schema, st.text(characters, min_size=low, max_size=low + span), refused)


def _patterns(draw: st.DrawFn, _: Draft) -> _Rule:
    low, high = draw(st.sampled_from([("a", "f"), ("0", "9"), ("A", "Z")]))
    inside = st.text(st.characters(min_codepoint=ord(low), max_codepoint=ord(high)), min_size=1, max_size=5)
    outside = st.text(st.sampled_from("xyz-_ é"), min_size=1, max_size=5)
    return _Rule({"type": "string", "pattern": f"^[{low}-{high}]+$"}, inside, outside | st.just("") | _others("string"))


def _choices(draw: st.DrawFn, draft: Draft) -> _Rule:
    values = draw(st.lists(st.none() | st.integers(2, 99) | TEXTS, min_size=1, max_size=4, unique=True))
    single = len(values) == 1 and draft != "4"
    schema = {"const": values[0]} if single else {"enum": values}
    strangers: list[Json] = [True, 0.5, 100, [], {}, "".join(str(value) for value in values) + "!"]
    return _Rule(schema, st.sampled_from(values), st.sampled_from(strangers))


def _anything(draw: st.DrawFn, _: Draft) -> _Rule:
    return _Rule(draw(st.sampled_from([{}, {"title": "anything"}])), json_values(max_leaves=3), None)


# ---- rules about what is inside


def _arrays(draw: st.DrawFn, _: Draft, inner: SearchStrategy[_Rule]) -> _Rule:
    items, low, span = draw(inner), draw(st.integers(0, 2)), draw(st.integers(0, 2))
    schema = {"type": "array", "items": items.schema, "minItems": low, "maxItems": low + span}
    refused = st.lists(items.accepted, min_size=low + span + 1, max_size=low + span + 2) | _others("array")
    if items.refused is not None and low + span:
        refused |= _with_one(items.accepted, items.refused, size=max(low, 1))
    return _Rule(schema, st.lists(items.accepted, min_size=low, max_size=low + span), refused)


def _with_one(many: SearchStrategy[Json], one: SearchStrategy[Json], *, size: int) -> SearchStrategy[Json]:
    """Lists of a size, of which one place has something else."""
    made = st.tuples(st.lists(many, min_size=size - 1, max_size=size - 1), one, st.integers(0, size - 1))
    return made.map(lambda drawn: [*drawn[0][: drawn[2]], drawn[1], *drawn[0][drawn[2] :]])


def _unique(_: st.DrawFn, __: Draft, ___: SearchStrategy[_Rule]) -> _Rule:
    accepted = st.lists(_INTEGERS, max_size=4, unique=True)
    refused = st.lists(_INTEGERS, min_size=1, max_size=3, unique=True).map(lambda values: [*values, values[0]])
    return _Rule({"type": "array", "uniqueItems": True}, accepted, refused)


def _tuples(draw: st.DrawFn, draft: Draft, inner: SearchStrategy[_Rule]) -> _Rule:
    places = draw(st.lists(inner, min_size=1, max_size=3))
    heads, rest = ("prefixItems", "items") if draft == "2020-12" else ("items", "additionalItems")
    schema = {"type": "array", heads: [place.schema for place in places], rest: False, "minItems": len(places)}
    accepted = st.tuples(*[place.accepted for place in places])
    refused: SearchStrategy[Json] = accepted.map(lambda values: [*values, None]) | accepted.map(
        lambda values: list(values[1:])
    )
    for number, place in enumerate(places):
        if place.refused is not None:
            others = [other.accepted for other in places]
            refused |= st.tuples(*others[:number], place.refused, *others[number + 1 :]).map(list)
    return _Rule(schema, accepted.map(list), refused)


def _contains(draw: st.DrawFn, draft: Draft, inner: SearchStrategy[_Rule]) -> _Rule:
    wanted = draw(inner)
    if draft == "4" or wanted.refused is None:
        return _arrays(draw, draft, inner)
    accepted = _with_one(json_values(max_leaves=2), wanted.accepted, size=draw(st.integers(1, 3)))
    return _Rule({"type": "array", "contains": wanted.schema}, accepted, st.lists(wanted.refused, max_size=2))


def _objects(draw: st.DrawFn, draft: Draft, inner: SearchStrategy[_Rule]) -> _Rule:
    members = draw(st.dictionaries(_NAMES, inner, min_size=1, max_size=3))
    required = sorted(name for name in members if draw(st.booleans()))
    properties = {"properties": {name: rule.schema for name, rule in members.items()}}
    schema: dict[str, Any] = {"type": "object", **properties}
    closed = draw(st.booleans())
    if required:
        schema["required"] = required
    if closed and draft in _NEW and draw(st.booleans()):
        del schema["properties"]
        schema |= {"allOf": [properties], "unevaluatedProperties": False}
    elif closed:
        schema["additionalProperties"] = False
    have = {name: members[name].accepted for name in required}
    may = {name: rule.accepted for name, rule in members.items() if name not in have}
    refused = _others("object")
    if required:
        refused |= st.fixed_dictionaries({name: have[name] for name in required[1:]}, optional=may)
    if closed:
        refused |= st.fixed_dictionaries({**have, "a stranger": json_values(max_leaves=2)}, optional=may)
    for name, rule in members.items():
        if rule.refused is not None:
            refused |= st.fixed_dictionaries({**have, name: rule.refused})
    return _Rule(schema, st.fixed_dictionaries(have, optional=may), refused)


def _maps(draw: st.DrawFn, draft: Draft, inner: SearchStrategy[_Rule]) -> _Rule:
    values, low = draw(inner), draw(st.integers(0, 2))
    names = st.text("abc", min_size=1, max_size=3).map("x-{}".format)
    schema: dict[str, Any] = {"type": "object", "minProperties": low}
    if draw(st.booleans()):
        schema["patternProperties"] = {"^x-": values.schema}
    else:
        schema["additionalProperties"] = values.schema
    accepted = st.dictionaries(names, values.accepted, min_size=low, max_size=low + 2)
    refused = _others("object")
    if low:
        refused |= st.dictionaries(names, values.accepted, max_size=low - 1)
    if draft != "4" and draw(st.booleans()):
        schema["propertyNames"] = {"maxLength": 5}
        refused |= accepted.map(lambda members: {**members, "far too long": None})
    if values.refused is not None:
        refused |= st.dictionaries(names, values.refused, min_size=max(1, low), max_size=low + 1)
    return _Rule(schema, accepted, refused)


def _dependencies(_: st.DrawFn, draft: Draft, __: SearchStrategy[_Rule]) -> _Rule:
    keyword = "dependentRequired" if draft in _NEW else "dependencies"
    values = json_values(max_leaves=2)
    accepted = st.fixed_dictionaries({}, optional={"b": values, "c": values})
    refused = st.fixed_dictionaries({"a": values}, optional={"c": values})
    return _Rule({keyword: {"a": ["b"]}}, accepted, refused)


# ---- rules about rules


def _all(draw: st.DrawFn, _: Draft, inner: SearchStrategy[_Rule]) -> _Rule:
    rule = draw(inner)
    beside: Any = draw(st.sampled_from([{}, {"description": "the same"}, rule.schema]))
    return rule._replace(schema={"allOf": [rule.schema, beside]})


def _either(draw: st.DrawFn, _: Draft, inner: SearchStrategy[_Rule]) -> _Rule:
    """Rules about values of different types: no value is accepted by two, and one of another type by none."""
    rule = draw(inner)
    one, two = draw(st.lists(st.sampled_from(_TYPES[:4]), min_size=2, max_size=2, unique=True))
    schemas = [{"type": one}, {"type": two}, {"type": "array", "items": rule.schema, "minItems": 1}]
    accepted = _OF_TYPE[one] | _OF_TYPE[two] | st.lists(rule.accepted, min_size=1, max_size=2)
    keyword = draw(st.sampled_from(["anyOf", "oneOf"]))
    return _Rule({keyword: schemas}, accepted, _others(one, two, "array") | st.just([]))


def _only_one(draw: st.DrawFn, _: Draft, inner: SearchStrategy[_Rule]) -> _Rule:
    """A rule beside one that accepts everything: what the rule accepts is accepted twice, which is once too often."""
    rule = draw(inner)
    if rule.refused is None:
        return _Rule({"oneOf": [rule.schema, {"not": {}}]}, rule.accepted, None)
    return _Rule({"oneOf": [rule.schema, {}]}, rule.refused, rule.accepted)


def _not(draw: st.DrawFn, _: Draft, inner: SearchStrategy[_Rule]) -> _Rule:
    rule = draw(inner)
    if rule.refused is None:
        return _Rule({"not": {"not": rule.schema}}, rule.accepted, None)
    return _Rule({"not": rule.schema}, rule.refused, rule.accepted)


def _conditions(draw: st.DrawFn, draft: Draft, inner: SearchStrategy[_Rule]) -> _Rule:
    if draft in ("4", "6"):
        return _all(draw, draft, inner)
    condition = draw(inner)
    kept = draw(st.booleans())
    schema = {"if": condition.schema, "then": kept, "else": not kept}
    if condition.refused is None:
        return _Rule({**schema, "then": True, "else": False}, condition.accepted, None)
    if kept:
        return _Rule(schema, condition.accepted, condition.refused)
    return _Rule(schema, condition.refused, condition.accepted)


_Leaf: TypeAlias = Callable[[st.DrawFn, Draft], _Rule]
_Compound: TypeAlias = Callable[[st.DrawFn, Draft, SearchStrategy[_Rule]], _Rule]

_LEAVES: tuple[_Leaf, ...] = (_of_type, _of_types, _numbers, _multiples, _lengths, _patterns, _choices, _anything)
_COMPOUNDS: tuple[_Compound, ...] = (
    _arrays,
    _unique,
    _tuples,
    _contains,
    _objects,
    _maps,
    _dependencies,
    _all,
    _either,
    _only_one,
    _not,
    _conditions,
)


@st.composite
def _rules(draw: st.DrawFn, draft: Draft, depth: int) -> _Rule:
    if depth == 0 or not draw(st.booleans()):
        leaf: _Leaf = draw(st.sampled_from(_LEAVES))
        return leaf(draw, draft)
    compound: _Compound = draw(st.sampled_from(_COMPOUNDS))
    return compound(draw, draft, _rules(draft, depth - 1))


@st.composite
def _pairs(draw: st.DrawFn, draft: Draft, valid: bool) -> tuple[dict[str, Any], Json]:
    rule = draw(_rules(draft, DEPTH))
    if not valid and rule.refused is None:
        rule = _Rule({"not": rule.schema}, rule.accepted, rule.accepted)
    schema = rule.schema
    if draw(st.booleans()):
        # The whole behind a reference. In the older drafts a `$ref` is alone in its object, so it is here.
        where = "$defs" if draft in _NEW else "definitions"
        schema = {"allOf": [{"$ref": f"#/{where}/rule"}], where: {"rule": schema}}
    if draft != _DEFAULT or draw(st.booleans()):
        schema = {"$schema": _URIS[draft], **schema}
    instance = draw(rule.accepted if valid else cast("SearchStrategy[Json]", rule.refused))
    # A copy of its own: parts of a schema are used in several places, and a test may change what it is given.
    copy: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(schema))
    return copy, instance


def schemas_with_instances(
    draft: Draft = _DEFAULT, *, valid: bool = True
) -> SearchStrategy[tuple[dict[str, Any], Json]]:
    """Return a strategy for pairs of a JSON Schema and a value that it accepts, or for certain refuses.

    `schemas_with_instances("7", valid=False)`. Schemas name their draft in `$schema`, those of 2020-12 not always.
    References lead within the schema, and there is no `format`.

    Args:
        draft: `"4"`, `"6"`, `"7"`, `"2019-09"` or `"2020-12"`.
        valid: whether the schemas accept the values; else they refuse them.

    Raises:
        InvalidArgument: there is no such draft, or `valid` is not a boolean.
    """
    if draft not in get_args(Draft):
        raise InvalidArgument(f"draft must be one of {', '.join(get_args(Draft))}, not {draft!r}")
    if not isinstance(cast("object", valid), bool):
        raise InvalidArgument(f"valid must be True or False, not {valid!r}")
    return _pairs(draft, valid)
