"""Messages in byte streams, at any chunking."""

from __future__ import annotations

import time
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuron_anyio.framing import HEAD_BYTES, Framing, Skipped, decoder, encode

FRAMINGS: tuple[Framing, ...] = ("lines", "lengths")

framings = st.sampled_from(FRAMINGS)
# A line ends at its line feed, before which a carriage return may stand; JSON text has neither outside of escapes.
messages = st.lists(st.binary(min_size=1, max_size=40).map(lambda data: data.translate(None, b"\r\n") or b"x"))


def cut(data: bytes, places: list[int]) -> list[bytes]:
    ends = sorted({place % (len(data) + 1) for place in places} | {0, len(data)})
    return [data[start:end] for start, end in pairwise(ends)]


@given(framings, messages, st.lists(st.integers(min_value=0)))
def test_what_is_encoded_comes_out_whole_and_in_order_at_any_chunking(
    framing: Framing, sent: list[bytes], places: list[int]
) -> None:
    reader = decoder(framing, 100)
    came = [
        found for part in cut(b"".join(encode(each, framing) for each in sent), places) for found in reader.push(part)
    ]
    assert came == sent
    assert reader.is_between


@given(framings, messages, st.lists(st.integers(min_value=0)), st.integers(1, 30))
def test_what_is_over_the_limit_is_skipped_with_its_size_and_the_rest_is_not_touched(
    framing: Framing, sent: list[bytes], places: list[int], limit: int
) -> None:
    reader = decoder(framing, limit)
    came = [
        found for part in cut(b"".join(encode(each, framing) for each in sent), places) for found in reader.push(part)
    ]
    assert came == [each if len(each) <= limit else Skipped(size=len(each), head=each[:HEAD_BYTES]) for each in sent]


@pytest.mark.parametrize("framing", FRAMINGS)
def test_of_a_large_message_no_more_than_its_head_is_kept(framing: Framing) -> None:
    reader = decoder(framing, 1_000)
    data = encode(b"head" + b"x" * 10_000_000, framing)
    found = [message for start in range(0, len(data), 65_536) for message in reader.push(data[start : start + 65_536])]
    (skipped,) = found
    assert isinstance(skipped, Skipped)
    assert (skipped.size, len(skipped.head)) == (10_000_004, HEAD_BYTES)
    assert skipped.head.startswith(b"headx")
    assert "xxx" not in repr(skipped)


@given(st.lists(st.binary(max_size=30)))
def test_any_bytes_at_all_raise_nothing(chunks: list[bytes]) -> None:
    for framing in FRAMINGS:
        reader = decoder(framing, 10)
        for chunk in chunks:
            reader.push(chunk)


def test_empty_lines_mean_nothing_and_a_carriage_return_belongs_to_the_line_end() -> None:
    assert decoder("lines", 10).push(b"\n\r\n{}\r\n\n[]\n") == [b"{}", b"[]"]


@pytest.mark.parametrize(("framing", "part"), [("lines", b"{"), ("lengths", b"\0"), ("lengths", b"\0\0\0\2{")])
def test_a_stream_that_stops_in_a_message_can_be_told_from_one_that_ends(framing: Framing, part: bytes) -> None:
    reader = decoder(framing, 10)
    reader.push(encode(b"{}", framing) + part)
    assert not reader.is_between


def test_a_message_with_a_line_break_cannot_be_a_line() -> None:
    with pytest.raises(ValueError, match="line break"):
        encode(b"{\n}", "lines")
    assert decoder("lengths", 10).push(encode(b"{\n}", "lengths")) == [b"{\n}"]


def test_an_unknown_framing_and_a_limit_of_nothing_are_named() -> None:
    with pytest.raises(ValueError, match="'lines' or 'lengths', not 'netstring'"):
        decoder("netstring", 10)  # type: ignore[arg-type]  # the mistake under test
    with pytest.raises(ValueError, match="max_bytes must be at least 1"):
        decoder("lines", 0)


@pytest.mark.parametrize("framing", FRAMINGS)
def test_bytes_that_come_one_by_one_cost_no_more_than_linear_time(framing: Framing) -> None:
    def seconds(size: int) -> float:
        data = encode(b"x" * size, framing)
        reader = decoder(framing, size)
        began = time.process_time()
        for place in range(len(data)):
            reader.push(data[place : place + 1])
        return time.process_time() - began

    assert seconds(200_000) < 40 * min(seconds(20_000) for _ in range(3))  # 10 times the bytes; quadratic is 100 times
