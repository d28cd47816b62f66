"""What the official suite asks, in small: documents that refer to others, identifiers, dialects (promise L12).

The suite itself is run by `benchmarks.schemas.suite`; the schemas here are our own, of the kinds that it has.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.schemas.bundle import bundle
from benchmarks.schemas.suite import DRAFTS, Draft, run, table
from neuron_anyio.schemas import InvalidSchema, registered_validator, wire_validator

ROOT = Path(__file__).resolve().parents[2]
OLD = [draft for draft in DRAFTS if draft.is_old]
NEW = [draft for draft in DRAFTS if not draft.is_old]
HOME = "http://localhost:1234/"
VOCABULARY = "https://json-schema.org/draft/{}/vocab/"


def outcomes(schema: Any, values: list[Any]) -> list[bool]:
    """Judge values from both sides, which have to agree."""
    author, wire = registered_validator(schema), wire_validator(json.dumps(schema).encode())
    found = [author.check(value) is None for value in values]
    assert found == [wire.check(value) is None for value in values]
    return found


def bundled(draft: Draft, schema: dict[str, Any], documents: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Bundle, in the words of a draft."""
    text = json.dumps([{"$schema": draft.uri, **schema}, documents])
    if draft.is_old:
        text = text.replace("$defs", "definitions").replace("$id", draft.id_keyword)
    whole, others = json.loads(text)
    return bundle(
        whole,
        {f"{HOME}{name}": document for name, document in others.items()},
        is_old=draft.is_old,
        id_keyword=draft.id_keyword,
    )


WHOLE = {"type": "integer"}
PARTS = {"$defs": {"number": {"type": "integer"}, "again": {"$ref": "#/$defs/number"}}}
REMOTE: dict[str, tuple[dict[str, Any], dict[str, dict[str, Any]]]] = {
    "a whole document": ({"$ref": f"{HOME}whole.json"}, {"whole.json": WHOLE}),
    "a part of one": ({"$ref": f"{HOME}parts.json#/$defs/number"}, {"parts.json": PARTS}),
    "a reference in one": ({"$ref": f"{HOME}parts.json#/$defs/again"}, {"parts.json": PARTS}),
    "one beside the schema": (
        {"$id": f"{HOME}folder/schema.json", "allOf": [{"$ref": "whole.json"}]},
        {"folder/whole.json": WHOLE, "whole.json": {"type": "string"}},
    ),
    "one in a folder that a subschema moves to": (
        {"$id": f"{HOME}schema.json", "allOf": [{"$id": "folder/", "allOf": [{"$ref": "whole.json"}]}]},
        {"folder/whole.json": WHOLE, "whole.json": {"type": "string"}},
    ),
    "one in a folder, by a pointer past the identifier": (
        {
            "$id": f"{HOME}schema.json",
            "allOf": [{"$ref": "#/$defs/a/$defs/b"}],
            "$defs": {"a": {"$id": "folder/", "$defs": {"b": {"allOf": [{"$ref": "whole.json"}]}}}},
        },
        {"folder/whole.json": WHOLE, "whole.json": {"type": "string"}},
    ),
    "one that refers to itself and to a third": (
        {"$ref": f"{HOME}first.json"},
        {"first.json": {"allOf": [{"$ref": "folder/second.json#/$defs/number"}]}, "folder/second.json": PARTS},
    ),
    "one that calls itself otherwise": (
        {"$ref": f"{HOME}here.json"},
        {"here.json": {"$id": f"{HOME}elsewhere/there.json", "allOf": [{"$ref": "#/$defs/n"}], "$defs": {"n": WHOLE}}},
    ),
    "one that is nothing but a reference": ({"$ref": f"{HOME}a.json"}, {"a.json": {"$ref": "b.json"}, "b.json": WHOLE}),
}


@pytest.mark.parametrize("draft", DRAFTS, ids=lambda draft: draft.folder)
@pytest.mark.parametrize("kind", REMOTE)
def test_l12_what_other_documents_say_counts_when_they_stand_inside(draft: Draft, kind: str) -> None:
    whole = bundled(draft, *REMOTE[kind])
    assert outcomes(whole, [1, 1.5, "text", None]) == [True, False, False, False]


@pytest.mark.parametrize("draft", DRAFTS, ids=lambda draft: draft.folder)
@pytest.mark.parametrize("kind", REMOTE)
def test_l12_without_them_the_schema_is_refused(draft: Draft, kind: str) -> None:
    with pytest.raises(InvalidSchema, match="leads out of the schema, and nothing is fetched"):
        outcomes(bundled(draft, REMOTE[kind][0], {}), [1])


@pytest.mark.parametrize("draft", OLD[1:], ids=lambda draft: draft.folder)
def test_an_identifier_with_a_fragment_names_a_place_in_old_drafts(draft: Draft) -> None:
    document = {"definitions": {"a": {"$ref": "#b"}, "b": {"$id": "#b", "type": "integer"}}}
    schema = bundled(draft, {"$ref": f"{HOME}x.json#/definitions/a"}, {"x.json": document})
    assert outcomes(schema, [1, "text"]) == [True, False]


@pytest.mark.parametrize("draft", NEW, ids=lambda draft: draft.folder)
def test_an_anchor_names_a_place_in_new_drafts(draft: Draft) -> None:
    document = {"$defs": {"a": {"$ref": "#b"}, "b": {"$anchor": "b", "type": "integer"}}}
    for way in ("#/$defs/a", "#b"):
        schema = bundled(draft, {"$ref": f"{HOME}x.json{way}"}, {"x.json": document})
        assert outcomes(schema, [1, "text"]) == [True, False]


def test_a_dynamic_reference_in_another_document_comes_back_to_the_schema() -> None:
    tree = {"$dynamicAnchor": "n", "properties": {"below": {"items": {"$dynamicRef": "#n"}}}}
    strict = {"$id": f"{HOME}strict.json", "$dynamicAnchor": "n", "$ref": "tree.json", "unevaluatedProperties": False}
    schema = bundled(NEW[1], strict, {"tree.json": tree})
    assert outcomes(schema, [{"below": [{"below": []}]}, {"below": [{"above": []}]}]) == [True, False]


@pytest.mark.parametrize("draft", DRAFTS, ids=lambda draft: draft.folder)
def test_a_subschema_may_name_the_draft_that_the_schema_is_of(draft: Draft) -> None:
    part = {draft.id_keyword: f"{HOME}part", "type": "integer"}
    for named in (draft.uri, draft.uri.rstrip("#"), f"{draft.uri.rstrip('#')}#"):
        assert outcomes({"$schema": draft.uri, "not": {"$schema": named, **part}}, [1, "text"]) == [False, True]
    others: list[Any] = [other.uri for other in DRAFTS if other is not draft]
    for named in (*others, "http://example.com/dialect", 7, ["x"]):
        with pytest.raises(InvalidSchema, match=r"`\$schema` of its own|breaks `type`"):
            registered_validator({"$schema": draft.uri, "not": {"$schema": named, **part}})


def test_l12_a_subschema_may_name_2020_12_where_the_schema_names_nothing() -> None:
    assert outcomes({"items": {"$schema": NEW[1].uri, "$id": "http://x/", "type": "null"}}, [[None], [1]]) == [
        True,
        False,
    ]


# --- dialects of somebody's own --------------------------------------------------------------------------------------


def dialect(draft: Draft, *vocabularies: str, **more: Any) -> dict[str, Any]:
    """A schema, and the metaschema that it names, which knows these vocabularies of the draft and no others."""
    homes = VOCABULARY.format(draft.folder.removeprefix("draft"))
    metaschema = {
        "$id": "http://example.com/dialect",
        "$schema": draft.uri,
        "$vocabulary": {f"{homes}{name}": True for name in vocabularies},
        "$dynamicAnchor" if draft is NEW[1] else "$recursiveAnchor": "meta" if draft is NEW[1] else True,
        "allOf": [{"$ref": f"https://json-schema.org/draft/{draft.folder.removeprefix('draft')}/meta/core"}],
        **more,
    }
    return {
        "$schema": "http://example.com/dialect",
        "properties": {"no": False, "few": {"maximum": 3}},
        "$defs": {"dialect": metaschema},
    }


@pytest.mark.parametrize("draft", NEW, ids=lambda draft: draft.folder)
def test_l12_a_dialect_whose_metaschema_stands_inside_has_its_vocabularies(draft: Draft) -> None:
    values = [{"few": 2}, {"few": 4}, {"no": 1}]
    assert outcomes(dialect(draft, "core", "applicator", "validation"), values) == [True, False, False]
    assert outcomes(dialect(draft, "core", "applicator"), values) == [True, True, False]


@pytest.mark.parametrize("draft", NEW, ids=lambda draft: draft.folder)
@pytest.mark.parametrize(
    "change",
    [{"$id": "http://example.com/other"}, {"$schema": "http://example.com/dialect"}, {"$schema": OLD[2].uri}],
    ids=str,
)
def test_l11_11_a_dialect_whose_metaschema_is_not_there_is_refused(draft: Draft, change: dict[str, str]) -> None:
    with pytest.raises(InvalidSchema, match=r"and no metaschema of the last two that stands under `\$defs`"):
        outcomes(dialect(draft, "core", "applicator", **change), [{}])


@pytest.mark.parametrize("draft", NEW, ids=lambda draft: draft.folder)
def test_l11_11_a_vocabulary_that_nobody_knows_is_refused_when_it_is_required(draft: Draft) -> None:
    schema = dialect(draft, "core", "applicator")
    known = schema["$defs"]["dialect"]["$vocabulary"]
    known["http://example.com/vocabulary"] = False
    assert outcomes(schema, [{"no": 1}]) == [False]
    known["http://example.com/vocabulary"] = True
    with pytest.raises(InvalidSchema, match=r"it cannot be compiled: .*vocabulary"):
        outcomes(schema, [{}])


@pytest.mark.parametrize("draft", NEW, ids=lambda draft: draft.folder)
def test_l11_11_unique_items_is_refused_where_the_dialect_does_not_know_it(draft: Draft) -> None:
    known = dialect(draft, "core", "applicator", "validation")
    assert outcomes({**known, "uniqueItems": True}, [[1, 2], [1, 1.0]]) == [True, False]
    with pytest.raises(InvalidSchema, match=r"the metaschema that `\$schema` names does not know it"):
        outcomes({**dialect(draft, "core", "applicator"), "uniqueItems": True}, [[]])


@pytest.mark.parametrize("draft", NEW, ids=lambda draft: draft.folder)
def test_l12_a_metaschema_from_outside_is_never_evaluated(draft: Draft) -> None:
    impossible = dialect(draft, "core", "applicator")
    impossible["$defs"]["dialect"]["not"] = {}
    assert outcomes(impossible, [{"no": 1}, {}]) == [False, True]


# --- the program -----------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A suite of one schema for each draft, with a remote document."""
    number = {"description": "a number", "data": 1, "valid": True}
    group = {"description": "remote", "schema": {"$ref": f"{HOME}whole.json"}, "tests": [number]}
    plain = {"description": "plain", "schema": {"type": "null"}, "tests": [{**number, "data": None}]}
    for draft in DRAFTS:
        home = tmp_path / "tests" / draft.folder
        (home / "optional").mkdir(parents=True)
        (home / "ref.json").write_text(json.dumps([group, plain]))
        (home / "optional" / "ref.json").write_text(json.dumps([{**group, "schema": {"$ref": "nowhere"}}]))
    (tmp_path / "remotes").mkdir()
    (tmp_path / "remotes" / "whole.json").write_text(json.dumps(WHOLE))
    return tmp_path


def test_the_program_counts_by_draft_and_says_who_judged(folder: Path) -> None:
    tallies = [run(folder, draft) for draft in DRAFTS]
    assert [tally.failures for tally in tallies] == [[]] * 5
    assert [(tally.tests, tally.passed, tally.bundled) for tally in tallies] == [(2, 2, 1)] * 5
    assert [tally.generated for tally in tallies] == [1, 1, 1, 0, 0]
    assert table(tallies).splitlines()[-1] == "| **in all** | 10 | 10 | 3 | 5 |"


def test_the_program_ends_with_an_error_when_a_test_fails(folder: Path) -> None:
    def ended() -> tuple[int, str]:
        command = [sys.executable, "-m", "benchmarks.schemas.suite", str(folder)]
        ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=50, check=False)
        return ran.returncode, ran.stdout

    assert ended()[0] == 0
    (folder / "remotes" / "whole.json").write_text('{"type": "string"}')
    code, said = ended()
    assert code == 1
    assert "draft7/ref.json: remote: a number: the wire's validator says otherwise" in said
    (folder / "remotes" / "whole.json").unlink()
    assert "all 1 tests: refused: `$ref`" in ended()[1]
