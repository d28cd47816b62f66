"""CPU of a worker script from its start to its first `register`, interpreter and imports included.

The gateway reads it at the moment when the frame has come: what the process does until then is all that a gateway
waits for. Compiled files are there already, but for the first round's.
"""

from __future__ import annotations

from benchmarks.cases import Case, Target

from .gateway import Gateway
from .scene import PLAIN, run

__all__ = ["cases", "play"]


async def play(gateway: Gateway) -> dict[str, float]:
    """Wait for the first `register`."""
    came = await gateway.wait_registered()
    return {"cpu_ms": came.cpu * 1000}


def cases(*, quick: bool) -> list[Case]:
    """Return the row."""

    def measure(subject: str) -> dict[str, float]:
        return run("start", subject, script=True)

    targets = (
        Target(figure="cpu_ms", at_most=250, subjects=("asyncio", "uvloop")),
        Target(figure="cpu_ms", at_most=400, subjects=("trio",)),
    )
    return [Case(row="start", subjects=PLAIN, measure=measure, targets=targets, rounds=1 if quick else 7)]
