"""What the runs of a row come to, beside what is asked; as text and for JSON."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from statistics import median

import msgspec

from .cases import Target

__all__ = ["BUSY_ENOUGH", "GATEWAY", "Report", "Row", "Summary", "Verdict", "busy", "notes", "summaries", "table"]

GATEWAY = "gateway_"
"""How the names of figures begin that are the gateway's own: they have no lines in the table."""

BUSY_ENOUGH = 0.7
"""The share of a CPU above which the gateway may have been what a subject waited for."""

Runs = Mapping[str, Sequence[Mapping[str, float]]]
"""By subject: the figures of each run."""


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """A target, and whether it was reached: None where the subject that it compares with was not measured."""

    target: str
    reached: bool | None


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """One figure of one subject.

    Attributes:
        subject: who.
        figure: what, with its unit.
        median: of the runs.
        low: the lowest of them.
        high: the highest.
        runs: how many there were.
        of_floor: the median as a multiple of the floor's, where that was measured.
        verdicts: of the targets that are asked of this subject.
    """

    subject: str
    figure: str
    median: float
    low: float
    high: float
    runs: int
    of_floor: float | None
    verdicts: tuple[Verdict, ...]


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One row as it is saved.

    Attributes:
        module: of `benchmarks.rows`.
        row: its name.
        summaries: of its figures.
        runs: by subject, the figures of each run.
        failures: runs that failed, in words.
    """

    module: str
    row: str
    summaries: list[Summary]
    runs: dict[str, list[dict[str, float]]]
    failures: list[str]


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What one run of the benchmark came to, and where.

    Attributes:
        at: when it began.
        machine: system and architecture.
        cpus: how many.
        load: the machine's load average over a minute when it began, where there is one.
        python: of this package, the floor and the gateways.
        versions: of the libraries, by name.
        published: versions of the published SDK and its Python; None where it was left out.
        floor: whose streams the floor's connections are; None where that was not noted.
        quick: whether sizes were smaller than those that the targets are meant for.
        rows: what was measured.
    """

    at: datetime
    machine: str
    cpus: int | None
    load: float | None = None
    python: str
    versions: dict[str, str]
    published: str | None
    floor: str | None = None
    quick: bool
    rows: list[Row]


def summaries(runs: Runs, targets: Sequence[Target]) -> list[Summary]:
    """Sum the runs of one row up, figure by figure."""
    medians = {
        (subject, figure): median(run[figure] for run in several)
        for subject, several in runs.items()
        if several
        for figure in several[0]
        if not figure.startswith(GATEWAY)
    }
    figures = dict.fromkeys(figure for _, figure in medians)
    found: list[Summary] = []
    for subject, figure in sorted(medians, key=lambda key: list(figures).index(key[1])):  # stable: subjects keep order
        values = [run[figure] for run in runs[subject]]
        middle, floor = medians[subject, figure], medians.get(("floor", figure))
        asked = [target for target in targets if target.figure == figure and subject in target.subjects]
        found.append(
            Summary(
                subject=subject,
                figure=figure,
                median=middle,
                low=min(values),
                high=max(values),
                runs=len(values),
                of_floor=middle / floor if floor else None,
                verdicts=tuple(_verdict(target, middle, medians) for target in asked),
            )
        )
    return found


def _verdict(target: Target, value: float, medians: Mapping[tuple[str, str], float]) -> Verdict:
    if target.of is None:
        return Verdict(target=f"<= {_number(target.at_most)}", reached=value <= target.at_most)
    base = medians.get((target.of, target.figure))
    reached = None if base is None else value <= target.at_most * base
    return Verdict(target=f"<= {_number(target.at_most)} x {target.of}", reached=reached)


def busy(runs: Runs) -> dict[str, float]:
    """Return the gateway's highest share of a CPU by subject, where it was measured."""
    shares = {subject: [run.get("gateway_busy") for run in several] for subject, several in runs.items()}
    known = {subject: [share for share in several if share is not None] for subject, several in shares.items()}
    return {subject: max(several) for subject, several in known.items() if several}


def table(row: str, found: Sequence[Summary], shares: Mapping[str, float]) -> str:
    """Return one row as text, a line for each figure of each subject."""
    head = ("subject", "figure", "median", "min - max", "runs", "x floor", "gateway busy", "target", "reached")
    lines = [head, *(_cells(each, shares) for each in found)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join([row, *(f"  {'  '.join(map(str.ljust, line, widths))}".rstrip() for line in lines)])


def _cells(each: Summary, shares: Mapping[str, float]) -> tuple[str, ...]:
    share = shares.get(each.subject)
    return (
        each.subject,
        each.figure,
        _number(each.median),
        f"{_number(each.low)} - {_number(each.high)}",
        str(each.runs),
        "-" if each.of_floor is None else f"{each.of_floor:.2f}",
        "-" if share is None else f"{share:.0%}",
        "; ".join(verdict.target for verdict in each.verdicts) or "-",
        "; ".join(_word(verdict.reached) for verdict in each.verdicts) or "-",
    )


def _word(reached: bool | None) -> str:
    return "not measured" if reached is None else "yes" if reached else "NO"


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def notes(shares: Mapping[str, float], failures: Iterable[str]) -> list[str]:
    """Return what a reader of a row must know: runs that failed, and gateways that had no more to give."""
    crowded = [
        f"the gateway was busy for {share:.0%} of the time: {subject} may have waited for it"
        for subject, share in shares.items()
        if share > BUSY_ENOUGH
    ]
    return [*(f"failed: {failure}" for failure in failures), *crowded]
