"""The life of one neuron: the only place that opens its task groups.

    caller's task                          the neuron's own task, shielded
    -------------                          -------------------------------
    lifespan                               brokers              last words still have a wire
      task group ------- starts -------->    io group           intake, heartbeats, delivery, clock
        the body                               work group       one task per running lease
        leaves: asks to drain  --------->      drains, ends

The neuron's task is shielded because the last words of a cancelled neuron need a wire for two more seconds (promise
D3). What tells it of the caller's cancellation is the sentinel, a task that does nothing but be cancelled.
"""

from __future__ import annotations

import enum
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
from anyio import CancelScope, create_task_group
from anyio.abc import TaskStatus
from anyio.lowlevel import current_token

from .abc import Broker, Journal
from .context import NeuronHandle, Wiring
from .drain import LAST_WORDS, drain, flush, stop_now
from .engine import Engine
from .errors import NeuronError
from .groups import add_context, leaves
from .logs import named
from .taskgroups import body_task_group

__all__ = ["Stop", "Supervisor"]


class Stop(enum.IntEnum):
    """How urgently the neuron is to end; it only grows."""

    NOT = 0
    DRAIN = 1
    NOW = 2


class _Started(TaskStatus[None]):
    """Tells the supervisor that one broker has been accepted."""

    def __init__(self, callback: Callable[[], None]) -> None:
        self._callback: Callable[[], None] | None = callback

    def started(self, value: None = None) -> None:  # noqa: ARG002 - the base's signature
        callback, self._callback = self._callback, None
        if callback is not None:
            callback()


class Supervisor:
    """The life of one neuron: entering, the body, the drain, and which exception comes out."""

    def __init__(self, engine: Engine, neuron: NeuronHandle, state: Any, *, journal: Path | None) -> None:
        self._engine = engine
        self._neuron = neuron
        self._state = state
        self._journal = journal
        self._stop = Stop.NOT
        self._ready = anyio.Event()
        self._stopping = anyio.Event()
        self._waiting_for = len(engine.brokers)
        self._body = CancelScope()
        self._sentinel = CancelScope()
        self._patience = CancelScope()
        self._intake: list[CancelScope] = []

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        """Run the neuron round a body. The table of what comes out is in the tests."""
        try:
            async with body_task_group() as group:
                group.start_soon(self._live, name="neuron")
                group.start_soon(self._watch_for_cancellation, name="neuron sentinel")
                try:
                    with self._body:
                        await self._ready.wait()
                        if self._engine.fatal is None:
                            yield
                    self.request(Stop.DRAIN)
                except Exception:
                    self.request(Stop.NOW)
                    raise
        except Exception as raised:
            if self._engine.fatal is not None:
                add_context(raised, self._engine.fatal)
            raise
        if self._engine.fatal is not None:
            raise self._engine.fatal

    def request(self, stop: Stop) -> None:
        """Ask the neuron to end, this urgently."""
        if stop > self._stop:
            self._stop = stop
            self._stopping.set()
            if stop is Stop.NOW:
                self._patience.cancel()

    def _fail(self, error: NeuronError) -> None:
        if self._engine.fatal is None:
            self._engine.fatal = error
            line = named("neuron.failed", neuron_id=self._engine.neuron_id, error=type(error).__name__)
            self._engine.log.error("the neuron ends: %s", error, extra=line)
        self._ready.set()
        self._body.cancel()
        self.request(Stop.DRAIN)

    async def _watch_for_cancellation(self) -> None:
        with self._sentinel:
            try:
                await anyio.sleep_forever()
            finally:
                self.request(Stop.NOW)

    async def _live(self) -> None:
        engine = self._engine
        with CancelScope() as life:
            try:
                async with AsyncExitStack() as stack:
                    stack.push_async_callback(engine.executor.processes.aclose)
                    if self._journal is not None:
                        engine.restore(await stack.enter_async_context(self._open_journal(self._journal)))
                    for broker, source in zip(engine.brokers, engine.sources, strict=True):
                        await stack.enter_async_context(broker.open(source))
                    life.shield = True  # not before: nothing is held yet, and what hangs here must not hold the exit
                    await self._run_groups()
                    life.deadline = engine.clock() + LAST_WORDS  # a broker that does not close (promise D3)
            except NeuronError as exc:
                self._fail(exc)
            except Exception as exc:
                line = named("neuron.broken", neuron_id=engine.neuron_id)
                engine.log.critical("the neuron has failed in a way that nobody foresaw", exc_info=exc, extra=line)
                error = NeuronError(f"the neuron has failed: {next(leaves(exc))!r}")
                error.__cause__ = exc
                self._fail(error)
            finally:
                engine.stopped = True
                self._ready.set()
                self._sentinel.cancel()

    def _open_journal(self, path: Path) -> AbstractAsyncContextManager[Journal]:
        from .journal import open_journal  # noqa: PLC0415 - SQLite, for those alone who have a journal

        gateway = ", ".join(broker.origin for broker in self._engine.brokers)
        return open_journal(path, gateway=gateway, neuron_id=self._engine.neuron_id, log=self._engine.log)

    async def _run_groups(self) -> None:
        engine = self._engine
        async with create_task_group() as io:
            await io.start(engine.courier.run, name="neuron delivery")
            io.start_soon(engine.deadlines.run, name="neuron clock")
            async with create_task_group() as work:
                engine.attach(work, self._wiring())
                for number, (broker, source) in enumerate(zip(engine.brokers, engine.sources, strict=True)):
                    io.start_soon(self._take, number, broker, name="neuron intake")
                    io.start_soon(source.keep_alive, name="neuron heartbeat")
                    io.start_soon(source.announce_changes, name="neuron updates")
                await self._stopping.wait()
                await self._end()
            io.cancel_scope.cancel()

    def _wiring(self) -> Wiring:
        engine = self._engine
        return Wiring(
            neuron=self._neuron,
            state=self._state,
            log=engine.log,
            clock=engine.clock,
            on_progress=engine.courier.put_progress,
            token=current_token(),
            origins=[source.origin for source in engine.sources],
        )

    def _stop_intake(self) -> None:
        """Leave the streams, so that a gateway that redelivers at once cannot go on for ever."""
        for scope in self._intake:
            scope.cancel()

    async def _take(self, number: int, broker: Broker) -> None:
        def started() -> None:
            self._engine.deliver_restored(number)  # also where nothing is left to offer, and so no `Registered` comes
            self._waiting_for -= 1
            if not self._waiting_for:
                self._ready.set()

        try:
            with CancelScope() as scope:
                self._intake.append(scope)
                await broker.take(task_status=_Started(started))
        except NeuronError as exc:
            self._fail(exc)

    async def _end(self) -> None:
        """Drain as long as nobody is in a hurry, then say the last words."""
        engine = self._engine
        begun = engine.clock()
        if self._stop is Stop.DRAIN:
            deadline = engine.clock() + engine.timing.drain
            with self._patience:
                await drain(engine, deadline)
                self._stop_intake()
                await flush(engine, min(deadline, engine.clock() + LAST_WORDS))
        if self._stop is Stop.NOW:
            self._stop_intake()
            await stop_now(engine)
        if engine.courier.pending:
            line = named("neuron.undelivered", neuron_id=engine.neuron_id, results=engine.courier.pending)
            engine.log.error("%d results were not delivered", engine.courier.pending, extra=line)
        engine.ended.set()
        line = named("neuron.stopped", neuron_id=engine.neuron_id)
        engine.log.info("stopped after %.1f s", engine.clock() - begun, extra=line)
