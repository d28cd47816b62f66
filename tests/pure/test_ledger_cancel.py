"""Cancels, and the neuron's own stops: promise L4 row by row, C11, C12, D1."""

from __future__ import annotations

import pytest

from neuron_anyio.config import Limits
from neuron_anyio.lease import State
from neuron_anyio.ledger import Arrival
from neuron_anyio.model import Cancelled, CancelReason, Completed, GiveBack, GivenBack
from tests.pure.books import DONE, ECHO, Bench, cause, delivery, ids, offer

# ---- L4


def test_L4_1_a_cancel_before_its_lease_is_remembered_and_the_lease_never_runs() -> None:
    bench = Bench()
    assert bench.cancel("l1") is None
    assert isinstance(bench.answer(delivery("l1")).outcome, Cancelled)
    assert bench.started == []
    assert bench.arrive(delivery("l1")) == (Arrival.IGNORE, None)


def test_L4_1_it_is_remembered_for_a_minute() -> None:
    bench = Bench(offer(concurrency=2))
    bench.cancel("l1")
    bench.cancel("l2")
    bench.now += 60
    assert isinstance(bench.answer(delivery("l1", "t1")).outcome, Cancelled)
    bench.now += 0.1
    bench.admit(delivery("l2", "t2"))
    assert ids(bench.started) == ["l2"]


def test_L4_1_no_more_than_so_many_are_remembered() -> None:
    bench = Bench(offer(concurrency=3), limits=Limits(remembered_cancels=2))
    for n in range(3):
        bench.cancel(f"l{n}")
    bench.admit(delivery("l0", "t0"))
    assert isinstance(bench.answer(delivery("l1", "t1")).outcome, Cancelled)


def test_L4_1_it_holds_for_one_broker_and_not_for_the_task() -> None:
    bench = Bench(offer(concurrency=3))
    bench.cancel("l1", source=1)
    bench.admit(delivery("l1", "t1"), source=0)
    bench.cancel("l2", source=0)
    bench.answer(delivery("l2", "t2"))
    bench.admit(delivery("l3", "t2"))


def test_L4_1_a_cancelled_lease_leaves_a_run_of_the_same_task_alone() -> None:
    bench = Bench()
    running = bench.admit(delivery("l1"))
    bench.cancel("l2")
    again = bench.answer(delivery("l2"))
    assert isinstance(again.outcome, Cancelled)
    assert running.is_running
    bench.accept(again)
    bench.finish(running)
    assert sorted(bench.held()) == ["l1"]


def test_L4_2_a_queued_lease_never_starts_and_is_cancelled_at_once() -> None:
    bench = Bench()
    first = bench.admit(delivery("l1", "t1"))
    queued = bench.admit(delivery("l2", "t2"))
    bench.now += 1
    assert bench.cancel("l2") is queued
    assert isinstance(queued.outcome, Cancelled)
    assert queued.due == bench.now
    bench.finish(first)
    assert ids(bench.started) == ["l1"]


def test_L4_2_the_place_of_a_cancelled_lease_is_free_again() -> None:
    bench = Bench(limits=Limits(queue=1, queue_bytes=2))
    bench.admit(delivery("l1", "t1"))
    bench.admit(delivery("l2", "t2"))
    bench.cancel("l2")
    bench.admit(delivery("l3", "t3"))


def test_L4_3_a_running_lease_is_stopped_and_ends_when_its_handler_has_ended() -> None:
    bench = Bench()
    lease = bench.admit(delivery("l1"))
    assert bench.cancel("l1") is lease
    assert lease.state is State.STOPPING
    assert lease.cancel_reason is CancelReason.GATEWAY
    assert lease.outcome is None
    assert bench.held() == ["l1"], "it is still held"
    assert bench.cancel("l1") is lease, "said twice is said once"
    bench.finish(lease, Cancelled())
    assert bench.held() == ["l1"]


def test_L4_3_the_gateways_word_outweighs_the_neurons_own() -> None:
    bench = Bench()
    lease = bench.admit(delivery("l1"))
    assert bench.ledger.stop(lease, CancelReason.SHUTDOWN)
    bench.cancel("l1")
    assert bench.ledger.stop(lease, CancelReason.LEASE_LOST)
    assert lease.cancel_reason is CancelReason.GATEWAY


def test_L4_4_an_older_id_of_an_adopted_run_is_ignored() -> None:
    bench = Bench()
    lease = bench.admit(delivery("l1"))
    bench.arrive(delivery("l2"))
    assert bench.cancel("l1") is None
    assert lease.state is State.RUNNING
    assert bench.cancel("l2") is lease


def test_L4_4_so_is_the_older_id_of_a_queued_task() -> None:
    bench = Bench()
    bench.ledger.slots.paused = True
    lease = bench.admit(delivery("l1"))
    bench.arrive(delivery("l2"))
    assert bench.cancel("l1") is None
    bench.ledger.slots.paused = False
    bench.start()
    assert bench.started == [lease]


def test_L4_5_after_the_handler_has_ended_the_result_stands() -> None:
    bench = Bench()
    lease = bench.run(delivery("l1"))
    assert bench.cancel("l1") is None
    assert lease.outcome == DONE
    bench.accept(lease)
    assert bench.cancel("l1") is None
    assert bench.answer(delivery("l1")).outcome == DONE


def test_L4_5_so_does_a_result_whose_lease_is_gone() -> None:
    bench = Bench()
    lease = bench.run(delivery("l1"))
    bench.lose(lease)
    assert bench.cancel("l1") is None
    assert bench.answer(delivery("l2")) is lease
    assert isinstance(lease.outcome, Completed)


def test_a_lease_that_does_not_run_cannot_be_stopped() -> None:
    bench = Bench()
    lease = bench.run(delivery("l1"))
    assert not bench.ledger.stop(lease, CancelReason.SHUTDOWN)
    assert lease.cancel_reason is None


# ---- D1


def test_D1_a_drain_gives_back_all_that_waits_at_once_and_lets_the_rest_run() -> None:
    bench = Bench(offer("core/a"), offer("core/b"))
    for n in range(3):
        bench.admit(delivery(f"a{n}", f"a{n}", capability="core/a"))
        bench.admit(delivery(f"b{n}", f"b{n}", capability="core/b"))
    back = bench.ledger.close(bench.now)
    assert sorted(ids(back)) == ["a1", "a2", "b1", "b2"]
    assert {cause(lease) for lease in back} == {GiveBack.DRAINING}
    assert {lease.due for lease in back} == {bench.now}, "not paced"
    for lease in bench.ledger.held.running():
        bench.finish(lease)
    assert len(bench.started) == 2
    assert bench.ledger.close(bench.now) == []


# ---- C11, C12


def test_C12_a_revoked_capability_gives_back_what_waits_and_lets_the_rest_run() -> None:
    bench = Bench(offer("core/a"), offer("core/b"))
    leases = [bench.admit(delivery(f"a{n}", f"a{n}", capability="core/a")) for n in range(3)]
    bench.admit(delivery("b0", "b0", capability="core/b"))
    waiting = bench.admit(delivery("b1", "b1", capability="core/b"))
    back = bench.ledger.revoke(0, "core/a", bench.now)
    bench.start()
    assert back == leases[1:]
    assert {cause(lease) for lease in back} == {GiveBack.REVOKED}
    assert {lease.due for lease in back} == {bench.now}
    assert leases[0].is_running
    assert waiting.state is State.QUEUED
    bench.finish(leases[0])
    assert leases[0].outcome == DONE


def test_C12_it_is_not_offered_until_it_is_granted_again() -> None:
    bench = Bench(offer("core/a"), offer("core/b", concurrency=3))
    bench.ledger.grant(0, {"core/a": 1, "core/b": 3})
    bench.ledger.revoke(0, "core/b", bench.now)
    assert [each.capability for each in bench.ledger.offers(0)] == ["core/a"]
    assert [each.capability for each in bench.ledger.offers(1)] == ["core/a", "core/b"], "another broker is another"
    bench.ledger.grant(0, {"core/a": 1, "core/b": 2})
    assert [each.capability for each in bench.ledger.offers(0)] == ["core/a", "core/b"]
    bench.admit(delivery("l1", capability="core/b"))


def test_C12_what_another_broker_sent_stays() -> None:
    bench = Bench()
    bench.admit(delivery("l1", "t1"), source=0)
    mine = bench.admit(delivery("l2", "t2"), source=0)
    other = bench.admit(delivery("l3", "t3"), source=1)
    assert bench.ledger.revoke(0, ECHO, bench.now) == [mine]
    bench.finish(bench.started[0])
    assert bench.started[1:] == [other], "and runs, though this broker has never said what it grants"


def test_C12_an_unknown_capability_has_nothing_to_give_back() -> None:
    bench = Bench()
    bench.admit(delivery("l1"))
    assert bench.ledger.revoke(0, "core/other", bench.now) == []


@pytest.mark.parametrize("granted", [{}, {"core/other": 3}, {ECHO: 0}])
def test_C11_what_waits_when_its_capability_is_not_granted_any_more_goes_back_and_never_runs(
    granted: dict[str, int],
) -> None:
    bench = Bench()
    first = bench.admit(delivery("l1", "t1"))
    second = bench.admit(delivery("l2", "t2"))
    bench.ledger.grant(0, granted)
    bench.start()
    bench.finish(first)
    assert bench.started == [first]
    assert cause(second) is GiveBack.REVOKED


def test_C11_the_smaller_of_wish_and_grant_holds_from_the_next_start() -> None:
    bench = Bench(offer(concurrency=3))
    leases = [bench.admit(delivery(f"l{n}", f"t{n}")) for n in range(4)]
    bench.ledger.grant(0, {ECHO: 1})
    bench.finish(leases[0])
    assert len(bench.started) == 3
    bench.finish(leases[1])
    bench.finish(leases[2])
    assert len(bench.started) == 4


def test_C11_an_empty_grant_leaves_nothing_to_offer() -> None:
    bench = Bench()
    assert bench.ledger.grant(0, {}) == [ECHO]
    assert bench.ledger.offers(0) == []


# ---- what was given back may come again


@pytest.mark.parametrize("reason", [GiveBack.SHUTDOWN, GiveBack.EXPIRED])
def test_what_was_started_and_goes_back_is_not_paced(reason: GiveBack) -> None:
    bench = Bench(offer(concurrency=3))
    for n in range(3):
        bench.admit(delivery(f"l{n}", f"t{n}"))
    for lease in bench.started:
        bench.finish(lease, GivenBack(cause=reason, reason="so"))
        assert lease.due == bench.now
        assert lease.delivery.id not in bench.held()
