"""The gateway's ledger under any order of events: what must hold after every one of them (promises G1 to G4)."""

from __future__ import annotations

import itertools
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from neuron_anyio import frames
from neuron_anyio.backoff import Backoff
from neuron_anyio.gateway.ledger import GatewayLedger
from neuron_anyio.gateway.policy import GIVE_BACK_CODES
from neuron_anyio.gateway.principals import ANYBODY
from neuron_anyio.gateway.store import MemoryStore
from neuron_anyio.gateway.tasks import State, Submission, Task
from neuron_anyio.gateway.turn import Turn

pytestmark = pytest.mark.thorough

START = datetime(2026, 1, 1, tzinfo=UTC)
TTL = 30.0
NEURONS = st.sampled_from(["n1", "n2", "n3"])
TYPES = st.sampled_from(["core/a", "core/b"])
USERS = st.sampled_from([None, "ann"])
OFFERS = st.builds(
    lambda capability, user, concurrency: frames.CapabilityOffer(
        type=capability, scope="any" if user is None else frames.OnBehalfOf(user), concurrency=concurrency
    ),
    TYPES,
    USERS,
    st.integers(1, 3),
)
KINDS = st.sampled_from(["retryable", "retryable", "retryable", "terminal", "schema-mismatch", "cancelled"])
CODES = st.sampled_from([None, "HANDLER_THREW", *sorted(GIVE_BACK_CODES)])
SETTLED = {State.SUCCEEDED, State.FAILED, State.CANCELLED}


class Held:
    """A lease as the world outside remembers it."""

    def __init__(self, neuron_id: str, body: frames.LeaseBody, deadline: float) -> None:
        self.neuron_id = neuron_id
        self.body = body
        self.deadline = deadline


class GatewayMachine(RuleBasedStateMachine):
    """Neurons that connect, drop, work, dawdle and vanish; callers that submit and cancel; and a model of the slots."""

    @initialize()
    def start(self) -> None:
        self.now = 0.0
        self.store = MemoryStore()
        numbers = itertools.count(1)
        self.ledger = GatewayLedger(
            new_id=lambda kind: f"{kind}{next(numbers)}",
            wall=lambda: START + timedelta(seconds=self.now),
            lease_ttl=TTL,
            retry=Backoff(initial=2.0, maximum=8.0),
            store=self.store,
        )
        self.tasks: list[str] = []
        self.settled: dict[str, Task] = {}
        self.seen: list[Held] = []
        self.open_leases: dict[str, Held] = {}
        self.sessions: dict[str, str] = {}
        self.all_sessions: list[tuple[str, str]] = []
        self.offers: dict[str, dict[str, frames.CapabilityOffer]] = {}
        self.draining: set[str] = set()

    # ---- the world outside

    def take(self, turn: Turn) -> Turn:
        """Deliver what the ledger sends, and keep the books that the invariants look at."""
        for send in turn.sends:
            neuron_id = next(name for name, session in self.all_sessions if session == send.session_id)
            if isinstance(send.frame, frames.Lease):
                self.deliver(neuron_id, send)
            elif isinstance(send.frame, frames.Disconnect):
                assert send.session_id in turn.closed
        return turn

    def deliver(self, neuron_id: str, send: Any) -> None:
        body: frames.LeaseBody = send.frame.lease
        assert self.sessions[neuron_id] == send.session_id, "leases go to the present session only"
        assert neuron_id not in self.draining
        offered = self.offers[neuron_id][body.task.capability]
        wanted = "any" if body.task.on_behalf_of is None else frames.OnBehalfOf(body.task.on_behalf_of)
        assert offered.scope == wanted
        assert body.lease_id not in {held.body.lease_id for held in self.seen}, "a lease id is used once"
        held = Held(neuron_id, body, self.now + TTL)
        self.seen.append(held)
        self.open_leases[body.lease_id] = held
        out = [one for one in self.live() if one.neuron_id == neuron_id]
        busy = sum(1 for one in out if one.body.task.capability == body.task.capability)
        assert busy <= offered.concurrency, "never more leases out than granted"

    def live(self) -> list[Held]:
        return [held for held in self.open_leases.values() if held.deadline > self.now]

    def post(self, frame: frames.NeuronFrame) -> int:
        turn = self.take(self.ledger.handle(frame, ANYBODY, self.now))
        return 200 if turn.problem is None else turn.problem.status

    # ---- rules

    @rule(neuron_id=NEURONS)
    def connect(self, neuron_id: str) -> None:
        turn = self.ledger.open_session(neuron_id, ANYBODY, self.now)
        assert turn.problem is None
        assert (neuron_id in self.sessions) == bool(turn.closed)
        self.all_sessions.append((neuron_id, turn.session_id))
        self.take(turn)
        self.sessions[neuron_id] = turn.session_id
        self.offers.pop(neuron_id, None)
        self.draining.discard(neuron_id)

    @precondition(lambda self: self.sessions)
    @rule(data=st.data())
    def drop(self, data: st.DataObject) -> None:
        neuron_id = data.draw(st.sampled_from(sorted(self.sessions)))
        self.ledger.close_session(self.sessions.pop(neuron_id), self.now)
        self.offers.pop(neuron_id, None)

    @rule(neuron_id=NEURONS, offers=st.lists(OFFERS, min_size=1, max_size=2, unique_by=lambda offer: offer.type))
    def register(self, neuron_id: str, offers: list[frames.CapabilityOffer]) -> None:
        if neuron_id in self.sessions:
            self.offers[neuron_id] = {offer.type: offer for offer in offers}
            self.draining.discard(neuron_id)
        frame = frames.Register(neuron_id=neuron_id, protocol_version="1.0.0", capabilities=tuple(offers))
        assert self.post(frame) == (200 if neuron_id in self.sessions else 409)

    @rule(neuron_id=NEURONS, offer=OFFERS)
    def update(self, neuron_id: str, offer: frames.CapabilityOffer) -> None:
        known = offer.type in self.offers.get(neuron_id, {})
        if known:
            self.offers[neuron_id][offer.type] = offer
        status = self.post(frames.UpdateCapability(neuron_id=neuron_id, capability=offer))
        assert status == (200 if known else 409)

    @rule(capability=TYPES, user=USERS, attempts=st.integers(1, 3))
    def submit(self, capability: str, user: str | None, attempts: int) -> None:
        submission = Submission(
            capability=capability, input=msgspec.Raw(b"1"), on_behalf_of=user, max_attempts=attempts
        )
        turn = self.ledger.submit(submission, ANYBODY, self.now)
        assert turn.task is not None
        self.tasks.append(turn.task.task_id)
        self.take(turn)

    @precondition(lambda self: self.tasks)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        task_id = data.draw(st.sampled_from(self.tasks))
        before = self.store.get(task_id)
        assert before is not None
        turn = self.take(self.ledger.cancel(task_id, self.now, reason="so"))
        after = self.store.get(task_id)
        assert after is not None
        if before.state is State.PENDING:
            assert after.state is State.CANCELLED
        elif before.state in SETTLED - {State.CANCELLED}:
            assert turn.problem is not None

    @precondition(lambda self: self.seen)
    @rule(data=st.data(), output=st.sampled_from([b"1", b"2"]))
    def ack(self, data: st.DataObject, output: bytes) -> None:
        held = data.draw(st.sampled_from(self.seen))
        self.settle(held, frames.Ack(lease_id=held.body.lease_id, output=msgspec.Raw(output), completed_at=START))

    @precondition(lambda self: self.seen)
    @rule(data=st.data(), kind=KINDS, code=CODES)
    def nack(self, data: st.DataObject, kind: Any, code: str | None) -> None:
        held = data.draw(st.sampled_from(self.seen))
        live = held in self.live()
        if live and kind == "retryable" and code in ("NEURON_DRAINING", "NEURON_SHUTDOWN"):
            task = self.store.get(held.body.task.task_id)
            assert task is not None
            if task.cancel_reason is None and held.neuron_id in self.sessions:
                self.draining.add(held.neuron_id)
        frame = frames.Nack(lease_id=held.body.lease_id, kind=kind, reason="so", code=code, failed_at=START)
        self.settle(held, frame)

    def settle(self, held: Held, frame: frames.Ack | frames.Nack) -> None:
        before = self.store.get(held.body.task.task_id)
        assert before is not None
        newest = before.lease_id == held.body.lease_id
        spoke = self.open_leases.pop(held.body.lease_id, None) is not None
        status = self.post(frame)
        after = self.store.get(held.body.task.task_id)
        assert after is not None
        if spoke and newest and before.state not in SETTLED:
            assert status == 200
            if isinstance(frame, frames.Ack):
                assert (after.state, after.output) == (State.SUCCEEDED, frame.output)
        else:
            assert after == before, "a word too late or twice changes nothing"
            assert status in (200, 409)

    @precondition(lambda self: self.seen)
    @rule(neuron_id=NEURONS, data=st.data())
    def heartbeat(self, neuron_id: str, data: st.DataObject) -> None:
        listed = data.draw(st.lists(st.sampled_from(self.seen), max_size=4))
        entries = tuple(
            frames.InFlight(lease_id=held.body.lease_id, task_id=held.body.task.task_id, started_at=START)
            for held in listed
        )
        live = self.live()
        status = self.post(frames.Heartbeat(neuron_id=neuron_id, in_flight=entries, sent_at=START))
        if status == 200:
            for held in listed:
                if held.neuron_id == neuron_id and held in live:
                    held.deadline = self.now + TTL

    @rule(seconds=st.sampled_from([0.1, 1.0, 5.0, 29.0, 31.0]))
    def pass_time(self, seconds: float) -> None:
        end = self.now + seconds
        while (due := self.ledger.next_due()) is not None and due <= end:
            self.now = max(self.now, due)
            self.take(self.ledger.tick(self.now))
        self.now = end

    # ---- what always holds

    @invariant()
    def a_task_settles_once(self) -> None:
        for task_id in self.tasks:
            task = self.store.get(task_id)
            assert task is not None
            if task_id in self.settled:
                assert task == self.settled[task_id]
            elif task.state in SETTLED:
                self.settled[task_id] = task

    @invariant()
    def nothing_is_lost(self) -> None:
        """Every task is settled, leased with a lease that will end, or pending and due or in line."""
        live = {held.body.lease_id: held for held in self.live()}
        holders = Counter(held.body.task.task_id for held in live.values())
        for task_id in self.tasks:
            task = self.store.get(task_id)
            assert task is not None
            if task.state is State.LEASED:
                assert task.lease_id in live
                assert holders[task_id] == 1, "at most one live lease"
            else:
                assert holders[task_id] == 0
        assert self.ledger.book.counts.total() == len(self.tasks)

    @invariant()
    def whoever_could_work_does(self) -> None:
        """No task waits while a neuron that fits it has room, but for a rest or a back-off that will end."""
        waiting = [
            task
            for task_id in self.tasks
            if (task := self.store.get(task_id)) is not None and task.state is State.PENDING
        ]
        rests = {key[0] for key in self.ledger._timers._live} & {"ready", "rest"}
        assert rests or not self.has_room(waiting)

    def has_room(self, waiting: list[Task]) -> bool:
        busy = Counter((held.neuron_id, held.body.task.capability) for held in self.live())
        return any(
            offer.type == task.capability
            and offer.scope == ("any" if task.on_behalf_of is None else frames.OnBehalfOf(task.on_behalf_of))
            and busy[neuron_id, offer.type] < offer.concurrency
            for neuron_id, offers in self.offers.items()
            if neuron_id not in self.draining
            for offer in offers.values()
            for task in waiting
        )

    def teardown(self) -> None:
        """Let three willing neurons work: in the end every task settles."""
        if not hasattr(self, "tasks"):
            return
        self.pass_time(10 * TTL)
        users: list[str | None] = [None, "ann"]
        for number, (capability, user) in enumerate(itertools.product(("core/a", "core/b"), users)):
            scope: frames.Scope = "any" if user is None else frames.OnBehalfOf(user)
            self.connect(f"last{number}")
            self.register(f"last{number}", [frames.CapabilityOffer(type=capability, scope=scope, concurrency=100)])
        for _ in range(20):
            for held in self.live():
                self.settle(held, frames.Ack(lease_id=held.body.lease_id, output=msgspec.Raw(b"9"), completed_at=START))
            self.pass_time(10.0)
        for task_id in self.tasks:
            task = self.store.get(task_id)
            assert task is not None
            assert task.settled, task


GatewayMachine.TestCase.settings = settings(max_examples=150, stateful_step_count=50, deadline=None)
TestG1ToG4Machine = GatewayMachine.TestCase
