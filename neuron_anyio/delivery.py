"""Getting results to their brokers: at least once, in any weather (promise L9). The only place that sends them.

A few workers share the results that are ready, others the give-backs of what never ran, others the progress; what has
to wait (back-off, paced give-backs) lies in a heap until it is due. So one result that nobody takes never holds up
another, and neither progress nor a queue full of give-backs ever holds up a result.
"""

from __future__ import annotations

import heapq
import itertools
import logging
from collections.abc import Callable, Sequence

import anyio
from anyio.abc import TaskGroup

from .abc import Broker, Receipt, Verdict
from .alarms import Alarms
from .config import Timing
from .errors import TransportError
from .events import ResultAccepted, ResultRejected
from .executor import Run
from .lanes import Lane
from .lease import Lease, State
from .ledger import Ledger
from .listeners import Listeners
from .logs import named
from .model import GivenBack
from .recorder import Recorder
from .retries import Retries
from .wakeup import Changed

__all__ = ["Courier"]

RESULTS_AT_ONCE, GIVE_BACKS_AT_ONCE, PROGRESS_AT_ONCE = 16, 16, 8
"""Requests in flight: enough to hide a round trip, few beside a pool's connections."""

PROGRESS_INTERVAL = 0.1
"""Seconds between two updates of one lease: as fast as people read."""

PROGRESS_BEFORE_RESULT = 1.0
"""Seconds that the last progress may hold up the result (promise H3)."""


class _Job:
    """One lease on its way. `result` tells a settlement from mere progress."""

    __slots__ = ("again", "busy", "due", "is_stranded", "lease", "place", "result", "retries")

    def __init__(self, lease: Lease, retries: Retries, *, due: float, result: bool) -> None:
        self.lease = lease
        self.retries = retries
        self.due = due
        self.result = result
        self.busy = False
        self.again = False
        self.is_stranded = False
        self.place = 0


class Courier:
    """Carries outcomes and progress.

    Args:
        ledger: the book; told what became of each result.
        brokers: by the source number of a lease.
        recorder: what is worth it is in the journal before it is sent (promise L10).
        timing: back-off.
        clock: seconds, monotonic, the loop's.
        alarms: the neuron's clock.
        listeners: told of what became of each result.
        on_room: called when a result has left, with the time; it may let a handler start.
        log: logger.
    """

    def __init__(
        self,
        ledger: Ledger,
        brokers: Sequence[Broker],
        recorder: Recorder,
        *,
        timing: Timing,
        clock: Callable[[], float],
        alarms: Alarms,
        listeners: Listeners,
        on_room: Callable[[float], None],
        log: logging.Logger,
    ) -> None:
        self._ledger = ledger
        self._brokers = brokers
        self._recorder = recorder
        self._timing = timing
        self._clock = clock
        self._listeners = listeners
        self._on_room = on_room
        self._log = log
        self._result_lane = Lane(self._deliver, name="neuron results", most=RESULTS_AT_ONCE)
        self._give_back_lane = Lane(self._deliver, name="neuron give-backs", most=GIVE_BACKS_AT_ONCE)
        self._progress_lane = Lane(self._send_update, name="neuron progress", most=PROGRESS_AT_ONCE)
        self._later: list[tuple[float, int, _Job]] = []
        self._count = itertools.count()
        self._results: dict[Lease, _Job] = {}
        self._updates: dict[Lease, _Job] = {}
        self._alarm = alarms.add(self._move_what_is_due)
        self._changed = Changed()

    @property
    def pending(self) -> int:
        """Outcomes that are not accepted yet."""
        return len(self._results)

    def carries(self, lease: Lease) -> bool:
        """Return whether the outcome of a lease is on its way."""
        return lease in self._results

    # Giving it work: synchronous, from anywhere in the loop's thread

    def put(self, lease: Lease, now: float) -> None:
        """Take over an outcome. One that is on its way already goes again, under its lease's newest id."""
        job = self._results.get(lease)
        if job is None:
            job = self._results[lease] = self._job(lease, due=lease.due, result=True)
            self._schedule(job, now)
        elif job.busy:
            job.again = True
        else:
            self._send_anew(job, now)

    def put_progress(self, lease: Lease) -> None:
        """Take over that a lease has progress to send."""
        if lease in self._updates or not isinstance(lease.runtime, Run):
            return
        job = self._updates[lease] = self._job(lease, due=lease.runtime.progress_due, result=False)
        self._schedule(job, self._clock())

    def _job(self, lease: Lease, *, due: float, result: bool) -> _Job:
        return _Job(lease, Retries(self._timing.reconnect), due=due, result=result)

    def hurry(self, source: int | None = None) -> None:
        """Send now what waits for its time: everything, or what one broker that is back had failed to take."""
        later, self._later = self._later, []
        for entry in later:
            job = entry[2]
            if job.place != entry[1]:
                continue
            if source is None or (job.retries.failures and job.lease.source == source):
                job.due = self._clock()
                self._push_ready(job)
            else:
                heapq.heappush(self._later, entry)

    def _send_anew(self, job: _Job, now: float) -> None:
        job.retries.reset()
        job.due = now
        self._schedule(job, now)

    def _schedule(self, job: _Job, now: float) -> None:
        if job.due <= now:
            self._push_ready(job)
        else:
            job.place = next(self._count)
            heapq.heappush(self._later, (job.due, job.place, job))
            self._alarm.advance(job.due)

    def _push_ready(self, job: _Job) -> None:
        job.place = -1
        self._lane(job).push(job)

    def _lane(self, job: _Job) -> Lane[_Job]:
        if not job.result:
            return self._progress_lane
        never_ran = job.lease.started is None and isinstance(job.lease.outcome, GivenBack)
        return self._give_back_lane if never_ran else self._result_lane

    # Doing it

    def open(self, group: TaskGroup) -> None:
        """Carry in tasks of this group, until it is cancelled."""
        self._result_lane.open(group)
        self._give_back_lane.open(group)
        self._progress_lane.open(group)

    async def wait_sent(self) -> None:
        """Wait until every outcome that is here now is accepted, given up, or cannot go anywhere any more."""
        for lease, job in list(self._results.items()):
            while lease in self._results and not job.is_stranded:
                await self._changed.wait()

    def _move_what_is_due(self) -> None:
        now = self._clock()
        while self._later and self._later[0][0] <= now:
            _, place, job = heapq.heappop(self._later)
            if job.place == place:  # else it was put on its way by other means
                self._push_ready(job)
        if self._later:
            self._alarm.advance(self._later[0][0])

    async def _deliver(self, job: _Job) -> None:
        lease = job.lease
        if job.busy or self._results.get(lease) is not job:
            return
        job.busy = True
        if self._recorder.is_pending(lease):
            await self._recorder.wait_recorded(lease)
        await self._flush_before(lease)
        job.again = False  # a newer delivery that came until here is the one that is answered now
        if lease.state is not State.UNDELIVERED or lease.outcome is None:
            # Its task came again and runs: nobody waits for this answer any more (promise L3.5).
            del self._results[lease]
            self._changed.notify()
            return
        delivery_id, outcome = lease.delivery.id, lease.outcome
        try:
            receipt = await self._brokers[lease.source].settle(delivery_id, outcome)
        except TransportError as exc:
            if exc.is_final:
                self._strand(job, str(exc))
            else:
                self._try_again(job, str(exc), exc.retry_after)
        except Exception as exc:
            line = self._named("result.broken", lease)
            self._log.exception("delivering the result of lease %s failed", delivery_id, extra=line)
            self._try_again(job, type(exc).__name__, None)
        else:
            self._delivered(job, delivery_id, receipt)

    def _strand(self, job: _Job, reason: str) -> None:
        """Leave a result where it is, busy for ever: the way to its broker is gone for good."""
        job.is_stranded = True
        line = self._named("result.not_delivered", job.lease, failures=job.retries.failures + 1, delay=None)
        text = "result of lease %s not delivered: %s"
        self._log.warning(text, job.lease.delivery.id, reason, extra=line)
        self._changed.notify()

    def _try_again(self, job: _Job, reason: str, retry_after: float | None) -> None:
        job.busy = False
        again, job.again = job.again, False
        if again:
            job.retries.reset()
        delay, now = job.retries.fail(retry_after), self._clock()
        job.due = now + (0.0 if again else delay)
        if job.retries.is_telling:
            self._log.warning(
                "result of lease %s not delivered (attempt %d): %s; next in %.1f s",
                job.lease.delivery.id,
                job.retries.failures,
                reason,
                delay,
                extra=self._named("result.not_delivered", job.lease, failures=job.retries.failures, delay=delay),
            )
        self._schedule(job, now)

    def _delivered(self, job: _Job, delivery_id: str, receipt: Receipt) -> None:
        lease, now = job.lease, self._clock()
        job.busy = False
        if lease.delivery.id != delivery_id or job.again:
            # A newer delivery of the task came meanwhile and wants the same answer (promise L3.5).
            job.again = False
            self._send_anew(job, now)
            return
        seconds = None if lease.finished is None else now - lease.finished
        task_id = lease.delivery.task.task_id or None
        if receipt.verdict is Verdict.ACCEPTED:
            self._ledger.accepted(lease, now)
            self._listeners.tell_of(lease, ResultAccepted, task_id=task_id, seconds=seconds)
        else:
            line = self._named("result.rejected", lease, verdict=receipt.verdict.name)
            self._log.warning("result of lease %s not taken: %s", delivery_id, receipt.reason, extra=line)
            self._listeners.tell_of(lease, ResultRejected, task_id=task_id, seconds=seconds, reason=receipt.reason)
            if receipt.verdict is Verdict.GONE:
                self._ledger.gone(lease, now)
            elif self._ledger.refused(lease, receipt.reason, now):
                self._recorder.record(lease)
                self._send_anew(job, now)
                return
        del self._results[lease]
        lease.runtime = None  # the run knows its lease, too: a cycle
        self._changed.notify()
        self._on_room(now)

    def _named(self, event: str, lease: Lease, **fields: object) -> dict[str, object]:
        return named(event, lease, origin=self._brokers[lease.source].origin, **fields)

    # Progress: promise H3

    async def _flush_before(self, lease: Lease) -> None:
        run = lease.runtime
        if isinstance(run, Run) and (run.progress_lock is not None or run.context.has_progress):
            with anyio.move_on_after(PROGRESS_BEFORE_RESULT):
                await self._flush(lease, run)

    async def _send_update(self, job: _Job) -> None:
        del self._updates[job.lease]
        run = job.lease.runtime
        if isinstance(run, Run) and job.lease.is_running:
            await self._flush(job.lease, run)

    async def _flush(self, lease: Lease, run: Run) -> None:
        if run.progress_lock is None:
            run.progress_lock = anyio.Lock()
        async with run.progress_lock:
            progress = run.context.take_progress()
            if progress is None:
                return
            run.progress_due = self._clock() + PROGRESS_INTERVAL
            try:
                await self._brokers[lease.source].report(lease.delivery, progress)
            except TransportError as exc:
                line = self._named("progress.lost", lease)
                self._log.debug("progress of lease %s lost: %s", lease.delivery.id, exc, extra=line)
            except Exception:
                line = self._named("progress.broken", lease)
                self._log.exception("sending progress of lease %s failed", lease.delivery.id, extra=line)
