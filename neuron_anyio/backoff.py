"""How long to wait before the next try (promise C5)."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Any

import msgspec

__all__ = ["RETRY_AFTER_MAX", "Backoff", "parse_retry_after"]

RETRY_AFTER_MAX = 300.0
"""Seconds. A server that asks for more has most likely miscounted, and a neuron that is silent for hours looks dead."""


class Backoff(msgspec.Struct, frozen=True):
    """Exponential back-off with full jitter.

    Attributes:
        initial: seconds, the longest wait after the first failure.
        maximum: seconds, the longest wait ever.

    Raises:
        ValueError: one of them is not a positive, finite number, or `maximum` is smaller than `initial`.
    """

    initial: float = 0.5
    maximum: float = 30.0

    def __post_init__(self) -> None:
        for name, value in (("initial", self.initial), ("maximum", self.maximum)):
            if not _is_number(value) or not 0 < value < math.inf:
                raise ValueError(f"{name} must be a positive, finite number of seconds, not {value!r}")
        if self.maximum < self.initial:
            raise ValueError(f"maximum must be at least initial ({self.initial!r}), not {self.maximum!r}")

    def ceiling(self, failures: int) -> float:
        """Return the longest wait, in seconds, after `failures` earlier failures in a row (0: the first one)."""
        try:
            return min(math.ldexp(self.initial, failures), self.maximum)
        except OverflowError:
            return self.maximum

    def delay(self, failures: int, *, random: float, retry_after: float | None = None) -> float:
        """Return how many seconds to wait before the next try.

        Args:
            failures: earlier failures in a row, as in `ceiling`.
            random: a number from 0 to 1, evenly distributed: the share of the ceiling to wait.
            retry_after: seconds that the server asked for. No wait is shorter, up to `RETRY_AFTER_MAX`.
        """
        floor = 0.0 if retry_after is None else min(retry_after, RETRY_AFTER_MAX)
        return max(random * self.ceiling(failures), floor)


def parse_retry_after(value: str, *, now: datetime) -> float | None:
    """Read the value of a `Retry-After` header: seconds, or a date in one of HTTP's three forms.

    Args:
        value: the header's text.
        now: with a time zone; what a date is counted from.

    Returns:
        Seconds from 0 to `RETRY_AFTER_MAX`, or None if the text says nothing that one could follow.
    """
    text = value.strip()
    if text.isascii() and text.isdigit():
        return min(float(text), RETRY_AFTER_MAX)  # unlike int(), float() takes any number of digits
    from email.utils import parsedate_to_datetime  # noqa: PLC0415 - brings the `email` package; few servers send a date

    try:
        date = parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    if date.tzinfo is None:
        date = date.replace(tzinfo=UTC)  # the asctime form names no zone, and HTTP has only one
    return min(max((date - now).total_seconds(), 0.0), RETRY_AFTER_MAX)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
