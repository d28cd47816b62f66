"""What goes wrong on a command line, as one line on stderr and an exit code (promise D4)."""

from __future__ import annotations

import click

__all__ = ["Failure", "Wrong", "one_line"]

LONGEST = 600
"""Characters of a message: some lines of a terminal, not a page."""


class Wrong(click.ClickException):
    """The command, its environment or the module that it names is wrong. Nothing was started; exit code 2."""

    exit_code = 2


class Failure(click.ClickException):
    """The command was right, and what it was to do failed. Exit code 1."""

    exit_code = 1


def one_line(text: object) -> str:
    """Return a message as one line of bearable length."""
    line = " ".join(str(text).split())
    return line if len(line) <= LONGEST else line[: LONGEST - 1] + "…"
