"""The book under any order of calls, more than any gateway would make: its accounts, and every row of L3 and L4.

A few ids, tasks and brokers, so that everything meets everything. What a call must answer is worked out from what the
book held before it.
"""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from neuron_anyio.config import Limits
from neuron_anyio.lease import Lease, State, fingerprint
from neuron_anyio.ledger import Arrival, Ledger
from neuron_anyio.memory import CANCEL_FOR, SETTLED_FOR
from neuron_anyio.model import (
    Cancelled,
    CancelReason,
    Completed,
    Delivery,
    Failed,
    FailureKind,
    GiveBack,
    GivenBack,
    Outcome,
)
from tests.pure.books import answers, check_book, delivery, offer

pytestmark = pytest.mark.thorough

A, B = "core/a", "core/b"
OUTCOMES: list[Outcome] = [
    Completed((b"1",)),
    Completed((b"[1,2,3]", b"4")),
    Failed(kind=FailureKind.TERMINAL, retryable=False, reason="so", details=b"[5]"),
    Failed(kind=FailureKind.THREW, retryable=True, reason="so"),
    GivenBack(cause=GiveBack.SHUTDOWN, reason="so"),
    Cancelled(),
]
DELIVERIES = st.builds(
    delivery,
    st.sampled_from([f"l{n}" for n in range(16)]),
    st.sampled_from(["t1", "t2", "t3", "t4", "t5"]),
    capability=st.sampled_from([A, A, A, B, "core/unknown"]),
    user=st.sampled_from([None, None, None, "ann"]),
    text=st.sampled_from([b"1", b"1", b"1", b"12345"]),
    time_left=st.sampled_from([None, 0.0, 5.0, 60.0, 60.0]),
    output_schema=st.sampled_from([None, None, b"{}", b'{"a":1}']),
)
SOURCES = st.sampled_from([0, 0, 1])
INDEX = st.integers(0, 20)
LIMITS = st.sampled_from(
    [
        Limits(),
        Limits(queue=1),
        Limits(queue_bytes=8),
        Limits(undelivered=1),
        Limits(undelivered=2, undelivered_age=10.0),
        Limits(remembered_leases=2),
        Limits(remembered_cancels=1, remembered_results_bytes=8),
    ]
)


class BookMachine(RuleBasedStateMachine):
    """Everything that can be done to a book."""

    @initialize(limits=LIMITS, maximum=st.sampled_from([None, 1, 2]), user=st.sampled_from([None, None, "ann"]))
    def begin(self, limits: Limits, maximum: int | None, user: str | None) -> None:
        self.now = 0.0
        self.limits = limits
        offers = [offer(A), offer(B, user=user)]
        self.ledger = Ledger(offers, limits=limits, max_concurrency=maximum)
        self.started: dict[tuple[int, str], float] = {}
        self.over: dict[tuple[int, str], float] = {}
        self.called_off: dict[tuple[int, str], float] = {}

    # ---- what is expected

    def known(self, source: int, arriving: Delivery) -> Lease | None:
        """Find the lease that stands for a task."""
        identity = fingerprint(source, arriving.task)
        for lease in [*self.ledger._kept._leases.values(), *self.ledger.leases()]:
            if lease.fingerprint == identity and self.ledger._by_task.get(identity) is lease:
                return lease
        return None

    def expected(self, source: int, arriving: Delivery) -> set[Arrival]:
        key = (source, arriving.id)
        if any(lease.key == key for lease in self.ledger.leases()):
            return {Arrival.IGNORE}
        if self.ledger.is_held(*key):
            return {Arrival.IGNORE, Arrival.SETTLE}
        lease = self.known(source, arriving)
        if lease is None or lease.cancel_reason is CancelReason.GATEWAY:
            return {Arrival.ADMIT, Arrival.SETTLE}
        if lease.state is State.QUEUED:
            return {Arrival.REPLACED, Arrival.SETTLE}
        if lease.is_running:
            return {Arrival.ADOPTED, Arrival.SETTLE}
        return {Arrival.SETTLE} if answers(lease.outcome) else {Arrival.ADMIT, Arrival.SETTLE}

    # ---- rules

    @rule(
        batch=st.lists(DELIVERIES, min_size=1, max_size=3),
        source=SOURCES,
        input_is_right=st.sampled_from([True, True, True, False]),
    )
    def arrive(self, batch: list[Delivery], source: int, input_is_right: bool) -> None:
        for arriving in batch:
            self.arrive_one(arriving, source, input_is_right=input_is_right)

    def arrive_one(self, arriving: Delivery, source: int, *, input_is_right: bool) -> None:
        self.ledger._memory.forget_old(self.now)
        self.ledger._forget_kept(self.now)
        expected, settled = self.expected(source, arriving), self.ledger.is_held(source, arriving.id)
        arrival, lease = self.ledger.arrive(source, arriving, self.now)
        assert arrival in expected
        assert (lease is None) == (arrival is Arrival.IGNORE)
        if lease is None:
            return
        assert lease.delivery.id == arriving.id, "the newest id speaks for the lease"
        if self.called_off.pop((source, arriving.id), -1.0) >= self.now and self.limits.remembered_cancels > 1:
            assert isinstance(lease.outcome, Cancelled), "L4.1"
        if arrival is Arrival.SETTLE:
            if not settled:
                self.check_answer(lease)
        elif arrival in (Arrival.ADMIT, Arrival.REPLACED):
            if not input_is_right:
                mismatch = Failed(kind=FailureKind.INPUT_MISMATCH, retryable=False, reason="so")
                self.ledger.finish(lease, mismatch, self.now)
            elif arrival is Arrival.ADMIT:
                self.ledger.enqueue(lease)
        self.start()
        if arrival in (Arrival.ADMIT, Arrival.REPLACED) and lease.state is State.QUEUED:
            self.ledger.wait(lease)

    def check_answer(self, lease: Lease) -> None:
        outcome = lease.outcome
        assert outcome is not None
        if not isinstance(outcome, GivenBack):
            return
        assert outcome.cause is not GiveBack.OVERLOADED or self.limits.queue < 10 or self.limits.queue_bytes < 10
        if outcome.cause is GiveBack.DRAINING:
            assert self.ledger.closed
        elif outcome.cause is GiveBack.SCOPE_MISMATCH:
            assert lease.delivery.task.on_behalf_of != "ann"
        elif outcome.cause is GiveBack.UNKNOWN_CAPABILITY:
            assert lease.delivery.task.capability == "core/unknown"
        assert self.now <= lease.due <= self.now + 5.0

    def start(self) -> None:
        for lease in self.ledger.start_ready(self.now):
            if not lease.is_running:
                assert isinstance(lease.outcome, GivenBack)
                continue
            remembered = self.limits.remembered_leases >= 100
            before = self.started.get(lease.key)
            forgotten = before is not None and self.over.get(lease.key, self.now) + SETTLED_FOR < self.now
            assert before is None or forgotten or not remembered, "a lease starts once while it is remembered"
            self.started[lease.key] = self.now
            self.over.pop(lease.key, None)
            assert lease.time_left(self.now) != 0
            assert not self.ledger.closed
            pool = self.ledger.slots.pools[lease.delivery.task.capability]
            assert pool.running <= pool.limit
            assert self.ledger.slots.running <= (self.ledger.slots._maximum or 10)
            assert self.ledger.undelivered < self.limits.undelivered
            assert pool.is_granted(lease.source)

    @rule(source=SOURCES, number=st.integers(0, 15))
    def cancel(self, source: int, number: int) -> None:
        key = (source, f"l{number}")
        before = next((lease.state for lease in self.ledger.leases() if lease.key == key), None)
        if not self.ledger.is_held(*key):
            self.called_off[key] = self.now + CANCEL_FOR
        lease = self.ledger.cancel(*key, self.now)
        if before is State.QUEUED:
            assert lease is not None
            assert isinstance(lease.outcome, Cancelled)
        elif before in (State.RUNNING, State.STOPPING):
            assert lease is not None
            assert lease.cancel_reason is CancelReason.GATEWAY
        else:
            assert lease is None
        self.start()

    @precondition(lambda self: self.ledger.held.running())
    @rule(index=INDEX, outcome=st.sampled_from(OUTCOMES))
    def finish(self, index: int, outcome: Outcome) -> None:
        running = self.ledger.held.running()
        lease = running[index % len(running)]
        self.ledger.finish(lease, Cancelled() if lease.cancel_reason is CancelReason.GATEWAY else outcome, self.now)
        self.start()

    @precondition(lambda self: self.ledger.held.running())
    @rule(index=INDEX, reason=st.sampled_from([CancelReason.SHUTDOWN, CancelReason.TIMEOUT, CancelReason.LEASE_LOST]))
    def stop(self, index: int, reason: CancelReason) -> None:
        running = self.ledger.held.running()
        assert self.ledger.stop(running[index % len(running)], reason)

    def undelivered(self) -> list[Lease]:
        return [lease for lease in self.ledger.leases() if lease.state is State.UNDELIVERED]

    @precondition(lambda self: self.undelivered())
    @rule(index=INDEX, verdict=st.sampled_from(["accepted", "accepted", "gone", "gone", "refused"]))
    def deliver(self, index: int, verdict: str) -> None:
        lease = self.undelivered()[index % len(self.undelivered())]
        key = lease.key
        if verdict == "accepted":
            self.ledger.accepted(lease, self.now)
        elif verdict == "gone":
            self.ledger.gone(lease, self.now)
            assert lease.state in (State.KEPT, State.SETTLED)
        elif self.ledger.refused(lease, "so", self.now):
            assert isinstance(lease.outcome, Failed)
            return
        self.over[key] = self.now
        assert self.ledger.is_held(*key), "it is recognised when it comes again"
        self.start()

    @rule(seconds=st.sampled_from([0.05, 1.0, 5.0, 20.0, CANCEL_FOR + 1, SETTLED_FOR + 1]))
    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        for lease in self.ledger.impatient(self.now):
            assert isinstance(lease.outcome, GivenBack)
            assert lease.outcome.cause is GiveBack.EXPIRED
            assert lease.started is None
        assert self.ledger.impatient(self.now) == []
        for lease in self.ledger.held.expire(self.now):
            assert lease.lost
        assert self.ledger.held.expire(self.now) == []
        self.start()

    @rule(source=SOURCES, ago=st.sampled_from([0.0, 1.0, 30.0]))
    def beat(self, source: int, ago: float) -> None:
        held = [item.delivery_id for item in self.ledger.held.listed(source, self.now)]
        assert len(set(held)) == len(held)
        left = {lease: lease.time_left(self.now) for lease in self.ledger.held.running()}
        self.ledger.held.renew(source, held, self.now - ago)
        for lease, before in left.items():
            after = lease.time_left(self.now)
            assert after is None or before is None or after >= before, "a renewal takes no time"

    @rule(source=SOURCES, granted=st.dictionaries(st.sampled_from([A, B, "core/else"]), st.none() | st.integers(0, 3)))
    def grant(self, source: int, granted: dict[str, int | None]) -> None:
        missing = self.ledger.grant(source, granted)
        assert set(missing) == {A, B} - granted.keys()
        self.start()

    @rule(source=SOURCES, name=st.sampled_from([A, B, "core/unknown"]))
    def revoke(self, source: int, name: str) -> None:
        running = self.ledger.held.running()
        for lease in self.ledger.revoke(source, name, self.now):
            assert isinstance(lease.outcome, GivenBack)
            assert lease.source == source
        assert self.ledger.held.running() == running
        waiting = [lease for lease in self.ledger.leases() if lease.state is State.QUEUED]
        assert not [x for x in waiting if (x.source, x.delivery.task.capability) == (source, name)]

    @rule(concurrency=st.integers(1, 3))
    def resize(self, concurrency: int) -> None:
        self.ledger.slots.pools[A].resize(offer(A, concurrency=concurrency))
        self.start()

    @rule(paused=st.booleans())
    def pause(self, paused: bool) -> None:
        self.ledger.slots.paused = paused
        self.start()

    @precondition(lambda self: self.now > 60)
    @rule()
    def close(self) -> None:
        for lease in self.ledger.close(self.now):
            assert isinstance(lease.outcome, GivenBack)
            assert lease.due == self.now

    @rule(source=SOURCES, number=st.integers(0, 15), outcome=st.sampled_from(OUTCOMES[2:5]))
    def refuse(self, source: int, number: int, outcome: Outcome) -> None:
        if not self.ledger.is_held(source, f"l{number}"):
            nameless = delivery(f"l{number}", "", workflow_id="", capability="", text=b"")
            self.ledger.refuse(source, nameless, outcome, self.now)

    # ---- what always holds

    @invariant()
    def the_accounts_are_right(self) -> None:
        if hasattr(self, "ledger"):
            check_book(self.ledger)

    @invariant()
    def nobody_waits_before_a_free_slot(self) -> None:
        if not hasattr(self, "ledger"):
            return
        slots = self.ledger.slots
        full = slots.paused or self.ledger.undelivered >= self.limits.undelivered
        full = full or slots.running >= slots._maximum
        for pool in slots.pools.values():
            assert full or pool.running >= pool.limit or not pool.waiting()


BookMachine.TestCase.settings = settings(max_examples=200, stateful_step_count=40, deadline=None)
TestBookMachine = BookMachine.TestCase
