"""Promise L12: what a reference leads to is the same in our analysis, which bounds the work, and in the engine."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from typing import Any

import pytest

from neuron_anyio.schema_refs import METASCHEMA, Document
from neuron_anyio.schemas import InvalidSchema, wire_validator

pytestmark = pytest.mark.thorough

DIALECTS = {
    4: "http://json-schema.org/draft-04/schema",
    7: "http://json-schema.org/draft-07/schema",
    2019: "https://json-schema.org/draft/2019-09/schema",
    2020: "https://json-schema.org/draft/2020-12/schema",
}
SCHEMAS = 3_000
"""Of each draft; about one in eight has a reference past an identifier that is followed."""

SINGLE, LISTED = ("not", "items", "x-one"), ("allOf", "x-list")
NAMED = ("$defs", "definitions", "properties", "dependencies", "dependentSchemas", "x-own")
HOMES = (*SINGLE, *LISTED, *NAMED, "$defs", "definitions", "definitions")
IDS = ("http://x/a", "http://x/b/", "b", "b/", "a", "c/d", "http://y/", "#a", "#b", "urn:x:a")


class Tree:
    """A random schema that asks nothing of an integer but which one it is, here and by way of references.

    `schema` has a number of its own at every leaf; references wait for `refer`.
    """

    def __init__(self, dice: random.Random, draft: int) -> None:
        self.dice = dice
        self.draft = draft
        self.id_keyword = "id" if draft == 4 else "$id"
        self.ids = dice.sample(IDS, len(IDS))
        self.numbers = 0
        self.waiting: list[dict[str, Any]] = []
        self.schema = self.node(4)
        ways = sorted(set(self.ways(self.schema)))
        for schema in self.waiting:
            schema["$ref"] = dice.choice(ways)
        self.schema["$schema"] = DIALECTS[draft]

    def node(self, levels: int) -> dict[str, Any]:
        schema: dict[str, Any] = {}
        if self.ids and self.dice.random() < 0.4:
            schema[self.id_keyword] = self.ids.pop()
        if self.dice.random() < 0.2 and self.draft > 7:
            schema["$anchor"] = self.dice.choice("ab")
        if self.dice.random() < 0.25:
            self.waiting.append(schema)
        elif self.dice.random() < 0.6:
            schema["enum"] = [self.numbers]
            self.numbers += 1
        for home in self.dice.sample(HOMES, self.dice.choice((1, 2))) if levels else ():
            if home in SINGLE:
                schema[home] = self.node(levels - 1)
            elif home in LISTED:
                schema[home] = [self.node(levels - 1)]
            else:
                schema[home] = {name: self.node(levels - 1) for name in self.dice.choice(("a", "b", "ab"))}
        return schema

    def ways(self, value: Any, path: str = "", bases: tuple[tuple[str, str], ...] = (("", ""),)) -> Iterator[str]:
        """Walk all ways to write a reference to a place: a pointer from the top, or from an identifier on the way."""
        if isinstance(value, list):
            for step, inner in enumerate(value):
                yield from self.ways(inner, f"{path}/{step}", bases)
        if not isinstance(value, dict):
            return
        if self.id_keyword in value and isinstance(value[self.id_keyword], str):
            bases = (*bases, (value[self.id_keyword], path))
            yield value[self.id_keyword]
        if isinstance(value.get("$anchor"), str):
            yield f"#{value['$anchor']}"
        yield from (f"{base.partition('#')[0]}#{path[len(start) :]}" for base, start in bases)
        for step, inner in value.items():
            yield from self.ways(inner, f"{path}/{step}", bases)


@pytest.mark.parametrize("draft", DIALECTS)
def test_l12_references_lead_where_the_engine_follows_them(draft: int) -> None:
    dice = random.Random(draft)
    followed = past_identifier = 0
    for _ in range(SCHEMAS):
        tree = Tree(dice, draft)
        try:
            validator = wire_validator(json.dumps(tree.schema).encode())
        except InvalidSchema:
            continue  # a circle, an identifier that is there twice, a reference to nowhere
        document = Document(
            tree.schema, id_keyword=tree.id_keyword, is_old=draft <= 7, dialect=DIALECTS[draft].partition("//")[2]
        )
        followed += bool(tree.waiting)
        past_identifier += any("#/" in schema["$ref"] for schema in tree.waiting) and tree.id_keyword in tree.schema
        for number in range(-1, tree.numbers):
            accepted = validator.check(number) is None
            assert accepted == is_accepted(document, tree.schema, number, is_old=draft <= 7), (number, tree.schema)
    assert followed > SCHEMAS // 20
    assert past_identifier > SCHEMAS // 100


def is_accepted(document: Document, schema: Any, number: int, *, is_old: bool) -> bool:
    """Judge a number by following what the analysis says of references."""
    if isinstance(schema, bool):
        return schema
    assert schema is not METASCHEMA
    applied = [target for group in document.targets(schema) for target in group]
    if not (is_old and "$ref" in schema):
        applied += schema.get("allOf", [])
        if number not in schema.get("enum", [number]):
            return False
        if "not" in schema and is_accepted(document, schema["not"], number, is_old=is_old):
            return False
    return all(is_accepted(document, each, number, is_old=is_old) for each in applied)
