"""Where tasks are kept: the seam between the gateway's decisions and a disk."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection, Iterable
from datetime import datetime
from typing import Protocol

import msgspec

from .tasks import State, Task

__all__ = ["MemoryStore", "Page", "Store"]

_SCAN = 10_000
"""Tasks that one page looks at: a filter that fits few must not hold up everybody else."""


class Page(msgspec.Struct, frozen=True):
    """Part of a listing, newest first.

    Attributes:
        tasks: as many as fit, perhaps none.
        cursor: where the next page begins, None when this was the last.
    """

    tasks: tuple[Task, ...]
    cursor: int | None = None


class Store(Protocol):
    """Keeps tasks by id.

    The ledger calls the plain methods while it decides, so they must answer from memory or at a memory's speed, and see
    what was put before. What they took need not be safe until `flush` returns; the gateway answers nobody before.
    """

    def put(self, task: Task) -> None:
        """Keep a task in place of what is kept under its id."""
        ...

    def get(self, task_id: str) -> Task | None:
        """Return a task, None when it is not kept."""
        ...

    def forget(self, task_id: str) -> None:
        """Keep a settled task no longer."""
        ...

    def by_idempotency_key(self, key: str) -> Task | None:
        """Return the task that was submitted with this key, None when none is kept."""
        ...

    def list(self, *, state: State | None, capability: str | None, cursor: int | None, limit: int) -> Page:
        """Return a page of tasks, newest first, beginning below the sequence number `cursor`."""
        ...

    def renew(self, task_ids: Collection[str], renewed_at: datetime) -> None:
        """Note that the leases of these tasks count from `renewed_at`: one statement for all (promise G4)."""
        ...

    def all(self) -> Iterable[Task]:
        """Return what is kept, in the order of submission, with the last renewal; asked once, at the start."""
        ...

    async def flush(self) -> None:
        """Return when all that was taken so far is as safe as this store makes it."""
        ...


class MemoryStore:
    """Keeps tasks as long as the process lives."""

    __slots__ = ("_by_key", "_by_sequence", "_order", "_tasks")

    def __init__(self) -> None:
        self._tasks: dict[str, Task] = {}
        self._by_key: dict[str, str] = {}
        self._by_sequence: dict[int, str] = {}
        self._order: list[int] = []

    def put(self, task: Task) -> None:
        """Keep a task in place of what is kept under its id."""
        if task.task_id not in self._tasks:
            self._by_sequence[task.sequence] = task.task_id
            self._order.append(task.sequence)
            if task.idempotency_key is not None:
                self._by_key[task.idempotency_key] = task.task_id
        self._tasks[task.task_id] = task

    def get(self, task_id: str) -> Task | None:
        """Return a task, None when it is not kept."""
        return self._tasks.get(task_id)

    def forget(self, task_id: str) -> None:
        """Keep a task no longer."""
        task = self._tasks.pop(task_id)
        del self._by_sequence[task.sequence]
        if task.idempotency_key is not None:
            del self._by_key[task.idempotency_key]
        if len(self._order) > 2 * len(self._tasks) + 64:
            self._order = sorted(self._by_sequence)

    def by_idempotency_key(self, key: str) -> Task | None:
        """Return the task that was submitted with this key, None when none is kept."""
        task_id = self._by_key.get(key)
        return None if task_id is None else self._tasks[task_id]

    def list(self, *, state: State | None, capability: str | None, cursor: int | None, limit: int) -> Page:
        """Return a page of tasks, newest first; it ends early after looking at very many that do not fit."""
        found: list[Task] = []
        start = len(self._order) if cursor is None else bisect_left(self._order, cursor)
        for place in range(start - 1, -1, -1):
            if len(found) == limit or start - place > _SCAN:
                return Page(tuple(found), self._order[place] + 1)
            task = self._tasks.get(self._by_sequence.get(self._order[place], ""))
            if task is not None and state in (None, task.state) and capability in (None, task.capability):
                found.append(task)
        return Page(tuple(found))

    def renew(self, task_ids: Collection[str], renewed_at: datetime) -> None:
        """Do nothing: the ledger knows the leases of its own process."""

    def all(self) -> Iterable[Task]:
        """Return what is kept, in the order of submission."""
        return [self._tasks[self._by_sequence[sequence]] for sequence in sorted(self._by_sequence)]

    async def flush(self) -> None:
        """Return at once: memory is as safe as it gets."""
