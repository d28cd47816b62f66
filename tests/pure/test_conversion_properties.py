"""For any annotation, its schema and its converter say the same (promises L11.8, L11.9, L12).

Where they differ, the schema takes more: forms of text (dates, UUIDs, base64 and so on) are not asserted by schemas,
nor are keys that belong to an enum; and `1.0` is an integer to JSON Schema alone.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import decimal
import enum
import itertools
import uuid
from collections.abc import Callable
from typing import Annotated, Any, Literal, NamedTuple, NewType, NotRequired, TypedDict

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Meta

from neuron_anyio.conversion import Converter, Mismatch, converter_for
from neuron_anyio.jsontext import read_json, write_json
from neuron_anyio.schemas import Validator, registered_validator


class Word(enum.StrEnum):
    YES = "yes"
    NO = "no"


class Size(enum.IntEnum):
    SMALL = 1
    LARGE = 2


class Kind(enum.Enum):
    FILE = "file"
    LINK = "link"


UserId = NewType("UserId", str)


class Case(NamedTuple):
    """An annotation, and JSON that mostly fits.

    Attributes:
        asserted: whether its schema asserts all that its converter does.
        hashable: whether it may be in a set.
    """

    annotation: Any
    documents: st.SearchStrategy[Any]
    asserted: bool = True
    hashable: bool = False


WHOLE = st.integers(-(2**53), 2**53)
BROKEN = WHOLE.map(lambda number: number % 1_000_000 + 0.5)
TEXT = st.text(st.characters(codec="utf-8"), max_size=5)


def form(annotation: Any, values: st.SearchStrategy[Any]) -> Case:
    """Return the case of a type whose text has a form of its own."""
    return Case(annotation, values.map(msgspec.to_builtins) | TEXT, asserted=False, hashable=True)


SIMPLE = [
    Case(int, WHOLE, hashable=True),
    Case(float, WHOLE | BROKEN, hashable=True),
    Case(str, TEXT, hashable=True),
    Case(bool, st.booleans(), hashable=True),
    Case(None, st.none(), hashable=True),
    Case(UserId, TEXT, hashable=True),
    Case(int | str | None, WHOLE | TEXT | st.none(), hashable=True),
    Case(bool | float, st.booleans() | BROKEN, hashable=True),
    Case(Literal["a", "b", 3] | None, st.sampled_from(["a", "b", 3, None, "c"]), hashable=True),
    Case(Word, st.sampled_from(["yes", "no", "YES"]), hashable=True),
    Case(Size, st.sampled_from([1, 2, 3]), hashable=True),
    Case(Kind, st.sampled_from(["file", "link", ""]), hashable=True),
    Case(Annotated[int, Meta(ge=0, lt=10)], st.integers(-2, 12), hashable=True),
    Case(Annotated[int, Meta(multiple_of=3)], st.integers(-6, 6), hashable=True),
    Case(Annotated[float, Meta(gt=0.5, le=2.5)], st.sampled_from([0, 0.5, 0.75, 1, 2.5, 2.75]), hashable=True),
    Case(Annotated[str, Meta(min_length=1, max_length=3)], TEXT, hashable=True),
    Case(Annotated[str, Meta(pattern="^[ab]+$")], st.text("abc", max_size=3), hashable=True),
    Case(Annotated[list[int], Meta(min_length=1, max_length=2)], st.lists(WHOLE, max_size=3)),
    Case(Annotated[dict[str, int], Meta(min_length=1)], st.dictionaries(TEXT, WHOLE, max_size=2)),
    Case(dict[Word, int], st.dictionaries(st.sampled_from(["yes", "no", "other"]), WHOLE, max_size=2), asserted=False),
    form(dt.datetime, st.datetimes(timezones=st.just(dt.UTC))),
    form(dt.date, st.dates()),
    form(dt.time, st.times()),
    form(dt.timedelta, st.timedeltas(dt.timedelta(0), dt.timedelta(days=99))),
    form(uuid.UUID, st.uuids()),
    form(decimal.Decimal, st.decimals(allow_nan=False, allow_infinity=False) | WHOLE | BROKEN),
    form(bytes, st.binary(max_size=5)),
]

ANYTHING = st.recursive(
    st.none() | st.booleans() | WHOLE | BROKEN | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=5,
)


SERIAL = itertools.count()


def named_once(name: str) -> str:
    """Return a name for a class: msgspec takes two of the same name and module for one."""
    return f"{name}{next(SERIAL)}"


def listed(inner: Case) -> Case:
    return Case(list[inner.annotation], st.lists(inner.documents, max_size=3), inner.asserted)  # type: ignore[name-defined]  # made at run time


def tuples(inner: Case) -> Case:
    annotation = tuple[inner.annotation, ...]  # type: ignore[name-defined]  # made at run time
    return Case(annotation, st.lists(inner.documents, max_size=3), inner.asserted, inner.hashable)


def named(inner: Case) -> Case:
    annotation = dict[str, inner.annotation]  # type: ignore[name-defined]  # made at run time
    return Case(annotation, st.dictionaries(TEXT, inner.documents, max_size=3), inner.asserted)


def in_a_set(inner: Case) -> Case:
    if not inner.hashable:
        return listed(inner)
    annotation = frozenset[inner.annotation]  # type: ignore[name-defined]  # made at run time
    return Case(annotation, st.lists(inner.documents, max_size=3), inner.asserted, hashable=True)


def record(make: Callable[[Any], Any], *, as_array: bool = False) -> Callable[[Case], Case]:
    """Return what puts a case in a class with members `a` and, optional, `b`, a number."""

    def put(inner: Case) -> Case:
        members = st.fixed_dictionaries({"a": inner.documents}, optional={"b": WHOLE, "c": WHOLE})
        documents: st.SearchStrategy[Any] = members.map(lambda found: list(found.values())) if as_array else members
        return Case(make(inner.annotation), documents | ANYTHING, inner.asserted)

    return put


def tagged(inner: Any) -> Any:
    first = msgspec.defstruct(named_once("First"), [("a", inner)], tag="one")
    return first | msgspec.defstruct(named_once("Second"), [("a", int)], tag="two")


def with_tag(inner: Case) -> Case:
    members = {"a": inner.documents | WHOLE, "type": st.sampled_from(["one", "two", "three"])}
    return Case(tagged(inner.annotation), st.fixed_dictionaries({}, optional=members), inner.asserted)


make_typed_dict: Any = TypedDict  # what a checker reads as a declaration is called here
make_named_tuple: Any = NamedTuple

CONTAINERS: list[Callable[[Case], Case]] = [
    listed,
    tuples,
    named,
    in_a_set,
    with_tag,
    record(lambda inner: tuple[inner, int], as_array=True),  # type: ignore[valid-type]  # made at run time
    record(lambda inner: msgspec.defstruct(named_once("Made"), [("a", inner), ("b", int, 0)])),
    record(
        lambda inner: msgspec.defstruct(named_once("Strict"), [("a", inner), ("b", int, 0)], forbid_unknown_fields=True)
    ),
    record(
        lambda inner: msgspec.defstruct(named_once("Row"), [("a", inner), ("b", int, 0)], array_like=True),
        as_array=True,
    ),
    record(
        lambda inner: dataclasses.make_dataclass(
            named_once("Data"), [("a", inner), ("b", int, dataclasses.field(default=0))]
        )
    ),
    record(lambda inner: make_typed_dict(named_once("Typed"), {"a": inner, "b": NotRequired[int]})),
    record(lambda inner: make_named_tuple(named_once("Pair"), [("a", inner), ("b", int)]), as_array=True),
]

CASES = st.recursive(
    st.sampled_from(SIMPLE),
    lambda inner: st.builds(lambda make, case: make(case), st.sampled_from(CONTAINERS), inner),
    max_leaves=3,
)


def accepts(converter: Converter, text: bytes) -> bool:
    try:
        converter.read(text)
    except Mismatch:
        return False
    return True


def judge_of(converter: Converter) -> Validator:
    assert converter.schema is not None
    return registered_validator(converter.schema)


@given(CASES, st.data())
def test_a_schema_and_its_converter_agree(case: Case, data: st.DataObject) -> None:
    converter = converter_for(case.annotation, "core/x", "the parameter")
    document = data.draw(case.documents | ANYTHING)
    fits = accepts(converter, write_json(document))
    violation = judge_of(converter).check(document)
    if fits:
        assert violation is None
    if violation is None and case.asserted:
        assert fits


@given(CASES, st.data())
def test_L11_9_what_was_read_can_be_written_again(case: Case, data: st.DataObject) -> None:
    reads = converter_for(case.annotation, "core/x", "the parameter")
    writes = converter_for(case.annotation, "core/x", "the return value", as_output=True)
    text = write_json(data.draw(case.documents))
    if accepts(reads, text):
        value = reads.read(text)
        again = writes.write(value)
        assert judge_of(writes).check(read_json(again)) is None
        assert reads.read(again) == value


def read_or_refused(read: Callable[[], Any]) -> Any:
    try:
        return read()
    except Mismatch as exc:
        return str(exc), exc.path, exc.rule


PLAIN = st.sampled_from([Case(kind, ANYTHING) for kind in (dict, dict[str, Any], list, list[Any])])


@given(CASES | PLAIN, st.data())
def test_a_document_that_is_decoded_already_is_read_as_its_text_is(case: Case, data: st.DataObject) -> None:
    converter = converter_for(case.annotation, "core/x", "the parameter")
    text = write_json(data.draw(case.documents | ANYTHING))
    value = read_or_refused(lambda: converter.fit(read_json(text), text))
    assert value == read_or_refused(lambda: converter.read(text))
