"""The structs of the wire: order, nulls, reprs, JSON Schema."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, get_args

import jsonschema
import msgspec
import pytest
from hypothesis import given, settings
from msgspec import Raw

from neuron_anyio import frames
from neuron_anyio.codec import encode_frame
from neuron_anyio.testing import strategies

VECTORS = Path(__file__).parent.parent / "vectors" / "bigbrain"
NOON = datetime(2026, 5, 9, 12, tzinfo=UTC)
SECRET = "xyzzy-4711"


def vectors(kind: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (VECTORS / kind / "index.jsonl").read_bytes().splitlines()]


def a_lease(**changes: Any) -> frames.LeaseBody:
    task = frames.Task(task_id="t", workflow_id="w", capability="core/echo", input=Raw(json.dumps(SECRET)), attempt=0)
    return frames.LeaseBody(**{"lease_id": "l", "expires_at": NOON, "task": task, **changes})


# Every member of every frame, in the order of the specification's tables.
COMPLETE: list[tuple[frames.Frame, dict[str, Any]]] = [
    (
        frames.Register(
            neuron_id="n",
            protocol_version="1.0.0",
            capabilities=(
                frames.CapabilityOffer("core/echo", "any", 2, 60_000),
                frames.CapabilityOffer("user/x", frames.OnBehalfOf("u"), 1),
            ),
        ),
        {
            "type": "register",
            "neuronId": "n",
            "protocolVersion": "1.0.0",
            "capabilities": [
                {"type": "core/echo", "scope": "any", "concurrency": 2, "leaseTtlMs": 60_000},
                {"type": "user/x", "scope": {"onBehalfOf": "u"}, "concurrency": 1},
            ],
        },
    ),
    (
        frames.UpdateCapability(neuron_id="n", capability=frames.CapabilityOffer("core/echo", "any", 2)),
        {
            "type": "update-capability",
            "neuronId": "n",
            "capability": {"type": "core/echo", "scope": "any", "concurrency": 2},
        },
    ),
    (
        frames.Heartbeat(
            neuron_id="n",
            in_flight=(frames.InFlight(lease_id="l", task_id="t", started_at=NOON),),
            sent_at=NOON,
        ),
        {
            "type": "heartbeat",
            "neuronId": "n",
            "inFlight": [{"leaseId": "l", "taskId": "t", "startedAt": "2026-05-09T12:00:00Z"}],
            "sentAt": "2026-05-09T12:00:00Z",
        },
    ),
    (
        frames.Ack(lease_id="l", output=Raw(b"1"), completed_at=NOON),
        {"type": "ack", "leaseId": "l", "output": 1, "completedAt": "2026-05-09T12:00:00Z"},
    ),
    (
        frames.Nack(lease_id="l", kind="terminal", reason="r", code="C", details=Raw(b"{}"), failed_at=NOON),
        {
            "type": "nack",
            "leaseId": "l",
            "kind": "terminal",
            "reason": "r",
            "code": "C",
            "details": {},
            "failedAt": "2026-05-09T12:00:00Z",
        },
    ),
    (
        frames.Progress(lease_id="l", percent=50.0, message="m", data=Raw(b"[]"), sent_at=NOON),
        {
            "type": "progress",
            "leaseId": "l",
            "percent": 50.0,
            "message": "m",
            "data": [],
            "sentAt": "2026-05-09T12:00:00Z",
        },
    ),
    (
        frames.Registered(session_id="s", capabilities=(), accepted_at=NOON),
        {"type": "registered", "sessionId": "s", "capabilities": [], "acceptedAt": "2026-05-09T12:00:00Z"},
    ),
    (
        frames.Lease(
            lease=frames.LeaseBody(
                lease_id="l",
                expires_at=NOON,
                task=frames.Task(
                    task_id="t",
                    workflow_id="w",
                    capability="core/echo",
                    on_behalf_of="u",
                    input=Raw(b"null"),
                    attempt=1,
                    metadata={"k": None},
                ),
                input_schema=Raw(b"{}"),
                output_schema=Raw(b"false"),
            ),
            sent_at=NOON,
        ),
        {
            "type": "lease",
            "lease": {
                "leaseId": "l",
                "expiresAt": "2026-05-09T12:00:00Z",
                "task": {
                    "taskId": "t",
                    "workflowId": "w",
                    "capability": "core/echo",
                    "onBehalfOf": "u",
                    "input": None,
                    "attempt": 1,
                    "metadata": {"k": None},
                },
                "inputSchema": {},
                "outputSchema": False,
            },
            "sentAt": "2026-05-09T12:00:00Z",
        },
    ),
    (
        frames.Cancel(lease_id="l", reason="r", cancelled_at=NOON),
        {"type": "cancel", "leaseId": "l", "reason": "r", "cancelledAt": "2026-05-09T12:00:00Z"},
    ),
    (
        frames.CapabilityRevoked(capability="core/echo", reason="r", revoked_at=NOON),
        {
            "type": "capability-revoked",
            "capability": "core/echo",
            "reason": "r",
            "revokedAt": "2026-05-09T12:00:00Z",
        },
    ),
    (
        frames.Disconnect(reason="r", code="C", reconnectable=True, sent_at=NOON),
        {
            "type": "disconnect",
            "reason": "r",
            "code": "C",
            "reconnectable": True,
            "sentAt": "2026-05-09T12:00:00Z",
        },
    ),
]


@pytest.mark.parametrize(("frame", "document"), COMPLETE, ids=lambda value: getattr(value, "type", ""))
def test_members_go_onto_the_wire_in_the_specifications_order(frame: frames.Frame, document: dict[str, Any]) -> None:
    expected = json.dumps(document, separators=(",", ":"))  # keeps the order of the dict
    assert encode_frame(frame).decode() == expected


def test_every_frame_has_its_line_in_the_table_of_orders() -> None:
    kinds = {*get_args(frames.NeuronFrame), *get_args(frames.ServerFrame)}
    assert {type(frame) for frame, _ in COMPLETE} == kinds


def test_a_frame_knows_the_wires_name_of_its_kind() -> None:
    for frame, document in COMPLETE:
        assert frame.type == document["type"]


def test_null_optionals_are_left_out_but_an_output_is_always_sent() -> None:
    nack = frames.Nack(lease_id="l", kind="retryable", reason="r", failed_at=NOON)
    assert json.loads(encode_frame(nack)).keys() == {"type", "leaseId", "kind", "reason", "failedAt"}
    progress = frames.Progress(lease_id="l", sent_at=NOON)
    assert json.loads(encode_frame(progress)).keys() == {"type", "leaseId", "sentAt"}
    ack = frames.Ack(lease_id="l", completed_at=NOON)
    assert json.loads(encode_frame(ack))["output"] is None
    assert b'"output":null' in encode_frame(frames.Ack(lease_id="l", output=Raw(b"null"), completed_at=NOON))


def test_empty_strings_zeroes_and_empty_containers_are_kept() -> None:
    nack = frames.Nack(lease_id="l", kind="retryable", reason="r", code="", details=Raw(b"0"), failed_at=NOON)
    document = json.loads(encode_frame(nack))
    assert (document["code"], document["details"]) == ("", 0)
    progress = frames.Progress(lease_id="l", percent=0, message="", data=Raw(b"{}"), sent_at=NOON)
    document = json.loads(encode_frame(progress))
    assert (document["percent"], document["message"], document["data"]) == (0, "", {})


@pytest.mark.parametrize("text", [b"{}", b"false", b"true", b"0", b'""'])
def test_only_a_null_schema_counts_as_no_schema(text: bytes) -> None:
    lease = a_lease(input_schema=Raw(text), output_schema=Raw(b"null"))
    assert lease.input_schema == Raw(text)
    assert lease.output_schema is None
    assert a_lease().input_schema is None


@pytest.mark.parametrize("text", ["core/echo", "a/b/c", "./..", "A.b-C_9/x", "org/01HB/y"])
def test_a_namespaced_type_matches(text: str) -> None:
    assert frames.CAPABILITY_TYPE.fullmatch(text)
    assert frames.CAPABILITY_TYPE.match(text)


@pytest.mark.parametrize(
    "text",
    ["", "core", "/", "/echo", "core/", "core//echo", "core/echo\n", "core/ec ho", "cöre/echo", "core\\echo",
     "core/echo\r", "\ncore/echo", "core/٣"],
)  # fmt: skip
def test_reference_D40_a_type_without_namespace_or_with_foreign_characters_does_not_match(text: str) -> None:
    assert not frames.CAPABILITY_TYPE.fullmatch(text)
    assert not frames.CAPABILITY_TYPE.match(text)
    assert not frames.CAPABILITY_TYPE.search(text)


def test_frames_cannot_be_changed() -> None:
    for frame, _ in COMPLETE:
        with pytest.raises(AttributeError):
            frame.sent_at = NOON  # type: ignore[attr-defined]  # not all have it, and all are frozen


def test_C9_reprs_show_ids_and_types_and_no_content() -> None:
    secret = Raw(json.dumps({SECRET: SECRET}))
    lease = a_lease(input_schema=secret, output_schema=secret)
    task = msgspec.structs.replace(lease.task, metadata={SECRET: SECRET})
    shown: list[tuple[frames.Frame, list[str]]] = [
        (frames.Lease(lease=msgspec.structs.replace(lease, task=task), sent_at=NOON), ["'l'", "'t'", "core/echo"]),
        (frames.Ack(lease_id="the-lease", output=secret, completed_at=NOON), ["the-lease"]),
        (
            frames.Nack(
                lease_id="the-lease", kind="terminal", reason=SECRET, code=SECRET, details=secret, failed_at=NOON
            ),
            ["the-lease", "terminal"],
        ),
        (frames.Progress(lease_id="the-lease", message=SECRET, data=secret, sent_at=NOON), ["the-lease"]),
        (frames.Cancel(lease_id="the-lease", reason=SECRET, cancelled_at=NOON), ["the-lease"]),
    ]
    for frame, expected in shown:
        for text in (repr(frame), str(frame), f"{frame!r:}", str(frame.__rich_repr__())):
            assert SECRET not in text
            assert all(part in text for part in expected)


@settings(max_examples=50, deadline=None)
@given(strategies.frames())
def test_C9_no_struct_of_any_frame_offers_its_content_to_a_repr(frame: frames.Frame) -> None:
    hidden = {"input", "output", "details", "data", "input_schema", "output_schema", "metadata", "reason", "message"}
    structs: list[Any] = [frame]
    while structs:
        shown = structs.pop().__rich_repr__()
        assert not hidden & {name for name, _ in shown}
        structs += [value for _, value in shown if isinstance(value, msgspec.Struct)]


SCHEMA = frames.json_schema()
ACCEPTED_ALL_THE_SAME = {"ack-missing-output"}  # read as null, section 2.2


def validator(direction: str) -> Any:
    name = {"neuron->server": "NeuronFrame", "server->neuron": "ServerFrame"}[direction]
    return jsonschema.Draft202012Validator({**SCHEMA, "anyOf": [{"$ref": f"#/$defs/{name}"}]})


class TestJsonSchema:
    def test_it_is_a_schema_of_2020_12(self) -> None:
        jsonschema.Draft202012Validator.check_schema(SCHEMA)
        assert json.loads(json.dumps(SCHEMA)) == SCHEMA

    @pytest.mark.parametrize("vector", vectors("valid"), ids=lambda vector: vector["name"])
    def test_it_accepts_what_is_valid(self, vector: dict[str, Any]) -> None:
        document = json.loads(vector["body"])
        validator(vector["direction"]).validate(document)
        jsonschema.Draft202012Validator(SCHEMA).validate(document)

    @pytest.mark.parametrize(
        "vector",
        [vector for vector in vectors("invalid") if not vector["strict_only"]],
        ids=lambda vector: vector["name"],
    )
    def test_it_refuses_what_is_invalid_as_far_as_it_can_say_so(self, vector: dict[str, Any]) -> None:
        try:
            document = json.loads(vector["body"])
        except (ValueError, RecursionError):
            return  # not JSON at all
        accepted = validator(vector["direction"]).is_valid(document)
        assert accepted == (vector["name"] in ACCEPTED_ALL_THE_SAME)

    @settings(max_examples=100, deadline=None)
    @given(strategies.frames())
    def test_it_accepts_every_frame_that_is_sent(self, frame: frames.Frame) -> None:
        jsonschema.Draft202012Validator(SCHEMA).validate(json.loads(encode_frame(frame)))
