"""Event streams against the vectors, a slow and obvious interpreter, and a second opinion."""

from __future__ import annotations

import base64
import itertools
import json
import re
from pathlib import Path
from typing import Any

import httpx
import pytest
from httpx_sse import EventSource
from hypothesis import given, settings
from hypothesis import strategies as st

from neuron_anyio.sse import HEAD_BYTES, EventDecoder, OversizedEvent, ServerSentEvent
from neuron_anyio.testing.strategies import StreamedDocuments, event_streams

Event = ServerSentEvent | OversizedEvent

STREAMS: list[dict[str, Any]] = [
    json.loads(line)
    for line in (Path(__file__).parent.parent / "vectors/bigbrain/sse/streams.jsonl").read_bytes().splitlines()
]


def named(stream: dict[str, Any]) -> str:
    return str(stream["name"])


def chunks_of(stream: dict[str, Any]) -> list[bytes]:
    return [base64.b64decode(chunk) for chunk in stream["chunks_b64"]]


def decoded(chunks: list[bytes], **options: Any) -> list[Event]:
    decoder = EventDecoder(**options)
    return [event for chunk in chunks for event in decoder.push(chunk)]


def pairs(events: list[Event]) -> list[list[str]]:
    return [[event.event, event.data.decode()] for event in events if isinstance(event, ServerSentEvent)]


def cut(stream: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted(place % (len(stream) + 1) for place in places), len(stream)]
    return [stream[start:end] for start, end in itertools.pairwise(edges)]


def interpreted(stream: bytes, limit: int | None = None) -> tuple[list[Event], int]:
    """Interpret a whole stream the way the text reads: decode, split, go through the lines. Also count comments.

    Sizes are those of valid UTF-8, where text and bytes agree.
    """
    text = stream.decode("utf-8", "replace").removeprefix("\ufeff")
    lines = re.split("\r\n|\n|\r", text)[:-1]  # what follows the last line end is no line
    events: list[Event] = []
    comments, name, data = 0, "", ""
    for line in lines:
        if line == "":
            size = len(data.encode()) - 1
            if data and limit is not None and size > limit:
                events.append(OversizedEvent(size=size, head=data.encode()[: min(size, HEAD_BYTES)]))
            elif data:
                events.append(ServerSentEvent(event=name or "message", data=data[:-1].encode()))
            name, data = "", ""
            continue
        if line[0] == ":":
            comments += 1
            continue
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "data":
            data += value + "\n"
        elif field == "event":
            name = value
    return events, comments


# Pieces that meet in all the awkward ways: field names cut short, line ends, marks, broken sequences.
PIECES = [
    b"data", b"data:", b"data: ", b"event", b"event:", b"event: ", b"id: 1", b"retry: 5", b"da", b"ta", b":", b" ",
    b"\n", b"\r", b"\r\n", b"\n\n", b"\r\r", b"\r\n\r\n", b"\xef\xbb\xbf", b"\xef", b"\xbb\xbf", b"\xf0\x9f\x98\x80",
    b"\xf0\x9f", b"\x98\x80", b"\xed\xa0\x80", b"\xff", b"\xc3\xa9", b"x", b"yz", b"\0", b"\t", b"\x0b", b"\x0c",
    b"\x1c", b"\xc2\x85", b"\xe2\x80\xa8",
]  # fmt: skip
random_streams = st.lists(st.sampled_from(PIECES), max_size=40).map(b"".join)
random_cuts = st.lists(st.integers(0, 10_000), max_size=12)
valid_utf_8 = st.lists(
    st.sampled_from([piece for piece in PIECES if piece.decode("utf-8", "ignore").encode() == piece]), max_size=40
).map(b"".join)


class TestC10Vectors:
    @pytest.mark.parametrize("stream", STREAMS, ids=named)
    def test_C10_reference_D11_the_vectors_chunks_give_the_expected_events(self, stream: dict[str, Any]) -> None:
        assert pairs(decoded(chunks_of(stream))) == stream["expected"]

    @pytest.mark.parametrize("stream", STREAMS, ids=named)
    def test_C10_reference_D10_one_chunk_and_every_cut_in_two_and_single_bytes_give_the_same(
        self, stream: dict[str, Any]
    ) -> None:
        whole = b"".join(chunks_of(stream))
        assert pairs(decoded([whole])) == stream["expected"]
        for place in range(len(whole) + 1):
            assert pairs(decoded([whole[:place], whole[place:]])) == stream["expected"]
        assert pairs(decoded([whole[at : at + 1] for at in range(len(whole))])) == stream["expected"]

    @settings(max_examples=300, deadline=None)
    @given(st.sampled_from(STREAMS), random_cuts)
    def test_C10_every_chunking_gives_the_same(self, stream: dict[str, Any], places: list[int]) -> None:
        assert pairs(decoded(cut(b"".join(chunks_of(stream)), places))) == stream["expected"]

    @pytest.mark.parametrize("stream", STREAMS, ids=named)
    def test_C10_the_obvious_interpreter_agrees_with_the_vectors(self, stream: dict[str, Any]) -> None:
        assert pairs(interpreted(b"".join(chunks_of(stream)))[0]) == stream["expected"]


class TestC10Interpretation:
    @settings(max_examples=1000, deadline=None)
    @given(random_streams, random_cuts)
    def test_C10_any_stream_in_any_chunks_reads_as_the_obvious_interpreter_reads_it(
        self, stream: bytes, places: list[int]
    ) -> None:
        decoder = EventDecoder()
        events = [event for chunk in cut(stream, places) for event in decoder.push(chunk)]
        assert (events, decoder.comments) == interpreted(stream)

    @settings(deadline=None)
    @given(
        event_streams(st.lists(st.text(st.characters(exclude_characters="\r", exclude_categories=["Cs"])), max_size=4))
    )
    def test_C10_httpx_sse_reads_the_same_where_it_follows_the_text(self, streamed: StreamedDocuments) -> None:
        content = b"".join(streamed.chunks)
        # The one thing in which it does not: it takes a byte order mark for a part of the first field's name.
        response = httpx.Response(
            200,
            headers={"Content-Type": "text/event-stream; charset=utf-8"},
            content=content.removeprefix(b"\xef\xbb\xbf"),
        )
        theirs = [[event.event, event.data] for event in EventSource(response).iter_sse()]
        ours = pairs(decoded([*streamed.chunks]))
        assert ours == theirs
        assert ours == [list(pair) for pair in zip(streamed.names, streamed.documents, strict=True)]

    @pytest.mark.parametrize("end", [b"\r", b"\n", b"\r\n"])
    def test_C10_an_event_is_there_as_soon_as_its_last_line_end_is(self, end: bytes) -> None:
        decoder = EventDecoder()
        assert decoder.push(b"data: x" + end) == []
        assert decoder.push(end) == [ServerSentEvent("message", b"x")]

    def test_C10_a_line_feed_after_the_carriage_return_that_dispatched_is_not_another_line(self) -> None:
        decoder = EventDecoder()
        assert len(decoder.push(b"data: a\r\n\r")) == 1
        assert decoder.push(b"\ndata: b\r") == []
        assert decoder.push(b"") == []
        assert decoder.push(b"\n") == []
        assert decoder.push(b"\r") == [ServerSentEvent("message", b"b")]

    def test_C10_comments_are_counted_when_their_line_has_ended(self) -> None:
        decoder = EventDecoder()
        decoder.push(b": one\n:\r\n: th")
        assert decoder.comments == 2
        decoder.push(b"ree, which is a longer one")
        assert decoder.comments == 2
        decoder.push(b"\r")
        assert decoder.comments == 3
        decoder.push(b"\ndata: :\n\n")
        assert decoder.comments == 3

    @pytest.mark.parametrize("again", [b"event", b"event:", b"event: "])
    def test_C10_an_empty_name_replaces_the_one_before(self, again: bytes) -> None:
        assert decoded([b"event: a\n" + again + b"\ndata: x\n\n"]) == [ServerSentEvent("message", b"x")]

    def test_C10_what_was_not_dispatched_is_not_an_event(self) -> None:
        assert decoded([b"data: x\n"]) == []
        assert decoded([b"data: x"]) == []
        assert decoded([b"\xef\xbb"]) == []

    def test_C9_a_repr_shows_no_data(self) -> None:
        assert "secret" not in repr(ServerSentEvent("lease", b"secret"))
        assert "lease" in repr(ServerSentEvent("lease", b"secret"))
        assert "secret" not in repr(OversizedEvent(9, b"secret"))


class TestC8Bound:
    @pytest.mark.parametrize("before", [b"", b"event: lease\n", b": c\nevent: a\nid: 1\n"])
    def test_C8_bound_of_frame_bytes_itself_passes_and_one_byte_more_does_not(self, before: bytes) -> None:
        fits, too_large = b"x" * 10_000, b"x" * 10_001
        stream = before + b"data: " + fits + b"\n\n" + before + b"data: " + too_large + b"\n\ndata: next\n\n"
        first, second, third = decoded([stream], max_event_bytes=10_000)
        assert isinstance(first, ServerSentEvent)
        assert first.data == fits
        assert second == OversizedEvent(size=10_001, head=b"x" * HEAD_BYTES)
        assert third == ServerSentEvent("message", b"next")

    @pytest.mark.parametrize(
        ("stream", "expected"),
        [
            (b"data: ab\ndata: c\n\n", ServerSentEvent("message", b"ab\nc")),
            (b"data: ab\ndata: cd\n\n", OversizedEvent(5, b"ab\ncd")),
            (b"data: abc\ndata\n\n", ServerSentEvent("message", b"abc\n")),
            (b"data: abcd\n\n", ServerSentEvent("message", b"abcd")),
            (b"data: abcd\ndata:\n\n", OversizedEvent(5, b"abcd\n")),
            (b"data\n" * 5 + b"\n", ServerSentEvent("message", b"\n" * 4)),
            (b"data\n" * 6 + b"\n", OversizedEvent(5, b"\n" * 5)),
            ("data: éé\n\n".encode(), ServerSentEvent("message", "éé".encode())),
            ("data: ééx\n\n".encode(), OversizedEvent(5, "ééx".encode())),
            (b"event: abcd\ndata: x\n\n", ServerSentEvent("abcd", b"x")),
            (b"event: abcde\ndata: x\n\n", OversizedEvent(1, b"x")),
        ],
    )
    def test_C8_line_ends_inside_the_data_count_and_the_last_does_not(self, stream: bytes, expected: Event) -> None:
        assert decoded([stream], max_event_bytes=4) == [expected]
        assert decoded([stream[at : at + 1] for at in range(len(stream))], max_event_bytes=4) == [expected]

    def test_C8_too_large_a_name_without_data_is_no_event(self) -> None:
        assert decoded([b"event: abcde\n\ndata: x\n\n"], max_event_bytes=4) == [ServerSentEvent("message", b"x")]

    @pytest.mark.parametrize("limit", [1, 3, HEAD_BYTES - 1, HEAD_BYTES, HEAD_BYTES + 1, 3 * HEAD_BYTES])
    @pytest.mark.parametrize("step", [1, 7, 1000, 1_000_000])
    def test_C8_size_and_head_are_those_of_the_data_whatever_limit_and_chunks(self, limit: int, step: int) -> None:
        lines = [b"%d" % number * (number % 50) for number in range(400)]
        stream = b"event: lease\n" + b"".join(b"data: " + line + b"\r\n" for line in lines) + b"\r\n"
        data = b"\n".join(lines)
        chunks = [stream[at : at + step] for at in range(0, len(stream), step)]
        assert decoded(chunks, max_event_bytes=limit) == [OversizedEvent(len(data), data[:HEAD_BYTES])]

    @settings(max_examples=500, deadline=None)
    @given(valid_utf_8, random_cuts, st.integers(1, 12))
    def test_C8_with_a_limit_too_every_chunking_reads_the_same(
        self, stream: bytes, places: list[int], limit: int
    ) -> None:
        names = [line for line in re.split(b"\r|\n", stream) if line.startswith(b"event")]
        if all(len(name) <= len(b"event: ") + limit for name in names):
            assert decoded(cut(stream, places), max_event_bytes=limit) == interpreted(stream, limit)[0]
        assert decoded(cut(stream, places), max_event_bytes=limit) == decoded([stream], max_event_bytes=limit)

    @pytest.mark.parametrize("limit", [0, -1])
    def test_a_limit_below_one_is_refused(self, limit: int) -> None:
        with pytest.raises(ValueError, match="max_event_bytes"):
            EventDecoder(max_event_bytes=limit)
