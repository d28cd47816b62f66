"""Time in the book: promises L6, L7, L9 and H1, and the time-out of L11.7."""

from __future__ import annotations

import pytest

from neuron_anyio.config import Limits
from neuron_anyio.lease import Lease, State
from neuron_anyio.ledger import Ledger
from neuron_anyio.model import (
    Cancelled,
    CancelReason,
    Completed,
    Failed,
    FailureKind,
    GiveBack,
    GivenBack,
    Held,
    Outcome,
)
from neuron_anyio.records import Recorded, decode_record, encode_record
from tests.pure.books import DONE, Bench, cause, delivery, ids, offer

TERMINAL = Failed(kind=FailureKind.TERMINAL, retryable=False, reason="so")
RETRY = Failed(kind=FailureKind.RETRY, retryable=True, reason="so")

# ---- L6


def test_L6_a_lease_whose_time_ran_out_in_the_queue_never_starts() -> None:
    bench = Bench()
    first = bench.admit(delivery("l1", "t1", time_left=None))
    late = bench.admit(delivery("l2", "t2", time_left=5.0))
    good = bench.admit(delivery("l3", "t3", time_left=60.0))
    bench.now += 5
    bench.finish(first)
    assert bench.started == [first, good]
    assert cause(late) is GiveBack.EXPIRED


def waiting(bench: Bench, lease: Lease) -> float | None:
    """Say that a lease has to wait, as the shell does."""
    assert lease.state is State.QUEUED
    return bench.ledger.wait(lease)


def test_L6_what_waits_goes_back_while_a_quarter_of_its_time_is_left() -> None:
    bench = Bench()
    first = bench.admit(delivery("l1", "t1", time_left=None))
    late = bench.admit(delivery("l2", "t2", time_left=60.0))
    assert waiting(bench, late) == bench.now + 45
    assert bench.ledger.next_deadline() == bench.now + 45
    bench.now += 44.9
    assert bench.ledger.impatient(bench.now) == []
    bench.now += 0.1
    assert bench.ledger.impatient(bench.now) == [late]
    assert bench.ledger.impatient(bench.now) == []
    assert cause(late) is GiveBack.EXPIRED
    bench.finish(first)
    assert bench.started == [first]


def test_L6_without_expiry_it_waits_for_ever() -> None:
    bench = Bench()
    first = bench.admit(delivery("l1", "t1", time_left=None))
    patient = bench.admit(delivery("l2", "t2", time_left=None))
    assert waiting(bench, patient) is None
    bench.now += 1e6
    assert bench.ledger.impatient(bench.now) == []
    bench.finish(first)
    assert bench.started == [first, patient]


def test_L6_a_newer_delivery_that_took_its_place_waits_by_its_own_time() -> None:
    bench = Bench()
    bench.admit(delivery("l1", "t1", time_left=None))
    lease = bench.admit(delivery("l2", "t2", time_left=20.0))
    waiting(bench, lease)
    bench.now += 10
    bench.arrive(delivery("l3", "t2", time_left=60.0))
    assert waiting(bench, lease) == bench.now + 45
    bench.now += 20
    assert bench.ledger.impatient(bench.now) == []
    bench.now += 25
    assert bench.ledger.impatient(bench.now) == [lease]


def test_L6_what_has_started_or_ended_loses_no_patience() -> None:
    bench = Bench()
    first = bench.admit(delivery("l1", "t1", time_left=None))
    second = bench.admit(delivery("l2", "t2", time_left=60.0))
    third = bench.admit(delivery("l3", "t3", time_left=60.0))
    waiting(bench, second)
    waiting(bench, third)
    bench.finish(first)
    bench.cancel("l3")
    bench.now += 50
    assert bench.ledger.impatient(bench.now) == []
    assert second.is_running


def test_L6_whom_nobody_waits_for_any_more_is_forgotten() -> None:
    bench = Bench()
    bench.admit(delivery("l0", "t0", time_left=None))
    for n in range(1, 500):
        waiting(bench, bench.admit(delivery(f"l{n}", f"t{n}")))
        bench.cancel(f"l{n}")
    assert len(bench.ledger._patience._heap) < 100


def test_L6_an_accepted_heartbeat_renews_from_when_it_was_sent() -> None:
    bench = Bench()
    lease = bench.admit(delivery("l1", time_left=60.0))
    bench.now += 30
    bench.ledger.held.renew(0, ["l1", "unknown"], bench.now)
    bench.now += 40
    assert lease.time_left(bench.now) == 20.0


def test_L6_a_heartbeat_that_named_an_older_id_renews_nothing() -> None:
    bench = Bench()
    lease = bench.admit(delivery("l1", time_left=60.0))
    sent_at = bench.now + 10
    bench.arrive(delivery("l2", time_left=5.0))
    bench.ledger.held.renew(0, ["l1"], sent_at)
    assert lease.time_left(bench.now) == 5.0


def test_L6_another_brokers_heartbeat_renews_nothing() -> None:
    bench = Bench()
    lease = bench.admit(delivery("l1", time_left=60.0))
    bench.ledger.held.renew(1, ["l1"], bench.now + 30)
    assert lease.time_left(bench.now) == 60.0


# ---- L7


def test_L7_a_running_lease_without_time_left_is_lost_once() -> None:
    bench = Bench()
    lease = bench.admit(delivery("l1", time_left=60.0))
    bench.now += 59
    assert bench.ledger.held.expire(bench.now) == []
    assert bench.ledger.next_deadline() == bench.now + 1
    bench.now += 1
    assert bench.ledger.held.expire(bench.now) == [lease]
    assert bench.ledger.held.expire(bench.now) == []
    assert bench.ledger.next_deadline() is None
    assert lease.state is State.RUNNING, "what becomes of it is the capability's choice"


def test_L7_renewed_and_run_out_again_it_is_lost_again() -> None:
    bench = Bench()
    lease = bench.admit(delivery("l1", time_left=60.0))
    bench.now += 60
    bench.ledger.held.expire(bench.now)
    bench.ledger.held.renew(0, ["l1"], bench.now)
    assert bench.ledger.held.expire(bench.now) == []
    bench.now += 60
    assert bench.ledger.held.expire(bench.now) == [lease]


def test_L7_only_what_runs_can_be_lost() -> None:
    bench = Bench()
    running = bench.admit(delivery("l1", "t1", time_left=1.0))
    bench.admit(delivery("l2", "t2", time_left=1.0))
    bench.finish(running, RETRY)
    bench.now += 100
    bench.finish(bench.admit(delivery("l3", "t3", time_left=None)))
    assert bench.ledger.held.expire(bench.now) == [lease for lease in bench.started if lease.delivery.id == "l2"]


def test_L7_a_lost_lease_is_offered_once_and_kept() -> None:
    bench = Bench()
    lease = bench.admit(delivery("l1", time_left=1.0))
    bench.now += 1
    bench.ledger.held.expire(bench.now)
    bench.ledger.stop(lease, CancelReason.LEASE_LOST)
    bench.finish(lease)
    assert bench.held() == ["l1"]
    bench.lose(lease)
    assert lease.state is State.KEPT


# ---- L11.7


def test_L11_7_a_handler_over_its_time_out_is_told_once() -> None:
    bench = Bench()
    lease = bench.admit(delivery("l1", time_left=None))
    lease.deadline = bench.now + 5
    assert bench.ledger.next_deadline() == bench.now + 5
    bench.now += 4.9
    assert bench.ledger.held.overdue(bench.now) == []
    bench.now += 0.1
    assert bench.ledger.held.overdue(bench.now) == [lease]
    bench.ledger.stop(lease, CancelReason.TIMEOUT)
    assert bench.ledger.held.overdue(bench.now) == []
    assert bench.ledger.next_deadline() is None


def test_L11_7_a_lost_lease_that_goes_on_still_has_its_time_out() -> None:
    bench = Bench()
    lease = bench.admit(delivery("l1", time_left=1.0))
    lease.deadline = bench.now + 5
    bench.now += 1
    bench.ledger.held.expire(bench.now)
    assert bench.ledger.next_deadline() == bench.now + 4


def test_the_next_deadline_is_the_first_of_all() -> None:
    bench = Bench(offer(concurrency=5))
    assert bench.ledger.next_deadline() is None
    bench.admit(delivery("l1", "t1", time_left=30.0))
    bench.admit(delivery("l2", "t2", time_left=None)).deadline = bench.now + 20
    bench.admit(delivery("l3", "t3", time_left=40.0)).deadline = bench.now + 35
    assert bench.ledger.next_deadline() == bench.now + 20


# ---- H1


def test_H1_a_heartbeat_lists_what_runs_and_what_is_undelivered_and_not_what_waits() -> None:
    bench = Bench()
    first = bench.admit(delivery("l1", "t1"))
    bench.admit(delivery("l2", "t2"))
    bench.admit(delivery("l3", "t3"))
    bench.now += 3
    bench.finish(first)
    bench.now += 1
    assert bench.ledger.held.listed(0, bench.now) == [
        Held(delivery_id="l1", task_id="t1", age=4.0),
        Held(delivery_id="l2", task_id="t2", age=1.0),
    ]
    assert bench.ledger.held.listed(1, bench.now) == []


def test_H1_a_lease_that_never_ran_has_its_age_from_its_arrival() -> None:
    bench = Bench()
    _, lease = bench.ledger.arrive(0, delivery("l1"), bench.now)
    assert lease is not None
    bench.finish(lease, Failed(kind=FailureKind.INPUT_MISMATCH, retryable=False, reason="so"))
    bench.now += 2
    assert bench.ledger.held.listed(0, bench.now) == [Held(delivery_id="l1", task_id="t1", age=2.0)]


def test_H1_the_shortest_lease_is_that_of_what_a_heartbeat_would_list() -> None:
    bench = Bench()
    assert bench.ledger.held.shortest(0, bench.now) is None
    bench.admit(delivery("l1", "t1", time_left=30.0))
    bench.admit(delivery("l2", "t2", time_left=5.0))
    assert bench.ledger.held.shortest(0, bench.now) == 30.0, "what waits is not listed"
    bench.finish(bench.started[0])
    assert bench.ledger.held.shortest(0, bench.now) == 5.0
    assert bench.ledger.held.shortest(1, bench.now) is None
    bench.now += 10 * 30.0 + 1.0
    assert bench.held() == ["l2"]
    assert bench.ledger.held.shortest(0, bench.now) == 5.0, "L9: a result that nobody takes is not listed for ever"


def test_H1_leases_without_expiry_hurry_nobody() -> None:
    bench = Bench()
    bench.admit(delivery("l1", time_left=None))
    assert bench.ledger.held.shortest(0, bench.now) is None
    assert bench.held() == ["l1"]


# ---- L9


def test_L9_an_undelivered_lease_stays_in_the_heartbeats_for_ten_lease_times() -> None:
    bench = Bench()
    bench.run(delivery("l1", time_left=60.0))
    bench.now += 600
    assert bench.held() == ["l1"]
    bench.now += 0.1
    assert bench.held() == []


def test_L9_a_revived_result_has_ten_of_the_new_lease() -> None:
    bench = Bench()
    lease = bench.run(delivery("l1", time_left=1.0))
    bench.now += 100
    bench.lose(lease)
    bench.answer(delivery("l2", time_left=1.0))
    bench.now += 10
    assert bench.held() == ["l2"]
    bench.now += 0.1
    assert bench.held() == []


def test_L9_a_result_that_answers_a_newer_lease_has_ten_of_that() -> None:
    bench = Bench()
    bench.run(delivery("l1", time_left=60.0))
    bench.now += 500
    bench.answer(delivery("l2", time_left=60.0))
    bench.now += 600
    assert bench.held() == ["l2"]
    bench.now += 0.1
    assert bench.held() == []


def test_L9_without_expiry_it_stays_until_it_is_taken() -> None:
    bench = Bench()
    lease = bench.run(delivery("l1", time_left=None))
    bench.now += 1e6
    assert bench.held() == ["l1"]
    bench.accept(lease)
    assert bench.held() == []


@pytest.mark.parametrize("outcome", [DONE, TERMINAL])
def test_L9_bound_of_undelivered_age_a_result_whose_lease_is_gone_is_kept_for_an_hour(outcome: Outcome) -> None:
    bench = Bench()
    lease = bench.run(delivery("l1"), outcome)
    bench.now += 5000  # so long it was offered: its age counts from when the lease was gone
    bench.lose(lease)
    bench.now += 3599
    assert bench.answer(delivery("l2")) is lease
    bench.lose(lease)
    bench.now += 3600
    assert bench.admit(delivery("l3")) is not lease


def test_L9_each_is_kept_for_its_own_hour() -> None:
    bench = Bench(limits=Limits(undelivered_age=100.0))
    slow = bench.run(delivery("l1", "t1"))
    bench.now += 50
    quick = bench.run(delivery("l2", "t2"))
    bench.lose(quick)
    bench.now += 10
    bench.lose(slow)
    bench.now += 95
    bench.admit(delivery("l3", "t2"))
    assert bench.answer(delivery("l4", "t1")) is slow


@pytest.mark.parametrize("outcome", [RETRY, Cancelled(), GivenBack(cause=GiveBack.SHUTDOWN, reason="so")])
def test_L9_what_would_answer_nothing_is_not_kept(outcome: Outcome) -> None:
    bench = Bench()
    lease = bench.run(delivery("l1"), outcome)
    bench.lose(lease)
    assert lease.state is State.SETTLED
    assert bench.ledger.leases() == []


def test_L9_bound_of_undelivered_holds_for_kept_results_too_the_oldest_goes_first() -> None:
    bench = Bench(limits=Limits(undelivered=2))
    leases = []
    for n in range(3):
        leases.append(bench.run(delivery(f"l{n}", f"t{n}")))
        bench.lose(leases[-1])
    assert [lease.state for lease in leases] == [State.SETTLED, State.KEPT, State.KEPT]
    bench.admit(delivery("l3", "t0"))
    assert bench.answer(delivery("l4", "t1")) is leases[1]


def test_L9_an_ack_refused_for_its_content_is_followed_by_one_nack() -> None:
    bench = Bench()
    lease = bench.run(delivery("l1"))
    assert bench.ledger.refused(lease, "422 too odd", bench.now)
    assert lease.outcome == Failed(kind=FailureKind.RESULT_REFUSED, retryable=False, reason="422 too odd")
    assert bench.held() == ["l1"]
    assert not bench.ledger.refused(lease, "422 too odd", bench.now)
    bench.start()
    assert bench.held() == []
    assert lease.state is State.SETTLED


def test_L9_bound_of_undelivered_at_it_nothing_starts_and_nothing_is_dropped() -> None:
    bench = Bench(offer(concurrency=3), limits=Limits(undelivered=2))
    leases = [bench.admit(delivery(f"l{n}", f"t{n}")) for n in range(5)]
    bench.finish(leases[0])
    assert len(bench.started) == 4
    bench.finish(leases[1])
    bench.finish(leases[2])
    assert len(bench.started) == 4, "and none is dropped"
    assert bench.ledger.undelivered == 3
    bench.accept(leases[0])
    assert len(bench.started) == 4
    bench.accept(leases[1])
    assert ids(bench.started)[4:] == ["l4"]


def test_L9_what_the_broker_said_of_a_lease_that_is_over_changes_nothing() -> None:
    bench = Bench()
    lease = bench.run(delivery("l1"))
    bench.accept(lease)
    bench.accept(lease)
    bench.lose(lease)
    assert not bench.ledger.refused(lease, "so", bench.now)
    bench.start()
    assert lease.state is State.SETTLED
    assert bench.answer(delivery("l1")).outcome == DONE


def test_L9_a_result_sent_again_for_a_lease_that_is_gone_leaves_a_newer_run_alone() -> None:
    bench = Bench(offer(concurrency=2))
    bench.accept(bench.run(delivery("l1")))
    newer = bench.admit(delivery("l2"))
    again = bench.answer(delivery("l1"))
    assert isinstance(again.outcome, Completed)
    bench.lose(again)
    assert bench.arrive(delivery("l3"))[1] is newer, "the run that goes on is the task's"


# ---- what another process left: promise L10


def left(lease: Lease) -> Recorded:
    """Return what the journal gives back of a lease."""
    return decode_record(encode_record(lease))


@pytest.mark.parametrize("outcome", [DONE, TERMINAL], ids=["completed", "terminal"])
def test_L10_a_restored_result_answers_its_task(outcome: Outcome) -> None:
    before, bench = Bench(), Bench()
    recorded = left(before.run(delivery("l1"), outcome))
    restored = bench.ledger.restore(recorded, bench.now, age=5.0)
    assert bench.ledger.undelivered == 1
    assert bench.held() == ["l1"], "its lease is kept alive as long as an undelivered one's is"
    assert bench.answer(delivery("l2")) is restored
    assert restored.outcome == outcome
    bench.accept(restored)
    assert bench.ledger.undelivered == 0
    assert bench.started == []


@pytest.mark.parametrize("outcome", [RETRY, Cancelled()], ids=["retryable", "cancelled"])
def test_L3_5_a_restored_result_that_answers_nothing_is_dropped_and_its_task_runs(outcome: Outcome) -> None:
    over: list[Lease] = []
    before, bench = Bench(), Bench()
    bench.ledger = Ledger([offer()], limits=bench.limits, on_over=over.append)
    restored = bench.ledger.restore(left(before.run(delivery("l1"), outcome)), bench.now, age=5.0)
    bench.admit(delivery("l2"))
    assert ids(bench.started) == ["l2"]
    assert over == [restored]


def test_L9_a_restored_result_whose_lease_is_gone_waits_for_its_task() -> None:
    before, bench = Bench(), Bench()
    restored = bench.ledger.restore(left(before.run(delivery("l1"))), bench.now, age=7200.0)
    bench.lose(restored)
    assert restored.state is State.KEPT
    assert bench.answer(delivery("l2")) is restored
