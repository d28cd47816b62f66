"""What neurons post, from the document to the ledger, by whatever road it came."""

from __future__ import annotations

from typing import Any

import msgspec

from neuron_anyio.codec import decode_neuron_frame
from neuron_anyio.errors import FrameError

from .gateway import Gateway
from .principals import ANYBODY, Principal
from .problems import Refused, problem

__all__ = ["POSTS", "check_readable", "check_size", "take_post"]

POSTS = frozenset({"register", "update-capability", "heartbeat", "ack", "nack", "progress"})
"""The types of the frames that neurons post, each on a route of its own."""

SPARE_LEVELS = 100
"""Nesting that must be left over where JSON is taken: its readers see it inside a frame, and from a deeper stack."""

_encoder = msgspec.json.Encoder()


async def take_post(gateway: Gateway, kind: str, body: bytes, principal: Principal = ANYBODY) -> None:
    """Take one document that a neuron posted on the route of a type.

    Raises:
        Refused: as the problem says.
    """
    try:
        frame = decode_neuron_frame(body)
    except FrameError as error:
        raise Refused(problem(400, "invalid-frame", str(error))) from None
    for name in ("output", "details", "data"):
        if (value := getattr(frame, name, None)) is not None:
            check_readable(value, f"{frame.type}: {name}", code="invalid-frame")
    if frame.type != kind:
        detail = f"type is {frame.type!r}; post it to /neuron/{frame.type}"
        raise Refused(problem(400, "wrong-route", detail))
    await gateway.handle(frame, principal)


def check_size(size: int, limit: int) -> None:
    """Refuse a body that is larger than `limit` bytes.

    Raises:
        Refused: it is.
    """
    if size > limit:
        raise Refused(problem(413, "body-too-large", f"the body is longer than the {limit} bytes allowed here"))


def check_readable(value: Any, name: str, *, code: str) -> None:
    """Refuse what is JSON by its grammar, and yet no reader's: it would spoil each frame and listing that it is in.

    Args:
        value: decoded, or `msgspec.Raw`.
        name: of the member that holds it.
        code: of the refusal.

    Raises:
        Refused: a number that is no finite float, like 1e999, or too many levels.
    """
    try:
        msgspec.json.decode(b"[" * SPARE_LEVELS + _encoder.encode(value) + b"]" * SPARE_LEVELS)
    except RecursionError:
        raise Refused(problem(400, code, f"{name} is nested too deeply to be read; send it flatter")) from None
    except (msgspec.DecodeError, UnicodeDecodeError):
        detail = f"{name} is not readable as JSON: a number is out of range, like 1e999; send it as a string"
        raise Refused(problem(400, code, detail)) from None
