"""The benchmark runs and shows every subject; what it measures is nobody's promise."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from benchmarks.cases import PACKAGE, TLS
from benchmarks.processes import RunFailed, figures, module, pair
from benchmarks.rows import cancels, choices, leases
from tests.once import once

ROOT = Path(__file__).parents[2]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmarks", *arguments]
    environment = {name: value for name, value in os.environ.items() if name != "PUBLISHED_PYTHON"}
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=55, check=False, env=environment)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """Run one row as briefly as can be; return what was printed, and the file with it."""
    report = tmp_path_factory.mktemp("measured") / "report.json"

    def measure() -> bytes:
        done = run("--quick", "--rounds", "1", "--rows", "cancels", "--json", str(report))
        assert (done.returncode, done.stderr) == (0, "")
        return json.dumps([done.stdout, report.read_text()]).encode()

    printed, kept = json.loads(once(tmp_path_factory, "measured", measure))
    report.write_text(kept)
    return printed, report


@pytest.mark.parametrize("subject", ["floor", *PACKAGE, *TLS])
def test_a_subject_works_its_leases_off(subject: str) -> None:
    found = leases.measure(subject, window=4, leases=20, published_leases=0)
    assert found.keys() == {"cpu_us", "gateway_cpu_us", "gateway_busy"}
    assert found["cpu_us"] > 0
    assert 0 < found["gateway_busy"] <= 1.5  # two clocks


@pytest.mark.parametrize("subject", ["floor", *PACKAGE])
def test_a_subject_s_handlers_are_called_off(subject: str) -> None:
    found = cancels.measure(subject, running=3, cancels=2)
    assert found.keys() == {"nacked_ms", "all_nacked_ms", "gateway_busy"}
    assert found["nacked_ms"] > 0
    assert found["all_nacked_ms"] > 0
    assert "all_nacked_ms" not in cancels.measure(subject, running=1, cancels=1)


@pytest.mark.skipif(sys.platform != "linux", reason="workers' clocks are read as Linux has them")
@pytest.mark.parametrize("choice", choices.CHOICES)
def test_a_choice_works_its_leases_off(choice: str) -> None:
    found = choices.measure(choice, leases=20, slow_leases=20)
    assert found.keys() == {"cpu_us", "gateway_cpu_us", "gateway_busy"}
    assert found["cpu_us"] > 0


def test_choices_are_compared_with_the_floor_and_nothing_is_asked_of_them() -> None:
    for quick in (False, True):
        (case,) = choices.cases(quick=quick)
        assert case.subjects == ("floor", *choices.CHOICES)
        assert case.targets == ()
        assert set(choices.SLOW) < set(choices.CHOICES)


def test_the_rows_quick_cases_name_known_subjects_and_have_targets() -> None:
    for quick in (False, True):
        for case in [*leases.cases(quick=quick), *cancels.cases(quick=quick)]:
            asked = {subject for target in case.targets for subject in target.subjects}
            assert asked <= set(case.subjects)
            assert set(case.slow) <= set(case.subjects)


def test_the_report_has_every_subject_and_says_who_is_left_out(saved: tuple[str, Path]) -> None:
    printed, report = saved
    assert "published: left out; name an interpreter that has it with --published" in printed
    kept: dict[str, Any] = json.loads(report.read_bytes())
    assert kept["published"] is None
    assert kept["versions"]["neuron-anyio"]
    assert [row["row"] for row in kept["rows"]] == ["cancels, 1 running", "cancels, 50 running"]
    for row in kept["rows"]:
        assert list(row["runs"]) == ["floor", *PACKAGE]
        assert row["failures"] == []
        assert row["row"] in printed
        for summary in row["summaries"]:
            assert 0 < summary["low"] <= summary["median"] <= summary["high"]


def test_what_was_saved_is_shown_again_and_put_into_a_page(saved: tuple[str, Path], tmp_path: Path) -> None:
    measured, report = saved
    shown = run("--from", str(report))
    assert (shown.returncode, shown.stdout) == (0, measured)
    printed = run("--from", str(report), "--markdown")
    assert "| cancels, 50 running | all at once, ms | - |" in printed.stdout
    page = tmp_path / "page.md"
    page.write_text("# Ours\n<!-- results -->\n<!-- end of results -->\n<!-- choices -->\n<!-- end of choices -->\n")
    assert run("--from", str(report), "--markdown", str(page)).stdout == ""
    assert printed.stdout.partition("\n\nNot measured.")[0] in page.read_text()


def test_an_interpreter_without_the_sdk_is_refused_at_once() -> None:
    done = run("--published", sys.executable, "--rows", "leases")
    assert done.returncode == 1
    assert done.stderr == f"{sys.executable} has no holokai-neuron-sdk; name an interpreter that has it\n"


def test_an_interpreter_that_is_none_is_refused_at_once(tmp_path: Path) -> None:
    done = run("--published", str(tmp_path / "python"), "--rows", "leases")
    assert (done.returncode, done.stderr) == (1, f"{tmp_path / 'python'} cannot be run: No such file or directory\n")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--rounds", "0"), "--rounds must be 1 or more"),
        (("--rows", "none"), "invalid choice: 'none'"),
        (("--json", "none/report.json"), "--json: there is no folder none"),
        (("--markdown", "none.md"), "No such file or directory: 'none.md'"),
        (("--markdown", "README.md"), "the page needs a line '<!-- results -->'"),
        (("--from", "none.json"), "No such file or directory: 'none.json'"),
        (("--from", "README.md"), "--from: README.md is not what --json writes"),
    ],
)
def test_what_cannot_be_run_is_refused_before_anything_is_measured(arguments: tuple[str, ...], said: str) -> None:
    done = run(*arguments)
    assert done.returncode == 2
    assert done.stdout == ""
    assert said in done.stderr.splitlines()[-1]


@pytest.mark.skipif(sys.platform != "linux", reason="children are listed as Linux has them")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_with_what_it_has_started(number: signal.Signals) -> None:
    command = [sys.executable, "-m", "benchmarks", "--quick", "--rows", "leases"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        while len(started := children.read_text().split()) < 2:
            time.sleep(0.01)
        time.sleep(0.3)  # a signal in the midst of starting a process finds nobody who knows of it yet
        process.send_signal(number)
        _, said = process.communicate(timeout=20)
    assert (process.returncode, said) == (128 + number, "")
    patience = time.monotonic() + 5
    while any(Path(f"/proc/{pid}").exists() for pid in started):
        assert time.monotonic() < patience, "it has left a process behind"
        time.sleep(0.01)


def test_a_process_that_fails_is_a_failed_run_with_what_it_said() -> None:
    client = [sys.executable, "-c", "raise SystemExit('no such thing')"]
    with pytest.raises(RunFailed, match="ended with 1") as caught, pair(module("load", 1, 1), lambda _: client) as both:
        figures(both[1])
    assert "no such thing\n" in caught.value.__notes__
    with pytest.raises(RunFailed, match="did not start"), pair(client, lambda _: client):
        pass


def test_a_process_that_does_not_end_is_a_failed_run() -> None:
    client = [sys.executable, "-c", "import time; time.sleep(60)"]
    with pytest.raises(RunFailed, match=r"did not end within 0\.1 s"):  # noqa: SIM117 - the pair is what is left
        with pair(module("load", 1, 1), lambda _: client) as (_, process):
            figures(process, 0.1)
    assert process.returncode is not None
