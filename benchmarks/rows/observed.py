"""Another process's CPU time and memory, read from outside, so that every subject is measured alike. Linux only."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

__all__ = ["Observed"]

_PAGE = os.sysconf("SC_PAGE_SIZE")

QUIET = 0.2
"""Seconds without work after which a process counts as quiet, twice in a row."""

NOISE = 0.002
"""Seconds of CPU in that time that are no work: a timer here and there."""


class Observed:
    """A process, seen from outside.

    Args:
        pid: its number; it has to be of the same user.
    """

    def __init__(self, pid: int) -> None:
        self._clock = (~pid << 3) | 2  # CPU time of a whole process, as clock_getcpuclockid(3) makes it
        self._statm = Path(f"/proc/{pid}/statm")

    def cpu(self) -> float:
        """Return its CPU time so far, user and system, seconds."""
        return time.clock_gettime(self._clock)

    def rss(self) -> int:
        """Return its resident memory, bytes."""
        return int(self._statm.read_text(encoding="ascii").split()[1]) * _PAGE

    async def wait_quiet(self) -> None:
        """Wait until it has nothing to do."""
        calm, before = 0, self.cpu()
        while calm < 2:
            await asyncio.sleep(QUIET)
            now = self.cpu()
            calm = calm + 1 if now - before < NOISE else 0
            before = now
