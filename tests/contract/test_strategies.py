"""The strategies give what they say, and say what is wrong with their arguments."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, get_args

import jsonschema
import pytest
from hypothesis import Phase, find, given, settings
from hypothesis import strategies as st
from hypothesis.errors import InvalidArgument
from hypothesis.strategies import SearchStrategy

from neuron_anyio import codec, frames, model
from neuron_anyio.brokers._bigbrain_wire import delivery_of, settlement_frame
from neuron_anyio.jsontext import read_json
from neuron_anyio.schemas import registered_validator
from neuron_anyio.sse import EventDecoder, ServerSentEvent
from neuron_anyio.testing import strategies
from neuron_anyio.testing.strategies import Break, Draft, Pause, StreamedDocuments, Turn, TurnKind

pytestmark = pytest.mark.thorough

OF_NEURONS: list[Callable[..., SearchStrategy[Any]]] = [
    strategies.registers,
    strategies.capability_updates,
    strategies.heartbeats,
    strategies.acks,
    strategies.nacks,
    strategies.progress_reports,
]
OF_GATEWAYS: list[Callable[..., SearchStrategy[Any]]] = [
    strategies.registrations,
    strategies.leases,
    strategies.cancels,
    strategies.revocations,
    strategies.disconnects,
]
AT = datetime(2026, 5, 9, 12, 0, tzinfo=UTC)
SCHEMA = {"type": "string"}

PINS: dict[Callable[..., SearchStrategy[Any]], dict[str, Any]] = {
    strategies.registers: {"neuron_id": "n", "protocol_version": "1.0.0"},
    strategies.capability_updates: {"neuron_id": "n"},
    strategies.heartbeats: {"neuron_id": "n", "in_flight": (), "sent_at": AT},
    strategies.acks: {"lease_id": "l", "completed_at": AT},
    strategies.nacks: {"lease_id": "l", "kind": "terminal", "reason": "so", "code": None, "failed_at": AT},
    strategies.progress_reports: {"lease_id": "l", "percent": 5.0, "message": None, "data": None, "sent_at": AT},
    strategies.registrations: {"session_id": "s", "capabilities": (), "accepted_at": AT},
    strategies.leases: {"sent_at": AT},
    strategies.cancels: {"lease_id": "l", "reason": "so", "cancelled_at": AT},
    strategies.revocations: {"capability": "core/echo", "reason": "so", "revoked_at": AT},
    strategies.disconnects: {"reason": "so", "code": None, "reconnectable": True, "sent_at": AT},
}


UNSHRUNK = settings(phases=[Phase.generate], max_examples=5000, database=None)


def comes(strategy: SearchStrategy[Any], condition: Callable[[Any], bool]) -> Any:
    """Return the first value that fulfils a condition, simple or not."""
    return find(strategy, condition, settings=UNSHRUNK)


def just(**values: Any) -> dict[str, SearchStrategy[Any]]:
    return {name: st.just(value) for name, value in values.items()}


# Frames


@pytest.mark.parametrize("strategy", OF_NEURONS + OF_GATEWAYS, ids=lambda strategy: strategy.__name__)
def test_each_frame_is_one_that_the_specification_allows(strategy: Callable[..., SearchStrategy[Any]]) -> None:
    decode = codec.decode_neuron_frame if strategy in OF_NEURONS else codec.decode_server_frame

    @settings(max_examples=50)
    @given(strategy())
    def survives(frame: frames.Frame) -> None:
        assert decode(codec.encode_frame(frame), strict=True) == frame

    survives()


@pytest.mark.parametrize("strategy", PINS, ids=lambda strategy: strategy.__name__)
def test_members_that_are_given_are_as_they_are_given(strategy: Callable[..., SearchStrategy[Any]]) -> None:
    @settings(max_examples=10)
    @given(strategy(**just(**PINS[strategy])))
    def pinned(frame: frames.Frame) -> None:
        assert {name: getattr(frame, name) for name in PINS[strategy]} == PINS[strategy]

    pinned()


@settings(max_examples=25)
@given(
    strategies.leases(
        **just(capability="a/b", input={"x": 1}, lease_id="l", task_id="t", workflow_id="w", attempt=2),
        **just(on_behalf_of="u", metadata={"m": 1}, input_schema=SCHEMA, output_schema=None, expires_at=AT),
    )
)
def test_every_member_of_a_lease_can_be_given(frame: frames.Lease) -> None:
    body = json.loads(codec.encode_frame(frame))["lease"]
    assert body == {
        "leaseId": "l",
        "expiresAt": "2026-05-09T12:00:00Z",
        "task": {
            "taskId": "t",
            "workflowId": "w",
            "capability": "a/b",
            "onBehalfOf": "u",
            "input": {"x": 1},
            "attempt": 2,
            "metadata": {"m": 1},
        },
        "inputSchema": SCHEMA,
    }


def test_there_is_a_strategy_for_every_frame_and_each_has_every_member() -> None:
    kinds = {type(comes(strategy(), lambda _: True)): strategy for strategy in OF_NEURONS + OF_GATEWAYS}
    assert set(kinds) == {*get_args(frames.NeuronFrame), *get_args(frames.ServerFrame)}
    for kind, strategy in kinds.items():
        names = strategy.__annotations__.keys() - {"return"}
        members = set(kind.__struct_fields__)
        if kind is frames.Lease:
            members = members | set(frames.LeaseBody.__struct_fields__) | set(frames.Task.__struct_fields__)
            members -= {"lease", "task"}
        assert names == members


@pytest.mark.parametrize("strategy", [strategies.neuron_frames, strategies.server_frames, strategies.frames])
def test_the_strategies_for_several_kinds_give_each_of_them(strategy: Callable[[], SearchStrategy[Any]]) -> None:
    kinds = {
        strategies.neuron_frames: get_args(frames.NeuronFrame),
        strategies.server_frames: get_args(frames.ServerFrame),
        strategies.frames: get_args(frames.NeuronFrame) + get_args(frames.ServerFrame),
    }[strategy]
    for kind in kinds:
        assert isinstance(comes(strategy(), of(kind)), kind)


def of(kind: type[Any]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, kind)


def test_the_simplest_lease_is_a_simple_one() -> None:
    lease = find(strategies.leases(), lambda _: True)
    body = json.loads(codec.encode_frame(lease))["lease"]
    assert body["task"]["input"] is None
    assert set(body) == {"leaseId", "expiresAt", "task"}
    assert body["expiresAt"] == "2000-01-01T00:00:00Z"
    assert len(body["leaseId"]) == 1


# What crosses the broker's seam


@given(strategies.deliveries(**just(capability="a/b", id="d", task_id="t", attempt=1, time_left=None, fans_out=False)))
def test_a_delivery_holds_json_text_and_what_was_given(delivery: model.Delivery) -> None:
    task = delivery.task
    assert (delivery.id, task.capability, task.task_id, task.attempt) == ("d", "a/b", "t", 1)
    assert (delivery.time_left, delivery.fans_out) == (None, False)
    for text in (task.input, delivery.input_schema, delivery.output_schema):
        assert text is None or isinstance(read_json(text), object)


@given(strategies.leases(), strategies.deliveries())
def test_a_delivery_could_have_come_as_a_lease(frame: frames.Lease, delivery: model.Delivery) -> None:
    assert type(delivery_of(frame)) is type(delivery)
    assert set(msgspec_members(delivery_of(frame))) == set(msgspec_members(delivery))


def msgspec_members(delivery: model.Delivery) -> list[str]:
    return [*delivery.__struct_fields__, *delivery.task.__struct_fields__]


@given(strategies.outcomes())
def test_every_outcome_has_its_word_on_the_wire(outcome: model.Outcome) -> None:
    frame = settlement_frame("l", outcome)
    assert codec.decode_neuron_frame(codec.encode_frame(frame)) == frame
    if isinstance(outcome, model.Failed):
        assert outcome.reason
        assert outcome.delay is None or outcome.retryable


@pytest.mark.parametrize("kind", get_args(model.Outcome), ids=lambda kind: kind.__name__)
def test_outcomes_can_be_of_one_kind(kind: type[model.Outcome]) -> None:
    @settings(max_examples=10)
    @given(strategies.outcomes(kind, output=st.integers()))
    def of_kind(outcome: model.Outcome) -> None:
        assert isinstance(outcome, kind)
        if isinstance(outcome, model.Completed):
            assert all(isinstance(read_json(text), int) for text in outcome.outputs)

    of_kind()
    assert isinstance(comes(strategies.outcomes(), of(kind)), kind)


# Schemas


@pytest.mark.parametrize("valid", [True, False], ids=["accepted", "refused"])
@pytest.mark.parametrize("draft", get_args(Draft))
def test_two_engines_judge_an_instance_as_the_strategy_says(draft: Draft, *, valid: bool) -> None:
    @settings(max_examples=200)
    @given(strategies.schemas_with_instances(draft, valid=valid))
    def judged(pair: tuple[dict[str, Any], Any]) -> None:
        schema, instance = pair
        judge = jsonschema.validators.validator_for(schema, default=jsonschema.Draft202012Validator)
        judge.check_schema(schema)
        assert judge(schema).is_valid(instance) is valid
        assert (registered_validator(schema).check(instance) is None) is valid

    judged()


KEYWORDS: dict[Draft, str] = {
    "4": "dependencies additionalItems enum definitions exclusiveMaximum",
    "6": "const contains propertyNames exclusiveMinimum",
    "7": "if then else definitions",
    "2019-09": "$defs dependentRequired unevaluatedProperties additionalItems",
    "2020-12": """
        type const enum allOf anyOf oneOf not if $ref $defs $schema prefixItems items contains uniqueItems minItems
        maxItems properties required additionalProperties unevaluatedProperties patternProperties propertyNames
        minProperties dependentRequired minimum maximum exclusiveMinimum exclusiveMaximum multipleOf minLength
        maxLength pattern
    """,
}


@pytest.mark.parametrize("draft", KEYWORDS)
def test_schemas_have_all_the_keywords_of_their_draft(draft: Draft) -> None:
    missing = set(KEYWORDS[draft].split())

    def was_the_last(pair: tuple[dict[str, Any], Any]) -> bool:
        missing.difference_update(words_of(pair[0]))
        return not missing

    comes(strategies.schemas_with_instances(draft), was_the_last)


def words_of(schema: Any) -> set[str]:
    if isinstance(schema, list):
        return set().union(*map(words_of, schema))
    return set(schema).union(*map(words_of, schema.values())) if isinstance(schema, dict) else set()


def test_the_simplest_schema_is_a_simple_one() -> None:
    assert find(strategies.schemas_with_instances(), lambda _: True) == ({"type": "null"}, None)


# Event streams


@given(strategies.event_streams(st.lists(strategies.server_frames().map(codec.encode_frame), max_size=3)))
def test_C10_documents_come_out_of_their_stream_as_they_went_in(streamed: StreamedDocuments) -> None:
    decoder = EventDecoder()
    found = [event for chunk in streamed.chunks for event in decoder.push(chunk)]
    assert [event.data.decode() for event in found if isinstance(event, ServerSentEvent)] == [*streamed.documents]
    assert [event.event for event in found if isinstance(event, ServerSentEvent)] == [*streamed.names]
    assert decoder.comments == streamed.comments
    assert all(streamed.chunks)


@pytest.mark.parametrize(
    "seen",
    [
        lambda streamed: b"\r\n" in b"".join(streamed.chunks),
        lambda streamed: b"\r" in b"".join(streamed.chunks).replace(b"\r\n", b""),
        lambda streamed: streamed.chunks[0].startswith(b"\xef\xbb\xbf"),
        lambda streamed: len(streamed.chunks) > 3,
        lambda streamed: streamed.comments > 2,
        lambda streamed: streamed.chunks[-1].endswith(b"unfinished"),
        lambda streamed: any(chunk.endswith(b"\r") for chunk in streamed.chunks),
    ],
    ids=["CRLF", "CR", "byte order mark", "chunks", "comments", "unfinished", "cut after CR"],
)
def test_each_freedom_of_the_format_is_used(seen: Callable[[StreamedDocuments], bool]) -> None:
    streams = strategies.event_streams(st.just(["a", "b\n c", "", " d"]))
    assert comes(streams, seen).documents == ("a", "b\n c", "", " d")


def test_the_simplest_stream_is_one_chunk_of_plain_lines() -> None:
    simplest = find(strategies.event_streams(st.just([b"{}", "x"])), lambda _: True)
    assert simplest.chunks == (b"data: {}\n\ndata: x\n\n",)


# Sessions


def offers(**limits: int) -> SearchStrategy[tuple[frames.CapabilityOffer, ...]]:
    made = [frames.CapabilityOffer(type=f"core/{name}", scope="any", concurrency=n) for name, n in limits.items()]
    return st.just(tuple(made))


@settings(max_examples=200)
@given(strategies.sessions())
def test_a_session_obeys_the_specification(turns: list[Turn]) -> None:
    granted: set[str] = set()
    leases: dict[str, str] = {}
    cancelled: set[str] = set()
    after_break = True
    last = None
    for number, turn in enumerate(turns):
        assert isinstance(turn, frames.Registered) or not after_break
        after_break = isinstance(turn, Break)
        match turn:
            case frames.Registered(capabilities=capabilities):
                granted = {offer.type for offer in capabilities}
            case frames.CapabilityRevoked(capability=capability):
                assert capability in granted
                granted.remove(capability)
            case frames.Lease(lease=body):
                assert body.task.capability in granted
                assert body.expires_at > turn.sent_at
                assert leases.setdefault(body.lease_id, body.task.task_id) == body.task.task_id
                assert body.task.task_id not in cancelled
            case frames.Cancel(lease_id=lease_id) if lease_id in leases:
                cancelled.add(leases[lease_id])
            case frames.Disconnect():
                assert number == len(turns) - 1
            case _:
                pass
        if not isinstance(turn, Pause | Break):
            said = [getattr(turn, name) for name in turn.__struct_fields__ if name.endswith("_at")]
            assert last is None or said[0] > last
            (last,) = said
            assert codec.decode_server_frame(codec.encode_frame(turn), strict=True) == turn


KINDS: dict[TurnKind, Callable[[list[Turn]], bool]] = {
    "break": lambda turns: any(isinstance(turn, Break) for turn in turns),
    "cancel": lambda turns: any(cancel in lease_ids(turns[:at]) for at, cancel in cancels(turns)),
    "disconnect": lambda turns: isinstance(turns[-1], frames.Disconnect),
    "grant": lambda turns: (
        "RX"
        in "".join(
            {frames.Registered: "R", frames.CapabilityRevoked: "X"}.get(type(turn), "") for turn in reversed(turns)
        )
    ),
    "pause": lambda turns: any(isinstance(turn, Pause) for turn in turns),
    "redelivery": lambda turns: len(tasks(turns)) > len(set(tasks(turns))),
    "revocation": lambda turns: any(isinstance(turn, frames.CapabilityRevoked) for turn in turns),
    "stranger": lambda turns: any(cancel not in lease_ids(turns[:at]) for at, cancel in cancels(turns)),
}


def cancels(turns: list[Turn]) -> list[tuple[int, str]]:
    return [(at, turn.lease_id) for at, turn in enumerate(turns) if isinstance(turn, frames.Cancel)]


def lease_ids(turns: list[Turn]) -> list[str]:
    return [turn.lease.lease_id for turn in turns if isinstance(turn, frames.Lease)]


def tasks(turns: list[Turn]) -> list[str]:
    return [turn.lease.task.task_id for turn in turns if isinstance(turn, frames.Lease)]


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_of_turn_comes_and_can_be_left_out(kind: TurnKind) -> None:
    assert set(KINDS) == set(get_args(TurnKind))
    comes(strategies.sessions(), KINDS[kind])

    @settings(max_examples=50)
    @given(strategies.sessions(capabilities=offers(a=1, b=2), without=[kind, "break"]))
    def left_out(turns: list[Turn]) -> None:
        assert not KINDS[kind](turns)

    left_out()


def test_a_lease_may_come_after_its_cancel() -> None:
    def early(turns: list[Turn]) -> bool:
        return any(cancel in lease_ids(turns[at:]) for at, cancel in cancels(turns))

    comes(strategies.sessions(), early)


def test_the_simplest_session_is_a_registration() -> None:
    (only,) = find(strategies.sessions(), lambda _: True)
    assert isinstance(only, frames.Registered)


# Arguments


BAD: dict[str, Callable[[], Any]] = {
    "a value for a strategy": lambda: strategies.leases(capability="core/echo"),  # type: ignore[arg-type]  # on purpose
    "a value for an input": lambda: strategies.leases(input={"secret": 1}),  # type: ignore[arg-type]  # on purpose
    "a value for an id": lambda: strategies.cancels(lease_id=5),  # type: ignore[arg-type]  # on purpose
    "a value for a schema": lambda: strategies.deliveries(input_schema=True),  # type: ignore[arg-type]  # on purpose
    "a value for outputs": lambda: strategies.outcomes(output=1),  # type: ignore[arg-type]  # on purpose
    "no outcome": lambda: strategies.outcomes(str),  # type: ignore[arg-type]  # on purpose
    "no draft": lambda: strategies.schemas_with_instances("5"),  # type: ignore[arg-type]  # on purpose
    "no boolean": lambda: strategies.schemas_with_instances(valid=0),  # type: ignore[arg-type]  # on purpose
    "no kind of turn": lambda: strategies.sessions(without=["cancels"]),  # type: ignore[list-item]  # on purpose
    "a string of kinds": lambda: strategies.sessions(without="cancel"),  # type: ignore[arg-type]  # on purpose
    "no size": lambda: strategies.sessions(max_size=-1),
    "a value for documents": lambda: strategies.event_streams(["{}"]),  # type: ignore[arg-type]  # on purpose
    "no leaves": lambda: strategies.json_values(max_leaves=0),
}


@pytest.mark.parametrize("call", BAD.values(), ids=BAD)
def test_a_bad_argument_is_refused_at_once_and_not_quoted(call: Callable[[], Any]) -> None:
    with pytest.raises(InvalidArgument) as caught:
        call()
    assert "secret" not in str(caught.value)


DRAWN_BAD: dict[str, SearchStrategy[Any]] = {
    "capability": strategies.leases(capability=st.just("no slash")),
    "empty id": strategies.cancels(lease_id=st.just("")),
    "percent": strategies.progress_reports(percent=st.just(101.0)),
    "timestamp": strategies.cancels(cancelled_at=st.just(datetime(2026, 5, 9))),  # noqa: DTZ001 - naive on purpose
    "type twice": strategies.registers(capabilities=offers(a=1).map(lambda drawn: drawn * 2)),
    "no offers": strategies.sessions(capabilities=st.just(())),
    "no json": strategies.leases(input=st.just(object())),  # type: ignore[arg-type]  # on purpose
    "carriage return": strategies.event_streams(st.just(["a\rb"])),
    "surrogate": strategies.event_streams(st.just(["\ud800"])),
}


@pytest.mark.parametrize("strategy", DRAWN_BAD.values(), ids=DRAWN_BAD)
def test_what_a_given_strategy_must_not_give_is_refused_when_it_comes(strategy: SearchStrategy[Any]) -> None:
    @settings(UNSHRUNK, max_examples=1)
    @given(strategy)
    def drawn(_: Any) -> None:
        raise AssertionError

    with pytest.raises(InvalidArgument):
        drawn()


@given(strategies.sessions(input=st.just("s3cr3t")), strategies.deliveries(input=st.just("s3cr3t")))
def test_C9_reprs_show_no_input(turns: list[Turn], delivery: model.Delivery) -> None:
    assert "s3cr3t" not in repr(turns) + repr(delivery)


@given(strategies.event_streams(st.just(["s3cr3t"])))
def test_C9_the_repr_of_a_stream_shows_no_document(streamed: StreamedDocuments) -> None:
    assert "s3cr3t" not in repr(streamed)
    assert "1 documents" in repr(streamed)
