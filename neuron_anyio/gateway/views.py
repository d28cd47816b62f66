"""What callers see of the ledger."""

from __future__ import annotations

from neuron_anyio.statuses import (
    CapabilityStatus,
    HeldSlots,
    NeuronStatus,
    TaskFailure,
    TaskProgress,
    TaskStatus,
)

from .ledger import GatewayLedger
from .roster import Neuron
from .tasks import Failure, Progressed, State, Task

__all__ = ["capability_statuses", "neuron_statuses", "task_status"]


def task_status(ledger: GatewayLedger, task: Task) -> TaskStatus:
    """Return a task as callers see it. JSON values stay undecoded, for the result is meant to be encoded whole."""
    lease = ledger.live_lease(task)
    progress = task.progress if lease is None else lease.progress
    return TaskStatus(
        task_id=task.task_id,
        capability=task.capability,
        state=task.state.value,
        created_at=task.created_at,
        updated_at=task.updated_at,
        max_attempts=task.max_attempts,
        attempts=task.attempts,
        deliveries=task.deliveries,
        results=task.results,
        expiries=task.expiries,
        give_backs=task.give_backs,
        on_behalf_of=task.on_behalf_of,
        metadata=task.metadata,
        offered=ledger.roster.is_offered(task.route) if task.state is State.PENDING else None,
        neuron_id=task.neuron_id,
        lease_expires_at=None if lease is None else lease.expires_at,
        cancel_reason=task.cancel_reason,
        output=task.output,
        failure=None if task.failure is None else _failure(task.failure),
        progress=None if progress is None else _progress(progress),
    )


def _failure(failure: Failure) -> TaskFailure:
    return TaskFailure(kind=failure.kind, reason=failure.reason, code=failure.code, details=failure.details)


def _progress(progress: Progressed) -> TaskProgress:
    return TaskProgress(
        sent_at=progress.sent_at, percent=progress.percent, message=progress.message, data=progress.data
    )


def neuron_statuses(ledger: GatewayLedger) -> list[NeuronStatus]:
    """Return the neurons that are connected or hold leases."""
    neurons = ledger.roster.neurons.values()
    return [_neuron_status(neuron) for neuron in neurons if neuron.session is not None or any(neuron.leases)]


def _neuron_status(neuron: Neuron) -> NeuronStatus:
    session = neuron.session
    granted = [
        HeldSlots(type=slots.type, concurrency=slots.offer.concurrency, leased=len(slots.leases), on_behalf_of=user)
        for slots in neuron.slots.values()
        if slots.offer is not None and slots.route is not None
        for user in (slots.route[1],)
    ]
    return NeuronStatus(
        neuron_id=neuron.neuron_id,
        connected=session is not None,
        registered=session is not None and session.registered,
        draining=session is not None and session.draining,
        leased=sum(1 for _ in neuron.leases),
        capabilities=tuple(granted),
        session_id=None if session is None else session.session_id,
        since=None if session is None else session.since,
    )


def capability_statuses(ledger: GatewayLedger) -> list[CapabilityStatus]:
    """Return every capability that is offered, wanted or revoked."""
    roster, book = ledger.roster, ledger.book
    types = roster.offered_types() | book.open_capabilities() | roster.revoked
    return [
        CapabilityStatus(
            type=name,
            neurons=len(offering),
            concurrency=sum(slots.offer.concurrency for slots in offering if slots.offer is not None),
            leased=book.open_count(name, State.LEASED),
            pending=book.open_count(name, State.PENDING),
            revoked=name in roster.revoked,
        )
        for name in sorted(types)
        for offering in (list(roster.offering(name)),)
    ]
