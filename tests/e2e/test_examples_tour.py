from __future__ import annotations

import json
import re
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest
from msgspec.structs import replace

from examples import tour
from neuron_anyio.client import TaskStatus
from tests.once import once

ROOT = Path(__file__).resolve().parents[2]


ROW = re.compile(r"^(acked|failed|cancelled|given back|lost|in all) +(\d+|\*) +(\d+)$", re.MULTILINE)


class Taken(NamedTuple):
    """What came of a tour."""

    returncode: int
    stdout: str
    stderr: str


@pytest.fixture(
    scope="module",
    params=[["examples/tour.py"], ["-m", "examples.tour", "--backend", "trio"]],
    ids=["file-asyncio", "module-trio"],
)
def taken(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Taken:
    """The tour as a program, with warnings as errors."""

    def take() -> bytes:
        command = [sys.executable, "-W", "error", *request.param]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=55, check=False)
        return json.dumps(Taken(done.returncode, done.stdout, done.stderr)).encode()

    return Taken(*json.loads(once(tmp_path_factory, f"tour-{Path(request.param[-1]).name}", take)))


def test_the_tour_ends_well_and_its_table_adds_up(taken: Taken) -> None:
    assert taken.returncode == 0, taken.stdout + taken.stderr
    rows = {match[1]: (match[2], int(match[3])) for match in ROW.finditer(taken.stdout)}
    given_back = rows["given back"][1]
    assert given_back >= 7  # five that waited and two that were cut; more if one came in the last moment
    assert rows == {
        "acked": ("46", 46),
        "failed": ("1", 1),
        "cancelled": ("1", 1),
        "given back": ("*", given_back),
        "lost": ("0", 0),
        "in all": ("48", 46 + 1 + 1 + given_back),
    }


def test_the_tour_leaves_no_warning_and_no_traceback(taken: Taken) -> None:
    assert taken.stderr == ""


def test_the_tour_tells_what_happens_in_order(taken: Taken) -> None:
    lines = iter(taken.stdout.splitlines())
    for told in (
        "first   is registered",
        "10 pages have come",
        "/quick/34 is leased, 100 %",
        "/quick/34 is succeeded",
        "is failed (terminal, HANDLER_THREW)",
        "/slow is leased, 3",
        "calls /slow off",
        "/slow is cancelled",
        "3 of them run, 5 wait in the neuron, 4 in the gateway",
        "first   stops: 3 handlers go on, 5 leases go back unbegun",
        "gives /held/4 back: the neuron takes no new work",
        "back: the neuron stopped before the handler ended",
        "first   has stopped",
        "second  is registered",
        "40 pages have come",
        "in all",
        "Everything is as it should be",
    ):
        assert any(told in line for line in lines), f"{told!r} is not told in its place:\n{taken.stdout}"


def test_a_tour_that_hangs_says_so(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(tour, "BOUND", 0.01)
    assert tour.main([]) == 1
    assert "NOT AS IT SHOULD BE: the tour did not end within 0.01 s" in capsys.readouterr().out


NOW = datetime(2026, 1, 1, tzinfo=UTC)


def ending_well() -> tuple[dict[str, str], list[TaskStatus], list[Any]]:
    """What a tour that went well leaves: the pages, the gateway's records, and stand-ins for the two neurons."""
    common: dict[str, Any] = {"capability": tour.TYPE, "created_at": NOW, "updated_at": NOW, "max_attempts": 3}
    targets = {f"task-{target}": target for target in (*tour.QUICK, *tour.HELD, tour.SLOW, tour.UNREACHABLE)}
    records: list[TaskStatus] = []
    for task_id, target in targets.items():
        plain = TaskStatus(task_id=task_id, state="succeeded", deliveries=1, results=1, neuron_id="second", **common)
        if target == tour.SLOW:
            records.append(replace(plain, state="cancelled", results=0))
        elif target == tour.UNREACHABLE:
            records.append(replace(plain, state="failed"))
        else:
            back = int(target in tour.HELD)
            output = {"body": tour.text_of(target)}
            records.append(replace(plain, output=output, give_backs=back, deliveries=1 + back))
    outcomes = [{"GivenBack": 12, "Completed": 30}, {"Completed": 16, "Failed": 1, "Cancelled": 1}]
    return targets, records, [neuron_with(each) for each in outcomes]


def neuron_with(outcomes: dict[str, int]) -> Any:
    snapshot = SimpleNamespace(capabilities={tour.TYPE: SimpleNamespace(outcomes=outcomes)})
    return SimpleNamespace(snapshot=lambda: snapshot)


def test_nothing_is_wrong_with_a_tour_that_ends_well() -> None:
    targets, records, neurons = ending_well()
    assert list(tour.Findings(targets, records).faults(neurons)) == []


@pytest.mark.parametrize(
    ("page", "change", "fault"),
    [
        ("/held/1", {"state": "pending", "results": 0}, "1 tasks were lost"),
        ("/held/1", {"expiries": 1, "deliveries": 3}, "1 leases were lost"),
        ("/held/1", {"deliveries": 3}, "the leases add up to 60, not to 61"),
        ("/held/1", {"neuron_id": "first"}, "/held/1 was given back and is not finished by the second neuron"),
        ("/quick/1", {"output": {"body": ""}}, "the page /quick/1 came back with another text"),
        ("/quick/1", {"state": "failed"}, "45 tasks are acked, not 46"),
        ("/slow", {"state": "succeeded", "results": 1, "output": {"body": ""}}, "0 tasks are cancelled, not 1"),
        (
            "/held/1",
            {"give_backs": 2, "deliveries": 3},
            "the neurons count 12 leases that were given back, the gateway 13",
        ),
    ],
)
def test_what_is_wrong_is_said(page: str, change: dict[str, Any], fault: str) -> None:
    targets, records, neurons = ending_well()
    changed = [replace(record, **change) if targets[record.task_id] == page else record for record in records]
    faults = list(tour.Findings(targets, changed).faults(neurons))
    assert any(fault in each for each in faults), faults


def test_a_task_that_the_gateway_does_not_know_is_lost() -> None:
    targets, records, neurons = ending_well()
    assert "1 tasks were lost" in list(tour.Findings(targets, records[1:]).faults(neurons))
