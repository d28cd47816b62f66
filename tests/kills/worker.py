"""A program that lives again and again: forks a neuron with a journal for each line on stdin, and says how it ended.

The package is imported once, so that a life costs a fork. A life kills itself (SIGKILL) when it passes its point for
the `nth` time; killed by the test from outside at a random moment it has no point of its own.
"""

from __future__ import annotations

import importlib
import os
import signal
import sys
import threading
import time
from typing import Any

import anyio
import msgspec

from neuron_anyio import Backoff, LeaseContext, Timing, capability, open_neuron
from neuron_anyio._journal_file import JournalFile
from neuron_anyio.records import decode_record
from neuron_anyio.testing.worklog import WorkLog, append_to
from neuron_anyio.transports.http import HttpTransport

KIND = "kills/work"
POINTS = ("returned", "recording", "recorded", "posting", "answered")
"""Where a life kills itself: the handler has returned; before, after the record; before the POST, after the reply."""


class Life(msgspec.Struct, frozen=True, kw_only=True):
    """One life's orders.

    Attributes:
        url: the gateway's.
        journal, work_log, records: paths.
        backend: anyio's name.
        point: one of `POINTS`, or "" to be killed from outside.
        nth: how often it passes the point before it dies.
    """

    url: str
    journal: str
    work_log: str
    records: str
    backend: str
    point: str = ""
    nth: int = 1


class Point:
    """Kills the process when it has been passed often enough. Safe from threads."""

    def __init__(self, life: Life) -> None:
        self._point = life.point
        self._left = life.nth
        self._lock = threading.Lock()

    def passed(self, point: str) -> None:
        if point != self._point:
            return
        with self._lock:
            self._left -= 1
            if self._left == 0:
                os.kill(os.getpid(), signal.SIGKILL)


class Records:
    """Notes which results are in the journal for certain: one line of JSON each, with the time."""

    def __init__(self, path: str) -> None:
        self._write = append_to(path)

    def recorded(self, task_id: str) -> None:
        self._write(msgspec.json.encode({"task": task_id, "at": time.monotonic()}).decode())


def instrument(point: Point, work_log: Records) -> None:
    """Put the points round the record and the POST."""
    write, post = JournalFile.write, HttpTransport.post

    def write_with_points(self: JournalFile, forgotten: Any, records: Any) -> None:
        records = list(records)
        if records:
            point.passed("recording")
        write(self, forgotten, records)
        if records:
            for record in records:
                work_log.recorded(decode_record(record.value).delivery.task.task_id)
            point.passed("recorded")

    async def post_with_points(self: HttpTransport, path: str, body: bytes) -> Any:
        is_result = path in ("ack", "nack")
        if is_result:
            point.passed("posting")
        reply = await post(self, path, body)
        if is_result:
            point.passed("answered")
        return reply

    JournalFile.write = write_with_points  # type: ignore[method-assign]  # a point is inside
    HttpTransport.post = post_with_points  # type: ignore[method-assign]  # the same


async def live(life: Life, point: Point) -> None:
    work_log = WorkLog(append_to(life.work_log))

    @capability(KIND, concurrency=4)
    async def work(value: dict[str, Any], ctx: LeaseContext) -> Any:
        run = work_log.started(ctx.task.task_id)
        await anyio.sleep(value["seconds"])
        work_log.ended(ctx.task.task_id, run)
        return value["text"]

    async def middleware(ctx: LeaseContext, call_next: Any) -> Any:
        result = await call_next()
        point.passed("returned")
        return result

    times = Timing(heartbeat=0.2, reconnect=Backoff(initial=0.01, maximum=0.05))
    with anyio.open_signal_receiver(signal.SIGTERM) as signals:
        async with open_neuron(
            life.url,
            neuron_id="neuron-1",
            capabilities=[work],
            timing=times,
            journal=life.journal,
            middleware=[middleware],
        ):
            async for _ in signals:
                break


def run(life: Life) -> None:
    point = Point(life)
    instrument(point, Records(life.records))
    anyio.run(live, life, point, backend=life.backend)


def main() -> None:
    """Live once for each line; print the pid when it begins and how it ended when it has."""
    decoder = msgspec.json.Decoder(Life)
    for line in sys.stdin:
        life = decoder.decode(line)
        child = os.fork()
        if child == 0:
            try:
                run(life)
            except BaseException as exc:  # whatever it is, it must not go on as another server
                print(f"{type(exc).__name__}: {exc}", file=sys.stderr, flush=True)
                os._exit(1)
            os._exit(0)
        print(child, flush=True)
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


if __name__ == "__main__":
    for name in ("anyio._backends._asyncio", "anyio._backends._trio", "httpx", "httptools", "neuron_anyio.http1"):
        importlib.import_module(name)  # so that no life has to
    main()
