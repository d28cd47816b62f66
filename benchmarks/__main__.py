"""What this package costs, beside a bare client that validates nothing ("the floor") and beside the published SDK.

Each run has a gateway and a client, in processes of their own. Multiples are of the floor's median; the gateway's share
of a CPU stands beside each figure, for it must not be what the others wait for.
"""

from __future__ import annotations

import argparse
import os
import platform
import signal
import subprocess
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from importlib import import_module
from importlib.metadata import version
from pathlib import Path

import msgspec

from .cases import Case
from .page import blocks, check_markers, renewed
from .processes import published_python
from .report import Report, Row, busy, notes, summaries, table
from .rows.leases import FLOORS
from .runner import Result, play

__all__: list[str] = []

ROWS = ("leases", "cancels", "frames", "queue", "progress", "idle", "start", "choices")
LIBRARIES = ("neuron-anyio", "anyio", "trio", "uvloop", "httptools", "msgspec", "fastjsonschema", "jsonschema-rs")
CHOSEN = ("pydantic", "opentelemetry-sdk", "httpx", "h2")
"""What some of the choices run on."""
SDK = "holokai-neuron-sdk"


def _published_version(python: str) -> str:
    code = f"import importlib.metadata as m, platform as p; print(m.version({SDK!r}), 'on Python', p.python_version())"
    try:
        done = subprocess.run([python, "-c", code], capture_output=True, text=True, check=False)
    except OSError as exc:
        raise SystemExit(f"{python} cannot be run: {exc.strerror}") from None
    if done.returncode:
        raise SystemExit(f"{python} has no {SDK}; name an interpreter that has it")
    return done.stdout.strip()


def _versions(names: Iterable[str]) -> dict[str, str]:
    return {name: version(name) for name in names}


def _begun(rows: Sequence[str], published: str | None, *, quick: bool) -> Report:
    system, release, machine = platform.system(), platform.release().partition("-")[0], platform.machine()
    return Report(
        at=datetime.now(UTC),
        machine=f"{system} {release} {machine}",
        cpus=os.cpu_count(),
        load=os.getloadavg()[0] if sys.platform != "win32" else None,
        python=f"{platform.python_implementation()} {platform.python_version()}",
        versions=_versions(LIBRARIES) | (_versions(CHOSEN) if "choices" in rows else {}),
        published=published,
        floor=FLOORS["floor"],
        quick=quick,
        rows=[],
    )


def _tell(what: str) -> None:
    """Show a person who waits what is going on."""
    if sys.stderr.isatty():
        print(f"\033[2K{what}\r", end="", file=sys.stderr, flush=True)


def _show(rows: Sequence[Row]) -> None:
    for name in dict.fromkeys(row.module for row in rows):
        print(f"{name}\n{'=' * len(name)}")
        for row in rows:
            if row.module == name:
                shares = busy(row.runs)
                print(table(row.row, row.summaries, shares))
                for note in notes(shares, row.failures):
                    print(f"  {note}")
                print(flush=True)


def _row(name: str, result: Result) -> Row:
    found = summaries(result.runs, result.case.targets)
    return Row(module=name, row=result.case.row, summaries=found, runs=result.runs, failures=result.failures)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=ROWS, help="which (default: all)", metavar="NAME")
    parser.add_argument("--rounds", type=int, help="how often each subject has its turn, at most")
    parser.add_argument("--quick", action="store_true", help="a first impression in about a minute: smaller sizes")
    parser.add_argument("--published", metavar="PYTHON", help="an interpreter that has the published SDK")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures of every run there, too")
    parser.add_argument(
        "--from", type=Path, dest="saved", metavar="FILE", help="measure nothing; show what --json wrote there"
    )
    parser.add_argument(
        "--markdown",
        nargs="?",
        const="-",
        metavar="PAGE",
        help="the tables of the documentation: printed, or put where they stand in the page",
    )
    options = parser.parse_args()
    if options.rounds is not None and options.rounds < 1:
        parser.error("--rounds must be 1 or more")
    try:
        _check_files(options)
    except (OSError, ValueError) as exc:
        parser.error(str(exc))
    return options


def _check_files(options: argparse.Namespace) -> None:
    """Refuse files that cannot be read or written, before minutes are spent on what goes there."""
    if options.saved is not None:
        _saved(options.saved)
    if options.json is not None and not options.json.parent.is_dir():
        raise ValueError(f"--json: there is no folder {options.json.parent}")
    if options.markdown not in (None, "-"):
        check_markers(Path(options.markdown).read_text(encoding="utf-8"))


def _saved(path: Path) -> Report:
    try:
        return msgspec.json.decode(path.read_bytes(), type=Report)
    except msgspec.DecodeError as exc:
        raise ValueError(f"--from: {path} is not what --json writes: {exc}") from None


def _stop(number: int, _frame: object) -> None:
    """End what was started on the way out."""
    raise SystemExit(128 + number)


def _measure(options: argparse.Namespace, *, show: bool) -> Report:
    """Play the rows, saving after each; show each unless it is to be shown otherwise."""
    if options.published:
        os.environ["PUBLISHED_PYTHON"] = options.published
    python = published_python()
    report = _begun(options.rows, _published_version(python) if python else None, quick=options.quick)
    if show:
        _say(report)
    for name in options.rows:
        cases: list[Case] = import_module(f"benchmarks.rows.{name}").cases(quick=options.quick)
        without = () if python else ("published",)
        rows = [_row(name, result) for result in play(cases, rounds=options.rounds, without=without, tell=_tell)]
        report.rows.extend(rows)
        if show:
            _show(rows)
        if options.json is not None:
            options.json.write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n")
    return report


def _say(report: Report) -> None:
    if report.published is None:
        print("published: left out; name an interpreter that has it with --published, or in PUBLISHED_PYTHON\n")
    if report.quick:
        print("quick: sizes are smaller than those that the targets are meant for\n")


def main() -> None:
    options = _options()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _stop)
    if options.saved is None:
        report = _measure(options, show=options.markdown != "-")
    else:
        report = _saved(options.saved)
        if options.markdown is None:
            _say(report)
            _show(report.rows)
    if options.markdown == "-":
        print("\n\n".join(blocks(report).values()))
    elif options.markdown is not None:
        page = Path(options.markdown)
        page.write_text(renewed(page.read_text(encoding="utf-8"), report), encoding="utf-8")
    raise SystemExit(any(row.failures for row in report.rows))


if __name__ == "__main__":
    main()
