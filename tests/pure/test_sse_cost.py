"""What decoding a stream costs: counted, not timed."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

import pytest

from neuron_anyio.sse import HEAD_BYTES, EventDecoder, OversizedEvent

SCANS = [
    *("count", "decode", "endswith", "find", "index", "join", "lstrip", "partition", "removeprefix", "removesuffix"),
    *("replace", "rfind", "rindex", "rpartition", "rsplit", "rstrip", "split", "splitlines", "startswith", "strip"),
    *("__add__", "__contains__", "__eq__", "__iter__"),
]


class Meter:
    """Counts the bytes that were looked at or copied."""

    def __init__(self) -> None:
        self.bytes = 0

    def watched(self, base: type[Any]) -> type[Any]:
        """Make a kind of buffer whose operations are counted here."""
        meter = self

        def counted(name: str) -> Callable[..., Any]:
            plain = getattr(base, name)

            def method(self: Any, *args: Any, **kwargs: Any) -> Any:
                # A look at the beginning or the end costs what is compared, everything else the whole buffer.
                cheap = name in ("startswith", "endswith")
                meter.bytes += 8 if cheap else len(self)
                return plain(self, *args, **kwargs)

            return method

        def __iadd__(self: Any, other: Any) -> Any:  # noqa: N807 - a method, put into a class below
            meter.bytes += len(other)
            return base.__iadd__(self, other)

        def __getitem__(self: Any, key: Any) -> Any:  # noqa: N807 - a method, put into a class below
            found = base.__getitem__(self, key)
            meter.bytes += len(found) if isinstance(key, slice) else 1
            return found

        members = {name: counted(name) for name in SCANS if hasattr(base, name)}
        members["__getitem__"] = __getitem__
        members["__hash__"] = base.__hash__
        if base is bytearray:
            members["__iadd__"] = __iadd__

            def __bytes__(self: Any) -> bytes:  # noqa: N807 - a method, put into a class below
                meter.bytes += len(self)
                return b"".join([self])

            members["__bytes__"] = __bytes__
        return type(f"Watched{base.__name__}", (base,), members)

    def gathering(self) -> type[io.BytesIO]:
        """Make a kind of `BytesIO` that counts what is written into it, and what is taken out as if it were copied."""
        meter = self

        class Gathering(io.BytesIO):
            def write(self, part: Any) -> int:
                meter.bytes += len(part)
                return super().write(part)

            def getvalue(self) -> bytes:
                data = super().getvalue()
                meter.bytes += len(data)
                return data

        return Gathering


def counted_bytes(chunks: Iterator[bytes], *, limit: int = 1 << 27) -> tuple[int, int]:
    """Return how many events came out and how many bytes were touched on the way."""
    meter = Meter()
    chunk_type, buffer_type, data_type = meter.watched(bytes), meter.watched(bytearray), meter.gathering()
    decoder = EventDecoder(max_event_bytes=limit)
    decoder.push(b": the start is over\n")
    decoder._line, decoder._data = buffer_type(), data_type()
    events = sum(len(decoder.push(chunk_type(chunk))) for chunk in chunks)
    # A buffer that was replaced instead of added to would not have been counted.
    assert isinstance(decoder._line, buffer_type)
    assert isinstance(decoder._data, data_type)
    return events, meter.bytes


def counted_calls(stream: bytes, step: int) -> int:
    """Return how many functions, Python's and C's, were called on the way."""
    decoder = EventDecoder()
    chunks = [stream[at : at + step] for at in range(0, len(stream), step)]
    calls = 0

    def count(frame: FrameType, event: str, arg: Any) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        for chunk in chunks:
            decoder.push(chunk)
    finally:
        sys.setprofile(before)
    return calls


def one_large_event(size: int, step: int) -> Iterator[bytes]:
    yield b"event: lease\ndata: "
    piece = b"x" * step
    for _ in range(size // step):
        yield piece
    yield b"\n\n"


MIB = 1 << 20


class TestC10Linear:
    @pytest.mark.parametrize("step", [1 << 10, 1 << 16], ids=["1 KiB", "64 KiB"])
    def test_C10_reference_D12_each_byte_of_a_large_event_is_touched_a_fixed_number_of_times(self, step: int) -> None:
        touched: list[float] = []
        for size in (4 * MIB, 8 * MIB, 16 * MIB, 64 * MIB):
            events, count = counted_bytes(one_large_event(size, step))
            assert events == 1
            touched.append(count / size)
        assert max(touched) < 4.1  # looked at for either line end, gathered, handed over
        assert max(touched) < 1.1 * min(touched)

    @pytest.mark.parametrize("step", [1, 3])
    def test_C10_nor_in_portions_of_a_byte_or_three(self, step: int) -> None:
        touched: list[float] = []
        for size in (3 << 12, 3 << 13, 3 << 14, 3 << 15):
            events, count = counted_bytes(one_large_event(size, step))
            assert events == 1
            touched.append(count / size)
        assert max(touched) < 20  # the fixed price of a push
        assert max(touched) < 1.1 * min(touched)

    @pytest.mark.parametrize(
        "line",
        [b"data: x\n\n", b"data: x\n", b": comment\n", b"\n", b"\r", b"event: e\n", b"unknown: field\r\n", b"data\n"],
    )
    def test_C10_reference_D12_many_small_lines_in_one_chunk_are_linear(self, line: bytes) -> None:
        calls = [counted_calls(line * count, step=len(line) * count) / count for count in (2_000, 4_000, 8_000)]
        assert max(calls) < 1.1 * min(calls) + 0.01
        touched: list[float] = []
        for count in (2_000, 4_000, 8_000):
            stream = line * count + b"data: end\n\n"
            touched.append(counted_bytes(iter([stream]))[1] / len(stream))
        assert max(touched) < 8
        assert max(touched) < 1.1 * min(touched)

    @pytest.mark.parametrize("step", [1, 100, 4096])
    def test_C10_calls_grow_as_the_stream_does(self, step: int) -> None:
        event = b'event: lease\r\ndata: {"type":"lease"}\r\ndata: more\r\n: c\r\n\r\n'
        calls = [counted_calls(event * count, step) / count for count in (500, 1_000, 2_000)]
        assert max(calls) < 1.1 * min(calls)

    def test_the_meter_sees_quadratic_work(self) -> None:
        meter = Meter()
        buffer = meter.watched(bytearray)()
        for _ in range(100):
            buffer += b"x" * 10
            buffer.find(b"\n")
        assert meter.bytes == 100 * 10 + 10 * 100 * 101 // 2


def held(decoder: EventDecoder) -> int:
    """Return the bytes that the decoder keeps, those reserved included."""
    buffers = (decoder._line, decoder._data, decoder._name, decoder._start or b"")
    return sum(sys.getsizeof(buffer) for buffer in buffers)


LIMIT = 1 << 16
ENDLESS = {
    "data": (b"data: ", b"x" * 1000),
    "data-lines": (b"", b"data: x\n" * 100),
    "empty-data-lines": (b"", b"data\n" * 200),
    "comment": (b": ", b"x" * 1000),
    "comments": (b"", b": x\n" * 250),
    "unknown-field": (b"id: ", b"x" * 1000),
    "field-without-colon": (b"", b"x" * 1000),
    "event-name": (b"event: ", b"x" * 1000),
    "event-names": (b"", b"event: " + b"x" * 990 + b"\n"),
    "name-like-data": (b"data", b"a" * 1000),
    "spaces": (b"", b" " * 1000),
    "blank-lines": (b"", b"\n" * 1000),
    "broken-utf-8": (b"data: ", b"\xf0\x9f" * 500),
}


class TestC8Memory:
    @pytest.mark.parametrize("kind", ENDLESS)
    def test_C8_nothing_endless_is_held(self, kind: str) -> None:
        start, piece = ENDLESS[kind]
        decoder = EventDecoder(max_event_bytes=LIMIT)
        decoder.push(start)
        for _ in range(4 * LIMIT // len(piece)):
            assert decoder.push(piece) == []
            assert held(decoder) < 2 * LIMIT

    @pytest.mark.parametrize("first", [0, 1, HEAD_BYTES, LIMIT])
    def test_C8_of_an_event_over_the_limit_only_the_head_is_held(self, first: int) -> None:
        decoder = EventDecoder(max_event_bytes=LIMIT)
        decoder.push(b"event: lease\ndata: " + b"x" * first)
        decoder.push(b"x" * (LIMIT + 1 - first))
        assert held(decoder) < 2 * HEAD_BYTES
        for _ in range(100):
            decoder.push(b"x" * LIMIT)
            assert held(decoder) < 2 * HEAD_BYTES
        assert decoder.push(b"\n\n") == [OversizedEvent(101 * LIMIT + 1, b"x" * HEAD_BYTES)]

    @pytest.mark.parametrize("line", [b":", b"id:", b"x"])
    def test_C8_of_a_line_that_does_not_count_next_to_nothing_is_held(self, line: bytes) -> None:
        decoder = EventDecoder(max_event_bytes=LIMIT)
        for part in (line, b"x" * (2 * LIMIT), b"x" * LIMIT):
            decoder.push(part)
        assert held(decoder) < HEAD_BYTES

    def test_after_an_event_its_memory_is_given_back(self) -> None:
        decoder = EventDecoder()
        decoder.push(b"data: " + b"x" * (1 << 20) + b"\n")
        assert held(decoder) > 1 << 20
        assert len(decoder.push(b"\n")) == 1
        assert held(decoder) < 1 << 10
