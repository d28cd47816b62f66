"""The floor of the rows: a bare client. `python -m benchmarks.rows.floor URL CONCURRENCY NEURONS`.

Frames as `benchmarks.floor` has them; what has no slot waits in a queue of decoded frames. The first neuron opens at
once, the others when the gateway answers a request that it holds.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections import deque
from typing import Any
from urllib.parse import urlsplit

from benchmarks.floor import Bare

__all__: list[str] = []

_HOLD = b"GET /hold HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"


async def _hold(url: str) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", urlsplit(url).port)
    writer.write(_HOLD)
    await reader.read(1)
    writer.close()


class _Neuron:
    """One neuron, and the leases that wait for a slot."""

    def __init__(self, url: str, concurrency: int, number: int) -> None:
        self._url = url
        self._bare = Bare(url)
        self._concurrency = concurrency
        self._id = f"{os.getpid()}-{number}"
        self._waiting: deque[dict[str, Any]] = deque()
        self._arrived = asyncio.Semaphore(0)
        self._slots = asyncio.Semaphore(concurrency)

    async def run(self) -> None:
        """Read until the gateway goes."""
        async with asyncio.TaskGroup() as group:
            dispatching = group.create_task(self._dispatch(group))
            async for frame in self._bare.frames(self._id):
                if frame is None:
                    group.create_task(self._bare.register(self._id, "bench/rows", self._concurrency))
                elif frame["type"] == "lease":
                    self._waiting.append(frame["lease"])
                    self._arrived.release()
            dispatching.cancel()

    async def _dispatch(self, group: asyncio.TaskGroup) -> None:
        while True:
            await self._arrived.acquire()
            await self._slots.acquire()
            group.create_task(self._work(self._waiting.popleft()))

    async def _work(self, lease: dict[str, Any]) -> None:
        output = {"cpu": time.process_time()}
        value, lease_id = lease["task"]["input"], lease["leaseId"]
        if value.get("hold"):
            await _hold(self._url)
        calls = value.get("calls", 0)
        for number in range(calls):
            told = {"percent": 100 * number / calls, "message": str(number), "sentAt": "2026-01-01T00:00:00Z"}
            await self._bare.post("progress", {"type": "progress", "leaseId": lease_id, **told})
            await asyncio.sleep(0)
        self._slots.release()
        await self._bare.ack(lease_id, output)


async def _main(url: str, concurrency: int, neurons: int) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(_Neuron(url, concurrency, 0).run())
        if neurons:
            await _hold(url)
            for number in range(1, neurons + 1):
                group.create_task(_Neuron(url, concurrency, number).run())


if __name__ == "__main__":
    asyncio.run(_main(sys.argv[1], *map(int, sys.argv[2:])))
