"""Idle neurons in one process: memory of each, and CPU until all are registered and have sent a heartbeat.

One neuron is there before the measurement begins, so that what is imported or made once falls on nobody. The CPU is
that of a thousand. The floor sends no heartbeats, and a quick run does not wait for them. The published SDK, which
needs minutes, gets a tenth of the neurons; its CPU is multiplied by ten.
"""

from __future__ import annotations

import resource

from benchmarks.cases import PACKAGE, Case, Target

from .gateway import Gateway
from .scene import PLAIN, run

__all__ = ["cases", "play"]

NEURONS = 1_000


async def play(gateway: Gateway, neurons: int, heartbeats: int) -> dict[str, float]:
    """Let so many neurons register beside the first; wait for a round of heartbeats where there are any."""
    await gateway.wait_registered()
    await gateway.wait(lambda: bool(gateway.holding))
    process = gateway.process
    await process.wait_quiet()
    memory, began, mark = process.rss(), process.cpu(), gateway.mark()
    gateway.release()
    await gateway.wait(lambda: len(gateway.registered) == neurons + 1)
    last, busy = max(came.at for came in gateway.registered.values()), gateway.busy(mark)
    await process.wait_quiet()  # until then the answers to the last of them are worked off
    before = process.cpu()
    registered, beaten = before - began, 0.0
    if heartbeats:
        await gateway.wait(lambda: sum(came.at > last for came in gateway.heartbeats.values()) > neurons)
        beaten = max(came.cpu for came in gateway.heartbeats.values()) - before
        await process.wait_quiet()
    scale = NEURONS / neurons
    return {
        "kib": (process.rss() - memory) / neurons / 1024,
        "cpu_s": (registered + beaten) * scale,
        "registered_s": registered * scale,
        "heartbeats_s": beaten * scale,
        "gateway_neurons": neurons,
        "gateway_busy": busy,
    }


def cases(*, quick: bool) -> list[Case]:
    """Return the row."""
    neurons = NEURONS // 20 if quick else NEURONS

    def measure(subject: str) -> dict[str, float]:
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))  # the processes inherit it; two connections each
        several = neurons // 10 if subject == "published" else neurons
        beating = not quick and subject != "floor"
        return run("idle", subject, several, int(beating), neurons=several)

    targets = (
        Target(figure="kib", at_most=40, subjects=PACKAGE),
        Target(figure="cpu_s", at_most=2.5, subjects=PACKAGE),
    )
    row = f"idle, {neurons} neurons (published: {neurons // 10}), CPU of {NEURONS}"
    return [
        Case(row=row, subjects=PLAIN, measure=measure, targets=targets, rounds=1 if quick else 3, slow={"published": 1})
    ]
