"""What the benchmark makes of the figures of its runs."""

from __future__ import annotations

import re
from collections.abc import Mapping

import pytest

from benchmarks.cases import Case, Target
from benchmarks.processes import RunFailed
from benchmarks.report import Summary, busy, notes, summaries, table
from benchmarks.runner import play


def runs(**values: list[float]) -> dict[str, list[dict[str, float]]]:
    return {subject: [{"cpu_us": value} for value in several] for subject, several in values.items()}


def only(found: list[Summary], subject: str) -> Summary:
    (one,) = [each for each in found if each.subject == subject]
    return one


def test_a_figure_is_its_median_its_spread_and_a_multiple_of_the_floor_s_median() -> None:
    found = summaries(runs(floor=[10.0, 30.0, 20.0], asyncio=[32.0, 28.0, 99.0]), ())
    one = only(found, "asyncio")
    assert (one.figure, one.median, one.low, one.high, one.runs) == ("cpu_us", 32.0, 28.0, 99.0, 3)
    assert one.of_floor == pytest.approx(1.6)
    assert only(found, "floor").of_floor == 1


def test_without_the_floor_there_is_no_multiple() -> None:
    assert only(summaries(runs(asyncio=[1.0]), ()), "asyncio").of_floor is None
    assert only(summaries(runs(floor=[0.0], asyncio=[1.0]), ()), "asyncio").of_floor is None


@pytest.mark.parametrize(("value", "reached"), [(16.0, True), (16.1, False)])
def test_a_target_may_be_a_multiple_of_another_s_median(value: float, reached: bool) -> None:
    target = Target(figure="cpu_us", at_most=1.6, of="floor", subjects=("asyncio",))
    (verdict,) = only(summaries(runs(floor=[10.0], asyncio=[value]), (target,)), "asyncio").verdicts
    assert (verdict.target, verdict.reached) == ("<= 1.6 x floor", reached)


@pytest.mark.parametrize(("value", "reached"), [(150.0, True), (150.5, False)])
def test_a_target_may_be_a_number(value: float, reached: bool) -> None:
    (verdict,) = only(summaries(runs(trio=[value]), (Target(figure="cpu_us", at_most=150.0),)), "trio").verdicts
    assert (verdict.target, verdict.reached) == ("<= 150", reached)


def test_a_target_beside_somebody_who_was_not_measured_is_open() -> None:
    target = Target(figure="cpu_us", at_most=0.04, of="published")
    (verdict,) = only(summaries(runs(asyncio=[1.0]), (target,)), "asyncio").verdicts
    assert (verdict.target, verdict.reached) == ("<= 0.04 x published", None)


def test_a_target_is_asked_of_its_subjects_and_its_figure_alone() -> None:
    targets = (Target(figure="cpu_us", at_most=1.0, subjects=("trio",)), Target(figure="kib", at_most=1.0))
    found = summaries(runs(asyncio=[5.0], trio=[5.0]), targets)
    assert [(each.subject, len(each.verdicts)) for each in found] == [("asyncio", 0), ("trio", 1)]


def test_figures_stand_together_and_the_gateway_s_own_are_left_out() -> None:
    one = {"kib": 1.0, "cpu_s": 2.0, "gateway_busy": 0.5, "gateway_cpu_us": 3.0}
    found = summaries({"floor": [one], "trio": [one]}, ())
    expected = [("floor", "kib"), ("trio", "kib"), ("floor", "cpu_s"), ("trio", "cpu_s")]
    assert [(each.subject, each.figure) for each in found] == expected


def test_a_subject_may_lack_a_figure_that_others_have() -> None:
    found = summaries({"published": [{"cpu_s": 1.0}], "trio": [{"kib": 2.0, "cpu_s": 3.0}], "asyncio": []}, ())
    assert {(each.subject, each.figure) for each in found} == {
        ("published", "cpu_s"),
        ("trio", "cpu_s"),
        ("trio", "kib"),
    }


def test_the_gateway_s_share_is_the_highest_of_the_runs() -> None:
    several: list[dict[str, float]] = [{"gateway_busy": 0.2}, {"gateway_busy": 0.75}]
    assert busy({"floor": several, "trio": [{"cpu_us": 1.0}]}) == {"floor": 0.75}


def test_the_table_has_a_line_for_each_figure_of_each_subject() -> None:
    targets = (
        Target(figure="cpu_us", at_most=1.6, of="floor", subjects=("asyncio",)),
        Target(figure="cpu_us", at_most=0.04, of="published", subjects=("asyncio",)),
        Target(figure="cpu_us", at_most=1.0, of="floor", subjects=("trio",)),
    )
    found = summaries(runs(floor=[1000.0, 2000.0], asyncio=[12.5], trio=[1600.25]), targets)
    title, head, *lines = table("leases, window 1", found, {"floor": 0.25}).splitlines()
    assert title == "leases, window 1"
    assert [re.sub(" +", " ", line.strip()) for line in (head, *lines)] == [
        "subject figure median min - max runs x floor gateway busy target reached",
        "floor cpu_us 1,500 1,000 - 2,000 2 1.00 25% - -",
        "asyncio cpu_us 12.5 12.5 - 12.5 1 0.01 - <= 1.6 x floor; <= 0.04 x published yes; not measured",
        "trio cpu_us 1,600 1,600 - 1,600 1 1.07 - <= 1 x floor NO",
    ]


def test_a_table_without_runs_is_its_head() -> None:
    assert len(table("row", [], {}).splitlines()) == 2


def test_a_busy_gateway_and_failed_runs_are_noted() -> None:
    assert notes({"floor": 0.7, "trio": 0.71}, ["asyncio: ended with 1"]) == [
        "failed: asyncio: ended with 1",
        "the gateway was busy for 71% of the time: trio may have waited for it",
    ]


def case(order: list[str], row: str, rounds: int = 1) -> Case:
    def measure(subject: str) -> Mapping[str, float]:
        order.append(f"{row} {subject}")
        if subject == "trio":
            failure = RunFailed("ended with 1")
            failure.add_note("Traceback\nKeyError: 'x'\n")
            failure.add_note("")
            raise failure
        return {"cpu_us": 1.0}

    return Case(row=row, subjects=("published", "floor", "trio"), measure=measure, slow={"published": 1}, rounds=rounds)


def test_subjects_take_turns_and_slow_ones_have_fewer() -> None:
    order: list[str] = []
    told: list[str] = []
    a, b = play([case(order, "a", rounds=2), case(order, "b", rounds=1)], tell=told.append)
    first = ["a published", "a floor", "a trio", "b published", "b floor", "b trio"]
    assert order == [*first, "a floor", "a trio"]
    assert told[0] == "round 1: a, published"
    assert {subject: len(several) for subject, several in a.runs.items()} == {"published": 1, "floor": 2}
    assert a.failures == ["trio: ended with 1; KeyError: 'x'"] * 2
    assert len(b.failures) == 1


def test_rounds_and_subjects_can_be_chosen() -> None:
    order: list[str] = []
    play([case(order, "a", rounds=5)], rounds=2, without=("published", "trio"))
    assert order == ["a floor"] * 2
    assert play([]) == []
