"""A handler for the tests of secrets that worker processes find by its name."""

from __future__ import annotations

from typing import Any

from neuron_anyio import capability

__all__ = ["raises_there"]


@capability("test/raises-there", runs="process")
def raises_there(value: Any) -> None:
    raise ValueError(f"planted-secret-in-a-process {value}")
