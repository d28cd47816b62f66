"""What the book says to a delivery that comes: promises L2, L3, L6 and L13, row by row, and the order of L1 and L5."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuron_anyio.config import Limits
from neuron_anyio.lease import State, fingerprint
from neuron_anyio.ledger import Arrival
from neuron_anyio.model import (
    Cancelled,
    CancelReason,
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
from tests.pure.books import DONE, ECHO, Bench, cause, delivery, ids, offer

TERMINAL = Failed(kind=FailureKind.TERMINAL, retryable=False, reason="so")
MISMATCH = Failed(kind=FailureKind.OUTPUT_MISMATCH, retryable=False, reason="so")
RETRY = Failed(kind=FailureKind.RETRY, retryable=True, reason="so")
SHUTDOWN = GivenBack(cause=GiveBack.SHUTDOWN, reason="so")


# ---- L1 and L5: from its arrival to its end


def test_L1_a_lease_waits_for_its_slot_runs_once_and_is_delivered() -> None:
    bench = Bench()
    lease = bench.admit(delivery("l1"))
    states = [lease.state]
    bench.finish(lease)
    states.append(lease.state)
    bench.accept(lease)
    states.append(lease.state)
    assert states == [State.RUNNING, State.UNDELIVERED, State.SETTLED]
    assert bench.ledger.leases() == []


def test_L1_an_input_that_is_refused_never_waits() -> None:
    bench = Bench()
    _, lease = bench.ledger.arrive(0, delivery("l1"), bench.now)
    assert lease is not None
    assert lease.state is State.ADMITTED
    bench.finish(lease, Failed(kind=FailureKind.INPUT_MISMATCH, retryable=False, reason="so"))
    assert bench.started == []
    assert bench.held() == ["l1"]


def test_L5_first_come_first_served_within_a_capability() -> None:
    bench = Bench()
    leases = [bench.admit(delivery(f"l{n}", f"t{n}")) for n in range(4)]
    for lease in leases:
        bench.finish(lease)
    assert bench.started == leases


def test_L5_no_more_run_than_the_limits_of_capability_and_neuron() -> None:
    bench = Bench(offer("core/a", concurrency=2), offer("core/b", concurrency=2), max_concurrency=3)
    for n in range(3):
        bench.admit(delivery(f"a{n}", f"a{n}", capability="core/a"))
        bench.admit(delivery(f"b{n}", f"b{n}", capability="core/b"))
    assert ids(bench.started) == ["a0", "b0", "a1"]
    bench.finish(bench.started[0])
    assert ids(bench.started)[3:] == ["b1"]


def test_L5_an_update_takes_effect_at_once_for_starts_and_stops_none() -> None:
    bench = Bench(offer(concurrency=2))
    leases = [bench.admit(delivery(f"l{n}", f"t{n}")) for n in range(5)]
    bench.ledger.slots.pools[ECHO].resize(offer(concurrency=3))
    bench.start()
    assert len(bench.started) == 3
    bench.ledger.slots.pools[ECHO].resize(offer(concurrency=1))
    bench.finish(leases[0])
    bench.finish(leases[1])
    assert len(bench.started) == 3
    bench.finish(leases[2])
    assert len(bench.started) == 4


def test_L8_a_slot_is_free_when_the_handler_has_ended_though_nobody_has_taken_the_result() -> None:
    bench = Bench()
    bench.admit(delivery("l1", "t1"))
    second = bench.admit(delivery("l2", "t2"))
    assert not second.is_running
    bench.finish(bench.started[0])
    assert second.is_running


def test_L8_a_cancelled_handler_keeps_its_slot_until_it_has_ended() -> None:
    bench = Bench()
    first = bench.admit(delivery("l1", "t1"))
    second = bench.admit(delivery("l2", "t2"))
    bench.cancel("l1")
    assert not second.is_running
    bench.finish(first, Cancelled())
    assert second.is_running


# ---- L2: given back at once


def test_L2_an_unknown_capability() -> None:
    lease = Bench().answer(delivery("l1", capability="core/other"))
    assert cause(lease) is GiveBack.UNKNOWN_CAPABILITY


def test_L2_a_revoked_capability_and_one_that_was_not_granted() -> None:
    bench = Bench(offer("core/a"), offer("core/b"))
    assert bench.ledger.grant(0, {"core/a": 1}) == ["core/b"]
    assert cause(bench.answer(delivery("l1", capability="core/b"))) is GiveBack.REVOKED
    bench.ledger.revoke(0, "core/a", bench.now)
    assert cause(bench.answer(delivery("l2", capability="core/a"))) is GiveBack.REVOKED


def test_L2_a_draining_neuron() -> None:
    bench = Bench()
    bench.ledger.close(bench.now)
    assert cause(bench.answer(delivery("l1"))) is GiveBack.DRAINING


def test_L2_bound_of_queue_is_a_number_of_leases() -> None:
    bench = Bench(limits=Limits(queue=2))
    for n in range(3):
        bench.admit(delivery(f"l{n}", f"t{n}"))
    assert cause(bench.answer(delivery("l3", "t3"))) is GiveBack.OVERLOADED
    bench.finish(bench.started[0])
    bench.admit(delivery("l4", "t4"))


def test_L2_bound_of_queue_bytes_counts_inputs_and_schemas() -> None:
    bench = Bench(limits=Limits(queue_bytes=10))
    bench.admit(delivery("l0", "t0", text=b"x" * 10))
    bench.admit(delivery("l1", "t1", text=b"xxxx", input_schema=b"{}", output_schema=b"{}"))
    assert cause(bench.answer(delivery("l2", "t2", text=b"xxx"))) is GiveBack.OVERLOADED
    bench.admit(delivery("l3", "t3", text=b"xx"))


def test_L2_what_was_given_back_is_in_no_account_and_may_come_again() -> None:
    bench = Bench(limits=Limits(queue=1))
    bench.admit(delivery("l0", "t0"))
    bench.admit(delivery("l1", "t1"))
    back = bench.answer(delivery("l2", "t2"))
    assert (bench.ledger.undelivered, bench.held()) == (0, ["l0"])
    assert bench.ledger.is_held(0, "l2")
    bench.accept(back)
    bench.finish(bench.started[0])
    bench.admit(delivery("l3", "t2"))


def test_L2_give_backs_of_one_capability_are_paced() -> None:
    bench = Bench(offer("core/a"), offer("core/b"))
    bench.ledger.close(bench.now)
    due = [bench.answer(delivery(f"l{n}", f"t{n}", capability="core/a")).due - bench.now for n in range(3)]
    assert due == pytest.approx([0.0, 0.1, 0.1])
    assert bench.answer(delivery("l9", capability="core/b")).due == bench.now, "each on its own"
    bench.now += 0.1
    assert bench.answer(delivery("l4", "t4", capability="core/a")).due == pytest.approx(bench.now + 0.2)


def test_L2_unknown_capabilities_are_paced_together() -> None:
    bench = Bench()
    due = [bench.answer(delivery(f"l{n}", capability=f"other/{n}")).due - bench.now for n in range(2)]
    assert due == pytest.approx([0.0, 0.1])


# ---- L3: the same task again


def test_L3_1_an_id_that_is_queued_or_running_is_ignored() -> None:
    bench = Bench()
    bench.admit(delivery("l1", "t1"))
    bench.admit(delivery("l2", "t2"))
    assert bench.arrive(delivery("l1", "t1")) == (Arrival.IGNORE, None)
    assert bench.arrive(delivery("l2", "t2")) == (Arrival.IGNORE, None)
    bench.cancel("l1")
    assert bench.arrive(delivery("l1", "t1")) == (Arrival.IGNORE, None)
    assert ids(bench.started) == ["l1"]


def test_L3_1_the_same_id_of_another_broker_is_another_lease() -> None:
    bench = Bench(offer(concurrency=2))
    bench.admit(delivery("l1"), source=0)
    bench.admit(delivery("l1"), source=1)
    assert len(bench.started) == 2


def test_L3_2_an_id_that_was_settled_runs_nothing_and_its_result_is_sent_again() -> None:
    bench = Bench()
    bench.accept(bench.run(delivery("l1")))
    again = bench.answer(delivery("l1"))
    assert again.outcome == DONE
    assert bench.held() == ["l1"]
    assert bench.arrive(delivery("l1")) == (Arrival.IGNORE, None), "it is on its way"
    bench.accept(again)
    assert len(bench.started) == 1


def test_L3_2_where_the_result_is_not_kept_nothing_happens() -> None:
    bench = Bench(limits=Limits(remembered_results_bytes=1))
    bench.accept(bench.run(delivery("l1")))
    assert bench.arrive(delivery("l1")) == (Arrival.IGNORE, None)


def test_L3_2_what_was_given_back_or_cancelled_runs_no_more_under_its_id() -> None:
    bench = Bench()
    bench.ledger.slots.paused = True
    bench.admit(delivery("l1", "t1"))
    cancelled = bench.cancel("l1")
    assert cancelled is not None
    bench.accept(cancelled)
    bench.ledger.slots.paused = False
    again = bench.answer(delivery("l1", "t1"))
    assert isinstance(again.outcome, Cancelled)
    assert bench.started == []


def test_L3_2_what_was_given_back_and_comes_again_goes_back_at_a_walking_pace() -> None:
    bench = Bench()
    bench.accept(bench.answer(delivery("l1", capability="core/other")))
    assert bench.answer(delivery("l1", capability="core/other")).due == pytest.approx(bench.now + 0.1)


def test_L3_2_ten_minutes_later_it_is_a_new_lease() -> None:
    bench = Bench()
    bench.accept(bench.run(delivery("l1")))
    bench.now += 601
    bench.admit(delivery("l1"))
    assert len(bench.started) == 2


def test_L3_3_a_new_id_of_a_queued_task_takes_its_place() -> None:
    bench = Bench()
    bench.admit(delivery("l0", "t0"))
    bench.admit(delivery("l1", "t1", time_left=5.0))
    bench.admit(delivery("l2", "t2"))
    arrival, lease = bench.arrive(delivery("l3", "t1", time_left=50.0, input_schema=b"{}"))
    assert arrival is Arrival.REPLACED
    assert lease is not None
    bench.now += 10
    bench.finish(bench.started[0])
    assert ids(bench.started) == ["l0", "l3"], "its place in the line, and its own time"
    assert bench.arrive(delivery("l1", "t1")) == (Arrival.IGNORE, None)
    assert bench.held() == ["l0", "l3"]


def test_L3_3_a_newer_delivery_over_the_queues_bytes_goes_back() -> None:
    bench = Bench(limits=Limits(queue_bytes=10))
    bench.ledger.slots.paused = True
    bench.admit(delivery("l1", "t1"))
    lease = bench.answer(delivery("l2", "t1", input_schema=b"x" * 20))
    assert cause(lease) is GiveBack.OVERLOADED
    assert lease.delivery.id == "l2"
    assert bench.ledger.slots.queued == 0


@pytest.mark.parametrize(
    "other",
    [
        delivery("l2", "t2"),
        delivery("l2", workflow_id="w2"),
        delivery("l2", user="ann"),
        delivery("l2", text=b"[]"),
        delivery("l2", capability="core/other"),
    ],
    ids=["task id", "workflow id", "onBehalfOf", "input", "capability"],
)
def test_L3_3_a_task_that_differs_in_one_of_its_names_is_another(other: Delivery) -> None:
    bench = Bench(offer(concurrency=5), offer("core/other"))
    bench.ledger.slots.paused = True
    bench.admit(delivery("l1"))
    bench.admit(other)


def test_L3_3_attempt_metadata_time_and_schemas_make_no_other_task() -> None:
    bench = Bench()
    bench.ledger.slots.paused = True
    bench.admit(delivery("l1"))
    again = delivery("l2", attempt=3, time_left=1.0, output_schema=b"{}")
    assert bench.arrive(again)[0] is Arrival.REPLACED


def test_L3_4_a_new_id_of_a_running_task_is_adopted_without_a_second_run() -> None:
    bench = Bench(offer(concurrency=2))
    lease = bench.admit(delivery("l1", time_left=60.0))
    bench.now += 50
    assert bench.arrive(delivery("l2", time_left=60.0, output_schema=b"false")) == (Arrival.ADOPTED, lease)
    assert lease.delivery.output_schema == b"false", "the newest output schema judges"
    assert lease.time_left(bench.now) == 60.0
    assert bench.held() == ["l2"], "the newest id in heartbeats"
    bench.finish(lease)
    assert bench.held() == ["l2"], "and in the result"
    bench.accept(lease)
    assert bench.answer(delivery("l2")).outcome == DONE
    assert len(bench.started) == 1


def test_L3_4_a_run_that_is_adopted_again_and_again_takes_no_more_memory() -> None:
    bench = Bench(limits=Limits(remembered_leases=10))
    lease = bench.admit(delivery("l0"))
    for n in range(1, 50):
        assert bench.arrive(delivery(f"l{n}"))[0] is Arrival.ADOPTED
    assert bench.ledger.leases() == [lease]
    assert len(bench.ledger._by_id) == 1
    assert bench.arrive(delivery("l40")) == (Arrival.IGNORE, None)


def test_L3_4_a_run_that_this_side_stops_is_adopted_too() -> None:
    bench = Bench(offer(concurrency=2))
    lease = bench.admit(delivery("l1"))
    bench.ledger.stop(lease, CancelReason.LEASE_LOST)
    assert bench.arrive(delivery("l2"))[0] is Arrival.ADOPTED
    bench.finish(lease, GivenBack(cause=GiveBack.EXPIRED, reason="so"))
    assert bench.settled[-1].delivery.id == "l2"


def test_L3_4_a_run_that_the_gateway_called_off_is_not() -> None:
    bench = Bench(offer(concurrency=2))
    first = bench.admit(delivery("l1"))
    bench.cancel("l1")
    second = bench.admit(delivery("l2"))
    assert second is not first
    bench.finish(first, Cancelled())
    assert second.is_running
    assert sorted(bench.held()) == ["l1", "l2"]


def test_L3_4_a_run_is_adopted_even_by_a_neuron_that_takes_no_new_work() -> None:
    bench = Bench()
    lease = bench.admit(delivery("l1"))
    bench.ledger.close(bench.now)
    assert bench.arrive(delivery("l2")) == (Arrival.ADOPTED, lease)


ANSWERS: list[Outcome] = [DONE, TERMINAL, MISMATCH]
OTHERS: list[Outcome] = [RETRY, Cancelled(), Dropped(reason="so"), SHUTDOWN]


@pytest.mark.parametrize("outcome", ANSWERS)
def test_L3_5_a_result_that_nobody_has_taken_answers_without_a_run(outcome: Outcome) -> None:
    bench = Bench()
    lease = bench.run(delivery("l1"), outcome)
    bench.now += 5
    assert bench.answer(delivery("l2", text=b"{}")) is lease
    assert (lease.delivery.id, lease.outcome, lease.due) == ("l2", outcome, bench.now)
    assert bench.held() == ["l2"]
    bench.accept(lease)
    assert len(bench.started) == 1
    assert bench.arrive(delivery("l1")) == (Arrival.IGNORE, None), "the older id is over as well"


@pytest.mark.parametrize("outcome", ANSWERS)
def test_L3_5_a_result_whose_lease_is_gone_answers_without_a_run(outcome: Outcome) -> None:
    bench = Bench()
    lease = bench.run(delivery("l1"), outcome)
    bench.lose(lease)
    assert lease.state is State.KEPT
    assert bench.held() == []
    assert bench.answer(delivery("l2")) is lease
    assert (lease.state, bench.ledger.undelivered, bench.held()) == (State.UNDELIVERED, 1, ["l2"])
    bench.accept(lease)
    assert len(bench.started) == 1


@pytest.mark.parametrize("gone", [True, False])
@pytest.mark.parametrize("outcome", OTHERS)
def test_L3_5_a_retryable_or_cancelled_one_is_dropped_and_the_handler_runs(outcome: Outcome, gone: bool) -> None:
    bench = Bench()
    first = bench.run(delivery("l1"), outcome)
    if gone:
        bench.lose(first)
    second = bench.admit(delivery("l2"))
    assert second.is_running
    assert first.state is State.SETTLED
    assert bench.held() == ["l2"]


def test_L3_5_a_result_answers_even_from_a_neuron_that_takes_no_new_work() -> None:
    bench = Bench()
    lease = bench.run(delivery("l1"))
    bench.ledger.close(bench.now)
    assert bench.answer(delivery("l2")) is lease
    assert lease.outcome == DONE


# ---- L6 and L13 on arrival


def test_L6_a_lease_without_time_left_on_arrival_goes_back() -> None:
    bench = Bench()
    assert cause(bench.answer(delivery("l1", time_left=0.0))) is GiveBack.EXPIRED
    assert bench.started == []


def test_L6_a_system_without_expiry_has_no_such_thing() -> None:
    bench = Bench()
    bench.admit(delivery("l1", time_left=None))
    assert ids(bench.started) == ["l1"]


def test_L13_a_task_of_another_user_than_the_scopes_is_never_run() -> None:
    bench = Bench(offer(user="ann", concurrency=5))
    assert cause(bench.answer(delivery("l1", user="bob"))) is GiveBack.SCOPE_MISMATCH
    assert cause(bench.answer(delivery("l2", user=None))) is GiveBack.SCOPE_MISMATCH
    bench.admit(delivery("l3", user="ann"))
    assert ids(bench.started) == ["l3"]


def test_L13_a_capability_for_any_takes_every_users_tasks() -> None:
    bench = Bench(offer(concurrency=5))
    bench.admit(delivery("l1", user="ann"))
    bench.admit(delivery("l2", user=None))


# ---- C8: what could not be read


def test_C8_a_delivery_of_which_only_the_id_could_be_read_is_settled() -> None:
    bench = Bench()
    nameless = delivery("l1", "", workflow_id="", capability="", text=b"")
    malformed = bench.ledger.refuse(0, nameless, GivenBack(cause=GiveBack.MALFORMED, reason="so"), bench.now)
    bench.start()
    assert bench.ledger.is_held(0, "l1")
    bench.accept(malformed)
    assert bench.ledger.is_held(0, "l1")


def test_C8_refusals_are_not_each_others_tasks() -> None:
    bench = Bench()
    failure = Failed(kind=FailureKind.DELIVERY_TOO_LARGE, retryable=False, reason="so")
    for lease_id in ("l1", "l2"):
        nameless = delivery(lease_id, "", workflow_id="", capability="", text=b"")
        bench.lose(bench.ledger.refuse(0, nameless, failure, bench.now))
    assert bench.ledger.leases() == []
    assert not bench.ledger._kept, "nobody could ever ask for them"


# ---- fingerprints

PARTS = st.tuples(
    st.sampled_from([0, 1, 10]),
    *[st.text(max_size=3)] * 3,
    st.none() | st.text(max_size=3),
    st.binary(max_size=4),
)


def task(parts: tuple[int, str, str, str, str | None, bytes], attempt: int = 0) -> Task:
    _, task_id, workflow_id, capability, user, text = parts
    return Task(
        task_id=task_id,
        workflow_id=workflow_id,
        capability=capability,
        attempt=attempt,
        on_behalf_of=user,
        input=text,
    )


@given(PARTS, PARTS)
def test_L3_3_two_tasks_have_one_fingerprint_exactly_if_they_are_the_same(
    one: tuple[int, str, str, str, str | None, bytes], two: tuple[int, str, str, str, str | None, bytes]
) -> None:
    same = fingerprint(one[0], task(one)) == fingerprint(two[0], task(two, attempt=7))
    assert same == (one == two)


def test_L3_3_no_user_is_not_the_user_without_a_name() -> None:
    parts = (0, "t", "w", ECHO)
    assert fingerprint(0, task((*parts, None, b"1"))) != fingerprint(0, task((*parts, "", b"1")))
    assert fingerprint(0, task((*parts, None, b"\0"))) != fingerprint(0, task((*parts, "", b"\0")))


def test_completed_outputs_are_told_by_value() -> None:
    assert Completed((b"1",)) == Completed((b"1",)) != Completed((b"2",))
