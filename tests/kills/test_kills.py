"""The process is killed at every point on a result's way: nothing recorded runs again, nothing is lost (promise L10).

`nox -s kills` kills as often as the documentation says; the ordinary suite a few times at each point.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Literal

import anyio
import msgspec
import pytest
from anyio.abc import Process
from anyio.streams.buffered import BufferedByteReceiveStream

from neuron_anyio.testing.fault_gateway import FaultGateway, open_fault_gateway
from tests.kills.worker import KIND, POINTS, Life

pytestmark = [pytest.mark.anyio, pytest.mark.thorough]

ROOT = Path(__file__).resolve().parents[2]
AT_EACH_POINT = int(os.environ.get("KILLS_AT_EACH_POINT", "3"))
AT_RANDOM = int(os.environ.get("KILLS_AT_RANDOM", "8"))
SPAN = 0.12
"""Seconds in which a life takes its leases, runs them and delivers: random kills fall into them."""

TASKS = 3
"""New tasks for each life."""

GATEWAYS_POINTS = ("received", "acted", "replied")
"""Where the gateway kills: a result has come, it was taken, it was answered."""


class Recorded(msgspec.Struct):
    task: str
    at: float


class Mortal:
    """The program that lives again and again."""

    def __init__(self, process: Process, folder: Path, *, backend: str) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._stdin = process.stdin
        self._stdout = BufferedByteReceiveStream(process.stdout)
        self._folder = folder
        self._backend = backend
        self._read = 0
        self.pid = 0

    async def begin(self, url: str, *, point: str = "", nth: int = 1) -> None:
        work_log, records, journal = (str(self._folder / name) for name in ("work", "records", "journal"))
        life = Life(
            url=url,
            journal=journal,
            work_log=work_log,
            records=records,
            backend=self._backend,
            point=point if point in POINTS else "",
            nth=nth,
        )
        await self._stdin.send(msgspec.json.encode(life) + b"\n")
        self.pid = int(await self._line())

    async def end(self) -> int:
        """Wait until the life is over; return its exit code."""
        code = int(await self._line())
        self.pid = 0
        return code

    async def _line(self) -> bytes:
        return await self._stdout.receive_until(b"\n", 100)

    def kill(self) -> None:
        if self.pid:
            os.kill(self.pid, signal.SIGKILL)

    def new_work(self) -> list[bytes]:
        """Return what handlers have noted since the last call."""
        path = self._folder / "work"
        lines = path.read_bytes().splitlines() if path.exists() else []
        new, self._read = lines[self._read :], len(lines)
        return new

    def records(self) -> list[Recorded]:
        path = self._folder / "records"
        return [msgspec.json.decode(line, type=Recorded) for line in path.read_bytes().splitlines()]


@asynccontextmanager
async def mortal(folder: Path, *, backend: str) -> AsyncGenerator[Mortal]:
    command = [sys.executable, "-m", "tests.kills.worker"]
    async with await anyio.open_process(command, cwd=ROOT, stderr=None) as process:
        program = Mortal(process, folder, backend=backend)
        try:
            yield program
        finally:
            program.kill()
            if process.returncode is None:
                process.kill()


class Executioner:
    """Kills from the gateway's side, at the nth result that passes a point."""

    def __init__(self, gateway: FaultGateway, program: Mortal) -> None:
        self.point = ""
        self.left = 0
        self._program = program
        act, told = gateway._broker.act, gateway.book.told

        def act_with_points(route: str, frame: Any) -> int:
            is_result = route in ("ack", "nack")
            if is_result and self._passed("received"):
                return 503  # nobody hears it any more
            status = act(route, frame)
            if is_result:
                self._passed("acted")
            return status

        def told_with_point(lease_id: str, now: float) -> None:
            told(lease_id, now)
            self._passed("replied")

        gateway._broker.act = act_with_points  # type: ignore[method-assign]  # a point is inside
        gateway.book.told = told_with_point  # type: ignore[method-assign]  # the same

    def _passed(self, point: str) -> bool:
        if point != self.point:
            return False
        self.left -= 1
        if self.left == 0:
            self._program.kill()
            return True
        return False


async def die(gateway: FaultGateway, program: Mortal, kill: Literal["at random", "at a point"]) -> bool:
    """Let a life go on until it is killed or has nothing left to do. Returns whether it was killed."""
    codes: list[int] = []

    async def wait_dead() -> None:
        codes.append(await program.end())
        group.cancel_scope.cancel()

    async with anyio.create_task_group() as group:
        group.start_soon(wait_dead)
        if kill == "at random":
            await anyio.sleep(random.uniform(0, SPAN))
            program.kill()
            await anyio.sleep_forever()
        await gateway.wait_done()
        await anyio.sleep(0.05)  # the last point lies behind the answer
        if program.pid:
            os.kill(program.pid, signal.SIGTERM)
        await anyio.sleep_forever()
    for line in program.new_work():
        gateway.book.note_work(line)
    assert codes in ([-signal.SIGKILL], [0])
    if codes == [0]:
        return False
    gateway.book.killed(time.monotonic())
    return True


def submit(gateway: FaultGateway) -> None:
    for _ in range(TASKS):
        gateway.submit(KIND, {"seconds": random.choice([0.0, 0.0, 0.01]), "text": "done"}, expected="done")


async def live_and_die(folder: Path, backend: str, point: str, times: int) -> None:
    kills = 0
    async with open_fault_gateway() as gateway, mortal(folder, backend=backend) as program:
        executioner = Executioner(gateway, program)
        while kills < times:
            submit(gateway)
            nth = random.randint(1, TASKS)
            executioner.point, executioner.left = point, nth
            await program.begin(gateway.url, point=point, nth=nth)
            kills += await die(gateway, program, "at a point" if point else "at random")
        executioner.point = ""
        await program.begin(gateway.url)
        assert not await die(gateway, program, "at a point")
        verdict = gateway.verdict()
        assert (verdict.lost, verdict.double, verdict.wrong) == (0, 0, 0)
        assert set(verdict.states.values()) == {"succeeded"}
        for recorded in program.records():
            history = gateway.book.tasks[recorded.task].history
            again = [moment for moment in history if moment.what == "started" and moment.at > recorded.at]
            assert not again, "what was recorded ran again"


@pytest.mark.parametrize("point", [*POINTS, *GATEWAYS_POINTS])
@pytest.mark.timeout(600)
async def test_L10_killed_at_a_point_nothing_recorded_runs_again_and_nothing_is_lost(
    point: str, tmp_path: Path, anyio_backend_name: str
) -> None:
    with anyio.fail_after(30 + 2 * AT_EACH_POINT):
        await live_and_die(tmp_path, anyio_backend_name, point, AT_EACH_POINT)


@pytest.mark.timeout(600)
async def test_L10_killed_at_random_nothing_recorded_runs_again_and_nothing_is_lost(
    tmp_path: Path, anyio_backend_name: str
) -> None:
    with anyio.fail_after(30 + 2 * AT_RANDOM):
        await live_and_die(tmp_path, anyio_backend_name, "", AT_RANDOM)
