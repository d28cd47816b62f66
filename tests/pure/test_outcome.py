"""From the way a handler ended to its outcome and its frame: table L11 row by row, and L4.3."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuron_anyio import RetryableFailure, TerminalFailure, capability, frames
from neuron_anyio.brokers._bigbrain_wire import settlement_frame
from neuron_anyio.capability import Capability
from neuron_anyio.codec import decode_neuron_frame, encode_frame
from neuron_anyio.conversion import Mismatch
from neuron_anyio.errors import HandlerCancelled
from neuron_anyio.jsontext import NotJsonError
from neuron_anyio.lease import Lease, State
from neuron_anyio.model import Cancelled, CancelReason, Completed, Failed, FailureKind, GiveBack, GivenBack, Outcome
from neuron_anyio.outcome import CancelledOut, Ending, Raised, Returned, input_failure, outcome_of
from neuron_anyio.schemas import InvalidSchema
from tests.pure.books import delivery

SECRET = "hunter2"


class Quota(Exception):
    """One of the capability's `non_retryable` types."""


class Unspeakable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


class Nameless:
    """A reason that cannot be told."""

    def __str__(self) -> str:
        raise RuntimeError("no words")


def work(page: Any) -> Any:
    return page


WORK = capability("core/x", timeout=5, non_retryable=(Quota, ArithmeticError))(work)


@capability("core/x")
def count(page: Any) -> int:
    return len(page)


def ended(
    ending: Ending,
    *,
    reason: CancelReason | None = None,
    verdict: TerminalFailure | RetryableFailure | None = None,
    handler: Capability[..., Any] = WORK,
    output_schema: bytes | None = None,
    output_bytes: int = 1000,
) -> Outcome:
    lease = Lease(delivery("l1", output_schema=output_schema), source=0, fingerprint=b"", now=0.0)
    lease.state = State.RUNNING
    if reason is not None:
        lease.cancel(reason)
    return outcome_of(ending, lease, handler, verdict=verdict, output_bytes=output_bytes)


def on_the_wire(outcome: Outcome) -> frames.Ack | frames.Nack:
    """Send an outcome through the codec."""
    frame = decode_neuron_frame(encode_frame(settlement_frame("l1", outcome)), strict=True)
    assert isinstance(frame, frames.Ack | frames.Nack)
    assert frame.lease_id == "l1"
    return frame


def nack(outcome: Outcome) -> tuple[str, str | None]:
    frame = on_the_wire(outcome)
    assert isinstance(frame, frames.Nack)
    return frame.kind, frame.code


def details(outcome: Outcome) -> Any:
    frame = on_the_wire(outcome)
    assert isinstance(frame, frames.Nack)
    assert frame.details is not None
    return json.loads(bytes(frame.details))


def failed(outcome: Outcome) -> Failed:
    assert isinstance(outcome, Failed)
    return outcome


# ---- the table


@pytest.mark.parametrize("value", [None, 0, "", {}, [1, {"a": None}]])
def test_L11_1_what_it_returned_is_acked(value: Any) -> None:
    outcome = ended(Returned(value))
    assert outcome == Completed((msgspec.json.encode(value),))
    frame = on_the_wire(outcome)
    assert isinstance(frame, frames.Ack)
    assert json.loads(bytes(frame.output)) == value


def test_L11_1_null_is_sent_as_an_output() -> None:
    assert b'"output":null' in encode_frame(settlement_frame("l1", ended(Returned(None))))


def test_L11_2_a_terminal_failure_is_terminal() -> None:
    outcome = failed(ended(Raised(TerminalFailure("no such page", details={"a": 1}))))
    assert nack(outcome) == ("terminal", "HANDLER_TERMINAL")
    assert outcome.reason == "no such page"
    assert details(outcome) == {"a": 1}
    assert nack(ended(Raised(TerminalFailure("so", code="GONE")))) == ("terminal", "GONE")


@pytest.mark.parametrize("ending", [Returned(5), Raised(ValueError("later")), CancelledOut()])
def test_L11_2_the_first_call_settles_even_if_it_is_swallowed(ending: Ending) -> None:
    assert nack(ended(ending, verdict=TerminalFailure("so", code="FIRST"))) == ("terminal", "FIRST")


def test_L11_3_a_retryable_failure_asks_for_another_try_in_its_time() -> None:
    outcome = ended(Raised(RetryableFailure("busy", after=2.5)))
    assert nack(outcome) == ("retryable", "HANDLER_RETRY")
    assert details(outcome) == {"retryAfterMs": 2500}
    assert nack(ended(Raised(RetryableFailure("busy", code="BUSY")))) == ("retryable", "BUSY")
    assert failed(ended(Raised(RetryableFailure("busy")))).details is None


def test_L11_3_a_retry_by_the_context_stands_whatever_comes_later() -> None:
    assert nack(ended(Returned(5), verdict=RetryableFailure("busy"))) == ("retryable", "HANDLER_RETRY")


def test_L11_4_any_other_exception_is_retried() -> None:
    outcome = failed(ended(Raised(ValueError("bad weather"))))
    assert nack(outcome) == ("retryable", "HANDLER_THREW")
    assert outcome.reason == "bad weather"


@pytest.mark.parametrize("error", [Quota("none left"), ZeroDivisionError("by zero")])
def test_L11_4_but_for_those_that_cannot_be(error: Exception) -> None:
    assert nack(ended(Raised(error))) == ("terminal", "HANDLER_THREW")


def test_L11_5_a_cancellation_that_nobody_asked_for_is_retried() -> None:
    assert nack(ended(CancelledOut())) == ("retryable", "HANDLER_CANCELLED")
    assert nack(ended(Raised(HandlerCancelled()))) == ("retryable", "HANDLER_CANCELLED")


@pytest.mark.parametrize("ending", [Returned(5), Raised(ValueError("late")), CancelledOut()])
def test_L11_7_longer_than_its_time_out_is_retried(ending: Ending) -> None:
    outcome = failed(ended(ending, reason=CancelReason.TIMEOUT))
    assert nack(outcome) == ("retryable", "HANDLER_TIMEOUT")
    assert "5 s" in outcome.reason


def test_L11_8_an_input_that_does_not_match_says_where_and_which_rule() -> None:
    outcome = input_failure(Mismatch("broken", path="/a", rule="type", schema_path="/properties/a/type"))
    assert nack(outcome) == ("schema-mismatch", "INPUT_SCHEMA_MISMATCH")
    assert details(outcome) == {
        "path": "/a",
        "rule": "type",
        "schemaPath": "/properties/a/type",
        "message": "broken",
    }


def test_L11_8_an_input_that_cannot_be_read_does_not_match() -> None:
    assert nack(input_failure(NotJsonError("not readable as JSON"))) == ("schema-mismatch", "INPUT_SCHEMA_MISMATCH")


def test_L11_9_an_output_that_does_not_match_says_where_and_which_rule() -> None:
    by_annotation = ended(Returned("five"), handler=count)
    by_schema = ended(Returned({"a": "five"}), output_schema=b'{"properties":{"a":{"type":"integer"}}}')
    for outcome in (by_annotation, by_schema):
        assert nack(outcome) == ("schema-mismatch", "OUTPUT_SCHEMA_MISMATCH")
        assert details(outcome)["rule"] == "type"
        assert "five" not in repr(on_the_wire(outcome)) + str(details(outcome))
    assert details(by_schema)["path"] == "/a"


@pytest.mark.parametrize("value", [math.nan, object(), {1: 2}, "\ud800", [math.inf]])
def test_L11_10_an_output_that_is_not_json_does_not_match(value: Any) -> None:
    assert nack(ended(Returned(value))) == ("schema-mismatch", "OUTPUT_NOT_JSON")


def test_L11_10_an_output_over_the_bound_is_terminal() -> None:
    assert isinstance(ended(Returned("x" * 8), output_bytes=10), Completed)
    outcome = failed(ended(Returned("x" * 9), output_bytes=10))
    assert nack(outcome) == ("terminal", "OUTPUT_TOO_LARGE")
    assert "11 bytes" in outcome.reason


def test_L11_11_a_schema_that_cannot_be_used() -> None:
    assert nack(ended(Returned(5), output_schema=b'{"type":"nonsense"}')) == ("schema-mismatch", "INVALID_SCHEMA")
    assert nack(input_failure(InvalidSchema("broken"))) == ("schema-mismatch", "INVALID_SCHEMA")


ENDINGS: list[Ending] = [
    Returned(5),
    Returned(math.nan),
    Raised(TerminalFailure("so")),
    Raised(RetryableFailure("so")),
    Raised(ValueError("so")),
    Raised(ExceptionGroup("", [TerminalFailure("so")])),
    Raised(HandlerCancelled()),
    CancelledOut(),
]


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("verdict", [None, TerminalFailure("so"), RetryableFailure("so")])
def test_L4_3_and_L11_12_what_the_gateway_cancelled_is_cancelled_whatever_the_handler_did(
    ending: Ending, verdict: TerminalFailure | RetryableFailure | None
) -> None:
    outcome = ended(ending, reason=CancelReason.GATEWAY, verdict=verdict)
    assert isinstance(outcome, Cancelled)
    assert nack(outcome) == ("cancelled", "CANCELLED")


def test_L11_13_a_valid_value_within_the_grace_is_acked() -> None:
    assert isinstance(ended(Returned(5), reason=CancelReason.SHUTDOWN), Completed)


@pytest.mark.parametrize("ending", ENDINGS[1:])
def test_L11_13_anything_else_at_shutdown_goes_back(ending: Ending) -> None:
    outcome = ended(ending, reason=CancelReason.SHUTDOWN)
    assert isinstance(outcome, GivenBack)
    assert outcome.cause is GiveBack.SHUTDOWN
    assert nack(outcome) == ("retryable", "NEURON_SHUTDOWN")


@pytest.mark.parametrize("error", [TerminalFailure, RetryableFailure])
@pytest.mark.parametrize("by_context", [True, False])
def test_L11_14_reference_D24_an_empty_reason_says_so(error: type[Any], by_context: bool) -> None:
    empty = error("")
    outcome = ended(Returned(5), verdict=empty) if by_context else ended(Raised(empty))
    assert failed(outcome).reason == "no reason given"


def test_L11_14_an_exception_without_text_is_told_by_its_class() -> None:
    assert failed(ended(Raised(ValueError()))).reason == "ValueError"


# ---- groups: terminal before cancelled before retryable before other

WEIGHTS: list[tuple[Callable[[], BaseException], tuple[str, str | None]]] = [
    (lambda: TerminalFailure("so"), ("terminal", "HANDLER_TERMINAL")),
    (HandlerCancelled, ("retryable", "HANDLER_CANCELLED")),
    (lambda: RetryableFailure("so"), ("retryable", "HANDLER_RETRY")),
    (lambda: ValueError("so"), ("retryable", "HANDLER_THREW")),
]


GROUPS = st.lists(
    st.recursive(st.integers(0, 3), lambda inner: st.lists(inner, min_size=1, max_size=3), max_leaves=6),
    min_size=1,
    max_size=3,
)


def grouped(kinds: Any) -> BaseException:
    return BaseExceptionGroup("", [grouped(kind) for kind in kinds]) if isinstance(kinds, list) else WEIGHTS[kinds][0]()


def flat(kinds: Any) -> list[int]:
    return [each for kind in kinds for each in flat(kind)] if isinstance(kinds, list) else [kinds]


@given(GROUPS)
def test_L11_the_weightiest_of_a_group_decides_however_deep(kinds: list[Any]) -> None:
    assert nack(ended(Raised(grouped(kinds)))) == WEIGHTS[min(flat(kinds))][1]


# ---- a lost lease


def test_L7_what_a_handler_still_returns_after_its_lease_was_lost_is_offered() -> None:
    assert isinstance(ended(Returned(5), reason=CancelReason.LEASE_LOST), Completed)
    assert nack(ended(Raised(TerminalFailure("so")), reason=CancelReason.LEASE_LOST))[0] == "terminal"


@pytest.mark.parametrize("ending", [CancelledOut(), Raised(HandlerCancelled())])
def test_L7_a_handler_that_ends_because_its_lease_was_lost_gives_it_back(ending: Ending) -> None:
    assert nack(ended(ending, reason=CancelReason.LEASE_LOST)) == ("retryable", "LEASE_EXPIRED")


# ---- what the handler says is cut, cleaned, and never stops the neuron

VERDICTS: list[Callable[[Any], Ending]] = [
    lambda reason: Raised(TerminalFailure(reason)),
    lambda reason: Raised(RetryableFailure(reason)),
    lambda reason: Raised(ValueError(reason)),
]


@pytest.mark.parametrize("ending", VERDICTS)
def test_C9_a_handlers_own_text_is_cut_at_a_thousand_characters(ending: Callable[[Any], Ending]) -> None:
    assert failed(ended(ending("x" * 5000))).reason == "x" * 1000


@pytest.mark.parametrize("ending", VERDICTS)
@pytest.mark.parametrize("reason", ["half a \ud83d", "\udcff" * 2000])
def test_a_reason_that_utf_8_cannot_express_is_still_sent(ending: Callable[[Any], Ending], reason: str) -> None:
    frame = on_the_wire(ended(ending(reason)))
    assert isinstance(frame, frames.Nack)
    assert "?" in frame.reason


@pytest.mark.parametrize("error", [TerminalFailure, RetryableFailure])
def test_a_code_that_utf_8_cannot_express_is_still_sent(error: type[Any]) -> None:
    assert nack(ended(Raised(error("so", code="A\ud83d"))))[1] == "A?"


@pytest.mark.parametrize("error", [TerminalFailure, RetryableFailure])
def test_a_reason_and_a_code_that_are_no_text_are_told_as_text(error: type[Any]) -> None:
    outcome = failed(ended(Raised(error(404, code=17))))
    assert (outcome.reason, outcome.code) == ("404", "17")


@pytest.mark.parametrize("error", [TerminalFailure, RetryableFailure])
def test_a_reason_and_a_code_that_cannot_be_told_do_not_stop_the_neuron(error: type[Any]) -> None:
    outcome = failed(ended(Raised(error(Nameless(), code=Nameless()))))
    assert (outcome.reason, outcome.code) == ("no reason given", None)


def test_an_exception_that_cannot_be_told_is_told_by_its_class() -> None:
    assert failed(ended(Raised(Unspeakable()))).reason == "Unspeakable"


@pytest.mark.parametrize("value", [math.nan, object(), {1: 2}, "\ud800"])
def test_details_that_are_not_json_are_lost_and_say_so(value: Any) -> None:
    outcome = ended(Raised(TerminalFailure("so", details={"a": value})))
    assert nack(outcome) == ("terminal", "HANDLER_TERMINAL")
    assert details(outcome).keys() == {"detailsLost"}


def test_details_that_are_null_or_empty_are_not_lost() -> None:
    assert details(ended(Raised(TerminalFailure("so", details={})))) == {}
    assert details(ended(Raised(TerminalFailure("so", details=0)))) == 0


@given(
    st.sampled_from([TerminalFailure, RetryableFailure, ValueError]),
    st.text(st.characters(), max_size=1100),
    st.none() | st.text(st.characters(), max_size=10),
)
def test_any_text_of_a_handler_can_be_sent(error: type[Any], reason: str, code: str | None) -> None:
    raised = error(reason) if error is ValueError else error(reason, code=code)
    frame = on_the_wire(ended(Raised(raised)))
    assert isinstance(frame, frames.Nack)
    assert 0 < len(frame.reason) <= 1000


@pytest.mark.parametrize("ending", [Returned(SECRET), Raised(ValueError(SECRET)), CancelledOut()])
def test_C9_reprs_of_endings_have_no_content(ending: Ending) -> None:
    assert SECRET not in repr(ending)


@given(st.sampled_from(ENDINGS), st.sampled_from([None, *CancelReason]), st.booleans())
def test_every_ending_has_an_outcome_that_can_be_sent(ending: Ending, reason: CancelReason | None, spoke: bool) -> None:
    verdict = TerminalFailure("so") if spoke else None
    on_the_wire(ended(ending, reason=reason, verdict=verdict))


def test_failure_kinds_of_this_table_are_those_of_the_model() -> None:
    assert {kind.name for kind in FailureKind} >= {"TERMINAL", "RETRY", "THREW", "TIMED_OUT"}
