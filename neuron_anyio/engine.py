"""What turns the book's decisions into running handlers, sent results and events.

Everything here that changes state is synchronous and runs in the loop's thread; what has to wait for time stands in
`deadlines`, what speaks to a broker in `source`.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import anyio
from anyio.abc import TaskGroup

from . import events
from .abc import Broker, Journal
from .alarms import Alarms
from .capability import Capability
from .config import Limits, Timing
from .context import LeaseContext, Wiring
from .conversion import Mismatch
from .deadlines import Deadlines
from .delivery import Courier
from .errors import NeuronError
from .executor import Executor, Middleware, Run
from .jsontext import NotJsonError
from .lanes import Lane
from .lease import Lease, State
from .lease_log import LeaseLog
from .ledger import Arrival, Ledger
from .listeners import Listeners
from .model import CancelReason, Delivery, Failed, GiveBack, GivenBack, Outcome, Task
from .native_loop import loop_clock
from .outcome import CancelledOut, Ending, input_failure, outcome_of
from .recorder import Recorder
from .schemas import InvalidSchema
from .snapshot import CapabilityState, Snapshot, lease_state
from .source import Source
from .wakeup import Changed, Once
from .watchdog import Watchdog

__all__ = ["Engine"]


class Engine:
    """The moving parts of one neuron. Made and run by `open_neuron`.

    Args:
        neuron_id: the neuron's id.
        capabilities: what it can do, by type.
        brokers: the task systems.
        timing, limits: as given to `open_neuron`.
        max_concurrency: handlers over all capabilities, or None.
        middleware: round every handler.
        listeners: told every event.
        log: logger.
    """

    def __init__(
        self,
        *,
        neuron_id: str,
        capabilities: Mapping[str, Capability[..., Any]],
        brokers: Sequence[Broker],
        timing: Timing,
        limits: Limits,
        max_concurrency: int | None,
        middleware: Sequence[Middleware],
        listeners: Listeners,
        log: logging.Logger,
    ) -> None:
        self.neuron_id = neuron_id
        self.capabilities: dict[str, Capability[..., Any]] = dict(capabilities)
        self.brokers = brokers
        self.timing = timing
        self.limits = limits
        self.log = log
        self.listeners = listeners
        offers = [capability.offer for capability in capabilities.values()]
        origins = [broker.origin for broker in brokers]
        self.recorder: Recorder = Recorder(log, origins=origins)
        forget = self.recorder.forget
        self.ledger: Ledger = Ledger(offers, limits=limits, max_concurrency=max_concurrency, on_over=forget)
        self.alarms: Alarms = Alarms(self.clock)
        self.courier: Courier = Courier(
            self.ledger,
            brokers,
            self.recorder,
            timing=timing,
            clock=self.clock,
            alarms=self.alarms,
            listeners=listeners,
            on_room=self.start_ready,
            log=log,
        )
        self.deadlines: Deadlines = Deadlines(
            self.ledger,
            self.clock,
            self.alarms,
            on_lost=self._lost,
            on_impatient=self._settled,
            on_overdue=self._stop,
        )
        self.sources: list[Source] = [Source(self, number, broker) for number, broker in enumerate(brokers)]
        self._tell: LeaseLog = LeaseLog(log, origins=origins)
        self.counts: dict[str, Counter[str]] = {name: Counter() for name in capabilities}
        self.stopped = False
        self.ended: Once = Once()
        self.fatal: NeuronError | None = None
        self._left_behind: list[Run] = []
        watchdog = Watchdog(emit=listeners.publish, log=log, origins=origins)
        self.executor: Executor = Executor(self.capabilities.values(), middleware=middleware, watchdog=watchdog)
        self._wiring: Wiring | None = None
        self.handlers: Lane[tuple[Lease, Run]] = Lane(self._run, name="neuron handler", exposed=True)
        self._time: Callable[[], float] = anyio.current_time
        self.changed: Changed = Changed()

    def clock(self) -> float:
        """Return the loop's time in seconds, monotonic."""
        return self._time()

    def emit(self, event: events.Event) -> None:
        """Show an event to whoever listens."""
        self.listeners.publish(event)

    def attach(self, work: TaskGroup, wiring: Wiring) -> None:
        """Say where handlers run and what they share. Before the first delivery."""
        self.handlers.open(work)
        self._wiring = wiring
        self._time = loop_clock()

    def restore(self, journal: Journal) -> None:
        """Take a journal, and what an earlier process left in it (promise L10). Before the first delivery."""
        self.recorder.open(journal, self.ledger, sources=len(self.sources), now=self.clock())

    def snapshot(self) -> Snapshot:
        """Return how the neuron stands, frozen."""
        now = self.clock()
        slots = self.ledger.slots
        return Snapshot(
            connection=self._connection(),
            alive=all(source.alive for source in self.sources),
            draining=self.ledger.closed,
            paused=slots.paused,
            capabilities={
                name: CapabilityState(
                    limit=pool.limit, running=pool.running, queued=pool.queued, outcomes=dict(self.counts[name])
                )
                for name, pool in slots.pools.items()
            },
            undelivered=self.ledger.undelivered,
            recorded=self.recorder.recorded,
            left_behind=sum(not run.is_over for run in self._left_behind),
            leases=tuple(lease_state(lease, now) for lease in self.ledger.leases()),
        )

    def _connection(self) -> str:
        if self.stopped:
            return "stopped"
        if all(source.registered for source in self.sources):
            return "registered"
        return "connected" if all(source.connected or source.registered for source in self.sources) else "connecting"

    # What comes in

    def deliver(self, source: int, delivery: Delivery) -> None:
        """Take a delivery through the book."""
        now = self.clock()
        arrival, lease = self.ledger.arrive(source, delivery, now)
        if lease is None:
            return
        if arrival is Arrival.SETTLE:
            self._settled(lease, now, admitted=False)
            self.sources[source].lease_held(lease, now)
            return
        if arrival is Arrival.ADOPTED:
            self._tell.continued(lease)
            self.deadlines.watch(lease)
            self.sources[source].lease_held(lease, now)
            return
        self.listeners.tell_of(lease, events.LeaseAdmitted)
        if lease.outcome is None:  # nobody who listens has called it off
            self._judge(lease, now, queued=arrival is Arrival.REPLACED)

    def _judge(self, lease: Lease, now: float, *, queued: bool) -> None:
        """Validate an input before it waits (promise L1). It is decoded again if it has to wait: text is smaller."""
        task = lease.delivery.task
        try:
            value = self.capabilities[task.capability].read_input(task.input, lease.delivery.input_schema)
        except (Mismatch, InvalidSchema, NotJsonError) as exc:
            self.finish(lease, input_failure(exc), now)
            return
        if not queued:
            self.ledger.enqueue(lease)
        lease.runtime = value
        self.start_ready(now)
        if not isinstance(lease.runtime, Run):
            lease.runtime = None
            if lease.state is State.QUEUED:
                self.deadlines.watch_until(self.ledger.wait(lease))

    def refuse(self, source: int, delivery_id: str, outcome: Failed | GivenBack) -> None:
        """Settle a delivery that could not be read."""
        if self.ledger.is_held(source, delivery_id):
            return
        task = Task(task_id="", workflow_id="", capability="", attempt=0, input=b"")
        now = self.clock()
        lease = self.ledger.refuse(source, Delivery(id=delivery_id, task=task), outcome, now)
        self._settled(lease, now, admitted=False)

    def cancel(self, source: int, delivery_id: str) -> None:
        """Take a cancel through the book (promise L4)."""
        now = self.clock()
        lease = self.ledger.cancel(source, delivery_id, now)
        if lease is None:
            return
        if lease.is_running:
            lease.runtime.cancel()
        else:
            self._settled(lease, now)
            self.start_ready(now)

    def grant(self, source: int, granted: Mapping[str, int | None]) -> None:
        """Apply what a broker granted (promise C11)."""
        for name in self.ledger.grant(source, granted):
            self._tell.not_granted(source, name)
        self.start_ready(self.clock())

    def renewed(self) -> None:
        """Look again when the next lease runs out."""
        self.deadlines.look_again()

    def reconnected(self, source: int) -> None:
        """Send now what waited for a broker to come back (promise L9)."""
        self.deliver_restored(source)
        self.courier.hurry(source)

    def deliver_restored(self, source: int) -> None:
        """Send, once, what an earlier process left for a broker (promise L10)."""
        for lease in self.recorder.pop_restored(source):
            if not self.courier.carries(lease):
                self.courier.put(lease, self.clock())

    def revoke(self, source: int, capability: str, reason: str) -> None:
        """Apply a revocation (promise C12)."""
        origin = self.sources[source].origin
        self._tell.revoked(source, capability, reason)
        now = self.clock()
        for lease in self.ledger.revoke(source, capability, now):
            self._settled(lease, now)
        if not self.ledger.offers(source):
            self._tell.nothing_left(source)
        self.emit(events.CapabilityRevoked(origin=origin, capability=capability, reason=reason))

    def resize(self, capability: str, concurrency: int) -> None:
        """Change a capability's limit in place, and let every broker know (promise L5).

        Raises:
            KeyError: there is no such capability.
            ValueError: the limit is not a whole number above 0.
        """
        if capability not in self.capabilities:
            known = ", ".join(sorted(self.capabilities))
            raise KeyError(f"no capability {capability!r} here; there is {known}")
        changed = self.capabilities[capability].with_options(concurrency=concurrency)
        self.capabilities[capability] = changed
        self.ledger.slots.pools[capability].resize(changed.offer)
        for source in self.sources:
            source.limit_changed(capability)
        self.start_ready(self.clock())

    # Running

    def start_ready(self, now: float) -> None:
        """Start every handler that has a slot now."""
        while ready := self.ledger.start_ready(now):
            for lease in ready:
                if lease.is_running:
                    self._start(lease, now)
                else:
                    self._settled(lease, now)
        self.changed.notify()

    def _start(self, lease: Lease, now: float) -> None:
        assert self._wiring is not None
        task = lease.delivery.task
        capability = self.capabilities[task.capability]
        value, lease.runtime = lease.runtime, None
        if value is None:
            try:
                value = capability.read_input(task.input, lease.delivery.input_schema)
            except (Mismatch, InvalidSchema, NotJsonError) as exc:
                # A check of the type's own may say no on the second look. `start_ready` fills the slot again.
                self.ledger.finish(lease, input_failure(exc), now)
                self._settled(lease, now)
                return
        run = lease.runtime = Run(lease, capability, LeaseContext(lease, self._wiring), value, executor=self.executor)
        if capability.terms.timeout is not None:
            lease.deadline = now + capability.terms.timeout
        self.listeners.tell_of(lease, events.LeaseStarted, attempt=task.attempt)
        self.deadlines.watch(lease)
        self.sources[lease.source].lease_held(lease, now)
        self.handlers.push((lease, run))

    async def _run(self, job: tuple[Lease, Run]) -> bool:
        lease, run = job
        try:
            ending = await run.execute()
        except BaseException:
            # Something breaks that ends the whole neuron: nothing starts any more, and what was cut goes back.
            self.close()
            if lease.is_running:
                self.finish(lease, GivenBack.because(GiveBack.SHUTDOWN), self.clock())
            raise
        if lease.is_running:
            self._ended(lease, run, ending)
        del ending  # what a handler raises knows the frames round it: a circle
        return run.is_spent

    def _ended(self, lease: Lease, run: Run, ending: Ending) -> None:
        verdict, limit = run.context.take_verdict(), self.limits.output_bytes
        outcome = outcome_of(ending, lease, run.capability, verdict=verdict, output_bytes=limit)
        self.finish(lease, outcome, self.clock())

    def finish(self, lease: Lease, outcome: Outcome, now: float) -> None:
        """Settle a lease and let the next one start."""
        self.ledger.finish(lease, outcome, now)
        self._settled(lease, now)
        self.start_ready(now)

    def _settled(self, lease: Lease, now: float, *, admitted: bool = True) -> None:
        outcome, capability = lease.outcome, lease.delivery.task.capability
        assert outcome is not None
        if capability in self.counts:
            self.counts[capability][type(outcome).__name__] += 1
        if admitted:
            seconds = None if lease.started is None else now - lease.started
            self.listeners.tell_of(lease, events.LeaseSettled, outcome=outcome, seconds=seconds)
        if lease.started is None and not isinstance(outcome, GivenBack):
            self.sources[lease.source].lease_held(lease, now)  # it was not before, and is until it is delivered
        self._tell.settled(lease)
        self.recorder.record(lease)
        self.courier.put(lease, now)

    # The end

    def close(self, *, quietly: bool = False) -> list[Lease]:
        """Take no new work. Queued leases go back: at once, or (`quietly`) when `give_back` is called."""
        first = not self.ledger.closed
        leases = self.ledger.close(self.clock())
        if first:
            self.emit(events.Draining(running=self.ledger.slots.running, given_back=len(leases)))
        self.changed.notify()
        if not quietly:
            self.give_back(leases)
        return leases

    def give_back(self, leases: Sequence[Lease]) -> None:
        """Send what `close` returned."""
        now = self.clock()
        for lease in leases:
            self._settled(lease, now)

    def stop_all(self, reason: CancelReason) -> None:
        """Cancel every running handler."""
        for lease in self.ledger.held.running():
            self._stop(lease, reason)

    def _stop(self, lease: Lease, reason: CancelReason) -> None:
        if self.ledger.stop(lease, reason):
            lease.runtime.cancel()

    def abandon_all(self, waited: float) -> None:
        """Wait no longer for handlers that do not end (promise D2)."""
        for lease in self.ledger.held.running():
            run: Run = lease.runtime
            capability = lease.delivery.task.capability
            self._tell.left_behind(lease)
            blocked = events.HandlerBlocked(
                lease_id=lease.delivery.id, capability=capability, seconds=waited, reason=lease.cancel_reason
            )
            self.emit(blocked)
            run.abandon()
            self._left_behind.append(run)
            self._ended(lease, run, CancelledOut())

    async def wait_idle(self) -> None:
        """Wait until no handler runs."""
        while self.ledger.slots.running:
            await self.changed.wait()

    def _lost(self, lease: Lease) -> None:
        task = lease.delivery.task
        self._tell.lost(lease)
        self.listeners.tell_of(lease, events.LeaseLost)
        if self.capabilities[task.capability].terms.on_lease_lost == "cancel":
            self._stop(lease, CancelReason.LEASE_LOST)
