"""A gateway that does one thing wrong: the server's side of the wire over real TCP, every byte under control.

    async with open_fault_gateway("answer.ack.503-burst") as gateway:
        gateway.submit("test/echo", {"text": "hello"})
        async with open_neuron(gateway.url, neuron_id="neuron-1", capabilities=[echo]):
            await gateway.wait_done()
    assert gateway.verdict().lost == 0

It serves one neuron at a time, hands every pending task out at once, and keeps its word but for the fault. It shares
no code with the gateway of this package, so that the two are a second opinion on each other.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import msgspec
from anyio.abc import TaskGroup

from .book import Book
from .fault_broker import FaultBroker
from .fault_http import FaultHttp
from .fault_server import HOST, Server
from .faults import FAULTS, NO_FAULT, Connecting, Fault
from .oracle import Verdict, judge

__all__ = ["FaultGateway", "open_fault_gateway"]

TICK = 0.02
"""Seconds between two looks for leases that have run out."""


class FaultGateway:
    """A running fault gateway. You get one from `open_fault_gateway`; the block is its life.

    Attributes:
        fault: what it does wrong.
        book: tasks, leases, and what handlers say they did (`book.note_work`).
    """

    def __init__(self, fault: Fault, *, lease_ttl: float) -> None:
        self.fault: Fault = fault
        self._broker = FaultBroker(fault, lease_ttl=lease_ttl)
        self._http = FaultHttp(self._broker)
        self._server = self._broker.server = Server(self._http.serve)
        self.book: Book = self._broker.book
        if isinstance(fault.deed, Connecting) and fault.deed.kind == "refused":
            self._broker.strike()
            self._server.go_away(fault.deed.seconds)

    @property
    def url(self) -> str:
        """The base URL to give to a neuron."""
        return f"http://{HOST}:{self._server.port}"

    @property
    def connections(self) -> int:
        """How many connections are open."""
        return self._server.connections

    @property
    def requests(self) -> Counter[str]:
        """How many requests came, by route."""
        return self._http.requests

    @property
    def strays(self) -> list[str]:
        """Requests that no neuron should make: those of a followed redirect, and what is no frame, with the reason."""
        return self._http.strays

    def submit(
        self,
        capability: str,
        value: Any,
        *,
        task_id: str | None = None,
        on_behalf_of: str | None = None,
        expected: Any = msgspec.UNSET,
    ) -> str:
        """Take a task, to be handed out at once. Returns its id.

        Args:
            capability: its type.
            value: its input, any JSON; an object where the fault adds to it.
            task_id: made if not given.
            on_behalf_of: the user.
            expected: the output that it must have, for the oracle.

        Raises:
            ValueError: the id is taken.
        """
        name = f"task-{len(self.book.tasks) + 1}" if task_id is None else task_id
        self.book.submit(name, capability, value, expected=expected, on_behalf_of=on_behalf_of)
        self._broker.hand_out()
        return name

    def cancel(self, task_id: str) -> None:
        """Call a task off.

        Raises:
            KeyError: there is no such task.
        """
        self._broker.cancel(task_id)

    def revoke(self, capability: str) -> None:
        """Take a capability away, until `grant`."""
        self._broker.revoke(capability)

    def grant(self) -> None:
        """Grant again what was revoked."""
        self._broker.grant()

    def disconnect(self, *, reconnectable: bool) -> None:
        """Send the neuron away, for now or for good."""
        self._broker.disconnect(reconnectable=reconnectable)

    def begin_fault(self, fault: str) -> None:
        """Do this wrong from now on, and nothing else. What is about the stream's bytes begins with the next stream.

        Raises:
            ValueError: there is no such fault.
        """
        self.fault = _known(fault)
        self._broker.deed = self.fault.deed
        self._broker.struck.clear()

    def end_fault(self) -> None:
        """Do nothing wrong from now on."""
        self._broker.deed = None

    def reap(self) -> None:
        """Take back every lease, because the neuron that had them is gone."""
        self._broker.reap()

    def verdict(self) -> Verdict:
        """Judge what has happened so far."""
        return judge(self.book)

    async def wait_for(self, condition: Callable[[], bool]) -> None:
        """Wait until something holds that changes with what neurons send."""
        await self._broker.wait_for(condition)

    async def wait_done(self) -> None:
        """Wait until every task is over."""
        await self.wait_for(lambda: self.book.is_done)

    async def _run(self, group: TaskGroup) -> None:
        async def wait(seconds: float, act: Callable[[], object]) -> None:
            await anyio.sleep(seconds)
            act()

        async def look_for_expired() -> None:
            while True:
                await anyio.sleep(TICK)
                self.book.expire(time.monotonic())
                self._broker.hand_out()

        self._broker.later = lambda seconds, act: group.start_soon(wait, seconds, act)
        await group.start(self._server.run)
        group.start_soon(look_for_expired)


def _known(fault: str) -> Fault:
    known = NO_FAULT if fault == NO_FAULT.id else FAULTS.get(fault)
    if known is None:
        raise ValueError(f"fault must be an id of neuron_anyio.testing.faults.FAULTS, not {fault!r}")
    return known


@asynccontextmanager
async def open_fault_gateway(fault: str = "none", *, lease_ttl: float = 30.0) -> AsyncGenerator[FaultGateway]:
    """Run a gateway with one fault, on a loopback port of its own, while the block runs.

    Args:
        fault: its id, a key of `faults.FAULTS`, or `none`.
        lease_ttl: seconds that a lease lives without a heartbeat.

    Raises:
        ValueError: there is no such fault, or no such time.
    """
    if not lease_ttl > 0:
        raise ValueError(f"lease_ttl must be above 0 seconds, not {lease_ttl!r}")
    gateway = FaultGateway(_known(fault), lease_ttl=lease_ttl)
    async with anyio.create_task_group() as group:
        await gateway._run(group)  # noqa: SLF001 - its own file
        try:
            yield gateway
        finally:
            group.cancel_scope.cancel()
