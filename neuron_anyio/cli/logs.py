"""Logging of the command line. The library itself installs no handler."""

from __future__ import annotations

import logging
import sys
import time

__all__ = ["set_up_logging"]

CHATTY = ("httpx", "httpcore", "hypercorn", "hpack")
"""Libraries whose INFO lines repeat what ours say."""


class _Stderr(logging.Handler):
    """Writes to what `sys.stderr` is at that moment: a live table replaces it while it is shown."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            sys.stderr.write(self.format(record) + "\n")
            sys.stderr.flush()
        except Exception:
            self.handleError(record)


def set_up_logging(level: str) -> None:
    """Log plain lines to stderr: time in UTC, level, message.

    Args:
        level: a level's name.
    """
    formatter = logging.Formatter("%(asctime)s.%(msecs)03dZ %(levelname)s %(message)s", "%Y-%m-%dT%H:%M:%S")
    formatter.converter = time.gmtime
    handler = _Stderr()
    handler.setFormatter(formatter)
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    for name in CHATTY:
        logging.getLogger(name).setLevel(max(logging.WARNING, logging.root.level))
