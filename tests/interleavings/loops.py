"""Loops that count their steps, in virtual time: the same program takes the same steps each time."""

from __future__ import annotations

import asyncio
import contextvars
import itertools
import random
import selectors
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal, TypeAlias, TypeVarTuple

import anyio
import pytest
import trio
from anyio import to_thread
from anyio._backends._asyncio import CancelScope
from trio.testing import MockClock

from neuron_anyio.processes import Processes
from tests.interleavings.awaits import Place, places_of

__all__ = ["Backend", "OnStep", "play", "suspended_in_asyncio", "suspended_in_trio"]

Ts = TypeVarTuple("Ts")

Backend: TypeAlias = Literal["asyncio", "trio"]

OnStep: TypeAlias = Callable[[int, Callable[[], set[Place]]], None]
"""Called after every step with its number, from 1 on, and with what tells where tasks are suspended now."""

WORK = 0.01
"""Seconds that a thread's or a process's work takes."""


def play(main: Callable[[], Awaitable[None]], *, backend: Backend, seed: int, on_step: OnStep) -> None:
    """Run a program to its end, one step after the other."""
    options: dict[str, Any]
    if backend == "trio":
        options = {"clock": MockClock(autojump_threshold=0), "instruments": [_TrioSteps(on_step)]}
    else:
        options = {"loop_factory": lambda: _Loop(on_step)}
    with _no_chance(seed):
        anyio.run(main, backend=backend, backend_options=options)


@contextmanager
def _no_chance(seed: int) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        # Threads and processes take real time, of which a clock that jumps takes no notice.
        patch.setattr(to_thread, "run_sync", _in_the_loop)
        patch.setattr(Processes, "run", _in_no_process)
        patch.setattr(trio._core._run, "_ALLOW_DETERMINISTIC_SCHEDULING", True)
        patch.setattr(CancelScope, "__hash__", lambda scope: hash(scope._host_task))
        before = random.getstate(), trio._core._run._r.getstate()
        random.seed(seed)
        trio._core._run._r.seed(seed)
        try:
            yield
        finally:
            random.setstate(before[0])
            trio._core._run._r.setstate(before[1])


async def _in_the_loop(
    function: Callable[..., Any],
    *arguments: Any,
    abandon_on_cancel: bool = False,
    limiter: anyio.CapacityLimiter | None = None,
) -> Any:
    """Do a thread's work at the end of the time that it takes."""
    await anyio.lowlevel.checkpoint_if_cancelled()
    with anyio.CancelScope(shield=not abandon_on_cancel):
        await anyio.sleep(WORK)
    return function(*arguments)


async def _in_no_process(_: Processes, function: Callable[..., Any], value: Any) -> Any:
    return await _in_the_loop(function, value, abandon_on_cancel=True)


# ---- trio


class _TrioSteps(trio.abc.Instrument):
    def __init__(self, on_step: OnStep) -> None:
        self._on_step = on_step
        self._count = 0

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        self._count += 1
        self._on_step(self._count, suspended_in_trio)


def suspended_in_trio() -> set[Place]:
    root = trio.lowlevel.current_root_task()
    assert root is not None
    return places_of(task.coro for task in _below(root))


def _below(task: trio.lowlevel.Task) -> Iterator[trio.lowlevel.Task]:
    for nursery in task.child_nurseries:
        for child in nursery.child_tasks:
            yield child
            yield from _below(child)


# ---- asyncio


class _Jumping(selectors.DefaultSelector):
    """Jumps to the time until which a loop would wait, where nothing else could wake it."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise AssertionError("everybody waits for something that never comes")
        ready = super().select(0)
        if not ready:
            self.now += max(0.0, timeout)
        return ready


class _Task(asyncio.Task[Any]):
    """A task whose place in a set does not depend on where it lies in memory."""

    def __init__(self, *args: Any, serial: int, **options: Any) -> None:
        self._serial = serial
        super().__init__(*args, **options)

    def __hash__(self) -> int:
        return self._serial


class _Loop(asyncio.SelectorEventLoop):
    """A step is one callback; a task's step is one."""

    def __init__(self, on_step: OnStep) -> None:
        self._jumping = _Jumping()
        super().__init__(self._jumping)
        self._on_step = on_step
        self._count = 0
        self._tasks = itertools.count()
        self.set_task_factory(self._task)

    def _task(self, loop: asyncio.AbstractEventLoop, coro: Any, **options: Any) -> asyncio.Task[Any]:
        return _Task(coro, loop=loop, serial=next(self._tasks), **options)

    def time(self) -> float:
        return self._jumping.now

    def call_soon(
        self, callback: Callable[[*Ts], object], *args: *Ts, context: contextvars.Context | None = None
    ) -> asyncio.Handle:
        def step() -> None:
            callback(*args)
            self._count += 1
            self._on_step(self._count, suspended_in_asyncio)

        return super().call_soon(step, context=context)


def suspended_in_asyncio() -> set[Place]:
    return places_of(task.get_coro() for task in asyncio.all_tasks())
