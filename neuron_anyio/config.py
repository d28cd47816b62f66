"""Times and bounds of a neuron, frozen and checked."""

from __future__ import annotations

import math

import msgspec

from .backoff import Backoff

__all__ = ["Limits", "Timing"]

MIB = 1024 * 1024


class Timing(msgspec.Struct, frozen=True, kw_only=True):
    """Every time-out and interval, in seconds.

    Attributes:
        heartbeat: between heartbeats; a short lease makes them more frequent (promise H1).
        request: the whole of one POST, and of opening the stream.
        drain: the whole budget from the request to stop to the exit (promise D1).
        stream_idle: silence after which the stream counts as dead, or None to judge by its comments (promise C6).
        reconnect: back-off between attempts (promise C5).

    Raises:
        ValueError: a time that is not a positive finite number (`drain` may be 0).
    """

    heartbeat: float = 10.0
    request: float = 30.0
    drain: float = 30.0
    stream_idle: float | None = None
    reconnect: Backoff = Backoff(initial=0.5, maximum=30.0)

    def __post_init__(self) -> None:
        for name in ("heartbeat", "request", "drain", "stream_idle"):
            value = getattr(self, name)
            if value is None and name == "stream_idle":
                continue
            if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
                raise ValueError(f"timing.{name} must be a finite number of seconds, not {value!r}")
            if value < 0 or (value == 0 and name != "drain"):
                raise ValueError(f"timing.{name} must be above 0 seconds, not {value!r}")
        if not isinstance(self.reconnect, Backoff):  # pyright: ignore[reportUnnecessaryIsInstance] - users without a checker
            raise ValueError("timing.reconnect must be a Backoff(initial=..., maximum=...)")  # noqa: TRY004 - one kind for all of them


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """Every bound on memory. At a bound work is given back or waits; nothing is dropped in silence.

    Attributes:
        frame_bytes: one event of the stream.
        output_bytes: one handler's output as JSON text.
        queue: leases that wait for a slot.
        queue_bytes: bytes of their inputs and schemas.
        undelivered: results that the gateway has not taken yet; at the bound no handler starts.
        undelivered_age: seconds for which such a result is kept once its lease is gone.
        remembered_cancels: cancels that came before their lease.
        remembered_leases: settled leases that are recognised when they come again.
        remembered_results_bytes: bytes of accepted results that can be sent again.
        reply_bytes: body of one reply; the rest is not read.

    Raises:
        ValueError: a bound that is not a whole number above 0.
    """

    frame_bytes: int = 64 * MIB
    output_bytes: int = 64 * MIB
    queue: int = 10_000
    queue_bytes: int = 256 * MIB
    undelivered: int = 1_000
    undelivered_age: float = 3600.0
    remembered_cancels: int = 1_024
    remembered_leases: int = 10_000
    remembered_results_bytes: int = 16 * MIB
    reply_bytes: int = 64 * 1024

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            value = getattr(self, name)
            whole = isinstance(value, int) or (name == "undelivered_age" and isinstance(value, float))
            if isinstance(value, bool) or not whole or not 0 < value < math.inf:
                raise ValueError(f"limits.{name} must be a whole number above 0, not {value!r}")
