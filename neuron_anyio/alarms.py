"""One clock for all that is due in a neuron: one task, however many alarms there are.

A task that only waits for its time costs some 5 KiB and a turn of the loop whenever its time changes; an alarm costs
a few words, and setting it to a later time than the clock's next one costs nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from .wakeup import Wakeup

__all__ = ["Alarm", "Alarms"]


class Alarm:
    """Rings once at the time that it is set to. In the loop's thread only.

    Attributes:
        due: when it rings next, in the clock's seconds; `math.inf` while it is not set.
    """

    __slots__ = ("_alarms", "_ring", "due")

    def __init__(self, alarms: Alarms, ring: Callable[[], None]) -> None:
        self.due: float = math.inf
        self._alarms = alarms
        self._ring = ring

    def set(self, due: float | None) -> None:
        """Ring at this time and at no other, None for never."""
        self.due = math.inf if due is None else due
        self._alarms.expect(self.due)

    def advance(self, due: float | None) -> None:
        """Ring at this time at the latest, None for no matter when."""
        if due is not None and due < self.due:
            self.set(due)

    def look(self, now: float) -> None:
        """Ring if it is time. What rings may set the alarm anew."""
        if self.due <= now:
            self.due = math.inf
            self._ring()


class Alarms:
    """The clock of one neuron.

    Args:
        clock: seconds, monotonic, the loop's.
    """

    __slots__ = ("_alarms", "_clock", "_is_closed", "_next", "_wakeup")

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._alarms: list[Alarm] = []
        self._next = -math.inf
        self._wakeup = Wakeup()
        self._is_closed = False

    def add(self, ring: Callable[[], None]) -> Alarm:
        """Make an alarm that calls a function in the task of the clock."""
        alarm = Alarm(self, ring)
        self._alarms.append(alarm)
        return alarm

    def expect(self, due: float) -> None:
        """Note that an alarm was set, and wake the clock if it would sleep past it."""
        if due < self._next:
            self._next = due
            self._wakeup.notify()

    def close(self) -> None:
        """Ring no more, and let `run` return."""
        self._is_closed = True
        self._alarms.clear()
        self._wakeup.notify()

    def look_up(self) -> None:
        """Let `run` see whether it is to return."""
        self._wakeup.notify()

    async def run(self, until: Callable[[], bool] | None = None) -> None:
        """Ring until closed. One task at a time.

        Args:
            until: return when this holds instead, closed or not; `look_up` tells that it may.
        """
        while not (self._is_closed if until is None else until()):
            now = self._clock()
            self._next = -math.inf  # what rings need not wake the clock: it looks at all of them before it sleeps
            for alarm in self._alarms:
                alarm.look(now)
            self._next = min((alarm.due for alarm in self._alarms), default=math.inf)
            await self._wakeup.wait(until=None if self._next == math.inf else self._next)
