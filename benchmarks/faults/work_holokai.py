"""holokai-neuron-sdk 0.2.0 as a worker script: `PYTHON work_holokai.py SCENARIO URL LOG`.

Runs in an environment of its own, so that it imports nothing of this project. Where the SDK leaves a choice to its user
it gets the one that serves it best: a new token for every request, and the scenario's times wherever it takes any.
"""

from __future__ import annotations

import asyncio
import importlib
import itertools
import json
import logging
import os
import signal
import sys
import time
from typing import Any

__all__: list[str] = []

sdk: Any = importlib.import_module("holokai_neuron_sdk")


async def _main(scenario: dict[str, Any], url: str, path: str) -> None:
    runs, tokens = itertools.count(1), itertools.count(1)

    def note(task: str, run: str, what: str) -> None:
        line = json.dumps({"task": task, "run": run, "what": what, "at": time.monotonic()})
        handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        os.write(handle, f"{line}\n".encode())
        os.close(handle)

    async def work(value: dict[str, Any], ctx: Any) -> Any:
        task, run = ctx.task.task_id, f"{os.getpid()}-{next(runs)}"
        note(task, run, "started")
        try:
            if value["progress"]:
                await ctx.progress(percent=1)
            await asyncio.sleep(value["seconds"])
            if ctx.task.attempt < value["fails"]:
                raise RuntimeError("as the task wishes")
            return value["text"]
        finally:
            note(task, run, "ended")

    initial, maximum = scenario["backoff"]
    neuron = sdk.Neuron(
        gateway_url=url,
        neuron_id="neuron-1",
        auth=lambda: f"token-{next(tokens)}",
        heartbeat_interval_ms=round(scenario["heartbeat"] * 1000),
        initial_reconnect_delay_ms=round(initial * 1000),
        max_reconnect_delay_ms=round(maximum * 1000),
    )
    personal = sdk.CapabilityScopeOnBehalfOf(on_behalf_of="user-1")
    for kind, scope in (("faults/work", "any"), ("faults/personal", personal)):
        neuron.register_handler(sdk.Capability(type=kind, scope=scope, concurrency=scenario["concurrency"]), work)
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    starting = asyncio.ensure_future(neuron.start())
    await stop.wait()
    starting.cancel()
    await neuron.stop(drain=True, timeout=scenario["drain"])


if __name__ == "__main__":
    logging.disable()
    asyncio.run(_main(json.loads(sys.argv[1]), sys.argv[2], sys.argv[3]))
