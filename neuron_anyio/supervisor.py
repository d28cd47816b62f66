"""The life of one neuron: the only place that opens its task groups.

    caller's task                          the neuron's own task, shielded
    -------------                          -------------------------------
    lifespan                               brokers              last words still have a wire
      task group ------- starts -------->    task group         handlers, delivery, heartbeats
        the clock, until accepted              intake           of further brokers in tasks of their own
        the body, the clock beside it
        leaves: asks to drain  --------->      drains, ends

The neuron's task is shielded because the last words of a cancelled neuron need a wire for two more seconds (promise
D3). What tells it of the caller's cancellation is the clock, which runs beside it and goes on in the shield then. The
clock gets a task of its own only for the body: what is there while a thousand neurons register stays with the process.
"""

from __future__ import annotations

import enum
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from pathlib import Path
from typing import Any, Generic, TypeVar

from anyio import CancelScope, create_task_group
from anyio.abc import TaskGroup, TaskStatus
from anyio.lowlevel import current_token

from .abc import Journal
from .context import NeuronHandle, Wiring
from .drain import LAST_WORDS, drain, flush, stop_now
from .engine import Engine
from .errors import NeuronError
from .groups import add_context, leaves
from .logs import named
from .taskgroups import body_task_group

__all__ = ["NOTHING", "Stop", "Supervisor"]

N = TypeVar("N", bound=NeuronHandle)

NOTHING: AbstractAsyncContextManager[Any] = nullcontext()
"""In the place of a block that nobody wants."""


class Stop(enum.IntEnum):
    """How urgently the neuron is to end; it only grows."""

    NOT = 0
    DRAIN = 1
    NOW = 2


class _Started(TaskStatus[None]):
    """Tells the supervisor that one broker has been accepted, once."""

    def __init__(self, tell: Callable[[int], None], number: int) -> None:
        self._tell: Callable[[int], None] | None = tell
        self._number = number

    def started(self, value: None = None) -> None:  # noqa: ARG002 - the base's signature
        tell, self._tell = self._tell, None
        if tell is not None:
            tell(self._number)


class Supervisor(Generic[N]):
    """The life of one neuron: entering, the body, the drain, and which exception comes out.

    Args:
        engine: its parts.
        neuron: what the body gets.
        lifespan, journal: as given to `open_neuron`.
        watching: a block round all of it.
    """

    def __init__(
        self,
        engine: Engine,
        neuron: N,
        *,
        lifespan: Callable[[], AbstractAsyncContextManager[Any]] | None,
        journal: Path | None,
        watching: AbstractAsyncContextManager[Any] = NOTHING,
    ) -> None:
        self._engine = engine
        self._neuron = neuron
        self._lifespan = lifespan
        self._state: Any = None
        self._journal = journal
        self._watching = watching
        self._stop = Stop.NOT
        self._ready = False
        self._waiting_for = len(engine.brokers)
        self._body = CancelScope()
        self._patience: CancelScope | None = None
        self._group: TaskGroup | None = None
        self._is_cut = False
        self._intake: list[CancelScope] = []

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[N]:
        """Run the neuron round a body. The table of what comes out is in the tests."""
        try:
            async with self._watching, NOTHING if self._lifespan is None else self._lifespan() as self._state:
                try:
                    async with body_task_group() as group:
                        group.start_soon(self._live, name="neuron")
                        try:
                            await self._watch(until=self._is_ready)
                            if not self._is_cut:
                                group.start_soon(self._watch, name="neuron clock")
                            if self._engine.fatal is None:
                                with self._body:
                                    yield self._neuron
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
        finally:
            self._engine.listeners.close()

    def request(self, stop: Stop) -> None:
        """Ask the neuron to end, this urgently."""
        if stop > self._stop:
            if self._stop is Stop.NOT and self._group is not None:
                self._group.start_soon(self._end, name="neuron end")
            self._stop = stop
            if stop is Stop.NOW and self._patience is not None:
                self._patience.cancel()

    def _fail(self, error: NeuronError) -> None:
        if self._engine.fatal is None:
            self._engine.fatal = error
            line = named("neuron.failed", neuron_id=self._engine.neuron_id, error=type(error).__name__)
            self._engine.log.error("the neuron ends: %s", error, extra=line)
        self._be_ready()
        self._body.cancel()
        self.request(Stop.DRAIN)

    def _break(self, error: Exception) -> None:
        line = named("neuron.broken", neuron_id=self._engine.neuron_id)
        text = "the neuron has failed in a way that nobody foresaw"
        self._engine.log.critical(text, exc_info=error, extra=line)
        failure = NeuronError(f"the neuron has failed: {next(leaves(error))!r}")
        failure.__cause__ = error
        self._fail(failure)

    def _be_ready(self) -> None:
        self._ready = True
        self._engine.alarms.look_up()

    def _is_ready(self) -> bool:
        return self._ready

    async def _watch(self, until: Callable[[], bool] | None = None) -> None:
        """Run the clock; where it is cancelled, say so to the neuron, which needs it to the end."""
        try:
            await self._engine.alarms.run(until)
        except Exception as exc:
            self._break(exc)
            self._cut()
        except BaseException:  # the caller's cancellation, which goes on
            self._cut()
            raise

    def _cut(self) -> None:
        self._is_cut = True
        self.request(Stop.NOW)
        if self._group is not None:
            self._group.start_soon(self._engine.alarms.run, name="neuron clock")

    async def _live(self) -> None:
        engine = self._engine
        with CancelScope() as life:
            try:
                try:
                    if self._journal is None:
                        await self._live_with(life)
                    else:
                        async with self._open_journal(self._journal) as journal:
                            engine.restore(journal)
                            await self._live_with(life)
                finally:
                    await engine.executor.processes.aclose()  # noqa: ASYNC102 - it shields itself, for two seconds
            except NeuronError as exc:
                self._fail(exc)
            except Exception as exc:
                self._break(exc)
            finally:
                engine.stopped = True
                self._be_ready()
                engine.alarms.close()

    async def _live_with(self, life: CancelScope, opened: int = 0) -> None:
        """Open the brokers, each inside the one before, and live; an exit stack would be 2 KiB while it lasts."""
        engine = self._engine
        async with engine.brokers[opened].open(engine.sources[opened]):
            if opened + 1 < len(engine.brokers):
                await self._live_with(life, opened + 1)
                return
            life.shield = True  # not before: nothing is held yet, and what hangs here must not hold the exit
            await self._work()
            life.deadline = engine.clock() + LAST_WORDS  # a broker that does not close (promise D3)

    def _open_journal(self, path: Path) -> AbstractAsyncContextManager[Journal]:
        from .journal import open_journal  # noqa: PLC0415 - SQLite, for those alone who have a journal

        gateway = ", ".join(broker.origin for broker in self._engine.brokers)
        return open_journal(path, gateway=gateway, neuron_id=self._engine.neuron_id, log=self._engine.log)

    async def _work(self) -> None:
        async with create_task_group() as group:
            try:
                self._open(group)
                await self._take(0)  # in this task: another would be 5 KiB for each neuron
                await self._engine.ended.wait()
                group.cancel_scope.cancel()  # workers that rest; handlers that still run were told long ago
            finally:
                self._group = None
                for source in self._engine.sources:
                    source.close()
                self._engine.alarms.close()

    def _open(self, group: TaskGroup) -> None:
        """Begin to work in tasks of this group, and to end there where it has come to that already."""
        engine = self._engine
        engine.courier.open(group)
        engine.attach(group, self._wiring())
        self._group = group
        if self._stop is not Stop.NOT:
            group.start_soon(self._end, name="neuron end")
        if self._is_cut:
            group.start_soon(engine.alarms.run, name="neuron clock")
        for source in engine.sources:
            source.open(group)
        for number in range(1, len(engine.brokers)):
            group.start_soon(self._take, number, name="neuron intake")

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

    async def _take(self, number: int) -> None:
        try:
            with CancelScope() as scope:
                self._intake.append(scope)
                await self._engine.brokers[number].take(task_status=_Started(self._note_started, number))
        except NeuronError as exc:
            self._fail(exc)

    def _note_started(self, number: int) -> None:
        self._engine.deliver_restored(number)  # also where nothing is left to offer, and so no `Registered` comes
        self._waiting_for -= 1
        if not self._waiting_for:
            self._be_ready()

    async def _end(self) -> None:
        """Drain as long as nobody is in a hurry, then say the last words."""
        engine = self._engine
        begun = engine.clock()
        if self._stop is Stop.DRAIN:
            deadline = engine.clock() + engine.timing.drain
            with CancelScope() as self._patience:
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
