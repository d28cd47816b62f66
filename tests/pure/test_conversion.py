"""From a handler's annotations to converters: what fits, what does not, and what is said of it (promises L11.8, C9)."""

from __future__ import annotations

import datetime as dt
import decimal
import enum
import json
import uuid
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal, get_origin

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Meta

from neuron_anyio.conversion import Mismatch, converter_for
from neuron_anyio.jsontext import NotJsonError

SECRET = "hunter2"


class Kind(enum.Enum):
    FILE = "file"

    @classmethod
    def _missing_(cls, value: object) -> Any:
        raise ValueError(f"Expected a kind, not {value}")


class Inner(msgspec.Struct, forbid_unknown_fields=True):
    number: int = 0
    when: dt.datetime | None = None


class Nest(msgspec.Struct):
    inner: Nest | None = None


class Checked(msgspec.Struct):
    """Has a check of its own that quotes the value in every way that msgspec's own messages begin."""

    how: str
    value: str

    def __post_init__(self) -> None:
        text = f"{self.how} {self.value} - at `$.{self.value}`"
        if self.how == "KeyError":
            raise KeyError(text)
        if self.how == "Recursion":
            raise ZeroDivisionError(text)
        raise ValueError(text)


class Cat(msgspec.Struct, tag=True):
    pass


class Dog(msgspec.Struct, tag=True):
    pass


class Everything(msgspec.Struct, forbid_unknown_fields=True):
    inner: Inner | None = None
    inners: list[Inner] = []
    by_name: dict[str, Inner] = {}
    numbers: dict[int, int] = {}
    pet: Cat | Dog | None = None
    kind: Kind | None = None
    choice: Literal["a", "b", 3] = "a"
    text: Annotated[str, Meta(min_length=2, max_length=3, pattern="^a")] = "ab"
    count: Annotated[int, Meta(ge=1, le=3)] = 1
    share: Annotated[float, Meta(gt=0, lt=1)] = 0.5
    even: Annotated[int, Meta(multiple_of=2)] = 2
    few: Annotated[list[int], Meta(min_length=1, max_length=2)] = msgspec.field(default_factory=lambda: [1])
    some: Annotated[dict[str, int], Meta(min_length=1)] = msgspec.field(default_factory=lambda: {"a": 1})
    pair: tuple[int, str] = (1, "")
    data: bytes = b""
    uuid: uuid.UUID | None = None
    money: decimal.Decimal | None = None
    span: dt.timedelta | None = None
    flag: bool = False
    checked: Checked | None = None


everything = converter_for(Everything, "core/x", "the input parameter")


def refusal(document: Any) -> Mismatch:
    with pytest.raises(Mismatch) as caught:
        everything.read(json.dumps(document).encode())
    return caught.value


@pytest.mark.parametrize("annotation", [Any, object])
def test_untyped_input_comes_decoded_as_it_is(annotation: Any) -> None:
    converter = converter_for(annotation, "core/x", "the input parameter")
    assert converter.schema is None
    assert converter.read(b'{"a":[1,null]}') == {"a": [1, None]}


@pytest.mark.parametrize(
    "annotation", [Any, dict, dict[str, Any], dict[str, object], Mapping[str, Any], list, list[Any]]
)
def test_a_document_that_fits_as_it_is_is_not_decoded_again(annotation: Any) -> None:
    document = [1, None] if get_origin(annotation) is list or annotation is list else {"a": [1, None]}
    fitting = converter_for(annotation, "core/x", "the input parameter").fit(document, json.dumps(document).encode())
    assert fitting is document


@pytest.mark.parametrize(
    ("annotation", "text"),
    [
        (dict, b"[]"),
        (dict[str, Any], b"null"),
        (Mapping[str, object], b"1"),
        (list, b"{}"),
        (list[Any], b'"a"'),
        (dict[str, int], b'{"a":"b"}'),
        (list[int], b"[null]"),
        (Inner, b'{"number":"x"}'),
        (dict[Literal["a"], Any], b'{"b":1}'),
        (dict[int, Any], b'{"b":1}'),
    ],
)
def test_a_document_that_does_not_fit_is_refused_as_its_text_is(annotation: Any, text: bytes) -> None:
    converter = converter_for(annotation, "core/x", "the input parameter")
    with pytest.raises(Mismatch) as by_text:
        converter.read(text)
    with pytest.raises(Mismatch) as by_document:
        converter.fit(json.loads(text), text)
    assert str(by_document.value) == str(by_text.value)
    with pytest.raises(Mismatch):
        converter.write(json.loads(text))


def test_what_is_written_of_a_plain_type_may_be_any_value_that_becomes_it() -> None:
    converter = converter_for(dict[str, Any], "core/x", "the input parameter")
    assert converter.write(Inner(3)) == b'{"number":3,"when":null}'
    assert converter.write(msgspec.Raw(b' {"a":1}')) == b' {"a":1}'
    with pytest.raises(Mismatch):
        converter.write(msgspec.Raw(b" [1]"))


def test_none_is_a_type() -> None:
    converter = converter_for(None, "core/x", "the return value")
    assert converter.read(b"null") is None
    with pytest.raises(Mismatch):
        converter.read(b"0")


def test_typed_input_comes_as_its_type_and_has_a_schema() -> None:
    converter = converter_for(Inner, "core/x", "the input parameter")
    assert converter.read(b'{"number":3}') == Inner(3)
    assert converter.schema is not None
    assert "Inner" in converter.schema["$defs"]


@pytest.mark.parametrize(
    ("annotation", "text"),
    [
        (Any, b""),
        (Any, b'"\xff"'),
        (Any, b"[" * 100_000),
        (Inner, b'{"number":1'),
        (int, b"1 2"),
        (str, b'"\xff"'),
        (Nest, b'{"inner":' * 100_000),
    ],
)
def test_what_is_not_json_is_told_from_what_does_not_fit(annotation: Any, text: bytes) -> None:
    with pytest.raises(NotJsonError):
        converter_for(annotation, "core/x", "the input parameter").read(text)


@pytest.mark.parametrize(
    ("document", "path", "rule"),
    [
        ([], "", "type"),
        ({"flag": 1}, "/flag", "type"),
        ({"unknown": 1}, "", "additionalProperties"),
        ({"inner": {"unknown": 1}}, "/inner", "additionalProperties"),
        ({"inners": [{}, {"number": "x"}]}, "/inners/1/number", "type"),
        ({"by_name": {"a": {"number": "x"}}}, "/by_name/.../number", "type"),
        ({"numbers": {"a": 1}}, "/numbers", "type"),
        ({"checked": {"how": "x"}}, "/checked", "required"),
        ({"text": "a"}, "/text", "minLength"),
        ({"text": "abcd"}, "/text", "maxLength"),
        ({"text": "ba"}, "/text", "pattern"),
        ({"few": []}, "/few", "minItems"),
        ({"few": [1, 2, 3]}, "/few", "maxItems"),
        ({"pair": [1]}, "/pair", "maxItems"),
        ({"some": {}}, "/some", "minProperties"),
        ({"count": 0}, "/count", "minimum"),
        ({"count": 4}, "/count", "maximum"),
        ({"share": 0}, "/share", "exclusiveMinimum"),
        ({"share": 1}, "/share", "exclusiveMaximum"),
        ({"even": 3}, "/even", "multipleOf"),
        ({"kind": "x"}, "/kind", "enum"),
        ({"choice": "x"}, "/choice", "enum"),
        ({"choice": 4}, "/choice", "enum"),
        ({"uuid": "x"}, "/uuid", "format"),
        ({"pet": {"type": "Cow"}}, "/pet/type", "format"),
        ({"checked": {"how": "Expected", "value": "x"}}, "/checked", "type"),
    ],
)
def test_L11_8_a_mismatch_says_where_and_which_rule(document: Any, path: str, rule: str) -> None:
    mismatch = refusal(document)
    assert (mismatch.path, mismatch.rule) == (path, rule)
    assert str(mismatch).endswith(f" at {path or 'the top'}")


@pytest.mark.parametrize(
    "how", ["Expected", "Object missing", "Invalid", "Expected `int`, got", "KeyError", "Recursion"]
)
@pytest.mark.parametrize("nest", [lambda x: {"checked": x}, lambda x: x], ids=["nested", "at the top"])
def test_C9_what_a_types_own_check_says_is_not_passed_on(how: str, nest: Callable[[Any], Any]) -> None:
    document = nest({"how": how, "value": SECRET})
    converter = everything if "checked" in document else converter_for(Checked, "core/x", "the input parameter")
    with pytest.raises(Mismatch) as caught:
        converter.read(json.dumps(document).encode())
    mismatch = caught.value
    assert "own check" in str(mismatch)
    assert SECRET not in str(mismatch) + mismatch.path + mismatch.schema_path
    assert mismatch.__cause__ is None
    assert mismatch.__suppress_context__


NAMES = st.sampled_from([*Everything.__struct_fields__, "number", "when", "how", "value", "type", SECRET, "7777777"])
LEAVES = st.sampled_from(
    [None, True, 0, 3, -1, 7_777_777, 7_777_777.5, "", "a", "file", SECRET, f"{SECRET} - at `$.{SECRET}`", "Cat"]
)
DOCUMENTS = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=4), max_leaves=12
)
ANNOTATIONS: list[Any] = [
    Everything,
    Checked,
    int,
    str,
    Kind,
    Cat | Dog,
    list[Inner],
    dict[int, Inner],
    dict[Kind, int],
    Annotated[str, Meta(max_length=2)],
    tuple[int, ...],
    set[uuid.UUID],
    decimal.Decimal,
    dt.date,
    Literal["x", "y"],
    bytes,
]


@given(st.sampled_from(ANNOTATIONS), DOCUMENTS)
def test_C9_no_mismatch_contains_a_value(annotation: Any, document: Any) -> None:
    mismatch = None
    try:
        converter_for(annotation, "core/x", "the input parameter").read(json.dumps(document).encode())
    except Mismatch as found:
        mismatch = found
    if mismatch is not None:
        shown = f"{mismatch} {mismatch!r} {mismatch.path} {mismatch.rule} {mismatch.schema_path}"
        assert SECRET not in shown
        assert "7777777" not in shown
        assert mismatch.__context__ is None or mismatch.__suppress_context__


# ---- what comes out


def test_a_type_may_hold_what_goes_unjudged() -> None:
    converter = converter_for(dict[str, object], "core/x", "the input parameter")
    assert converter.read(b'{"a":[1,null]}') == {"a": [1, None]}
    assert converter.schema == {"type": "object", "additionalProperties": {"title": "any JSON"}}


def test_the_schema_of_a_set_asks_for_no_more_than_its_converter() -> None:
    converter = converter_for(set[int], "core/x", "the input parameter")
    assert converter.read(b"[1,1]") == {1}
    assert converter.schema == {"type": "array", "items": {"type": "integer"}}


def test_L11_9_what_is_written_fits_the_type_or_is_a_mismatch() -> None:
    converter = converter_for(Inner, "core/x", "the return value", as_output=True)
    assert converter.write(Inner(3)) == b'{"number":3,"when":null}'
    assert converter.write({"number": 3}) == b'{"number":3}'
    with pytest.raises(Mismatch) as caught:
        converter.write({"number": SECRET})
    assert (caught.value.path, caught.value.rule) == ("/number", "type")
    with pytest.raises(NotJsonError):
        converter.write(float("nan"))


def test_a_step_of_a_path_is_escaped_as_json_pointers_are() -> None:
    class Odd(msgspec.Struct):
        number: int = msgspec.field(name="a/b~c")

    with pytest.raises(Mismatch) as caught:
        converter_for(Odd, "core/x", "the input parameter").read(b'{"a/b~c":"x"}')
    assert caught.value.path == "/a~1b~0c"
