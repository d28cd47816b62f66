"""What is remembered of leases that are over, and of cancels that came too early (promises L3.2 and L4.1)."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from neuron_anyio.config import Limits
from neuron_anyio.memory import CANCEL_FOR, SETTLED_FOR, Memory
from neuron_anyio.model import Cancelled, Completed, Failed, FailureKind, Outcome
from tests.pure.books import check_memory


def key(number: int | str) -> tuple[int, str]:
    return 0, str(number)


def completed(size: int) -> Completed:
    return Completed((b"x" * size,))


def failed(size: int) -> Failed:
    return Failed(kind=FailureKind.TERMINAL, retryable=False, reason="so", details=b"x" * size)


def test_L3_2_a_settled_lease_and_its_result_are_remembered() -> None:
    memory = Memory(Limits())
    memory.note_settled(key(1), completed(3), 0.0)
    assert memory.is_settled(key(1))
    assert memory.result(key(1)) == completed(3)
    assert not memory.is_settled((1, "1")), "another broker's lease of the same id is another lease"


def test_L3_2_a_lease_can_be_remembered_without_a_result() -> None:
    memory = Memory(Limits())
    memory.note_settled(key(1), None, 0.0)
    assert memory.is_settled(key(1))
    assert memory.result(key(1)) is None


def test_L3_2_ten_minutes_later_it_is_forgotten() -> None:
    memory = Memory(Limits())
    memory.note_settled(key(1), completed(3), 0.0)
    memory.forget_old(SETTLED_FOR)
    assert memory.is_settled(key(1))
    memory.forget_old(SETTLED_FOR + 1)
    assert not memory.is_settled(key(1))
    assert memory.result(key(1)) is None


def test_L3_2_bound_of_remembered_leases_over_it_the_oldest_is_forgotten() -> None:
    memory = Memory(Limits(remembered_leases=2))
    for number in range(3):
        memory.note_settled(key(number), completed(1), float(number))
    assert [memory.is_settled(key(number)) for number in range(3)] == [False, True, True]
    assert memory.result(key(0)) is None


def test_L3_2_bound_of_remembered_results_bytes_over_it_the_oldest_results_go_first() -> None:
    memory = Memory(Limits(remembered_results_bytes=10))
    memory.note_settled(key(1), completed(6), 0.0)
    memory.note_settled(key(2), failed(4), 0.0)
    assert memory.result(key(1)) == completed(6)
    memory.note_settled(key(3), completed(1), 0.0)
    assert memory.result(key(1)) is None
    assert memory.is_settled(key(1)), "that it is over is still known"
    assert memory.result(key(2)) == failed(4)
    assert memory.result(key(3)) == completed(1)


def test_L3_2_a_result_over_the_whole_bound_is_not_kept() -> None:
    memory = Memory(Limits(remembered_results_bytes=10))
    memory.note_settled(key(1), completed(11), 0.0)
    assert memory.is_settled(key(1))
    assert memory.result(key(1)) is None


def test_a_lease_that_settles_again_counts_once_and_is_the_newest() -> None:
    memory = Memory(Limits(remembered_leases=2, remembered_results_bytes=10))
    memory.note_settled(key(1), completed(9), 0.0)
    memory.note_settled(key(2), None, 1.0)
    memory.note_settled(key(1), completed(8), 2.0)
    memory.note_settled(key(3), completed(2), 3.0)
    assert memory.result(key(1)) == completed(8)
    assert not memory.is_settled(key(2))


def test_L4_1_a_cancel_is_remembered_until_its_lease_comes_once() -> None:
    memory = Memory(Limits())
    memory.note_cancel(key(1), 0.0)
    assert not memory.pop_cancel((1, "1"))
    assert memory.pop_cancel(key(1))
    assert not memory.pop_cancel(key(1))


def test_L4_1_a_minute_later_it_is_forgotten() -> None:
    memory = Memory(Limits())
    memory.note_cancel(key(1), 0.0)
    memory.note_cancel(key(2), 1.0)
    memory.forget_old(CANCEL_FOR + 0.5)
    assert not memory.pop_cancel(key(1))
    assert memory.pop_cancel(key(2))


def test_L4_1_a_repeated_cancel_is_as_young_as_its_repeat() -> None:
    memory = Memory(Limits())
    memory.note_cancel(key(1), 0.0)
    memory.note_cancel(key(2), 10.0)
    memory.note_cancel(key(1), 50.0)
    memory.forget_old(100.0)
    assert not memory.pop_cancel(key(2)), "it is the oldest now"
    assert memory.pop_cancel(key(1))


def test_L4_1_bound_of_remembered_cancels_over_it_the_oldest_goes_first() -> None:
    memory = Memory(Limits(remembered_cancels=2))
    for number in range(3):
        memory.note_cancel(key(number), 0.0)
    assert [memory.pop_cancel(key(number)) for number in range(3)] == [False, True, True]


OUTCOMES = st.one_of(
    st.none(), st.builds(completed, st.integers(0, 12)), st.builds(failed, st.integers(0, 12)), st.just(Cancelled())
)
CALLS = st.lists(st.tuples(st.sampled_from("scpf"), st.integers(0, 5), OUTCOMES, st.floats(0, 400)), max_size=60)


@given(CALLS)
def test_no_bound_is_ever_passed(calls: list[tuple[str, int, Outcome | None, float]]) -> None:
    limits = Limits(remembered_leases=3, remembered_cancels=2, remembered_results_bytes=15)
    memory, now = Memory(limits), 0.0
    for what, number, outcome, gap in calls:
        now += gap
        if what == "s":
            memory.note_settled(key(number), outcome, now)
            assert memory.is_settled(key(number))
        elif what == "c":
            memory.note_cancel(key(number), now)
        elif what == "p":
            memory.pop_cancel(key(number))
        else:
            memory.forget_old(now)
        check_memory(memory, limits)
