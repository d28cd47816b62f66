"""The fault table of the documentation, from the outcomes that `python -m benchmarks.faults --json` wrote.

`python -m benchmarks.faults.table asyncio=ours.json published=theirs.json`: a column for each name.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from neuron_anyio.testing.faults import FAULTS
from neuron_anyio.testing.scenario_play import Outcome

__all__ = ["table"]

COUNTS = ("lost", "double", "answered_twice", "wrong")


def table(columns: Mapping[str, Sequence[Outcome]]) -> str:
    """Return the table as Markdown: a row for each fault, a column for each run, and a row of sums."""
    by_name = {name: {outcome.fault: outcome for outcome in outcomes} for name, outcomes in columns.items()}
    rows = [["fault", "what the gateway does", *columns], ["---", "---", *("---" for _ in columns)]]
    rows += [
        [f"`{fault.id}`", fault.summary, *(_cell(outcomes[fault.id]) for outcomes in by_name.values())]
        for fault in FAULTS.values()
        if all(fault.id in outcomes for outcomes in by_name.values())
    ]
    rows.append(["**in all**", f"{len(rows) - 2} scenarios", *(_sum(outcomes) for outcomes in columns.values())])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _cell(outcome: Outcome) -> str:
    if not outcome.complaints:
        seconds = outcome.verdict.seconds_to_recover
        return "ok" if seconds is None else f"ok, {seconds:.2f} s"
    counts = [f"{count} {name.replace('_', ' ')}" for name in COUNTS if (count := getattr(outcome.verdict, name))]
    return f"**{', '.join(counts) or 'not as promised'}**"


def _sum(outcomes: Sequence[Outcome]) -> str:
    passed = sum(not outcome.complaints for outcome in outcomes)
    counts = (f"{sum(getattr(each.verdict, name) for each in outcomes)} {name.replace('_', ' ')}" for name in COUNTS)
    return f"**{passed} as promised; {', '.join(counts)}**"


def main() -> None:
    """Read the files that the arguments name, print the table."""
    columns: dict[str, list[Outcome]] = {}
    for argument in sys.argv[1:]:
        name, _, path = argument.partition("=")
        columns[name] = msgspec.json.decode(Path(path).read_bytes(), type=list[Outcome])
    print(table(columns))


if __name__ == "__main__":
    main()
