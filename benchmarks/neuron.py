"""The package. `python -m benchmarks.neuron BACKEND PORT WINDOW WARM_UP LEASES`, BACKEND asyncio, uvloop or trio."""

from __future__ import annotations

import sys

import anyio
import msgspec

from neuron_anyio import capability, open_neuron

from .load import CAPABILITY
from .meter import Meter

__all__ = ["BACKENDS"]

BACKENDS = ("asyncio", "uvloop", "trio")


class Page(msgspec.Struct):
    """What comes in, about 1 KB."""

    url: str
    body: str


class Fetched(msgspec.Struct):
    """What goes out."""

    status: int
    size: int


async def _main(port: int, window: int, warm_up: int, leases: int) -> None:
    meter, done = Meter(warm_up, leases), anyio.Event()

    @capability(CAPABILITY, concurrency=window)
    async def fetch(page: Page) -> Fetched:
        if meter.count():
            done.set()
        return Fetched(status=200, size=len(page.body))

    async with open_neuron(f"http://127.0.0.1:{port}", neuron_id="bench", capabilities=[fetch]):
        await done.wait()
    meter.report()


if __name__ == "__main__":
    port, window, warm_up, leases = map(int, sys.argv[2:])
    anyio.run(
        _main,
        port,
        window,
        warm_up,
        leases,
        backend="trio" if sys.argv[1] == "trio" else "asyncio",
        backend_options={"use_uvloop": True} if sys.argv[1] == "uvloop" else {},
    )
