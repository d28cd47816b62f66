"""Playing a scenario with a neuron, whichever SDK it is made of, and judging what came of it."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import TypeAlias

import anyio
import msgspec

from .fault_gateway import FaultGateway, open_fault_gateway
from .oracle import Verdict
from .scenarios import TEXT, Planned, Scenario

__all__ = ["Outcome", "Worker", "play"]

Worker: TypeAlias = Callable[[Scenario, str, Callable[[str], object], anyio.Event], Awaitable[str | None]]
"""A neuron: is given the scenario, the gateway's URL, where the lines of its work log go, and an event that asks it to
drain. Returns when it has ended: the name of the error that ended it, or None."""


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a scenario.

    Attributes:
        fault: the fault's id.
        verdict: the oracle's.
        strikes: how often the fault acted.
        error: what ended the neuron, None where it was asked to.
        elsewhere: whether a second neuron had to finish the tasks.
        seconds: how long all of it took.
        complaints: what is not as the scenario says, a line each; none means that all is well.
    """

    fault: str
    verdict: Verdict
    strikes: int
    error: str | None
    elsewhere: bool
    seconds: float
    complaints: tuple[str, ...]


async def play(scenario: Scenario, worker: Worker) -> Outcome:
    """Play a scenario. Ends within its bound and what the neuron needs to drain."""
    begun = time.monotonic()
    elsewhere = False
    error: str | None = None
    async with open_fault_gateway(scenario.fault, lease_ttl=scenario.lease_ttl) as gateway:
        planned = _submit(gateway, scenario, later=False)
        async with anyio.create_task_group() as group:

            async def submit_later() -> None:
                await gateway.wait_for(lambda: bool(gateway.book.strikes))
                planned.update(_submit(gateway, scenario, later=True))

            group.start_soon(submit_later)
            error = await _employ(gateway, scenario, worker, stop_after=scenario.stop_after)
            group.cancel_scope.cancel()
        gateway.end_fault()
        gateway.reap()
        if not gateway.book.is_done and scenario.elsewhere:
            elsewhere = True
            await _employ(gateway, scenario, worker, stop_after=None)
        seconds = time.monotonic() - begun
        verdict = gateway.verdict()
        complaints = [
            *_complaints(verdict, planned, gateway),
            *_differs("the neuron ends with", error, scenario.error),
            *_differs("tasks are finished elsewhere:", elsewhere, scenario.elsewhere),
            *([f"took {seconds:.1f} s, more than {scenario.bound:.0f}"] if seconds > scenario.bound else []),
        ]
        return Outcome(
            fault=scenario.fault,
            verdict=verdict,
            strikes=len(gateway.book.strikes),
            error=error,
            elsewhere=elsewhere,
            seconds=seconds,
            complaints=tuple(complaints),
        )


def _submit(gateway: FaultGateway, scenario: Scenario, *, later: bool) -> dict[str, Planned]:
    return {
        gateway.submit(plan.capability, plan.input, on_behalf_of=plan.on_behalf_of, expected=TEXT): plan
        for plan in scenario.tasks
        if plan.later is later
        for _ in range(plan.count)
    }


async def _employ(gateway: FaultGateway, scenario: Scenario, worker: Worker, *, stop_after: float | None) -> str | None:
    """Let a neuron work until all is done, it ends by itself or its time is over; return what ended it."""
    stop = anyio.Event()
    error: str | None = None

    async def work() -> None:
        nonlocal error
        error = await worker(scenario, gateway.url, gateway.book.note_work, stop)
        group.cancel_scope.cancel()

    async with anyio.create_task_group() as group:
        group.start_soon(work)
        with anyio.move_on_after(scenario.bound):
            if stop_after is not None:
                await gateway.wait_for(lambda: bool(gateway.book.strikes))
            with anyio.move_on_after(stop_after):
                await gateway.wait_done()
        stop.set()
    return error


def _complaints(verdict: Verdict, planned: dict[str, Planned], gateway: FaultGateway) -> list[str]:
    """Compare what became of the tasks with the plan."""
    found = [
        f"{number} {what}"
        for what in ("lost", "double", "answered_twice", "wrong")
        if (number := getattr(verdict, what))
    ]
    if not gateway.book.strikes:
        found.append("the fault never struck")
    if gateway.strays:
        found.append(f"requests that no neuron should make: {gateway.strays}")
    for task_id, plan in planned.items():
        found += _differs(f"{task_id} is", verdict.states[task_id], plan.state)
        started = any(moment.what == "started" for moment in gateway.book.tasks[task_id].history)
        if started and not plan.runs:
            found.append(f"{task_id} was run")
    return found


def _differs(what: str, found: object, wanted: object) -> list[str]:
    return [] if found == wanted else [f"{what} {found}, not {wanted}"]
