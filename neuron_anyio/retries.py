"""Counting failures in a row: how long to wait, and whether it is time to say so again (promise C5)."""

from __future__ import annotations

import random

from .backoff import Backoff

__all__ = ["Retries"]


class Retries:
    """One series of attempts.

    Args:
        backoff: how the waits grow.

    Attributes:
        failures: failed attempts in a row.
    """

    __slots__ = ("_backoff", "failures")

    def __init__(self, backoff: Backoff) -> None:
        self._backoff = backoff
        self.failures: int = 0

    @property
    def last_ceiling(self) -> float:
        """The longest that the last wait could have been, in seconds."""
        return self._backoff.ceiling(max(0, self.failures - 1))

    @property
    def is_telling(self) -> bool:
        """Whether this failure deserves a warning: the first, the third and every tenth do."""
        return self.failures in (1, 3) or self.failures % 10 == 0

    def fail(self, retry_after: float | None = None) -> float:
        """Count a failure; return the seconds to wait before the next attempt.

        Args:
            retry_after: seconds that the other side asked for.
        """
        delay = self._backoff.delay(
            self.failures,
            random=random.random(),  # noqa: S311 - jitter
            retry_after=retry_after,
        )
        self.failures += 1
        return delay

    def reset(self) -> None:
        """Begin anew: an attempt has succeeded."""
        self.failures = 0
