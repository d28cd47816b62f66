"""The life of one delivery: every step from every state, and what a lease knows of its time."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuron_anyio.lease import TRANSITIONS, Lease, State, Step
from neuron_anyio.model import CancelReason, Delivery
from tests.pure.books import delivery

ALLOWED = {
    (State.ADMITTED, Step.ENQUEUE): State.QUEUED,
    (State.ADMITTED, Step.FINISH): State.UNDELIVERED,
    (State.QUEUED, Step.START): State.RUNNING,
    (State.QUEUED, Step.FINISH): State.UNDELIVERED,
    (State.RUNNING, Step.CANCEL): State.STOPPING,
    (State.RUNNING, Step.FINISH): State.UNDELIVERED,
    (State.STOPPING, Step.CANCEL): State.STOPPING,
    (State.STOPPING, Step.FINISH): State.UNDELIVERED,
    (State.UNDELIVERED, Step.ACCEPT): State.SETTLED,
    (State.UNDELIVERED, Step.LOSE): State.KEPT,
    (State.UNDELIVERED, Step.FORGET): State.SETTLED,
    (State.KEPT, Step.REVIVE): State.UNDELIVERED,
    (State.KEPT, Step.FORGET): State.SETTLED,
}


def lease(*, time_left: float | None = 60.0, now: float = 100.0) -> Lease:
    return Lease(delivery("l1", time_left=time_left), source=0, fingerprint=b"", now=now)


@pytest.mark.parametrize(("state", "step"), list(product(State, Step)))
def test_each_step_leads_where_the_table_says_or_raises(state: State, step: Step) -> None:
    one = lease()
    one.state = state
    if (state, step) in ALLOWED:
        one.apply(step)
        assert one.state is ALLOWED[state, step]
    else:
        with pytest.raises(AssertionError, match=f"cannot {step.value} while {state.name}"):
            one.apply(step)
        assert one.state is state


def test_the_table_names_every_state() -> None:
    assert TRANSITIONS.keys() == set(State)


@given(st.lists(st.sampled_from(Step), max_size=30))
def test_nothing_leaves_the_end_and_a_lease_starts_once(steps: list[Step]) -> None:
    one = lease()
    taken: list[Step] = []
    for step in steps:
        before = one.state
        try:
            one.apply(step)
        except AssertionError:
            continue
        assert before is not State.SETTLED
        taken.append(step)
    assert taken.count(Step.START) <= 1
    assert taken.count(Step.FINISH) <= 1
    assert taken.count(Step.ACCEPT) <= 1


def test_L6_its_time_counts_from_its_arrival() -> None:
    one = lease(time_left=60.0, now=100.0)
    assert one.time_left(100.0) == 60.0
    assert one.time_left(130.0) == 30.0
    assert one.time_left(160.0) == 0.0
    assert one.time_left(1e9) == 0.0, "never below 0"


def test_L6_a_lease_without_expiry_has_no_time_to_lose() -> None:
    one = lease(time_left=None)
    assert one.time_left(1e9) is None
    one.renew(200.0)
    assert one.time_left(1e9) is None


def test_L6_a_renewal_counts_from_when_the_heartbeat_was_sent() -> None:
    one = lease(time_left=60.0, now=100.0)
    one.renew(120.0)
    assert one.time_left(130.0) == 50.0


def test_L6_an_answer_that_comes_late_takes_no_time_back() -> None:
    one = lease(time_left=60.0, now=100.0)
    one.renew(150.0)
    one.renew(120.0)  # the answer to an earlier heartbeat
    assert one.time_left(150.0) == 60.0


def test_a_lost_lease_that_is_renewed_can_be_lost_again() -> None:
    one = lease(now=100.0)
    one.lost = True
    one.renew(170.0)
    assert not one.lost


def test_a_renewal_from_before_the_loss_does_not_undo_it() -> None:
    one = lease(time_left=60.0, now=100.0)
    one.lost = True
    one.renew(100.0)
    assert one.lost


def test_L3_4_a_newer_delivery_brings_its_own_id_and_time() -> None:
    one = lease(time_left=60.0, now=100.0)
    one.lost = True
    one.rebind(delivery("l2", time_left=10.0), 200.0)
    assert one.key == (0, "l2")
    assert one.time_left(205.0) == 5.0
    assert not one.lost


@pytest.mark.parametrize(
    ("reasons", "stands"),
    [
        ([CancelReason.TIMEOUT, CancelReason.SHUTDOWN], CancelReason.TIMEOUT),
        ([CancelReason.SHUTDOWN, CancelReason.LEASE_LOST], CancelReason.SHUTDOWN),
        ([CancelReason.LEASE_LOST, CancelReason.GATEWAY], CancelReason.GATEWAY),
        ([CancelReason.GATEWAY, CancelReason.SHUTDOWN], CancelReason.GATEWAY),
    ],
)
def test_L4_3_the_first_reason_stands_unless_the_gateway_speaks(
    reasons: list[CancelReason], stands: CancelReason
) -> None:
    one = lease()
    one.state = State.RUNNING
    for reason in reasons:
        one.cancel(reason)
    assert one.cancel_reason is stands
    assert one.state is State.STOPPING


def test_what_is_decided_lets_go_of_input_and_schemas_and_keeps_its_ids() -> None:
    big = delivery("l1", "t1", text=b"[1]", user="ann", input_schema=b"{}", output_schema=b"true")
    one = Lease(big, source=0, fingerprint=b"", now=0.0)
    assert one.size == 3 + 2 + 4
    one.shed()
    assert one.size == 0
    left: Delivery = one.delivery
    assert (left.id, left.task.task_id, left.task.on_behalf_of, left.time_left) == ("l1", "t1", "ann", 60.0)


def test_C9_its_repr_has_ids_and_no_content() -> None:
    one = Lease(delivery("l1", "t1", text=b'"secret"'), source=0, fingerprint=b"", now=0.0)
    assert repr(one) == "<Lease 'l1' of task 't1', ADMITTED>"
