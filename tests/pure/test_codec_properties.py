"""What holds for every frame, every document near one, and every cut of a lease."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from neuron_anyio import codec, frames
from neuron_anyio.errors import FrameError
from neuron_anyio.testing import strategies

pytestmark = pytest.mark.thorough

VECTORS = Path(__file__).parent.parent / "vectors" / "bigbrain"
SECRET = "xyzzy-4711"

BODIES: list[bytes] = [
    json.loads(line)["body"].encode()
    for kind in ("valid", "ambiguous")
    for line in (VECTORS / kind / "index.jsonl").read_bytes().splitlines()
]
LEASES = [body for body in BODIES if b'"lease"' in body and b"NaN" not in body]


def read(data: bytes | str) -> None:
    """Give the document to every reader; whatever is not a FrameError comes out."""
    for decode in (codec.decode_server_frame, codec.decode_neuron_frame):
        for strict in (False, True):
            with contextlib.suppress(FrameError):
                decode(data, strict=strict)
    codec.peek_lease_id(data.encode() if isinstance(data, str) else data)


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place inside a document, as the keys that lead there."""
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in entries:
        yield (*path, key)
        yield from places(inner, (*path, key))


def at(document: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        document = document[key]
    return document


@settings(max_examples=300, deadline=None)
@given(strategies.neuron_frames())
def test_every_frame_of_a_neuron_survives_encode_and_decode(frame: frames.NeuronFrame) -> None:
    assert codec.decode_neuron_frame(codec.encode_frame(frame), strict=True) == frame


@settings(max_examples=300, deadline=None)
@given(strategies.server_frames())
def test_every_frame_of_a_gateway_survives_encode_and_decode(frame: frames.ServerFrame) -> None:
    assert codec.decode_server_frame(codec.encode_frame(frame), strict=True) == frame


@settings(deadline=None)
@given(strategies.frames())
def test_C8_a_frame_of_the_other_direction_is_of_unknown_type(frame: frames.Frame) -> None:
    theirs = isinstance(frame, get_args(frames.NeuronFrame))
    decode = codec.decode_server_frame if theirs else codec.decode_neuron_frame
    with pytest.raises(codec.UnknownFrameType) as caught:
        decode(codec.encode_frame(frame))
    assert caught.value.frame_type == frame.type


@settings(max_examples=300, deadline=None)
@given(st.data(), st.sampled_from(BODIES).filter(lambda body: b"NaN" not in body))
def test_a_document_with_one_member_dropped_or_replaced_gives_a_frame_or_frame_error(
    data: st.DataObject, body: bytes
) -> None:
    document = json.loads(body)
    *path, last = data.draw(st.sampled_from(list(places(document))))
    parent = at(document, tuple(path))
    action = data.draw(st.sampled_from(["drop", "replace", "rename"]))
    if action == "replace":
        parent[last] = data.draw(strategies.json_values())
    else:
        value = parent.pop(last)
        if action == "rename" and isinstance(parent, dict):
            parent[data.draw(st.text(max_size=3))] = value
    read(json.dumps(document))
    with contextlib.suppress(UnicodeEncodeError):
        read(json.dumps(document, ensure_ascii=False).encode())


@settings(max_examples=300, deadline=None)
@given(st.data(), st.sampled_from(BODIES))
def test_a_document_with_torn_bytes_gives_a_frame_or_frame_error(data: st.DataObject, body: bytes) -> None:
    start = data.draw(st.integers(0, len(body)))
    end = data.draw(st.integers(start, min(start + 8, len(body))))
    read(body[:start] + data.draw(st.binary(max_size=8)) + body[end:])


@settings(deadline=None)
@given(st.binary(max_size=200) | st.text(max_size=200).map(lambda text: text.encode(errors="surrogatepass")))
def test_any_bytes_give_a_frame_or_frame_error(data: bytes) -> None:
    read(data)


@settings(deadline=None)
@given(st.text(max_size=50))
@example("\ud800")
def test_any_text_gives_a_frame_or_frame_error(text: str) -> None:
    for decode in (codec.decode_server_frame, codec.decode_neuron_frame):
        with contextlib.suppress(FrameError):
            decode(text)


@settings(max_examples=200, deadline=None)
@given(st.data(), st.sampled_from(BODIES).filter(lambda body: b"NaN" not in body))
def test_C9_no_error_quotes_what_stands_at_any_place(data: st.DataObject, body: bytes) -> None:
    document = json.loads(body)
    *path, last = data.draw(st.sampled_from(list(places(document))))
    at(document, tuple(path))[last] = data.draw(
        st.sampled_from([SECRET, {"a": SECRET}, [SECRET], f"a - at `$.{SECRET}`", f"'{SECRET}", f"{SECRET}\n"])
    )
    said: list[str] = []
    for decode in (codec.decode_server_frame, codec.decode_neuron_frame):
        try:
            decode(json.dumps(document), strict=True)
        except FrameError as error:
            said += [str(error), repr(error), error.field]
    assert not any(SECRET in text for text in said)


class TestPeekLeaseId:
    HEAD = b'{"type":"lease","lease":{"leaseId":"the-one","expiresAt":"2026-05-09T12:00:00Z","task":{"input":'

    def test_C8_it_finds_the_id_in_the_beginning_of_a_large_lease(self) -> None:
        data = self.HEAD + b'"' + b"x" * 10_000
        assert codec.peek_lease_id(data[:4096]) == "the-one"

    @pytest.mark.parametrize("body", LEASES, ids=range(len(LEASES)))
    def test_C8_it_finds_the_id_of_every_lease_or_of_its_beginning(self, body: bytes) -> None:
        expected = json.loads(body)["lease"]["leaseId"]
        assert codec.peek_lease_id(body) == expected
        found = [codec.peek_lease_id(body[:end]) for end in range(len(body) + 1)]
        assert set(found) == {None, expected}
        first = found.index(expected)
        assert found[first:] == [expected] * (len(found) - first)

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ('{"lease":{"leaseId":"a"},"type":"lease"}', "a"),
            ('{"lease":{"task":{"input":{"leaseId":"b"}},"leaseId":"a"},"type":"lease"', "a"),
            ('{"x":[1,-2.5e3,"}",{"a":null}],"type":"lease","lease":{"leaseId":"a"', "a"),
            ('{"\\u0074ype":"l\\u0065ase","lease":{"lease\\u0049d":"\\u0061"', "a"),
            (' {\n"type"\t:\r"lease" , "lease" : { "leaseId" : "a" , oops', "a"),
            ('{"type":"lease","lease":{"leaseId":"ä☃"', "ä☃"),
            ('{"type":"lease","lease":{"leaseId":"a\\""', 'a"'),
        ],
    )
    def test_it_reads_members_in_any_order_and_spelling(self, text: str, expected: str) -> None:
        assert codec.peek_lease_id(text.encode()) == expected

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "{",
            "null",
            '["type","lease"]',
            '{"type":"lease"}',
            '{"type":"lease","lease":{"leaseId":""}}',
            '{"type":"lease","lease":{"leaseId":7}}',
            '{"type":"lease","lease":{"leaseId":"cut',
            '{"type":"lease","lease":{"leaseId":"\\ud800"}}',
            '{"type":"lease","leaseId":"top"}',
            '{"type":"lease","lease":"leaseId","leaseId":"x"}',
            '{"type":"lease","lease":[{"leaseId":"x"}]}',
            '{"type":"lease","lease":{"task":{"leaseId":"x"}}}',
            '{"type":"lease","lease":{"task":{"input":{"lease":{"leaseId":"x"}}}}}',
            '{"type":"lease","lease":{"note":"\\"leaseId\\":\\"x\\""}}',
            '{"type":"cancel","lease":{"leaseId":"x"}}',
            '{"lease":{"leaseId":"x"}}',
            '{"lease":{"leaseId":"x"},"input":{"type":"lease"}}',
            '{"lease":{"leaseId":"x"},"type":["lease"]}',
            '{"lease":{"leaseId":"x"},"type":lease}',
            '{"lease":{"leaseId":"x"},oops,"type":"lease"}',
            '{"lease":{"leaseId":"x"}"type":"lease"}',
            '{"lease":{"leaseId":"x",[}],"type":"lease"}',
            '{"type":"lease","lease":{"task":[},"leaseId":"x"}}',
            '{"type":"lease","lease":{"task":\'it"s\',"leaseId":"x"}}',
            '{"type":"lease","lease":{"task":,"leaseId":"x"}}',
            '{"type":"lease","lease":{"task"::,"leaseId":"x"}}',
            '{"type":"lease",,"lease":{"leaseId":"x"}}',
            ',"type":"lease","lease":{"leaseId":"x"}',
            '{"type":"lease","lease":{"a":"raw\nend","leaseId":"x"}}',
            '{"type":"lease"},{"lease":{"leaseId":"x"}}',
        ],
    )
    def test_it_says_none_when_it_is_not_sure(self, text: str) -> None:
        assert codec.peek_lease_id(text.encode()) is None

    def test_an_id_that_is_not_utf_8_is_none(self) -> None:
        assert codec.peek_lease_id(b'{"type":"lease","lease":{"leaseId":"\xff"}}') is None

    def test_it_does_not_look_further_than_its_bound(self) -> None:
        filler = b"[1," * codec.PEEK_BYTES
        assert codec.peek_lease_id(b'{"type":"lease","x":' + filler) is None
        far = b'{"type":"lease","x":"' + b"x" * codec.PEEK_BYTES + b'","lease":{"leaseId":"x"}}'
        assert codec.peek_lease_id(far) is None

    @settings(max_examples=300, deadline=None)
    @given(st.data())
    def test_C8_on_any_json_it_says_the_documents_own_id_or_none(self, data: st.DataObject) -> None:
        inner = st.recursive(
            st.sampled_from(["lease", "x", '"leaseId":"x"', 1, None, 2.5, True]),
            lambda deeper: (
                st.lists(deeper, max_size=3)
                | st.dictionaries(st.sampled_from(["type", "lease", "leaseId", "a"]), deeper, max_size=4)
            ),
            max_leaves=12,
        )
        members = st.fixed_dictionaries({}, optional={"type": st.just("lease") | inner, "lease": inner, "a": inner})
        document = data.draw(members)
        text = json.dumps(document).encode()
        lease = document.get("lease")
        own = lease.get("leaseId") if document.get("type") == "lease" and isinstance(lease, dict) else None
        expected = own if isinstance(own, str) else None
        assert codec.peek_lease_id(text) == expected
        cut = data.draw(st.integers(0, len(text)))
        assert codec.peek_lease_id(text[:cut]) in (None, expected)

    @settings(deadline=None)
    @given(strategies.server_frames())
    def test_C8_it_finds_the_id_of_every_lease_that_can_be_sent(self, frame: frames.ServerFrame) -> None:
        text = codec.encode_frame(frame)
        assume(len(text) < codec.PEEK_BYTES)
        expected = frame.lease.lease_id if isinstance(frame, frames.Lease) else None
        assert codec.peek_lease_id(text) == expected
