"""The soak in small: the program runs, measures and judges."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.thorough

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_thousand_leases_under_changing_faults_are_neither_lost_nor_done_twice(backend: str) -> None:
    command = [sys.executable, "-m", "benchmarks.soak", "--leases", "1000", "--backend", backend]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=50, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"^1,000 tasks, ", done.stdout, re.MULTILINE)
    assert re.search(r"^0 lost, 0 double, 0 answered twice, 0 wrong$", done.stdout, re.MULTILINE)
