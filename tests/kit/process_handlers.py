"""Handlers that a worker process can find by their names."""

from __future__ import annotations

import time
from typing import Any

from neuron_anyio import capability

__all__ = ["divide", "sleep"]


@capability("test/divide", runs="process")
def divide(value: list[int]) -> float:
    return value[0] / value[1]


@capability("test/sleep", runs="process")
def sleep(value: Any) -> None:
    time.sleep(value)
