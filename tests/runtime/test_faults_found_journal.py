"""Faults that a second review found, each as small as it gets."""

from __future__ import annotations

import gc
import logging
import os
import signal
import sqlite3
import time
import tracemalloc
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

from neuron_anyio import (
    Backoff,
    JournalError,
    LeaseContext,
    Limits,
    RetryableFailure,
    Timing,
    capability,
    open_neuron,
)
from neuron_anyio._journal_file import JournalFile
from neuron_anyio.abc import Reply
from neuron_anyio.brokers.memory import MemoryBroker
from neuron_anyio.journal import open_journal
from neuron_anyio.serve import EXIT_OK, EXIT_UNDELIVERED, HELD, serve
from neuron_anyio.testing.scripted_gateway import ScriptedGateway
from neuron_anyio.testing.steered_handler import SteeredHandler
from tests.runtime.handlers import echo, settle

pytestmark = pytest.mark.anyio

FAST = Backoff(initial=0.001, maximum=0.01)
SHORT = Timing(drain=0.2, reconnect=FAST)
AWAY, GONE = Reply(status=503), Reply(status=410)
LOG = logging.getLogger("test")


class Away(ScriptedGateway):
    """A gateway that takes no result yet."""

    def __init__(self) -> None:
        super().__init__()
        self.always_answer("ack", AWAY)
        self.always_answer("nack", AWAY)


def neuron(gateway: ScriptedGateway, *capabilities: Any, **options: Any) -> Any:
    options = {"neuron_id": "neuron-1", "timing": SHORT, **options}
    return open_neuron(gateway.transport, capabilities=capabilities or [echo], **options)


async def keys(path: Path) -> int:
    async with open_journal(path, gateway="memory:test", neuron_id="neuron-1", log=LOG) as journal:
        return len(journal.recorded)


async def leave_undelivered(path: Path, *, values: int = 1, value: Any = None) -> None:
    """Live once with a gateway that takes no result."""
    gateway = Away()
    async with neuron(gateway, journal=path) as running:
        for number in range(values):
            gateway.lease(f"l{number}", value=value)
        await gateway.wait_posted("ack", count=values)
        await settle()
    assert running.snapshot().recorded == values


# Whose journal it is


@pytest.mark.parametrize("second", ["http://c:3", "https://b:2", "memory:b"])
async def test_L10_a_journal_of_two_gateways_is_refused_when_the_second_is_another(tmp_path: Path, second: str) -> None:
    path, both = tmp_path / "journal", "http://a:1, http://b:2"
    with anyio.fail_after(5):
        async with open_journal(path, gateway=both, neuron_id="neuron-1", log=LOG):
            pass
        with pytest.raises(JournalError, match="belongs to neuron 'neuron-1' of gateway http://a:1, http://b:2"):
            both_now = [MemoryBroker("http://a:1"), MemoryBroker(second)]
            async with open_neuron(both_now, neuron_id="neuron-1", capabilities=[echo], journal=path):
                pass


@pytest.mark.parametrize(
    ("first", "again"),
    [
        ("https://gateway.example", "https://gateway.example:443"),
        ("http://gateway.example:80/path", "http://gateway.example"),
        ("https://[::1]:443", "https://[::1]"),
    ],
)
async def test_L10_a_port_that_goes_without_saying_does_not_make_another_gateway(
    tmp_path: Path, first: str, again: str
) -> None:
    for gateway in (first, again):
        async with open_journal(tmp_path / "journal", gateway=gateway, neuron_id="neuron-1", log=LOG):
            pass


async def test_L10_another_port_makes_another_gateway(tmp_path: Path) -> None:
    async with open_journal(tmp_path / "journal", gateway="http://g", neuron_id="neuron-1", log=LOG):
        pass
    with pytest.raises(JournalError, match="belongs to"):
        async with open_journal(tmp_path / "journal", gateway="http://g:443", neuron_id="neuron-1", log=LOG):
            pass


# What is recorded


async def test_L10_an_attempt_beyond_64_bits_does_not_end_a_neuron_with_a_journal(tmp_path: Path) -> None:
    gateway = ScriptedGateway()
    with anyio.fail_after(5):
        async with neuron(gateway, journal=tmp_path / "journal"):
            gateway.lease("vast", attempt=10**30)
            assert (await gateway.wait_result("vast"))["type"] == "ack"
            gateway.lease("next")
            assert (await gateway.wait_result("next"))["type"] == "ack"


@pytest.mark.parametrize("after", [1e308, 10**30, pytest.param(10**400, id="1e400")])
@pytest.mark.parametrize("with_journal", [True, False])
async def test_L11_3_a_wish_for_a_try_in_aeons_is_delivered_as_a_wish_for_a_late_one(
    tmp_path: Path, after: float, with_journal: bool
) -> None:
    @capability("test/patient")
    async def patient(_: Any) -> None:
        raise RetryableFailure("not in this age", after=after)

    gateway = ScriptedGateway()
    with anyio.fail_after(5):
        async with neuron(gateway, patient, journal=tmp_path / "journal" if with_journal else None):
            gateway.lease("l0", capability="test/patient")
            nack = await gateway.wait_result("l0")
    assert nack["kind"] == "retryable"
    assert nack["details"]["retryAfterMs"] >= 365 * 86_400_000


async def test_L10_a_result_that_could_not_be_recorded_is_recorded_before_a_later_attempt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    path, gateway, written = tmp_path / "journal", Away(), JournalFile.write
    is_full = True

    def write(file: JournalFile, *batch: Any) -> None:
        if is_full:
            raise sqlite3.OperationalError("database or disk is full")
        written(file, *batch)

    monkeypatch.setattr(JournalFile, "write", write)
    with anyio.fail_after(5):
        async with neuron(gateway, journal=path) as running:
            gateway.lease("l0")
            attempts = len(await gateway.wait_posted("ack", count=5))
            is_full = False
            await gateway.wait_posted("ack", count=attempts + 2)
            assert running.snapshot().recorded == 1
    assert await keys(path) == 1
    lines = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert sum("is not in the journal" in line for line in lines) == 1


async def test_L10_a_result_that_is_dropped_while_its_record_fails_is_not_recorded_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing, dropped = anyio.Event(), anyio.Event()
    path, gateway, written = tmp_path / "journal", ScriptedGateway(), JournalFile.write

    def write(file: JournalFile, forgotten: Any, records: Any) -> None:
        if records and not dropped.is_set():
            anyio.from_thread.run_sync(failing.set)
            anyio.from_thread.run(dropped.wait)
            raise sqlite3.OperationalError("database or disk is full")
        written(file, forgotten, records)

    @capability("test/once")
    async def once(_: Any, ctx: LeaseContext) -> str:
        if ctx.lease_id == "l0":
            ctx.retry("again")
        return "done"

    monkeypatch.setattr(JournalFile, "write", write)
    with anyio.fail_after(5):
        async with neuron(gateway, once, journal=path):
            gateway.lease("l0", capability="test/once", task_id="t")
            await failing.wait()
            gateway.lease("l1", capability="test/once", task_id="t")
            await settle()
            dropped.set()
            await gateway.wait_result("l1")
    assert not gateway.posted("nack")
    assert await keys(path) == 0


async def test_L10_what_was_in_the_journal_is_not_held_in_memory_once_it_is_delivered(tmp_path: Path) -> None:
    path, gateway, size = tmp_path / "journal", ScriptedGateway(), 1_000_000
    with anyio.fail_after(10):
        await leave_undelivered(path, values=8, value="x" * size)
        gc.collect()
        tracemalloc.start()
        try:
            async with neuron(gateway, journal=path, limits=Limits(remembered_results_bytes=1)):
                await gateway.wait_posted("ack", count=8)
                await settle()
                gateway.posts.clear()
                gc.collect()
                held, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert held < size


# Heartbeats


async def test_H1_a_running_task_that_goes_on_under_a_shorter_lease_is_kept_alive() -> None:
    held, gateway = SteeredHandler(), ScriptedGateway()
    with anyio.fail_after(5):  # without the shorter lease, the first heartbeat is due after 10 s
        async with neuron(gateway, held.capability):
            gateway.lease("long", capability="test/steered", task_id="t")
            await held.wait_started()
            await settle()
            gateway.lease("short", capability="test/steered", task_id="t", ttl=2.0)
            (beat,) = await gateway.wait_posted("heartbeat")
            held.finish("long")
            assert (await gateway.wait_result("short"))["type"] == "ack"
    assert [entry["leaseId"] for entry in beat["inFlight"]] == ["short"]


async def test_H1_a_kept_result_that_is_sent_under_a_shorter_lease_keeps_it_alive() -> None:
    gateway = Away()
    gateway.answer("ack", GONE)
    with anyio.fail_after(5):
        async with neuron(gateway):
            gateway.lease("long", task_id="t")
            await gateway.wait_posted("ack")
            await settle()
            gateway.lease("short", task_id="t", ttl=2.0)
            (beat,) = await gateway.wait_posted("heartbeat")
            gateway.always_answer("ack", 200)
    assert [entry["leaseId"] for entry in beat["inFlight"]] == ["short"]


# What is granted


async def test_C11_a_grant_below_a_limit_that_was_raised_since_the_register_is_a_cap() -> None:
    gateway = ScriptedGateway()
    with anyio.fail_after(5):
        async with neuron(gateway) as running:
            await running.update_capability("test/echo", concurrency=8)
            await gateway.wait_posted("update-capability")
            gateway.registered([{"type": "test/echo", "scope": "any", "concurrency": 6}])
            await settle()
            assert running.snapshot().capabilities["test/echo"].limit == 6


# What goes out again


async def test_L10_a_recorded_result_is_delivered_where_nothing_is_left_to_offer(tmp_path: Path) -> None:
    path, gateway = tmp_path / "journal", ScriptedGateway()
    gateway.always_answer("register", AWAY)

    def revoke(path: str, _: dict[str, Any]) -> None:
        if path == "register":
            gateway.revoke("test/echo", "audit")

    gateway.on_post = revoke
    with anyio.fail_after(5):
        await leave_undelivered(path)
        async with neuron(gateway, journal=path):
            assert (await gateway.wait_result("l0"))["type"] == "ack"
    assert await keys(path) == 0


async def test_L3_2_a_kept_result_answers_its_own_lease_when_the_gateway_has_it_again() -> None:
    runs = 0

    @capability("test/count")
    async def count(_: Any) -> str:
        nonlocal runs
        runs += 1
        return "done"

    gateway = ScriptedGateway()
    gateway.answer("ack", GONE)
    with anyio.fail_after(5):
        async with neuron(gateway, count):
            gateway.lease("l0", capability="test/count", task_id="t")
            await gateway.wait_posted("ack")
            await settle()
            gateway.lease("l0", capability="test/count", task_id="t")
            await gateway.wait_posted("ack", count=2)
    assert [post["leaseId"] for post in gateway.posted("ack")] == ["l0", "l0"]
    assert runs == 1


# The whole program


async def serve_until_stopped(gateway: ScriptedGateway, stop_when: Callable[[], Awaitable[Any]], **options: Any) -> int:
    """Serve until a condition holds and SIGTERM is sent; return the exit code."""
    codes: list[int] = []

    async def main() -> None:
        codes.append(await serve(gateway.transport, neuron_id="neuron-1", capabilities=[echo], **options))

    with anyio.fail_after(10):
        async with anyio.create_task_group() as group:
            group.start_soon(main)
            await stop_when()
            os.kill(os.getpid(), signal.SIGTERM)
    return codes[0]


async def test_D4_a_result_that_is_lost_before_the_first_register_is_accepted_counts(
    capsys: pytest.CaptureFixture[str],
) -> None:
    gateway = Away()
    gateway.always_answer("register", AWAY)

    async def finished() -> None:
        await gateway.wait_posted("register")
        gateway.lease("l0")
        await gateway.wait_posted("ack")

    assert await serve_until_stopped(gateway, finished, timing=SHORT) == EXIT_UNDELIVERED
    assert "1 are lost" in capsys.readouterr().err


async def test_D4_a_result_that_stays_in_the_journal_because_no_register_is_accepted_counts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, gateway = tmp_path / "journal", Away()
    gateway.always_answer("register", AWAY)
    await leave_undelivered(path)
    code = await serve_until_stopped(gateway, lambda: gateway.wait_posted("register"), timing=SHORT, journal=path)
    assert code == EXIT_UNDELIVERED
    assert "1 are in the journal" in capsys.readouterr().err


@pytest.fixture
def not_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    def end(code: int) -> None:
        raise AssertionError(f"the process was ended with {code}")

    monkeypatch.setattr(os, "_exit", end)


@pytest.mark.usefixtures("not_ended")
async def test_D5_a_lifespan_that_takes_a_while_to_close_is_waited_for() -> None:
    gateway, closed = ScriptedGateway(), False

    @asynccontextmanager
    async def lifespan() -> AsyncGenerator[None]:
        nonlocal closed
        yield
        await anyio.sleep(HELD + 0.3)
        closed = True

    code = await serve_until_stopped(gateway, anyio.wait_all_tasks_blocked, timing=SHORT, lifespan=lifespan)
    assert (code, closed) == (EXIT_OK, True)


@pytest.mark.usefixtures("not_ended")
async def test_L10_a_record_that_takes_a_while_to_be_written_at_the_end_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, gateway, written, started = tmp_path / "journal", Away(), JournalFile.write, anyio.Event()

    def write(file: JournalFile, forgotten: Any, records: Any) -> None:
        if records:
            anyio.from_thread.run_sync(started.set)
            time.sleep(HELD + 0.5)
        written(file, forgotten, records)

    monkeypatch.setattr(JournalFile, "write", write)

    async def finished() -> None:
        await gateway.wait_posted("register")
        gateway.lease("l0")
        await started.wait()

    assert await serve_until_stopped(gateway, finished, timing=SHORT, journal=path) == EXIT_UNDELIVERED
    assert await keys(path) == 1


async def test_D5_a_block_that_was_left_is_not_entered_again() -> None:
    opening = neuron(ScriptedGateway())
    for _ in range(2):
        with pytest.raises(RuntimeError, match="call open_neuron again" if _ else "left"):
            async with opening:
                raise RuntimeError("left")
