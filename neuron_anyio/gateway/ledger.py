"""Every decision of the gateway: tasks, sessions and leases (promises G1 to G4).

No event loop, clock, socket or log: `now` is an argument (seconds, monotonic), ids and the wall-clock are injected.
Each method decides at once and returns a `Turn`: what to send, which streams to end, which tasks changed, or why
not. Sessions are decided here, tasks and their leases in `leasing`.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from neuron_anyio import frames
from neuron_anyio.backoff import Backoff

from . import policy
from .book import Book, Bounds
from .leasing import Leasing
from .principals import Principal
from .problems import Problem, problem
from .roster import LiveLease, Neuron, Roster, Session
from .schedule import Schedule
from .store import MemoryStore, Store
from .tasks import State, Submission, Task, one_line
from .turn import Turn

__all__ = ["BOUNDS", "RETRY", "GatewayLedger"]

NEURON_MEMORY = 3600.0
"""Seconds for which a neuron without stream and leases is remembered, so that its heartbeat is not a stranger's."""

RETRY = Backoff(initial=1.0, maximum=60.0)
"""Between the tries of a task: a fault that lasts a second or a minute is outlived by three of them."""

BOUNDS = Bounds()


class GatewayLedger:
    """Tasks, sessions and leases of one gateway.

    Args:
        new_id: makes an id of a kind (`task`, `lease`, `session`) that was never made before.
        wall: wall-clock time with a time zone, for frames and for people; nothing is decided by it.
        max_attempts: tries of a task that names no number itself.
        lease_ttl: seconds, for capabilities that name none.
        retry: back-off between the tries of a task; its ceiling is used, without jitter.
        store: where tasks are kept; what it has is taken over by `restore`.
        bounds: how much is kept.
    """

    __slots__ = ("_leasing", "_max_attempts", "_new_id", "_timers", "_wall", "book", "roster")

    def __init__(
        self,
        *,
        new_id: Callable[[str], str],
        wall: Callable[[], datetime],
        max_attempts: int = 3,
        lease_ttl: float = 60.0,
        retry: Backoff = RETRY,
        store: Store | None = None,
        bounds: Bounds = BOUNDS,
    ) -> None:
        self._new_id = new_id
        self._wall = wall
        self._max_attempts = max_attempts
        self._timers: Schedule[tuple[str, ...], float] = Schedule()
        self.roster: Roster = Roster()
        self.book: Book = Book(MemoryStore() if store is None else store, bounds)
        self._leasing = Leasing(
            new_id=new_id,
            wall=wall,
            lease_ttl=lease_ttl,
            retry=retry,
            book=self.book,
            roster=self.roster,
            timers=self._timers,
        )

    # ---- what callers ask

    def submit(
        self, submission: Submission, principal: Principal, now: float, *, idempotency_key: str | None = None
    ) -> Turn:
        """Take a task; with a key that was used before, find the one that it made."""
        turn = Turn()
        turn.problem = policy.check_submission(submission, principal)
        key = mark = None
        if turn.problem is None and idempotency_key is not None:
            key, mark = f"{principal.name}\n{idempotency_key}", policy.fingerprint(submission)
            turn.task = self.book.store.by_idempotency_key(key)
            if turn.task is not None and turn.task.fingerprint != mark:
                detail = "this Idempotency-Key was used for another task; a new task needs a new key"
                turn.problem = problem(422, "idempotency-key-reused", detail)
        if turn.problem is None and turn.task is None and self.book.is_full:
            detail = "too many tasks are open; submit again when some have settled"
            turn.problem = problem(429, "too-many-tasks", detail)
        if turn.problem is None and turn.task is None:
            task = self._new_task(submission, principal, key=key, mark=mark)
            self._leasing.add(task, turn, now)
            turn.task, turn.created = self.book.get(task.task_id), True
        return turn

    def _new_task(self, submission: Submission, principal: Principal, *, key: str | None, mark: bytes | None) -> Task:
        at = self._wall()
        return Task(
            task_id=self._new_id("task"),
            sequence=self.book.sequence + 1,
            capability=submission.capability,
            input=one_line(submission.input),
            on_behalf_of=submission.on_behalf_of,
            metadata=submission.metadata,
            max_attempts=submission.max_attempts or self._max_attempts,
            submitted_by=principal.name,
            created_at=at,
            updated_at=at,
            idempotency_key=key,
            fingerprint=mark,
        )

    def cancel(self, task_id: str, now: float, *, reason: str) -> Turn:
        """Call a task off: at once while it waits, by asking its holder while it is leased (promise L4.5 applies)."""
        turn = Turn()
        task = self.book.store.get(task_id)
        if task is None:
            turn.problem = problem(404, "unknown-task", f"there is no task {task_id!r}, or it is forgotten")
        elif task.state in (State.SUCCEEDED, State.FAILED):
            turn.problem = problem(409, "task-settled", f"task {task_id!r} has {task.state} already")
        else:
            if not task.settled:
                self._leasing.cancel(task, turn, now, reason=reason)
            turn.task = self.book.get(task_id)
        return turn

    def live_lease(self, task: Task) -> LiveLease | None:
        """Return the lease that a task is out on, None when it is not."""
        return self._leasing.live_lease(task)

    # ---- time

    def restore(self, now: float) -> None:
        """Take over what the store has: waiting tasks wait again, leases run on from their last renewal.

        To be called once, before anything else.
        """
        self._leasing.restore(now)
        for neuron_id in self.roster.neurons:
            self._timers.put(("neuron", neuron_id), now + NEURON_MEMORY)

    def next_due(self) -> float | None:
        """Return when `tick` has something to do, None while nothing is due ever. May be early, is never late."""
        first = self._timers.peek()
        return None if first is None else first[0]

    def tick(self, now: float) -> Turn:
        """Do what has come due: expiries, ends of back-offs and rests, forgetting."""
        turn = Turn()
        while (first := self._timers.peek()) is not None and first[0] <= now:
            kind, *names = self._timers.pop()
            if kind == "neuron":
                self._forget_neuron(names[0], now)
            else:
                self._leasing.come_due(kind, names, turn, now)
        return turn

    def _forget_neuron(self, neuron_id: str, now: float) -> None:
        if not self.roster.forget(neuron_id):
            self._timers.put(("neuron", neuron_id), now + NEURON_MEMORY)

    # ---- sessions

    def open_session(self, neuron_id: str, principal: Principal, now: float) -> Turn:
        """Take an event stream that was just opened. A former one of the same neuron id is sent away (promise G4).

        Sent away for good: told to reconnect, two neurons with one id would take the stream from each other for ever.
        """
        turn = Turn()
        neuron = self.roster.neurons.get(neuron_id)
        if neuron is not None:
            if (neuron.session is not None or any(neuron.leases)) and _check_owner(neuron, principal) is not None:
                detail = f"neuron id {neuron_id!r} is in use under another token; choose another id"
                turn.problem = problem(409, "neuron-taken", detail)
                return turn
            reason = "another session with this neuron id took its place"
            self._end_session(neuron, turn, now, reason=reason, code="REPLACED", reconnectable=False)
        turn.session_id = self._new_id("session")
        self.roster.connect(neuron_id, Session(turn.session_id, principal, self._wall()))
        self._timers.discard(("neuron", neuron_id))
        return turn

    def close_session(self, session_id: str, now: float) -> None:
        """Note that a stream has ended; its leases stay until they expire (promise G4)."""
        neuron = self.roster.disconnect(session_id, now)
        if neuron is not None:
            self._timers.put(("neuron", neuron.neuron_id), now + NEURON_MEMORY)

    def disconnect(
        self, neuron_id: str, now: float, *, reason: str, reconnectable: bool = True, code: str | None = None
    ) -> Turn:
        """Send a neuron away: a `disconnect` frame, then the end of its stream."""
        turn = Turn()
        neuron = self.roster.neurons.get(neuron_id)
        if neuron is None or neuron.session is None:
            turn.problem = problem(404, "unknown-neuron", f"no neuron {neuron_id!r} is connected")
            return turn
        self._end_session(neuron, turn, now, reason=reason, code=code, reconnectable=reconnectable)
        return turn

    def revoke(self, capability: str, now: float, *, reason: str) -> Turn:
        """Take a capability back from every neuron, and from those that offer it later, until `allow`."""
        turn = Turn()
        self.roster.revoked.add(capability)
        for slots in self.roster.offering(capability):
            session = slots.neuron.session
            if session is not None:
                frame = frames.CapabilityRevoked(capability=capability, reason=reason, revoked_at=self._wall())
                turn.send(session.session_id, frame)
            slots.offer = None
            self.roster.refresh(slots, now)
        return turn

    def allow(self, capability: str, now: float) -> Turn:
        """Lift a revocation; neurons that offered the capability are told by a `registered` frame."""
        turn = Turn()
        self.roster.revoked.discard(capability)
        for neuron in self.roster.neurons.values():
            if neuron.session is not None and neuron.session.registered and capability in neuron.offered:
                self._grant(neuron, neuron.session, turn, now)
        return turn

    def _end_session(
        self, neuron: Neuron, turn: Turn, now: float, *, reason: str, code: str | None, reconnectable: bool
    ) -> None:
        if neuron.session is None:
            return
        session_id = neuron.session.session_id
        frame = frames.Disconnect(reason=reason, code=code, reconnectable=reconnectable, sent_at=self._wall())
        turn.send(session_id, frame)
        turn.closed.append(session_id)
        self.close_session(session_id, now)

    # ---- what neurons post

    def handle(self, frame: frames.NeuronFrame, principal: Principal, now: float) -> Turn:
        """Decide about a frame that a neuron posted."""
        turn = Turn()
        match frame:
            case frames.Register():
                turn.problem = self._register(frame, principal, turn, now)
            case frames.UpdateCapability():
                turn.problem = self._update(frame, principal, turn, now)
            case frames.Heartbeat():
                turn.problem = self._heartbeat(frame, principal, now)
            case frames.Progress():
                turn.problem = self._leasing.progress(frame, principal, turn)
            case frames.Ack() | frames.Nack():
                turn.problem = self._leasing.settle(frame, principal, turn, now)
        return turn

    def _register(self, frame: frames.Register, principal: Principal, turn: Turn, now: float) -> Problem | None:
        neuron = self.roster.neurons.get(frame.neuron_id)
        if neuron is None or neuron.session is None:
            detail = f"neuron {frame.neuron_id!r} has no event stream; open GET /neuron/events first, then register"
            return problem(409, "no-stream", detail)
        refusal = (
            _check_owner(neuron, principal)
            or policy.check_version(frame)
            or policy.check_offers(frame.capabilities, principal)
        )
        if refusal is not None:
            return refusal
        # A neuron leaves out what was revoked; it is granted again when the revocation is lifted (promise C12).
        withheld = {name: offer for name, offer in neuron.offered.items() if name in self.roster.revoked}
        neuron.offered = withheld | {offer.type: offer for offer in frame.capabilities}
        neuron.session.registered = True
        neuron.session.draining = False
        for slots in neuron.slots.values():
            slots.give_backs, slots.rests_until = 0, now
        self._grant(neuron, neuron.session, turn, now)
        for lease in neuron.leases:
            self._leasing.send_cancel(lease, turn)
        return None

    def _update(self, frame: frames.UpdateCapability, principal: Principal, turn: Turn, now: float) -> Problem | None:
        offer = frame.capability
        neuron = self.roster.neurons.get(frame.neuron_id)
        session = None if neuron is None else neuron.session
        if neuron is None or session is None or not session.registered or offer.type not in neuron.offered:
            detail = f"neuron {frame.neuron_id!r} has not registered {offer.type}; register it first"
            return problem(409, "not-registered", detail)
        refusal = _check_owner(neuron, principal) or policy.check_offers((offer,), principal)
        if refusal is not None:
            return refusal
        neuron.offered[offer.type] = offer
        self._grant(neuron, session, turn, now)
        return None

    def _grant(self, neuron: Neuron, session: Session, turn: Turn, now: float) -> None:
        granted = self.roster.grant(neuron, now)
        frame = frames.Registered(session_id=session.session_id, capabilities=granted, accepted_at=self._wall())
        turn.send(session.session_id, frame)
        for slots in list(neuron.slots.values()):
            self._leasing.dispatch(slots.route, turn, now)

    def _heartbeat(self, frame: frames.Heartbeat, principal: Principal, now: float) -> Problem | None:
        neuron = self.roster.neurons.get(frame.neuron_id)
        if neuron is None or not (neuron.offered or any(neuron.leases)):
            return problem(404, "unknown-neuron", f"neuron {frame.neuron_id!r} is not known here; register it")
        refusal = _check_owner(neuron, principal)
        if refusal is None:
            self._leasing.renew(neuron, (entry.lease_id for entry in frame.in_flight), now)
        return refusal


def _check_owner(neuron: Neuron, principal: Principal) -> Problem | None:
    if neuron.owner in (None, principal.name):
        return None
    return problem(403, "neuron-taken", f"neuron id {neuron.neuron_id!r} is in use under another token")
