"""Handlers that the test steers: each run says that it has started and waits to be told how to end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anyio

from neuron_anyio import Capability, LeaseContext, capability

__all__ = ["Steered", "echo"]


@capability("test/echo", concurrency=4)
async def echo(value: Any) -> Any:
    return value


class Steered:
    """A capability whose runs wait for `finish`.

    Attributes:
        started: lease ids in the order of their starts.
        contexts: the context of every run.
        most: the most runs that there were at once.
    """

    def __init__(self, kind: str = "test/steered", **options: Any) -> None:
        self.started: list[str] = []
        self.contexts: list[LeaseContext] = []
        self.running = 0
        self.most = 0
        self._changed = anyio.Event()
        self._ends: dict[str, Callable[[LeaseContext], Any]] = {}
        self.capability: Capability[..., Any] = capability(kind, **options)(self._run)

    async def _run(self, value: Any, ctx: LeaseContext) -> Any:
        lease_id = ctx.lease_id
        self.started.append(lease_id)
        self.contexts.append(ctx)
        self.running += 1
        self.most = max(self.most, self.running)
        self._notify()
        try:
            while lease_id not in self._ends:
                await self._changed.wait()
            return self._ends[lease_id](ctx)
        finally:
            self.running -= 1
            self._notify()

    def finish(self, lease_id: str, end: Callable[[LeaseContext], Any] = lambda _: "done") -> None:
        """Let the run of a lease end: with what `end` returns or raises."""
        self._ends[lease_id] = end
        self._notify()

    async def wait_started(self, count: int = 1) -> None:
        with anyio.fail_after(10):
            while len(self.started) < count:
                await self._changed.wait()

    async def wait_running(self, count: int) -> None:
        with anyio.fail_after(10):
            while self.running != count:
                await self._changed.wait()

    def _notify(self) -> None:
        self._changed.set()
        self._changed = anyio.Event()
