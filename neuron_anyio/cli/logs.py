"""Logging of the command line. The library itself installs no handler."""

from __future__ import annotations

import logging
import sys
import time

from neuron_anyio.logs import JsonFormatter

__all__ = ["set_up_logging"]

CHATTY = ("httpx", "httpcore", "hypercorn", "hpack", "watchfiles")
"""Libraries whose INFO lines repeat what ours say."""


class _Stderr(logging.Handler):
    """Writes to what `sys.stderr` is at that moment: a live table replaces it while it is shown."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            sys.stderr.write(self.format(record) + "\n")
            sys.stderr.flush()
        except Exception:
            self.handleError(record)


def set_up_logging(level: str, form: str = "text") -> None:
    """Log to stderr.

    Args:
        level: a level's name.
        form: `text` for plain lines with time in UTC, level and message; `json` for those of `JsonFormatter`.
    """
    plain = logging.Formatter("%(asctime)s.%(msecs)03dZ %(levelname)s %(message)s", "%Y-%m-%dT%H:%M:%S")
    plain.converter = time.gmtime
    handler = _Stderr()
    handler.setFormatter(JsonFormatter() if form == "json" else plain)
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    for name in CHATTY:
        logging.getLogger(name).setLevel(max(logging.WARNING, logging.root.level))
