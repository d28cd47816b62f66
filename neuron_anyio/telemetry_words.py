"""What spans and metrics say of outcomes, brokers and exceptions: attributes of few values, without content."""

from __future__ import annotations

import re
import traceback
from contextlib import suppress
from typing import Final, TypeAlias
from urllib.parse import urlsplit

from .brokers._bigbrain_wire import settlement_frame
from .frames import Nack
from .model import Completed, Failed, Outcome

__all__ = ["Attributes", "said_of_error", "said_of_outcome", "server_of"]

Attributes: TypeAlias = dict[str, str | int]

CODE: Final = re.compile(r"[\w.:/-]{1,64}", re.ASCII)
"""A handler's own code that may be an attribute; other text might be anything, and a new one each time."""

PORTS: Final = {"http": 80, "https": 443}

OUTCOMES: Final = {"GivenBack": "given_back"}
"""Names of outcomes that are two words."""


def said_of_outcome(outcome: Outcome) -> Attributes:
    """Say an outcome, with the code of its nack; a failure's is `error.type`, too."""
    kind = type(outcome).__name__
    said: Attributes = {"neuron.outcome": OUTCOMES.get(kind, kind.lower())}
    if isinstance(outcome, Completed):
        return said
    frame = settlement_frame("", outcome)
    code = frame.code if isinstance(frame, Nack) else None
    if isinstance(outcome, Failed):
        code = code if code is not None and CODE.fullmatch(code) else outcome.kind.name
        said["error.type"] = code
    if code is not None:
        said["neuron.nack.code"] = code
    return said


def server_of(origin: str) -> Attributes:
    """Say where a broker is, as far as its origin tells."""
    try:
        parts = urlsplit(origin)
        host, port = parts.hostname, parts.port
    except ValueError:
        return {}
    if parts.scheme not in PORTS or not host:
        return {}
    return {"server.address": host, "server.port": port or PORTS[parts.scheme]}


def said_of_error(error: Exception, *, with_message: bool) -> Attributes:
    """Say an exception's class and where it was raised, and its message where that is asked.

    Its causes are left out, for their messages.
    """
    kind = type(error)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    said: Attributes = {"exception.type": name}
    with suppress(Exception):  # an exception's own methods may raise anything, and it is the one that counts
        said["exception.stacktrace"] = "".join(traceback.format_tb(error.__traceback__))
        if with_message:
            said["exception.message"] = str(error)
    return said
