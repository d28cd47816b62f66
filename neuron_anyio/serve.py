"""A neuron as a whole program: signals, and exit codes (promise D4)."""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import AsyncIterator
from typing import NoReturn, Unpack

import anyio

from .errors import NeuronError
from .health import watched
from .neuron import Gateway, Neuron, NeuronOptions, Opening, open_neuron
from .taskgroups import body_task_group

__all__ = ["EXIT_FATAL", "EXIT_OK", "EXIT_UNDELIVERED", "EXIT_USAGE", "serve", "serve_opening"]

EXIT_OK = 0
EXIT_FATAL = 1
EXIT_USAGE = 2
EXIT_UNDELIVERED = 3
HELD = 0.5
"""Seconds after the last word in which the block is left, unless a handler holds it."""

FORCED = 128
"""Added to the signal's number: 130 for SIGINT, 143 for SIGTERM."""


class _Signals:
    """Counts signals: the first asks to drain, the second means now, the third ends the process.

    Before the neuron has been accepted there is nothing to drain, and the first ends the attempt.
    """

    def __init__(self) -> None:
        self.drain = anyio.Event()
        self.entered = False
        self.forced: int | None = None
        self._scope = anyio.CancelScope()

    @property
    def scope(self) -> anyio.CancelScope:
        """What the second signal cancels."""
        return self._scope

    async def watch(self, signals: AsyncIterator[signal.Signals]) -> None:
        """Follow the signals until cancelled."""
        async for number in signals:
            if not self.drain.is_set():
                self.drain.set()
                if not self.entered:
                    self._scope.cancel()
            elif self.forced is None:
                self.forced = FORCED + number
                self._scope.cancel()
            else:
                sys.stderr.flush()
                os._exit(FORCED + number)


async def serve(gateway: Gateway, *, health: int | str | None = None, **options: Unpack[NeuronOptions]) -> int:
    """Run a neuron until SIGTERM or SIGINT, drain, and return the exit code.

    Takes what `open_neuron` takes. A fatal error is printed as one line on stderr. A service manager that listens at
    `NOTIFY_SOCKET` is told when the neuron is ready, how it stands and when it stops, and its watchdog is fed.

    Args:
        gateway: as for `open_neuron`.
        health: port, or `"HOST:PORT"`, for the probes `/startupz`, `/livez`, `/readyz` and for `/metrics`.
        options: as for `open_neuron`.

    Returns:
        0 everything settled or given back; 1 fatal error; 3 results undelivered, in the journal or lost; 130 or 143
        forced by a second signal.

    Raises:
        ValueError, TypeError: an argument is wrong.
    """
    return await serve_opening(open_neuron(gateway, **options), health=health)


async def serve_opening(opening: Opening, *, health: int | str | None = None) -> int:
    """Do what `serve` does with what `open_neuron` has returned, for who needs the neuron beside it."""
    signals = _Signals()
    neuron = opening.neuron
    try:
        with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as received:
            async with body_task_group() as group:
                group.start_soon(signals.watch, received)
                group.start_soon(_end_held_process, neuron, signals)
                with signals.scope:
                    async with watched(neuron, probes=health), opening:
                        signals.entered = True
                        await signals.drain.wait()
                group.cancel_scope.cancel()
    except NeuronError as exc:
        code = _fatal(exc)
    else:
        code = _code(neuron, signals)
    if neuron.snapshot().left_behind:
        _end_process(code, neuron)
    return code


def _code(neuron: Neuron, signals: _Signals) -> int:
    if signals.forced is not None:
        return signals.forced
    if not (left := neuron.snapshot().undelivered):
        return EXIT_OK
    recorded = neuron.snapshot().recorded
    fate = ", ".join(
        text
        for number, text in (
            (recorded, f"{recorded} are in the journal, and the next start delivers them"),
            (left - recorded, f"{left - recorded} are lost"),
        )
        if number
    )
    print(f"{left} results were not delivered: {fate}", file=sys.stderr)  # noqa: T201 - the last word
    return EXIT_UNDELIVERED


async def _end_held_process(neuron: Neuron, signals: _Signals) -> None:
    """End the process when all is said and a handler still holds the block (promise D2)."""
    error = await neuron.wait_ended()
    await anyio.sleep(HELD)
    if not neuron.snapshot().left_behind:
        return  # what holds the block is the journal's last write, or the user's own lifespan
    _end_process(_code(neuron, signals) if error is None else _fatal(error), neuron)


def _end_process(code: int, neuron: Neuron) -> NoReturn:
    """End the process without asking the threads and tasks that do not end: they would be waited for, for ever."""
    number = neuron.snapshot().left_behind
    print(f"{number} handlers did not end and are left behind", file=sys.stderr)  # noqa: T201 - the last word
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _fatal(error: NeuronError) -> int:
    print(f"error: {error}", file=sys.stderr)  # noqa: T201 - the program's last word
    return EXIT_FATAL
