"""A pull broker in memory: no expiry, no heartbeat, no cancel by frame; delay on give-back, several outputs.

The plainest second task system: for tests of handlers, and the proof that the seam is not BigBrain's alone.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import anyio
import msgspec
from anyio.abc import TaskStatus

from ..abc import Intake, Receipt, Verdict
from ..events import Registered
from ..jsontext import read_json, write_json
from ..model import Completed, Delivery, Failed, GivenBack, Held, Offer, Outcome, Progress, Task
from ..wakeup import Wakeup

__all__ = ["MemoryBroker", "MemoryTask"]


class MemoryTask(msgspec.Struct, kw_only=True, eq=False):
    """One task of a `MemoryBroker`, open to look at.

    Attributes:
        task_id: its id.
        capability: its type.
        input: JSON text.
        attempts: failed tries so far.
        deliveries: how often it was handed out.
        outcome: how it ended, None while it has not.
        progress: what its handlers reported.
    """

    task_id: str
    capability: str
    input: bytes
    attempts: int = 0
    deliveries: int = 0
    outcome: Outcome | None = None
    progress: list[Progress] = []

    @property
    def outputs(self) -> list[Any]:
        """The decoded outputs, none where it did not complete."""
        return [read_json(text) for text in self.outcome.outputs] if isinstance(self.outcome, Completed) else []


class MemoryBroker:
    """Holds tasks and hands out as many as there are free slots.

    Args:
        origin: its name in events and logs.
        max_attempts: failed tries after which a retryable failure is final.
        fans_out: whether a list that a handler returns is so many outputs.
    """

    def __init__(self, origin: str = "memory:", *, max_attempts: int = 3, fans_out: bool = False) -> None:
        self.origin = origin
        self.offers: dict[str, Offer] = {}
        self._max_attempts = max_attempts
        self._fans_out = fans_out
        self._tasks: dict[str, MemoryTask] = {}
        self._delivered: dict[str, MemoryTask] = {}
        self._waiting: list[tuple[float, int, MemoryTask]] = []
        self._count = itertools.count(1)
        self._wake = Wakeup()
        self._settled = anyio.Event()
        self._intake: Intake

    def submit(self, capability: str, input: Any) -> MemoryTask:  # noqa: A002 - what it is called everywhere
        """Add a task; its `outcome` tells how it ended."""
        number = next(self._count)
        task = MemoryTask(task_id=f"task-{number}", capability=capability, input=write_json(input))
        self._tasks[task.task_id] = task
        self._put(task, delay=0.0)
        return task

    def cancel(self, task: MemoryTask, reason: str = "cancelled") -> None:
        """Call off what was handed out."""
        for delivery_id, held in self._delivered.items():
            if held is task:
                self._intake.cancel(delivery_id, reason)

    async def wait_settled(self, *tasks: MemoryTask) -> None:
        """Wait until these tasks have ended."""
        while any(task.outcome is None for task in tasks):
            await self._settled.wait()

    @asynccontextmanager
    async def open(self, intake: Intake) -> AsyncGenerator[None]:
        """Nothing to acquire."""
        self._intake = intake
        yield

    async def take(self, *, task_status: TaskStatus[None]) -> None:
        """Poll the heap whenever a slot is free."""
        for offer in self._intake.offers():
            self.offers[offer.capability] = offer
        effective = self._intake.grant(None, dict.fromkeys(self.offers))
        self._intake.emit(Registered(origin=self.origin, session_id=None, capabilities=effective))
        task_status.started()
        async with anyio.create_task_group() as group:
            group.start_soon(self._follow_slots)
            while True:
                await self._wake.wait(until=self._deliver())

    async def _follow_slots(self) -> None:
        while True:
            await self._intake.slots_changed()
            self._wake.notify()

    def _deliver(self) -> float | None:
        """Hand out what is due and has a slot; return when the next task is due."""
        now = anyio.current_time()
        free = dict(self._intake.free_slots())
        kept: list[tuple[float, int, MemoryTask]] = []
        while self._waiting and self._waiting[0][0] <= now:
            entry = heapq.heappop(self._waiting)
            if free.get(entry[2].capability, 0) > 0:
                free[entry[2].capability] -= 1
                self._hand_out(entry[2])
            else:
                kept.append(entry)
        for entry in kept:
            heapq.heappush(self._waiting, entry)
        return next((due for due, _, _ in sorted(self._waiting) if due > now), None)

    def _hand_out(self, task: MemoryTask) -> None:
        task.deliveries += 1
        delivery_id = f"{task.task_id}/{task.deliveries}"
        self._delivered[delivery_id] = task
        self._intake.deliver(
            Delivery(
                id=delivery_id,
                task=Task(
                    task_id=task.task_id,
                    workflow_id="memory",
                    capability=task.capability,
                    attempt=task.attempts,
                    input=task.input,
                ),
                fans_out=self._fans_out,
            )
        )

    def _put(self, task: MemoryTask, *, delay: float) -> None:
        heapq.heappush(self._waiting, (anyio.current_time() + delay, next(self._count), task))
        self._wake.notify()

    async def announce(self, offer: Offer) -> None:
        """Note the changed offer."""
        self.offers[offer.capability] = offer

    async def keep_alive(self, held: Sequence[Held]) -> bool:  # noqa: ARG002 - the seam's signature
        """Do nothing: deliveries do not expire here."""
        return False

    async def report(self, delivery: Delivery, progress: Progress) -> None:
        """Note the progress."""
        task = self._delivered.get(delivery.id)
        if task is not None:
            task.progress.append(progress)

    async def settle(self, delivery_id: str, outcome: Outcome) -> Receipt:
        """Note the outcome, or queue the task again."""
        task = self._delivered.pop(delivery_id, None)
        if task is None:
            return Receipt(verdict=Verdict.GONE, reason="not handed out")
        again = isinstance(outcome, GivenBack)
        if isinstance(outcome, Failed) and outcome.retryable:
            task.attempts += 1
            again = task.attempts < self._max_attempts
        if again:
            self._put(task, delay=getattr(outcome, "delay", None) or 0.0)
        else:
            task.outcome = outcome
            self._settled.set()
            self._settled = anyio.Event()
        return Receipt(verdict=Verdict.ACCEPTED)
