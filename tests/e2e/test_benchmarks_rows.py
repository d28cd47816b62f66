"""Each row plays with tiny numbers, and instructions are counted; what they come to is nobody's promise."""

from __future__ import annotations

import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks.cases import PACKAGE
from benchmarks.counts import Counts, grown, instructions, table
from benchmarks.operations import OPERATIONS
from benchmarks.rows import frames, idle, progress, queue, start
from benchmarks.rows.scene import run

pytestmark = pytest.mark.thorough

ROOT = Path(__file__).parents[2]
SUBJECTS = ("floor", "asyncio", "trio")  # uvloop is asyncio by another loop

linux = pytest.mark.skipif(
    sys.platform != "linux", reason="another process's clock and memory are read as Linux has them"
)
valgrind = pytest.mark.skipif(shutil.which("valgrind") is None, reason="valgrind is not installed")


# ---- rows


@linux
@pytest.mark.parametrize("subject", SUBJECTS)
def test_a_large_frame_comes_to_its_handler_and_is_acked(subject: str) -> None:
    figures = run("frames", subject, 100_000)
    assert 0 < figures["start_s"] <= figures["cpu_s"]


@linux
@pytest.mark.parametrize("subject", SUBJECTS)
def test_leases_wait_for_the_slot_that_is_taken_and_are_then_worked_off(subject: str) -> None:
    figures = run("queue", subject, 50)
    assert figures["queued_us"] > 0
    assert figures["worked_us"] > 0
    assert figures["cpu_us"] == pytest.approx(figures["queued_us"] + figures["worked_us"])


@linux
@pytest.mark.parametrize("subject", SUBJECTS)
def test_progress_comes_in_order_and_its_last_before_the_ack(subject: str) -> None:
    figures = run("progress", subject, 100, concurrency=2)
    assert (figures["out_of_order"], figures["last_missing"]) == (0, 0)
    assert figures["posts"] == 100 if subject == "floor" else 1 <= figures["posts"] < 100
    assert 0 < figures["p50_ms"] <= figures["p99_ms"]


@linux
@pytest.mark.parametrize("subject", SUBJECTS)
def test_idle_neurons_all_register(subject: str) -> None:
    figures = run("idle", subject, 10, 0, neurons=10)
    assert figures["registered_s"] > 0
    assert figures["heartbeats_s"] == 0


@linux
@pytest.mark.parametrize("subject", SUBJECTS)
def test_the_cpu_of_a_start_is_that_of_the_worker(subject: str) -> None:
    assert run("start", subject, script=True)["cpu_ms"] > 0


@pytest.mark.parametrize("quick", [True, False])
def test_every_row_asks_for_figures_of_the_package_alone(quick: bool) -> None:
    for module in (frames, idle, progress, queue, start):
        for case in module.cases(quick=quick):
            assert case.targets
            assert all(set(target.subjects) <= set(PACKAGE) for target in case.targets)


# ---- counts


def counts(*, python: str = "3.11.7", machine: str = "x86_64", **instructions: int) -> Counts:
    return Counts(python=python, machine=machine, libraries={}, instructions=instructions)


def test_a_count_is_read_from_what_callgrind_prints() -> None:
    assert instructions("==7== Events    : Ir\n==7== Collected : 1186481245\n==7== \n") == 1_186_481_245


def test_a_run_without_a_count_says_what_was_printed_instead() -> None:
    with pytest.raises(ValueError, match="no count: Killed"):
        instructions("Killed")


def test_what_takes_over_a_tenth_more_has_grown() -> None:
    assert grown({"a": 110, "b": 111, "new": 999}, {"a": 100, "b": 100, "gone": 1}) == ["b"]


def test_counts_of_another_interpreter_or_machine_are_not_compared() -> None:
    assert counts().is_comparable(counts(a=1))
    assert not counts().is_comparable(counts(python="3.12.1"))
    assert not counts().is_comparable(counts(machine="aarch64"))


def test_the_table_shows_the_change() -> None:
    _, first, second = table({"a": 110, "b": 7}, {"a": 100}).splitlines()
    assert first.split() == ["a", "110", "100", "+10.0%"]
    assert second.split() == ["b", "7", "-", "-"]


@pytest.mark.parametrize("name", OPERATIONS)
def test_each_operation_does_its_work(name: str) -> None:
    operate = OPERATIONS[name](300)
    for number in range(300):
        operate(number)


def _count(*options: str, path: str | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmarks.counts", *options]
    environment = {"PATH": path} if path is not None else None
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100, check=False, env=environment)


def test_without_valgrind_it_says_how_to_install_it(tmp_path: Path) -> None:
    done = _count(path=str(tmp_path))
    assert (done.returncode, done.stdout) == (2, "")
    assert "apt install valgrind" in done.stderr


@valgrind
@pytest.mark.timeout(120)
def test_an_operation_has_its_count(tmp_path: Path) -> None:
    report = tmp_path / "counts.json"
    done = _count("--operations", "20", "--only", "encode an ack", "--json", str(report))
    assert done.returncode in (0, 1), done.stderr  # so few operations are no measurement
    written = json.loads(report.read_bytes())
    assert (written["python"], written["machine"]) == (platform.python_version(), platform.machine())
    assert list(written["instructions"]) == ["encode an ack"]
    assert written["instructions"]["encode an ack"] > 1000
    assert "encode an ack" in done.stdout


@valgrind
def test_an_interrupt_ends_the_counting_and_begins_nothing_more() -> None:
    command = [sys.executable, "-m", "benchmarks.counts", "--operations", "1"]
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        while not _all_count(process.pid):
            time.sleep(0.01)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does, so that nothing counts to its end
        printed, said = process.communicate(timeout=60)
    assert (process.returncode, printed, said) == (130, "", "")


def _all_count(pid: int) -> bool:
    """Whether as many children as there may be at a time are there, and valgrind runs in each of them."""
    children = [child for each in Path(f"/proc/{pid}/task").glob("*/children") for child in each.read_text().split()]
    names = [Path(f"/proc/{child}/comm").read_text() for child in children]
    return len(names) == min(os.cpu_count() or 1, 2 * len(OPERATIONS)) and all("grind" in name for name in names)
