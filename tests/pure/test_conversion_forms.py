"""Which annotations a handler may have: what comes of them in and out, one row for each form."""

from __future__ import annotations

import dataclasses
import datetime as dt
import decimal
import enum
import json
import subprocess
import sys
import uuid
from collections.abc import Mapping, Sequence
from typing import (
    Annotated,
    Any,
    Generic,
    Literal,
    NamedTuple,
    NewType,
    NotRequired,
    Optional,
    Required,
    TypedDict,
    TypeVar,
)

import msgspec
import pytest
import typing_extensions
from msgspec import Meta

from neuron_anyio import capability
from neuron_anyio.conversion import Mismatch, converter_for
from neuron_anyio.jsontext import read_json, write_json
from neuron_anyio.schemas import registered_validator

T = TypeVar("T")


class Page(msgspec.Struct):
    url: str
    tries: int = 1


class Camel(msgspec.Struct, rename="camel", omit_defaults=True, forbid_unknown_fields=True):
    page_url: str
    max_bytes: int = 10


class Cat(msgspec.Struct, tag="cat"):
    lives: int = 9


class Dog(msgspec.Struct, tag="dog"):
    name: str


class Tree(msgspec.Struct):
    branches: list[Tree] = []


class Box(msgspec.Struct, Generic[T]):
    content: T


class IntBox(Box[int]):
    pass


class Patch(msgspec.Struct):
    name: str | msgspec.UnsetType | None = msgspec.UNSET


@dataclasses.dataclass
class Point:
    x: int
    y: int = 0
    near: Point | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Pair(Generic[T]):
    first: T
    second: T


class Row(TypedDict):
    name: str
    note: NotRequired[str]


class Loose(TypedDict, total=False):
    name: Required[str]
    note: str


class LateRow(typing_extensions.TypedDict):
    when: dt.date


class Size(NamedTuple):
    width: int
    height: int = 2


class Word(enum.StrEnum):
    YES = "yes"


class Number(enum.IntEnum):
    ONE = 1


class Kind(enum.Enum):
    FILE = "file"


UserId = NewType("UserId", str)
DAY = dt.date(2026, 1, 2)
ID = uuid.UUID("12345678-1234-5678-1234-567812345678")


class Form(NamedTuple):
    annotation: Any
    document: Any
    value: Any
    wrong: Any


FORMS = [
    # Classes
    Form(Page, {"url": "u"}, Page("u"), {"url": 5}),
    Form(Camel, {"pageUrl": "u"}, Camel("u"), {"page_url": "u"}),
    Form(Cat | Dog, {"type": "dog", "name": "Rex"}, Dog("Rex"), {"type": "cow"}),
    Form(list[Cat | Dog | None], [None, {"type": "cat"}], [None, Cat()], [{"name": "Rex"}]),
    Form(Tree, {"branches": [{}]}, Tree([Tree()]), {"branches": [{"branches": 1}]}),
    Form(Box[int], {"content": 1}, Box(1), {"content": "1"}),
    Form(Box[list[Page]], {"content": [{"url": "u"}]}, Box([Page("u")]), {"content": [1]}),
    Form(IntBox, {"content": 1}, IntBox(1), {"content": "1"}),
    Form(Patch, {}, Patch(), {"name": 5}),
    Form(Point, {"x": 1, "near": {"x": 2}}, Point(1, near=Point(2)), {"near": {"x": 2}}),
    Form(Pair[str], {"first": "a", "second": "b"}, Pair("a", "b"), {"first": "a", "second": 2}),
    Form(Row, {"name": "a"}, {"name": "a"}, {"note": "a"}),
    Form(Row, {"name": "a", "note": "b"}, {"name": "a", "note": "b"}, {"name": "a", "note": 5}),
    Form(Loose, {"name": "a"}, {"name": "a"}, {"note": "a"}),
    Form(LateRow, {"when": "2026-01-02"}, {"when": DAY}, {"when": "soon"}),
    Form(Size, [1], Size(1), [1, 2, 3]),
    # Plain JSON
    Form(int, 1, 1, "1"),
    Form(float, 1.5, 1.5, "1.5"),
    Form(bool, True, True, 1),
    Form(str, "a", "a", 1),
    Form(None, None, None, 0),
    Form(list, [1, "a"], [1, "a"], {}),
    Form(dict, {"a": 1}, {"a": 1}, []),
    Form(dict[str, int], {"a": 1}, {"a": 1}, {"a": "1"}),
    Form(int | str | None, None, None, 1.5),
    Form(Optional[int], None, None, "1"),  # noqa: UP045 - people write it so
    Form(Sequence[int], [1], [1], ["1"]),
    Form(Mapping[str, Any], {"a": None}, {"a": None}, []),
    Form(tuple[int, ...], [1, 2], (1, 2), ["1"]),
    Form(tuple[int, str], [1, "a"], (1, "a"), [1]),
    Form(set[int], [1, 2], {1, 2}, ["1"]),
    Form(frozenset[tuple[int, str]], [[1, "a"]], frozenset({(1, "a")}), [[1]]),
    # Enums and literals
    Form(Word, "yes", Word.YES, "no"),
    Form(Number, 1, Number.ONE, 2),
    Form(Kind, "file", Kind.FILE, "link"),
    Form(dict[Word, int], {"yes": 1}, {Word.YES: 1}, {"no": 1}),
    Form(Literal["a", 3], 3, 3, 4),
    # Bounds
    Form(Annotated[int, Meta(ge=1, le=3)], 3, 3, 4),
    Form(Annotated[str, Meta(min_length=1, pattern="^a")], "ab", "ab", "b"),
    Form(list[Annotated[float, Meta(gt=0)]], [0.5], [0.5], [0.0]),
    Form(Annotated[int, "a remark", Meta(title="count")], 1, 1, "1"),
    # Forms of text
    Form(dt.datetime, "2026-01-02T03:04:05Z", dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.UTC), "today"),
    Form(dt.date, "2026-01-02", DAY, "02.01.2026"),
    Form(dt.time, "03:04:05", dt.time(3, 4, 5), "noon"),
    Form(dt.timedelta, "PT90S", dt.timedelta(seconds=90), "a while"),
    Form(uuid.UUID, str(ID), ID, "me"),
    Form(decimal.Decimal, "0.10", decimal.Decimal("0.10"), "ten"),
    Form(bytes, "aGk=", b"hi", "h"),
    Form(UserId, "ann", "ann", 5),
]


@pytest.mark.parametrize(("annotation", "document", "value", "wrong"), FORMS, ids=lambda value: str(value)[:40])
def test_an_annotation_comes_in_as_its_type_and_goes_out_as_json(
    annotation: Any, document: Any, value: Any, wrong: Any
) -> None:
    reads = converter_for(annotation, "core/x", "the parameter 'page'")
    writes = converter_for(annotation, "core/x", "the return value", as_output=True)
    assert reads.schema is not None
    assert reads.schema == writes.schema
    assert reads.read(write_json(document)) == value
    assert type(reads.read(write_json(document))) is type(value)
    assert reads.read(writes.write(value)) == value
    with pytest.raises(Mismatch):
        reads.read(write_json(wrong))
    with pytest.raises(Mismatch):
        writes.write(wrong)


@pytest.mark.parametrize(
    ("annotation", "document", "value"),
    [
        (decimal.Decimal, 9.5, decimal.Decimal("9.5")),
        (list[decimal.Decimal], [2, "0.10"], [decimal.Decimal(2), decimal.Decimal("0.10")]),
        (dict[str, decimal.Decimal | None], {"a": 1}, {"a": decimal.Decimal(1)}),
    ],
)
def test_a_decimal_may_be_a_number_too_and_its_schema_says_so(annotation: Any, document: Any, value: Any) -> None:
    converter = converter_for(annotation, "core/x", "the parameter 'price'")
    assert converter.read(write_json(document)) == value
    assert converter.schema is not None
    assert registered_validator(converter.schema).check(document) is None
    assert registered_validator(converter.schema).check(True) is not None


class Format(msgspec.Struct, frozen=True):
    format: str = "decimal"
    uniqueItems: bool = True  # noqa: N815 - a keyword of JSON Schema


class Preset(msgspec.Struct):
    preset: Annotated[Format, Meta(examples=[{"format": "decimal", "uniqueItems": True}])] = Format()
    price: Annotated[decimal.Decimal, Meta(extra_json_schema={"pattern": "^[0-9]+$"})] = decimal.Decimal(1)
    default: decimal.Decimal | None = None


def test_values_in_a_schema_are_left_alone_and_so_are_decimals_of_which_the_author_says_more() -> None:
    schema = converter_for(Preset, "core/x", "the parameter 'preset'").schema
    assert schema is not None
    members = schema["$defs"]["Preset"]["properties"]
    assert members["preset"]["default"] == {"format": "decimal", "uniqueItems": True}
    assert members["preset"]["examples"] == [{"format": "decimal", "uniqueItems": True}]
    assert members["price"]["type"] == "string"
    assert {"type": ["string", "number"], "format": "decimal"} in members["default"]["anyOf"]


def test_L11_9_what_a_dataclass_handler_returns_is_judged_member_by_member() -> None:
    @capability("core/x")
    def handler(row: Row) -> Point:
        raise NotImplementedError

    assert read_json(handler.write_output(Point(1), None)) == {"x": 1, "y": 0, "near": None}
    with pytest.raises(Mismatch) as caught:
        handler.write_output(Point(1, near=Point("secret")), None)  # type: ignore[arg-type]  # that is the mistake
    assert (caught.value.path, caught.value.rule) == ("/near/x", "type")
    assert "secret" not in str(caught.value)


HOSTILE = """
import resource
from typing import Annotated
from msgspec import Meta, Struct
from neuron_anyio import capability
from neuron_anyio.conversion import Mismatch

resource.setrlimit(resource.RLIMIT_CPU, (20, 20))


class Page(Struct):
    url: Annotated[str, Meta(pattern="^(a+)+$")]


@capability("test/page")
async def page(value: Page) -> Page:
    return value


for work in (lambda text: page.read_input(text, None), lambda text: page.read_input(text, b"true")):
    assert work(b'{"url":"%s"}' % (b"a" * 5000)).url == "a" * 5000
    try:
        work(b'{"url":"%s!"}' % (b"a" * 5000))
    except Mismatch as exc:
        assert (exc.path, exc.rule) == ("/url", "pattern"), exc
    else:
        raise SystemExit("it was taken")
"""


def test_L12_a_pattern_of_a_type_is_matched_in_linear_time_whatever_the_input() -> None:
    subprocess.run([sys.executable, "-c", HOSTILE], check=True, timeout=50)


def test_a_pattern_that_only_python_knows_is_still_a_pattern() -> None:
    converter = converter_for(Annotated[str, Meta(pattern="^(?!b)")], "test/text", "the input")
    assert converter.read(b'"ab"') == "ab"
    with pytest.raises(Mismatch):
        converter.read(b'"ba"')


class Link(msgspec.Struct, tag=True):
    to: Annotated[str, Meta(pattern="^(a+)+$")]


class Note(msgspec.Struct, tag=True):
    text: str = ""
    links: list[Link] = []


Slow = Annotated[str, Meta(pattern="^(a+)+$")]


@pytest.mark.parametrize(
    ("annotation", "document", "place"),
    [
        (Slow, "{}", ("", "pattern")),
        (list[Slow], ["a", "{}"], ("/1", "pattern")),
        (dict[str, Slow], {"secret": "{}"}, ("/...", "pattern")),
        (tuple[int, Slow], [1, "{}"], ("/1", "pattern")),
        (Slow | None, "{}", ("", "anyOf")),
        (Slow | int, "{}", ("", "anyOf")),
        (Link | Note, {"type": "Link", "to": "{}"}, ("", "anyOf")),
        (Note, {"type": "Note", "links": [{"type": "Link", "to": "{}"}]}, ("/links/0/to", "pattern")),
        (Link | Note, {"type": "Note", "links": [{"type": "Link", "to": "{}"}]}, ("", "anyOf")),
        (Link, {"type": 5, "to": "{}"}, ("/to", "pattern")),
        (dict[Slow, int], {"{}": 1}, ("", "propertyNames")),
    ],
    ids=str,
)
def test_L12_wherever_a_pattern_stands_in_a_type_a_hostile_text_is_refused_at_once(
    annotation: Any, document: Any, place: tuple[str, str]
) -> None:
    """An endless match would run into the suite's time-out."""
    text = json.dumps(document).replace("{}", "a" * 60 + "!")
    with pytest.raises(Mismatch) as caught:
        converter_for(annotation, "test/text", "the input").read(text.encode())
    assert (caught.value.path, caught.value.rule) == place
    assert "aaa" not in str(caught.value)
    assert "secret" not in str(caught.value)
    good = json.dumps(document).replace("{}", "a" * 60).replace("5", '"Link"')
    converter_for(annotation, "test/text", "the input").read(good.encode())
