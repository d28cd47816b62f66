"""A broker's book: tasks, their leases, and what happened to each, in order.

It has no clock: it is told the time, in seconds of any monotonic clock that all who report share. One result per task
is accepted, from the lease that has the task now; whatever else is sent is answered, and noted.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Literal, TypeAlias, get_args

import msgspec

from ..frames import NackKind

__all__ = ["ACK", "Book", "Moment", "State", "Task"]

ACK = "ack"
AGAIN, *_FINAL, CALLED_OFF = get_args(NackKind)
"""The kinds of nacks, in the order of the wire's definition."""

TAKEN, UNKNOWN, OVER = 200, 404, 409
"""What a result is answered: taken; there was never such a lease; it is over and somebody else may have the task."""

State: TypeAlias = Literal["pending", "leased", "succeeded", "failed", "cancelled"]
What: TypeAlias = Literal["leased", "lost", "again", "killed", "started", "ended", "answered", "told"]


class Moment(msgspec.Struct, frozen=True):
    """Something that happened to a task. `id` is that of the lease, or of the run."""

    at: float
    what: What
    id: str = ""


class Task(msgspec.Struct, kw_only=True):
    """One task as the broker has it."""

    id: str
    capability: str
    input: Any
    expected: Any
    on_behalf_of: str | None = None
    state: State = "pending"
    attempt: int = 0
    lease: str | None = None
    cancelling: bool = False
    right: bool = True
    history: list[Moment] = msgspec.field(default_factory=list[Moment])

    @property
    def is_over(self) -> bool:
        """Whether a result was accepted, or none is wanted any more."""
        return self.state not in ("pending", "leased")


class _Lease(msgspec.Struct):
    task: Task
    expires: float
    ttl: float
    seen: bool = False
    spoilt: bool = False
    taken: str | None = None


class _Work(msgspec.Struct):
    """One line of a work log."""

    task: str
    run: str
    what: Literal["started", "ended"]
    at: float


_work = msgspec.json.Decoder(_Work)


class Book:
    """The tasks and leases of one broker.

    Attributes:
        tasks: by id, oldest first.
        taken: when results were accepted.
        strikes: when the fault acted.
    """

    def __init__(self) -> None:
        self.tasks: dict[str, Task] = {}
        self.taken: list[float] = []
        self.strikes: list[float] = []
        self._leases: dict[str, _Lease] = {}
        self._pending: dict[str, Task] = {}
        self._count = 0
        self._unfinished = 0

    def submit(
        self,
        task_id: str,
        capability: str,
        value: Any,
        *,
        expected: Any = msgspec.UNSET,
        on_behalf_of: str | None = None,
    ) -> Task:
        """Note a task. `expected` is the output that it must have, if one is known."""
        if task_id in self.tasks:
            raise ValueError(f"task_id must be new, and {task_id!r} is taken; leave it out to have one made")
        task = Task(id=task_id, capability=capability, input=value, expected=expected, on_behalf_of=on_behalf_of)
        self.tasks[task_id] = self._pending[task_id] = task
        self._unfinished += 1
        return task

    def pending(self) -> list[Task]:
        """Return the tasks that nobody has, in the order in which they came (back)."""
        return list(self._pending.values())

    @property
    def unfinished(self) -> int:
        """How many tasks are not over."""
        return self._unfinished

    @property
    def is_done(self) -> bool:
        """Whether every task is over."""
        return not self._unfinished

    # Leases

    def lease(self, task: Task, now: float, *, ttl: float) -> str:
        """Lease a task out for `ttl` seconds; a lease that it has is over. Returns the new lease's id."""
        self._count += 1
        lease_id = f"lease-{self._count}"
        if task.lease is not None:
            task.attempt += 1
        task.lease = lease_id
        task.state = "leased"
        self._pending.pop(task.id, None)
        task.history.append(Moment(now, "leased", lease_id))
        self._leases[lease_id] = _Lease(task, now + ttl, ttl)
        return lease_id

    def task_of(self, lease_id: str) -> Task | None:
        """Return the task of a lease, also of one that is over."""
        lease = self._leases.get(lease_id)
        return None if lease is None else lease.task

    def seen(self, lease_id: str) -> bool:
        """Note a sign that a neuron has a lease. Returns whether it is the first."""
        lease = self._leases.get(lease_id)
        if lease is None or lease.seen:
            return False
        lease.seen = True
        return True

    def spoil(self, lease_id: str) -> None:
        """Note that nobody may run this lease: its result would be wrong, whatever it is."""
        self._leases[lease_id].spoilt = True

    def renew(self, lease_ids: Iterable[str], now: float) -> None:
        """Give the leases of a heartbeat their time anew."""
        for lease_id in lease_ids:
            lease = self._leases.get(lease_id)
            if lease is not None:
                lease.expires = now + lease.ttl

    def expire(self, now: float) -> None:
        """Take back the leases whose time is over: they are lost."""
        for lease_id in self._open():
            if self._leases[lease_id].expires <= now:
                self._take_back(lease_id, Moment(now, "lost", lease_id))

    def reap(self, now: float) -> None:
        """Take back every lease: the neuron that had them is gone."""
        for lease_id in self._open():
            self._take_back(lease_id, Moment(now, "lost", lease_id))

    def killed(self, now: float) -> None:
        """Note that the neuron's process was killed, and take back what it had."""
        for task in self.tasks.values():
            task.history.append(Moment(now, "killed"))
        self.reap(now)

    def take_back_unseen(self) -> None:
        """Take back the leases of which no neuron has shown a sign: they may never have arrived. Pardons nothing."""
        for lease_id in self._open():
            if not self._leases[lease_id].seen:
                self._take_back(lease_id, None)

    def forget_leases(self) -> None:
        """Lose the broker's own state but for the tasks. Pardons nothing."""
        for lease_id in self._open():
            self._take_back(lease_id, None)
        self._leases.clear()

    def _open(self) -> Sequence[str]:
        return [task.lease for task in self.tasks.values() if task.state == "leased" and task.lease is not None]

    def _take_back(self, lease_id: str, moment: Moment | None) -> None:
        task = self._leases[lease_id].task
        if moment is not None:
            task.history.append(moment)
        if task.cancelling:
            self._end(task, "cancelled")
        else:
            task.state = "pending"
            self._pending[task.id] = task

    def _end(self, task: Task, state: State) -> None:
        task.state = state
        self._pending.pop(task.id, None)
        self._unfinished -= 1

    # Results

    def cancel(self, task_id: str) -> str | None:
        """Call a task off. Returns the lease that a neuron has of it."""
        task = self.tasks[task_id]
        if task.state == "pending":
            self._end(task, "cancelled")
        task.cancelling = True
        return task.lease if task.state == "leased" else None

    def answer(self, lease_id: str, kind: str, output: Any, now: float) -> int:
        """Take a result: `ACK`, or the kind of a nack. Returns the status to answer with."""
        lease = self._leases.get(lease_id)
        if lease is None:
            return UNKNOWN
        task = lease.task
        task.history.append(Moment(now, "answered", lease_id))
        if lease.taken is not None:
            return TAKEN if lease.taken == kind else OVER
        if task.lease != lease_id or task.state != "leased":
            return OVER
        lease.taken = kind
        if kind == AGAIN and not task.cancelling:
            self._take_back(lease_id, Moment(now, "again", lease_id))
            return TAKEN
        self.taken.append(now)
        self._end(task, "succeeded" if kind == ACK else "failed" if kind in _FINAL else "cancelled")
        is_expected = task.expected is msgspec.UNSET or output == task.expected
        task.right = kind != ACK or (is_expected and not lease.spoilt)
        return TAKEN

    def refuse(self, lease_id: str, kind: str, now: float) -> None:
        """Note that a result was answered as if its lease were over; what was a wish for another try is one still."""
        task = self.task_of(lease_id)
        if task is not None and task.lease == lease_id and task.state == "leased":
            self._take_back(lease_id, Moment(now, "again", lease_id) if kind == AGAIN else None)

    def told(self, lease_id: str, now: float) -> None:
        """Note that the neuron has been told that its result was taken."""
        task = self.task_of(lease_id)
        if task is not None:
            task.history.append(Moment(now, "told", lease_id))

    # What others report

    def struck(self, now: float) -> None:
        """Note that the fault has acted."""
        self.strikes.append(now)

    def note_work(self, line: str | bytes) -> None:
        """Take one line of a work log.

        Raises:
            ValueError: it is none, or names a task that was never submitted.
        """
        work = _work.decode(line)
        task = self.tasks.get(work.task)
        if task is None:
            raise ValueError(f"the work log names task {work.task!r}, which was never submitted")
        task.history.append(Moment(work.at, work.what, work.run))
