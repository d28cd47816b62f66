"""What handlers say they did, one line of JSON each: from this process or from another."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable

import msgspec

__all__ = ["WorkLog", "append_to"]


class WorkLog:
    """Notes starts and ends of handlers. Safe from threads.

    Args:
        write: takes a line; `Book.note_work` in the gateway's own process, `append_to(path)` in another.
    """

    def __init__(self, write: Callable[[str], object]) -> None:
        self._write = write
        self._runs = itertools.count(1)

    def started(self, task_id: str) -> str:
        """Note that a handler starts. Returns the run's name, to be given to `ended`."""
        run = f"{os.getpid()}-{id(self):x}-{next(self._runs)}"
        self._note(task_id, run, "started")
        return run

    def ended(self, task_id: str, run: str) -> None:
        """Note that a handler has ended, in whatever way."""
        self._note(task_id, run, "ended")

    def _note(self, task_id: str, run: str, what: str) -> None:
        # The one clock that all processes of a machine share; the loop's own does not have to be it.
        line = {"task": task_id, "run": run, "what": what, "at": time.monotonic()}
        self._write(msgspec.json.encode(line).decode())


def append_to(path: str | os.PathLike[str]) -> Callable[[str], object]:
    """Return a writer that appends lines to a file, each in one piece and safe once it returns from a kill."""

    def write(line: str) -> None:
        handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(handle, f"{line}\n".encode())
        finally:
            os.close(handle)

    return write
