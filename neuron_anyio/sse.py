"""Event streams: bytes in any portions to events (wire specification, section 4; promise C10).

The interpretation is the WHATWG's. Lines are split before anything is decoded: line ends are ASCII, no byte of a
longer UTF-8 sequence is, and a broken sequence ends at the line's end whichever comes first, so the text is the same
as if the stream had been decoded as a whole.

Linear: each byte is looked at once to find line ends and copied a fixed number of times. An unfinished line is never
looked at again, only added to. What a large event costs is memory that is touched for the first time, more than the
copying: its data is gathered in a `BytesIO`, which grows as a `bytearray` does and is handed over without a copy.
"""

from __future__ import annotations

from io import BytesIO

import msgspec

from .utf_8 import is_utf_8

__all__ = ["HEAD_BYTES", "EventDecoder", "OversizedEvent", "ServerSentEvent"]

HEAD_BYTES = 4096
"""How much of an oversized event's data is kept, to tell what it was."""

_BOM = b"\xef\xbb\xbf"
_FIELD = len(b"event:")  # from here on it is certain whether a line is one that counts


class ServerSentEvent(msgspec.Struct, frozen=True, gc=False):
    """One dispatched event.

    Attributes:
        event: the event's name, `message` if it has none.
        data: its text in UTF-8, lines joined by LF, without a final one.
    """

    event: str
    data: bytes

    def __repr__(self) -> str:
        return f"ServerSentEvent(event={self.event!r}, {len(self.data)} bytes)"


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
        "_has_data",
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
        self._data = BytesIO()  # of an oversized event, its head
        self._has_data = False  # a data line was seen, which may be empty
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
        if b"\r" in chunk:
            lines = chunk.splitlines()
            unfinished = b"" if chunk.endswith((b"\n", b"\r")) else lines.pop()
            self._after_cr = chunk.endswith(b"\r")
        else:
            *lines, unfinished = chunk.split(b"\n")  # many times as fast
        if lines and (self._line or self._in_data):
            self._extend(lines[0])
            self._finish()
            del lines[0]
        for line in lines:
            if line:
                self._interpret(line)
            elif self._has_data:
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
            self._begin_data()
            self._add(bytes(line[5:].removeprefix(b" ")))
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
        else:
            line = bytes(self._line)
            self._line.clear()
            self._interpret(line)

    def _interpret(self, line: bytes) -> None:
        """Take a whole line that is not empty."""
        field, _, value = line.partition(b":")
        if field == b"data":
            self._begin_data()
            self._add(value.removeprefix(b" "))
        elif field == b"event":
            self._name = value.removeprefix(b" ")
            if len(self._name) > self._limit:
                self._name, self._name_too_long = b"", True
        elif not field:
            self.comments += 1

    def _begin_data(self) -> None:
        """Begin a data line: a LF stands between it and the one before."""
        if self._has_data:
            self._add(b"\n")
        self._has_data = True

    def _add(self, part: bytes) -> None:
        """Add to the data, or, once that is too much, to its head."""
        self._size += len(part)
        if self._size > self._limit:
            self._data.seek(min(self._data.tell(), HEAD_BYTES))
            self._data.truncate()
            part = part[: HEAD_BYTES - self._data.tell()]
        self._data.write(part)

    def _dispatch(self) -> ServerSentEvent | OversizedEvent:
        data = self._data.getvalue()
        event: ServerSentEvent | OversizedEvent
        if self._size > self._limit or self._name_too_long:
            event = OversizedEvent(size=self._size, head=data[:HEAD_BYTES])
        else:
            name = self._name.decode(errors="replace") or "message"
            event = ServerSentEvent(event=name, data=data if is_utf_8(data) else _replaced(data))
        self._data.seek(0)
        self._data.truncate()
        self._size = 0
        self._has_data = False
        self._name, self._name_too_long = b"", False
        return event


def _replaced(data: bytes) -> bytes:
    """Replace what is not UTF-8, as a decoder would."""
    return data.decode(errors="replace").encode()
