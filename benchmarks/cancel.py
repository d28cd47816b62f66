"""How soon a cancel frame ends a handler, and the next one starts. `python -m benchmarks.cancel`.

Each kind of handler on each backend, over HTTP, gateway and neuron in processes of their own. Both times are taken by
the gateway, from the moment when it writes the cancel frame: to the nack `cancelled`, and to the first line of the
handler that was queued behind. Prints a table in Markdown.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from statistics import quantiles

import msgspec

from .cancel_gateway import Times
from .cancel_neuron import KINDS, POLL
from .cases import PACKAGE
from .processes import ended, module, pair

__all__: list[str] = []

ROUNDS = {"loop": 500, "thread": 500, "process": 50}
QUICK = {"loop": 50, "thread": 50, "process": 4}

SETTLE = {"loop": 0.005, "thread": 0.005, "process": 0.4}
"""Seconds from a handler's start to its cancel: it waits for something then, and the next process is ready."""

PATIENCE = 120.0
"""Seconds that one run may take."""


class Row(msgspec.Struct, frozen=True):
    """One kind on one backend; milliseconds."""

    kind: str
    backend: str
    rounds: int
    nacked_p50: float
    nacked_p99: float
    started_p50: float
    started_p99: float


def run(kind: str, backend: str, rounds: int) -> Times:
    """Let one kind of handler be called off so often, with one more queued behind."""
    gateway = module("cancel_gateway", rounds, SETTLE[kind], 1, 1)
    with pair(gateway, lambda url: module("cancel_neuron", backend, kind, 1, url)) as (served, _):
        return msgspec.json.decode(ended(served, PATIENCE), type=Times)


def row(kind: str, backend: str, times: Times) -> Row:
    """Sum up."""

    def part(seconds: list[float], hundredth: int) -> float:
        several = seconds if len(seconds) > 1 else seconds * 2  # one has no quantiles before Python 3.13
        return round(quantiles(several, n=100, method="inclusive")[hundredth - 1] * 1000, 2)

    return Row(
        kind,
        backend,
        len(times.started),
        part(times.nacked, 50),
        part(times.nacked, 99),
        part(times.started, 50),
        part(times.started, 99),
    )


def table(rows: list[Row]) -> str:
    """Return the rows as Markdown."""
    lines = [
        "| handler | backend | cancels | nack p50 | nack p99 | next start p50 | next start p99 |",
        "|---|---|--:|--:|--:|--:|--:|",
    ]
    for each in rows:
        times = (each.nacked_p50, each.nacked_p99, each.started_p50, each.started_p99)
        cells = [each.kind, each.backend, str(each.rounds), *(f"{time:.1f} ms" for time in times)]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cancel", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a first impression in less than 20 seconds")
    parser.add_argument("--rounds", type=int, help="cancels of each kind (default 500, processes 50)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows there, too")
    options = parser.parse_args()
    if options.rounds is not None and options.rounds < 2:
        parser.error("--rounds must be 2 or more")
    often = QUICK if options.quick else ROUNDS
    rows = [
        row(kind, backend, run(kind, backend, options.rounds or often[kind])) for kind in KINDS for backend in PACKAGE
    ]
    print(table(rows))
    print(f"\nThe thread looks at its cancellation every {POLL * 1000:g} ms.")
    if options.json is not None:
        options.json.write_bytes(msgspec.json.format(msgspec.json.encode(rows), indent=2) + b"\n")


if __name__ == "__main__":
    main()
