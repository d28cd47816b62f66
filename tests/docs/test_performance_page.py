"""The tables of the page on performance are what the report makes of the figures beside it."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import msgspec
import pytest

from benchmarks.__main__ import ROWS
from benchmarks.counts import table
from benchmarks.page import renewed
from benchmarks.report import Report, summaries
from benchmarks.rows.choices import CHOICES
from tests.docs.pages import DOCS, ROOT, blocks_of, rows_of, section_of

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the benchmark runs on POSIX systems")

PAGE = DOCS / "performance.md"
COMMAND = "python -m benchmarks --from docs/performance.json --markdown docs/performance.md"


@pytest.fixture(scope="module")
def report() -> Report:
    return msgspec.json.decode((DOCS / "performance.json").read_bytes(), type=Report)


def test_the_tables_are_what_the_figures_make(report: Report) -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert renewed(text, report) == text, f"renew the page: {COMMAND}"
    assert COMMAND in text


def test_the_figures_are_of_every_row_in_full_size(report: Report) -> None:
    assert {row.module for row in report.rows} == set(ROWS)
    assert not report.quick
    assert report.published is not None
    for row in report.rows:
        assert row.failures == []
        found = {(each.subject, each.figure): each for each in summaries(row.runs, ())}
        for each in row.summaries:
            assert each.median == pytest.approx(found[each.subject, each.figure].median)


def test_every_choice_is_measured() -> None:
    measured = [row[0] for row in rows_of(section_of(PAGE, "What leaving the plain path costs"))]
    assert measured == list(CHOICES.values())


def test_every_row_is_described() -> None:
    described = re.findall(r"^- \*\*(\w+)\*\*:", section_of(PAGE, "Results"), re.MULTILINE)
    assert described == [name for name in ROWS if name != "choices"]


def test_counts_are_shown_as_they_are_printed() -> None:
    (block,) = [block for block in blocks_of(PAGE) if block.section == "Instruction counts"]
    *lines, told = block.text.splitlines()
    cells = [re.split(r"  +", line) for line in lines[1:]]
    now, before = ({name: int(cell[column]) for name, *cell in cells} for column in (0, 1))
    assert "\n".join(lines) == table(now, before)
    grown = [name for name, count in now.items() if count > before[name] * 1.1]
    assert told == f"more than 10% above what was kept: {', '.join(grown)}"


def test_the_files_and_sessions_that_are_named_are_there() -> None:
    text = PAGE.read_text(encoding="utf-8")
    sessions = set(re.findall(r"nox -s (\w+)", text))
    assert sessions == {"bench", "counts"}
    program = Path(ROOT, "noxfile.py").read_text(encoding="utf-8")
    for session in sessions:
        assert f"\ndef {session}(session" in program
