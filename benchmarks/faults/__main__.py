"""Plays the scenario of every fault with an SDK in a process of its own, and prints what came of each.

A second SDK lives in an environment of its own; name its interpreter. Times hold the start of a process.
"""

from __future__ import annotations

import argparse
import functools
import sys
from collections.abc import Sequence
from pathlib import Path

import anyio
import msgspec

from neuron_anyio.testing.scenario_play import Outcome, Worker, play
from neuron_anyio.testing.scenarios import SCENARIOS

from .process import worker_script

__all__: list[str] = []

START = 3.0
"""Seconds that each process of a scenario may take to start."""


async def _play_all(worker: Worker, faults: Sequence[str], *, jobs: int) -> list[Outcome]:
    outcomes: dict[str, Outcome] = {}
    limiter = anyio.CapacityLimiter(jobs)

    async def one(fault: str) -> None:
        async with limiter:
            scenario = SCENARIOS[fault]
            outcomes[fault] = await play(msgspec.structs.replace(scenario, bound=scenario.bound + START), worker)
            _show(outcomes[fault])

    async with anyio.create_task_group() as group:
        for fault in faults:
            group.start_soon(one, fault)
    return [outcomes[fault] for fault in faults]


def _show(outcome: Outcome) -> None:
    verdict = outcome.verdict
    recovered = "-" if verdict.seconds_to_recover is None else f"{verdict.seconds_to_recover:.2f} s"
    passed = "; ".join(outcome.complaints) or "as it should be"
    print(f"{outcome.fault:38} {outcome.seconds:5.1f} s  recovered after {recovered:>7}  {passed[:200]}", flush=True)


def _sum_up(outcomes: Sequence[Outcome]) -> str:
    passed = sum(not outcome.complaints for outcome in outcomes)
    counts = {
        what: sum(getattr(outcome.verdict, what.replace(" ", "_")) for outcome in outcomes)
        for what in ("lost", "double", "answered twice", "wrong")
    }
    listed = ", ".join(f"{count} {what}" for what, count in counts.items())
    return f"{passed} of {len(outcomes)} scenarios as they should be; {listed}"


def main() -> None:
    """Read the arguments, play, print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.faults", description=__doc__)
    parser.add_argument("faults", nargs="*", metavar="FAULT", help="ids, or beginnings of them; default: all")
    parser.add_argument("--backend", choices=("asyncio", "trio"), default="asyncio", help="of this package")
    parser.add_argument("--holokai", metavar="PYTHON", help="play with the SDK that this interpreter has instead")
    parser.add_argument("--jobs", type=int, default=2, help="scenarios at once")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the outcomes, too")
    options = parser.parse_args()
    faults = [fault for fault in SCENARIOS if not options.faults or fault.startswith(tuple(options.faults))]
    if options.holokai:
        command = [options.holokai, str(Path(__file__).with_name("work_holokai.py"))]
    else:
        command = [sys.executable, "-m", "benchmarks.faults.work_neuron_anyio"]
    worker = worker_script(command, options.backend)
    outcomes = anyio.run(functools.partial(_play_all, worker, faults, jobs=options.jobs))
    print(_sum_up(outcomes))
    if options.json:
        options.json.write_bytes(msgspec.json.format(msgspec.json.encode(outcomes)))


if __name__ == "__main__":
    main()
