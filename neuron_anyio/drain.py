"""How a neuron ends: with patience (promise D1) or now (promise D3)."""

from __future__ import annotations

from anyio import CancelScope

from .engine import Engine
from .model import CancelReason

__all__ = ["LAST_WORDS", "drain", "flush", "stop_now"]

LAST_WORDS = 2.0
"""Seconds that a cancelled neuron takes to say what was cut (promise D3)."""

TAIL = 0.2
"""Part of the drain budget that is kept for cancelled handlers and deliveries (promise D1)."""

LONGEST_TAIL = 5.0


async def drain(engine: Engine, deadline: float) -> None:
    """Finish what runs, deliver it, and cut what takes too long (promise D1).

    Args:
        engine: the neuron's engine.
        deadline: when all of it has to be over, in the loop's clock.
    """
    tail = min(LONGEST_TAIL, TAIL * max(0.0, deadline - engine.clock()))
    if not engine.ledger.closed:
        engine.close()
    with CancelScope(deadline=deadline - tail):
        await engine.wait_idle()
    await _cut(engine, until=deadline - tail / 2)
    await flush(engine, deadline)


async def stop_now(engine: Engine) -> None:
    """Cancel what runs and say as many last words as fit: running leases first (promise D3)."""
    deadline = engine.clock() + LAST_WORDS
    queued = engine.close(quietly=True)
    await _cut(engine, until=deadline - LAST_WORDS / 2)
    engine.give_back(queued)
    await flush(engine, deadline)


async def flush(engine: Engine, deadline: float) -> None:
    """Send at once what still waits, and wait until it is taken, at most until `deadline`."""
    engine.courier.hurry()
    with CancelScope(deadline=deadline):
        await engine.courier.wait_sent()


async def _cut(engine: Engine, *, until: float) -> None:
    if not engine.ledger.slots.running:
        return
    begun = engine.clock()
    engine.stop_all(CancelReason.SHUTDOWN)
    with CancelScope(deadline=until):
        await engine.wait_idle()
    if engine.ledger.slots.running:
        engine.abandon_all(engine.clock() - begun)
