"""This package in the rows. `python -m benchmarks.rows.neuron BACKEND URL CONCURRENCY NEURONS`.

The first neuron opens at once, the others when the gateway answers a request that it holds.
"""

from __future__ import annotations

import logging
import os
import sys
import time
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import anyio

from benchmarks.neuron import run_on
from neuron_anyio import Capability, LeaseContext, capability, open_neuron

__all__: list[str] = []

_HOLD = b"GET /hold HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"


async def _hold(url: str) -> None:
    async with await anyio.connect_tcp("127.0.0.1", urlsplit(url).port or 80) as stream:
        await stream.send(_HOLD)
        await stream.receive(1)


def _capability(url: str, concurrency: int) -> Capability[..., Any]:
    @capability("bench/rows", concurrency=concurrency)
    async def work(value: dict[str, Any], ctx: LeaseContext) -> dict[str, Any]:
        output = {"cpu": time.process_time()}
        if value.get("hold"):
            await _hold(url)
        calls = value.get("calls", 0)
        for number in range(calls):
            await ctx.progress(percent=100 * number / calls, message=str(number))
            await anyio.lowlevel.checkpoint()
        return output

    return work


async def _main(url: str, concurrency: int, neurons: int) -> None:
    work = _capability(url, concurrency)

    async def run(number: int) -> None:
        async with open_neuron(url, neuron_id=f"{os.getpid()}-{number}", capabilities=[work]):
            await anyio.sleep_forever()

    async with anyio.create_task_group() as group:
        group.start_soon(run, 0)
        if neurons:
            await _hold(url)
            for number in range(1, neurons + 1):
                group.start_soon(run, number)


if __name__ == "__main__":
    logging.disable()  # the gateway goes first
    run_on(sys.argv[1], partial(_main, sys.argv[2], *map(int, sys.argv[3:])))
