"""Both sides judge alike: an author's schema, which may become generated code, and the same one from the wire (L12)."""

from __future__ import annotations

import itertools
import json
from typing import Any

import jsonschema
import pytest
from hypothesis import HealthCheck, assume, event, example, given, settings
from hypothesis import strategies as st

from neuron_anyio.schemas import InvalidSchema, _Generated, registered_validator, wire_validator
from tests.pure.test_schemas_properties import DRAFTS, NAMES, SCALARS, VALUES, near, rooted, without_traps

pytestmark = pytest.mark.thorough

EXAMPLES = settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))

ODD_NAMES = st.sampled_from(['a"b', "a'", "a{b}", "a\\", "a\nb", "é", "%s", "$ref", "x" * 101])
CONTAINERS = st.lists(SCALARS, max_size=2) | st.dictionaries(NAMES, SCALARS, max_size=2)
OUTSIDE: dict[str, st.SearchStrategy[Any]] = {
    "pattern": st.sampled_from(["a", "^a", "b$", "^(a+)+$", "^.{2}$"]),
    "patternProperties": st.dictionaries(st.sampled_from(["a", "^b", "0"]), st.just({"type": "integer"}), max_size=2),
    "format": st.sampled_from(["email", "date", "a"]),
    "uniqueItems": st.booleans(),
    "multipleOf": st.sampled_from([1, 2, 0.5, 3]),
    "enum": st.lists(SCALARS | CONTAINERS | ODD_NAMES, min_size=1, max_size=3, unique_by=json.dumps),
    "properties": st.dictionaries(NAMES | ODD_NAMES, st.just({"type": "string"}), max_size=2),
    "required": st.lists(NAMES | ODD_NAMES, min_size=1, max_size=2, unique=True),
    "dependencies": st.dictionaries(NAMES | ODD_NAMES, st.just({"minProperties": 2}), max_size=2),
    "maximum": st.sampled_from([2**53 + 1, 2**64, -(2**70), 1e300]),
    "x-own": VALUES,
    "default": VALUES,
    "items": st.just({"$ref": "#"}),
    "additionalProperties": st.just({"$ref": "#/definitions/a-b"}),
    "not": st.just({"not": {"not": {"not": {"not": {"not": {"not": {"not": {"not": {}}}}}}}}}),
}
"""What the generated code does not get, and what it does get with a name or number that it does not."""

ALIKE = {"a-b": {"type": "integer"}, "a_b": {"type": "string"}, "A-B": {}}
"""Definitions that would become one function."""


@st.composite
def outside(draw: st.DrawFn, draft: int) -> dict[str, Any]:
    """A plain schema with one or two things that it may not have, at the top or one level below."""
    root = draw(rooted(draft))
    more = draw(st.lists(st.sampled_from(sorted(OUTSIDE)), min_size=1, max_size=2, unique=True))
    added = {keyword: draw(OUTSIDE[keyword]) for keyword in more}
    root["definitions"] = {**root["definitions"], **ALIKE}
    if draw(st.booleans()):
        return without_traps({**root, **added})
    return {**root, draw(st.sampled_from(["allOf", "anyOf", "oneOf"])): [added, draw(st.sampled_from([added, {}]))]}


@pytest.mark.parametrize("draft", DRAFTS)
@pytest.mark.parametrize("kind", [rooted, outside], ids=["inside", "outside"])
def test_l12_both_sides_say_the_same_within_the_safe_part_and_outside(draft: int, kind: Any) -> None:
    judged = 0

    @EXAMPLES
    @given(schema=kind(draft), data=st.data())
    def agree(schema: dict[str, Any], data: st.DataObject) -> None:
        nonlocal judged
        try:
            wire = wire_validator(json.dumps(schema).encode())
        except InvalidSchema:
            with pytest.raises(InvalidSchema):
                registered_validator(schema)
            return
        author = registered_validator(schema)
        event(type(author).__name__)
        for value in data.draw(st.lists(values(schema), min_size=3, max_size=3), label="values"):
            judged += 1
            assert author.check(value) == wire.check(value)

    agree()
    assert judged > 100


def values(schema: dict[str, Any]) -> st.SearchStrategy[Any]:
    """Values that a schema may well accept, some of them with odd names, and some that it may not."""
    odd = st.dictionaries(NAMES | ODD_NAMES, SCALARS | CONTAINERS, max_size=3)
    return near(schema, schema) | VALUES | odd | st.lists(SCALARS | CONTAINERS, max_size=3) | ODD_NAMES


@pytest.mark.parametrize("draft", DRAFTS)
def test_generated_code_never_accepts_what_the_reference_refuses(draft: int) -> None:
    accepted = 0

    @EXAMPLES
    @given(schema=rooted(draft) | outside(draft), data=st.data())
    def no_wider(schema: dict[str, Any], data: st.DataObject) -> None:
        nonlocal accepted
        try:
            validator = registered_validator(schema)
        except InvalidSchema:
            assume(False)
        assume(isinstance(validator, _Generated))
        reference = jsonschema.validators.validator_for(schema)(schema)
        for value in data.draw(st.lists(values(schema), min_size=3, max_size=3), label="values"):
            if validator.check(value) is None:
                accepted += 1
                assert reference.is_valid(value)

    no_wider()
    assert accepted > 20, "hardly anything was accepted by generated code"


@settings(max_examples=300, deadline=None)
@given(items=st.lists(VALUES, max_size=4), again=st.booleans())
@example(items=[[{"a": 1}, False, {}], [{"a": 1}, 0, {}]], again=True)
def test_our_own_unique_items_judges_as_the_reference_does(items: list[Any], again: bool) -> None:
    items = [*items, *json.loads(json.dumps(items[:1]))] if again else items
    schema = {"uniqueItems": True}
    reference = jsonschema.Draft202012Validator(schema)
    # Pair by pair: of more it sorts the items, which parts equal ones where Python takes 0 and false for the same.
    assert (registered_validator(schema).check(items) is None) == all(
        reference.is_valid([*pair]) for pair in itertools.combinations(items, 2)
    )
