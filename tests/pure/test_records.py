"""Results as they lie in a journal (promise L10)."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuron_anyio.errors import JournalError
from neuron_anyio.lease import Lease, Step, fingerprint
from neuron_anyio.model import (
    Cancelled,
    Completed,
    Delivery,
    Dropped,
    Failed,
    FailureKind,
    GiveBack,
    GivenBack,
    Outcome,
    Task,
)
from neuron_anyio.records import decode_record, encode_record, is_worth_recording, record_key
from neuron_anyio.testing.strategies import deliveries, outcomes


def settled(delivery: Delivery, outcome: Outcome, *, source: int = 0) -> Lease:
    lease = Lease(delivery, source=source, fingerprint=fingerprint(source, delivery.task), now=0.0)
    for step in (Step.ENQUEUE, Step.START, Step.FINISH):
        lease.apply(step)
    lease.started = 0.0
    lease.outcome = outcome
    lease.shed()
    return lease


@given(
    deliveries(attempt=st.integers(0, 2**63 - 1)), outcomes(Completed, Failed, Cancelled, Dropped), st.integers(0, 3)
)
def test_L10_every_result_survives_the_file(delivery: Delivery, outcome: Outcome, source: int) -> None:
    lease = settled(delivery, outcome, source=source)
    recorded = decode_record(encode_record(lease))
    assert recorded.outcome == outcome
    assert (recorded.source, recorded.fingerprint) == (source, lease.fingerprint)
    assert recorded.delivery == lease.delivery
    assert is_worth_recording(lease)


def test_L10_the_files_names_stay_when_those_of_the_model_change() -> None:
    outcome = Failed(kind=FailureKind.TERMINAL, retryable=False, reason="so", code="BROKEN", details=b"{}")
    task = Task(task_id="t", workflow_id="w", capability="core/a", attempt=2, input=b"1", on_behalf_of="ann")
    lease = settled(Delivery(id="l", task=task, time_left=30.0), outcome, source=1)
    assert msgspec.msgpack.decode(encode_record(lease)) == {
        "source": 1,
        "fingerprint": lease.fingerprint,
        "lease_id": "l",
        "task_id": "t",
        "workflow_id": "w",
        "capability": "core/a",
        "attempt": 2,
        "on_behalf_of": "ann",
        "lease_time": 30.0,
        "ended": "failed",
        "kind": "TERMINAL",
        "reason": "so",
        "code": "BROKEN",
        "details": b"{}",
    }


@given(st.binary(max_size=200))
def test_L10_what_is_no_record_is_a_journal_error(value: bytes) -> None:
    with pytest.raises(JournalError, match="cannot be read"):
        decode_record(value)


def test_L10_a_kind_that_a_newer_version_knows_is_a_journal_error() -> None:
    task = Task(task_id="t", workflow_id="w", capability="core/a", attempt=0, input=b"")
    failed = Failed(kind=FailureKind.TERMINAL, retryable=False, reason="so")
    row = msgspec.msgpack.decode(encode_record(settled(Delivery(id="l", task=task), failed)))
    with pytest.raises(JournalError, match="newer version"):
        decode_record(msgspec.msgpack.encode(row | {"kind": "NEVER_HEARD_OF"}))


def test_L10_what_was_given_back_or_never_ran_is_not_worth_a_record() -> None:
    task = Task(task_id="t", workflow_id="w", capability="core/a", attempt=0, input=b"")
    lease = settled(Delivery(id="l", task=task), GivenBack(cause=GiveBack.SHUTDOWN, reason="so"))
    assert not is_worth_recording(lease)
    never = settled(Delivery(id="l", task=task), Cancelled())
    never.started = None
    assert not is_worth_recording(never)


def test_L10_two_leases_of_one_task_have_two_keys() -> None:
    task = Task(task_id="t", workflow_id="w", capability="core/a", attempt=0, input=b"")
    one, two = (settled(Delivery(id=name, task=task), Cancelled()) for name in ("l1", "l2"))
    assert record_key(one) != record_key(two)
