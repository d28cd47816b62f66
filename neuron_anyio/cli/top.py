"""`neuron-anyio top` and `control`: what the neurons of this user on this host do, and a word to them."""

from __future__ import annotations

import logging
import re
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import anyio
import click
import msgspec

from neuron_anyio.control import Method, Status, ask, control_folder
from neuron_anyio.errors import NeuronError, TransportError
from neuron_anyio.logs import named
from neuron_anyio.snapshot import LeaseState

from .options import BACKEND, apply, example, log_level
from .problems import Failure
from .screen import open_screen

if TYPE_CHECKING:
    from rich.console import RenderableType

__all__ = ["Which", "control", "top"]

EVERY = 1.0
"""Seconds between two questions to each neuron."""

MOST_ROWS = 40
"""Leases in the live table; more would scroll it off the terminal."""

_log = logging.getLogger("neuron_anyio")

HEAD = ("neuron", "lease", "capability", "task", "state", "age", "left", "progress")

NEURON = click.option(
    "--neuron-id",
    envvar="BIGBRAIN_NEURON_ID",
    metavar="ID",
    show_default="all of this user's",
    help="The neuron, or with `run --processes` its processes ID-1 and so on.",
)

SOCKET = click.option(
    "--control",
    "socket_path",
    type=click.Path(path_type=Path),
    metavar="PATH",
    help="Socket of one neuron that was started with this option.",
)


@click.command(epilog=example("neuron-anyio top --once"))
@apply(
    NEURON,
    SOCKET,
    click.option("--once", is_flag=True, help="Print the table once; also what happens where stdout is no terminal."),
    click.option("--json", "as_json", is_flag=True, help="Print a JSON array once: all that a neuron's snapshot has."),
    log_level("warning"),
    BACKEND,
)
def top(neuron_id: str | None, socket_path: Path | None, backend: str, *, once: bool, as_json: bool) -> int:
    """Show the leases of the neurons that run here: what, since when, how long yet, how far.

    They are asked over their control sockets. Inputs, outputs and messages are not shown.
    """
    which = Which(neuron_id, socket_path)
    if not (once or as_json) and sys.stdout is not None and sys.stdout.isatty():
        anyio.run(_show, which, backend=backend)
        return 0
    found = anyio.run(which.ask, backend=backend)
    if not found:
        raise Failure(which.nobody())
    click.echo(msgspec.json.format(msgspec.json.encode(found)).decode() if as_json else _plain(found))
    return 0


@click.command(epilog=example("neuron-anyio control pause --neuron-id worker-1"))
@apply(
    click.argument("action", type=click.Choice(["pause", "resume", "drain"])),
    NEURON,
    SOCKET,
    log_level("warning"),
    BACKEND,
)
def control(action: Method, neuron_id: str | None, socket_path: Path | None, backend: str) -> int:
    """Tell neurons that run here to start no more handlers, to start them again, or to drain and end.

    Exit code 1 when there is none.
    """
    which = Which(neuron_id, socket_path)
    found = anyio.run(which.ask, action, backend=backend)
    if not found:
        raise Failure(which.nobody())
    for status in found:
        click.echo(f"{status.neuron_id}: {action}")
    return 0


class Which(NamedTuple):
    """The neurons that are meant."""

    neuron_id: str | None
    path: Path | None

    async def ask(self, method: Method = "snapshot") -> list[Status]:
        """Return what each answers, by name; who has ended is left out, and who does not answer, with a warning.

        Raises:
            NeuronError: the one that was named by its socket does not answer.
        """
        if self.path is not None:
            return [await ask(self.path, method)]
        found: dict[Path, Status] = {}
        paths = sorted(control_folder().glob("*.sock"))
        async with anyio.create_task_group() as tasks:  # at once: one whose event loop does not turn costs seconds
            for path in paths:
                tasks.start_soon(self._ask_one, path, method, found)
        return [found[path] for path in paths if path in found]

    async def _ask_one(self, path: Path, method: Method, found: dict[Path, Status]) -> None:
        try:
            status = await ask(path)
            if self._means(status):
                found[path] = status if method == "snapshot" else await ask(path, method)
        except TransportError:
            pass  # what a killed neuron has left behind
        except NeuronError as exc:
            _log.warning("%s", exc, extra=named("control.no_answer"))

    def nobody(self) -> str:
        """Say that none was found."""
        name = "" if self.neuron_id is None else f" {self.neuron_id}"
        return f"no neuron{name} answers in {control_folder()}; start one with neuron-anyio run, or give --control PATH"

    def _means(self, status: Status) -> bool:
        mine = self.neuron_id
        return mine is None or re.fullmatch(rf"{re.escape(mine)}(-\d+)?", status.neuron_id) is not None


async def _show(which: Which) -> None:
    """Show a live table until SIGINT or SIGTERM."""
    found: list[Status] = await which.ask()

    async def keep_asking() -> None:
        while True:
            await anyio.sleep(EVERY)
            found[:] = await which.ask()

    with open_screen(lambda: _table(found, which)) as screen:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(screen.keep_fresh)
            tasks.start_soon(keep_asking)
            with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
                await anext(aiter(signals))
            tasks.cancel_scope.cancel()


def _rows(found: Sequence[Status]) -> list[tuple[str, ...]]:
    return [(status.neuron_id, *_cells(lease)) for status in found for lease in status.snapshot.leases]


def _cells(lease: LeaseState) -> tuple[str, ...]:
    left = "-" if lease.time_left is None else f"{lease.time_left:.1f} s"
    percent = "" if lease.percent is None else f"{lease.percent:.3g} %"
    return lease.lease_id, lease.capability, lease.task_id, lease.state, f"{lease.age:.1f} s", left, percent


def _lines(found: Sequence[Status]) -> list[str]:
    """Return a line for each neuron."""
    lines: list[str] = []
    for status in found:
        snapshot = status.snapshot
        how = "draining" if snapshot.draining else "paused" if snapshot.paused else snapshot.connection
        running = sum(each.running for each in snapshot.capabilities.values())
        queued = sum(each.queued for each in snapshot.capabilities.values())
        numbers = f"{running} running, {queued} queued, {snapshot.undelivered} undelivered"
        lines.append(f"{status.neuron_id} (process {status.pid}): {how}; {numbers}")
    return lines


def _plain(found: Sequence[Status]) -> str:
    """Return the table as text in columns, which programs can cut."""
    rows = [HEAD, *_rows(found)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    table = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([*_lines(found), *table])


def _table(found: Sequence[Status], which: Which) -> RenderableType:
    from rich.table import Table  # noqa: PLC0415 - needed on a terminal only
    from rich.text import Text  # noqa: PLC0415 - as above

    rows: list[Any] = _rows(found)
    more = [f"and {len(rows) - MOST_ROWS} more leases"] if len(rows) > MOST_ROWS else []
    caption = "\n".join([*more, *(_lines(found) or [which.nobody()])])
    table = Table(*HEAD, caption=Text(caption), caption_justify="left")
    for row in rows[:MOST_ROWS]:
        table.add_row(*map(Text, row))
    return table
