"""Handlers that do not end when they are told to, each in its own way."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import anyio
import msgspec

from neuron_anyio import Capability, LeaseContext, capability

__all__ = ["STUBBORN", "Stubborn"]

SHIELDED = 0.6
"""Seconds for which a shielded handler holds the neuron's block; what else it does is bounded by the grace."""


class Stubborn(msgspec.Struct, frozen=True):
    """One kind.

    Attributes:
        make: makes the capability; a run calls the first argument when it ends, which it does once the second is set.
        ends: it does end within the grace, so that nobody has to leave it behind.
        holds: seconds that the block waits for it beyond the budget.
        stays: a thread, which nothing can end; it is left behind, and counted.
        tells: it makes the file that its input names once it runs; a thread or a process takes its time to start.
    """

    make: Callable[[Callable[[], None], threading.Event], Capability[..., Any]]
    ends: bool = False
    holds: float = 0.0
    stays: bool = False
    tells: bool = False


def swallows(ended: Callable[[], None], free: threading.Event) -> Capability[..., Any]:
    async def handler(_: Any) -> None:
        try:
            while not free.is_set():
                try:
                    await anyio.sleep(0.001)
                except anyio.get_cancelled_exc_class():
                    continue
        finally:
            ended()

    return capability("test/stubborn")(handler)


def shields(ended: Callable[[], None], free: threading.Event) -> Capability[..., Any]:
    async def handler(_: Any) -> None:
        with anyio.move_on_after(SHIELDED, shield=True):
            await anyio.sleep_forever()
        ended()

    return capability("test/stubborn")(handler)


def sleeps_in_a_thread(ended: Callable[[], None], free: threading.Event) -> Capability[..., Any]:
    def handler(started: str) -> None:
        Path(started).touch()
        free.wait(30)
        ended()

    return capability("test/stubborn")(handler)


def blocks_in_a_c_call(ended: Callable[[], None], free: threading.Event) -> Capability[..., Any]:
    def handler(started: str) -> None:
        Path(started).touch()
        while not free.is_set():
            time.sleep(0.8)
        ended()

    return capability("test/stubborn")(handler)


def polls(ended: Callable[[], None], free: threading.Event) -> Capability[..., Any]:
    def handler(_: Any, ctx: LeaseContext) -> None:
        try:
            while not free.wait(0.001):
                ctx.check_cancelled()
        finally:
            ended()

    return capability("test/stubborn")(handler)


def polls_and_swallows(ended: Callable[[], None], free: threading.Event) -> Capability[..., Any]:
    def handler(started: str, ctx: LeaseContext) -> None:
        Path(started).touch()
        while not free.wait(0.01):
            try:
                ctx.check_cancelled()
            except BaseException:  # what no handler should do is what this one is for
                continue
        ended()

    return capability("test/stubborn")(handler)


def sleep_for_long(started: str) -> None:
    Path(started).touch()
    time.sleep(60)


def runs_in_a_process(ended: Callable[[], None], free: threading.Event) -> Capability[..., Any]:
    return capability("test/stubborn", runs="process")(sleep_for_long)


def is_made_of_a_generator(ended: Callable[[], None], free: threading.Event) -> Capability[..., Any]:
    class Steps:
        def __await__(self) -> Generator[Any, Any, None]:
            try:
                while not free.is_set():
                    try:
                        yield from anyio.sleep(0.001).__await__()
                    except anyio.get_cancelled_exc_class():
                        continue
            finally:
                ended()

    def handler(_: Any) -> Any:
        return Steps()

    return capability("test/stubborn")(handler)


def waits_for_its_children(ended: Callable[[], None], free: threading.Event) -> Capability[..., Any]:
    async def handler(_: Any) -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(anyio.sleep_forever)
            try:
                while not free.is_set():
                    try:
                        await anyio.sleep(0.001)
                    except anyio.get_cancelled_exc_class():
                        continue
            finally:
                ended()

    return capability("test/stubborn")(handler)


STUBBORN = {
    "swallows": Stubborn(swallows),
    "shields": Stubborn(shields, holds=SHIELDED),
    "sleeps_in_a_thread": Stubborn(sleeps_in_a_thread, stays=True, tells=True),
    "blocks_in_a_c_call": Stubborn(blocks_in_a_c_call, stays=True, tells=True),
    "polls": Stubborn(polls, ends=True),
    "polls_and_swallows": Stubborn(polls_and_swallows, stays=True, tells=True),
    "runs_in_a_process": Stubborn(runs_in_a_process, ends=True, tells=True),
    "is_made_of_a_generator": Stubborn(is_made_of_a_generator),
    "waits_for_its_children": Stubborn(waits_for_its_children),
}
