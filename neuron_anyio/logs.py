"""Log lines as programs read them: a stable name and fields with each line, and JSON.

Every line of the package names its event, `log.info("...", extra=named("lease.lost", lease, origin=origin))`; the page
on logging lists the names. The library installs no handler; `JsonFormatter` is for the handler of whoever does.
"""

from __future__ import annotations

import json
import logging
import re
import sys
from collections.abc import MutableMapping
from datetime import UTC, datetime
from typing import Any, Final

from .lease import Lease

__all__ = ["JsonFormatter", "LeaseLogger", "named"]

_OWN: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "event"}
"""Attributes that every record has; the others are its fields."""

_MEMBERS: Final = frozenset({"time", "level", "event", "message", "logger", "exception", "stack"})

_UNSAFE: Final = re.compile("[\x7f-\x9f\u2028\u2029]")
"""What JSON allows in a text, and terminals and readers of lines understand as more than text."""


def named(event: str, lease: Lease | None = None, /, **fields: object) -> dict[str, object]:
    """Return the `extra` of a log line.

    Args:
        event: the line's name, which stays when its wording changes.
        lease: the lease that it is about.
        fields: more of it; numbers and names, never a task's content (promise C9).
    """
    if lease is None:
        return {"event": event, **fields}
    task = lease.delivery.task
    return {
        "event": event,
        "lease_id": lease.delivery.id,
        "task_id": task.task_id,
        "capability": task.capability,
        "attempt": task.attempt,
        **fields,
    }


class LeaseLogger(logging.LoggerAdapter[logging.Logger]):
    """What `ctx.log` is: each line carries `lease_id` (the newest), `task_id`, `capability`, `attempt` and `origin`.

    Args:
        logger: the neuron's.
        lease: the lease.
        origin: the broker that it came from.
    """

    def __init__(self, logger: logging.Logger, lease: Lease, *, origin: str) -> None:
        super().__init__(logger)
        self._lease = lease
        self._origin = origin

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        """Add the fields to those of the line, which go first."""
        own = named("handler.log", self._lease, origin=self._origin)
        return msg, {**kwargs, "extra": {**own, **(kwargs.get("extra") or {})}}


class JsonFormatter(logging.Formatter):
    """Writes a record as one JSON object on one line.

    Members: `time` (RFC 3339, UTC, milliseconds), `level`, `event` where the line has a name, `message`, `logger`, the
    record's fields as they are called, `exception` and `stack` where there is one, and `trace_id` and `span_id` where
    OpenTelemetry has a current span. A field whose name is one of these has an underscore behind it.
    """

    def __init__(self) -> None:
        super().__init__()

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, without its end. Never fails on what a field holds."""
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line: dict[str, object] = {"time": f"{at.removesuffix('+00:00')}Z", "level": record.levelname}
        if (event := getattr(record, "event", None)) is not None:
            line["event"] = _text(event)
        line |= {"message": record.getMessage(), "logger": record.name}
        for name, value in vars(record).items():
            if name not in _OWN:
                line[f"{name}_" if name in _MEMBERS else _text(name)] = value
        for name, value in _current_span().items():
            line.setdefault(name, value)
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        elif record.exc_text:
            line["exception"] = record.exc_text
        if record.stack_info:
            line["stack"] = record.stack_info
        return _written(line)


def _written(line: dict[str, object]) -> str:
    try:
        text = json.dumps(line, ensure_ascii=False, allow_nan=False, default=_text)
    except Exception:  # keys that are no text, numbers that JSON has not, circles, and what objects' own methods raise
        text = json.dumps({name: _plain(value) for name, value in line.items()}, ensure_ascii=False)
    text = text.encode("utf-8", "replace").decode()
    return _UNSAFE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def _plain(value: object) -> object:
    try:
        json.dumps(value, allow_nan=False)
    except Exception:  # as above
        return _text(value)
    return value


def _text(value: object) -> str:
    try:
        return str(value)
    except Exception:  # an object's own methods may raise anything
        return f"<{type(value).__name__}>"


def _current_span() -> dict[str, str]:
    """Return the ids of OpenTelemetry's current span, without loading it for those who have none."""
    trace: Any = sys.modules.get("opentelemetry.trace")
    span = None if trace is None else trace.get_current_span().get_span_context()
    if span is None or not span.is_valid:
        return {}
    return {"trace_id": f"{span.trace_id:032x}", "span_id": f"{span.span_id:016x}"}
