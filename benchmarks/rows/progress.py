"""A handler that reports its progress ten thousand times, while another lease after the other runs beside it.

Each call is followed by a checkpoint, as in a handler that does something between two of them. The round trips of the
others are taken by the gateway, from the lease to the ack. `last_missing` is 1 where the newest progress that came
before the ack was not that of the last call. The published SDK gets a tenth of the calls.
"""

from __future__ import annotations

import itertools
from statistics import quantiles

from benchmarks.cases import PACKAGE, Case, Target

from .gateway import Gateway, lease_event
from .scene import PLAIN, run

__all__ = ["cases", "play"]

CALLS = 10_000


async def play(gateway: Gateway, calls: int) -> dict[str, float]:
    """Run one lease that calls so often, and others until its ack."""
    await gateway.warm_up()
    before, mark = gateway.process.cpu(), gateway.mark()
    gateway.stream.write(lease_event("telling", {"body": "x", "calls": calls}))
    trips: list[float] = []
    for number in itertools.count():
        if "telling" in gateway.acked:
            break
        trips.append(await gateway.run(f"beside-{number}", {"body": "x"}))
    ack, busy = gateway.acked["telling"], gateway.busy(mark)
    await gateway.process.wait_quiet()  # for what would come too late
    told = [int(message) for message, _ in gateway.progress]
    in_time = [int(message) for message, came in gateway.progress if came.at < ack.at]
    trips = trips if len(trips) > 1 else trips * 2
    return {
        "posts": len(told),
        "p99_ms": quantiles(trips, n=100, method="inclusive")[98] * 1000,
        "p50_ms": quantiles(trips, n=100, method="inclusive")[49] * 1000,
        "gateway_trips": len(trips),
        "out_of_order": sum(later <= earlier for earlier, later in itertools.pairwise(told)),
        "last_missing": float(in_time[-1:] != [calls - 1]),
        "cpu_us": (ack.cpu - before) / calls * 1e6,
        "gateway_busy": busy,
    }


def cases(*, quick: bool) -> list[Case]:
    """Return the row."""
    calls = CALLS // 10 if quick else CALLS

    def measure(subject: str) -> dict[str, float]:
        return run("progress", subject, calls // 10 if subject == "published" else calls, concurrency=2)

    targets = (
        Target(figure="posts", at_most=99, subjects=PACKAGE),
        Target(figure="out_of_order", at_most=0, subjects=PACKAGE),
        Target(figure="last_missing", at_most=0, subjects=PACKAGE),
        Target(figure="p99_ms", at_most=10, subjects=PACKAGE),
    )
    row = f"progress, {calls} calls (published: {calls // 10})"
    return [
        Case(row=row, subjects=PLAIN, measure=measure, targets=targets, rounds=1 if quick else 5, slow={"published": 1})
    ]
