"""The neuron's book: every delivery from its arrival until its result is accepted, and what is remembered after.

The law: what arrives is either run once, answered from the book, or given back, and the book says which. All decisions
of promises L2 to L9 are made here, synchronously, from facts and `now` (seconds, monotonic); the shell does what it is
told and reports what happened. A delivery is known by its broker and id, a task by its fingerprint.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Mapping

from .config import Limits
from .holdings import Holdings
from .kept import KeptResults, answers
from .lease import Lease, State, Step, fingerprint
from .memory import Memory
from .model import (
    Cancelled,
    CancelReason,
    Completed,
    Delivery,
    Failed,
    FailureKind,
    GiveBack,
    GivenBack,
    Offer,
    Outcome,
)
from .pacing import Pacer
from .patience import Patience
from .records import Recorded
from .slots import Slots

__all__ = ["Arrival", "Ledger"]


class Arrival(enum.Enum):
    """What to do with a delivery that has come."""

    ADMIT = "new: judge its input, then `enqueue` or `finish` it"
    REPLACED = "took a queued delivery's place: judge its input again"
    ADOPTED = "its task runs already: the run goes on under the new id"
    SETTLE = "it is decided already: send the outcome"
    IGNORE = "nothing"


class Ledger:
    """The book.

    Args:
        offers: what the neuron can do.
        limits: bounds.
        max_concurrency: handlers over all capabilities, or None.
        on_over: told of each lease whose result nobody will ask for any more.

    Attributes:
        slots: who may start.
        held: what a heartbeat lists, and whose time runs.
        closed: no new work is taken (drain).
    """

    def __init__(
        self,
        offers: Iterable[Offer],
        *,
        limits: Limits,
        max_concurrency: int | None = None,
        on_over: Callable[[Lease], None] = lambda _: None,
    ) -> None:
        self.slots: Slots = Slots(offers, maximum=max_concurrency)
        self.held: Holdings = Holdings()
        self.closed: bool = False
        self._limits = limits
        self._on_over = on_over
        self._by_id: dict[tuple[int, str], Lease] = {}
        self._by_task: dict[bytes, Lease] = {}
        self._kept = KeptResults(limits)
        self._memory = Memory(limits)
        self._pacers: dict[str, Pacer] = {}
        self._patience = Patience()
        self._undelivered = 0
        self._sequence = 0

    # What is in the book

    @property
    def undelivered(self) -> int:
        """Results that the broker has not taken yet; give-backs hold nothing and do not count."""
        return self._undelivered

    def leases(self) -> list[Lease]:
        """Return every lease that is not over, oldest first."""
        return sorted(set(self._by_id.values()), key=lambda lease: lease.sequence)

    def is_held(self, source: int, delivery_id: str) -> bool:
        """Return whether a delivery is queued, running or undelivered, or was settled a short while ago."""
        return (source, delivery_id) in self._by_id or self._memory.is_settled((source, delivery_id))

    # Arrival: promises L2, L3, L4.1, L6, L13

    def arrive(self, source: int, delivery: Delivery, now: float) -> tuple[Arrival, Lease | None]:
        """Decide about a delivery. The lease comes with every answer but IGNORE."""
        key = (source, delivery.id)
        self._memory.forget_old(now)
        self._forget_kept(now)
        if key in self._by_id:
            return Arrival.IGNORE, None
        if self._memory.is_settled(key):
            return self._arrive_again(source, delivery, now)
        identity = fingerprint(source, delivery.task)
        if self._memory.pop_cancel(key):
            lease = self._new(source, delivery, identity, now)
            return Arrival.SETTLE, self.finish(lease, Cancelled(), now)
        known = self._by_task.get(identity)
        if known is not None and (answer := self._arrive_known(known, delivery, now)) is not None:
            return answer, known
        lease = self._new(source, delivery, identity, now)
        refusal = self._refusal(lease, now)
        if refusal is not None:
            return Arrival.SETTLE, self.finish(lease, refusal, now)
        self._by_task[identity] = lease
        return Arrival.ADMIT, lease

    def _new(self, source: int, delivery: Delivery, identity: bytes, now: float) -> Lease:
        self._sequence += 1
        lease = Lease(delivery, source=source, fingerprint=identity, now=now, sequence=self._sequence)
        self._by_id[lease.key] = lease
        return lease

    def _arrive_again(self, source: int, delivery: Delivery, now: float) -> tuple[Arrival, Lease | None]:
        outcome = self._memory.result((source, delivery.id))
        if outcome is None:
            kept = self._kept.get(fingerprint(source, delivery.task))
            return (Arrival.IGNORE, None) if kept is None else (self._answer(kept, delivery, now), kept)
        lease = self._new(source, delivery, fingerprint(source, delivery.task), now)
        lease.outcome = outcome
        lease.apply(Step.FINISH)
        self._note_undelivered(lease, now)
        if isinstance(outcome, GivenBack):
            lease.due = self._pacer(delivery.task.capability).due(now)
        return Arrival.SETTLE, lease

    def _arrive_known(self, known: Lease, delivery: Delivery, now: float) -> Arrival | None:
        """Rows L3.3 to L3.5; None when the handler has to run."""
        if known.state is State.QUEUED:
            before = known.size
            self._rebind(known, delivery, now)
            self.slots.resize(before, known.size)
            if self.slots.queued_bytes <= self._limits.queue_bytes:
                return Arrival.REPLACED
            self.finish(known, GivenBack.because(GiveBack.OVERLOADED), now)
            return Arrival.SETTLE
        if known.is_running and known.cancel_reason is not CancelReason.GATEWAY:
            self._rebind(known, delivery, now)
            return Arrival.ADOPTED
        if known.state not in (State.UNDELIVERED, State.KEPT):
            return None
        if not answers(known.outcome):
            self._leave(known, Step.FORGET, now)
            return None
        return self._answer(known, delivery, now)

    def _answer(self, known: Lease, delivery: Delivery, now: float) -> Arrival:
        if known.state is State.KEPT:
            self._kept.remove(known)
            known.apply(Step.REVIVE)
            self._undelivered += 1
        self._rebind(known, delivery, now)
        known.shed()
        known.finished = now
        known.due = now
        return Arrival.SETTLE

    def _rebind(self, lease: Lease, delivery: Delivery, now: float) -> None:
        """Go on under a newer delivery; the one so far is over (promises L3.4 and L4.4)."""
        self._forget_id(lease, now, outcome=None)
        lease.rebind(delivery, now)
        self._by_id[lease.key] = lease
        if lease.state is not State.QUEUED:
            self.held.add(lease)

    def _refusal(self, lease: Lease, now: float) -> GivenBack | None:
        """Row by row of L2, L6 and L13; the first that fits."""
        task = lease.delivery.task
        pool = self.slots.pools.get(task.capability)
        if self.closed:
            return GivenBack.because(GiveBack.DRAINING)
        if pool is None:
            return GivenBack.because(GiveBack.UNKNOWN_CAPABILITY)
        if not pool.is_granted(lease.source):
            return GivenBack.because(GiveBack.REVOKED)
        if pool.offer.on_behalf_of not in (None, task.on_behalf_of):
            return GivenBack.because(GiveBack.SCOPE_MISMATCH)
        if lease.time_left(now) == 0:
            return GivenBack.because(GiveBack.EXPIRED)
        full = self.slots.queued >= self._limits.queue
        full = full or self.slots.queued_bytes + lease.size > self._limits.queue_bytes
        return GivenBack.because(GiveBack.OVERLOADED) if full else None

    def refuse(self, source: int, delivery: Delivery, outcome: Outcome, now: float) -> Lease:
        """Settle a delivery of which only the id could be read (promise C8)."""
        return self.finish(self._new(source, delivery, fingerprint(source, delivery.task), now), outcome, now)

    def restore(self, recorded: Recorded, now: float, *, age: float) -> Lease:
        """Take a result into the book that another process left undelivered, `age` seconds ago (promise L10)."""
        lease = self._new(recorded.source, recorded.delivery, recorded.fingerprint, now)
        lease.outcome = recorded.outcome
        lease.apply(Step.FINISH)
        self._note_undelivered(lease, now)
        lease.finished = now - age
        self._by_task[recorded.fingerprint] = lease
        return lease

    # Queue and run: promises L1, L5, L6, L8

    def enqueue(self, lease: Lease) -> None:
        """Let an admitted lease wait for its slot."""
        lease.apply(Step.ENQUEUE)
        self.slots.enqueue(lease)

    def wait(self, lease: Lease) -> float | None:
        """Note that a queued lease has to wait; return until when it may, None for ever."""
        return self._patience.wait(lease, queued=self.slots.queued)

    def impatient(self, now: float) -> list[Lease]:
        """Return the queued leases that will not get their slot in time, given back (promise L6)."""
        return [self.finish(lease, GivenBack.because(GiveBack.EXPIRED), now) for lease in self._patience.over(now)]

    def start_ready(self, now: float) -> list[Lease]:
        """Give every free slot to the oldest lease that waits for it.

        Returns leases whose handlers must start now, and among them those that had no time left, or whose capability is
        no longer granted, already finished. None starts while too many results wait for the broker (promise L9).
        """
        ready: list[Lease] = []
        while self.slots.queued and self._undelivered < self._limits.undelivered:
            lease = self.slots.next()
            if lease is None:
                break
            ready.append(lease)
            hindrance = self._hindrance(lease, now)
            if hindrance is not None:
                self.finish(lease, GivenBack.because(hindrance), now)
                continue
            self.slots.take(lease)
            lease.apply(Step.START)
            lease.started = now
            self.held.add(lease)
        return ready

    def _hindrance(self, lease: Lease, now: float) -> GiveBack | None:
        """Return why a lease must not start though its slot has come free (promises L6 and C11)."""
        if lease.time_left(now) == 0:
            return GiveBack.EXPIRED
        granted = self.slots.pools[lease.delivery.task.capability].is_granted(lease.source)
        return None if granted else GiveBack.REVOKED

    def finish(self, lease: Lease, outcome: Outcome, now: float) -> Lease:
        """Settle a lease: its handler has ended, or it never starts. Frees its slot. Returns the lease."""
        if lease.is_running:
            self.slots.release(lease)
        elif lease.state is State.QUEUED:
            self.slots.leave_queue(lease)
        lease.apply(Step.FINISH)
        lease.outcome = outcome
        self._note_undelivered(lease, now)
        if isinstance(outcome, GivenBack) and lease.started is None:
            lease.due = self._pacer(lease.delivery.task.capability).due(now)
        return lease

    def _note_undelivered(self, lease: Lease, now: float) -> None:
        lease.finished = now
        lease.due = now
        lease.shed()
        if isinstance(lease.outcome, GivenBack):
            self.held.remove(lease)
            return
        self._undelivered += 1
        if lease.delivery.task.task_id:  # a heartbeat has no words for a delivery of which only the id could be read
            self.held.add(lease)

    def _pacer(self, capability: str) -> Pacer:
        """Return the pacer of a capability; unknown ones share one, their number is the gateway's choice."""
        return self._pacers.setdefault(capability if capability in self.slots.pools else "", Pacer())

    # Cancel: promise L4

    def cancel(self, source: int, delivery_id: str, now: float) -> Lease | None:
        """Decide about a cancel. Returns the lease that it concerns, finished or STOPPING; None for nothing to do."""
        key = (source, delivery_id)
        lease = self._by_id.get(key)
        if lease is None:
            if not self._memory.is_settled(key):
                self._memory.note_cancel(key, now)
            return None
        if lease.state in (State.ADMITTED, State.QUEUED):
            return self.finish(lease, Cancelled(), now)
        if lease.is_running:
            lease.cancel(CancelReason.GATEWAY)
            return lease
        return None

    def stop(self, lease: Lease, reason: CancelReason) -> bool:
        """Note that a running handler is cancelled by this side. Returns whether it runs."""
        if lease.is_running:
            lease.cancel(reason)
        return lease.is_running

    def next_deadline(self) -> float | None:
        """Return when a lease has to be looked at next: to expire, to be over its time-out or out of patience."""
        times = (self.held.next_deadline(), self._patience.next)
        return min((time for time in times if time is not None), default=None)

    # Delivery: promise L9

    def accepted(self, lease: Lease, now: float) -> None:
        """Note that the broker took the outcome."""
        if lease.state is State.UNDELIVERED:
            self._leave(lease, Step.ACCEPT, now)

    def gone(self, lease: Lease, now: float) -> None:
        """Note that the lease is over: its result waits for the task to come again, where that is of use."""
        if lease.state is not State.UNDELIVERED:
            return
        if not answers(lease.outcome) or self._by_task.get(lease.fingerprint) is not lease:
            self._leave(lease, Step.FORGET, now)
            return
        self._forget_id(lease, now, outcome=None)
        lease.apply(Step.LOSE)
        lease.finished = now
        self._undelivered -= 1
        self._kept.add(lease)
        self._forget_kept(now)

    def refused(self, lease: Lease, reason: str, now: float) -> bool:
        """Note that the broker will never take this content. Returns whether another outcome is to be sent."""
        if lease.state is not State.UNDELIVERED:
            return False
        if isinstance(lease.outcome, Completed):
            lease.outcome = Failed(kind=FailureKind.RESULT_REFUSED, retryable=False, reason=reason)
            return True
        self._leave(lease, Step.FORGET, now)
        return False

    def _leave(self, lease: Lease, step: Step, now: float) -> None:
        lease.apply(step)
        self._forget_id(lease, now, outcome=lease.outcome if step is Step.ACCEPT else None)
        if not isinstance(lease.outcome, GivenBack):
            self._undelivered -= 1
        self._end(lease)

    def _end(self, lease: Lease) -> None:
        if self._by_task.get(lease.fingerprint) is lease:
            del self._by_task[lease.fingerprint]
        self._on_over(lease)

    def _forget_id(self, lease: Lease, now: float, *, outcome: Outcome | None) -> None:
        if self._by_id.get(lease.key) is lease:
            del self._by_id[lease.key]
            self.held.remove(lease)
            self._memory.note_settled(lease.key, outcome, now)

    def _forget_kept(self, now: float) -> None:
        for lease in self._kept.pop_surplus(now):
            lease.apply(Step.FORGET)
            self._end(lease)

    # Capabilities and the end: promises C11, C12, D1

    def offers(self, source: int) -> list[Offer]:
        """Return what to announce to a broker: everything less what it revoked."""
        return [pool.offer for pool in self.slots.pools.values() if pool.is_granted(source)]

    def grant(self, source: int, granted: Mapping[str, int | None]) -> list[str]:
        """Note what a broker granted, None where it was all that was wished. Returns the types that it did not."""
        for name, pool in self.slots.pools.items():
            pool.grant(source, granted.get(name, 0))
        return [name for name in self.slots.pools if name not in granted]

    def revoke(self, source: int, capability: str, now: float) -> list[Lease]:
        """Take a capability from a broker. Returns its queued leases, given back; running ones go on."""
        pool = self.slots.pools.get(capability)
        if pool is None:
            return []
        pool.grant(source, 0)
        waiting = (lease for lease in pool.waiting() if lease.source == source)
        return [self._give_back_at_once(lease, GiveBack.REVOKED, now) for lease in waiting]

    def close(self, now: float) -> list[Lease]:
        """Take no new work. Returns the queued leases, given back at once (promise D1)."""
        self.closed = True
        waiting = [lease for pool in self.slots.pools.values() for lease in pool.waiting()]
        return [self._give_back_at_once(lease, GiveBack.DRAINING, now) for lease in waiting]

    def _give_back_at_once(self, lease: Lease, cause: GiveBack, now: float) -> Lease:
        self.finish(lease, GivenBack.because(cause), now)
        lease.due = now
        return lease
