"""Messages in a byte stream: one per line, or each with its length before it. Pure; bytes in any portions.

Lines are for programs that people look into: a JSON text, and a line feed after it, before which a carriage return may
stand; empty lines mean nothing. Lengths are for anything: four bytes, big-endian, then so many bytes.

A message over the limit is skipped without being held; its first bytes are kept to tell what it was. Linear: each byte
is looked at once and copied a fixed number of times.
"""

from __future__ import annotations

from typing import Literal, Protocol, TypeAlias

import msgspec

__all__ = ["HEAD_BYTES", "Framing", "MessageDecoder", "Skipped", "decoder", "encode"]

Framing: TypeAlias = Literal["lines", "lengths"]

HEAD_BYTES = 4096
"""How much of a skipped message is kept."""

_LENGTH = 4


class Skipped(msgspec.Struct, frozen=True, gc=False):
    """A message that was too large to be held.

    Attributes:
        size: its bytes.
        head: the first `HEAD_BYTES` of them.
    """

    size: int
    head: bytes

    def __repr__(self) -> str:
        return f"Skipped(size={self.size})"


class MessageDecoder(Protocol):
    """Decoder of one stream."""

    @property
    def is_between(self) -> bool:
        """Whether the stream may end here: no message is unfinished."""
        ...

    def push(self, chunk: bytes) -> list[bytes | Skipped]:
        """Take the next bytes and return the messages that they complete."""
        ...


def decoder(framing: Framing, max_bytes: int) -> MessageDecoder:
    """Make a decoder.

    Args:
        framing: `"lines"` or `"lengths"`.
        max_bytes: the most that one message may have.

    Raises:
        ValueError: there is no such framing, or nothing fits.
    """
    if max_bytes < 1:
        raise ValueError(f"max_bytes must be at least 1, not {max_bytes!r}")
    if framing == "lines":
        return _Lines(max_bytes)
    if framing == "lengths":
        return _Lengths(max_bytes)
    raise ValueError(f"framing must be 'lines' or 'lengths', not {framing!r}")


def encode(message: bytes, framing: Framing) -> bytes:
    """Return a message as it goes into the stream.

    Raises:
        ValueError: it has a line break and framing is by lines, or more bytes than four can count.
    """
    if framing == "lines":
        if b"\n" in message:
            raise ValueError("a message in a line cannot hold a line break; JSON text needs none")
        return message + b"\n"
    if len(message) >= 1 << 8 * _LENGTH:
        raise ValueError(f"a message has at most {(1 << 8 * _LENGTH) - 1} bytes, not {len(message)}")
    return len(message).to_bytes(_LENGTH, "big") + message


class _Message:
    """The message that is being read: whole, or the head of one that is too large."""

    __slots__ = ("_data", "_limit", "size")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._data = bytearray()
        self.size = 0

    def add(self, part: bytes) -> None:
        self.size += len(part)
        if self.size > self._limit:
            del self._data[HEAD_BYTES:]
            part = part[: HEAD_BYTES - len(self._data)]
        self._data += part

    def take(self) -> bytes | Skipped:
        data, size = bytes(self._data), self.size
        self._data.clear()
        self.size = 0
        return data if size <= self._limit else Skipped(size=size, head=data[:HEAD_BYTES])


class _Lines:
    __slots__ = ("_message",)

    def __init__(self, limit: int) -> None:
        self._message = _Message(limit)

    @property
    def is_between(self) -> bool:
        return not self._message.size

    def push(self, chunk: bytes) -> list[bytes | Skipped]:
        found: list[bytes | Skipped] = []
        *ended, rest = chunk.split(b"\n")
        for part in ended:
            self._message.add(part)
            message = self._message.take()
            if isinstance(message, bytes):
                message = message.removesuffix(b"\r")
            if message:
                found.append(message)
        if rest:
            self._message.add(rest)
        return found


class _Lengths:
    __slots__ = ("_left", "_length", "_message")

    def __init__(self, limit: int) -> None:
        self._message = _Message(limit)
        self._length = bytearray()
        self._left = 0

    @property
    def is_between(self) -> bool:
        return not self._length

    def push(self, chunk: bytes) -> list[bytes | Skipped]:
        found: list[bytes | Skipped] = []
        place = 0
        while place < len(chunk) or self._is_complete:
            if self._is_complete:
                found.append(self._message.take())
                self._length.clear()
            elif len(self._length) < _LENGTH:
                part = chunk[place : place + _LENGTH - len(self._length)]
                self._length += part
                place += len(part)
                self._left = int.from_bytes(self._length, "big")
            else:
                part = chunk[place : place + self._left]
                self._message.add(part)
                place += len(part)
                self._left -= len(part)
        return found

    @property
    def _is_complete(self) -> bool:
        return len(self._length) == _LENGTH and not self._left
