"""A hundred thousand leases under faults that change all the time; `python -m benchmarks.soak --help`.

The gateway and its oracle are this process, the neuron is another, so that its memory and its open files can be read
from outside. Ends with exit code 0 only if nothing was lost, nothing ran twice without need, and neither has grown.
"""

from __future__ import annotations

import argparse
import functools
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import msgspec
from anyio.abc import Process

from neuron_anyio.testing.fault_gateway import FaultGateway, open_fault_gateway
from neuron_anyio.testing.faults import FAULTS, Streaming
from neuron_anyio.testing.scenarios import SCENARIOS, WORK, Planned, Scenario

__all__: list[str] = []

OUTSTANDING = 400
"""Tasks that are under way at once."""

CONCURRENCY = 32
LEASE_TTL = 2.0
"""Seconds. Short, so that what a fault has cost a lease comes again soon."""

CALM, STORM = 0.1, 0.4
"""Seconds without a fault, and with one, in turn."""

WARM = 0.3
"""Part of the run after which memory and files are measured for the first time: what is remembered is full then."""

GROWTH_MIB, GROWTH_FILES = 12.0, 32
"""By which memory and open files may differ at the end: what leaks a hundred bytes a lease grows by more, and at most
32 connections lie idle, how many depends on the moment."""

LEAVE_OUT = (
    "always",
    "absurd",
    "endless",
    "thousand",
    "megabytes",
    "another-user",
    "clock",
    "final",
    "queue",
    "revoked",
)
"""Parts of the ids of faults that end a neuron, take minutes, or judge a queue as only their own scenario has it."""


def _soaking() -> list[str]:
    """Return the faults that a neuron lives through."""
    return [
        fault.id
        for fault in FAULTS.values()
        if SCENARIOS[fault.id].error is None and not any(part in fault.id for part in LEAVE_OUT)
    ]


class Reading(msgspec.Struct):
    """What the neuron's process holds."""

    done: int
    mib: float
    files: int


def _read(pid: int, done: int) -> Reading:
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    (kib,) = (line.split()[1] for line in status.splitlines() if line.startswith("VmRSS:"))
    return Reading(done, int(kib) / 1024, len(list(Path(f"/proc/{pid}/fd").iterdir())))


class Soak:
    """One run.

    Args:
        gateway: with the oracle.
        neuron: its process.
        leases: how many tasks in all.
    """

    def __init__(self, gateway: FaultGateway, neuron: Process, *, leases: int) -> None:
        self.readings: list[Reading] = []
        self.faults = 0
        self._gateway = gateway
        self._neuron = neuron
        self._leases = leases

    @property
    def done(self) -> int:
        """Tasks that are over."""
        return len(self._gateway.book.tasks) - self._gateway.book.unfinished

    async def run(self) -> None:
        """Submit, break, mend and measure until all is done."""
        async with anyio.create_task_group() as group:
            group.start_soon(self._measure)
            group.start_soon(self._break)
            await self._submit()
            self._gateway.end_fault()
            await self._gateway.wait_done()
            group.cancel_scope.cancel()
        self._note()

    async def _submit(self) -> None:
        gateway, book = self._gateway, self._gateway.book
        plan = Planned(progress=False)
        for number in range(self._leases):
            await gateway.wait_for(lambda: book.unfinished < OUTSTANDING)
            value = plan.input | {"seconds": random.choice((0.0, 0.0, 0.0, 0.01)), "progress": number % 50 == 0}
            gateway.submit(WORK, value, expected=value["text"])

    async def _break(self) -> None:
        faults = _soaking()
        while True:
            await anyio.sleep(CALM)
            self._gateway.begin_fault(random.choice(faults))
            if isinstance(self._gateway.fault.deed, Streaming):
                self._gateway.disconnect(reconnectable=True)
            self.faults += 1
            await anyio.sleep(STORM)
            self._gateway.end_fault()

    async def _measure(self) -> None:
        while True:
            self._note()
            if self._neuron.returncode is not None:
                raise SystemExit(f"the neuron ended with {self._neuron.returncode}")
            await anyio.sleep(1)

    def _note(self) -> None:
        self.readings.append(_read(self._neuron.pid, self.done))


@asynccontextmanager
async def _neuron(url: str, folder: Path, backend: str) -> AsyncGenerator[Process]:
    scenario = Scenario(fault="none", concurrency=CONCURRENCY, heartbeat=0.2, request=1.0, drain=5.0)
    arguments = [msgspec.json.encode(scenario).decode(), url, str(folder / "work.log"), backend]
    command = [sys.executable, "-m", "benchmarks.faults.work_neuron_anyio", *arguments]
    async with await anyio.open_process(command, stdin=subprocess.DEVNULL, stdout=None, stderr=None) as process:
        try:
            yield process
        finally:
            if process.returncode is None:
                process.kill()


async def _soak(leases: int, backend: str) -> int:
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        async with (
            open_fault_gateway(lease_ttl=LEASE_TTL) as gateway,
            _neuron(gateway.url, Path(name), backend) as neuron,
        ):
            soak = Soak(gateway, neuron, leases=leases)
            await soak.run()
            neuron.send_signal(signal.SIGTERM)
            code = await neuron.wait()
            log = await anyio.Path(name, "work.log").read_text(encoding="utf-8")
            for line in log.splitlines():
                gateway.book.note_work(line)
            return _judge(gateway, soak, code, time.monotonic() - begun)


def _judge(gateway: FaultGateway, soak: Soak, code: int, seconds: float) -> int:
    verdict = gateway.verdict()
    warm = next(reading for reading in soak.readings if reading.done >= WARM * soak.readings[-1].done)
    last = soak.readings[-1]
    print(f"{len(verdict.states):,} tasks, {verdict.starts:,} runs in {seconds:.0f} s")
    print(f"{soak.faults} faults, which struck {len(gateway.book.strikes):,} times")
    found = {name: getattr(verdict, name) for name in ("lost", "double", "answered_twice", "wrong")}
    print(", ".join(f"{count} {name.replace('_', ' ')}" for name, count in found.items()))
    print(f"{verdict.extra_starts} runs again for a lost lease or another try")
    print(f"memory {warm.mib:.1f} MiB at {warm.done:,} leases, {last.mib:.1f} MiB at the end; exit code {code}")
    print(f"open files {warm.files} then, {last.files} at the end, {max(r.files for r in soak.readings)} at most")
    grown = last.mib - warm.mib > GROWTH_MIB or last.files - warm.files > GROWTH_FILES
    return int(any(found.values()) or grown or code != 0)


def main() -> None:
    """Read the arguments, soak, print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak", description=__doc__)
    parser.add_argument("--leases", type=int, default=100_000, help="how many (default: 100,000)")
    parser.add_argument("--backend", choices=("asyncio", "trio"), default="asyncio")
    options = parser.parse_args()
    raise SystemExit(anyio.run(functools.partial(_soak, options.leases, options.backend)))


if __name__ == "__main__":
    main()
