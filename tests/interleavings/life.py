"""The whole life of a neuron, in two seconds of virtual time, and what must be true after it however it ended."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import anyio

from neuron_anyio import (
    Backoff,
    Capability,
    GatewayDisconnected,
    LeaseContext,
    Neuron,
    Timing,
    capability,
    events,
    open_neuron,
)
from neuron_anyio._journal_file import open_file
from neuron_anyio.engine import Engine
from neuron_anyio.lease import Lease, State
from neuron_anyio.model import Cancelled, CancelReason
from neuron_anyio.records import is_worth_recording, record_key
from tests.interleavings.gateway import Broker, Gateway
from tests.pure.books import check_book

__all__ = ["DRAIN", "Life"]

DRAIN = 1.0
TIMING = Timing(heartbeat=0.1, drain=DRAIN, reconnect=Backoff(initial=0.05, maximum=0.1))
NEURON_ID = "neuron-1"


@capability("core/process", runs="process")
def in_process(value: Any) -> Any:
    return value


class Life:
    """One life.

    Args:
        journal: path of its journal.
        is_cut: its body is cancelled; else it leaves by itself and drains.

    Attributes:
        gateway: whom it works for.
        scope: encloses the neuron.
        neuron: None before it has entered.
        leave: ends the body.
        ended_at: when the block was left, in virtual seconds.
        is_over: the same, from a step's point of view.
        fatal: what the block raised.
        error: what the body is to raise when it leaves.
        raised: what of it came out of the block.
        killed: the task of the body, where asyncio has cancelled it.
        ends: how each run of a handler ended, by the lease's id at its start.
    """

    def __init__(self, journal: Path, *, is_cut: bool = False) -> None:
        self.gateway = Gateway()
        self.scope = anyio.CancelScope()
        self.neuron: Neuron | None = None
        self.leave = anyio.Event()
        self.ended_at = 0.0
        self.is_over = False
        self.fatal: GatewayDisconnected | None = None
        self.error: ZeroDivisionError | None = None
        self.raised: ZeroDivisionError | None = None
        self.killed: asyncio.Task[Any] | None = None
        self.ends: dict[str, str] = {}
        self.seen: list[events.Event] = []
        self.gateway.on_read = self._on_read
        self._journal = journal
        self._is_cut = is_cut
        self._cut = anyio.CancelScope()
        self._contexts: dict[str, LeaseContext] = {}
        self._called_off: list[tuple[str, State | None, bool]] = []
        self._records: list[logging.LogRecord] = []
        self._log = logging.Logger("life")  # noqa: LOG001 - one of its own, that nothing keeps and nobody else hears
        self.broker = Broker(self.gateway, timing=TIMING, log=self._log)
        self._log.addHandler(_Keeping(self._records))
        self._task = _own_task()
        self._is_disconnected = False
        self._running = 0
        self._lifespans = 0

    @property
    def engine(self) -> Engine | None:
        return self.broker.engine

    def kill(self) -> None:
        """Cancel the body as asyncio does it: no scope is asked, and no shield respected."""
        assert self._task is not None
        self.killed = self._task
        self.killed.cancel()

    # ---- the neuron

    async def main(self) -> None:
        """Live, and check what is left of it."""
        before = len(anyio.get_running_tasks())
        async with anyio.create_task_group() as group:
            group.start_soon(self._script)
            with self.scope, self._cut:
                await self._come_out(group)
            self.ended_at, self.is_over = anyio.current_time(), True
            group.cancel_scope.cancel()
        assert len(anyio.get_running_tasks()) == before, "D5: no task is left"
        self.check()

    async def _come_out(self, group: anyio.abc.TaskGroup) -> None:
        """Live, and take what comes out of the block."""
        try:
            await self._live(group)
        except GatewayDisconnected as exc:
            self.fatal = exc
        except ZeroDivisionError as exc:
            self.raised = exc
        except asyncio.CancelledError:
            if self.killed is None:
                raise
            self.killed.uncancel()

    async def _live(self, group: anyio.abc.TaskGroup) -> None:
        async with open_neuron(
            self.broker,
            neuron_id=NEURON_ID,
            capabilities=self._capabilities(),
            timing=TIMING,
            journal=self._journal,
            lifespan=self._lifespan,
            middleware=[] if self._is_cut else [self._middleware, self._middleware],
            on_event=self.seen.append,
            logger=self._log,
        ) as self.neuron:
            group.start_soon(self.neuron.wait_ended)
            with anyio.move_on_after(0.1):
                await self.leave.wait()
            await self.neuron.update_capability("core/work", concurrency=3)
            await self.leave.wait()
            if self.error is not None:
                raise self.error
            if not self._is_cut:
                await self.neuron.drain()

    def _capabilities(self) -> list[Capability[..., Any]]:
        return [
            capability("core/work", concurrency=2)(self._work),
            capability("core/thread")(self._thread),
            capability("core/shielded", concurrency=2)(self._shielded),
            capability("core/overdue", timeout=0.15)(self._overdue),
            capability("core/revoked")(self._work_too),
            in_process,
        ]

    @asynccontextmanager
    async def _lifespan(self) -> AsyncGenerator[str]:
        await anyio.sleep(0.01)
        self._lifespans += 1
        try:
            yield "state"
            await anyio.sleep(0.01)
        finally:
            self._lifespans -= 1

    async def _middleware(self, ctx: LeaseContext, call_next: Callable[[], Awaitable[Any]]) -> Any:
        await anyio.sleep(0.001)
        return await call_next()

    # ---- its handlers

    @contextmanager
    def _noted(self, ctx: LeaseContext) -> Iterator[None]:
        lease_id = ctx.lease_id
        assert lease_id not in self._contexts, "no lease starts twice"
        self._contexts[lease_id] = ctx
        self._running += 1
        try:
            yield
        except BaseException as exc:  # a cancellation is an end, too
            self.ends[lease_id] = type(exc).__name__
            raise
        else:
            self.ends[lease_id] = "returned"
        finally:
            self._running -= 1

    async def _work(self, value: Any, ctx: LeaseContext) -> Any:
        with self._noted(ctx):
            for percent in (10, 60, 90):
                ctx.progress(percent=percent)
                await anyio.sleep(0.04)
            ctx.progress(percent=100)
        return value

    async def _work_too(self, value: Any, ctx: LeaseContext) -> Any:
        return await self._work(value, ctx)

    def _thread(self, value: Any, ctx: LeaseContext) -> Any:
        with self._noted(ctx):
            ctx.progress(message="in a thread")
        return value

    async def _shielded(self, value: Any, ctx: LeaseContext) -> Any:
        with self._noted(ctx), anyio.CancelScope(shield=True):
            await ctx.wait_cancelled()
            await anyio.sleep(0.03)
        return value

    async def _overdue(self, value: Any, ctx: LeaseContext) -> None:
        with self._noted(ctx):
            await anyio.sleep_forever()

    # ---- what happens

    async def _script(self) -> None:
        gateway = self.gateway
        await gateway.wait_subscribed()
        for number in range(1, 5):
            gateway.lease(f"work{number}", "core/work")
        for kind in ("thread", "process", "shielded", "overdue"):
            gateway.lease(kind, f"core/{kind}", ttl=1.0)
        gateway.lease("unknown", "core/unknown")
        await anyio.sleep(0.05)
        gateway.cancel("work4")  # queued
        gateway.lease_again("work1'", "work1", "core/work")  # running
        gateway.lease_again("work3'", "work3", "core/work")  # queued
        await anyio.sleep(0.08)
        gateway.cancel("shielded")  # running
        gateway.lease("thread2", "core/thread")
        gateway.lease("revoked1", "core/revoked")
        gateway.lease("revoked2", "core/revoked")
        await anyio.sleep(0.05)
        gateway.revoke("core/revoked")
        await anyio.sleep(0.05)
        gateway.break_stream()
        gateway.lease("work5", "core/work")
        gateway.lease("expired", "core/work", ttl=0.0)
        await anyio.sleep(0.25)
        for number in range(6, 10):
            gateway.lease(f"work{number}", "core/work")
        gateway.lease("shielded2", "core/shielded")
        gateway.lease("overdue2", "core/overdue")
        await anyio.sleep(0.04)
        self.leave.set()
        if self._is_cut:
            self._cut.cancel()

    def _on_read(self, frame: dict[str, Any]) -> None:
        """Note how a lease stands when its cancel is read, and that this is the end."""
        if frame["type"] == "disconnect" and self.engine is not None and not self.engine.ledger.closed:
            self._is_disconnected = True
        if frame["type"] == "cancel" and self.engine is not None:
            lease_id = frame["leaseId"]
            lease = self.engine.ledger._by_id.get((0, lease_id))
            was_off = lease is not None and isinstance(lease.outcome, Cancelled)
            self._called_off.append((lease_id, None if lease is None else lease.state, was_off))

    # ---- what must be true

    def check(self) -> None:
        """Check what is left of a life that is over."""
        assert self._running == self._lifespans == 0, "D5: no handler runs, and the lifespan is left"
        assert not [record.getMessage() for record in self._records if record.exc_info], "nothing unforeseen"
        assert not [event for event in self.seen if isinstance(event, events.FrameDropped)], "all was well written"
        assert self.raised in (None, self.error), "D3: the body's own exception comes out as it is"
        if self.engine is not None:
            self._check_book(self.engine)
            self._check_runs()
            self._check_cancels()
        self._check_journal()

    @property
    def pending(self) -> list[Lease]:
        """What was not delivered."""
        return [] if self.engine is None else list(self.engine.courier._results)

    def _check_book(self, engine: Engine) -> None:
        if not self._is_cut:
            assert self.fatal is not None or not self._is_disconnected, "C2: it is raised"
        check_book(engine.ledger)
        leases, pending = engine.ledger.leases(), self.pending
        assert engine.ledger.slots.running == engine.ledger.slots.queued == 0
        assert {lease.state for lease in leases} <= {State.UNDELIVERED}
        assert set(leases) == set(pending)
        counted = [record.args for record in self._records if record.msg == "%d results were not delivered"]
        assert counted == ([(len(pending),)] if pending else []), "D3: the log counts what is not delivered"
        admitted = [event.lease_id for event in self.seen if isinstance(event, events.LeaseAdmitted)]
        assert len(set(admitted)) == len(admitted), "a lease is admitted once"
        known = {lease.delivery.id for lease in leases} | self.gateway.taken.keys()
        for lease_id in self.gateway.read - known:
            assert self.gateway.replaced.get(lease_id) in known, "what was read is answered, or counted as undelivered"

    def _check_runs(self) -> None:
        undelivered = {lease.delivery.id for lease in self.pending}
        replaced = {old for old, new in self.gateway.replaced.items() if new in self.gateway.read}
        assert self.ends.keys() == self._contexts.keys(), "every handler has ended"
        for started_as, end in self.ends.items():
            context = self._contexts[started_as]
            result = self.gateway.taken.get(context.lease_id)
            if result is None and context.cancel_reason is CancelReason.GATEWAY and context.lease_id in replaced:
                continue  # L3.5: the task came again, so nobody waits for the word that this run was called off
            if result is None:
                assert context.lease_id in undelivered, "what has run is answered, or counted as undelivered"
            elif context.cancel_reason is CancelReason.GATEWAY:
                assert result["kind"] == "cancelled", "L4.3"
            elif context.cancel_reason is CancelReason.TIMEOUT:
                assert result["code"] == "HANDLER_TIMEOUT", "L11.7"
            elif end == "returned":
                assert result["type"] == "ack", "L11.13: what is returned counts, also in the grace"
            else:
                assert context.cancel_reason is CancelReason.SHUTDOWN
                assert (result["kind"], result["code"]) == ("retryable", "NEURON_SHUTDOWN"), "D1"

    def _check_cancels(self) -> None:
        for lease_id, state, was_off in self._called_off:
            result = self.gateway.taken.get(lease_id)
            if result is None or state is None:
                continue
            is_off = state in (State.QUEUED, State.RUNNING, State.STOPPING) or was_off
            assert (result.get("kind") == "cancelled") >= is_off, "L4.2, L4.3"
            if state is State.QUEUED:
                assert lease_id not in self._contexts, "L4.2: it never starts"

    def _check_journal(self) -> None:
        if not self._journal.exists():
            return
        file = open_file(self._journal, gateway=self.gateway.origin, neuron_id=NEURON_ID, log=self._log)
        file.close()
        expected = {record_key(lease) for lease in self.pending if is_worth_recording(lease)}
        assert file.keys == expected, "L10: what is undelivered is in the journal, and nothing else"


def _own_task() -> asyncio.Task[Any] | None:
    try:
        return asyncio.current_task()
    except RuntimeError:
        return None  # trio


class _Keeping(logging.Handler):
    def __init__(self, records: list[logging.LogRecord]) -> None:
        super().__init__()
        self._records = records

    def emit(self, record: logging.LogRecord) -> None:
        self._records.append(record)
