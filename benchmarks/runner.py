"""Runs rows: within a round subjects take turns, so that what else the machine does falls on all of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from .cases import Case
from .processes import RunFailed

__all__ = ["Result", "play"]


class Result(msgspec.Struct, frozen=True):
    """What became of one row.

    Attributes:
        case: the row.
        runs: by subject, the figures of each run.
        failures: runs that failed, in words.
    """

    case: Case
    runs: dict[str, list[dict[str, float]]]
    failures: list[str]


def play(
    cases: Sequence[Case],
    *,
    rounds: int | None = None,
    without: Sequence[str] = (),
    tell: Callable[[str], object] = lambda _: None,
) -> list[Result]:
    """Measure every subject of every row.

    Args:
        cases: the rows.
        rounds: how often, instead of what the rows say.
        without: subjects that are left out.
        tell: is told what is measured next.
    """
    results = [Result(case, {}, []) for case in cases]
    for turn in range(max((rounds or case.rounds for case in cases), default=0)):
        for result in results:
            for subject in result.case.subjects:
                if subject not in without and turn < _turns(result.case, subject, rounds):
                    tell(f"round {turn + 1}: {result.case.row}, {subject}")
                    _measure(result, subject)
    return results


def _turns(case: Case, subject: str, rounds: int | None) -> int:
    wanted = rounds or case.rounds
    return min(wanted, case.slow.get(subject, wanted))


def _measure(result: Result, subject: str) -> None:
    try:
        figures = dict(result.case.measure(subject))
    except RunFailed as exc:
        said = [note.strip().splitlines()[-1] for note in getattr(exc, "__notes__", ()) if note.strip()]
        result.failures.append("; ".join([f"{subject}: {exc}", *said]))
    else:
        result.runs.setdefault(subject, []).append(figures)
