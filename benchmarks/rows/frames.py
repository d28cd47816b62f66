"""Large inputs: CPU of a lease frame of 20 MB and of 64 MB, from the stream to the handler's start and to the ack.

The input is one long text, judged by the frame's schema. The second size is 3.2 times the first; a client that looks
at every byte a fixed number of times needs 3.2 times the CPU.
"""

from __future__ import annotations

from benchmarks.cases import PACKAGE, Case, Target

from .gateway import Gateway
from .scene import PLAIN, run

__all__ = ["cases", "play"]

MB = 1_000_000
TIMES = 3.2


async def play(gateway: Gateway, size: int) -> dict[str, float]:
    """Send one lease with so many bytes of input."""
    await gateway.warm_up()
    text = "lorem ipsum " * (size // 12)
    before, mark = gateway.process.cpu(), gateway.mark()
    await gateway.run("large", {"body": text})
    ack = gateway.acked["large"]
    busy = gateway.busy(mark)
    return {"cpu_s": ack.cpu - before, "start_s": ack.output["cpu"] - before, "gateway_busy": busy}


def cases(*, quick: bool) -> list[Case]:
    """Return the row."""
    small = 2 * MB if quick else 20 * MB

    def measure(subject: str) -> dict[str, float]:
        # The published SDK reads in quadratic time: what it needs for 20 MB is compared with a smaller frame instead.
        other = int(small / TIMES) if subject == "published" else int(small * TIMES)
        first, second = run("frames", subject, small), run("frames", subject, other)
        growth = first["cpu_s"] / second["cpu_s"] if other < small else second["cpu_s"] / first["cpu_s"]
        figures = {"cpu_s": first["cpu_s"], "start_s": first["start_s"]}
        if other > small:
            figures |= {"large_cpu_s": second["cpu_s"], "large_start_s": second["start_s"]}
        return figures | {"growth_times": growth, "gateway_busy": max(first["gateway_busy"], second["gateway_busy"])}

    sizes = f"{small / MB:g} MB, large {small * TIMES / MB:g} MB"
    targets = (
        Target(figure="cpu_s", at_most=1.2, of="floor", subjects=PACKAGE),
        Target(figure="large_cpu_s", at_most=1.2, of="floor", subjects=PACKAGE),
        Target(figure="growth_times", at_most=1.2 * TIMES, subjects=PACKAGE),
    )
    return [
        Case(
            row=f"frames, {sizes}",
            subjects=PLAIN,
            measure=measure,
            targets=targets,
            rounds=1 if quick else 5,
            slow={"published": 1},
        )
    ]
