"""Long-lived tasks that share what comes: to start a task for each lease and each result would cost more than both.

A handler can cancel its task past all scopes, on asyncio, and also long after it has ended. So handlers and results
never share tasks: at the worst another handler is cut and its lease goes back, but no result is torn on its way.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from contextvars import Context, copy_context
from functools import partial
from typing import Generic, TypeVar

import anyio
import anyio.lowlevel
from anyio.abc import TaskGroup

from .driven import is_cancelled_by_scope
from .native_loop import WaitEvent, event_maker
from .wakeup import Wakeup

__all__ = ["Lane"]

J = TypeVar("J")

MAX_IDLE = 64
"""Workers that stay when there is nothing to do: as many as most neurons run at once; more are started anew."""

IN_A_ROW = 16
"""Jobs that never wait, of all workers together, before the loop turns: heartbeats must not pause for them."""


class Lane(Generic[J]):
    """Jobs in the order in which they came, and workers that share them; they start as they are needed.

    One worker is called for what comes; where it finds more, it calls two others before it begins. So jobs that never
    wait are carried by few workers, and jobs that do are all begun within a few turns of the loop.

    Args:
        carry: does one job; returns True where its task should carry no other. What it raises ends the group.
        name: of the workers' tasks.
        most: jobs at once.
        exposed: whether jobs run somebody else's code, which may cancel its task past all scopes.
    """

    __slots__ = (
        "_busy",
        "_carry",
        "_coming",
        "_exposed",
        "_group",
        "_idle",
        "_latest",
        "_make_event",
        "_most",
        "_name",
        "_ready",
        "_variables",
    )

    def __init__(
        self,
        carry: Callable[[J], Awaitable[bool | None]],
        *,
        name: str,
        most: int = sys.maxsize,
        exposed: bool = False,
    ) -> None:
        self._carry = carry
        self._name = name
        self._most = most
        self._exposed = exposed
        self._ready: deque[J] | None = None  # made with the first job: an empty one takes 700 bytes
        self._idle: list[Wakeup] = []
        self._busy = 0  # workers that carry or were called
        self._coming = 0  # those that were called and have not come yet
        self._latest: object = None  # whose job began last
        self._group: TaskGroup | None = None
        self._variables: Context | None = None
        self._make_event: Callable[[], WaitEvent] = anyio.Event

    def open(self, group: TaskGroup) -> None:
        """Say where workers live, until their group is cancelled. What came before is carried now."""
        self._group = group
        self._variables = copy_context()
        self._make_event = event_maker()
        if self._ready:
            self._call()

    def push(self, job: J) -> None:
        """Let the next free worker carry a job."""
        if self._ready is None:
            self._ready = deque()
        self._ready.append(job)
        if not self._coming:
            self._call()

    def _call(self) -> None:
        """Wake a worker, or start one, unless enough are at work: they look for more before they rest."""
        if self._group is None or self._variables is None or self._busy >= self._most:
            return
        self._busy += 1
        self._coming += 1
        if self._idle:
            self._idle.pop().notify()
        else:
            # Whoever pushes may be a handler, whose variables must not be those of all that this worker will carry.
            self._variables.copy().run(partial(self._group.start_soon, self._work, name=self._name))

    async def _work(self) -> None:
        task, wakeup, rests = anyio.get_current_task(), Wakeup(self._make_event), False
        try:
            while await self._carry_ready(task) and len(self._idle) < MAX_IDLE:
                rests = True
                self._idle.append(wakeup)
                await wakeup.wait()
                rests = False
        except anyio.get_cancelled_exc_class():  # noqa: ASYNC103 - only that of a scope is the task's own
            if is_cancelled_by_scope():
                raise
            # Somebody has cancelled this task past its scopes; others carry on.
            if rests and wakeup in self._idle:
                self._idle.remove(wakeup)
            elif rests:  # called in the same moment
                self._coming -= 1
                self._leave()

    async def _carry_ready(self, task: anyio.TaskInfo) -> bool:
        """Carry until nothing is left; return whether the task may carry more."""
        in_a_row, is_spent = 0, None
        self._come()
        try:
            while self._ready and not is_spent:
                self._latest = task
                is_spent = await self._carry(self._ready.popleft())
                if self._exposed and task.has_pending_cancellation() and not is_cancelled_by_scope():
                    # asyncio hands it to the task's next `await`, which would be in the next job. Were there none, the
                    # task would count as cancelled, and anyio's task group ends with such a task (promise L11.5).
                    is_spent = True
                    with suppress(anyio.get_cancelled_exc_class()):
                        await anyio.lowlevel.checkpoint()
                in_a_row = in_a_row + 1 if self._latest is task else 0  # others have begun meanwhile: it has waited
                if in_a_row * self._busy >= IN_A_ROW:
                    in_a_row = 0
                    self._coming += 1  # it looks for more presently: nobody else need be called meanwhile
                    try:
                        await anyio.lowlevel.checkpoint()
                    finally:
                        self._come()
        finally:
            self._leave()
        return not is_spent

    def _come(self) -> None:
        """Note that a worker has come. Before it begins, it calls two others if there is work for more than those."""
        self._coming -= 1
        for _ in range(2):
            if self._ready and self._coming + 1 < len(self._ready):
                self._call()

    def _leave(self) -> None:
        self._busy -= 1
        if self._ready and not self._coming:
            self._call()
