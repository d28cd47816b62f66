"""Event streams: bytes in any portions to events (wire specification, section 4; promise C10).

The interpretation is the WHATWG's. Lines are split before anything is decoded: line ends are ASCII, no byte of a
longer UTF-8 sequence is, and a broken sequence ends at the line's end whichever comes first, so the text is the same
as if the stream had been decoded as a whole.

Linear: each byte is looked at once by `splitlines` and copied a fixed number of times. An unfinished line is never
looked at again, only added to.
"""

from __future__ import annotations

import msgspec

__all__ = ["HEAD_BYTES", "EventDecoder", "OversizedEvent", "ServerSentEvent"]

HEAD_BYTES = 4096
"""How much of an oversized event's data is kept, to tell what it was."""

_BOM = b"\xef\xbb\xbf"
_FIELD = len(b"event:")  # from here on it is certain whether a line is one that counts


class ServerSentEvent(msgspec.Struct, frozen=True, gc=False):
    """One dispatched event.

    Attributes:
        event: the event's name, `message` if it has none.
        data: its text, lines joined by LF, without a final one.
    """

    event: str
    data: str

    def __repr__(self) -> str:
        return f"ServerSentEvent(event={self.event!r}, {len(self.data)} characters)"


class OversizedEvent(msgspec.Struct, frozen=True, gc=False):
    """An event that was too large to be held.

    Attributes:
        size: bytes of its data.
        head: the first `HEAD_BYTES` of them.
    """

    size: int
    head: bytes

    def __repr__(self) -> str:
        return f"OversizedEvent(size={self.size})"


class EventDecoder:
    """Decoder of one stream. What is not dispatched when the stream ends is lost, as the text wants it.

    Args:
        max_event_bytes: the most data that one event may have. A larger one is skipped, not held, and comes out as an
            `OversizedEvent`; so does one whose name alone is larger.

    Attributes:
        comments: finished comment lines so far (a gateway's sign of life, promise C6).
    """

    __slots__ = (
        "_after_cr",
        "_data",
        "_in_data",
        "_limit",
        "_line",
        "_name",
        "_name_too_long",
        "_size",
        "_start",
        "comments",
    )

    def __init__(self, max_event_bytes: int = 64 * 1024 * 1024) -> None:
        if max_event_bytes < 1:
            raise ValueError(f"max_event_bytes must be at least 1, not {max_event_bytes!r}")
        self.comments: int = 0
        self._limit = max_event_bytes
        self._start: bytes | None = b""  # what may yet become a byte order mark; None after that
        self._after_cr = False  # a LF that comes next belongs to the line end that was already seen
        self._line = bytearray()  # the unfinished line; of one that does not count, its first bytes
        self._in_data = False  # the unfinished line is a data line, and goes to _data as it comes
        self._data = bytearray()  # with a LF after each finished line; of an oversized event, its head
        self._size = 0  # of the data as it would be, had all of it been kept
        self._name = b""
        self._name_too_long = False

    def push(self, chunk: bytes) -> list[ServerSentEvent | OversizedEvent]:
        """Take the next bytes of the stream and return the events that they complete.

        A carriage return ends its line at once, so that an event never waits for the byte that follows it.
        """
        events: list[ServerSentEvent | OversizedEvent] = []
        if self._start is not None:
            chunk = self._without_bom(self._start + chunk)
        if self._after_cr and chunk:
            self._after_cr = False
            chunk = chunk.removeprefix(b"\n")
        if not chunk:
            return events
        lines = chunk.splitlines()
        unfinished = b"" if chunk.endswith((b"\n", b"\r")) else lines.pop()
        self._after_cr = chunk.endswith(b"\r")
        if lines and (self._line or self._in_data):
            self._extend(lines[0])
            self._finish()
            del lines[0]
        for line in lines:
            if line:
                self._interpret(line)
            elif self._size:
                events.append(self._dispatch())
            else:
                self._name, self._name_too_long = b"", False
        if unfinished:
            self._extend(unfinished)
        return events

    def _without_bom(self, seen: bytes) -> bytes:
        if len(seen) < len(_BOM) and _BOM.startswith(seen):
            self._start = seen
            return b""
        self._start = None
        return seen.removeprefix(_BOM)

    def _extend(self, part: bytes) -> None:
        """Add to the unfinished line."""
        if self._in_data:
            self._add(part)
            return
        line = self._line
        line += part
        if len(line) < _FIELD:
            return
        if line.startswith(b"data:"):
            self._in_data = True
            self._add(_value(bytes(line), 5))
            line.clear()
        elif not line.startswith(b"event:"):
            del line[_FIELD:]
        elif len(line) - _FIELD - 1 > self._limit:
            self._name_too_long = True
            del line[_FIELD:]

    def _finish(self) -> None:
        """End the unfinished line, which is not empty."""
        if self._in_data:
            self._in_data = False
            self._end_data()
        else:
            line = bytes(self._line)
            self._line.clear()
            self._interpret(line)

    def _interpret(self, line: bytes) -> None:
        """Take a whole line that is not empty."""
        if line.startswith(b"data:"):
            self._add(_value(line, 5))
            self._end_data()
        elif line.startswith(b":"):
            self.comments += 1
        elif line.startswith(b"event:"):
            self._name = _value(line, 6)
            if len(self._name) > self._limit:
                self._name, self._name_too_long = b"", True
        elif line == b"data":
            self._add(b"")
            self._end_data()
        elif line == b"event":
            self._name = b""

    def _add(self, part: bytes) -> None:
        """Add to the data, or, once that is too much, to its head."""
        self._size += len(part)
        if self._size > self._limit:
            del self._data[HEAD_BYTES:]
            part = part[: HEAD_BYTES - len(self._data)]
        self._data += part

    def _end_data(self) -> None:
        """End a data line. Its LF does not count against the limit until another data line follows."""
        self._data += b"\n"
        self._size += 1

    def _dispatch(self) -> ServerSentEvent | OversizedEvent:
        size = self._size - 1
        event: ServerSentEvent | OversizedEvent
        if size > self._limit or self._name_too_long:
            event = OversizedEvent(size=size, head=bytes(self._data[: min(size, HEAD_BYTES)]))
        else:
            del self._data[-1:]
            name = self._name.decode(errors="replace") or "message"
            event = ServerSentEvent(event=name, data=self._data.decode(errors="replace"))
        self._data.clear()
        self._size = 0
        self._name, self._name_too_long = b"", False
        return event


def _value(line: bytes, after_colon: int) -> bytes:
    return line[after_colon + 1 :] if line.startswith(b" ", after_colon) else line[after_colon:]
