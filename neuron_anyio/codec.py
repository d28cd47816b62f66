"""Bytes to frames and back (wire specification, sections 2 and 3).

`decode_server_frame` is what a neuron reads, `decode_neuron_frame` what a gateway reads. A document either becomes a
frame or raises `FrameError`; there is no third outcome, whatever the bytes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, TypeVar, cast, get_args

import msgspec
from msgspec import Raw, UnsetType
from msgspec.structs import fields, replace

from .errors import FrameError
from .frames import Frame, NackKind, NeuronFrame, Register, ServerFrame
from .utf_8 import is_utf_8

__all__ = [
    "PEEK_BYTES",
    "UnknownFrameType",
    "decode_neuron_frame",
    "decode_server_frame",
    "encode_frame",
    "peek_lease_id",
]

PEEK_BYTES = 16_384
"""How far `peek_lease_id` looks. Members come in the specification's order, so the id stands at the front; the
bound is there because the search runs at Python's speed."""

_PATH_SHOWN = 100  # characters of a member's path in a message; a foreign member's name can have any length


class UnknownFrameType(FrameError):
    """A well-formed JSON object whose `type` names no frame of this direction: a newer gateway's, perhaps."""


class _Head(msgspec.Struct):
    type: str | UnsetType = msgspec.UNSET


_F = TypeVar("_F", bound=Frame)

_server_frame: msgspec.json.Decoder[ServerFrame] = msgspec.json.Decoder(ServerFrame)
_neuron_frame: msgspec.json.Decoder[NeuronFrame] = msgspec.json.Decoder(NeuronFrame)
_head = msgspec.json.Decoder(_Head)
_object = msgspec.json.Decoder(dict[str, Raw])
_array = msgspec.json.Decoder(list[Raw])
_str = msgspec.json.Decoder(str)
_encoder = msgspec.json.Encoder()


def decode_server_frame(data: bytes | bytearray | memoryview | str, *, strict: bool = False) -> ServerFrame:
    """Decode a document that a gateway sent.

    Free-form members come out as `msgspec.Raw`: JSON that is well-formed to its last byte, undecoded. Decoding one
    can still fail for what JSON allows and Python does not hold: a number beyond a float (`msgspec.DecodeError`), or
    nesting near the recursion limit, which is nearer the deeper the caller stands (`RecursionError`). A `Raw` keeps
    `data` alive: take `raw.copy()` before you store it.

    Args:
        data: one JSON document.
        strict: also refuse members that the specification does not know; without it they are ignored.

    Raises:
        UnknownFrameType: `type` is a string, but names no frame that a gateway sends.
        FrameError: the document breaks the specification.
    """
    return _decode(data, _server_frame, strict=strict)


def decode_neuron_frame(data: bytes | bytearray | memoryview | str, *, strict: bool = False) -> NeuronFrame:
    """Decode a document that a neuron sent; arguments and errors are those of `decode_server_frame`."""
    frame = _decode(data, _neuron_frame, strict=strict)
    if isinstance(frame, Register) and len({offer.type for offer in frame.capabilities}) < len(frame.capabilities):
        raise _broken("a type stands there twice", frame_type=frame.type, field="capabilities")
    return frame


def encode_frame(frame: Frame) -> bytes:
    """Encode a frame: compact JSON in UTF-8, members in the specification's order, timestamps in UTC.

    `Raw` members go out byte for byte. If one came from a document with line ends in it, so has the result; it is
    then still one JSON text, but not one line.

    Raises:
        ValueError: a timestamp has no time zone.
    """
    return _encoder.encode(_in_utc(frame, ""))


def peek_lease_id(data: bytes) -> str | None:
    """Find the lease id in a lease document that cannot be decoded, or of which only the beginning is there.

    Only what is certainly the document's own `type` and `lease.leaseId` counts; a lookalike in the task's input or
    inside a string does not, and the first thing that is not JSON ends the search. Looks at the first `PEEK_BYTES`
    bytes, in linear time.

    Returns:
        The id, or None if the document is no lease or one cannot be sure.
    """
    data = data[:PEEK_BYTES]
    frame_type = lease_id = None
    for name, at in _members(data, 0):
        if name == "type":
            frame_type = _string(data, at)
        elif name == "lease":
            lease_id = next((_string(data, place) for key, place in _members(data, at) if key == "leaseId"), None)
        if frame_type and lease_id:
            break
    return (lease_id or None) if frame_type == "lease" else None


# ---- what a document is


def _decode(data: bytes | bytearray | memoryview | str, decoder: msgspec.json.Decoder[_F], *, strict: bool) -> _F:
    try:
        # Of a mutable buffer a copy: the frame's Raw members are views of what they were decoded from.
        text = data if isinstance(data, (bytes, str)) else bytes(data)
        if isinstance(text, bytes) and not is_utf_8(text):
            raise _broken("not UTF-8")  # msgspec does not look at the encoding of what it leaves undecoded
        try:
            frame = decoder.decode(text)
        except msgspec.ValidationError as error:
            raise _explained(str(error), _frame_type(text), decoder) from None
        if strict:
            _refuse_unknown(frame, text, frame_type=frame.type, path="")
    except UnicodeError:
        raise _broken("not UTF-8") from None
    except RecursionError:
        raise _broken("nested too deeply") from None
    except msgspec.DecodeError as error:
        raise _broken(f"not JSON: {str(error).removeprefix('JSON is malformed: ')}") from None
    return frame


def _frame_type(text: bytes | str) -> str | None:
    """Return the document's `type` if it has one; raise `DecodeError` if it is not JSON to its end."""
    try:
        found = _head.decode(text).type
    except msgspec.ValidationError:
        return None
    return None if found is msgspec.UNSET else found


def _refuse_unknown(value: object, text: bytes | str, *, frame_type: str, path: str) -> None:
    """Compare what was decoded with the members in the text, as deep as the specification closes objects."""
    if isinstance(value, msgspec.Struct):
        known = {field.encode_name: field.name for field in fields(value)}
        for name, member in _object.decode(text).items():
            field = f"{path}.{name}" if path else name
            if name in known:
                _refuse_unknown(getattr(value, known[name]), member, frame_type=frame_type, path=field)
            elif name != value.__struct_config__.tag_field:
                raise _broken("unknown to the specification", frame_type=frame_type, field=field)
    elif isinstance(value, tuple):
        items = cast("tuple[object, ...]", value)
        for index, (item, member) in enumerate(zip(items, _array.decode(text), strict=True)):
            _refuse_unknown(item, member, frame_type=frame_type, path=f"{path}[{index}]")


# ---- what is wrong with it


def _broken(rule: str, *, frame_type: str | None = None, field: str = "") -> FrameError:
    subject = f"{frame_type} frame" if frame_type else "document"
    where = f", member {field[:_PATH_SHOWN]!r}" if field else ""
    return FrameError(f"{subject}{where}: {rule}", frame_type=frame_type, field=field)


def _explained(message: str, frame_type: str | None, decoder: msgspec.json.Decoder[Any]) -> FrameError:
    """Say in our words what msgspec found: its own words quote the value here and there."""
    field = ""
    if " - at `$" in message:
        message, _, path = message.rpartition(" - at `$")
        field = path.rstrip("`").removeprefix(".")
    if frame_type not in {kind.__struct_config__.tag for kind in get_args(decoder.type)}:
        if field == "type" and frame_type is not None:
            # The type is the sender's own text: it is told in the attribute, not in the message.
            return UnknownFrameType("document, member 'type': names no frame", frame_type=frame_type, field=field)
        frame_type = None
    missing = re.fullmatch(r"Object missing required field `(\w+)`", message)
    if missing:
        field = f"{field}.{missing[1]}" if field else missing[1]
        return _broken("required, but not there", frame_type=frame_type, field=field)
    if field == "type" and frame_type is not None:
        return _broken("stands there twice and differs", frame_type=frame_type, field=field)
    return _broken(_rule(message, field), frame_type=frame_type, field=field)


def _rule(message: str, field: str) -> str:
    if message.startswith("Expected `str` matching"):
        return "must be a namespaced type, like core/echo"
    if message.startswith("Expected"):
        return f"e{message[1:]}"
    if message.startswith("Invalid RFC3339"):
        return "must be an RFC 3339 date-time"
    if field.endswith("kind"):
        return f"must be one of {', '.join(get_args(NackKind))}"
    if field.endswith("scope"):
        return 'must be "any" or an object with onBehalfOf'
    return "out of range"


# ---- timestamps

_TIMED: tuple[type[object], ...] = (datetime, msgspec.Struct, tuple)
"""What is a timestamp or may hold one."""


def _in_utc(value: object, name: str) -> object:
    """Return a frame with all its timestamps in UTC: the very same one where they are, which is the rule."""
    if isinstance(value, datetime):
        return _moment_in_utc(value, name)
    if isinstance(value, msgspec.Struct):
        changes: dict[str, object] = {}
        for member in value.__struct_fields__:
            old = getattr(value, member)
            if isinstance(old, _TIMED) and (new := _in_utc(old, member)) is not old:
                changes[member] = new
        return replace(value, **changes) if changes else value
    if isinstance(value, tuple):
        items = cast("tuple[object, ...]", value)
        moved = tuple(_in_utc(item, name) for item in items)
        return items if all(new is old for new, old in zip(moved, items, strict=True)) else moved
    return value


def _moment_in_utc(moment: datetime, name: str) -> datetime:
    if moment.tzinfo is UTC:
        return moment
    if moment.utcoffset() is None:
        raise ValueError(f"{name} must have a time zone: datetime.now(UTC) has one, datetime.now() has none")
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        return moment  # the first or last day of the calendar; with its offset it is still RFC 3339


# ---- a look into documents that do not decode

_SPACE = rb"[ \t\r\n]*+"
_STRING = rb'"(?:[^"\\\x00-\x1f]++|\\.)*+"'
_TOKEN = re.compile(
    rb"%b(?:%b|(?P<mark>[{}\[\]:,])|(?:true|false|null|-?[0-9][0-9.eE+-]*+)(?=[ \t\r\n,}\]]))" % (_SPACE, _STRING)
)
_MEMBER = re.compile(rb"%b(?P<before>[{,])%b(?P<name>%b)%b:" % (_SPACE, _SPACE, _STRING, _SPACE))
_TEXT = re.compile(rb"%b(%b)" % (_SPACE, _STRING))


def _members(data: bytes, at: int) -> Iterator[tuple[str | None, int]]:
    """Yield name and place of the value of each member of the object that begins at `at`, as far as it can be read."""
    before = b"{"
    place: int | None = at
    while place is not None and (member := _MEMBER.match(data, place)) and member["before"] == before:
        yield _string(member["name"], 0), member.end()
        place = _end_of_value(data, member.end())
        before = b","


def _end_of_value(data: bytes, at: int) -> int | None:
    opened: list[bytes] = []
    while token := _TOKEN.match(data, at):
        at = token.end()
        mark = token["mark"]
        if mark in (b"{", b"["):
            opened.append(mark)
        elif mark in (b"}", b"]"):
            if not opened or opened.pop() + mark not in (b"{}", b"[]"):
                return None
        elif mark and not opened:
            return None
        if not opened:
            return at
    return None


def _string(data: bytes, at: int) -> str | None:
    found = _TEXT.match(data, at)
    try:
        return _str.decode(found[1]) if found else None
    except (msgspec.DecodeError, UnicodeError):
        return None
