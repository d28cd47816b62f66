"""CPU time per lease of this package, beside a bare client that validates nothing ("the floor").

Each run has a gateway and a client, in processes of their own; the clients take turns, so that what else the machine
does falls on all of them. Times are medians over the rounds, and multiples are of the floor's median at the same
window (leases in flight). The gateway's own cost stands beside each row: below 100 % busy it could have given more.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path
from statistics import median

import msgspec

from .meter import Reading
from .neuron import BACKENDS

__all__: list[str] = []

WINDOWS = (1, 16, 64)
CLIENTS = ("floor", *BACKENDS)
WARM_UP = 200
PATIENCE = 60.0
"""Seconds that one run may take."""


class Row(msgspec.Struct, frozen=True):
    """One client at one window.

    Attributes:
        client: `floor`, or the package's backend.
        window: leases in flight.
        cpu_us: CPU microseconds of the client per lease, one number for each round.
        times: the median, lowest and highest as multiples of the floor's median.
        gateway_cpu_us: CPU microseconds of the gateway per lease, median.
        gateway_busy: the gateway's share of one CPU, 0 to 1, the highest.
    """

    client: str
    window: int
    cpu_us: list[float]
    times: tuple[float, float, float]
    gateway_cpu_us: float
    gateway_busy: float


def _start(module: str, *arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", f"benchmarks.{module}", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def _read(process: subprocess.Popen[str]) -> Reading:
    output, _ = process.communicate(timeout=PATIENCE)
    if process.returncode:
        raise SystemExit(f"{process.args!r} ended with {process.returncode}")
    return msgspec.json.decode(output, type=Reading)


def run(client: str, window: int, leases: int) -> tuple[Reading, Reading]:
    """Let one client work off its leases; return its reading and the gateway's."""
    module = ("floor",) if client == "floor" else ("neuron", client)
    with _start("load", WARM_UP, leases) as gateway:
        try:
            assert gateway.stdout is not None
            port = gateway.stdout.readline().strip()
            with _start(*module, port, window, WARM_UP, leases) as process:
                try:
                    return _read(process), _read(gateway)
                finally:
                    process.kill()
        finally:
            gateway.kill()


def rows(readings: dict[tuple[int, str], list[tuple[Reading, Reading]]]) -> list[Row]:
    """Sum up: readings by window and client, a pair (client, gateway) for each round."""
    floors = {
        window: median(own.cpu_us for own, _ in pairs)
        for (window, client), pairs in readings.items()
        if client == "floor"
    }
    found: list[Row] = []
    for (window, client), pairs in readings.items():
        costs = [own.cpu_us for own, _ in pairs]
        middle, low, high = (cost / floors[window] for cost in (median(costs), min(costs), max(costs)))
        gateway_cpu_us = median(gateway.cpu_us for _, gateway in pairs)
        busy = max(gateway.busy for _, gateway in pairs)
        found.append(Row(client, window, costs, (middle, low, high), gateway_cpu_us, busy))
    return found


def table(found: list[Row]) -> str:
    """Return the rows as text."""
    lines = ["window  client    us/lease  x floor  (min - max)      gateway us/lease  busy"]
    for row in found:
        middle, low, high = row.times
        lines.append(
            f"{row.window:>6}  {row.client:<8}  {median(row.cpu_us):8.1f}  {middle:7.2f}  ({low:.2f} - {high:.2f})"
            f"{row.gateway_cpu_us:20.1f}  {row.gateway_busy:4.0%}"
        )
    return "\n".join(lines)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, help="how often each client has its turn (default 5; quick: 2)")
    parser.add_argument("--leases", type=int, help="measured leases of each run (default 5000; quick: 500)")
    parser.add_argument("--windows", type=int, nargs="+", help="leases in flight (default 1 16 64; quick: 16)")
    parser.add_argument("--quick", action="store_true", help="a first impression in less than half a minute")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows there, too")
    options = parser.parse_args()
    options.rounds = options.rounds or (2 if options.quick else 5)
    options.leases = options.leases or (500 if options.quick else 5000)
    options.windows = options.windows or ([16] if options.quick else WINDOWS)
    if min(options.rounds, options.leases, *options.windows) < 1:
        parser.error("--rounds, --leases and --windows must be 1 or more")
    return options


def main() -> None:
    options = _options()
    readings: dict[tuple[int, str], list[tuple[Reading, Reading]]] = {}
    for _ in range(options.rounds):
        for window in options.windows:
            for client in CLIENTS:
                readings.setdefault((window, client), []).append(run(client, window, options.leases))
    found = rows(readings)
    print(table(found))
    if options.json is not None:
        options.json.write_bytes(msgspec.json.format(msgspec.json.encode(found), indent=2) + b"\n")


if __name__ == "__main__":
    main()
