"""The benchmark of cancels runs and shows every kind of handler; what it measures is nobody's promise."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_benchmark_has_a_row_for_every_kind_and_backend(tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    command = [sys.executable, "-m", "benchmarks.cancel", "--rounds", "2", "--json", str(report)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=50, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    rows = json.loads(report.read_bytes())
    expected = [(kind, backend) for kind in ("loop", "thread", "process") for backend in ("asyncio", "uvloop", "trio")]
    assert [(row["kind"], row["backend"]) for row in rows] == expected
    for row in rows:
        assert row["rounds"] == 2
        assert 0 < row["nacked_p50"] <= row["nacked_p99"]
        assert 0 < row["started_p50"] <= row["started_p99"]
        assert f"| {row['kind']} | {row['backend']} | 2 |" in done.stdout
