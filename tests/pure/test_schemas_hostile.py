"""Promise L12: a schema never makes the neuron fetch, execute or stall. The attacks are in `hostile_schemas`."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from neuron_anyio.schemas import wire_validator
from tests.pure.hostile_schemas import CPU_SECONDS, Case, cases, chain, in_lists, outcomes

pytestmark = pytest.mark.thorough

ROOT = Path(__file__).resolve().parents[2]

SECONDS = 3.0
"""Processor time for compiling a schema and judging a value, twice, on a slow machine; an attack would take minutes."""

SMALL_STACK = 1024 * 1024
"""What the smallest platforms give a thread."""

CASES = cases()


@pytest.fixture(scope="module")
def judged() -> dict[str, dict[str, Any]]:
    ran = subprocess.run(
        [sys.executable, "-m", "tests.pure.hostile_schemas"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=2 * CPU_SECONDS,
        check=False,
    )
    lines = [json.loads(line) for line in ran.stdout.splitlines()]
    assert ran.returncode == 0, f"died after {lines[-1:]}: {ran.stderr[-1000:]}"
    return {line["name"]: line for line in lines}


@pytest.mark.parametrize("name", CASES)
def test_l12_a_hostile_schema_or_value_has_a_clear_and_quick_outcome(
    name: str, judged: dict[str, dict[str, Any]]
) -> None:
    assert judged[name]["outcomes"] == [CASES[name].outcome]
    assert judged[name]["seconds"] < SECONDS


@pytest.mark.parametrize(
    "schema",
    [
        {"anyOf": [{"type": "null"}, {"type": "array", "items": {"$ref": "#"}}]},
        {"items": {"anyOf": [{"allOf": [{"allOf": [{"$ref": "#"}]}]}, {}]}},
        {"items": {"allOf": [{"$ref": "#"}, {"prefixItems": [{}]}]}, "unevaluatedItems": True},
        {"type": "object", "patternProperties": {"": {"$ref": "#"}}, "minProperties": 1},
        chain(290, lambda following: {"anyOf": [following]}, {}),
        json.loads('{"not":' * 127 + "{}" + "}" * 127),
    ],
)
def test_l12_the_deepest_that_is_judged_fits_the_stack_of_a_small_thread(schema: Any) -> None:
    # A stack that overflows in the engine kills the process, so this runs in one of its own.
    code = (
        "import json, sys, threading\n"
        "from neuron_anyio.schemas import wire_validator\n"
        "from tests.pure.hostile_schemas import in_lists, in_members\n"
        f"threading.stack_size({SMALL_STACK})\n"
        "validator = wire_validator(sys.argv[1].encode())\n"
        "def judge():\n"
        "    validator = wire_validator(b' ' + sys.argv[1].encode())\n"
        "    for levels in range(140):\n"
        "        validator.check(in_lists(levels)), validator.check(in_members(levels, {}))\n"
        "thread = threading.Thread(target=judge)\n"
        "thread.start()\n"
        "thread.join()\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code, json.dumps(schema)], cwd=ROOT, capture_output=True, timeout=50, check=False
    )
    assert (ran.returncode, ran.stderr) == (0, b"")


def test_l12_a_validator_made_in_one_thread_judges_in_another() -> None:
    validator = wire_validator(b'{"type": "array", "items": {"type": "integer"}}')
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.extend([validator.check([1]), validator.check(["x"])]))
    thread.start()
    thread.join()
    assert found[0] is None
    assert found[1].path == "/0"


def test_the_harness_would_notice_a_schema_that_gets_through() -> None:
    assert outcomes(Case({"type": "integer"}, "x", "valid")) == {"violation"}
    assert len(in_lists(3)[0][0]) == 1
