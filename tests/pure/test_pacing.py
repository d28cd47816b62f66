"""Give-backs at a walking pace (promise L2)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuron_anyio.pacing import FIRST, LONGEST, Pacer


def test_L2_the_first_give_back_goes_at_once() -> None:
    assert Pacer().due(7.0) == 7.0


def test_L2_a_gateway_that_redelivers_at_once_meets_doubling_pauses_up_to_five_seconds() -> None:
    pacer = Pacer()
    now = pacer.due(0.0)
    pauses: list[float] = []
    for _ in range(9):
        due = pacer.due(now)
        pauses.append(round(due - now, 6))
        now = due
    assert pauses == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0, 5.0]


def test_L2_what_comes_in_a_pause_goes_together_at_its_end() -> None:
    pacer = Pacer()
    pacer.due(0.0)
    assert {pacer.due(moment) for moment in (0.01, 0.02, 0.0999)} == {0.1}


def test_L2_a_pause_in_which_nothing_is_given_back_ends_the_series() -> None:
    pacer = Pacer()
    pacer.due(0.0)
    assert pacer.due(FIRST) == FIRST, "the pause is over and was empty"
    assert pacer.due(FIRST) == pytest.approx(2 * FIRST), "and this one opened another of the first length"


def test_L2_after_a_long_silence_it_starts_anew() -> None:
    pacer = Pacer()
    for moment in (0.0, 0.0, 0.1, 0.3, 0.7):
        pacer.due(moment)
    assert pacer.due(100.0) == 100.0
    assert pacer.due(100.0 + FIRST) == 100.0 + FIRST, "nothing came in the pause"
    assert pacer.due(100.0 + FIRST) == pytest.approx(100.0 + 2 * FIRST)


@given(st.lists(st.floats(0.0, 12.0), max_size=60))
def test_L2_nothing_is_due_before_it_was_decided_nor_later_than_the_longest_pause(gaps: list[float]) -> None:
    pacer, now, last = Pacer(), 0.0, float("-inf")
    for gap in gaps:
        now += gap
        due = pacer.due(now)
        assert now <= due <= now + LONGEST
        assert due >= last, "what was decided later never goes out earlier"
        last = due


@given(st.integers(1, 400))
def test_L2_the_number_of_rounds_in_a_minute_is_bounded_whatever_the_number_of_leases(leases: int) -> None:
    pacer = Pacer()
    rounds = {0.0}
    now = 0.0
    while now < 60.0:
        now = max(now, *(pacer.due(now) for _ in range(leases))) if leases > 1 else pacer.due(now)
        rounds.add(now)
    assert len(rounds) <= 7 + 60 / LONGEST + 2
