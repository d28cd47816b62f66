"""Python values to JSON text and back: what JSON cannot say is refused, not changed (promise L11.10)."""

from __future__ import annotations

import collections
import dataclasses
import datetime as dt
import decimal
import enum
import json
import math
import uuid
from collections.abc import Callable
from typing import Any, ClassVar

import attrs
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuron_anyio.jsontext import NotJsonError, read_json, write_json
from neuron_anyio.testing.strategies import json_values

SECRET = "hunter2"


class Point(msgspec.Struct):
    x: Any
    y: Any = 0


@dataclasses.dataclass
class Reading:
    value: Any
    unit: ClassVar[str] = "K"
    start: dataclasses.InitVar[int] = 0


@dataclasses.dataclass(slots=True)
class Slotted:
    value: Any


@attrs.define
class Sample:
    value: Any


class Level(enum.Enum):
    NONE = math.nan
    LOW = 1


class Colour(enum.StrEnum):
    RED = "red"


class Refusing:
    """A member that cannot be read."""

    def __get__(self, instance: object, owner: type) -> Any:
        if instance is None:
            return None
        raise RuntimeError(SECRET)

    def __set__(self, instance: object, value: object) -> None:
        pass


@dataclasses.dataclass(repr=False)
class Guarded:
    value: Any = Refusing()


@given(json_values())
def test_json_comes_back_as_it_was(value: Any) -> None:
    text = write_json(value)
    assert read_json(text) == value
    assert json.loads(text) == value


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, b"null"),
        ({}, b"{}"),
        ((1, 2), b"[1,2]"),
        ("\u00fc\U0001f600", '"\u00fc\U0001f600"'.encode()),
        (2**70, b"1180591620717411303424"),
        (Point(1, [None]), b'{"x":1,"y":[null]}'),
        (Reading(1.5), b'{"value":1.5}'),
        (Sample("a"), b'{"value":"a"}'),
        (Level.LOW, b"1"),
        ({Colour.RED: Colour.RED}, b'{"red":"red"}'),
        (dt.datetime(2026, 1, 2, tzinfo=dt.UTC), b'"2026-01-02T00:00:00Z"'),
        (decimal.Decimal("1.10"), b'"1.10"'),
        (uuid.UUID(int=1), b'"00000000-0000-0000-0000-000000000001"'),
        (b"ab", b'"YWI="'),
        (msgspec.Raw(b'{"a": 1}'), b'{"a": 1}'),
    ],
)
def test_what_msgspec_knows_is_written(value: Any, text: bytes) -> None:
    assert write_json(value) == text


NESTS: list[Callable[[Any], Any]] = [
    lambda value: value,
    lambda value: [0, value],
    lambda value: {"a": {"b": value}},
    lambda value: (value,),
    lambda value: Point(0, value),
    lambda value: Reading([value]),
    Slotted,
    lambda value: Sample({"a": value}),
    lambda value: collections.OrderedDict(a=value),
    lambda value: [Point([Reading({"a": (value,)})])],
]


@pytest.mark.parametrize("nest", NESTS)
@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf, Level.NONE])
def test_L11_10_nan_and_infinity_are_refused_wherever_they_are(nest: Callable[[Any], Any], number: Any) -> None:
    with pytest.raises(NotJsonError, match="NaN or infinite"):
        write_json(nest(number))


@pytest.mark.parametrize("nest", NESTS)
@pytest.mark.parametrize("key", [1, 1.5, None, True, (1,), math.nan, dt.date(2026, 1, 1), Level.LOW])
def test_L11_10_keys_that_are_no_strings_are_refused_wherever_they_are(nest: Callable[[Any], Any], key: Any) -> None:
    with pytest.raises(NotJsonError, match="key"):
        write_json(nest({key: 1}))


@pytest.mark.parametrize("nest", NESTS)
@pytest.mark.parametrize("value", [object(), range(3), iter(()), collections.deque(), 1j, NotJsonError, Guarded()])
def test_L11_10_what_has_no_json_form_is_refused_wherever_it_is(nest: Callable[[Any], Any], value: Any) -> None:
    with pytest.raises(NotJsonError, match="no JSON form"):
        write_json(nest(value))


@pytest.mark.parametrize("nest", NESTS)
@pytest.mark.parametrize("text", ["\ud800", "a\udfffb"])
def test_L11_10_lone_surrogates_are_refused_wherever_they_are(nest: Callable[[Any], Any], text: str) -> None:
    with pytest.raises(NotJsonError, match="lone surrogate"):
        write_json(nest(text))


def test_L11_10_a_key_with_a_lone_surrogate_is_refused() -> None:
    with pytest.raises(NotJsonError, match="lone surrogate"):
        write_json({"\ud800": 1})


def circle_of_lists() -> Any:
    circle: list[Any] = []
    circle.append(circle)
    return circle


def circle_of_objects() -> Any:
    one = Point(None)
    one.x = {"a": [one]}
    return one


def tower() -> Any:
    value: Any = 0
    for _ in range(200_000):
        value = (value,)
    return value


@pytest.mark.parametrize("make", [circle_of_lists, circle_of_objects, tower])
def test_L11_10_circles_and_towers_are_refused(make: Callable[[], Any]) -> None:
    with pytest.raises(NotJsonError, match="contains itself"):
        write_json(make())


@pytest.mark.parametrize("text", [b"{bad", b"", b'{"a":}', b"NaN", b'"\xff"'])
def test_L11_10_raw_text_that_is_not_json_is_refused(text: bytes) -> None:
    with pytest.raises(NotJsonError):
        write_json([msgspec.Raw(text)])


def test_a_member_that_was_never_set_is_left_out() -> None:
    one = Slotted(1)
    del one.value
    assert write_json(one) == b"{}"


@pytest.mark.parametrize(
    "text",
    [b"", b"{", b"nul", b"NaN", b"[1,]", b"1 2", b'"\xff"', b'"\\ud800"', b"1e999", b"\xef\xbb\xbf1", b"[" * 200_000],
)
def test_what_is_not_json_is_not_read(text: bytes) -> None:
    with pytest.raises(NotJsonError, match="not readable as JSON"):
        read_json(text)


@given(st.binary(max_size=30))
def test_any_bytes_are_read_or_refused(text: bytes) -> None:
    try:
        value = read_json(text)
    except NotJsonError:
        return
    assert read_json(write_json(value)) == value


@given(
    st.recursive(
        st.sampled_from([SECRET, math.nan, object(), "\ud800" + SECRET, Guarded(), 1]),
        lambda inner: (
            st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([SECRET, 7_777, None]), inner, max_size=3)
        ),
        max_leaves=8,
    )
)
def test_C9_no_refusal_quotes_the_value(value: Any) -> None:
    error = None
    try:
        write_json(value)
    except NotJsonError as refusal:
        error = refusal
    if error is not None:
        assert SECRET not in str(error)
        assert "7777" not in str(error)
        assert error.__context__ is None or error.__suppress_context__, "what it came from is not shown either"


@given(st.text(max_size=10))
def test_C9_no_reading_error_quotes_the_text(text: str) -> None:
    with pytest.raises(NotJsonError) as caught:
        read_json(f"[{text}{SECRET}".encode("utf-8", "replace"))
    assert SECRET not in str(caught.value)
