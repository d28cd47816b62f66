"""The sentences of the rest of `Broker`: announcing, taking, keeping, cancelling, and what becomes of a connection."""

from __future__ import annotations

from typing import Any

import anyio
from anyio.abc import TaskStatus

from neuron_anyio.errors import NeuronError
from neuron_anyio.jsontext import NotJsonError, read_json
from neuron_anyio.model import CancelReason, Delivery

from .broker_contract_scene import OpenSystem, Scene, row
from .contract import Check, LackingAbility, Unexpected, expect, require

__all__ = ["LIFE_CHECKS"]

MOMENT = 0.1
"""Seconds in which something that should not happen would have happened."""


async def _announced(scene: Scene) -> None:
    offered = require(scene.system.offered, "offered")
    async with scene.neuron(concurrency=3):
        found = dict(await offered())
        expect(found == {scene.system.capability: 3}, "the system knows of {}", found)


async def _limit_changed(scene: Scene) -> None:
    offered = require(scene.system.offered, "offered")
    async with scene.neuron(concurrency=1) as neuron:
        await neuron.update_capability(scene.system.capability, concurrency=5)
        found: dict[str, int] = {}
        for _ in range(100):
            found = dict(await offered())
            if found == {scene.system.capability: 5}:
                return
            await anyio.sleep(MOMENT / 10)
        odd = "; ".join(sorted(set(scene.between.odd)))
        raise Unexpected(f"the system knows of {found} {odd}")


async def _started(scene: Scene) -> None:
    outage = require(scene.system.outage, "outage")
    entered = anyio.Event()

    async def run(*, task_status: TaskStatus[None]) -> None:
        task_status.started()
        async with scene.neuron():
            entered.set()
            await anyio.sleep_forever()

    async with anyio.create_task_group() as group:
        async with outage():
            await group.start(run)
            await anyio.sleep(3 * MOMENT)
            expect(not entered.is_set(), "take() called started() while nothing reached the system")
        await scene.until("the neuron's start", entered.is_set)
        group.cancel_scope.cancel()


async def _deliveries(scene: Scene) -> None:
    values: list[dict[str, Any]] = [
        {"text": "grüße ☃ 😀 \u2028"},
        {"numbers": [0, -1, 2.5, 1e300]},
        {"null": None, "nested": {"a": [{}]}},
    ]
    async with scene.neuron():
        tasks = [await scene.submit(f"task {number}", value=value) for number, value in enumerate(values)]
        for task in tasks:
            await scene.ended(task)
    for number, value in enumerate(values):
        wanted = {"name": f"task {number}", "do": "return", "value": value}
        expect(wanted in scene.worker.inputs, "no handler got the input {}", wanted)
    found = [delivery for _, delivery in scene.between.deliveries]
    for delivery in found:
        _expect_readable(scene, delivery)
    for what, ids in (("delivery", [item.id for item in found]), ("task", [item.task.task_id for item in found])):
        expect(all(ids) and len(set(ids)) == len(ids), "{} ids are {}", what, ids)


def _expect_readable(scene: Scene, delivery: Delivery) -> None:
    expect(delivery.task.capability == scene.system.capability, "its capability is {}", delivery.task.capability)
    expect(delivery.task.attempt >= 0, "its attempt is {}", delivery.task.attempt)
    expect(delivery.time_left is None or delivery.time_left > 0, "its time left is {}", delivery.time_left)
    for text in (delivery.task.input, delivery.input_schema, delivery.output_schema):
        if text is not None:
            expect(type(text) is bytes, "JSON text came as {}", type(text).__name__)
            try:
                read_json(text)
            except NotJsonError:
                raise Unexpected("input or schemas are not JSON text") from None


async def _foreign(scene: Scene) -> None:
    foreign = require(scene.system.foreign, "foreign")
    async with scene.neuron():
        strange = await scene.system.submit(foreign, {"name": "strange", "do": "return"})
        await scene.ended(await scene.submit("own"))
        await anyio.sleep(scene.system.redelivery)
        came = [delivery.task.capability for _, delivery in scene.between.deliveries]
        expect(came == [scene.system.capability], "deliveries came of {}", came)
        state = (await scene.system.look(strange)).state
        expect(state == "waiting", "the system shows the task of a type that nobody offers as {}", state)


async def _slots(scene: Scene) -> None:
    if not scene.system.pulls:
        raise LackingAbility("pulls")
    async with scene.neuron(concurrency=2):
        tasks = [await scene.submit(f"task {number}", "wait") for number in range(5)]
        await scene.until("the start of two handlers", lambda: len(scene.worker.inputs) == 2)  # noqa: PLR2004 - slots
        await anyio.sleep(MOMENT)
        scene.worker.released.set()
        for task in tasks:
            await scene.ended(task)
        expect(not scene.between.too_many, "{} tasks came while no slot was free", scene.between.too_many)


async def _paused(scene: Scene) -> None:
    if not scene.system.pulls:
        raise LackingAbility("pulls")
    async with scene.neuron() as neuron:
        neuron.pause()
        task = await scene.submit("paused")
        await anyio.sleep(MOMENT)
        expect(not scene.between.deliveries, "a task was taken while the neuron was paused")
        neuron.resume()
        await scene.ended(task)


async def _kept_alive(scene: Scene) -> None:
    async with scene.neuron(heartbeat=MOMENT):
        await scene.until("a heartbeat without a delivery", lambda: scene.between.beats)
        task = await scene.submit("held", "wait")
        await scene.until("the start of a handler", lambda: scene.worker.inputs)
        count = len(scene.between.beats)
        await scene.until("a heartbeat with a delivery", lambda: len(scene.between.beats) > count)
        scene.worker.released.set()
        await scene.ended(task)
    kinds = {type(beat).__name__ for beat in scene.between.beats}
    expect(kinds == {"bool"}, "keep_alive() returned {}", kinds)


async def _renewed(scene: Scene) -> None:
    lease_time = require(scene.system.lease_time, "lease_time")
    async with scene.neuron():
        tasks = {name: await scene.submit(name, "wait") for name in ("one", "other")}
        await scene.until("the start of two handlers", lambda: len(scene.worker.inputs) == len(tasks))
        await anyio.sleep(1.5 * lease_time)
        for name in tasks:
            came = len(scene.between.of(name))
            expect(came == 1, "of two that are held, one was delivered {} times", came)
        scene.worker.released.set()
        for task in tasks.values():
            view = await scene.ended(task)
            expect(view.state == "completed", "the system shows the task as {}", view.state)


async def _time_left(scene: Scene) -> None:
    lease_time = require(scene.system.lease_time, "lease_time")
    async with scene.neuron():
        await scene.ended(await scene.submit("short"))
    left = scene.between.deliveries[0][1].time_left
    expect(left is not None and left <= lease_time, "its time left is {}, of {} s", left, lease_time)


async def _reported(scene: Scene) -> None:
    async with scene.neuron():
        tasks = {name: await scene.submit(name, "report") for name in ("one", "other")}
        await scene.until("the start of two handlers", lambda: len(scene.worker.inputs) == len(tasks))
        scene.worker.reporting.set()
        shown = [await _shown(scene, task) for task in tasks.values()]
        scene.worker.released.set()
        for task in tasks.values():
            await scene.ended(task)
        odd = [text for text in scene.between.odd if "report()" in text]
        expect(not odd, "{}", odd[0] if odd else "")
        if scene.system.shows_progress:
            wanted = [(50, f"half way in {name}") for name in tasks]
            expect(shown == wanted, "the system shows the progress {}, not {}", shown, wanted)


async def _shown(scene: Scene, task: str) -> tuple[float | None, str | None] | None:
    for _ in range(100 if scene.system.shows_progress else 1):
        progress = (await scene.system.look(task)).progress
        if progress is not None:
            return progress.percent, progress.message
        await anyio.sleep(MOMENT / 10)
    return None


async def _cancel_arrives(scene: Scene) -> None:
    cancel = require(scene.system.cancel, "cancel")
    async with scene.neuron():
        kept, called_off = await scene.submit("kept", "wait"), await scene.submit("called off", "wait")
        await scene.until("the start of two handlers", lambda: len(scene.worker.inputs) == 2)  # noqa: PLR2004 - both
        await cancel(called_off)
        await scene.until("a cancel", lambda: any(context.cancelled for context in scene.worker.contexts))
        reasons = {
            value["name"]: context.cancel_reason
            for value, context in zip(scene.worker.inputs, scene.worker.contexts, strict=True)
        }
        wanted = {"kept": None, "called off": CancelReason.GATEWAY}
        expect(reasons == wanted, "the handlers were cancelled for {}", reasons)
        scene.worker.released.set()
        await scene.ended(kept)


async def _not_now(scene: Scene) -> None:
    outage = require(scene.system.outage, "outage")
    async with scene.neuron():
        task = await scene.submit("late", "wait", value={"late": True})
        await scene.until("the start of a handler", lambda: scene.worker.inputs)
        async with outage():
            scene.worker.released.set()
            await scene.until("TransportError out of settle()", lambda: scene.between.lost.get("settle"))
        view = await scene.ended(task)
        expect(view.state == "completed", "the system shows the task as {}", view.state)
        odd = [text for text in scene.between.odd if "settle()" in text]
        expect(not odd, "{}", odd[0] if odd else "")


async def _announced_later(scene: Scene) -> None:
    outage = require(scene.system.outage, "outage")
    if scene.system.offered is None:
        raise LackingAbility("offered")
    async with scene.neuron(concurrency=1) as neuron, outage():
        await neuron.update_capability(scene.system.capability, concurrency=5)
        await scene.until("TransportError out of announce()", lambda: scene.between.lost.get("announce"))


async def _reconnected(scene: Scene) -> None:
    disconnect = require(scene.system.disconnect, "disconnect")
    async with scene.neuron():
        before = await scene.submit("before", "wait")
        await scene.until("the start of a handler", lambda: scene.worker.inputs)
        await disconnect()
        after = await scene.submit("after")
        expect((await scene.ended(after)).state == "completed", "a task that came afterwards did not complete")
        scene.worker.released.set()
        expect((await scene.ended(before)).state == "completed", "the task that was running did not complete")
        runs = scene.worker.runs_of("before")
        expect(runs == 1, "the task that was running was run {} times", runs)


async def _drained(scene: Scene) -> None:
    async with scene.neuron(concurrency=1):
        tasks = [await scene.submit(f"task {number}", "wait") for number in range(3)]
        await scene.until("the start of a handler", lambda: scene.worker.inputs)
    for task in tasks:
        view = await scene.system.look(task)
        begun = anyio.current_time()
        while view.state == "taken" and anyio.current_time() - begun < scene.system.redelivery:
            await anyio.sleep(MOMENT / 10)
            view = await scene.system.look(task)
        expect(view.state == "waiting", "when the neuron has ended, the system shows a task as {}", view.state)


async def _expelled(scene: Scene) -> None:
    expel = require(scene.system.expel, "expel")
    seen = "nothing came out of the neuron's block"
    try:
        async with scene.neuron():
            await expel()
            with anyio.move_on_after(0.7 * (anyio.current_effective_deadline() - anyio.current_time())):
                await anyio.sleep_forever()
    except NeuronError:
        return
    except Exception as exc:
        seen = f"{type(exc).__name__} came out of the neuron's block"
    raise Unexpected(seen)


LIFE_CHECKS: tuple[Check[OpenSystem], ...] = (
    row("announced", "When a neuron is there, what it offers is announced, with its concurrency.", _announced),
    row("started", "`take` calls `started()` when the first announcement was accepted, not before.", _started),
    row("limit", "`announce` tells of a changed limit.", _limit_changed),
    row("deliveries", "A delivery has its task's input as it was submitted, and ids of its own.", _deliveries),
    row("foreign", "Tasks are taken of capabilities that are offered, and of no other.", _foreign),
    row("slots", "A pull system never has more tasks taken than there are free slots.", _slots),
    row("paused", "While no slot is free, for the neuron is paused, nothing is pulled.", _paused),
    row("kept-alive", "`keep_alive` returns True or False, also with nothing held.", _kept_alive),
    row("renewed", "What is kept alive does not go to somebody else when its lease time is over.", _renewed),
    row("time-left", "A delivery that is to be renewed says how many seconds it has.", _time_left),
    row("reported", "`report` sends progress of its own task, and does nothing where the system has none.", _reported),
    row("cancel", "A cancel reaches the handler of the task that was called off, and no other.", _cancel_arrives),
    row("not-now", "`settle` raises `TransportError` while nothing gets through, and works afterwards.", _not_now),
    row("announce-not-now", "`announce` raises `TransportError` while nothing gets through.", _announced_later),
    row("reconnected", "After a broken connection tasks come again, and what runs goes on.", _reconnected),
    row("drained", "When a neuron has left, none of its tasks is held.", _drained),
    row("expelled", "Where there is no way to go on, `take` raises a `NeuronError`.", _expelled),
)
