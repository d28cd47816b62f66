"""What `run` runs beside a neuron: its control socket, and the watch for its being idle."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Callable
from typing import NamedTuple

import anyio
from anyio.abc import TaskGroup, TaskStatus

from neuron_anyio.control import control_path, own_folder, serve_control
from neuron_anyio.errors import NeuronError
from neuron_anyio.logs import named
from neuron_anyio.neuron import Neuron, Opening
from neuron_anyio.serve import serve_opening
from neuron_anyio.taskgroups import body_task_group

from .idle import end_when_idle

__all__ = ["Beside", "serve_with"]

_log = logging.getLogger("neuron_anyio")


class Beside(NamedTuple):
    """What goes on beside a neuron.

    Attributes:
        health: address for probes, or None.
        control: path of its socket, None for the usual place, `"off"` for none.
        burst: seconds without work after which it ends, or None.
    """

    health: str | None
    control: str | None
    burst: float | None


async def serve_with(opening: Opening, beside: Beside) -> int:
    """Serve until a signal or a word to end; return the exit code."""
    neuron = opening.neuron
    asked = anyio.Event()

    def end() -> None:
        """Ask for the drain as a signal does, once: a second one would mean now."""
        if not asked.is_set() and not neuron.snapshot().draining:
            asked.set()
            os.kill(os.getpid(), signal.SIGTERM)

    async with body_task_group() as tasks:
        if beside.control != "off":
            await _listen(tasks, neuron, beside.control, end)
        if beside.burst is not None:
            tasks.start_soon(end_when_idle, neuron, beside.burst, end)
        code = await serve_opening(opening, health=beside.health)
        tasks.cancel_scope.cancel()
    return code


async def _listen(tasks: TaskGroup, neuron: Neuron, path: str | None, end: Callable[[], None]) -> None:
    """Open the control socket; where none was asked for, the neuron does without."""

    async def serve(*, task_status: TaskStatus[None]) -> None:
        where = control_path(neuron.neuron_id) if path is None else path
        await serve_control(neuron, where, drain=end, task_status=task_status)

    try:
        if path is None:
            own_folder()
        await tasks.start(serve)
    except OSError as exc:
        reason = exc.strerror or str(exc)
        if path is not None:
            raise NeuronError(f"cannot listen at {path}: {reason}; give --control another path") from None
        _log.info("no control socket: %s", reason, extra=named("control.unavailable"))
