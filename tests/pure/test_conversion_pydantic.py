"""Annotations with a part that is pydantic's: pydantic judges, in our words (promises L11.8, L11.9, C9)."""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
import math
import subprocess
import sys
from typing import Annotated, Any, Literal

import pydantic
import pydantic.dataclasses
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field, RootModel
from typing_extensions import TypedDict

from neuron_anyio import capability
from neuron_anyio.conversion import Converter, Mismatch, converter_for
from neuron_anyio.jsontext import NotJsonError

SECRET = "hunter2"


class Page(BaseModel):
    """What to fetch.

    At length.
    """

    url: str = Field(alias="pageUrl", min_length=2, max_length=8, pattern="^u")
    tries: int = Field(default=1, ge=1, le=3)
    share: float = Field(default=0.5, gt=0, lt=1)
    even: int = Field(default=2, multiple_of=2)
    few: list[int] = Field(default=[1], min_length=1, max_length=2)
    when: dt.datetime | None = None
    headers: dict[str, int] = {}
    choice: Literal["a", "b"] = "a"


class Strict(BaseModel, extra="forbid", strict=True):
    number: int = 0
    day: dt.date | None = None


class Careful(BaseModel):
    how: str

    @pydantic.field_validator("how")
    @classmethod
    def check(cls, how: str) -> str:
        if how == "ValueError":
            raise ValueError(f"no {SECRET}")
        if how == "AssertionError":
            raise AssertionError(f"no {SECRET}")
        if how == "KeyError":
            raise KeyError(SECRET)
        if how == "forged":
            raise pydantic_core_error("string_type", SECRET)
        return how.upper()


def pydantic_core_error(kind: Any, message: Any) -> Exception:
    from pydantic_core import PydanticCustomError

    return PydanticCustomError(kind, message)


class Numbers(RootModel[list[int]]):
    pass


@pydantic.dataclasses.dataclass
class Point:
    x: int
    y: int = Field(default=0, ge=0)


@dataclasses.dataclass
class Plain:
    page: Page
    number: int = 0


class Cat(BaseModel):
    kind: Literal["cat"]
    lives: int = 9


class Dog(BaseModel):
    kind: Literal["dog"]


class Row(TypedDict):
    page: Page


def judge(annotation: Any, *, as_output: bool = False) -> Converter:
    return converter_for(
        annotation, "core/x", "the return value" if as_output else "the parameter", as_output=as_output
    )


def refusal(annotation: Any, document: Any) -> Mismatch:
    with pytest.raises(Mismatch) as caught:
        judge(annotation).read(json.dumps(document).encode())
    assert caught.value.__suppress_context__
    return caught.value


GOOD: list[tuple[Any, Any, Any]] = [
    (Page, {"pageUrl": "url"}, Page(pageUrl="url")),
    (Page | None, None, None),
    (list[Page], [{"pageUrl": "url", "tries": 2}], [Page(pageUrl="url", tries=2)]),
    (dict[str, Page], {"a": {"pageUrl": "url"}}, {"a": Page(pageUrl="url")}),
    (Strict, {"day": "2026-01-02"}, Strict(day=dt.date(2026, 1, 2))),
    (Careful, {"how": "so"}, Careful(how="so")),
    (Numbers, [1, 2], Numbers([1, 2])),
    (Point, {"x": 1}, Point(1)),
    (Plain, {"page": {"pageUrl": "url"}}, Plain(Page(pageUrl="url"))),
    (Row, {"page": {"pageUrl": "url"}}, {"page": Page(pageUrl="url")}),
    (Annotated[int, Field(ge=1)], 1, 1),
    (list[pydantic.PositiveInt] | Numbers, [1], [1]),
    (Annotated[Cat | Dog, Field(discriminator="kind")], {"kind": "dog"}, Dog(kind="dog")),
    (pydantic.HttpUrl, "https://example.com/", pydantic.HttpUrl("https://example.com/")),
]


@pytest.mark.parametrize(("annotation", "document", "value"), GOOD, ids=lambda value: str(value)[:40])
def test_what_fits_comes_as_its_type(annotation: Any, document: Any, value: Any) -> None:
    read = judge(annotation).read(json.dumps(document).encode())
    assert read == (value.model_copy(update={"how": "SO"}) if isinstance(value, Careful) else value)
    assert type(read) is type(value)


@pytest.mark.parametrize(
    ("document", "path", "rule"),
    [
        ([], "", "type"),
        ({}, "", "required"),
        ({"pageUrl": 5}, "/pageUrl", "type"),
        ({"pageUrl": "u"}, "/pageUrl", "minLength"),
        ({"pageUrl": "url-url-url"}, "/pageUrl", "maxLength"),
        ({"pageUrl": "bad"}, "/pageUrl", "pattern"),
        ({"pageUrl": "url", "tries": 0}, "/tries", "minimum"),
        ({"pageUrl": "url", "tries": 4}, "/tries", "maximum"),
        ({"pageUrl": "url", "tries": "x"}, "/tries", "type"),
        ({"pageUrl": "url", "share": 0}, "/share", "exclusiveMinimum"),
        ({"pageUrl": "url", "share": 1}, "/share", "exclusiveMaximum"),
        ({"pageUrl": "url", "even": 3}, "/even", "multipleOf"),
        ({"pageUrl": "url", "few": []}, "/few", "minItems"),
        ({"pageUrl": "url", "few": [1, 2, 3]}, "/few", "maxItems"),
        ({"pageUrl": "url", "few": [1, "x"]}, "/few/1", "type"),
        ({"pageUrl": "url", "when": SECRET}, "/when", "format"),
        ({"pageUrl": "url", "headers": {SECRET: "x"}}, "/headers/...", "type"),
        ({"pageUrl": "url", "choice": SECRET}, "/choice", "enum"),
    ],
)
def test_L11_8_a_mismatch_says_where_and_which_rule(document: Any, path: str, rule: str) -> None:
    mismatch = refusal(Page, document)
    assert (mismatch.path, mismatch.rule) == (path, rule)
    assert str(mismatch).endswith(f" at {path or 'the top'}")
    inside = refusal(list[Page | int], [document])
    assert (inside.path, inside.rule) == (f"/0{path}", rule)


def test_L11_8_a_missing_member_is_named_as_it_is_written() -> None:
    assert str(refusal(Page, {})) == "the member `pageUrl` is missing at the top"


def test_L11_8_undeclared_members_are_refused_where_the_model_forbids_them() -> None:
    mismatch = refusal(list[Strict], [{SECRET: 1}])
    assert mismatch.rule == "additionalProperties"
    assert SECRET not in f"{mismatch} {mismatch.path}"
    assert judge(Page).read(b'{"pageUrl":"url","more":1}') == Page(pageUrl="url")


@pytest.mark.parametrize("how", ["ValueError", "AssertionError", "KeyError", "forged"])
def test_C9_what_a_validator_says_is_not_passed_on(how: str) -> None:
    mismatch = refusal(Careful, {"how": how})
    assert mismatch.rule == "type"
    assert SECRET not in str(mismatch)


@pytest.mark.parametrize("text", [b"", b"{", b'"\xff"', b'{"pageUrl":NaN}', b'{"how":' * 100_000])
def test_what_is_not_json_is_told_from_what_does_not_fit(text: bytes) -> None:
    with pytest.raises(NotJsonError):
        judge(Page).read(text)


def test_what_is_nested_deeper_than_pydantic_reads_is_no_mismatch() -> None:
    class Anything(BaseModel):
        any: Any

    with pytest.raises(NotJsonError):
        judge(Anything).read(b'{"any":' + b"[" * 300 + b"]" * 300 + b"}")


NAMES = st.sampled_from([*Page.model_fields, "pageUrl", "how", "number", "kind", SECRET])
LEAVES = st.sampled_from([None, True, 0, 7_777_777, 7_777_777.5, "", "url", SECRET, "cat", "KeyError"])
DOCUMENTS = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=4), max_leaves=12
)
KINDS: list[Any] = [*(kind for kind, _, _ in GOOD), pydantic.UUID4 | Strict, pydantic.Json[list[int]], Cat | Dog]


@given(st.sampled_from(KINDS), DOCUMENTS)
def test_C9_no_mismatch_contains_a_value(annotation: Any, document: Any) -> None:
    mismatch = None
    try:
        judge(annotation).read(json.dumps(document).encode())
    except Mismatch as found:
        mismatch = found
    if mismatch is not None:
        shown = f"{mismatch} {mismatch!r} {mismatch.path} {mismatch.rule} {mismatch.schema_path}"
        assert SECRET not in shown
        assert "7777777" not in shown


# ---- output


class Fetched(BaseModel):
    status: int = Field(serialization_alias="statusCode", ge=100)
    at: dt.datetime | None = None

    @pydantic.computed_field
    def good(self) -> bool:
        return self.status < 400


def test_L11_9_output_is_written_by_its_serializers_and_by_alias() -> None:
    at = dt.datetime(2026, 1, 2, tzinfo=dt.UTC)
    write = judge(list[Fetched], as_output=True).write
    expected = [{"statusCode": 200, "at": "2026-01-02T00:00:00Z", "good": True}]
    assert json.loads(write([Fetched(status=200, at=at)])) == expected
    assert json.loads(write([{"status": 200, "at": at}])) == expected, "what makes one will do"
    assert json.loads(judge(Numbers, as_output=True).write(Numbers([1]))) == [1]
    assert json.loads(judge(Point, as_output=True).write(Point(1))) == {"x": 1, "y": 0}
    assert json.loads(judge(Plain, as_output=True).write(Plain(Page(pageUrl="url"))))["page"]["pageUrl"] == "url"


def test_schemas_are_those_of_reading_for_input_and_of_writing_for_output() -> None:
    @capability("core/x")
    def handler(page: Page) -> Fetched:
        raise NotImplementedError

    takes, gives = handler.input_schema, handler.output_schema
    assert isinstance(takes, dict)
    assert isinstance(gives, dict)
    assert takes["required"] == ["pageUrl"]
    assert takes["description"] == "What to fetch."
    assert set(gives["properties"]) == {"statusCode", "at", "good"}


@pytest.mark.parametrize(
    ("value", "path", "rule"),
    [
        ({"status": 200.5}, "/status", "type"),
        ({"status": 99}, "/status", "minimum"),
        ({}, "", "required"),
        (None, "", "type"),
        (SECRET, "", "type"),
    ],
)
def test_L11_9_a_wrong_output_is_a_mismatch(value: Any, path: str, rule: str) -> None:
    with pytest.raises(Mismatch) as caught:
        judge(Fetched, as_output=True).write(value)
    assert (caught.value.path, caught.value.rule) == (path, rule)
    assert SECRET not in str(caught.value)


def test_L11_9_a_model_that_was_changed_to_a_wrong_type_is_a_mismatch() -> None:
    found = Fetched(status=200)
    found.at = SECRET  # type: ignore[assignment]  # that is the mistake
    with pytest.raises(Mismatch) as caught:
        judge(Fetched, as_output=True).write(found)
    assert SECRET not in str(caught.value)


class Loose(BaseModel):
    any: Any = None

    @pydantic.field_serializer("any")
    def give(self, value: Any) -> Any:
        if value == "raise":
            raise LookupError(SECRET)
        return value


@pytest.mark.parametrize("value", [math.nan, math.inf, object(), "\ud800", "raise", [math.nan]])
def test_L11_10_what_is_not_json_is_told_from_a_mismatch(value: Any) -> None:
    with pytest.raises(NotJsonError) as caught:
        judge(Loose, as_output=True).write(Loose(any=value))
    assert SECRET not in str(caught.value)


def test_L11_10_a_circle_is_not_json() -> None:
    found = Loose()
    found.any = found
    with pytest.raises(NotJsonError):
        judge(Loose, as_output=True).write(found)


def test_L12_a_schema_on_the_lease_judges_what_was_written() -> None:
    @capability("core/x")
    def handler(page: Page) -> Fetched:
        raise NotImplementedError

    assert handler.read_input(b'{"pageUrl":"url"}', b'{"required":["pageUrl"]}') == Page(pageUrl="url")
    with pytest.raises(Mismatch, match="required"):
        handler.read_input(b'{"pageUrl":"url"}', b'{"required":["tries"]}')
    assert handler.write_output(Fetched(status=200), b'{"required":["statusCode"]}')
    with pytest.raises(Mismatch, match="required"):
        handler.write_output(Fetched(status=200), b'{"required":["status"]}')


# ---- what it costs


def test_pydantic_is_not_imported_for_those_who_do_not_use_it() -> None:
    program = """
import sys
import msgspec
from neuron_anyio import capability

class Page(msgspec.Struct):
    url: str

@capability("core/x")
def handler(page: Page) -> list[int]: ...

assert handler.input_schema and handler.output_schema
assert not [name for name in sys.modules if name.partition(".")[0] in ("pydantic", "pydantic_core")]
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=30)
