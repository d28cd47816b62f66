"""What a process measures of itself. Needs nothing but Python, as the published SDK's environment has it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable

__all__ = ["Meter", "report"]


class Meter:
    """Counts leases, and measures from the last of the warm-up to the last of all.

    Both ends are the same point in a lease's life, so as much of the work lies before the one as before the other.

    Args:
        warm_up: leases that are not measured, at least 1.
        leases: leases that are.
        others: returns the CPU time of other processes that work for this one, seconds.
    """

    def __init__(self, warm_up: int, leases: int, *, others: Callable[[], float] = float) -> None:
        self._first = warm_up
        self._leases = leases
        self._others = others
        self._counted = 0
        self._began = self._ended = (0.0, 0.0)

    def count(self) -> bool:
        """Count a lease; return whether it was the last."""
        self._counted += 1
        if self._counted == self._first:
            self._began = self._now()
        if self._counted < self._first + self._leases:
            return False
        self._ended = self._now()
        return True

    def figures(self) -> dict[str, float]:
        """Return the CPU time of the process per lease (user and system), and its share of a CPU, 0 to 1."""
        assert self._counted == self._first + self._leases, f"{self._counted} leases came"
        cpu, wall = (end - start for start, end in zip(self._began, self._ended, strict=True))
        return {"cpu_us": cpu / self._leases * 1e6, "busy": cpu / wall}

    def _now(self) -> tuple[float, float]:
        return time.process_time() + self._others(), time.perf_counter()


def report(figures: dict[str, float]) -> None:
    """Print figures for the process that started this one."""
    print(json.dumps(figures), flush=True)
