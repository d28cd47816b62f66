# ruff: noqa: E501 - tests are named as pytest names them
"""Every asynchronous test runs on asyncio, uvloop and trio (promise B1), by what pytest itself collects."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.async_tests import AsyncTest

pytestmark = pytest.mark.thorough

ROOT = Path(__file__).resolve().parents[2]
EVERYWHERE = {"asyncio", "uvloop", "trio"}

PINNED = {
    "tests/e2e/test_examples_embed.py::test_a_web_application_is_unhealthy_once_its_neuron_was_sent_away_for_good": (
        {"asyncio"},
        "on trio the example's server ends at once, which tells as well",
    ),
    "tests/runtime/test_faults_found.py::test_D3_nothing_starts_any_more_when_a_handler_ends_the_program": (
        {"trio"},
        "asyncio lets SystemExit out of its loop at once",
    ),
    "tests/runtime/test_http1_cancellation.py::test_asyncios_own_cancellation_leaves_the_pool_working": (
        {"asyncio", "uvloop"},
        "trio has no other cancellation than a scope's",
    ),
    "tests/runtime/test_leases.py::test_L11_5_a_cancellation_that_nobody_asked_for_is_an_outcome_and_the_neuron_lives": (
        {"asyncio"},
        "trio has no way to pick up somebody else's cancellation",
    ),
    "tests/runtime/test_leases.py::test_L11_5_a_cancellation_too_late_for_the_handler_is_none_and_the_neuron_lives": (
        {"asyncio"},
        "trio cancels scopes, never tasks",
    ),
    "tests/runtime/test_lanes.py::test_L11_5_a_task_that_is_cancelled_long_after_its_handler_has_ended_takes_nothing_with_it": (
        {"asyncio"},
        "trio cancels scopes, never tasks",
    ),
    "tests/runtime/test_lanes.py::test_L4_3_a_cancel_that_meets_one_of_the_handlers_own_ends_that_lease_alone": (
        {"asyncio"},
        "trio cancels scopes, never tasks",
    ),
    "tests/runtime/test_lanes.py::test_a_handler_that_swallows_a_cancellation_of_its_task_leaves_no_count_of_it": (
        {"asyncio"},
        "trio cancels scopes, never tasks",
    ),
    "tests/runtime/test_tokens.py::test_reference_D34_a_future_is_awaited": (
        {"asyncio"},
        "a future is asyncio's",
    ),
}
"""Tests of what one event loop alone can do, with where they run and why."""


def async_tests(*arguments: str, folder: Path = ROOT) -> list[AsyncTest]:
    done = subprocess.run(
        [sys.executable, "-m", "tests.async_tests", *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    rows = json.loads(done.stdout.splitlines()[-1])
    return [AsyncTest(name, marked, virtual, tuple(backends)) for name, marked, virtual, backends in rows]


def faults(tests: Sequence[AsyncTest]) -> list[str]:
    found: set[str] = set()
    for test in tests:
        wanted = {"trio"} if test.virtual_time else PINNED[test.name][0] if test.name in PINNED else EVERYWHERE
        if not test.marked:
            found.add(f"{test.name} is not marked anyio: nothing runs it")
        elif set(test.backends) != wanted:
            found.add(f"{test.name} runs on {', '.join(sorted(test.backends))}, not on {', '.join(sorted(wanted))}")
        elif len(set(Counter(test.backends).values())) != 1:
            found.add(f"{test.name} runs more often on one backend than on another")
    return sorted(found)


def test_B1_every_asynchronous_test_runs_on_all_backends_and_those_in_virtual_time_on_trio() -> None:
    tests = async_tests()
    assert len(tests) > 400
    assert any(test.virtual_time for test in tests)
    found = faults(tests)
    assert not found, "\n".join(["", *found])
    assert sorted(PINNED) == sorted({test.name for test in tests} & set(PINNED)), "a test that is not there any more"


SAMPLE = """
import pytest
from trio.testing import MockClock

marked = pytest.mark.anyio

@marked
@pytest.mark.parametrize("number", [1, 2])
async def test_everywhere(number): ...

async def test_unmarked(): ...

@marked
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_pinned(anyio_backend): ...

@marked
@pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])
async def test_without_uvloop(anyio_backend): ...

@marked
@pytest.mark.parametrize("anyio_backend", ["asyncio", "asyncio", "trio", ("asyncio", {"use_uvloop": True})])
async def test_twice(anyio_backend): ...

@marked
@pytest.mark.virtual_time
async def test_virtual_on_all_backends(): ...

def test_synchronous(): ...

class TestVirtual:
    pytestmark = [marked, pytest.mark.virtual_time]

    @pytest.fixture
    def anyio_backend(self):
        return "trio", {"clock": MockClock(autojump_threshold=0)}

    async def test_virtual(self): ...

class TestQuietlyPinned:
    pytestmark = marked

    @pytest.fixture
    def anyio_backend(self):
        return "trio"

    async def test_pinned_by_a_fixture(self): ...
"""


def test_B1_a_test_that_runs_nowhere_or_not_everywhere_is_found_by_name(tmp_path: Path) -> None:
    shutil.copy(ROOT / "tests" / "conftest.py", tmp_path)
    (tmp_path / "test_sample.py").write_text(SAMPLE)
    found = faults(async_tests(str(tmp_path), "--rootdir", str(tmp_path), "-c", str(ROOT / "pyproject.toml")))
    assert [line.partition("::")[2] for line in found] == [
        "TestQuietlyPinned::test_pinned_by_a_fixture runs on trio, not on asyncio, trio, uvloop",
        "test_pinned runs on asyncio, not on asyncio, trio, uvloop",
        "test_twice runs more often on one backend than on another",
        "test_unmarked is not marked anyio: nothing runs it",
        "test_virtual_on_all_backends runs on asyncio, trio, uvloop, not on trio",
        "test_without_uvloop runs on asyncio, trio, not on asyncio, trio, uvloop",
    ]
