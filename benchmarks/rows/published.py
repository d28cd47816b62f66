"""holokai-neuron-sdk 0.2.0 in the rows. `PYTHON -m benchmarks.rows.published URL CONCURRENCY NEURONS`.

Runs in an environment of its own, so that it imports nothing of this project. The first neuron opens at once, the
others when the gateway answers a request that it holds.
"""

from __future__ import annotations

import asyncio
import importlib
import logging
import os
import sys
import time
from typing import Any
from urllib.parse import urlsplit

__all__: list[str] = []

sdk: Any = importlib.import_module("holokai_neuron_sdk")

_HOLD = b"GET /hold HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"


async def _hold(url: str) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", urlsplit(url).port)
    writer.write(_HOLD)
    await reader.read(1)
    writer.close()


def _neuron(url: str, concurrency: int, number: int) -> Any:
    async def work(value: dict[str, Any], ctx: Any) -> dict[str, Any]:
        output = {"cpu": time.process_time()}
        if value.get("hold"):
            await _hold(url)
        calls = value.get("calls", 0)
        for call in range(calls):
            await ctx.progress(percent=100 * call / calls, message=str(call))
            await asyncio.sleep(0)
        return output

    neuron_id = f"{os.getpid()}-{number}"
    neuron = sdk.Neuron(gateway_url=url, neuron_id=neuron_id, auth=lambda: "token")
    neuron.register_handler(sdk.Capability(type="bench/rows", scope="any", concurrency=concurrency), work)
    return neuron


async def _main(url: str, concurrency: int, neurons: int) -> None:
    running = [asyncio.ensure_future(_neuron(url, concurrency, 0).start())]
    if neurons:
        await _hold(url)
        others = (_neuron(url, concurrency, number) for number in range(1, neurons + 1))
        running += [asyncio.ensure_future(neuron.start()) for neuron in others]
    await asyncio.gather(*running)
    await asyncio.Event().wait()


if __name__ == "__main__":
    logging.disable()
    asyncio.run(_main(sys.argv[1], *map(int, sys.argv[2:])))
