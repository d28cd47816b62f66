"""Handlers that wait to be called off. `python -m benchmarks.cancel_neuron BACKEND KIND RUNNING URL`.

BACKEND is asyncio, uvloop or trio, KIND loop, thread or process, RUNNING how many at once.
"""

from __future__ import annotations

import logging
import sys
import time
from functools import partial
from typing import Any

import anyio
import msgspec

from neuron_anyio import Capability, LeaseContext, capability, open_neuron

from .cancel_gateway import CAPABILITY
from .neuron import run_on
from .started import say_started

__all__ = ["KINDS", "POLL"]

POLL = 0.001
"""Seconds between two looks of the thread at its cancellation."""


class Work(msgspec.Struct):
    """What comes in.

    Attributes:
        number: of the lease.
        port: of the gateway, for the datagram that says that the handler has started.
    """

    number: int
    port: int


@capability(CAPABILITY)
async def in_loop(work: Work) -> None:
    say_started(work.number, work.port)
    await anyio.sleep_forever()


@capability(CAPABILITY)
def in_thread(work: Work, ctx: LeaseContext) -> None:
    say_started(work.number, work.port)
    while True:
        ctx.check_cancelled()
        time.sleep(POLL)


@capability(CAPABILITY, runs="process")
def in_process(work: Work) -> None:
    say_started(work.number, work.port)
    time.sleep(3600)


KINDS: dict[str, Capability[..., Any]] = {"loop": in_loop, "thread": in_thread, "process": in_process}


async def _main(kind: str, running: int, url: str) -> None:
    async with open_neuron(url, neuron_id="bench", capabilities=[KINDS[kind].with_options(concurrency=running)]):
        await anyio.sleep_forever()


if __name__ == "__main__":
    logging.disable()  # the gateway goes first
    run_on(sys.argv[1], partial(_main, sys.argv[2], int(sys.argv[3]), sys.argv[4]))
