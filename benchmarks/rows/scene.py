"""A gateway and a subject, each a process of its own, for one run of a row."""

from __future__ import annotations

from benchmarks.cases import PACKAGE
from benchmarks.processes import figures, module, pair, published_python

__all__ = ["PLAIN", "run"]

PLAIN = ("published", "floor", *PACKAGE)
"""Whom the rows here measure."""

PATIENCE = 300.0
"""Seconds that one run may take."""


def run(
    row: str, subject: str, *numbers: int, concurrency: int = 1, neurons: int = 0, script: bool = False
) -> dict[str, float]:
    """Let a subject play a row once; return its figures.

    Args:
        row: the row's module.
        subject: of `PLAIN`.
        numbers: what the row's gateway is told.
        concurrency: of the neurons.
        neurons: beside the first one.
        script: let this package be a worker script as people write one.

    Raises:
        RunFailed: the run failed, or took longer than `PATIENCE`.
    """

    def client(url: str) -> list[str]:
        if subject == "published":
            return module("rows.published", url, concurrency, neurons, python=published_python())
        if subject == "floor":
            return module("rows.floor", url, concurrency, neurons)
        return (
            module("rows.starting", subject, url)
            if script
            else module("rows.neuron", subject, url, concurrency, neurons)
        )

    with pair(module("rows.gateway", row, *numbers), client) as (gateway, _):
        return figures(gateway, PATIENCE)
