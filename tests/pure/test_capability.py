"""`@capability`: the terms, what the error says of bad ones, and which schema judges (promises L11.8, L11.9, L12)."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from neuron_anyio import LeaseContext, capability, on_behalf_of
from neuron_anyio.capability import Capability
from neuron_anyio.conversion import Mismatch
from neuron_anyio.jsontext import NotJsonError
from neuron_anyio.model import Offer
from neuron_anyio.schemas import InvalidSchema


class Page(msgspec.Struct):
    url: str
    max_bytes: int = 10


class Fetched(msgspec.Struct):
    status: int


def plain(page: Any) -> Any:
    """Give back what came."""
    return page


async def fetch(page: Page, ctx: LeaseContext) -> Fetched:
    return Fetched(len(page.url))


def make(function: Callable[..., Any] = plain, **options: Any) -> Capability[..., Any]:
    return capability(options.pop("type", "core/x"), **options)(function)


# ---- the function and its offer


def test_the_function_stays_callable_as_it_was() -> None:
    one = make()
    assert one({"a": 1}) == {"a": 1}
    assert one.__name__ == "plain"
    assert one.__doc__ == "Give back what came."
    assert inspect.unwrap(one) is plain


def test_its_repr_is_short() -> None:
    assert repr(make(concurrency=3)) == "<Capability 'core/x', concurrency 3>"


def test_async_functions_run_in_the_loop_and_others_in_a_thread_unless_told_otherwise() -> None:
    assert make(fetch).terms.runs == "loop"
    assert make(plain).terms.runs == "thread"
    assert make(plain, runs="loop").terms.runs == "loop"


def test_what_is_announced_is_what_was_said() -> None:
    schema = {"type": "object"}
    one = make(
        concurrency=2,
        scope=on_behalf_of("ann"),
        lease_ttl=30,
        description="fetches",
        input_schema=schema,
        output_schema=False,
    )
    assert one.offer == Offer(
        capability="core/x",
        concurrency=2,
        on_behalf_of="ann",
        lease_ttl=30,
        description="fetches",
        input_schema=schema,
        output_schema=False,
    )


def test_schemas_come_from_the_annotations_unless_given() -> None:
    one = make(fetch)
    assert isinstance(one.input_schema, dict)
    assert one.input_schema["$defs"]["Page"]["required"] == ["url"]
    assert isinstance(one.output_schema, dict)
    assert make(fetch, input_schema={}).input_schema == {}
    assert make(plain).input_schema is None


@pytest.mark.parametrize(("function", "takes"), [(plain, False), (fetch, True)])
def test_a_second_parameter_is_for_the_context(function: Callable[..., Any], takes: bool) -> None:
    assert make(function).takes_context is takes


def test_annotations_may_name_what_is_local_to_the_decorator() -> None:
    class Local(msgspec.Struct):
        number: int

    @capability("core/x")
    def handler(item: Local) -> int:
        return item.number

    assert handler.read_input(b'{"number":3}', None) == Local(3)


# ---- bad terms


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"type": "fetch"}, "'fetch': the type must be namespaced, at least two segments.*for example"),
        ({"type": "a//b"}, "the type must be namespaced"),
        ({"type": "a/b\n"}, "the type must be namespaced"),
        ({"type": "\u00e4/b"}, "the type must be namespaced"),
        ({"type": None}, "the type must be namespaced"),
        ({"type": b"a/b"}, "the type must be namespaced"),
        ({"scope": "bob"}, r"scope must be 'any' or on_behalf_of\(user\), not 'bob'"),
        ({"scope": None}, "scope must be 'any' or on_behalf_of"),
        ({"concurrency": 0}, "concurrency must be a whole number, 1 or more, not 0"),
        ({"concurrency": 1.0}, "concurrency must be a whole number"),
        ({"concurrency": True}, "concurrency must be a whole number"),
        ({"concurrency": "2"}, "concurrency must be a whole number"),
        ({"lease_ttl": 0.999}, "lease_ttl must be 1 to 3600 seconds or None, not 0.999"),
        ({"lease_ttl": 3600.1}, "lease_ttl must be 1 to 3600 seconds or None"),
        ({"lease_ttl": math.nan}, "lease_ttl must be 1 to 3600 seconds or None"),
        ({"lease_ttl": "60"}, "lease_ttl must be 1 to 3600 seconds or None"),
        ({"timeout": 0}, "timeout must be a number of seconds above 0 or None, not 0"),
        ({"timeout": math.inf}, "timeout must be a number of seconds above 0 or None"),
        ({"timeout": "5"}, "timeout must be a number of seconds above 0 or None"),
        ({"runs": "gpu"}, "runs must be 'loop', 'thread' or 'process', not 'gpu'"),
        ({"on_lease_lost": "ignore"}, "on_lease_lost must be 'cancel' or 'continue', not 'ignore'"),
        ({"non_retryable": ("ValueError",)}, "non_retryable must be a tuple of exception classes"),
        ({"non_retryable": (KeyboardInterrupt,)}, "non_retryable must be a tuple of exception classes"),
    ],
)
def test_a_bad_term_is_refused_with_field_rule_and_remedy(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=f"^capability .*{said}"):
        make(**options)
    if "type" not in options:
        with pytest.raises(ValueError, match=f"^capability 'core/x': {said}"):
            make().with_options(**options)


def test_a_lone_exception_class_is_refused_by_name() -> None:
    with pytest.raises((TypeError, ValueError), match="non_retryable"):
        make(non_retryable=ValueError)


def test_a_description_that_is_no_text_is_refused_by_name() -> None:
    with pytest.raises((TypeError, ValueError), match="description"):
        make(description=5)


def test_a_process_handler_takes_the_input_alone() -> None:
    def handler(page: Any, ctx: Any) -> None: ...

    with pytest.raises((TypeError, ValueError), match="process"):
        make(handler, runs="process")


@pytest.mark.parametrize("ttl", [1, 1.0, 3600])
def test_the_ends_of_the_range_of_a_lease_time_are_in_it(ttl: float) -> None:
    assert make(lease_ttl=ttl).offer.lease_ttl == ttl


@pytest.mark.parametrize("user", ["", None, 5])
def test_a_scope_is_for_a_user_with_an_id(user: Any) -> None:
    with pytest.raises(ValueError, match=r"on_behalf_of\(\) takes the user's id"):
        on_behalf_of(user)


@pytest.mark.parametrize("name", ["input_schema", "output_schema"])
@pytest.mark.parametrize("schema", [{"type": "nonsense"}, 5, {"$ref": "http://example.com/schema"}])
def test_L11_11_a_registered_schema_that_cannot_be_used_is_refused_at_the_decorator(name: str, schema: Any) -> None:
    with pytest.raises(InvalidSchema) as caught:
        make(**{name: schema})
    assert f"in {name} of capability 'core/x'" in caught.value.__notes__


# ---- with_options


def test_a_copy_on_other_terms_leaves_the_first_as_it_was() -> None:
    one = make(concurrency=2)
    two = one.with_options(scope=on_behalf_of("ann"), concurrency=8)
    assert (one.terms.concurrency, two.terms.concurrency) == (2, 8)
    assert one.offer.on_behalf_of is None
    assert two.offer.on_behalf_of == "ann"
    assert two({"a": 1}) == {"a": 1}
    assert two.function is one.function


def test_an_option_that_there_is_not_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(TypeError, match=r"does not know concurency; it knows .*concurrency"):
        make().with_options(concurency=3)  # type: ignore[call-arg]  # that is the mistake


# ---- which schema judges


WHOLE = b'{"type":"integer"}'


def test_L12_the_leases_schema_wins_over_the_registered_one() -> None:
    one = make(input_schema={"type": "string"}, output_schema={"type": "string"})
    assert one.read_input(b"5", WHOLE) == 5
    assert one.write_output(5, WHOLE) == b"5"
    for judge in (lambda: one.read_input(b'"a"', WHOLE), lambda: one.write_output("a", WHOLE)):
        with pytest.raises(Mismatch, match="type"):
            judge()


def test_L12_without_one_the_registered_schema_judges() -> None:
    one = make(input_schema={"type": "string"}, output_schema={"type": "string"})
    assert one.read_input(b'"a"', None) == "a"
    with pytest.raises(Mismatch) as caught:
        one.read_input(b"5", None)
    assert caught.value.rule == "type"
    with pytest.raises(Mismatch):
        one.write_output(5, None)


@pytest.mark.parametrize("text", [b"{}", b"true"])
def test_L12_reference_D26_an_empty_schema_on_the_lease_is_one_and_allows_all(text: bytes) -> None:
    one = make(input_schema=False, output_schema=False)
    assert one.read_input(b"5", text) == 5
    assert one.write_output(5, text) == b"5"


def test_L12_false_on_the_lease_is_a_schema_and_forbids_all() -> None:
    with pytest.raises(Mismatch):
        make(input_schema=True).read_input(b"5", b"false")
    with pytest.raises(Mismatch):
        make(output_schema={}).write_output(5, b"false")


def test_L12_without_a_dialect_it_is_2020_12() -> None:
    schema = b'{"prefixItems":[{"type":"string"}]}'
    with pytest.raises(Mismatch):
        make().read_input(b"[5]", schema)


def test_L12_format_is_not_asserted() -> None:
    assert make().read_input(b'"no address"', b'{"format":"email"}') == "no address"


def test_L12_a_typed_handler_is_judged_by_its_type_and_by_a_schema_that_came_with_the_lease() -> None:
    one = make(fetch)
    assert one.read_input(b'{"url":"u"}', None) == Page("u")
    assert one.read_input(b'{"url":"u"}', b'{"required":["url"]}') == Page("u")
    with pytest.raises(Mismatch) as by_schema:
        one.read_input(b'{"url":"u"}', b'{"required":["max_bytes"]}')
    assert by_schema.value.rule == "required"
    with pytest.raises(Mismatch) as by_type:
        one.read_input(b'{"url":5}', b"{}")
    assert by_type.value.path == "/url"


def test_L12_a_given_schema_judges_a_typed_handler_too() -> None:
    one = make(fetch, input_schema={"properties": {"url": {"minLength": 3}}}, output_schema={"maxProperties": 0})
    with pytest.raises(Mismatch, match="url"):
        one.read_input(b'{"url":"u"}', None)
    with pytest.raises(Mismatch):
        one.write_output(Fetched(200), None)


@pytest.mark.parametrize("schema", [b"5", b"{", b'{"type":"nonsense"}', b'{"$ref":"https://example.com/s"}'])
def test_L11_11_a_schema_on_the_lease_that_cannot_be_used_is_told_from_a_mismatch(schema: bytes) -> None:
    with pytest.raises(InvalidSchema):
        make().read_input(b"5", schema)
    with pytest.raises(InvalidSchema):
        make().write_output(5, schema)


def test_L11_9_what_a_typed_handler_returns_is_judged_by_its_annotation() -> None:
    one = make(fetch)
    assert one.write_output(Fetched(200), None) == b'{"status":200}'
    assert one.write_output({"status": 200}, None) == b'{"status":200}'
    with pytest.raises(Mismatch) as caught:
        one.write_output({"status": "200"}, None)
    assert caught.value.path == "/status"


def test_L11_10_what_is_not_json_is_told_from_a_mismatch() -> None:
    with pytest.raises(NotJsonError):
        make().write_output(math.nan, WHOLE)
    with pytest.raises(NotJsonError):
        make().read_input(b"{", WHOLE)
