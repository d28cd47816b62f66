"""What every `Broker` has to do, checked against one of yours with a real neuron on it.

You supply an opener: it opens a task system of its own, and yields your broker for it and the system as callers see it.

    @asynccontextmanager
    async def open_system() -> AsyncGenerator[tuple[Broker, TaskSystem]]:
        async with my_server() as server:
            yield MyBroker(server.address), TaskSystem(submit=server.submit, look=server.look, pulls=True)

    async def test_my_broker() -> None:
        await check_broker(open_system)

Each check opens a system of its own. `BROKER_CHECKS` has them one by one, for a parametrized test.
"""

from __future__ import annotations

from typing import Any

import anyio

from .broker_contract_life import LIFE_CHECKS
from .broker_contract_outcomes import OUTCOME_CHECKS
from .broker_contract_scene import NEURON_ID, OpenSystem, TaskSystem, TaskView, open_scene
from .contract import PATIENCE, Check, ContractBroken, check_all, expect, expect_nothing_left

__all__ = ["BROKER_CHECKS", "NEURON_ID", "ContractBroken", "OpenSystem", "TaskSystem", "TaskView", "check_broker"]


async def _origin(open_system: OpenSystem) -> None:
    async with open_scene(open_system) as scene:
        before: Any = scene.between.origin
        async with scene.neuron():
            inside = scene.between.origin
        for origin in (before, inside):
            expect(isinstance(origin, str) and origin and origin.isprintable(), "origin is {}", origin)
            expect(origin == before, "origin was {} and then {}", before, origin)
            expect("@" not in origin, "origin has what looks like credentials in it")


async def _nothing_left(open_system: OpenSystem) -> None:
    before = {task.id for task in anyio.get_running_tasks()}
    async with open_scene(open_system) as scene, scene.neuron():
        await scene.ended(await scene.submit("last"))
    await expect_nothing_left(before)


BROKER_CHECKS: tuple[Check[OpenSystem], ...] = (
    Check("origin", "`origin` names the other side in one line, without credentials, and stays.", _origin),
    *LIFE_CHECKS,
    *OUTCOME_CHECKS,
    Check("nothing-left", "When the neuron has left, no task of the event loop is left behind.", _nothing_left),
)
"""One check for each sentence of the contract. `str` of one is its name: `parametrize("check", ..., ids=str)`."""


async def check_broker(open_system: OpenSystem, *, patience: float = PATIENCE) -> list[str]:
    """Check every sentence of the contract of `Broker`.

    Args:
        open_system: opens a task system and its broker.
        patience: seconds for each sentence; longer than the system takes for a task that goes back twice.

    Returns:
        The names of the checks that were left out because the system lacks what they need.

    Raises:
        ContractBroken: a sentence is broken.
        ExceptionGroup: of `ContractBroken`, several are.
    """
    return await check_all(BROKER_CHECKS, open_system, patience=patience, what="the broker")
