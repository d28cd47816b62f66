"""Secrets that tests plant, and log lines that show one."""

from __future__ import annotations

import logging
import re
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

__all__ = ["SECRET", "leaks_in", "watched_lines"]

SECRET = "planted-secret"
"""What tests of logs put into tokens, inputs, outputs and the like, with more behind it."""

MARKERS = re.compile(f"{SECRET}|s3cret|sEcReT|my-secret-output|dev1ce-code|WXYZ-1234|minted-token")
"""The first, and what other tests use: none of it may be logged, in whatever test."""

PACKAGE = str(Path(__file__).resolve().parents[1] / "neuron_anyio")


def leaks_in(record: logging.LogRecord) -> list[str]:
    """Return the secrets in a record: in its message, arguments, fields, exception or stack."""
    said = [record.getMessage(), *(f"{value} {value!r}" for value in vars(record).values())]
    if record.exc_info and record.exc_info[1] is not None:
        said += traceback.format_exception(record.exc_info[1])
    return [f"{record.filename}:{record.lineno}: {found[0]}" for text in said for found in MARKERS.finditer(text)]


@contextmanager
def watched_lines() -> Iterator[list[str]]:
    """Collect the secrets in the lines of the package, whichever logger they go to; those of handlers are their own."""
    found: list[str] = []
    make = logging.Logger.makeRecord

    def watched(self: logging.Logger, *args: Any, **kwargs: Any) -> logging.LogRecord:
        record = make(self, *args, **kwargs)
        if record.pathname.startswith(PACKAGE):
            found.extend(leaks_in(record))
        return record

    logging.Logger.makeRecord = watched  # type: ignore[method-assign] # the one place that has seen all of a record
    try:
        yield found
    finally:
        logging.Logger.makeRecord = make  # type: ignore[method-assign] # as it was
