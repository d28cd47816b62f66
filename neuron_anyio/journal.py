"""A file that keeps results until they are accepted, over the death of the process (promise L10).

The law: when `record` returns, the value is in the file and stays there until `forget`. What keys and values mean is
the caller's business. Three parts: `Journal` collects, in the loop's thread; `_run` hands what was collected to a
worker thread, one transaction for all that wait at that moment; `JournalFile` is that thread's side, SQLite and a lock.

A write is in the kernel's hands when `record` returns, not on the platter. So it survives the process, `kill -9`
included, but the last seconds may be missing after a power cut; the file itself stays sound (`synchronous=NORMAL`:
SQLite waits for the disk when it moves the log into the database, not for each commit, which would cost every result
milliseconds).
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import TypeVar, TypeVarTuple

import anyio
from anyio import to_thread

from ._journal_file import JournalFile, open_file
from .abc import Record
from .errors import JournalError
from .logs import named
from .taskgroups import body_task_group
from .wakeup import Wakeup

__all__ = ["Journal", "Record", "Ticket", "open_journal"]

LARGEST = 900_000_000
"""Bytes of a key and its value. SQLite takes 1,000,000,000 for a row; one that is larger would fail its whole batch."""

LINGER = 0.1
"""Seconds for which a `forget` waits for a batch to go along with. Lost with the process it costs one delivery more."""

RETRY = 1.0
"""Seconds after which a `forget` that could not be written is tried again when no batch comes before."""

LAST_WORDS = 10.0
"""Seconds for writing and closing when the block is left: long for a disk, and short beside a drain."""

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


@asynccontextmanager
async def open_journal(
    path: str | os.PathLike[str], *, gateway: str, neuron_id: str, log: logging.Logger
) -> AsyncGenerator[Journal]:
    """Open a journal, or make it, and hold it until the block is left. The file stays.

    Its mode is 0600 from the first byte on. A file that others may read is made private, with a warning, and not
    refused: its results are to be delivered, and refusing leaves it open as well until somebody comes.

    One journal holds the file at a time, over all processes and within one. The lock lies on `PATH-lock` beside the
    file: `flock` on the file itself would get into the way of SQLite's own locks, and SQLite's exclusive mode takes
    no notice of `fork`: a forked child that exits would tidy away the log under its parent's feet. Delete the lock
    file only with the journal.

    While the block lasts, batches are written also when the scope around it is cancelled, so that last words are
    recorded. When it is left, what is pending is written within `LAST_WORDS` seconds.

    Args:
        path: the file. Symbolic links are followed.
        gateway: whom the results are for, several with ", " between them: the origin of a URL is taken and the rest
            left out, other names as they are.
        neuron_id: whose results they are.
        log: logger.

    Raises:
        JournalError: it is held by somebody else, belongs to another gateway or neuron, is not a journal, or cannot
            be opened. The message says what to do.
    """
    limiter = anyio.CapacityLimiter(1)
    opening = partial(open_file, path, gateway=gateway, neuron_id=neuron_id, log=log)
    file = await to_thread.run_sync(opening, limiter=limiter)
    journal = Journal(file, limiter, log)
    async with body_task_group() as tasks:
        tasks.start_soon(journal._run)  # noqa: SLF001 - its one task, not for users
        try:
            yield journal
        finally:
            journal._end()  # noqa: SLF001 - the same


class _Batch:
    """What is written in one transaction: first the forgotten keys go, then the records come.

    Until it is written, `failure` says why it was not.
    """

    __slots__ = ("done", "failure", "forgotten", "records")

    def __init__(self) -> None:
        self.forgotten: set[bytes] = set()
        self.records: dict[bytes, Record] = {}
        self.failure: str | None = f"it could not be written within {LAST_WORDS:g} s of the end"
        self.done: anyio.Event = anyio.Event()


class Ticket:
    """One value on its way into the file.

    Attributes:
        key: the value's key.
    """

    __slots__ = ("_batch", "_path", "_refusal", "key")

    def __init__(self, key: bytes, path: os.PathLike[str], *, batch: _Batch | None, refusal: str | None = None) -> None:
        self.key: bytes = key
        self._path = path
        self._batch = batch
        self._refusal = refusal

    @property
    def is_written(self) -> bool:
        """Whether the value is in the file."""
        return self._refusal is None and (self._batch is None or self._batch.failure is None)

    async def wait(self) -> None:
        """Wait until it is.

        Raises:
            JournalError: it could not be written.
        """
        failure = self._refusal
        if failure is None and self._batch is not None:
            await self._batch.done.wait()
            failure = self._batch.failure
        if failure is not None:
            raise JournalError(f"the journal {self._path} did not take a record: {failure}")


class Journal:
    """An open journal; `open_journal` makes it. In the loop's thread only.

    There is one entry for each key: what is pending is bounded by the keys that the caller has in hand.
    """

    __slots__ = ("_batch", "_due", "_ending", "_failing", "_file", "_life", "_limiter", "_log", "_wakeup", "_writing")

    def __init__(self, file: JournalFile, limiter: anyio.CapacityLimiter, log: logging.Logger) -> None:
        self._file = file
        self._limiter = limiter
        self._log = log
        self._batch = _Batch()
        self._writing: _Batch | None = None
        self._due = float("inf")
        self._wakeup = Wakeup()
        self._ending = False
        self._failing = False
        # The end of the block is the bound: it sets the deadline. Until then a cancellation must not stop the writing,
        # because those who wind up after it still have results to record.
        self._life = anyio.CancelScope(deadline=float("inf"), shield=True)

    @property
    def recorded(self) -> Sequence[Record]:
        """What was in the file when it was opened, oldest first; nothing after `release`."""
        return self._file.recorded

    def release(self) -> None:
        """Let go of what was in the file, which may be large; it stays there."""
        self._file.recorded = ()

    def put(self, key: bytes, value: bytes) -> Ticket:
        """Keep a value under a key, in the place of an earlier one. Returns at once; it is written soon."""
        refusal: str | None = None
        if self._ending:
            refusal = "it is closed; record inside its block"
        elif len(key) + len(value) > LARGEST:
            refusal = f"it must not exceed {LARGEST} bytes"
        else:
            self._batch.records.pop(key, None)  # a later value takes a later place
            self._batch.records[key] = Record(key, value, time.time())
            self._write_at(float("-inf"))
        return Ticket(key, self._file.path, batch=self._batch, refusal=refusal)

    async def record(self, key: bytes, value: bytes) -> None:
        """Keep a value under a key, in the place of an earlier one. Returns when it is in the file.

        Cancelled, it no longer waits, and the value is written all the same.

        Raises:
            JournalError: it could not be written, and an earlier value stays, unless it was forgotten; or the block
                was left. The next record may succeed.
        """
        await self.put(key, value).wait()

    def ticket(self, key: bytes) -> Ticket:
        """Return the ticket of a key that was in the file when it was opened."""
        return Ticket(key, self._file.path, batch=None)

    def forget(self, key: bytes) -> None:
        """Remove a key, whether it is there or not. Written with the next batch, or soon, and again if that fails.

        After the block it does nothing.
        """
        self._batch.records.pop(key, None)
        if key in self._file.keys or (self._writing is not None and key in self._writing.records):
            self._batch.forgotten.add(key)
            self._write_at(anyio.current_time() + LINGER)

    def _write_at(self, due: float) -> None:
        if due < self._due:
            self._due = due
            self._wakeup.notify()

    def _end(self) -> None:
        self._ending = True
        self._life.deadline = anyio.current_time() + LAST_WORDS
        self._write_at(float("-inf"))

    async def _run(self) -> None:
        """Write batches until the block is left, then the last one, and close."""
        is_last = False
        with self._life:
            while not is_last:
                while anyio.current_time() < self._due:
                    await self._wakeup.wait(until=self._due)
                is_last = self._ending  # nothing is taken any more, so what is here now is the rest
                await self._write()
            await self._close()
            return
        self._log.error(
            "the journal %s could not be written and closed within %g s; its last results may be missing, and it stays "
            "locked until this process ends",
            self._file.path,
            LAST_WORDS,
            extra=named("journal.unfinished", path=str(self._file.path)),
        )

    async def _write(self) -> None:
        batch, self._batch, self._due = self._batch, _Batch(), float("inf")
        self._writing = batch
        try:
            await self._in_thread(self._file.write, batch.forgotten, batch.records.values())
            batch.failure = None
        except Exception as exc:
            batch.failure = str(exc) or type(exc).__name__
            self._keep_forgetting(batch)
        finally:
            self._writing = None
            batch.done.set()
        self._tell(batch)

    async def _close(self) -> None:
        try:
            await self._in_thread(self._file.close)
        except Exception as exc:
            line = named("journal.not_closed", path=str(self._file.path))
            self._log.error("closing the journal %s failed: %s", self._file.path, exc, extra=line)

    def _keep_forgetting(self, failed: _Batch) -> None:
        left = {key for key in failed.forgotten | self._batch.forgotten if key in self._file.keys}
        self._batch.forgotten = left
        if left:
            self._write_at(anyio.current_time() + RETRY)

    def _tell(self, batch: _Batch) -> None:
        if batch.failure is not None and not self._failing:  # once, not for each that fails while a disk is full
            line = named("journal.failing", path=str(self._file.path))
            self._log.warning("writing to the journal %s failed: %s", self._file.path, batch.failure, extra=line)
        elif batch.failure is None and self._failing:
            line = named("journal.recovered", path=str(self._file.path))
            self._log.info("the journal %s can be written again", self._file.path, extra=line)
        self._failing = batch.failure is not None

    async def _in_thread(self, function: Callable[[*Ts], T], *args: *Ts) -> T:
        # Abandoned only when the last words take too long: nothing else reaches into `_life`.
        return await to_thread.run_sync(function, *args, abandon_on_cancel=True, limiter=self._limiter)
