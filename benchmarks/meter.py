"""What a process measures of itself."""

from __future__ import annotations

import time

import msgspec

__all__ = ["Meter", "Reading"]


class Reading(msgspec.Struct, frozen=True):
    """Averages over the leases that were measured.

    Attributes:
        cpu_us: CPU time of the process per lease, user and system, microseconds.
        busy: the share of the time that the process was on a CPU, 0 to 1.
    """

    cpu_us: float
    busy: float


class Meter:
    """Counts leases, and measures from the last of the warm-up to the last of all.

    Both ends are the same point in a lease's life, so as much of the work lies before the one as before the other.

    Args:
        warm_up: leases that are not measured, at least 1.
        leases: leases that are.
    """

    def __init__(self, warm_up: int, leases: int) -> None:
        self._first = warm_up
        self._leases = leases
        self._counted = 0
        self._began = self._ended = (0.0, 0.0)

    def count(self) -> bool:
        """Count a lease; return whether it was the last."""
        self._counted += 1
        if self._counted == self._first:
            self._began = (time.process_time(), time.perf_counter())
        if self._counted < self._first + self._leases:
            return False
        self._ended = (time.process_time(), time.perf_counter())
        return True

    def report(self) -> None:
        """Print the reading for the process that started this one."""
        assert self._counted == self._first + self._leases, f"{self._counted} leases came"
        cpu, wall = (end - start for start, end in zip(self._began, self._ended, strict=True))
        print(msgspec.json.encode(Reading(cpu_us=cpu / self._leases * 1e6, busy=cpu / wall)).decode(), flush=True)
