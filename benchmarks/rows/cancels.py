"""From the cancel frame that the gateway writes to the nack `cancelled` that it gets, in milliseconds.

One and 500 handlers run; the oldest is called off, again and again, and then all that run at once.
"""

from __future__ import annotations

from functools import partial
from statistics import median

import msgspec

from benchmarks.cancel_gateway import Times
from benchmarks.cases import PACKAGE, Case, Target
from benchmarks.processes import ended, module, pair, published_python

__all__ = ["cases", "measure"]

SETTLE = 0.005
"""Seconds from the last start to the cancel: handlers wait for something then."""


def measure(subject: str, *, running: int, cancels: int) -> dict[str, float]:
    """Call one subject's handlers off."""

    def client(url: str) -> list[str]:
        if subject == "published":
            return module("cancel_published", running, url, python=published_python())
        if subject == "floor":
            return module("cancel_floor", running, url)
        return module("cancel_neuron", subject, "loop", running, url)

    with pair(module("cancel_gateway", cancels, SETTLE, running, 0), client) as (gateway, _):
        times = msgspec.json.decode(ended(gateway), type=Times)
    found = {"nacked_ms": median(times.nacked) * 1000, "gateway_busy": times.busy}
    return found | {"all_nacked_ms": times.together * 1000} if running > 1 else found


def cases(*, quick: bool) -> list[Case]:
    """Return a row for one handler, and one for many."""
    cancels = 40 if quick else 200
    return [
        Case(
            row=f"cancels, {running} running",
            subjects=("published", "floor", *PACKAGE),
            measure=partial(measure, running=running, cancels=cancels),
            targets=(
                Target(figure="nacked_ms", at_most=1.0),
                *([Target(figure="all_nacked_ms", at_most=150.0)] if running > 1 else []),
            ),
            rounds=1 if quick else 5,
            slow={"published": 1 if quick else 3},
        )
        for running in ((1, 50) if quick else (1, 500))
    ]
