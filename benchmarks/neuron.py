"""The package. `python -m benchmarks.neuron BACKEND URL WINDOW WARM_UP LEASES`, BACKEND asyncio, uvloop or trio."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import anyio

from neuron_anyio import capability, open_neuron

from .meter import Meter, report

__all__ = ["run_on"]


def run_on(backend: str, main: Callable[[], Awaitable[None]]) -> None:
    """Run a program on asyncio, uvloop or trio."""
    anyio.run(
        main,
        backend="trio" if backend == "trio" else "asyncio",
        backend_options={"use_uvloop": True} if backend == "uvloop" else {},
    )


async def _main(url: str, window: int, warm_up: int, leases: int) -> None:
    meter, done = Meter(warm_up, leases), anyio.Event()

    @capability("bench/page", concurrency=window)
    async def fetch(page: dict[str, Any]) -> dict[str, Any]:
        if meter.count():
            done.set()
        return {"status": 200, "body": page["body"]}

    async with open_neuron(url, neuron_id="bench", capabilities=[fetch]):
        await done.wait()
    report(meter.figures())


if __name__ == "__main__":
    run_on(sys.argv[1], partial(_main, sys.argv[2], *map(int, sys.argv[3:])))
