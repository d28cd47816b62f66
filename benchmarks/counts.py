"""Instructions of the pure core's operations, counted by valgrind: `python -m benchmarks.counts --help`.

Counts hardly vary, whatever else the machine does, so a few percent more are seen where times show nothing. Each is
the difference between a run of N operations and one of 2 N, over N: what the start costs cancels out. `counts.json`
keeps those of one interpreter on one architecture; on others there is nothing to compare with.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path

import msgspec

from .operations import OPERATIONS

__all__ = ["Counts", "counted", "grown", "instructions", "table"]

KEPT = Path(__file__).with_name("counts.json")
GROWTH = 1.10
"""Times the kept count that an operation may take; beyond it this ends with 1."""

PATIENCE = 600.0
"""Seconds that one run under valgrind may take; it takes some ten."""

_ROOT = Path(__file__).parents[1]
_COLLECTED = re.compile(r"^==\d+== Collected : (\d+)$", re.MULTILINE)
_LIBRARIES = ("msgspec", "jsonschema-rs", "httptools")
_INSTALL = (
    "valgrind is not installed: `apt install valgrind` on Debian and Ubuntu, `dnf install valgrind` on Fedora, "
    "`apk add valgrind` on Alpine; it runs on Linux"
)


class Counts(msgspec.Struct, frozen=True, kw_only=True):
    """Instructions of each operation, and what they depend on.

    Attributes:
        python: version of the interpreter.
        machine: architecture.
        libraries: versions of those that do part of the work.
        instructions: of one operation, by its name.
    """

    python: str
    machine: str
    libraries: dict[str, str]
    instructions: dict[str, int]

    def is_comparable(self, other: Counts) -> bool:
        """Return whether both come from the same interpreter on the same architecture."""
        return (self.python, self.machine) == (other.python, other.machine)


def instructions(printed: str) -> int:
    """Return the count that callgrind printed.

    Raises:
        ValueError: there is none.
    """
    found = _COLLECTED.search(printed)
    if found is None:
        raise ValueError(f"callgrind printed no count: {printed[-1000:]}")
    return int(found[1])


def grown(now: Mapping[str, int], before: Mapping[str, int], *, times: float = GROWTH) -> list[str]:
    """Return the operations that take more than so many times what they took."""
    return [name for name, count in now.items() if name in before and count > before[name] * times]


def table(now: Mapping[str, int], before: Mapping[str, int]) -> str:
    """Return counts as text, beside those that were kept."""
    lines = [f"{'operation':<30}{'instructions':>13}{'kept':>10}{'change':>9}"]
    for name, count in now.items():
        kept = before.get(name)
        beside = f"{'-':>10}{'-':>9}" if kept is None else f"{kept:>10}{count / kept - 1:>+9.1%}"
        lines.append(f"{name:<30}{count:>13}{beside}")
    return "\n".join(lines)


def _run(name: str, operations: int, prepared: int) -> int:
    tool = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null"]
    work = [sys.executable, "-m", "benchmarks.operations", name, str(operations), str(prepared)]
    environment = {**os.environ, "PYTHONHASHSEED": "0"}
    done = subprocess.run(
        [*tool, *work], cwd=_ROOT, env=environment, capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    if done.returncode:
        raise SystemExit(f"{name}: ended with {done.returncode}\n{done.stderr}")
    return instructions(done.stderr)


def counted(names: Iterable[str], operations: int) -> dict[str, int]:
    """Return the instructions of one operation of each name, from runs of N and 2 N operations."""
    names = list(names)
    for name in names:
        OPERATIONS[name](1)(0)  # compiles what was changed, which would count as work
    pool = ThreadPoolExecutor(os.cpu_count())

    def start(name: str, several: int) -> Future[int]:
        return pool.submit(_run, name, several, 2 * operations)

    try:
        runs = {name: (start(name, operations), start(name, 2 * operations)) for name in names}
        return {name: round((more.result() - fewer.result()) / operations) for name, (fewer, more) in runs.items()}
    finally:
        pool.shutdown(cancel_futures=True)  # after an error or Ctrl-C the others need not begin


def _newest() -> float:
    return max(path.stat().st_mtime for path in _ROOT.joinpath("neuron_anyio").rglob("*.py"))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.counts", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--operations", type=int, default=5000, metavar="N", help="of the shorter run (default 5000)")
    parser.add_argument("--only", nargs="+", choices=OPERATIONS, metavar="NAME", help="count these operations alone")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the counts there, too")
    parser.add_argument("--write", action="store_true", help=f"keep the counts in {KEPT.name}")
    options = parser.parse_args()
    if options.operations < 1:
        parser.error("--operations must be 1 or more")
    if options.write and options.only:
        parser.error("--write keeps all counts, so it cannot go with --only")
    if options.json is not None and not options.json.parent.is_dir():
        parser.error(f"--json: there is no folder {options.json.parent}")
    return options


def _stop(number: int, _frame: object) -> None:
    raise SystemExit(128 + number)


def main() -> int:
    options = _options()
    signal.signal(signal.SIGINT, _stop)
    if shutil.which("valgrind") is None:
        print(_INSTALL, file=sys.stderr)
        return 2
    changed = _newest()
    now = Counts(
        python=platform.python_version(),
        machine=platform.machine(),
        libraries={name: version(name) for name in _LIBRARIES},
        instructions=counted(options.only or OPERATIONS, options.operations),
    )
    kept = msgspec.json.decode(KEPT.read_bytes(), type=Counts) if KEPT.exists() else None
    before = kept.instructions if kept is not None and kept.is_comparable(now) else {}
    print(table(now.instructions, before))
    if kept is not None and not before:
        print(f"{KEPT.name} is of Python {kept.python} on {kept.machine}; nothing to compare with")
    elif kept is not None and kept.libraries != now.libraries:
        print(f"{KEPT.name} was counted with {kept.libraries}, this with {now.libraries}")
    is_of_one = _newest() == changed
    if not is_of_one:
        print("the package was changed meanwhile; count again", file=sys.stderr)
    for path in [*([options.json] if options.json else []), *([KEPT] if options.write and is_of_one else [])]:
        path.write_bytes(msgspec.json.format(msgspec.json.encode(now), indent=2) + b"\n")
    more = grown(now.instructions, before)
    if more and not options.write:
        print(f"more than {GROWTH - 1:.0%} above what was kept: {', '.join(more)}", file=sys.stderr)
        return 1
    return 0 if is_of_one else 1


if __name__ == "__main__":
    sys.exit(main())
