"""Give-backs at a walking pace, so that a gateway that redelivers at once does not spin (promise L2)."""

from __future__ import annotations

__all__ = ["Pacer"]

FIRST = 0.1
"""Seconds of the first pause: long beside a round trip, short beside a lease."""

LONGEST = 5.0
"""Seconds of the longest pause: a gateway's reaper is not faster."""


class Pacer:
    """Says when the next give-back of one capability may go out.

    The first goes at once and opens a pause. What is given back in a pause goes out together at its end, which
    opens a pause of twice the length. A pause in which nothing is given back ends the series. So the number of rounds
    between gateway and neuron is bounded, the number of leases in a round is not.
    """

    __slots__ = ("_end", "_pause", "_waiting")

    def __init__(self) -> None:
        self._pause = 0.0
        self._end = float("-inf")
        self._waiting = False

    def due(self, now: float) -> float:
        """Return when a give-back decided at `now` may be sent, in seconds of the same clock."""
        if self._waiting and now >= self._end:
            self._pause = min(LONGEST, self._pause * 2)
            self._end += self._pause
            self._waiting = False
        if now < self._end:
            self._waiting = True
            return self._end
        self._pause = FIRST
        self._end = now + FIRST
        return now
