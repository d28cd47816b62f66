"""A neuron with a journal: what is recorded is delivered, or answers its task, in the next life (promise L10)."""

from __future__ import annotations

import logging
import stat
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import anyio
import pytest

from neuron_anyio import Backoff, JournalError, LeaseContext, RetryableFailure, Timing, capability, open_neuron
from neuron_anyio._journal_file import JournalFile
from neuron_anyio.abc import Reply
from neuron_anyio.journal import open_journal
from neuron_anyio.testing.scripted_gateway import ScriptedGateway
from neuron_anyio.testing.steered_handler import SteeredHandler
from tests.runtime.handlers import settle

pytestmark = pytest.mark.anyio

FAST = Backoff(initial=0.001, maximum=0.01)
SHORT = Timing(drain=0.2, reconnect=FAST)
AWAY = Reply(status=503)


class Counting:
    """A capability that counts its runs."""

    def __init__(self, result: Any = "done", error: Exception | None = None) -> None:
        self.runs = 0
        self._result = result
        self._error = error
        self.capability = capability("test/count")(self._run)

    async def _run(self, _: Any) -> Any:
        self.runs += 1
        if self._error is not None:
            raise self._error
        return self._result


def neuron(gateway: ScriptedGateway, *capabilities: Any, journal: Path, **options: Any) -> Any:
    options = {"neuron_id": "neuron-1", "timing": SHORT, **options}
    return open_neuron(gateway.transport, capabilities=capabilities, journal=journal, **options)


async def keys(path: Path) -> int:
    log = logging.getLogger("test")
    async with open_journal(path, gateway="memory:test", neuron_id="neuron-1", log=log) as journal:
        return len(journal.recorded)


async def leave_undelivered(path: Path, handler: Counting, *, lease_id: str = "l1") -> None:
    """Live once with a gateway that takes no result."""
    gateway = ScriptedGateway()
    gateway.always_answer("ack", AWAY)
    gateway.always_answer("nack", AWAY)
    async with neuron(gateway, handler.capability, journal=path) as running:
        gateway.lease(lease_id, capability="test/count", task_id="t1")
        await gateway.wait_posted("ack", "nack")
    assert handler.runs == 1
    assert running.snapshot().undelivered == running.snapshot().recorded == 1


async def test_L10_a_result_that_was_not_accepted_is_delivered_by_the_next_start(tmp_path: Path) -> None:
    path, handler, gateway = tmp_path / "journal", Counting(), ScriptedGateway()
    with anyio.fail_after(10):
        await leave_undelivered(path, handler)
        async with neuron(gateway, handler.capability, journal=path) as running:
            ack = await gateway.wait_result("l1")
            await settle()
            assert running.snapshot().undelivered == 0
    assert (ack["type"], ack["output"]) == ("ack", "done")
    types = [post["type"] for post in gateway.posts]
    assert types.index("register") < types.index("ack")
    assert handler.runs == 1
    assert await keys(path) == 0


async def test_L10_a_redelivery_after_a_restart_is_answered_without_a_run(tmp_path: Path) -> None:
    path, handler, gateway = tmp_path / "journal", Counting(), ScriptedGateway()
    gateway.answer("ack", 409)
    with anyio.fail_after(10):
        await leave_undelivered(path, handler)
        async with neuron(gateway, handler.capability, journal=path):
            await gateway.wait_result("l1")
            gateway.lease("l2", capability="test/count", task_id="t1")
            ack = await gateway.wait_result("l2")
    assert (ack["type"], ack["output"]) == ("ack", "done")
    assert handler.runs == 1
    assert await keys(path) == 0


async def test_L10_a_redelivery_that_comes_before_the_next_register_is_answered_once(tmp_path: Path) -> None:
    path, handler, gateway = tmp_path / "journal", Counting(), ScriptedGateway()
    gateway.hold("register")
    with anyio.fail_after(10):
        await leave_undelivered(path, handler)
        async with anyio.create_task_group() as group:

            async def redeliver() -> None:
                await gateway.wait_posted("register")
                gateway.lease("l2", capability="test/count", task_id="t1")
                await gateway.wait_result("l2")
                gateway.release("register")

            group.start_soon(redeliver)
            async with neuron(gateway, handler.capability, journal=path):
                await settle()
    assert [post["leaseId"] for post in gateway.posted("ack")] == ["l2"]
    assert handler.runs == 1


async def test_L3_5_a_recorded_retryable_result_is_dropped_when_its_task_comes_and_the_handler_runs(
    tmp_path: Path,
) -> None:
    path, gateway = tmp_path / "journal", ScriptedGateway()
    handler = Counting(error=RetryableFailure("not now"))
    gateway.hold("register")
    with anyio.fail_after(10):
        await leave_undelivered(path, handler)
        async with anyio.create_task_group() as group:

            async def redeliver() -> None:
                await gateway.wait_posted("register")
                gateway.lease("l2", capability="test/count", task_id="t1")
                await gateway.wait_result("l2")
                gateway.release("register")

            group.start_soon(redeliver)
            async with neuron(gateway, handler.capability, journal=path):
                await settle()
    assert handler.runs == 2
    assert [post["leaseId"] for post in gateway.posted("nack")] == ["l2"]
    assert await keys(path) == 0


async def test_L10_an_accepted_result_leaves_the_file_empty_and_private(tmp_path: Path) -> None:
    path, handler, gateway = tmp_path / "journal", Counting(), ScriptedGateway()
    with anyio.fail_after(10):
        async with neuron(gateway, handler.capability, journal=path):
            for number in range(20):
                gateway.lease(f"l{number}", capability="test/count")
            await gateway.wait_posted("ack", count=20)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert await keys(path) == 0


async def test_L10_a_result_is_in_the_file_before_it_is_posted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[str] = []
    path, handler, gateway = tmp_path / "journal", Counting(), ScriptedGateway()
    before = JournalFile.write

    def noting(self: JournalFile, forgotten: Any, records: Any) -> None:
        before(self, forgotten, records)
        written.extend("record" for _ in records)

    monkeypatch.setattr(JournalFile, "write", noting)
    gateway.on_post = lambda path, frame: written.append(path) if path == "ack" else None
    with anyio.fail_after(10):
        async with neuron(gateway, handler.capability, journal=path):
            gateway.lease("l1", capability="test/count")
            await gateway.wait_result("l1")
    assert written[:2] == ["record", "ack"]


async def test_L10_a_result_refused_for_its_content_is_recorded_as_that(tmp_path: Path) -> None:
    path, handler, gateway = tmp_path / "journal", Counting(), ScriptedGateway()
    gateway.always_answer("ack", 422)
    gateway.always_answer("nack", AWAY)
    with anyio.fail_after(10):
        async with neuron(gateway, handler.capability, journal=path):
            gateway.lease("l1", capability="test/count", task_id="t1")
            await gateway.wait_posted("nack")
        again = ScriptedGateway()
        async with neuron(again, handler.capability, journal=path):
            nack = await again.wait_result("l1")
    assert (nack["type"], nack["code"]) == ("nack", "RESULT_REJECTED")
    assert handler.runs == 1


async def test_L10_what_is_given_back_is_not_recorded(tmp_path: Path) -> None:
    path, steered, gateway = tmp_path / "journal", SteeredHandler(), ScriptedGateway()
    gateway.always_answer("nack", AWAY)
    with anyio.fail_after(10):
        async with neuron(gateway, steered.capability, journal=path) as running:
            gateway.lease("l1", capability="test/steered")
            gateway.lease("l2", capability="test/steered")
            await steered.wait_started(1)
    assert running.snapshot().recorded == 0
    assert await keys(path) == 0


async def test_D3_what_was_finished_when_all_was_cancelled_is_in_the_file(tmp_path: Path) -> None:
    path, handler, gateway = tmp_path / "journal", Counting(), ScriptedGateway()
    with anyio.fail_after(10):
        with anyio.CancelScope() as scope:
            async with neuron(gateway, handler.capability, journal=path):
                gateway.hold("ack")
                gateway.lease("l1", capability="test/count")
                await gateway.wait_posted("ack")
                scope.cancel()
        assert await keys(path) == 1


async def test_L10_two_runs_of_one_task_have_two_records(tmp_path: Path) -> None:
    path, gateway = tmp_path / "journal", ScriptedGateway()
    started: list[str] = []
    go = anyio.Event()

    @capability("test/stubborn", concurrency=2)
    async def stubborn(_: Any, ctx: LeaseContext) -> str:
        started.append(ctx.lease_id)
        with anyio.CancelScope(shield=True):
            await go.wait()
        return ctx.lease_id

    gateway.always_answer("ack", AWAY)
    gateway.always_answer("nack", AWAY)
    with anyio.fail_after(10):
        async with neuron(gateway, stubborn, journal=path):
            gateway.lease("l1", capability="test/stubborn", task_id="t1")
            await settle()
            gateway.cancel("l1")
            gateway.lease("l2", capability="test/stubborn", task_id="t1")
            await settle()
            assert started == ["l1", "l2"]
            go.set()
            await gateway.wait_posted("ack", lease_id="l2")
            await gateway.wait_posted("nack", lease_id="l1")
        again = ScriptedGateway()
        async with neuron(again, stubborn, journal=path):
            await again.wait_posted("ack", "nack", count=2)
    assert {(post["leaseId"], post["type"]) for post in again.posted("ack", "nack")} == {("l1", "nack"), ("l2", "ack")}
    assert len(started) == 2


async def test_L10_a_journal_of_another_neuron_is_refused(tmp_path: Path) -> None:
    path, handler = tmp_path / "journal", Counting()
    await leave_undelivered(path, handler)
    with anyio.fail_after(10), pytest.raises(JournalError, match="neuron-1"):
        async with neuron(ScriptedGateway(), handler.capability, journal=path, neuron_id="neuron-2"):
            pass


async def test_L10_a_journal_that_another_neuron_has_open_is_refused(tmp_path: Path) -> None:
    path, handler = tmp_path / "journal", Counting()
    with anyio.fail_after(10):
        async with neuron(ScriptedGateway(), handler.capability, journal=path):
            with pytest.raises(JournalError, match=str(path)):
                async with neuron(ScriptedGateway(), handler.capability, journal=path):
                    pass


async def test_L10_a_result_that_cannot_be_recorded_is_delivered_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("neuron_anyio.journal.LARGEST", 100)
    path, handler, gateway = tmp_path / "journal", Counting("x" * 200), ScriptedGateway()
    with anyio.fail_after(10):
        async with neuron(gateway, handler.capability, journal=path) as running:
            gateway.lease("l1", capability="test/count")
            await gateway.wait_result("l1")
            await settle()
            assert running.snapshot().recorded == 0
    assert "the result of lease l1 is not in the journal" in caplog.text
    assert "xxx" not in caplog.text


async def test_L10_a_disk_that_hangs_does_not_hold_up_the_delivery(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("neuron_anyio.recorder.PATIENCE", 0.05)
    hanging, before = threading.Event(), JournalFile.write

    def hang(self: JournalFile, forgotten: Any, records: Any) -> None:
        hanging.wait(10)
        before(self, forgotten, records)

    monkeypatch.setattr(JournalFile, "write", hang)
    path, handler, gateway = tmp_path / "journal", Counting(), ScriptedGateway()
    with anyio.fail_after(10):
        async with neuron(gateway, handler.capability, journal=path):
            gateway.lease("l1", capability="test/count")
            await gateway.wait_result("l1")
            hanging.set()
    assert "the result of lease l1 is not in the journal: it could not be written within" in caplog.text


async def test_L10_a_restored_result_that_is_refused_for_its_content_is_recorded_as_that(tmp_path: Path) -> None:
    path, handler = tmp_path / "journal", Counting()
    refusing, accepting = ScriptedGateway(), ScriptedGateway()
    refusing.always_answer("ack", 422)
    refusing.always_answer("nack", AWAY)
    with anyio.fail_after(10):
        await leave_undelivered(path, handler)
        async with neuron(refusing, handler.capability, journal=path):
            await refusing.wait_posted("nack")
        async with neuron(accepting, handler.capability, journal=path):
            nack = await accepting.wait_result("l1")
    assert (nack["type"], nack["code"]) == ("nack", "RESULT_REJECTED")


def test_a_neuron_without_a_journal_pays_for_no_database() -> None:
    code = "import sys, neuron_anyio; sys.exit('sqlite3' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=30, check=False).returncode == 0
