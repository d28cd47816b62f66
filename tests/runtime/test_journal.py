"""The journal in one process: what is kept, in which batches, and what happens when it cannot be written."""

from __future__ import annotations

import logging
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TypeAlias

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import neuron_anyio.journal as journal_module
from neuron_anyio.errors import JournalError
from neuron_anyio.journal import Journal, open_journal

pytestmark = pytest.mark.anyio

LOG = logging.getLogger("neuron_anyio.test_journal")


@asynccontextmanager
async def opened(path: Path) -> AsyncGenerator[Journal]:
    with anyio.fail_after(20):
        async with open_journal(path, gateway="https://gateway.example", neuron_id="worker-1", log=LOG) as journal:
            yield journal


async def kept(path: Path) -> list[tuple[bytes, bytes]]:
    async with opened(path) as journal:
        return [(record.key, record.value) for record in journal.recorded]


async def until(condition: Callable[[], bool]) -> None:
    with anyio.fail_after(10):
        while not condition():  # noqa: ASYNC110 - what the worker thread does sets no event
            await anyio.sleep(0.01)


def sizes(folder: Path) -> dict[str, int]:
    return {entry.name: entry.stat().st_size for entry in folder.iterdir()}


def statements(journal: Journal) -> Counter[str]:
    """Count what SQLite is told from now on, by its first word."""
    said: Counter[str] = Counter()
    journal._file._connection.set_trace_callback(lambda text: said.update([text.split()[0]]))
    return said


def limit_pages(journal: Journal, pages: int) -> None:
    journal._file._connection.execute(f"PRAGMA max_page_count = {pages}")


# What is kept

keys = st.sampled_from([b"", b"a", b"b", b"\x00", b"long" * 40])
Step: TypeAlias = tuple[str, bytes, bytes]
steps = st.lists(
    st.tuples(st.sampled_from(["record", "record", "cancelled", "forget", "reopen"]), keys, st.binary(max_size=20)),
    max_size=25,
)


async def apply(journal: Journal, model: dict[bytes, bytes], step: Step) -> None:
    action, key, value = step
    model.pop(key, None)
    if action == "forget":
        journal.forget(key)
        return
    model[key] = value
    with anyio.CancelScope() as scope:
        if action == "cancelled":
            scope.cancel()
        await journal.record(key, value)


@settings(max_examples=30)
@given(steps=steps)
async def test_any_sequence_of_steps_leaves_what_a_dict_would_hold_in_its_order(steps: list[Step]) -> None:
    model: dict[bytes, bytes] = {}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "journal")
        left = list(steps)
        while left:
            async with opened(path) as journal:
                assert [(record.key, record.value) for record in journal.recorded] == list(model.items())
                while left and (step := left.pop(0))[0] != "reopen":
                    await apply(journal, model, step)
        assert await kept(path) == list(model.items())


async def test_a_record_has_the_wall_time_of_its_call(tmp_path: Path) -> None:
    before = time.time()
    async with opened(tmp_path / "journal") as journal:
        await journal.record(b"key", b"value")
        assert journal.recorded == ()
    async with opened(tmp_path / "journal") as journal:
        (record,) = journal.recorded
    assert before <= record.at <= time.time()
    assert "value" not in repr(record)


async def test_it_is_in_the_file_when_record_returns(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    async with opened(path) as journal:
        await journal.record(b"key", b"value")
        with sqlite3.connect(path) as other:
            assert other.execute("SELECT key, value FROM record").fetchall() == [(b"key", b"value")]
        other.close()


async def test_forget_is_written_soon_though_nothing_is_recorded_after_it(tmp_path: Path) -> None:
    async with opened(tmp_path / "journal") as journal:
        await journal.record(b"key", b"value")
        journal.forget(b"key")
        await until(lambda: b"key" not in journal._file.keys)


async def test_forget_goes_with_the_next_batch(tmp_path: Path) -> None:
    async with opened(tmp_path / "journal") as journal:
        await journal.record(b"a", b"1")
        said = statements(journal)
        journal.forget(b"a")
        await journal.record(b"b", b"2")
        assert said == {"BEGIN": 1, "DELETE": 1, "INSERT": 1, "COMMIT": 1}


async def test_forgetting_what_is_not_there_keeps_and_writes_nothing(tmp_path: Path) -> None:
    async with opened(tmp_path / "journal") as journal:
        said = statements(journal)
        for number in range(1000):
            journal.forget(b"%d" % number)
        assert not journal._batch.forgotten
    assert not said


async def test_a_key_that_is_forgotten_while_it_is_written_is_forgotten(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    async with opened(path) as journal, anyio.create_task_group() as tasks:
        await journal._limiter.acquire_on_behalf_of(path)
        tasks.start_soon(journal.record, b"key", b"value")
        await anyio.wait_all_tasks_blocked()
        assert journal._writing is not None
        journal.forget(b"key")
        journal._limiter.release_on_behalf_of(path)
    assert await kept(path) == []


async def test_a_key_that_is_forgotten_while_it_fails_to_be_written_leaves_nothing_behind(tmp_path: Path) -> None:
    path = tmp_path / "journal"

    async def fail() -> None:
        with pytest.raises(JournalError):
            await journal.record(b"key", bytes(1024 * 1024))

    async with opened(path) as journal:
        limit_pages(journal, 10)
        async with anyio.create_task_group() as tasks:
            await journal._limiter.acquire_on_behalf_of(path)
            tasks.start_soon(fail)
            await anyio.wait_all_tasks_blocked()
            journal.forget(b"key")
            assert journal._batch.forgotten
            journal._limiter.release_on_behalf_of(path)
        assert not journal._batch.forgotten
    assert await kept(path) == []


# Batches


async def test_within_a_batch_the_last_value_of_a_key_counts_and_takes_the_last_place(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    async with opened(path) as journal, anyio.create_task_group() as tasks:
        await journal._limiter.acquire_on_behalf_of(path)
        for key, value in [(b"a", b"0"), (b"a", b"1"), (b"b", b"2"), (b"a", b"3")]:  # the first takes the thread
            tasks.start_soon(journal.record, key, value)
            await anyio.wait_all_tasks_blocked()
        journal._limiter.release_on_behalf_of(path)
    assert await kept(path) == [(b"b", b"2"), (b"a", b"3")]


async def test_of_two_values_and_a_forget_in_one_batch_the_order_counts(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    async with opened(path) as journal, anyio.create_task_group() as tasks:
        await journal.record(b"a", b"0")
        await journal._limiter.acquire_on_behalf_of(path)
        tasks.start_soon(journal.record, b"first", b"")  # takes the thread
        await anyio.wait_all_tasks_blocked()
        tasks.start_soon(journal.record, b"a", b"1")
        await anyio.wait_all_tasks_blocked()
        journal.forget(b"a")
        tasks.start_soon(journal.record, b"b", b"1")
        await anyio.wait_all_tasks_blocked()
        journal.forget(b"b")
        tasks.start_soon(journal.record, b"b", b"2")
        await anyio.wait_all_tasks_blocked()
        journal._limiter.release_on_behalf_of(path)
    assert await kept(path) == [(b"first", b""), (b"b", b"2")]


async def test_all_that_wait_at_one_moment_are_one_transaction(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    async with opened(path) as journal:
        said = statements(journal)
        await journal._limiter.acquire_on_behalf_of(path)  # the thread is busy
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(journal.record, b"first", b"")
            await anyio.wait_all_tasks_blocked()
            for number in range(64):
                tasks.start_soon(journal.record, b"%d" % number, b"value")
            await anyio.wait_all_tasks_blocked()
            journal._limiter.release_on_behalf_of(path)
        assert said["COMMIT"] == 2
        assert said["INSERT"] == 65
    assert len(await kept(path)) == 65


async def test_20000_pairs_leave_a_small_file_and_a_small_log(tmp_path: Path) -> None:
    path = tmp_path / "journal"

    async def work(name: int) -> None:
        for number in range(20_000 // 50):
            key = b"%d.%d" % (name, number)
            await journal.record(key, b"x" * 1024)
            journal.forget(key)

    async with opened(path) as journal:
        async with anyio.create_task_group() as tasks:
            for name in range(50):
                tasks.start_soon(work, name)
        open_sizes = sizes(tmp_path)
        assert open_sizes["journal-wal"] > 0
        assert sum(open_sizes.values()) < 4 * 1024 * 1024
    assert sorted(sizes(tmp_path)) == ["journal", "journal-lock"]
    assert sizes(tmp_path)["journal"] < 1024 * 1024


async def test_a_log_that_one_large_batch_has_made_long_is_cut_again(tmp_path: Path) -> None:
    log = tmp_path / "journal-wal"
    async with opened(tmp_path / "journal") as journal:
        await journal.record(b"large", bytes(8 * 1024 * 1024))
        assert log.stat().st_size > 8 * 1024 * 1024
        await journal.record(b"small", b"")
        assert log.stat().st_size < 2 * 1024 * 1024


# Cancellation and the end


async def test_a_cancelled_record_is_kept_and_the_others_do_not_notice(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    async with opened(path) as journal:
        await journal._limiter.acquire_on_behalf_of(path)
        async with anyio.create_task_group() as others, anyio.create_task_group() as tasks:
            others.start_soon(journal.record, b"a", b"1")
            await anyio.wait_all_tasks_blocked()
            tasks.start_soon(journal.record, b"b", b"2")  # waits for the batch after
            await anyio.wait_all_tasks_blocked()
            tasks.cancel_scope.cancel()
            journal._limiter.release_on_behalf_of(path)
        await journal.record(b"c", b"3")
    assert await kept(path) == [(b"a", b"1"), (b"b", b"2"), (b"c", b"3")]


async def test_last_words_are_recorded_though_all_round_the_journal_is_cancelled(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    with anyio.CancelScope() as scope:
        async with opened(path) as journal:
            scope.cancel()
            with anyio.move_on_after(5, shield=True):
                await journal.record(b"a", b"1")
                await anyio.sleep(0.01)
                await journal.record(b"b", b"2")
            await journal.record(b"c", b"3")
    assert scope.cancelled_caught
    assert await kept(path) == [(b"a", b"1"), (b"b", b"2"), (b"c", b"3")]


async def test_who_still_waits_when_the_block_is_left_gets_an_answer(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    async with anyio.create_task_group() as tasks, opened(path) as journal:
        tasks.start_soon(journal.record, b"a", b"1")  # noqa: ASYNC111 - it outlives the block: that is the case
        await anyio.wait_all_tasks_blocked()
    assert await kept(path) == [(b"a", b"1")]


async def test_after_the_block_record_is_refused_and_forget_does_nothing(tmp_path: Path) -> None:
    async with opened(tmp_path / "journal") as journal:
        await journal.record(b"a", b"1")
    with pytest.raises(JournalError, match="closed"):
        await journal.record(b"b", b"2")
    journal.forget(b"a")
    assert await kept(tmp_path / "journal") == [(b"a", b"1")]


async def test_what_the_block_raises_comes_out_as_it_is(tmp_path: Path) -> None:
    error = ValueError("mine")
    with pytest.raises(ValueError, match="mine") as caught:
        async with opened(tmp_path / "journal") as journal:
            await journal.record(b"a", b"1")
            raise error
    assert caught.value is error
    assert await kept(tmp_path / "journal") == [(b"a", b"1")]


async def test_the_end_waits_no_longer_than_its_bound(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(journal_module, "LAST_WORDS", 0.1)
    path = tmp_path / "journal"
    failures: list[str] = []

    async def record() -> None:
        try:
            await journal.record(b"a", b"1")
        except JournalError as exc:
            failures.append(str(exc))

    async with anyio.create_task_group() as tasks:
        async with opened(path) as journal:
            journal._file._connection.execute("PRAGMA busy_timeout = 10000")
            other = sqlite3.connect(path)
            other.execute("BEGIN IMMEDIATE")
            tasks.start_soon(record)
            await anyio.wait_all_tasks_blocked()
        assert "stays locked until this process ends" in caplog.text
    assert len(failures) == 1
    assert "within 0.1 s" in failures[0]
    other.rollback()
    other.close()
    await until(lambda: b"a" in journal._file.keys)  # the thread that was left behind ends now
    journal._file.close()


# What cannot be written


async def test_a_full_disk_fails_the_records_concerned_and_the_next_may_succeed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "journal"
    async with opened(path) as journal:
        await journal.record(b"a", b"old")
        limit_pages(journal, 10)
        for _ in range(3):
            with pytest.raises(JournalError, match=r"journal did not take a record: .*full") as caught:
                await journal.record(b"a", bytes(1024 * 1024))
            assert caught.value.__cause__ is None
        await journal.record(b"b", b"small")
    assert await kept(path) == [(b"a", b"old"), (b"b", b"small")]
    assert [record.levelname for record in caplog.records if record.levelno >= logging.WARNING] == ["WARNING"]


async def test_all_records_of_a_failed_batch_fail_and_none_of_another(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    failed: list[bytes] = []

    async def record(key: bytes, value: bytes) -> None:
        try:
            await journal.record(key, value)
        except JournalError:
            failed.append(key)

    async with opened(path) as journal:
        limit_pages(journal, 10)
        await journal._limiter.acquire_on_behalf_of(path)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(record, b"first", b"")
            await anyio.wait_all_tasks_blocked()
            tasks.start_soon(record, b"large", bytes(1024 * 1024))
            tasks.start_soon(record, b"beside", b"")
            await anyio.wait_all_tasks_blocked()
            journal._limiter.release_on_behalf_of(path)
        await record(b"last", b"")
    assert sorted(failed) == [b"beside", b"large"]
    assert await kept(path) == [(b"first", b""), (b"last", b"")]


async def test_what_was_forgotten_in_a_failed_batch_is_forgotten_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal_module, "RETRY", 0.01)
    path = tmp_path / "journal"
    async with opened(path) as journal:
        await journal.record(b"a", b"old")
        await journal.record(b"b", b"old")
        limit_pages(journal, 10)
        journal.forget(b"a")
        journal.forget(b"b")
        with pytest.raises(JournalError):
            await journal.record(b"a", bytes(1024 * 1024))
        await until(lambda: not journal._file.keys)
        await journal.record(b"b", b"new")
    assert await kept(path) == [(b"b", b"new")]


async def test_while_nothing_can_be_written_memory_does_not_grow(tmp_path: Path) -> None:
    async with opened(tmp_path / "journal") as journal:
        limit_pages(journal, 1)
        for number in range(200):
            with suppress(JournalError):
                await journal.record(b"%d" % number, bytes(64 * 1024))
            journal.forget(b"%d" % number)
        assert not journal._batch.forgotten
        assert not journal._batch.records
        assert len(journal._file.keys) < 20


async def test_a_record_that_is_too_large_is_refused_before_it_can_fail_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal_module, "LARGEST", 100)
    async with opened(tmp_path / "journal") as journal:
        await journal.record(b"key", bytes(97))
        with pytest.raises(JournalError, match="must not exceed 100 bytes"):
            await journal.record(b"key", bytes(98))


FILE_LIMIT = """
import logging, resource, sys
import anyio
from neuron_anyio.errors import JournalError
from neuron_anyio.journal import open_journal

async def main():
    async with open_journal(sys.argv[1], gateway="g", neuron_id="n", log=logging.getLogger()) as journal:
        await journal.record(b"a", b"1")
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, resource.RLIM_INFINITY))
        try:
            await journal.record(b"b", bytes(1_000_000))
        except JournalError as exc:
            print(exc)
        await journal.record(b"c", b"3")
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        await journal.record(b"d", bytes(1_000_000))
    async with open_journal(sys.argv[1], gateway="g", neuron_id="n", log=logging.getLogger()) as journal:
        print(*[record.key.decode() for record in journal.recorded])

anyio.run(main, backend=sys.argv[2])
"""


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_write_that_the_system_refuses_is_an_error_and_the_journal_goes_on(tmp_path: Path, backend: str) -> None:
    command = [sys.executable, "-c", FILE_LIMIT, str(tmp_path / "journal"), backend]
    child = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert child.stderr == "writing to the journal {} failed: disk I/O error\n".format(tmp_path / "journal")
    failure, found = child.stdout.splitlines()
    assert failure.endswith("did not take a record: disk I/O error")
    assert found == "a c d"
