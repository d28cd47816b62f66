"""A cancellation, or another blow, at every step of a neuron's life: nothing is lost, left or late (D3, D5).

A rehearsal notes at which awaits tasks are suspended after each step; every later run is the same up to its blow. The
ordinary suite takes a part of the steps: those that have every await among them for a cancellation, and some evenly for
every kind of blow. `INTERLEAVINGS=all` takes every step, and `INTERLEAVINGS_SEED=2` another order of the tasks on trio.
"""

from __future__ import annotations

import functools
import gc
import itertools
import math
import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import anyio
import pytest

from neuron_anyio import TransportError
from tests.interleavings.awaits import Place, places_in, shown
from tests.interleavings.life import DRAIN, Life
from tests.interleavings.loops import Backend, play
from tests.pure.books import check_book

pytestmark = pytest.mark.thorough

ALL = os.environ.get("INTERLEAVINGS") == "all"
SAMPLES = 16
"""Steps, evenly over a life, at which each kind of blow falls in the ordinary suite."""

SEED = int(os.environ.get("INTERLEAVINGS_SEED", "1"))
LONGEST = 10.0
"""Virtual seconds that no life may take."""

FILES = (
    *(
        "neuron.py",
        "supervisor.py",
        "drain.py",
        "engine.py",
        "executor.py",
        "driven.py",
        "lanes.py",
        "delivery.py",
        "source.py",
    ),
    *("deadlines.py", "context.py", "journal.py", "recorder.py", "wakeup.py", "taskgroups.py"),
    *("brokers/bigbrain.py", "transports/memory.py"),
)

EXCUSED = {
    "lanes.py: await anyio.lowlevel.checkpoint()": (
        "suspended only after a cancellation that no scope asked for; tests of promise L11.5 bring it about"
    ),
    "journal.py: await self.put(key, value).wait()": "for those who wait at once; the neuron keeps the ticket",
    "supervisor.py: await self._live_with(life)": "with a journal; this life has none",
    "supervisor.py: await self._live_with(life, opened + 1)": "with several brokers; this life has one",
    "supervisor.py: await engine.executor.processes.aclose()  # noqa: ASYNC102 - it shields itself, for two seconds": (
        "no handler of this life runs in a process"
    ),
}
"""Awaits at which no task of this life is ever suspended, each with its reason."""


class Blow(NamedTuple):
    """What happens to a life at one step.

    Attributes:
        strike: does it; is told the step.
        within: seconds in which the neuron must have ended, from the blow on.
        takes_all: everything that was read must be answered in the end.
    """

    strike: Callable[[Life, int], None]
    within: float = LONGEST
    takes_all: bool = True


def _cancel(life: Life, step: int) -> None:
    life.scope.cancel()


def _cancel_in_silence(life: Life, step: int) -> None:
    life.gateway.silent = True
    life.scope.cancel()


def _call_off(life: Life, step: int) -> None:
    sent = life.gateway.sent or ["work1"]
    life.gateway.cancel(sent[step % len(sent)])


def _leave(life: Life, step: int) -> None:
    life.leave.set()


def _break(life: Life, step: int) -> None:
    life.gateway.break_stream(TransportError("broken") if step % 2 else None)


def _raise(life: Life, step: int) -> None:
    life.error = ZeroDivisionError("the body's own")
    life.leave.set()


def _kill(life: Life, step: int) -> None:
    life.kill()


def _end_for_good(life: Life, step: int) -> None:
    life.gateway.disconnect()


LAST_WORDS = 2.0
"""Seconds that promise D3 gives to the last words."""

A_LITTLE = 0.2
"""Seconds for what is not waited for on purpose: roads, clean-up."""

BLOWS: Mapping[str, Blow] = {
    "cancel": Blow(_cancel, within=LAST_WORDS + A_LITTLE),
    "cancel in silence": Blow(_cancel_in_silence, within=LAST_WORDS + A_LITTLE, takes_all=False),
    "call off": Blow(_call_off),
    "leave": Blow(_leave, within=2 * DRAIN + A_LITTLE),
    "break": Blow(_break),
    "raise": Blow(_raise, within=2 * DRAIN + A_LITTLE),  # or it drains already
    "kill": Blow(_kill, within=LAST_WORDS + A_LITTLE),  # asyncio has a cancellation of its own
    "end for good": Blow(_end_for_good, within=2 * DRAIN + A_LITTLE),
}


class Story(NamedTuple):
    """A life that can be lived again and again, the same each time."""

    backend: Backend
    is_cut: bool

    def __str__(self) -> str:
        return f"{self.backend}-{'cut' if self.is_cut else 'drained'}"

    def live(self, on_step: Callable[[Life, int, Callable[[], set[Place]]], None]) -> Life:
        lives: list[Life] = []

        async def main() -> None:
            lives.append(Life(Path(folder) / "journal", is_cut=self.is_cut))
            with anyio.fail_after(LONGEST):
                await lives[0].main()

        def step(number: int, suspended: Callable[[], set[Place]]) -> None:
            if lives and not lives[0].is_over:
                on_step(lives[0], number, suspended)

        with tempfile.TemporaryDirectory() as folder:
            play(main, backend=self.backend, seed=SEED, on_step=step)
        return lives[0]


@functools.cache
def rehearsal(story: Story) -> dict[int, frozenset[Place]]:
    """Return the places at which tasks are suspended, by step."""
    places: dict[int, frozenset[Place]] = {}

    def note(life: Life, step: int, suspended: Callable[[], set[Place]]) -> None:
        places[step] = frozenset(suspended())

    life = story.live(note)
    assert not life.pending
    assert {lease_id for lease_id in life.gateway.sent if "+" not in lease_id} <= life.gateway.read, "a whole life"
    return places


def chosen(story: Story, kind: str) -> list[int]:
    """Return the steps at which a kind of blow falls; those of a cancellation have all places among them."""
    places = rehearsal(story)
    steps = list(places)
    if ALL:
        return steps
    stride = len(steps) // SAMPLES
    evenly = set(steps[list(BLOWS).index(kind) * stride // len(BLOWS) :: stride])
    return sorted(evenly | _covering(places) if kind == "cancel" else evenly)


def _covering(places: Mapping[int, frozenset[Place]]) -> set[int]:
    steps: set[int] = set()
    missing = set[Place]().union(*places.values())
    while missing:
        best = max(places, key=lambda step: len(places[step] & missing))
        steps.add(best)
        missing -= places[best]
    return steps


def strike(story: Story, blow: Blow, at: int) -> None:
    """Live once with a blow, and check that it could not harm."""
    struck_at = math.inf

    def on_step(life: Life, step: int, suspended: Callable[[], set[Place]]) -> None:
        nonlocal struck_at
        if step == at:
            assert suspended() == rehearsal(story)[step], "the same life up to here"
            if life.engine is not None:
                check_book(life.engine.ledger)
            struck_at = anyio.current_time()
            blow.strike(life, step)

    life = story.live(on_step)
    assert struck_at < math.inf
    assert life.ended_at - struck_at <= blow.within, "D3: the end is not held up"
    if blow.takes_all:
        assert not life.pending, "nobody was in the way: everything is answered"


def stories() -> list[Story]:
    return [Story(backend, is_cut) for backend in ("trio", "asyncio") for is_cut in (False, True)]


@pytest.mark.timeout(600 if ALL else 60)
@pytest.mark.parametrize(
    ("story", "kind"),
    [(story, kind) for story in stories() for kind in BLOWS if kind != "kill" or story.backend == "asyncio"],
    ids=str,
)
def test_D3_a_blow_at_any_step_loses_nothing_and_holds_nothing_up(story: Story, kind: str) -> None:
    for step in chosen(story, kind):
        try:
            strike(story, BLOWS[kind], step)
        except Exception as exc:
            exc.add_note(f"{kind} at step {step} of {story}")
            raise
    gc.collect()  # what was left unawaited or open warns now


@pytest.mark.parametrize("backend", ["trio", "asyncio"])
def test_every_await_of_the_runtime_is_one_at_which_a_blow_falls(backend: Backend) -> None:
    reached: set[Place] = set()
    for is_cut in (False, True):
        story = Story(backend, is_cut)
        reached.update(itertools.chain.from_iterable(rehearsal(story)[step] for step in chosen(story, "cancel")))
    never = {shown(place) for place in places_in(FILES) - reached}
    assert never - EXCUSED.keys() == set(), "no blow ever fell at these"
    assert EXCUSED.keys() - never == set(), "these excuses are not needed"
