"""Counting failures in a row (promise C5)."""

from __future__ import annotations

from neuron_anyio import Backoff
from neuron_anyio.retries import Retries

BACKOFF = Backoff(initial=1.0, maximum=4.0)


def test_C5_waits_stay_under_a_ceiling_that_doubles_up_to_the_maximum() -> None:
    ceilings = [1.0, 2.0, 4.0, 4.0, 4.0]
    seen = [0.0] * len(ceilings)
    for _ in range(200):
        retries = Retries(BACKOFF)
        for number, ceiling in enumerate(ceilings):
            delay = retries.fail()
            assert 0 <= delay <= ceiling
            assert retries.last_ceiling == ceiling
            seen[number] = max(seen[number], delay / ceiling)
    assert min(seen) > 0.5, "the jitter is full: it comes near the ceiling, too"


def test_C5_what_the_other_side_asks_for_is_waited_for() -> None:
    assert Retries(BACKOFF).fail(retry_after=17.0) == 17.0


def test_C5_a_success_begins_anew() -> None:
    retries = Retries(BACKOFF)
    for _ in range(5):
        retries.fail()
    retries.reset()
    assert retries.failures == 0
    retries.fail()
    assert retries.last_ceiling == BACKOFF.initial


def test_C5_attempts_one_three_and_every_tenth_are_told() -> None:
    retries = Retries(BACKOFF)
    told: list[int] = []
    for number in range(1, 31):
        retries.fail()
        if retries.is_telling:
            told.append(number)
    assert told == [1, 3, 10, 20, 30]
