"""What the benchmark makes of a report for the documentation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

import pytest

from benchmarks.cases import PACKAGE, Target
from benchmarks.page import blocks, renewed
from benchmarks.report import Report, Row, summaries
from benchmarks.rows.choices import CHOICES

Runs = Mapping[str, Sequence[Mapping[str, float]]]


def row(module: str, runs: Runs, *targets: Target, failures: Sequence[str] = ()) -> Row:
    kept = {subject: [dict(run) for run in several] for subject, several in runs.items()}
    return Row(module=module, row=module, summaries=summaries(runs, targets), runs=kept, failures=list(failures))


def report(*rows: Row, published: str | None = "0.2.0 on Python 3.11.7", quick: bool = False) -> Report:
    return Report(
        at=datetime(2026, 3, 2, tzinfo=UTC),
        machine="Linux 6.1 x86_64",
        cpus=2,
        load=0.25,
        python="CPython 3.11.7",
        versions={"anyio": "4.0"},
        published=published,
        floor="anyio",
        quick=quick,
        rows=list(rows),
    )


def cpu(*values: float) -> list[dict[str, float]]:
    return [{"cpu_us": value} for value in values]


def lines(text: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("|")][2:]


def test_a_line_has_every_subject_with_median_multiple_and_spread() -> None:
    runs = {
        "published": cpu(4000.0),
        "floor": cpu(30.0, 50.0, 40.0),
        "asyncio": cpu(100.0, 120.5, 90.0),
        "uvloop": cpu(60),
    }
    (line,) = lines(blocks(report(row("leases", runs, Target(figure="cpu_us", at_most=2.0, of="floor"))))["results"])
    assert line == [
        "leases",
        "CPU of a lease, us",
        "4,000 (100 x)",
        "40<br><small>30 - 50</small>",
        "100 (2.50 x)<br><small>90 - 120</small>",
        "60 (1.50 x)",
        "-",
        "at most 2 x floor: asyncio **no**, uvloop yes",
    ]


def test_a_leaner_floor_has_a_column_and_multiples_where_it_was_measured() -> None:
    targets = [
        Target(figure="cpu_us", at_most=2.0, of="floor", subjects=(name,)) for name in ("asyncio", "asyncio-tls")
    ]
    runs = {"floor": cpu(4.0), "leaner": cpu(2.0), "asyncio": cpu(6.0), "asyncio-tls": cpu(8.0)}
    other = {"floor": cpu(4.0), "asyncio": cpu(6.0)}
    found = blocks(report(row("leases", runs, *targets), row("queue", other, targets[0])))["results"]
    assert "| published SDK | floor | leaner floor | asyncio |" in found
    plain, tls, queue = lines(found)
    assert plain[2:6] == ["-", "4", "2 (0.50 x)", "6 (1.50 x, 3.00 x leaner)"]
    assert tls[2:6] == ["-", "4", "2 (0.50 x)", "8 (2.00 x, 4.00 x leaner)"]
    assert queue[2:6] == ["-", "4", "-", "6 (1.50 x)"]


def test_tls_has_a_line_of_its_own_beside_the_plain_floor() -> None:
    runs = {"published": cpu(9.0), "floor": cpu(2.0), "asyncio": cpu(3.0), "asyncio-tls": cpu(5.0)}
    targets = [
        Target(figure="cpu_us", at_most=2.0, of="floor", subjects=(name,)) for name in ("asyncio", "asyncio-tls")
    ]
    plain, tls = lines(blocks(report(row("leases", runs, *targets)))["results"])
    assert plain[2:5] == ["9 (4.50 x)", "2", "3 (1.50 x)"]
    assert tls[0] == "leases, over TLS"
    assert tls[2:5] == ["-", "2", "5 (2.50 x)"]
    assert tls[-1] == "at most 2 x floor: asyncio **no**"


@pytest.mark.parametrize(("value", "word"), [(1.0, "yes"), (3.0, "**no**")])
def test_what_is_so_for_all_is_said_once(value: float, word: str) -> None:
    runs = {"floor": cpu(1.0), **{name: cpu(value) for name in PACKAGE}}
    (line,) = lines(blocks(report(row("leases", runs, Target(figure="cpu_us", at_most=2.0, of="floor"))))["results"])
    assert line[-1] == f"at most 2 x floor: {word}"


def test_a_figure_without_a_target_has_no_line_and_one_without_a_name_is_itself() -> None:
    runs: Runs = {name: [{"cpu_us": 1.0, "new_ms": 0.5}] for name in ("floor", *PACKAGE)}
    (line,) = lines(blocks(report(row("leases", runs, Target(figure="new_ms", at_most=1.0))))["results"])
    assert line[1:4] == ["`new_ms`", "-", "0.500"]


def test_counts_have_no_multiples() -> None:
    runs: Runs = {name: [{"posts": posts}] for name, posts in (("floor", 10_000.0), ("asyncio", 3.0))}
    (line,) = lines(blocks(report(row("progress", runs, Target(figure="posts", at_most=99))))["results"])
    assert line[3:5] == ["10,000", "3"]


def test_where_and_how_often_stands_above_the_table_and_the_gateway_s_share_below() -> None:
    runs: Runs = {"floor": [{"cpu_us": 1.0, "gateway_busy": 0.5}] * 3, "trio": [{"cpu_us": 1.0, "gateway_busy": 0.8}]}
    found = blocks(report(row("leases", runs, failures=["trio: ended with 1"])))["results"].splitlines()
    assert found[0] == (
        "02 March 2026; Linux 6.1 x86_64, 2 CPUs, load 0.2 when it began; CPython 3.11.7; anyio 4.0; "
        "published SDK: 0.2.0 on Python 3.11.7; floor: anyio streams; runs of each subject: 1 to 3."
    )
    assert "The gateway's share of a CPU, the highest of all runs: leases 80%." in found
    assert "- leases: failed: trio: ended with 1" in found
    assert "- leases: the gateway was busy for 80% of the time: trio may have waited for it" in found


def test_a_quick_run_and_a_missing_sdk_are_said() -> None:
    found = blocks(report(published=None, quick=True))
    assert "published SDK: not measured; floor: anyio streams; runs of each subject: 0." in found["results"]
    assert "**A quick run" in found["results"]
    assert found["choices"] == "Not measured."


def test_choices_are_multiples_of_the_plain_path() -> None:
    runs = {"floor": cpu(10.0), "plain": cpu(20.0), "client": cpu(200.0), "other": cpu(30.0)}
    found = blocks(report(row("choices", runs)))
    assert lines(found["choices"]) == [
        [CHOICES["plain"], "20", "1.00 x"],
        [CHOICES["client"], "200", "10.00 x"],
        ["other", "30", "1.50 x"],
    ]
    assert "choices" not in found["results"]


def test_a_page_is_made_anew_between_its_markers_alone() -> None:
    page = "a\n\n<!-- results -->\nold\n<!-- end of results -->\n\nb\n<!-- choices -->\n<!-- end of choices -->\nc\n"
    once = renewed(page, report())
    assert once.startswith("a\n\n<!-- results -->\n\n02 March 2026")
    assert once.endswith(
        "\n\n<!-- end of results -->\n\nb\n<!-- choices -->\n\nNot measured.\n\n<!-- end of choices -->\nc\n"
    )
    assert renewed(once, report()) == once


def test_a_page_without_its_markers_is_refused() -> None:
    with pytest.raises(ValueError, match="a line '<!-- results -->'"):
        renewed("<!-- choices -->\n<!-- end of choices -->\n", report())
