"""Documents to frames and back: what comes out, what is refused and how, hostile bytes."""

from __future__ import annotations

import contextlib
import json
import sys
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import msgspec
import pytest
from msgspec import Raw

from neuron_anyio import frames
from neuron_anyio.codec import (
    UnknownFrameType,
    decode_neuron_frame,
    decode_server_frame,
    encode_frame,
)
from neuron_anyio.errors import FrameError

NOON = datetime(2026, 5, 9, 12, tzinfo=UTC)


def lease_document(**task: Any) -> dict[str, Any]:
    return {
        "type": "lease",
        "lease": {
            "leaseId": "l",
            "expiresAt": "2026-05-09T12:01:00Z",
            "task": {
                "taskId": "t",
                "workflowId": "w",
                "capability": "core/echo",
                "input": None,
                "attempt": 0,
                **task,
            },
        },
        "sentAt": "2026-05-09T12:00:00Z",
    }


def with_input(text: bytes) -> bytes:
    return json.dumps(lease_document(input="HERE")).encode().replace(b'"HERE"', text)


class TestWhatComesOut:
    def test_a_missing_output_reads_as_null(self) -> None:
        frame = decode_neuron_frame(b'{"type":"ack","leaseId":"l","completedAt":"2026-05-09T12:00:00Z"}', strict=True)
        assert isinstance(frame, frames.Ack)
        assert frame.output == Raw(b"null")

    @pytest.mark.parametrize(
        ("members", "expected"),
        [("", None), (',"inputSchema":null', None), (',"inputSchema":{}', b"{}"), (',"inputSchema":false', b"false")],
    )
    def test_absent_and_null_schemas_are_none_and_all_others_are_not(
        self, members: str, expected: bytes | None
    ) -> None:
        data = json.dumps(lease_document()).replace('"attempt": 0}', f'"attempt": 0}}{members}')
        frame = decode_server_frame(data)
        assert isinstance(frame, frames.Lease)
        schema = frame.lease.input_schema
        assert (schema and bytes(schema)) == expected

    def test_null_details_and_data_are_none(self) -> None:
        nack = decode_neuron_frame(
            b'{"type":"nack","leaseId":"l","kind":"terminal","reason":"r","details":null,'
            b'"failedAt":"2026-05-09T12:00:00Z"}'
        )
        assert isinstance(nack, frames.Nack)
        assert nack.details is None
        progress = decode_neuron_frame(b'{"type":"progress","leaseId":"l","data":null,"sentAt":"2026-05-09T12:00:00Z"}')
        assert isinstance(progress, frames.Progress)
        assert progress.data is None

    def test_an_input_stays_as_it_was_written(self) -> None:
        text = b'{ "b":1.50, "a":[1e3, 123456789012345678901234567890],\n "b":2 }'
        frame = decode_server_frame(with_input(text))
        assert isinstance(frame, frames.Lease)
        assert bytes(frame.lease.task.input) == text
        assert text in encode_frame(frame)

    def test_a_copied_input_does_not_hold_the_document(self) -> None:
        data = with_input(b'"in"')
        frame = decode_server_frame(data)
        assert isinstance(frame, frames.Lease)
        held = sys.getrefcount(data)
        own = frame.lease.task.input.copy()
        del frame
        assert sys.getrefcount(data) == held - 1
        assert own == Raw(b'"in"')

    def test_a_buffer_may_be_written_over_after_decoding(self) -> None:
        data = bytearray(with_input(b'"in"'))
        frame = decode_server_frame(memoryview(data))
        data[:] = b"x" * len(data)
        assert isinstance(frame, frames.Lease)
        assert frame.lease.task.input == Raw(b'"in"')

    def test_of_a_member_that_stands_twice_the_last_one_counts(self) -> None:
        frame = decode_server_frame(
            b'{"type":"cancel","leaseId":"a","leaseId":"b","reason":"r","cancelledAt":"2026-05-09T12:00:00Z"}'
        )
        assert isinstance(frame, frames.Cancel)
        assert frame.lease_id == "b"


class TestTimestamps:
    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("2026-05-09T12:00:00Z", NOON),
            ("2026-05-09t12:00:00z", NOON),
            ("2026-05-09T12:00:00+00:00", NOON),
            ("2026-05-09T12:00:00-00:00", NOON),
            ("2026-05-09T14:00:00+02:00", NOON),
            ("2026-05-09T05:00:00.000-07:00", NOON),
            ("2026-05-09T12:00:00.5Z", NOON + timedelta(milliseconds=500)),
            ("2026-05-09T12:00:00.123456Z", NOON + timedelta(microseconds=123456)),
            ("2026-05-09T12:00:00.12345600000000Z", NOON + timedelta(microseconds=123456)),
        ],
    )
    def test_rfc_3339_of_any_precision_and_offset_is_read(self, text: str, expected: datetime) -> None:
        frame = decode_server_frame(json.dumps({**lease_document(), "sentAt": text}))
        assert isinstance(frame, frames.Lease)
        assert frame.sent_at == expected

    @pytest.mark.parametrize(
        "text", ["2026-05-09T12:00:00", "2026-05-09", "2026-02-29T12:00:00Z", "2026-05-09T12:00Z", "1746784800"]
    )
    def test_what_is_not_rfc_3339_is_refused(self, text: str) -> None:
        with pytest.raises(FrameError, match="sentAt"):
            decode_server_frame(json.dumps({**lease_document(), "sentAt": text}))

    @pytest.mark.parametrize("offset", [timedelta(0), timedelta(hours=2), timedelta(minutes=-90), timedelta(seconds=1)])
    def test_timestamps_go_out_in_utc(self, offset: timedelta) -> None:
        local = NOON.astimezone(timezone(offset))
        held = frames.InFlight(lease_id="l", task_id="t", started_at=local)
        sent = json.loads(encode_frame(frames.Heartbeat(neuron_id="n", in_flight=(held,), sent_at=local)))
        assert sent["sentAt"] == sent["inFlight"][0]["startedAt"] == "2026-05-09T12:00:00Z"

    def test_microseconds_go_out(self) -> None:
        moment = NOON.replace(microsecond=120)
        frame = frames.Cancel(lease_id="l", reason="r", cancelled_at=moment)
        assert json.loads(encode_frame(frame))["cancelledAt"] == "2026-05-09T12:00:00.000120Z"

    def test_the_ends_of_the_calendar_go_out_and_come_back(self) -> None:
        for text in ("0001-01-01T00:00:00+02:00", "9999-12-31T23:59:59-02:00"):
            frame = decode_server_frame(json.dumps({**lease_document(), "sentAt": text}))
            assert json.loads(encode_frame(frame))["sentAt"] == text

    def test_a_time_without_zone_is_not_sent(self) -> None:
        naive = NOON.replace(tzinfo=None)
        with pytest.raises(ValueError, match=r"cancelled_at must have a time zone"):
            encode_frame(frames.Cancel(lease_id="l", reason="r", cancelled_at=naive))


class TestErrors:
    def test_it_names_frame_member_and_rule(self) -> None:
        document = lease_document(attempt="4711")
        with pytest.raises(FrameError) as caught:
            decode_server_frame(json.dumps(document))
        assert caught.value.frame_type == "lease"
        assert caught.value.field == "lease.task.attempt"
        assert str(caught.value) == "lease frame, member 'lease.task.attempt': expected `int`, got `str`"

    def test_it_names_what_would_be_allowed(self) -> None:
        with pytest.raises(FrameError, match="'kind': must be one of retryable, terminal, schema-mismatch, cancelled"):
            decode_neuron_frame(
                '{"type":"nack","leaseId":"l","kind":"x","reason":"r","failedAt":"2026-05-09T12:00:00Z"}'
            )
        offer = '{"type":"%s","scope":"%s","concurrency":1}'
        update = '{"type":"update-capability","neuronId":"n","capability":%s}'
        with pytest.raises(FrameError, match="must be a namespaced type, like core/echo"):
            decode_neuron_frame(update % (offer % ("echo", "any")))
        with pytest.raises(FrameError, match='must be "any" or an object with onBehalfOf'):
            decode_neuron_frame(update % (offer % ("core/echo", "all")))

    @pytest.mark.parametrize(
        ("change", "field"),
        [
            ({"capabilities": []}, "capabilities"),
            ({"capabilities": [{"type": "a/b", "scope": "all", "concurrency": 1}]}, "capabilities[0].scope"),
            ({"capabilities": [{"type": "ab", "scope": "any", "concurrency": 1}]}, "capabilities[0].type"),
            ({"capabilities": [{"scope": "any", "concurrency": 1}]}, "capabilities[0].type"),
            (
                {"capabilities": [{"type": "a/b", "scope": {"onBehalfOf": ""}, "concurrency": 1}]},
                "capabilities[0].scope.onBehalfOf",
            ),
            ({"capabilities": [{"type": "a/b", "scope": "any", "concurrency": 1}] * 2}, "capabilities"),
            ({"neuronId": 10**400}, "neuronId"),
        ],
    )
    def test_the_field_is_the_members_path(self, change: dict[str, Any], field: str) -> None:
        with pytest.raises(FrameError) as caught:
            decode_neuron_frame(json.dumps({"type": "register", "neuronId": "n", "protocolVersion": "1.0.0", **change}))
        assert (caught.value.frame_type, caught.value.field) == ("register", field)

    def test_C9_an_error_and_its_chain_never_quote_a_value(self) -> None:
        secret = "xyzzy-4711"
        for document in (
            {"type": "nack", "leaseId": "l", "kind": secret, "reason": "r", "failedAt": "2026-05-09T12:00:00Z"},
            {"type": "ack", "leaseId": "l", "completedAt": secret},
            {"type": "update-capability", "neuronId": "n", "capability": {"type": secret}},
            {
                "type": "update-capability",
                "neuronId": "n",
                "capability": {"type": "a/b", "scope": secret, "concurrency": 1},
            },
            {"type": secret},
        ):
            with pytest.raises(FrameError) as caught:
                decode_neuron_frame(json.dumps(document))
            assert secret not in str(caught.value)
            assert secret not in repr(caught.value)
            assert caught.value.__suppress_context__

    @pytest.mark.parametrize("name", ["ping", "", "lease ", "ack", "LEASE", "x" * 100_000, "ünknown"])
    def test_C8_an_unknown_type_is_told_apart(self, name: str) -> None:
        with pytest.raises(UnknownFrameType) as caught:
            decode_server_frame(json.dumps({"leaseId": "l", "type": name, "input": [1, {}]}))
        assert (caught.value.frame_type, caught.value.field) == (name, "type")
        assert len(str(caught.value)) < 200

    @pytest.mark.parametrize(
        "text",
        [
            '{"type":"ping"',
            '{"type":"ping",}',
            '{"type":"ping"} x',
            '{"type":"ping","x":tru}',
            '{"type":"ping","x":"\\ud800"}',
        ],
    )
    def test_an_unknown_type_in_a_broken_document_is_a_broken_document(self, text: str) -> None:
        with pytest.raises(FrameError, match="not JSON") as caught:
            decode_server_frame(text)
        assert not isinstance(caught.value, UnknownFrameType)

    @pytest.mark.parametrize("text", ['{"type":5}', '{"type":null}', '{"type":["lease"]}', "{}", '{"Type":"lease"}'])
    def test_a_type_that_is_no_string_is_not_an_unknown_type(self, text: str) -> None:
        with pytest.raises(FrameError) as caught:
            decode_server_frame(text)
        assert not isinstance(caught.value, UnknownFrameType)
        assert caught.value.field == "type"

    @pytest.mark.parametrize("types", [("cancel", "lease"), ("ping", "cancel"), ("cancel", "ping"), ("ping", "pong")])
    def test_two_types_that_differ_are_refused(self, types: tuple[str, str]) -> None:
        first, second = types
        with pytest.raises(FrameError):
            decode_server_frame(
                f'{{"type":"{first}","leaseId":"l","reason":"r","cancelledAt":"2026-05-09T12:00:00Z","type":"{second}"}}'
            )

    def test_C9_not_even_a_type_that_stands_there_twice_is_quoted(self) -> None:
        with pytest.raises(FrameError) as caught:
            decode_server_frame('{"type":"cancel","leaseId":5,"type":"xyzzy-4711"}')
        assert "xyzzy" not in str(caught.value)
        assert not isinstance(caught.value, UnknownFrameType)


class TestUnknownMembers:
    PLACES = ("", "lease", "lease.task")

    @pytest.mark.parametrize("place", PLACES)
    def test_C8_they_are_ignored_unless_strict(self, place: str) -> None:
        document = lease_document()
        closed: Any = document
        for name in filter(None, place.split(".")):
            closed = closed[name]
        closed["x-new"] = {"deep": [1]}
        assert decode_server_frame(json.dumps(document)) == decode_server_frame(json.dumps(lease_document()))
        with pytest.raises(FrameError, match="x-new") as caught:
            decode_server_frame(json.dumps(document), strict=True)
        assert caught.value.field == f"{place}.x-new".removeprefix(".")
        assert caught.value.frame_type == "lease"

    @pytest.mark.parametrize(
        ("document", "field"),
        [
            (
                {
                    "type": "heartbeat",
                    "neuronId": "n",
                    "inFlight": [
                        {"leaseId": "l", "taskId": "t", "startedAt": "2026-05-09T12:00:00Z"},
                        {"leaseId": "l", "taskId": "t", "startedAt": "2026-05-09T12:00:00Z", "x": 1},
                    ],
                    "sentAt": "2026-05-09T12:00:00Z",
                },
                "inFlight[1].x",
            ),
            (
                {
                    "type": "update-capability",
                    "neuronId": "n",
                    "capability": {"type": "a/b", "scope": {"onBehalfOf": "u", "x": 1}, "concurrency": 1},
                },
                "capability.scope.x",
            ),
        ],
    )
    def test_strict_looks_into_arrays_and_scopes(self, document: dict[str, Any], field: str) -> None:
        decode_neuron_frame(json.dumps(document))
        with pytest.raises(FrameError) as caught:
            decode_neuron_frame(json.dumps(document), strict=True)
        assert caught.value.field == field

    def test_strict_does_not_look_into_free_form_places(self) -> None:
        document = lease_document(input={"x": 1, "type": "y"}, metadata={"x": {"y": 1}})
        document["lease"] |= {"inputSchema": {"x": 1}, "outputSchema": {"x": 1}}
        assert decode_server_frame(json.dumps(document), strict=True) == decode_server_frame(json.dumps(document))

    def test_a_long_foreign_name_does_not_flood_the_message(self) -> None:
        document = {**lease_document(), "x\n" * 10_000: 1}
        with pytest.raises(FrameError) as caught:
            decode_server_frame(json.dumps(document), strict=True)
        assert len(str(caught.value)) < 500
        assert "\n" not in str(caught.value)


DEEP = 200_000
HOSTILE = {
    "empty": b"",
    "spaces": b" " * 1000,
    "arrays": b"[" * DEEP,
    "objects": b'{"a":' * DEEP,
    "deep-input": with_input(b"[" * DEEP + b"]" * DEEP),
    "deep-input-open": with_input(b"[" * DEEP),
    "deep-objects": with_input(b'{"a":' * DEEP + b"1" + b"}" * DEEP),
    "deep-foreign": b'{"type":"ping","x":' + b"[" * DEEP + b"]" * DEEP + b"}",
    "deep-metadata": json.dumps(lease_document(metadata={"a": "HERE"})).encode().replace(b'"HERE"', b"[" * DEEP),
    "not-utf-8": b'{"type":"cancel","leaseId":"\xff","reason":"r","cancelledAt":"2026-05-09T12:00:00Z"}',
    "not-utf-8-input": with_input(b'"\xff"'),
    "not-utf-8-key": with_input(b'{"\xc3":1}'),
    "overlong": with_input(b'"\xc0\xaf"'),
    "utf-8-surrogate": with_input(b'"\xed\xa0\x80"'),
    "beyond-unicode": with_input(b'"\xf4\x90\x80\x80"'),
    "not-utf-8-foreign": b'{"type":"ping","x":"\xff"}',
    "utf-16": json.dumps(lease_document()).encode("utf-16"),
    "lone-surrogate-id": b'{"type":"cancel","leaseId":"\\ud800","reason":"r","cancelledAt":"2026-05-09T12:00:00Z"}',
    "lone-surrogate-input": with_input(b'"\\ud800"'),
    "huge-attempt": json.dumps(lease_document(attempt=1)).encode().replace(b'"attempt": 1', b'"attempt": 1e999'),
    "long-attempt": json.dumps(lease_document(attempt=1)).encode().replace(b": 1}", b": " + b"9" * 10_000 + b"}"),
    "huge-metadata": json.dumps(lease_document(metadata={"a": "HERE"})).encode().replace(b'"HERE"', b"1e999"),
    "nan": with_input(b"NaN"),
    "infinity": with_input(b"-Infinity"),
    "comment": with_input(b"/**/1"),
    "leading-zero": with_input(b"01"),
    "bare-dot": with_input(b"1."),
    "trailing-comma": with_input(b"[1,]"),
    "raw-line-end": with_input(b'"\n"'),
    "bad-escape": with_input(b'"\\x41"'),
    "two-values": with_input(b"1 2"),
    "bracket-mix": with_input(b"[}"),
    "nul": with_input(b'"\x00"'),
    "nothing": with_input(b""),
}  # fmt: skip


class TestHostileDocuments:
    @pytest.mark.parametrize("name", HOSTILE)
    def test_they_raise_frame_error_and_nothing_else(self, name: str) -> None:
        for decode in (decode_server_frame, decode_neuron_frame):
            for strict in (False, True):
                with pytest.raises(FrameError):
                    decode(HOSTILE[name], strict=strict)

    def test_a_text_with_a_lone_surrogate_raises_frame_error(self) -> None:
        with pytest.raises(FrameError, match="UTF-8"):
            decode_server_frame(with_input(b'"HERE"').decode().replace("HERE", "\ud800"))

    @pytest.mark.parametrize("text", [b"1e999", b"9" * 5000, b"-1" + b"0" * 400, b"1e-999", b'"\\u0000"'])
    def test_an_input_beyond_pythons_numbers_is_left_to_who_decodes_it(self, text: bytes) -> None:
        frame = decode_server_frame(with_input(text), strict=True)
        assert isinstance(frame, frames.Lease)
        assert bytes(frame.lease.task.input) == text

    def test_how_deep_the_caller_stands_changes_nothing(self) -> None:
        data = with_input(b"[" * 700 + b"]" * 700)

        def at_depth(depth: int) -> None:
            if depth:
                at_depth(depth - 1)
                return
            with contextlib.suppress(FrameError):  # whether it still fits depends on the Python
                decode_server_frame(data)

        at_depth(sys.getrecursionlimit() // 2)

    def test_a_hundred_levels_are_nothing_special(self) -> None:
        frame = decode_server_frame(with_input(b"[" * 100 + b"]" * 100), strict=True)
        assert isinstance(frame, frames.Lease)
        assert msgspec.json.decode(frame.lease.task.input)
