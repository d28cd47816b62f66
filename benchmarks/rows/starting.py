"""A worker script as people write one, to be started. `python -m benchmarks.rows.starting BACKEND URL`."""

from __future__ import annotations

import logging
import os
import sys

import anyio
import msgspec

from neuron_anyio import capability, open_neuron

__all__: list[str] = []


class Page(msgspec.Struct):
    """What comes in."""

    url: str


class Fetched(msgspec.Struct):
    """What goes out."""

    status: int


@capability("bench/rows")
async def fetch(page: Page) -> Fetched:
    return Fetched(status=200 if page.url else 404)


async def _main(url: str) -> None:
    async with open_neuron(url, neuron_id=str(os.getpid()), capabilities=[fetch]):
        await anyio.sleep_forever()


if __name__ == "__main__":
    logging.disable()  # the gateway goes first
    anyio.run(
        _main,
        sys.argv[2],
        backend="trio" if sys.argv[1] == "trio" else "asyncio",
        backend_options={"use_uvloop": True} if sys.argv[1] == "uvloop" else {},
    )
