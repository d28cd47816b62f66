"""The tables of the documentation's page on performance, from a saved report."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from .cases import LEANER, PACKAGE
from .report import Report, Row, Summary, busy, notes
from .rows.choices import CHOICES, PLAIN

__all__ = ["blocks", "check_markers", "renewed"]

COLUMNS = {"published": "published SDK", "floor": "floor", LEANER: "leaner floor"} | {name: name for name in PACKAGE}
"""Subjects, and what they are called on the page."""

CHOSEN = "choices"
"""The module whose subjects are choices; it has a table of its own."""

BLOCKS = ("results", CHOSEN)
"""What stands between markers on the page, by their names."""

WORDS = {
    ("leases", "cpu_us"): "CPU of a lease, us",
    ("cancels", "nacked_ms"): "cancel to `cancelled` nack, p50, ms",
    ("cancels", "all_nacked_ms"): "all at once, ms",
    ("frames", "cpu_s"): "CPU, s",
    ("frames", "large_cpu_s"): "CPU of the large one, s",
    ("frames", "growth_times"): "large : small, CPU",
    ("queue", "kib"): "memory of a lease, KiB",
    ("queue", "cpu_us"): "CPU of a lease, us",
    ("progress", "posts"): "POSTs",
    ("progress", "out_of_order"): "out of order",
    ("progress", "last_missing"): "last one not before the ack",
    ("progress", "p99_ms"): "another lease, p99, ms",
    ("idle", "kib"): "memory of a neuron, KiB",
    ("idle", "cpu_s"): "CPU, s",
    ("start", "cpu_ms"): "CPU to the first `register`, ms",
}
"""What figures are called on the page; one without a name stands there as it is."""

UNITS = ("us", "ms", "s", "kib")
"""Of figures that have multiples. A count has none: the published SDK has fewer to do, as the rows say."""


def blocks(report: Report) -> dict[str, str]:
    """Return what stands between the page's markers, by their names."""
    return dict(zip(BLOCKS, (_results(report), _choices(report)), strict=True))


def check_markers(page: str) -> None:
    """Refuse a page that has no place for a block.

    Raises:
        ValueError: the page lacks a marker.
    """
    for begin, end in map(_markers, BLOCKS):
        _, has_begin, rest = page.partition(begin)
        if not (has_begin and end in rest):
            raise ValueError(f"the page needs a line {begin!r} and, below it, one {end!r}")


def renewed(page: str, report: Report) -> str:
    """Return the page with its marked blocks made anew.

    Raises:
        ValueError: the page lacks a marker.
    """
    check_markers(page)
    for name, block in blocks(report).items():
        begin, end = _markers(name)
        before, _, rest = page.partition(begin)
        page = f"{before}{begin}\n\n{block}\n\n{end}{rest.partition(end)[2]}"
    return page


def _markers(name: str) -> tuple[str, str]:
    return f"<!-- {name} -->", f"<!-- end of {name} -->"


def _results(report: Report) -> str:
    """Return the rows that have targets, a line for each figure that one is for."""
    rows = [row for row in report.rows if row.module != CHOSEN]
    measured = {each.subject for row in rows for each in row.summaries}
    columns = [name for name in COLUMNS if name != LEANER or name in measured]
    head = ["row", "figure", *(COLUMNS[name] for name in columns), "asked, and whether reached"]
    found = _table(head, (line for row in rows for line in _lines(row, columns)))
    modules = dict.fromkeys(row.module for row in rows)
    return "\n\n".join([*_about(report, rows), found, _gateways(modules, rows), *_warnings(rows)])


def _about(report: Report, rows: Iterable[Row]) -> list[str]:
    machine = [report.machine, f"{report.cpus} CPUs"]
    if report.load is not None:
        machine.append(f"load {report.load:.1f} when it began")
    published = "not measured" if report.published is None else report.published
    ours = sorted({each.runs for row in rows for each in row.summaries if each.subject != "published"})
    theirs = sorted({each.runs for row in rows for each in row.summaries if each.subject == "published"})
    runs = f"runs of each subject: {_range(ours)}" + (f", of the published SDK {_range(theirs)}" if theirs else "")
    libraries = ", ".join(f"{name} {version}" for name, version in report.versions.items())
    floor = f"{report.floor or 'unknown'} streams"
    said = f"{report.python}; {libraries}; published SDK: {published}; floor: {floor}; {runs}."
    about = [f"{report.at:%d %B %Y}; {', '.join(machine)}; {said}"]
    if report.quick:
        about.append("**A quick run: sizes are smaller than those that are asked for.**")
    return about


def _range(numbers: list[int]) -> str:
    return f"{numbers[0]}" if len(numbers) == 1 else f"{numbers[0]} to {numbers[-1]}" if numbers else "0"


def _lines(row: Row, columns: Sequence[str]) -> Iterable[list[str]]:
    """Yield the lines of a row; what is measured over TLS has lines of its own beside the plain floor."""
    for suffix, said in (("", ""), ("-tls", ", over TLS")):
        own = [each for each in row.summaries if each.subject in {f"{name}{suffix}" for name in PACKAGE}]
        for figure in dict.fromkeys(each.figure for each in own if each.verdicts):
            found = {each.subject.removesuffix(suffix): each for each in own if each.figure == figure}
            beside = {each.subject: each for each in row.summaries if each.figure == figure and suffix == ""}
            floors = {
                each.subject: each
                for each in row.summaries
                if each.subject in ("floor", LEANER) and each.figure == figure
            }
            shown = floors | beside | found
            cells = [_cell(shown.get(name), floors.get(LEANER) if name in PACKAGE else None) for name in columns]
            words = WORDS.get((row.module, figure), f"`{figure}`")
            yield [f"{row.row}{said}", words, *cells, _asked(found)]


def _cell(found: Summary | None, leaner: Summary | None = None) -> str:
    if found is None:
        return "-"
    times = found.of_floor if found.subject != "floor" and found.figure.rpartition("_")[2] in UNITS else None
    multiples = [] if times is None else [f"{_times(times)} x"]
    if leaner is not None and leaner.median:
        multiples.append(f"{_times(found.median / leaner.median)} x leaner")
    multiple = f" ({', '.join(multiples)})" if multiples else ""
    spread = "" if found.low == found.high else f"<br><small>{_short(found.low)} - {_short(found.high)}</small>"
    return f"{_short(found.median)}{multiple}{spread}"


def _asked(found: Mapping[str, Summary]) -> str:
    """Return each target with those that it is asked of."""
    targets: dict[str, dict[str, bool | None]] = {}
    for subject, each in found.items():
        for verdict in each.verdicts:
            targets.setdefault(verdict.target.replace("<=", "at most"), {})[subject] = verdict.reached
    return "<br>".join(f"{target}: {_reached(by_subject)}" for target, by_subject in targets.items())


def _reached(by_subject: Mapping[str, bool | None]) -> str:
    words = {None: "not measured", True: "yes", False: "**no**"}
    said = {subject: words[reached] for subject, reached in by_subject.items()}
    if len(said) == len(PACKAGE) and len(set(said.values())) == 1:
        return next(iter(said.values()))
    return ", ".join(f"{subject} {word}" for subject, word in said.items())


def _gateways(modules: Iterable[str], rows: Iterable[Row]) -> str:
    """Return how much of a CPU the gateways took at most, by module."""
    rows = list(rows)
    shares = {
        name: max((share for row in rows if row.module == name for share in busy(row.runs).values()), default=None)
        for name in modules
    }
    said = ", ".join(f"{name} {share:.0%}" for name, share in shares.items() if share is not None)
    return f"The gateway's share of a CPU, the highest of all runs: {said or 'not measured'}."


def _warnings(rows: Iterable[Row]) -> list[str]:
    said = [f"- {row.row}: {note}" for row in rows for note in notes(busy(row.runs), row.failures)]
    return ["\n".join(said)] if said else []


def _choices(report: Report) -> str:
    """Return what each choice costs, as multiples of the plain path."""
    rows = [row for row in report.rows if row.module == CHOSEN]
    lines: list[list[str]] = []
    for row in rows:
        plain = next((each.median for each in row.summaries if each.subject == PLAIN), None)
        lines += [
            [
                CHOICES.get(each.subject, each.subject),
                _cell(msgspec.structs.replace(each, of_floor=None)),
                f"{each.median / plain:.2f} x",
            ]
            for each in row.summaries
            if plain and each.subject != "floor"
        ]
    if not lines:
        return "Not measured."
    return "\n\n".join([_table(["choice", "CPU of a lease, us", "of the plain path"], lines), *_warnings(rows)])


def _table(head: list[str], lines: Iterable[list[str]]) -> str:
    rule = ["---"] * len(head)
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, rule, *lines))


def _times(value: float) -> str:
    return f"{value:.0f}" if value >= 10 else f"{value:.2f}"


def _short(value: float) -> str:
    """Return three digits, or all of those before the point."""
    if value >= 100 or value == int(value):
        return f"{value:,.0f}"
    return f"{value:#.3g}"
