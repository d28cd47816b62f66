"""What has no JSON form is refused where it is written, with the parameter, the type and the remedy."""

from __future__ import annotations

import collections
import dataclasses
import datetime as dt
import decimal
import enum
import fractions
import ipaddress
import pathlib
import re
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping
from typing import IO, Annotated, Any, Generic, Literal, NamedTuple, Never, Protocol, TypedDict, TypeVar

import annotated_types
import msgspec
import pydantic
import pytest

from neuron_anyio import capability
from neuron_anyio.conversion import converter_for

T = TypeVar("T")


class Own:
    """A class that nobody but itself knows how to write."""


class Shape(Protocol):
    def area(self) -> float: ...


class Open(msgspec.Struct):
    number: int


class Shut(msgspec.Struct):
    text: str


class Holder(msgspec.Struct):
    inside: list[Own] = []


class Deep(msgspec.Struct):
    holder: Holder | None = None


class Box(msgspec.Struct, Generic[T]):
    content: T


class Bounded(msgspec.Struct):
    count: Annotated[int, annotated_types.Ge(1)] = 1


@dataclasses.dataclass
class Record:
    number: complex


@dataclasses.dataclass
class Changing:
    number: int


class Row(TypedDict):
    where: pathlib.Path


class Pair(NamedTuple):
    first: int
    second: Callable[[], int]


class Mixed(enum.Enum):
    ONE = 1
    TWO = "two"


class Tuples(enum.Enum):
    ONE = (1, 2)


class Nobody(enum.Enum):
    pass


class Model(pydantic.BaseModel):
    number: int = 0


class Hidden(pydantic.BaseModel, arbitrary_types_allowed=True):
    own: Own


@dataclasses.dataclass
class Alien:
    model: Model
    struct: Open


class Refused(NamedTuple):
    annotation: Any
    said: str


NO_FORM = "has no JSON form"
IN_A_SET = "cannot be in a set; use a list"
KEYS = re.escape("JSON keys are strings; use dict[str, ...]")
MIXES = "mixes pydantic, which judges the whole of an annotation, with msgspec"
IGNORED = "which would be ignored; write it with msgspec.Meta"

ALWAYS = [
    # Classes that JSON knows nothing of
    Refused(complex, NO_FORM),
    Refused(Own, NO_FORM),
    Refused(Shape, NO_FORM),
    Refused(type, NO_FORM),
    Refused(type[int], NO_FORM),
    Refused(range, NO_FORM),
    Refused(slice, NO_FORM),
    Refused(fractions.Fraction, NO_FORM),
    Refused(pathlib.Path, NO_FORM),
    Refused(ipaddress.IPv4Address, NO_FORM),
    Refused(dt.tzinfo, NO_FORM),
    Refused(Exception, NO_FORM),
    Refused(IO[str], NO_FORM),
    Refused(collections.deque[int], NO_FORM),
    Refused(collections.OrderedDict[str, int], NO_FORM),
    Refused(collections.Counter[str], NO_FORM),
    # What is used up, called or awaited
    Refused(Callable, NO_FORM),
    Refused(Callable[[int], str], NO_FORM),
    Refused(Iterator[int], NO_FORM),
    Refused(Iterable[int], NO_FORM),
    Refused(AsyncIterator[int], NO_FORM),
    # Inside something
    Refused(list[Own], "holds <class .*Own'>, which has no JSON form"),
    Refused(dict[str, complex], "holds <class 'complex'>, which has no JSON form"),
    Refused(Own | None, "holds <class .*Own'>, which has no JSON form"),
    Refused(tuple[int, Own], "holds <class .*Own'>"),
    Refused(Annotated[Own, msgspec.Meta(title="own")], "holds <class .*Own'>"),
    Refused(Holder, "in Holder.inside holds <class .*Own'>"),
    Refused(Deep, "in Holder.inside holds <class .*Own'>"),
    Refused(Record, "in Record.number holds <class 'complex'>"),
    Refused(Row, "in Row.where holds <class 'pathlib.*Path'>"),
    Refused(Pair, r"in Pair.second holds collections.abc.Callable\[\[\], int\]"),
    Refused(Box[complex], "holds <class 'complex'>"),
    # Sets
    Refused(set[dict[str, int]], IN_A_SET),
    Refused(set[list[int]], IN_A_SET),
    Refused(frozenset[set[int]], IN_A_SET),
    Refused(set[tuple[int, list[int]]], IN_A_SET),
    Refused(set[int | list[int]], IN_A_SET),
    Refused(set[Open], IN_A_SET),
    Refused(set[Changing], IN_A_SET),
    Refused(list[set[Row]], IN_A_SET),
    Refused(set[Annotated[list[int], msgspec.Meta(min_length=1)]], IN_A_SET),
    # Keys
    Refused(dict[bool, int], KEYS),
    Refused(dict[None, int], KEYS),
    Refused(dict[str | None, int], KEYS),
    Refused(dict[tuple[int, int], str], KEYS),
    Refused(Mapping[Open, int], KEYS),
    Refused(list[dict[frozenset[int], int]], KEYS),
    # Unions that the value alone does not tell apart
    Refused(Open | Shut, "all Struct types must be tagged"),
    Refused(Open | Changing, "more than one dict-like type"),
    Refused(list[int] | set[int], "more than one array-like"),
    Refused(str | dt.datetime, "more than one str-like type"),
    Refused(bytes | str, "more than one str-like type"),
    Refused(Literal["a"] | uuid.UUID, "more than one str-like type"),
    # Enums and literals
    Refused(Mixed, "all str or all int"),
    Refused(Tuples, "all str or all int"),
    Refused(Nobody, "at least one item"),
    Refused(Literal[b"x"], "Literal may only contain"),
    # Generics and forms of typing
    Refused(T, "is a type variable; name a type"),
    Refused(list[T], "holds ~T, which is a type variable"),  # type: ignore[valid-type]  # outside of a generic, as a user may
    Refused(Box, r"is generic; say of what, for example Box\[int\]"),
    Refused(Never, NO_FORM),
    Refused("int", NO_FORM),
    Refused(5, NO_FORM),
    Refused({"a": int}, NO_FORM),
    # Bounds
    Refused(Annotated[int, annotated_types.Ge(1)], IGNORED),
    Refused(Annotated[list[int], annotated_types.Len(1, 3)], IGNORED),
    Refused(list[Annotated[str, annotated_types.MinLen(2)]], IGNORED),
    Refused(Bounded, f"in Bounded.count has the constraint Ge.*{IGNORED}"),
    Refused(pydantic.PositiveInt, IGNORED),
    Refused(Annotated[int, msgspec.Meta(min_length=1)], "Can only set `min_length`"),
    # pydantic's
    Refused(Model | Open, MIXES),
    Refused(list[Annotated[Model, msgspec.Meta(title="x")]], MIXES),
    Refused(Alien, f"in Alien.struct .*{MIXES}"),
    Refused(Model | Own, "Unable to generate pydantic-core schema"),
    Refused(Hidden, "Cannot generate a JsonSchema"),
    Refused(set[Model], IN_A_SET),
    Refused(Callable[[], Model], "Cannot generate a JsonSchema"),
]

AS_OUTPUT = [
    Refused(kind, KEYS)
    for kind in (
        dict[int, str],
        dict[float, str],
        dict[uuid.UUID, str],
        dict[dt.date, str],
        dict[decimal.Decimal, str],
        dict[bytes, str],
        dict[int | str, str],
        dict[Literal[1], str],
        list[dict[int, str]],
    )
]
"""Keys that can be read from text, but would have to become text in silence on the way out (promise L11.10)."""


@pytest.mark.parametrize("place", ["the parameter 'page'", "the return value"])
@pytest.mark.parametrize(("annotation", "said"), ALWAYS, ids=lambda value: str(value)[:60])
def test_what_has_no_json_form_is_refused_with_place_type_and_remedy(annotation: Any, said: str, place: str) -> None:
    with pytest.raises(TypeError, match=said) as caught:
        converter_for(annotation, "core/x", place, as_output="return" in place)
    text = str(caught.value)
    assert text.startswith(f"capability 'core/x': {place} is annotated {annotation!r}, which ")
    assert "; " in text, "what to do"
    assert "\n" not in text


@pytest.mark.parametrize(("annotation", "said"), AS_OUTPUT, ids=lambda value: str(value)[:60])
def test_keys_that_are_no_strings_come_in_and_do_not_go_out(annotation: Any, said: str) -> None:
    assert converter_for(annotation, "core/x", "the parameter 'page'").schema is not None
    with pytest.raises(TypeError, match=said):
        converter_for(annotation, "core/x", "the return value", as_output=True)


@pytest.mark.parametrize(
    "annotation", [dict[str, int], dict[Literal["a"], int], dict[Any, int], dict, list[dict[str, Any]]]
)
def test_keys_that_are_strings_or_anything_may_go_out(annotation: Any) -> None:
    assert converter_for(annotation, "core/x", "the return value", as_output=True).schema is not None


def test_it_is_refused_at_the_decorator() -> None:
    with pytest.raises(TypeError, match=r"^capability 'core/x': the parameter 'page' is annotated .*Own"):

        @capability("core/x")
        def takes(page: list[Own]) -> None: ...

    with pytest.raises(TypeError, match=r"^capability 'core/x': the return value is annotated .*complex"):

        @capability("core/x")
        def gives(page: Any) -> complex:
            return 1j


def test_a_handler_that_returns_what_is_awaited_gives_what_that_gives() -> None:
    @capability("core/x")
    def later(page: Any) -> Awaitable[int]:
        raise NotImplementedError

    assert later.output_schema == {"type": "integer"}
