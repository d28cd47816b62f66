"""Handlers that wait to be called off. `python -m benchmarks.cancel_neuron BACKEND KIND PORT`.

BACKEND is asyncio, uvloop or trio, KIND loop, thread or process.
"""

from __future__ import annotations

import logging
import socket
import sys
import time
from typing import Any

import anyio
import msgspec

from neuron_anyio import Capability, LeaseContext, capability, open_neuron

from .cancel_gateway import CAPABILITY

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


def _say_started(work: Work) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as said:
        said.sendto(str(work.number).encode(), ("127.0.0.1", work.port))


@capability(CAPABILITY)
async def in_loop(work: Work) -> None:
    _say_started(work)
    await anyio.sleep_forever()


@capability(CAPABILITY)
def in_thread(work: Work, ctx: LeaseContext) -> None:
    _say_started(work)
    while True:
        ctx.check_cancelled()
        time.sleep(POLL)


@capability(CAPABILITY, runs="process")
def in_process(work: Work) -> None:
    _say_started(work)
    time.sleep(3600)


KINDS: dict[str, Capability[..., Any]] = {"loop": in_loop, "thread": in_thread, "process": in_process}


async def _main(kind: str, port: int) -> None:
    async with open_neuron(f"http://127.0.0.1:{port}", neuron_id="bench", capabilities=[KINDS[kind]]):
        await anyio.sleep_forever()


if __name__ == "__main__":
    logging.disable()  # the gateway goes first
    anyio.run(
        _main,
        sys.argv[2],
        int(sys.argv[3]),
        backend="trio" if sys.argv[1] == "trio" else "asyncio",
        backend_options={"use_uvloop": True} if sys.argv[1] == "uvloop" else {},
    )
