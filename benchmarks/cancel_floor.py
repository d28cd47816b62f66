"""A bare client whose handlers wait to be called off. `python -m benchmarks.cancel_floor RUNNING URL`."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

from .cancel_gateway import CAPABILITY
from .floor import Bare
from .started import say_started

__all__: list[str] = []


async def _main(running: int, url: str) -> None:
    bare = Bare(url)
    tasks: dict[str, asyncio.Task[None]] = {}

    async def work(lease_id: str, number: int, port: int) -> None:
        try:
            say_started(number, port)
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await bare.nack(lease_id, "cancelled")

    async with asyncio.TaskGroup() as group:
        async for frame in bare.frames("floor"):
            if frame is None:
                group.create_task(bare.register("floor", CAPABILITY, running))
            elif frame["type"] == "lease":
                lease: dict[str, Any] = frame["lease"]
                tasks[lease["leaseId"]] = group.create_task(work(lease["leaseId"], **lease["task"]["input"]))
            elif frame["type"] == "cancel":
                tasks.pop(frame["leaseId"]).cancel()


if __name__ == "__main__":
    asyncio.run(_main(int(sys.argv[1]), sys.argv[2]))
