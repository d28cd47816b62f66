"""`run --processes`: several processes that serve, and one without handlers that keeps them running."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import AsyncExitStack

import anyio

from neuron_anyio.backoff import Backoff
from neuron_anyio.health import Report, ServiceManager, answered
from neuron_anyio.logs import named
from neuron_anyio.serve import EXIT_FATAL, EXIT_OK, EXIT_USAGE

from .children import Child, Stop

__all__ = ["run_processes"]

RESTART = Backoff(initial=0.5, maximum=30.0)

STEADY = 60.0
"""Seconds after which a process counts as having run well, and the wait before its restart is short again."""

EVERY = 0.5
"""Seconds between reports to the service manager."""

OK, NOT_FOUND, UNAVAILABLE = 200, 404, 503

_log = logging.getLogger("neuron_anyio")


async def run_processes(
    arguments: Sequence[str], number: int, *, drain: float, health: str | None, restart_done: bool
) -> int:
    """Keep so many processes running until a signal, and let them drain.

    Args:
        arguments: of the command line.
        number: how many.
        drain: seconds that they have to finish.
        health: address for the probes of all together.
        restart_done: whether one that ends by itself with exit code 0 is started again.

    Returns:
        The highest of their last exit codes; 130 or 143 after a second signal.

    Raises:
        NeuronError: nobody can answer at `health`.
    """
    return await _Supervisor(arguments, number, drain=drain, restart_done=restart_done).run(health)


class _Slot:
    """One of the processes, and those that came after it."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.child: Child | None = None
        self.code = EXIT_OK


class _Supervisor:
    def __init__(self, arguments: Sequence[str], number: int, *, drain: float, restart_done: bool) -> None:
        self._arguments = arguments
        self._drain = drain
        self._restart_done = restart_done
        self._slots = [_Slot(each) for each in range(1, number + 1)]
        self._started = False
        self._stop = Stop(lambda: [slot.child for slot in self._slots if slot.child is not None])

    async def run(self, health: str | None) -> int:
        async with AsyncExitStack() as stack:
            if health is not None:
                await stack.enter_async_context(answered(self.answer, health))
            tasks = await stack.enter_async_context(anyio.create_task_group())
            tasks.start_soon(self._stop.watch, self._drain)
            tasks.start_soon(self._report)
            async with anyio.create_task_group() as keepers:
                for slot in self._slots:
                    keepers.start_soon(self._keep, slot)
            tasks.cancel_scope.cancel()
        return self._stop.code(max(slot.code for slot in self._slots))

    async def _keep(self, slot: _Slot) -> None:
        failures = 0
        while not self._stop.asked.is_set():
            slot.child = Child(self._arguments, number=slot.number)
            began = anyio.current_time()
            try:
                slot.code = await slot.child.run()
            except OSError:  # no memory or no process left: as if it had ended at once
                slot.code = EXIT_FATAL
            slot.child = None
            if self._stop.asked.is_set() or not self._comes_again(slot):
                return
            failures = 0 if anyio.current_time() - began > STEADY else failures + 1
            delay = RESTART.ceiling(max(0, failures - 1))
            text = "process %d ended with exit code %d; it is started again in %.1f s"
            line = named("child.restarting", number=slot.number, code=slot.code, delay=delay)
            _log.warning(text, slot.number, slot.code, delay, extra=line)
            with anyio.move_on_after(delay):
                await self._stop.asked.wait()

    def _comes_again(self, slot: _Slot) -> bool:
        if slot.code == EXIT_USAGE:
            text = "process %d ended with exit code %d, which trying again does not mend"
            line = named("child.given_up", number=slot.number, code=slot.code)
            _log.error(text, slot.number, slot.code, extra=line)
            return False
        return self._restart_done or slot.code != EXIT_OK

    # How they stand

    def answer(self, path: str) -> tuple[int, str]:
        """Answer a probe, in any thread. The metrics are the processes' own."""
        ready = self._not_ready()
        probes = {
            "/startupz": (OK, "started") if self._started else (UNAVAILABLE, ready),
            "/livez": (OK, "alive"),
            "/readyz": (UNAVAILABLE, ready) if ready else (OK, "ready"),
        }
        return probes.get(
            path, (NOT_FOUND, f"there are {', '.join(probes)}; each process answers at a port of its own")
        )

    def _not_ready(self) -> str:
        if self._stop.asked.is_set():
            return "draining"
        ready = sum(slot.child is not None and slot.child.is_ready for slot in self._slots)
        return "" if ready == len(self._slots) else f"{ready} of {len(self._slots)} processes are ready"

    async def _report(self) -> None:
        manager = ServiceManager()
        while True:
            not_ready = self._not_ready()
            self._started = self._started or not not_ready
            draining = self._stop.asked.is_set()
            status = not_ready or f"{len(self._slots)} processes are ready"
            manager.tell(Report(started=self._started, draining=draining, not_ready=not_ready, status=status))
            with anyio.move_on_after(EVERY):
                await (anyio.sleep_forever() if draining else self._stop.asked.wait())
