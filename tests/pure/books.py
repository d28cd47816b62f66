"""A neuron's book to test with, and the check that its accounts are right."""

from __future__ import annotations

from collections.abc import Sequence

from neuron_anyio.config import Limits
from neuron_anyio.lease import Lease, State
from neuron_anyio.ledger import Arrival, Ledger
from neuron_anyio.memory import Memory
from neuron_anyio.model import Completed, Delivery, Failed, GiveBack, GivenBack, Offer, Outcome, Task

ECHO = "core/echo"
DONE = Completed((b'"done"',))


def offer(capability: str = ECHO, *, concurrency: int = 1, user: str | None = None) -> Offer:
    return Offer(capability=capability, concurrency=concurrency, on_behalf_of=user)


def delivery(
    lease_id: str,
    task_id: str = "t1",
    *,
    capability: str = ECHO,
    workflow_id: str = "w1",
    user: str | None = None,
    text: bytes = b"{}",
    attempt: int = 0,
    time_left: float | None = 60.0,
    input_schema: bytes | None = None,
    output_schema: bytes | None = None,
) -> Delivery:
    return Delivery(
        id=lease_id,
        task=Task(
            task_id=task_id,
            workflow_id=workflow_id,
            capability=capability,
            attempt=attempt,
            input=text,
            on_behalf_of=user,
        ),
        time_left=time_left,
        input_schema=input_schema,
        output_schema=output_schema,
    )


class Bench:
    """A book with its clock, and what a shell does with its decisions. Checks the accounts after every call.

    Attributes:
        started: leases whose handlers were started, in order.
        settled: leases whose outcomes were handed over for delivery, in order.
    """

    def __init__(self, *offers: Offer, limits: Limits | None = None, max_concurrency: int | None = None) -> None:
        self.now = 1000.0
        self.limits = Limits() if limits is None else limits
        self.ledger = Ledger(offers or (offer(),), limits=self.limits, max_concurrency=max_concurrency)
        self.started: list[Lease] = []
        self.settled: list[Lease] = []

    def arrive(self, arriving: Delivery, *, source: int = 0) -> tuple[Arrival, Lease | None]:
        """Let a delivery arrive whose input is right, and start what can start."""
        arrival, lease = self.ledger.arrive(source, arriving, self.now)
        if lease is not None and arrival is Arrival.ADMIT:
            self.ledger.enqueue(lease)
        elif lease is not None and arrival is Arrival.SETTLE:
            self.settled.append(lease)
        self.start()
        return arrival, lease

    def admit(self, arriving: Delivery, *, source: int = 0) -> Lease:
        """Let a delivery arrive that is new."""
        arrival, lease = self.arrive(arriving, source=source)
        assert arrival is Arrival.ADMIT
        assert lease is not None
        return lease

    def answer(self, arriving: Delivery, *, source: int = 0) -> Lease:
        """Let a delivery arrive that is settled at once."""
        arrival, lease = self.arrive(arriving, source=source)
        assert arrival is Arrival.SETTLE
        assert lease is not None
        return lease

    def start(self) -> None:
        for lease in self.ledger.start_ready(self.now):
            (self.started if lease.is_running else self.settled).append(lease)
        check_book(self.ledger)

    def finish(self, lease: Lease, outcome: Outcome = DONE) -> Lease:
        """End a handler."""
        self.settled.append(self.ledger.finish(lease, outcome, self.now))
        self.start()
        return lease

    def run(self, arriving: Delivery, outcome: Outcome = DONE) -> Lease:
        """Let a delivery arrive, start and end."""
        lease = self.admit(arriving)
        assert lease.is_running
        return self.finish(lease, outcome)

    def cancel(self, lease_id: str, *, source: int = 0) -> Lease | None:
        lease = self.ledger.cancel(source, lease_id, self.now)
        if lease is not None and not lease.is_running:
            self.settled.append(lease)
        self.start()
        return lease

    def accept(self, lease: Lease) -> None:
        self.ledger.accepted(lease, self.now)
        self.start()

    def lose(self, lease: Lease) -> None:
        self.ledger.gone(lease, self.now)
        self.start()

    def held(self, source: int = 0) -> list[str]:
        return [item.delivery_id for item in self.ledger.held.listed(source, self.now)]


def cause(lease: Lease) -> GiveBack:
    """Return why a lease was given back."""
    assert isinstance(lease.outcome, GivenBack)
    return lease.outcome.cause


def ids(leases: Sequence[Lease]) -> list[str]:
    return [lease.delivery.id for lease in leases]


def answers(outcome: Outcome | None) -> bool:
    """Return whether an outcome spares the task another run (promise L3.5)."""
    return isinstance(outcome, Completed) or (isinstance(outcome, Failed) and not outcome.retryable)


# ---- the accounts


def check_book(ledger: Ledger) -> None:
    """Walk the whole book and count what it says that it has counted."""
    leases = ledger.leases()
    _check_ids(ledger)
    _check_tasks(ledger)
    _check_slots(ledger, leases)
    _check_undelivered(ledger, leases)
    check_memory(ledger._memory, ledger._limits)


def _check_ids(ledger: Ledger) -> None:
    for (source, lease_id), lease in ledger._by_id.items():
        assert lease.source == source
        assert lease_id == lease.delivery.id, "a lease is known under its newest id, and no other"
        assert lease.state not in (State.KEPT, State.SETTLED)
        assert lease.outcome is None or lease.size == 0, "who has an outcome needs no input any more"


def _check_tasks(ledger: Ledger) -> None:
    for identity, lease in ledger._by_task.items():
        assert lease.fingerprint == identity
        assert lease.state is not State.SETTLED
        assert (lease.state is State.KEPT) == (identity in ledger._kept._leases)
    for identity, lease in ledger._kept._leases.items():
        assert ledger._by_task[identity] is lease
        assert lease.state is State.KEPT
        assert answers(lease.outcome)
        assert lease.size == 0
    assert len(ledger._kept) <= ledger._limits.undelivered


def _check_slots(ledger: Ledger, leases: Sequence[Lease]) -> None:
    slots, limits = ledger.slots, ledger._limits
    running = [lease for lease in leases if lease.is_running]
    queued = [lease for lease in leases if lease.state is State.QUEUED]
    assert slots.running == len(running)
    assert slots.queued == len(queued) <= limits.queue
    assert slots.queued_bytes == sum(lease.size for lease in queued) <= limits.queue_bytes
    for name, pool in slots.pools.items():
        own = [lease for lease in queued if lease.delivery.task.capability == name]
        assert pool.running == sum(1 for lease in running if lease.delivery.task.capability == name)
        assert pool.queued == len(own)
        assert pool.waiting() == own, "first come, first served"
        assert len(pool._queue or ()) <= 2 * pool.queued + 64, "what has left the queue is forgotten in time"
    assert ledger.held.running() == running
    assert not (ledger.closed and queued)


def _check_undelivered(ledger: Ledger, leases: Sequence[Lease]) -> None:
    undelivered = [
        lease for lease in leases if lease.state is State.UNDELIVERED and not isinstance(lease.outcome, GivenBack)
    ]
    assert ledger.undelivered == len(undelivered)
    held = [lease for book in ledger.held._by_source.values() for lease in book.values()]
    known = [lease for lease in undelivered if lease.delivery.task.task_id]
    assert sorted(ids(held)) == sorted(ids([*known, *(lease for lease in leases if lease.is_running)]))
    for source, book in ledger.held._by_source.items():
        assert all(lease.key == (source, lease_id) for lease_id, lease in book.items())
    for lease in leases:
        assert (lease.state is State.UNDELIVERED) == (lease.outcome is not None)
        assert (lease.state is State.STOPPING) == (lease.is_running and lease.cancel_reason is not None)


def check_memory(memory: Memory, limits: Limits) -> None:
    assert len(memory._settled) <= limits.remembered_leases
    assert len(memory._cancels) <= limits.remembered_cancels
    assert memory._results.keys() <= memory._settled.keys()
    size = sum(map(_size, memory._results.values()))
    assert memory._bytes == size <= limits.remembered_results_bytes
    for times in (memory._settled, memory._cancels):
        assert list(times.values()) == sorted(times.values()), "the oldest is forgotten first"


def _size(outcome: Outcome) -> int:
    if isinstance(outcome, Completed):
        return sum(map(len, outcome.outputs))
    return len(outcome.details or b"") if isinstance(outcome, Failed) else 0
