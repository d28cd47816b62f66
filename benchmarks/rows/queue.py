"""Leases that wait: memory of each, and CPU until all are queued and then worked off.

Ten thousand leases of 2.4 KB come while the only slot is taken. The figures are those of one lease; the published SDK,
which needs minutes, gets a tenth of the leases.
"""

from __future__ import annotations

from benchmarks.cases import PACKAGE, Case, Target

from .gateway import Gateway, lease_event
from .scene import PLAIN, run

__all__ = ["cases", "play"]

LEASES = 10_000
BODY = "lorem ipsum " * 160
"""With ids, times and schemas some 2.4 KB of frame."""


async def play(gateway: Gateway, leases: int) -> dict[str, float]:
    """Let so many leases queue up behind one, then let it go."""
    await gateway.warm_up()
    process = gateway.process
    gateway.stream.write(lease_event("first", {"body": "x", "hold": True}))
    await gateway.wait(lambda: bool(gateway.holding))
    await process.wait_quiet()
    memory, began, mark, settled = process.rss(), process.cpu(), gateway.mark(), len(gateway.acked)
    for number in range(leases):
        gateway.stream.write(lease_event(str(number), {"body": BODY}))
    await process.wait_quiet()
    queued, each = process.cpu(), (process.rss() - memory) / leases / 1024
    gateway.release()
    await gateway.wait(lambda: len(gateway.acked) == settled + leases + 1)
    ended = max(came.cpu for came in gateway.acked.values())
    return {
        "kib": each,
        "cpu_us": (ended - began) / leases * 1e6,
        "queued_us": (queued - began) / leases * 1e6,
        "worked_us": (ended - queued) / leases * 1e6,
        "gateway_leases": leases,
        "gateway_busy": gateway.busy(mark),
    }


def cases(*, quick: bool) -> list[Case]:
    """Return the row."""
    leases = LEASES // 20 if quick else LEASES

    def measure(subject: str) -> dict[str, float]:
        return run("queue", subject, leases // 10 if subject == "published" else leases)

    targets = (
        Target(figure="kib", at_most=4, subjects=PACKAGE),
        Target(figure="cpu_us", at_most=1.8, of="floor", subjects=PACKAGE),
    )
    row = f"queue, {leases} leases of 2.4 KB (published: {leases // 10})"
    return [
        Case(row=row, subjects=PLAIN, measure=measure, targets=targets, rounds=1 if quick else 5, slow={"published": 1})
    ]
