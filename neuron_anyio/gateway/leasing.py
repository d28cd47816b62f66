"""Tasks and their leases: waiting, handed out, settled, run out (promises G1, G2 and G4).

Part of the ledger, under the same law: nothing waits, time is an argument. Work is per event, never per task: due
times are in one heap, waiting tasks in one queue for each route.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any, TypeAlias

from msgspec.structs import replace

from neuron_anyio import frames
from neuron_anyio.backoff import Backoff

from . import policy
from .backlog import Backlog
from .book import Book
from .policy import Verdict
from .principals import Principal
from .problems import Problem, problem
from .roster import LiveLease, Neuron, Roster, Route, Slots
from .schedule import Schedule
from .tasks import Failure, Progressed, State, Step, Task, advance, one_line
from .turn import Turn

__all__ = ["Leasing"]

Settlement: TypeAlias = frames.Ack | frames.Nack


class Leasing:
    """All that happens to tasks; arguments are those of `GatewayLedger`, and the parts that it shares."""

    __slots__ = (
        "_backlog",
        "_book",
        "_claims",
        "_lease_ttl",
        "_leases",
        "_new_id",
        "_retry",
        "_roster",
        "_timers",
        "_wall",
    )

    def __init__(
        self,
        *,
        new_id: Callable[[str], str],
        wall: Callable[[], datetime],
        lease_ttl: float,
        retry: Backoff,
        book: Book,
        roster: Roster,
        timers: Schedule[tuple[str, ...], float],
    ) -> None:
        self._new_id = new_id
        self._wall = wall
        self._lease_ttl = lease_ttl
        self._retry = retry
        self._book = book
        self._roster = roster
        self._timers = timers
        self._leases: dict[str, LiveLease] = {}
        # The newest lease of each open task, live or run out: who holds it may still speak for the task.
        self._claims: dict[str, str] = {}
        self._backlog = Backlog(timers)

    # ---- in

    def add(self, task: Task, turn: Turn, now: float) -> None:
        """Take a new task."""
        self._keep(task, turn, now)
        self._backlog.put(task, place=task.sequence)
        self.dispatch(task.route, turn, now)

    def restore(self, now: float) -> None:
        """Take over what the store has; the time in which the gateway was down counts."""
        at = self._wall()
        for task in self._book.store.all():
            self._book.add(task, now - (at - task.updated_at).total_seconds())
            if task.settled:
                continue
            if task.lease_id is not None:
                self._claims[task.lease_id] = task.task_id
            if task.state is State.LEASED:
                self._resume(task, at, now)
            else:
                self._backlog.put(task, place=task.sequence)
        self._forget_old(now)

    def _resume(self, task: Task, at: datetime, now: float) -> None:
        assert task.lease_id is not None
        assert task.neuron_id is not None
        assert task.renewed_at is not None
        slots = self._roster.slots_of(task.neuron_id, task.capability)
        expires_at = task.renewed_at + timedelta(seconds=task.lease_ttl)
        left = min((expires_at - at).total_seconds(), task.lease_ttl)  # the clock may have been set back
        lease = LiveLease(task.lease_id, task.task_id, slots, ttl=task.lease_ttl, expires_at=expires_at)
        self._hold(lease, now + max(0.0, left))

    # ---- out to neurons

    def dispatch(self, route: Route | None, turn: Turn, now: float) -> None:
        """Lease waiting tasks of a route as long as somebody has room."""
        if route is None:
            return
        while route in self._backlog and (slots := self._roster.pick(route)) is not None:
            self._lease(self._book.get(self._backlog.pop(route)), slots, turn, now)

    def _lease(self, task: Task, slots: Slots, turn: Turn, now: float) -> None:
        neuron, offer = slots.neuron, slots.offer
        assert offer is not None
        assert neuron.session is not None
        if task.lease_id is not None:
            self._claims.pop(task.lease_id, None)
        at = self._wall()
        ttl = self._lease_ttl if offer.lease_ttl_ms is None else offer.lease_ttl_ms / 1000
        lease = LiveLease(self._new_id("lease"), task.task_id, slots, ttl=ttl, expires_at=at + timedelta(seconds=ttl))
        lease.session = neuron.session
        task = advance(
            task,
            Step.LEASE,
            at=at,
            deliveries=task.deliveries + 1,
            lease_id=lease.lease_id,
            neuron_id=neuron.neuron_id,
            holder=neuron.session.principal.name,
            lease_ttl=ttl,
            renewed_at=at,
            progress=None,
        )
        self._keep(task, turn, now)
        self._claims[lease.lease_id] = task.task_id
        self._hold(lease, now + ttl)
        self._roster.refresh(slots, now)
        turn.send(neuron.session.session_id, _lease_frame(lease, task, at))

    def _hold(self, lease: LiveLease, deadline: float) -> None:
        self._leases[lease.lease_id] = lease
        lease.slots.leases[lease.lease_id] = lease
        self._timers.put(("lease", lease.lease_id), deadline)

    # ---- back from neurons

    def renew(self, neuron: Neuron, lease_ids: Iterable[str], now: float) -> None:
        """Let the time of those leases that the neuron holds count anew."""
        held = (self._leases.get(lease_id) for lease_id in lease_ids)
        leases = [lease for lease in held if lease is not None and lease.slots.neuron is neuron]
        if not leases:
            return
        at = self._wall()
        for lease in leases:
            lease.expires_at = at + timedelta(seconds=lease.ttl)
            self._timers.put(("lease", lease.lease_id), now + lease.ttl)
        self._book.store.renew([lease.task_id for lease in leases], at)

    def progress(self, frame: frames.Progress, principal: Principal, turn: Turn) -> Problem | None:
        """Note how far a handler has come; what the frame leaves out stays as it was."""
        lease = self._leases.get(frame.lease_id)
        if lease is None or self._book.get(lease.task_id).holder != principal.name:
            return _lease_gone(frame.lease_id)
        news: dict[str, Any] = {"sent_at": frame.sent_at, "percent": frame.percent, "message": frame.message}
        news["data"] = None if frame.data is None else one_line(frame.data)
        if lease.progress is not None:
            news = {name: getattr(lease.progress, name) if new is None else new for name, new in news.items()}
        lease.progress = Progressed(**news)
        turn.changed[lease.task_id] = None
        return None

    def settle(self, frame: Settlement, principal: Principal, turn: Turn, now: float) -> Problem | None:
        """Take a neuron's last word about a lease, or recognise that it was taken before.

        A lease that ran out still has the word while its task is not leased again: no work is done twice without need.
        Whoever is not its holder learns nothing, not even that there is such a lease.
        """
        digest = policy.settlement_digest(frame, principal)
        task_id = self._claims.get(frame.lease_id)
        if task_id is None:
            return None if self._book.accepted(frame.lease_id) == digest else _lease_gone(frame.lease_id)
        if self._book.get(task_id).holder != principal.name:
            return _lease_gone(frame.lease_id)
        del self._claims[frame.lease_id]
        self._book.accept(frame.lease_id, digest)
        lease = self._leases.get(frame.lease_id)
        session = None if lease is None else lease.session
        task, slots = self._end_lease(self._book.get(task_id))
        if isinstance(frame, frames.Ack):
            self._rest(slots, 0, now)
            output = one_line(frame.output)
            self._finish(task, Step.ACK, turn, now, results=task.results + 1, output=output, failure=None)
        else:
            if session is not None and policy.stops(frame):
                session.draining = True  # no more on that stream; a process that took its place goes on
            self._judge(task, slots, frame, turn, now)
        self._dispatch_freed(slots, turn, now)
        return None

    def _judge(self, task: Task, slots: Slots | None, nack: frames.Nack, turn: Turn, now: float) -> None:
        verdict = policy.judge(nack, cancel_requested=task.cancel_reason is not None)
        wish = policy.retry_after(nack.details)
        details = None if nack.details is None else one_line(nack.details)
        failure = Failure(kind=nack.kind, reason=nack.reason, code=nack.code, details=details)
        if verdict is Verdict.GIVE_BACK:
            self._give_back(task, slots, turn, now, pause=wish)
            return
        self._rest(slots, 0, now)
        spent: dict[str, Any] = {"results": task.results + 1, "failure": failure}
        if verdict is Verdict.CANCEL:
            self._finish(task, Step.CANCEL, turn, now, failure=failure)
        elif verdict is Verdict.FAIL or task.attempts + 1 >= task.max_attempts:
            self._finish(task, Step.FAIL, turn, now, **spent)
        else:
            pause = self._retry.ceiling(task.results) if wish is None else wish
            self._requeue(task, turn, now, pause=pause, lease_id=None, **spent)

    def _give_back(self, task: Task, slots: Slots | None, turn: Turn, now: float, *, pause: float | None) -> None:
        """Offer the task to others; who gave it back rests, or gets nothing more until it registers anew.

        A task that comes back again and again goes to the end of the queue and rests itself, or nothing else of its
        route would ever get past it.
        """
        times = task.give_backs + 1
        again = times > 1
        if slots is not None:
            self._rest(slots, slots.give_backs + 1, now)
            for each in list(slots.neuron.slots.values()):
                self._roster.refresh(each, now)
        if pause is None:
            pause = policy.pace(times - 1) if again else 0.0
        self._requeue(task, turn, now, pause=pause, last=again, lease_id=None, give_backs=times)

    # ---- what callers and time do

    def cancel(self, task: Task, turn: Turn, now: float, *, reason: str) -> None:
        """Call off an open task: at once while it waits, by asking its holder while it is leased."""
        if task.state is State.PENDING:
            self._backlog.discard(task)
            self._finish(task, Step.CANCEL, turn, now, cancel_reason=reason)
        elif task.cancel_reason is None:
            assert task.lease_id is not None
            self._keep(replace(task, cancel_reason=reason, updated_at=self._wall()), turn, now)
            self.send_cancel(self._leases[task.lease_id], turn)

    def send_cancel(self, lease: LiveLease, turn: Turn) -> None:
        """Tell the holder that a lease is called off, if it is; one who has no stream hears it when it registers."""
        reason = self._book.get(lease.task_id).cancel_reason
        session = lease.slots.neuron.session
        if reason is not None and session is not None:
            frame = frames.Cancel(lease_id=lease.lease_id, reason=reason, cancelled_at=self._wall())
            turn.send(session.session_id, frame)

    def live_lease(self, task: Task) -> LiveLease | None:
        """Return the lease that a task is out on, None when it is not."""
        return None if task.lease_id is None else self._leases.get(task.lease_id)

    def come_due(self, kind: str, names: Sequence[str], turn: Turn, now: float) -> None:
        """Do what a timer of this part says."""
        if kind == "lease":
            self._expire(self._leases[names[0]], turn, now)
        elif kind == "ready":
            self.dispatch(self._backlog.wake(names[0]), turn, now)
        elif kind == "rest":
            neuron = self._roster.neurons.get(names[0])
            slots = None if neuron is None else neuron.slots.get(names[1])
            if slots is not None:
                self._roster.refresh(slots, now)
                self.dispatch(slots.route, turn, now)
        else:
            self._forget_old(now)

    def _expire(self, lease: LiveLease, turn: Turn, now: float) -> None:
        task, slots = self._end_lease(self._book.get(lease.task_id))
        assert slots is not None
        self._rest(slots, slots.give_backs + 1, now)
        spent = task.expiries + 1
        if task.cancel_reason is not None:
            self._finish(task, Step.CANCEL, turn, now, expiries=spent)
        elif task.attempts + 1 >= task.max_attempts:
            reason = "the lease ran out without a result or a heartbeat"
            failure = Failure(kind="expired", reason=reason, code="LEASE_EXPIRED")
            self._finish(task, Step.FAIL, turn, now, expiries=spent, failure=failure)
        else:
            self._requeue(task, turn, now, pause=0.0, expiries=spent)
        self._dispatch_freed(slots, turn, now)

    # ---- small steps

    def _end_lease(self, task: Task) -> tuple[Task, Slots | None]:
        """Take back a task's newest lease; the caller decides with `_rest` what its slots do next.

        There are no slots when it had run out already, which then no longer counts.
        """
        assert task.lease_id is not None
        lease = self._leases.pop(task.lease_id, None)
        if lease is None:
            self._backlog.discard(task)
            return replace(task, expiries=task.expiries - 1), None
        del lease.slots.leases[lease.lease_id]
        self._timers.discard(("lease", lease.lease_id))
        return replace(task, progress=lease.progress), lease.slots

    def _finish(self, task: Task, step: Step, turn: Turn, now: float, **changes: Any) -> None:
        if task.lease_id is not None:
            self._claims.pop(task.lease_id, None)
        self._keep(advance(task, step, at=self._wall(), **changes), turn, now)
        self._forget_old(now)

    def _requeue(self, task: Task, turn: Turn, now: float, *, pause: float, last: bool = False, **changes: Any) -> None:
        task = advance(task, Step.REQUEUE, at=self._wall(), **changes)
        self._keep(task, turn, now)
        place = self._book.sequence + 1 if last else task.sequence
        self._backlog.put(task, place=place, not_before=now + pause if pause > 0 else None)
        self.dispatch(task.route, turn, now)

    def _rest(self, slots: Slots | None, in_a_row: int, now: float) -> None:
        if slots is None:
            return
        slots.give_backs = in_a_row
        timer = ("rest", slots.neuron.neuron_id, slots.type)
        if in_a_row:
            slots.rests_until = now + policy.pace(in_a_row)
            self._timers.put(timer, slots.rests_until)
        else:
            slots.rests_until = now
            self._timers.discard(timer)
        self._roster.refresh(slots, now)

    def _dispatch_freed(self, slots: Slots | None, turn: Turn, now: float) -> None:
        if slots is not None:
            self.dispatch(slots.route, turn, now)

    def _keep(self, task: Task, turn: Turn, now: float) -> None:
        self._book.put(task, now)
        turn.changed[task.task_id] = None

    def _forget_old(self, now: float) -> None:
        self._book.forget_old(now)
        due = self._book.next_forget()
        if due is not None:
            self._timers.put(("forget",), due)


def _lease_frame(lease: LiveLease, task: Task, at: datetime) -> frames.Lease:
    body = frames.Task(
        task_id=task.task_id,
        workflow_id=task.task_id,  # a task that was submitted alone is a workflow of one
        capability=task.capability,
        on_behalf_of=task.on_behalf_of,
        input=task.input,
        attempt=task.attempts,
        metadata=task.metadata,
    )
    return frames.Lease(
        lease=frames.LeaseBody(lease_id=lease.lease_id, expires_at=lease.expires_at, task=body), sent_at=at
    )


def _lease_gone(lease_id: str) -> Problem:
    detail = (
        f"lease {lease_id!r} is not held here: it ran out and its task was leased again, or it was settled otherwise"
    )
    return problem(409, "lease-gone", detail)
