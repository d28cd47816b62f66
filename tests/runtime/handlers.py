"""What many tests offer and wait for."""

from __future__ import annotations

from typing import Any

import anyio

from neuron_anyio import capability

__all__ = ["echo", "settle"]


@capability("test/echo", concurrency=4)
async def echo(value: Any) -> Any:
    return value


async def settle(times: int = 20) -> None:
    """Let every task run until it waits for something."""
    for _ in range(times):
        await anyio.lowlevel.checkpoint()
