"""The benchmark runs and shows every client; what it measures is nobody's promise."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
ROWS = {(16, client) for client in ("floor", "asyncio", "uvloop", "trio")}


def test_the_benchmark_has_a_row_for_every_client(tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    options = ["--quick", "--rounds", "1", "--leases", "50", "--windows", "16", "--json", str(report)]
    command = [sys.executable, "-m", "benchmarks", *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=50, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    shown = [line.split() for line in done.stdout.splitlines()[1:]]
    assert {(int(columns[0]), columns[1]) for columns in shown} == ROWS
    assert len(shown) == len(ROWS)
    rows = json.loads(report.read_bytes())
    assert {(row["window"], row["client"]) for row in rows} == ROWS
    assert all(cost > 0 for row in rows for cost in row["cpu_us"])
    assert all(row["times"][0] == 1 for row in rows if row["client"] == "floor")
