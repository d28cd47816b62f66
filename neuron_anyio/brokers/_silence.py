"""When a silent stream counts as dead (promise C6)."""

from __future__ import annotations

import math

__all__ = ["Silence"]

COMMENTS = 3
"""Keep-alive comments after which their rhythm is known."""

TIMES_GAP = 3.0
"""A silence of so many of their longest gaps is no mere delay."""

AT_LEAST = 15.0
"""Seconds of silence that are never held against a stream: a busy gateway, a slow road."""


class Silence:
    """Judges one stream by its own rhythm.

    Args:
        idle: seconds of silence that the user set, or None.
    """

    __slots__ = ("_comments", "_heard", "_idle", "_last_comment", "_longest", "limit")

    def __init__(self, *, idle: float | None) -> None:
        self._idle = idle
        self._comments = 0
        self._last_comment: float | None = None
        self._longest = 0.0
        self._heard: float | None = None
        self.limit = math.inf if idle is None else idle

    @property
    def has_comments(self) -> bool:
        """Whether the stream has a rhythm to be judged by."""
        return self._comments >= COMMENTS

    def heard(self, comments: int, now: float) -> None:
        """Note that something came; `comments` is the stream's count so far."""
        self._heard = now
        if comments == self._comments:
            return
        if self._last_comment is not None:
            self._longest = max(self._longest, now - self._last_comment)
        self._last_comment = now
        self._comments = comments
        if self._idle is None and self.has_comments:
            self.limit = max(AT_LEAST, TIMES_GAP * self._longest)

    def deadline(self, now: float) -> float:
        """Return until when something has to come; infinity while nothing is known."""
        return (now if self._heard is None else self._heard) + self.limit
