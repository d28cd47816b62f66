"""The published SDK. `PYTHON -m benchmarks.published URL WINDOW WARM_UP LEASES`.

Runs in an environment of its own, so that it imports nothing but Python's library and `meter`.
"""

from __future__ import annotations

import asyncio
import importlib
import logging
import sys
from typing import Any

from .meter import Meter, report

__all__: list[str] = []

sdk: Any = importlib.import_module("holokai_neuron_sdk")


async def _main(url: str, window: int, warm_up: int, leases: int) -> None:
    meter, done = Meter(warm_up, leases), asyncio.Event()

    async def fetch(page: dict[str, Any], ctx: Any) -> dict[str, Any]:  # noqa: ARG001 - the SDK hands it over
        if meter.count():
            done.set()
        return {"status": 200, "body": page["body"]}

    neuron = sdk.Neuron(gateway_url=url, neuron_id="bench", auth=lambda: "token")
    neuron.register_handler(sdk.Capability(type="bench/page", scope="any", concurrency=window), fetch)
    starting = asyncio.ensure_future(neuron.start())
    await done.wait()
    starting.cancel()
    await neuron.stop(drain=True, timeout=5)
    report(meter.figures())


if __name__ == "__main__":
    logging.disable()
    asyncio.run(_main(sys.argv[1], *map(int, sys.argv[2:])))
