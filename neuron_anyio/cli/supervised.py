"""How `run` serves through other processes: which way, and what does not go together."""

from __future__ import annotations

from typing import Any

import anyio
import click

from neuron_anyio.health import probe_address

from .loading import watched_folder
from .problems import Wrong
from .reload import checked_reload, run_reloading
from .supervise import run_processes

__all__ = ["supervise"]

LAST_PORT = 65535


def supervise(module: str, backend: str, *, is_stdio: bool, **options: Any) -> int:
    """Start the processes that serve, and stay with them; return the exit code.

    Raises:
        Wrong: the options do not go together.
    """
    arguments: list[str] = click.get_current_context().obj
    number, burst, health = options["processes"], options["burst"], options["health"]
    if is_stdio:
        raise Wrong("stdio: is one stream for one process; leave out --reload and --processes")
    if options["reload"]:
        if number > 1 or burst is not None:
            raise Wrong("--reload goes with neither --processes nor --burst; leave out one of them")
        checked_reload()
        folder = watched_folder(module)
        return anyio.run(lambda: run_reloading(arguments, folder, drain=options["drain"]), backend=backend)
    if health is not None and probe_address(health)[1] + number > LAST_PORT:
        raise Wrong(f"--health: with {number} processes the port must be at most {LAST_PORT - number}")
    return anyio.run(
        lambda: run_processes(arguments, number, drain=options["drain"], health=health, restart_done=burst is None),
        backend=backend,
    )
