"""`run --burst`: an end of its own for a neuron that has nothing to do."""

from __future__ import annotations

from collections.abc import Callable

import anyio

from neuron_anyio import events
from neuron_anyio.neuron import Neuron

__all__ = ["end_when_idle"]

LIFE = (events.Registered, events.Disconnected, events.LeaseAdmitted, events.LeaseSettled, events.ResultAccepted)
"""After each of these the wait begins anew."""

TICK = 0.05
"""Seconds that a wait has at least."""


async def end_when_idle(neuron: Neuron, patience: float, end: Callable[[], None]) -> None:
    """Call `end` when a neuron was registered and held no lease and no result for so many seconds.

    Args:
        neuron: the neuron, perhaps not yet registered.
        patience: seconds.
        end: asks for the drain.
    """
    quiet_since = anyio.current_time()
    with neuron.events() as stream:
        while True:
            with anyio.move_on_at(max(quiet_since + patience, anyio.current_time() + TICK)) as waited:
                try:
                    event = await stream.receive()
                except anyio.EndOfStream:
                    return
                if isinstance(event, LIFE):
                    quiet_since = anyio.current_time()
            if waited.cancelled_caught and _is_idle(neuron):
                end()
                return
            if waited.cancelled_caught:
                quiet_since = anyio.current_time()


def _is_idle(neuron: Neuron) -> bool:
    snapshot = neuron.snapshot()
    return snapshot.connection == "registered" and not snapshot.leases and not snapshot.undelivered
