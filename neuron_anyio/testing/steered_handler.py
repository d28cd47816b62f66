"""A handler that the test steers: each run says that it has started and waits to be told how to end.

    steered = SteeredHandler("test/steered", concurrency=2)
    async with open_neuron(url, neuron_id="neuron-1", capabilities=[steered.capability]):
        await steered.wait_started()
        steered.finish(steered.started[0], lambda ctx: ctx.retry("later"))

For tests of what stands round handlers: gateways, brokers, transports, drains. One's own handlers are run by
`run_handler`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anyio

from ..capability import Capability, capability
from ..context import LeaseContext
from ..wakeup import Changed

__all__ = ["SteeredHandler"]


class SteeredHandler:
    """A capability whose runs wait for `finish`.

    Args:
        kind: the capability's type.
        patience: seconds after which a `wait_...` gives up with `TimeoutError`.
        options: what `@capability` takes.

    Attributes:
        capability: what `open_neuron` is given.
        started: lease ids in the order of their starts.
        contexts: the context of every run.
        running: runs that have not ended.
        most: the most runs that there were at once.
    """

    def __init__(self, kind: str = "test/steered", *, patience: float = 10.0, **options: Any) -> None:
        self.started: list[str] = []
        self.contexts: list[LeaseContext] = []
        self.running: int = 0
        self.most: int = 0
        self._patience = patience
        self._changed = Changed()
        self._ends: dict[str, Callable[[LeaseContext], Any]] = {}
        self.capability: Capability[..., Any] = capability(kind, **options)(self._run)

    async def _run(self, value: Any, ctx: LeaseContext) -> Any:  # noqa: ARG002 - a handler's signature
        lease_id = ctx.lease_id
        self.started.append(lease_id)
        self.contexts.append(ctx)
        self.running += 1
        self.most = max(self.most, self.running)
        self._changed.notify()
        try:
            while lease_id not in self._ends:
                await self._changed.wait()
            return self._ends[lease_id](ctx)
        finally:
            self.running -= 1
            self._changed.notify()

    def finish(self, lease_id: str, end: Callable[[LeaseContext], Any] = lambda _: "done") -> None:
        """Let the run of a lease end, now or as soon as it starts: with what `end` returns or raises."""
        self._ends[lease_id] = end
        self._changed.notify()

    async def wait_started(self, count: int = 1) -> None:
        """Wait until so many runs have started.

        Raises:
            TimeoutError: it took longer than `patience`.
        """
        with anyio.fail_after(self._patience):
            while len(self.started) < count:
                await self._changed.wait()

    async def wait_running(self, count: int) -> None:
        """Wait until exactly so many runs are under way.

        Raises:
            TimeoutError: it took longer than `patience`.
        """
        with anyio.fail_after(self._patience):
            while self.running != count:
                await self._changed.wait()
