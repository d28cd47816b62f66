"""Options of `run` about how it serves, and what becomes of their values in one of several processes."""

from __future__ import annotations

from typing import Any, NamedTuple, overload

import click

from neuron_anyio.health import probe_address

from .options import Option, Seconds, Whole, checked_health

__all__ = ["SERVING", "Child", "health_of", "numbered"]

MOST_PROCESSES = 1_000
"""Far more than a machine has cores."""

IDLE = 5
"""Seconds; a gateway hands out what waits within one."""


class Child(NamedTuple):
    """What the process that starts another one tells it.

    Attributes:
        number: 1 for the first of several, 0 where there is one.
        fd: the socket between the two.
    """

    number: int
    fd: int


def _child(ctx: click.Context, param: click.Parameter, value: str | None) -> Child | None:
    if value is None:
        return None
    number, _, fd = value.partition(":")
    if not number.isdecimal() or not fd.isdecimal():
        raise click.BadParameter("it is for this program's own use", ctx, param)
    return Child(int(number), int(fd))


SERVING: tuple[Option[Any], ...] = (
    click.option(
        "--journal",
        metavar="FILE",
        type=click.Path(dir_okay=False),
        help="Keep results here until the gateway has taken them, over a crash of this process. One file per neuron "
        "id.",
    ),
    click.option(
        "--health",
        metavar="[HOST:]PORT",
        callback=checked_health,
        help="Answer /startupz, /livez, /readyz and /metrics here. With --processes: for all together, and for each at "
        "PORT+1 and so on.",
    ),
    click.option(
        "--control",
        metavar="PATH|off",
        show_default="by neuron id, in the user's folder",
        help="Socket for `top` and `control`.",
    ),
    click.option(
        "--burst",
        type=Seconds(),
        is_flag=False,
        flag_value=str(IDLE),
        metavar="[SECONDS]",
        help=f"Drain and end when there was nothing to do for so long; {IDLE} without a number. Give it after MODULE, "
        "or as --burst=SECONDS.",
    ),
    click.option("--reload", is_flag=True, help="For development: start again, drained, when a Python file changes."),
    click.option(
        "--processes",
        type=Whole(1, MOST_PROCESSES),
        default=1,
        show_default=True,
        metavar="N",
        help="How many processes serve.",
    ),
    click.option("--child", hidden=True, callback=_child),
)


@overload
def numbered(name: str, number: int) -> str: ...
@overload
def numbered(name: str | None, number: int) -> str | None: ...
def numbered(name: str | None, number: int) -> str | None:
    """Return the name for one of several processes: `NAME-1`."""
    return f"{name}-{number}" if name and number else name


def health_of(address: str | None, number: int) -> str | None:
    """Return the address for the probes of one of several processes: the port moves on by its number."""
    if address is None or not number:
        return address
    host, port = probe_address(address)
    return f"{host}:{port and port + number}"
