"""The tasks themselves: kept, counted, and forgotten in time."""

from __future__ import annotations

from collections import Counter, OrderedDict, deque

import msgspec

from .store import Store
from .tasks import State, Task

__all__ = ["Book", "Bounds"]

MIB = 1024 * 1024


class Bounds(msgspec.Struct, frozen=True, kw_only=True):
    """How much the gateway keeps.

    Attributes:
        open_tasks: pending and leased ones; more are refused.
        open_bytes: of their inputs; more are refused.
        settled_tasks: the oldest beyond are forgotten.
        settled_bytes: of their outputs; the oldest beyond are forgotten.
        settled_age: seconds after which a settled task is forgotten.
        remembered_leases: settled leases whose repeated result is recognised.
    """

    open_tasks: int = 100_000
    open_bytes: int = 1024 * MIB
    settled_tasks: int = 10_000
    settled_bytes: int = 256 * MIB
    settled_age: float = 3600.0
    remembered_leases: int = 50_000


class Book:
    """All tasks in a store, with what must be known of them without looking at each.

    Attributes:
        store: where they are.
        counts: tasks by state.
        sequence: of the newest task.
    """

    __slots__ = (
        "_accepted",
        "_bounds",
        "_open",
        "_open_bytes",
        "_settled",
        "_settled_bytes",
        "counts",
        "sequence",
        "store",
    )

    def __init__(self, store: Store, bounds: Bounds) -> None:
        self.store: Store = store
        self.counts: Counter[State] = Counter()
        self.sequence: int = 0
        self._bounds = bounds
        self._open: Counter[tuple[str, State]] = Counter()
        self._open_bytes = 0
        self._settled: deque[tuple[float, str, int]] = deque()
        self._settled_bytes = 0
        self._accepted: OrderedDict[str, bytes] = OrderedDict()

    @property
    def is_full(self) -> bool:
        """Whether new tasks must be refused."""
        open_tasks = self.counts[State.PENDING] + self.counts[State.LEASED]
        return open_tasks >= self._bounds.open_tasks or self._open_bytes >= self._bounds.open_bytes

    def get(self, task_id: str) -> Task:
        """Return a task that is known to be there."""
        task = self.store.get(task_id)
        assert task is not None, task_id
        return task

    def add(self, task: Task, now: float) -> None:
        """Count a task that is new here, settled `now` if it is settled."""
        self.sequence = max(self.sequence, task.sequence)
        self._count(task, 1)
        if task.settled:
            self._settled.append((now, task.task_id, task.size))
            self._settled_bytes += task.size

    def put(self, task: Task, now: float) -> None:
        """Keep a task, in place of what is kept under its id."""
        old = self.store.get(task.task_id)
        if old is not None:
            self._count(old, -1)
        self.store.put(task)
        self.add(task, now)

    def _count(self, task: Task, by: int) -> None:
        self.counts[task.state] += by
        if not task.settled:
            self._open_bytes += by * task.size
            self._open[task.capability, task.state] += by
            if not self._open[task.capability, task.state]:
                del self._open[task.capability, task.state]

    def open_count(self, capability: str, state: State) -> int:
        """Return how many tasks of a capability are pending, or leased."""
        return self._open[capability, state]

    def open_capabilities(self) -> set[str]:
        """Return the capabilities that have open tasks."""
        return {capability for capability, _ in self._open}

    def accept(self, lease_id: str, digest: bytes) -> None:
        """Remember a lease's accepted result, so that a repeat of it is recognised."""
        self._accepted[lease_id] = digest
        if len(self._accepted) > self._bounds.remembered_leases:
            self._accepted.popitem(last=False)

    def accepted(self, lease_id: str) -> bytes | None:
        """Return what was accepted for a lease, None when nothing was or it is forgotten."""
        return self._accepted.get(lease_id)

    def forget_old(self, now: float) -> None:
        """Forget the settled tasks beyond the bounds."""
        bounds, settled = self._bounds, self._settled
        while settled and (
            len(settled) > bounds.settled_tasks
            or self._settled_bytes > bounds.settled_bytes
            or settled[0][0] + bounds.settled_age <= now
        ):
            _, task_id, size = settled.popleft()
            self._settled_bytes -= size
            self._count(self.get(task_id), -1)
            self.store.forget(task_id)

    def next_forget(self) -> float | None:
        """Return when the oldest settled task is to be forgotten for its age, None when there is none."""
        return self._settled[0][0] + self._bounds.settled_age if self._settled else None
