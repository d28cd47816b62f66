"""Where `dev` and `submit --wait` show what goes on: a live display on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol, TextIO

import anyio

from .board import Board

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.live import Live

__all__ = ["Screen", "board_view", "open_screen"]

REFRESH = 0.25
"""Seconds between two drawings of a live display: ages move on, and nobody reads faster."""

MOST_ROWS = 20
"""Leases in the table; more would scroll it off the terminal."""


class Screen(Protocol):
    """Where lines go.

    Attributes:
        is_live: a display shows the present, so that only what lasts needs a line.
    """

    is_live: bool

    def say(self, line: str) -> None:
        """Add a line."""
        ...

    async def keep_fresh(self) -> None:
        """Draw again and again until cancelled."""
        ...


class _Plain:
    """Lines as they come."""

    is_live = False

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def say(self, line: str) -> None:
        self._stream.write(line + "\n")
        self._stream.flush()

    async def keep_fresh(self) -> None:
        await anyio.sleep_forever()


class _Live:
    """A display that is drawn anew in place; lines go above it."""

    is_live = True

    def __init__(self, live: Live, view: Callable[[], RenderableType]) -> None:
        self._live = live
        self._view = view

    def say(self, line: str) -> None:
        self._live.console.print(line, markup=False, highlight=False)

    async def keep_fresh(self) -> None:
        while True:
            self._live.update(self._view(), refresh=True)
            await anyio.sleep(REFRESH)


@contextmanager
def open_screen(view: Callable[[], RenderableType], *, stderr: bool = False) -> Generator[Screen]:
    """Show on stdout (or stderr) while the block runs: live when it is a terminal that can, else in lines.

    Args:
        view: makes what a live display shows now.
        stderr: show there, and leave stdout to the result.
    """
    stream = sys.stderr if stderr else sys.stdout
    if not stream.isatty():
        yield _Plain(stream)
        return
    from rich.console import Console  # noqa: PLC0415 - 60 ms, and needed on a terminal only
    from rich.live import Live  # noqa: PLC0415 - as above

    console = Console(stderr=stderr)
    if console.is_dumb_terminal:
        yield _Plain(stream)
        return
    with Live(view(), console=console, auto_refresh=False, transient=True) as live:
        yield _Live(live, view)


def board_view(board: Board, now: float) -> RenderableType:
    """Return the board as a table."""
    from rich.table import Table  # noqa: PLC0415 - as above
    from rich.text import Text  # noqa: PLC0415 - as above

    caption = f"{len(board.rows)} running, {board.completed} completed, {board.failed} not completed"
    table = Table("lease", "capability", "age", "progress", caption=caption, caption_justify="left")
    for row in list(board.rows.values())[:MOST_ROWS]:
        table.add_row(Text(row.lease_id), Text(row.capability), f"{now - row.since:.1f} s", Text(row.progress))
    return table
