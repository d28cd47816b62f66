"""Handlers of the published SDK that wait to be called off. `PYTHON -m benchmarks.cancel_published RUNNING URL`.

Runs in an environment of its own, so that it imports nothing but Python's library and `started`.
"""

from __future__ import annotations

import asyncio
import importlib
import logging
import sys
from typing import Any

from .started import say_started

__all__: list[str] = []

sdk: Any = importlib.import_module("holokai_neuron_sdk")


async def work(value: dict[str, Any], ctx: Any) -> None:  # noqa: ARG001 - the SDK hands it over
    say_started(value["number"], value["port"])
    await asyncio.Event().wait()


async def _main(running: int, url: str) -> None:
    neuron = sdk.Neuron(gateway_url=url, neuron_id="bench", auth=lambda: "token")
    neuron.register_handler(sdk.Capability(type="bench/cancel", scope="any", concurrency=running), work)
    await neuron.start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    logging.disable()
    asyncio.run(_main(int(sys.argv[1]), sys.argv[2]))
