"""The sentences of `Broker.settle`: what a task system shows after each outcome."""

from __future__ import annotations

from typing import Any

import anyio

from neuron_anyio.abc import Verdict
from neuron_anyio.model import (
    Cancelled,
    Completed,
    Delivery,
    Dropped,
    Failed,
    FailureKind,
    GiveBack,
    GivenBack,
    Outcome,
)

from .broker_contract_scene import OpenSystem, Scene, row
from .contract import Check, LackingAbility, expect, require

__all__ = ["OUTCOME_CHECKS"]

DELAY = 0.4
"""Seconds that a task is asked to wait: long beside a round trip."""

SLACK = 0.05
"""Seconds by which clocks of two sides may differ over so short a time."""

VALUE: dict[str, Any] = {"text": "grüße ☃ \u2028", "list": [1, None, 2.5, {"deep": True}], "empty": {}}


async def _completed(scene: Scene) -> None:
    async with scene.neuron():
        last = await scene.submit("last", "wait", value=VALUE)
        await scene.until("the start of a handler", lambda: scene.worker.inputs)
        await _expect_completed(scene, await scene.submit("first", value={"first": True}), {"first": True})
        scene.worker.released.set()
        await _expect_completed(scene, last, VALUE)
        verdicts = [settled.receipt.verdict for settled in scene.between.settled]
        expect(set(verdicts) == {Verdict.ACCEPTED}, "the receipts say {}", [verdict.name for verdict in verdicts])


async def _expect_completed(scene: Scene, task: str, value: Any) -> None:
    view = await scene.ended(task)
    expect(view.state == "completed", "the system shows the task as {}", view.state)
    expect(list(view.outputs) == [value], "its outputs are {}", view.outputs)


async def _nothing_returned(scene: Scene) -> None:
    async with scene.neuron():
        view = await scene.ended(await scene.submit("nothing"))
        expect(view.state == "completed", "the system shows the task as {}", view.state)
        expect(list(view.outputs) in ([], [None]), "its outputs are {}", view.outputs)


async def _several(scene: Scene) -> None:
    if not scene.system.fans_out:
        raise LackingAbility("fans_out")
    outputs = [{"number": 2}, {"number": 1}, {"number": 3}]
    async with scene.neuron():
        view = await scene.ended(await scene.submit("several", value=outputs))
        expect(view.state == "completed", "the system shows the task as {}", view.state)
        expect(list(view.outputs) == outputs, "its outputs are {}", view.outputs)


async def _failed(scene: Scene) -> None:
    async with scene.neuron():
        view = await scene.ended(await scene.submit("failed", "fail"))
        expect(view.state == "failed", "the system shows the task as {}", view.state)
        await anyio.sleep(scene.system.redelivery)
        runs = scene.worker.runs_of("failed")
        expect(runs == 1, "the task was run {} times", runs)


async def _every_failure(scene: Scene) -> None:
    async with scene.neuron():
        for kind in FailureKind:
            scene.between.instead[kind.name] = Failed(kind=kind, retryable=False, reason=kind.value)
        tasks = {kind.name: await scene.submit(kind.name) for kind in FailureKind}
        for name, task in tasks.items():
            view = await scene.ended(task)
            expect(view.state == "failed", "{}: the system shows the task as {}", name, view.state)


async def _retried(scene: Scene) -> None:
    async with scene.neuron():
        view = await scene.ended(await scene.submit("retried", "retry", value=VALUE))
        if not scene.system.retries:
            expect(view.state == "failed", "the system shows the task as {}", view.state)
            return
        expect(view.state == "completed", "the system shows the task as {}", view.state)
        runs = scene.worker.runs_of("retried")
        expect(runs == 2, "the task was run {} times", runs)  # noqa: PLR2004 - the one that failed and another
        _expect_new_id(scene, "retried")


def _expect_new_id(scene: Scene, name: str) -> list[Delivery]:
    found = [delivery for _, delivery in scene.between.of(name)]
    expect(len({delivery.id for delivery in found}) == len(found), "it came again under the delivery id that it had")
    return found


async def _retry_delayed(scene: Scene) -> None:
    if not (scene.system.retries and scene.system.delays_retries):
        raise LackingAbility("delays_retries")
    async with scene.neuron():
        await scene.ended(await scene.submit("delayed", "retry", after=DELAY))
        _expect_delay(scene, "delayed")


def _expect_delay(scene: Scene, name: str) -> None:
    (_, _), (again, _) = scene.between.of(name)
    waited = again - scene.between.settled[0].at
    expect(waited >= DELAY - SLACK, "it came again after {} s, {} s were asked for", f"{waited:.2f}", DELAY)


async def _given_back(scene: Scene) -> None:
    scene.between.instead["back"] = GivenBack.because(GiveBack.OVERLOADED)
    async with scene.neuron():
        view = await scene.ended(await scene.submit("back", value=VALUE))
        expect(view.state == "completed", "the system shows the task as {}", view.state)
        found = _expect_new_id(scene, "back")
        expect(len(found) == 2, "it was delivered {} times", len(found))  # noqa: PLR2004 - and once again
        tasks = [(delivery.task.workflow_id, delivery.task.task_id, delivery.task.input) for delivery in found]
        expect(tasks[0] == tasks[1], "it was {} and came as {}", tasks[0][:2], tasks[1][:2])
        attempts = [delivery.task.attempt for delivery in found]
        free = scene.system.counts_give_backs or attempts[0] == attempts[1]
        expect(free, "the give-back was counted: the attempts are {}", attempts)


async def _give_back_delayed(scene: Scene) -> None:
    if not scene.system.delays_give_backs:
        raise LackingAbility("delays_give_backs")
    scene.between.instead["later"] = GivenBack(cause=GiveBack.OVERLOADED, reason="later", delay=DELAY)
    async with scene.neuron():
        await scene.ended(await scene.submit("later"))
        _expect_delay(scene, "later")


async def _cancelled(scene: Scene) -> None:
    require(scene.system.cancel, "cancel")
    scene.between.instead["cancelled"] = Cancelled()
    async with scene.neuron():
        view = await scene.ended(await scene.submit("cancelled"))
        expect(view.state == "cancelled", "the system shows the task as {}", view.state)


async def _dropped(scene: Scene) -> None:
    scene.between.instead["dropped"] = Dropped(reason="nobody needs it")
    async with scene.neuron():
        view = await scene.ended(await scene.submit("dropped"))
        allowed = ("dropped",) if scene.system.tells_drops else ("dropped", "failed", "cancelled")
        expect(view.state in allowed, "the system shows the task as {}", view.state)


async def _repeated(scene: Scene) -> None:
    async with scene.neuron():
        task = await scene.submit("repeated", value=VALUE)
        before = await scene.ended(task)
        await scene.until("a receipt", lambda: scene.between.settled)
        first = scene.between.settled[0]
        receipt = await scene.between.settle_again(first.delivery.id, first.outcome)
        taken = receipt.verdict in (Verdict.ACCEPTED, Verdict.GONE)
        expect(taken, "the receipt of the repeat says {}", receipt.verdict.name)
        after = await scene.system.look(task)
        expect(after == before, "the task was {} and is {} after the repeat", before.state, after.state)


async def _unknown(scene: Scene) -> None:
    outcomes: tuple[Outcome, ...] = (Completed((b"{}",)), GivenBack.because(GiveBack.SHUTDOWN))
    async with scene.neuron():
        for outcome in outcomes:
            receipt = await scene.between.settle_again("there is no such delivery", outcome)
            expect(receipt.verdict is Verdict.GONE, "the receipt says {}", receipt.verdict.name)


OUTCOME_CHECKS: tuple[Check[OpenSystem], ...] = (
    row("completed", "`Completed` ends its own task, with the output as it was, and is `ACCEPTED`.", _completed),
    row(
        "nothing-returned",
        "A handler that returns nothing ends its task with no output, or with null.",
        _nothing_returned,
    ),
    row("several", "Where the system fans out, the members of a list are outputs, in their order.", _several),
    row("failed", "A failure that is not retryable ends the task as failed, and it does not come again.", _failed),
    row("every-failure", "There is a word for every kind of failure.", _every_failure),
    row("retried", "A retryable failure makes the task come again, under another delivery id.", _retried),
    row("retry-delay", "It does not come before the delay that it asked for.", _retry_delayed),
    row(
        "given-back",
        "What is given back comes again as the same task, under another delivery id, and is not counted.",
        _given_back,
    ),
    row("give-back-delay", "It does not come before the delay of the give-back.", _give_back_delayed),
    row("cancelled", "Where tasks can be called off, `Cancelled` ends one as cancelled.", _cancelled),
    row("dropped", "`Dropped` ends the task, and not as completed.", _dropped),
    row("repeated", "An outcome that is sent again is `ACCEPTED` or `GONE`, and changes nothing.", _repeated),
    row("unknown", "The outcome of a delivery that is not there is `GONE`.", _unknown),
)
