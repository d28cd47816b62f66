"""A neuron inside a trio program: one thing among others, stopped by an event of the program's own.

Start it with `python examples/embed_trio.py http://127.0.0.1:8787`; Ctrl-C stops it.
"""

from __future__ import annotations

import signal
import sys

import trio

from neuron_anyio import LeaseContext, Neuron, capability, open_neuron

__all__ = ["count_words", "program"]


@capability("examples/text.count", concurrency=4)
async def count_words(text: str, ctx: LeaseContext) -> dict[str, int]:
    """Count how often each word occurs; trio is at hand as everywhere in the program."""
    counts: dict[str, int] = {}
    words = text.split()
    for done, word in enumerate(words, start=1):
        counts[word] = counts.get(word, 0) + 1
        ctx.progress(percent=100 * done / len(words))
        await trio.lowlevel.checkpoint()
    return counts


async def program(gateway: str, stop: trio.Event, *, neuron_id: str = "embed-trio") -> None:
    """Do the program's own work, and tasks of the gateway, until `stop` is set."""
    async with trio.open_nursery() as nursery:
        async with open_neuron(gateway, neuron_id=neuron_id, capabilities=[count_words]) as neuron:
            nursery.start_soon(report, neuron)
            await stop.wait()
        # Here the neuron has drained: no handler runs, every result is delivered.
        nursery.cancel_scope.cancel()


async def report(neuron: Neuron) -> None:
    """Stand in for the program's own work: say what each lease came to."""
    with neuron.events() as events:
        async for event in events:
            print(event, flush=True)


async def watch_signals(stop: trio.Event) -> None:
    """Set the event on the first SIGINT or SIGTERM; the second one does what it always does."""
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async for _ in signals:
            stop.set()
            return


async def main(gateway: str) -> None:
    """Run until a signal."""
    stop = trio.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch_signals, stop)
        await program(gateway, stop)
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    trio.run(main, sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8787")
