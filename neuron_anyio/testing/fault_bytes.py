"""Replies and events as bytes, whole or spoilt. Pure: what is written when is for others to say."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any, cast

import msgspec

from .faults import Answering, Streaming

__all__ = ["BOM", "EVENT_STREAM", "chunk", "document", "event", "pieces", "reply", "spoilt_reply", "strange"]

EVENT_STREAM = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
    b"Cache-Control: no-store\r\nTransfer-Encoding: chunked\r\n\r\n"
)
FREE = ("input", "metadata", "inputSchema", "outputSchema")
BOM = "\N{ZERO WIDTH NO-BREAK SPACE}".encode()
CUT = 4
"""Bytes that are missing where a reply breaks off."""


def reply(
    status: int,
    body: bytes = b'{"ok":true}',
    *,
    headers: tuple[str, ...] = (),
    content_type: str = "application/json",
) -> bytes:
    """Write a whole reply."""
    lines = (f"HTTP/1.1 {status} Text", f"Content-Type: {content_type}", f"Content-Length: {len(body)}", *headers)
    return "\r\n".join((*lines, "", "")).encode("latin-1") + body


def spoilt_reply(fault: Answering, *, now: datetime, elsewhere: str) -> bytes:
    """Write the reply of a fault; for an endless one what comes before it trickles.

    Args:
        fault: which; one that is lost has no reply.
        now: what `{soon}` counts from, with a time zone.
        elsewhere: the URL of `{elsewhere}`.
    """
    soon = format_datetime((now + timedelta(seconds=1)).astimezone(UTC), usegmt=True)
    headers = tuple(line.format(soon=soon, elsewhere=elsewhere) for line in fault.headers)
    if fault.manner == "endless":
        head = (f"HTTP/1.1 {fault.status} Text", "Content-Type: text/plain", "Transfer-Encoding: chunked", *headers)
        return "\r\n".join((*head, "", "")).encode("latin-1")
    whole = reply(fault.status, fault.body + b" " * fault.padding, headers=headers, content_type=fault.content_type)
    return whole[:-CUT] if fault.manner == "cut-off" else whole


def chunk(data: bytes) -> bytes:
    """Write one chunk of a chunked body."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def event(shape: Streaming, document: str, name: str) -> bytes:
    """Write one event."""
    lines = [f"event: {name}", f"data: {document}", ""]
    if shape.comments:
        lines = [line for text in lines for line in (": keep-alive", text)]
    return "".join(f"{line}{shape.line_end}" for line in lines).encode()


def strange(shape: Streaming) -> Iterator[bytes]:
    """Yield the events that come before each frame."""
    for document in shape.before:
        yield event(shape, document, "lease")
    if shape.deep:
        yield event(shape, "[" * shape.deep + "]" * shape.deep, "lease")


def pieces(shape: Streaming, data: bytes) -> Iterator[bytes]:
    """Cut bytes as a fault says."""
    begin = 0
    for place in range(1, len(data) if shape.split else 0):
        if _is_cut(shape, data, place):
            yield data[begin:place]
            begin = place
    yield data[begin:]


def _is_cut(shape: Streaming, data: bytes, place: int) -> bool:
    match shape.split:
        case "bytes":
            return True
        case "utf8":
            return data[place] & 0xC0 == 0x80  # noqa: PLR2004 - a byte that goes on with a character
        case _:
            return data[place - 1 : place + 1] == b"\r\n"


def document(shape: Streaming, frame: dict[str, Any]) -> str:
    """Write a frame as JSON text."""
    return msgspec.json.encode(_with_strange_members(frame) if shape.members else frame).decode()


def _with_strange_members(value: Any) -> Any:
    """Add a member to every object of the wire, but not to what is the user's own."""
    if isinstance(value, list):
        return [_with_strange_members(item) for item in cast("list[Any]", value)]
    if not isinstance(value, dict):
        return value
    members = cast("dict[str, Any]", value)
    known = {name: item if name in FREE else _with_strange_members(item) for name, item in members.items()}
    return {"x-new": [{"in": "a later version"}], **known}
