"""Each check of the broker's contract fails for the defect that it is there for, and for no other."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest
from anyio.abc import TaskGroup, TaskStatus
from msgspec.structs import replace
from trio.testing import MockClock

from neuron_anyio import BigBrainBroker, TransportError, frames
from neuron_anyio.abc import Broker, Intake, Receipt, Verdict
from neuron_anyio.brokers.memory import MemoryBroker, MemoryTask
from neuron_anyio.model import (
    Cancelled,
    Completed,
    Delivery,
    Dropped,
    Failed,
    FailureKind,
    GiveBack,
    GivenBack,
    Held,
    Offer,
    Outcome,
    Progress,
)
from neuron_anyio.testing.broker_contract import BROKER_CHECKS, ContractBroken, TaskSystem, check_broker
from tests.contract.broker_systems import TIMING, MemorySystem, gateway_in_memory

pytestmark = [pytest.mark.anyio, pytest.mark.virtual_time]


@pytest.fixture
def anyio_backend() -> Any:
    return "trio", {"clock": MockClock(autojump_threshold=0)}


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture) -> None:
    """Neurons complain of broken brokers, with tracebacks."""
    caplog.set_level(logging.CRITICAL, "neuron_anyio")


class Pulling(MemoryBroker):
    """A sound broker that pulls; defects override its parts."""

    bystanders: TaskGroup


class FansOut(Pulling):
    def __init__(self) -> None:
        super().__init__(fans_out=True)


class Pushed(BigBrainBroker):
    """A sound broker that is sent what the system likes."""


# Defects of a broker's life


class ChangesItsName(Pulling):
    @asynccontextmanager
    async def open(self, intake: Intake) -> AsyncGenerator[None]:
        self.origin = "memory:open"
        async with super().open(intake):
            yield


class FirstOfOne(dict[str, Offer]):
    def __setitem__(self, name: str, offer: Offer) -> None:
        super().__setitem__(name, offer if name in self else replace(offer, concurrency=1))


class AnnouncesOne(Pulling):
    def __init__(self) -> None:
        super().__init__()
        self.offers = FirstOfOne()


class Impatient(Pushed):
    async def take(self, *, task_status: TaskStatus[None]) -> None:
        is_started = anyio.Event()

        class Once:
            def started(self, value: None = None) -> None:
                if not is_started.is_set():
                    is_started.set()
                    task_status.started(value)

        async def start_anyway() -> None:
            await anyio.sleep(0.2)
            Once().started()

        async with anyio.create_task_group() as group:
            group.start_soon(start_anyway)
            await super().take(task_status=Once())


class TellsNoLimit(Pulling):
    async def announce(self, offer: Offer) -> None:
        pass


class LosesCharacters(Pulling):
    def _hand_out(self, task: MemoryTask) -> None:
        task.input = task.input.replace("😀".encode(), b"?")
        super()._hand_out(task)


class Slots:
    """An intake that tells more slots."""

    def __init__(self, intake: Intake) -> None:
        self._intake = intake

    def __getattr__(self, name: str) -> Any:
        return getattr(self._intake, name)

    def free_slots(self) -> Mapping[str, int]:
        return self._intake.free_slots()


class ForeignSlots(Slots):
    def free_slots(self) -> Mapping[str, int]:
        return {**super().free_slots(), "check/foreign": 1}


class OneSlotMore(Slots):
    def free_slots(self) -> Mapping[str, int]:
        return {name: free + (free > 0) for name, free in super().free_slots().items()}


class FirstWithoutLooking(Slots):
    def free_slots(self) -> Mapping[str, int]:
        free = super().free_slots()
        has_taken = self._intake._between.deliveries  # type: ignore[attr-defined]  # the notes of the checks
        return free if has_taken else dict.fromkeys(free, 1)


class WithSlots(Pulling):
    slots: type[Slots]

    @asynccontextmanager
    async def open(self, intake: Intake) -> AsyncGenerator[None]:
        async with super().open(self.slots(intake)):
            yield


class TakesForeign(WithSlots):
    slots = ForeignSlots


class TakesTooMany(WithSlots):
    slots = OneSlotMore


class TakesWhilePaused(WithSlots):
    slots = FirstWithoutLooking


class SaysNothing(Pulling):
    async def keep_alive(self, held: Sequence[Held]) -> bool:
        return None  # type: ignore[return-value]  # the defect


class OnlySaysSo(Pushed):
    async def keep_alive(self, held: Sequence[Held]) -> bool:
        return True


class RenewsOne(Pushed):
    async def keep_alive(self, held: Sequence[Held]) -> bool:
        return await super().keep_alive(held[:1])


class ReportsOfTheNewest(Pulling):
    async def report(self, delivery: Delivery, progress: Progress) -> None:
        [*_, newest] = self._delivered.values()
        newest.progress.append(progress)


class CannotReport(Pulling):
    async def report(self, delivery: Delivery, progress: Progress) -> None:
        raise KeyError(delivery.id)


class CancelsAll(Pulling):
    def cancel(self, task: MemoryTask, reason: str = "cancelled") -> None:
        for other in list(self._delivered.values()):
            super().cancel(other, reason)


class Through:
    """The neuron's intake; defects override its parts."""

    def __init__(self, intake: Intake) -> None:
        self.intake = intake

    def __getattr__(self, name: str) -> Any:
        return getattr(self.intake, name)


class Through1000(Through):
    def deliver(self, delivery: Delivery) -> None:
        assert delivery.time_left is not None
        self.intake.deliver(replace(delivery, time_left=delivery.time_left * 1000))


class NewTasks(Through):
    def deliver(self, delivery: Delivery) -> None:
        self.intake.deliver(replace(delivery, task=replace(delivery.task, task_id=delivery.id)))


class CountsMilliseconds(Pushed):
    def open(self, intake: Intake) -> Any:
        return super().open(Through1000(intake))


class CallsItAnotherTask(Pulling):
    def open(self, intake: Intake) -> Any:
        return super().open(NewTasks(intake))


class SettlesTheOldest(Pulling):
    async def settle(self, delivery_id: str, outcome: Outcome) -> Receipt:
        oldest = next(iter(self._delivered), "")
        completes = isinstance(outcome, Completed) and delivery_id in self._delivered
        return await super().settle(oldest if completes else delivery_id, outcome)


class RaisesWhatItLikes(Pushed):
    async def settle(self, delivery_id: str, outcome: Outcome) -> Receipt:
        try:
            return await super().settle(delivery_id, outcome)
        except TransportError as exc:
            raise RuntimeError from exc


class HidesTrouble(Pushed):
    async def announce(self, offer: Offer) -> None:
        try:
            await super().announce(offer)
        except TransportError:
            return


class ConnectsOnce(Pushed):
    async def _connect(self) -> tuple[float, str, float | None]:
        if self._is_started:
            await anyio.sleep_forever()
        return await super()._connect()


class NeverGivesUp(Pushed):
    def _disconnect(self, frame: frames.Disconnect) -> None:
        self._end_stream(frame.reason)


class LeavesATask(Pulling):
    @asynccontextmanager
    async def open(self, intake: Intake) -> AsyncGenerator[None]:
        self.bystanders.start_soon(anyio.sleep_forever)
        async with super().open(intake):
            yield


# Defects of settlements


class Settling(Pulling):
    """Settles something else, where a defect says so."""

    async def settle(self, delivery_id: str, outcome: Outcome) -> Receipt:
        return await super().settle(delivery_id, self.read(outcome))

    def read(self, outcome: Outcome) -> Outcome:
        raise NotImplementedError


class KeepsWhatIsLeft(Pulling):
    async def settle(self, delivery_id: str, outcome: Outcome) -> Receipt:
        if isinstance(outcome, GivenBack) and outcome.cause in (GiveBack.SHUTDOWN, GiveBack.DRAINING):
            gone = delivery_id not in self._delivered
            return Receipt(verdict=Verdict.GONE if gone else Verdict.ACCEPTED)
        return await super().settle(delivery_id, outcome)


class Ascii(Settling):
    def read(self, outcome: Outcome) -> Outcome:
        if isinstance(outcome, Completed):
            return Completed(tuple(text.replace("ü".encode(), b"u") for text in outcome.outputs))
        return outcome


class NullIsZero(Settling):
    def read(self, outcome: Outcome) -> Outcome:
        return Completed((b"0",)) if outcome == Completed((b"null",)) else outcome


class Backwards(FansOut):
    async def settle(self, delivery_id: str, outcome: Outcome) -> Receipt:
        if isinstance(outcome, Completed):
            outcome = Completed(tuple(reversed(outcome.outputs)))
        return await super().settle(delivery_id, outcome)


class RetriesThatToo(Settling):
    def read(self, outcome: Outcome) -> Outcome:
        is_it = isinstance(outcome, Failed) and outcome.reason == "the task says so"
        return replace(outcome, retryable=True) if is_it else outcome


class LacksAWord(Settling):
    def read(self, outcome: Outcome) -> Outcome:
        if isinstance(outcome, Failed) and outcome.kind is FailureKind.DELIVERY_TOO_LARGE:
            raise KeyError(outcome.kind)
        return outcome


class FailsAtOnce(Settling):
    def read(self, outcome: Outcome) -> Outcome:
        at_once = isinstance(outcome, Failed) and outcome.delay is None
        return replace(outcome, retryable=False) if at_once else outcome


class RetriesAtOnce(Settling):
    def read(self, outcome: Outcome) -> Outcome:
        return replace(outcome, delay=None) if isinstance(outcome, Failed) else outcome


class CountsGiveBacks(Pulling):
    async def settle(self, delivery_id: str, outcome: Outcome) -> Receipt:
        task = self._delivered.get(delivery_id)
        if task is not None and isinstance(outcome, GivenBack):
            task.attempts += 1
        return await super().settle(delivery_id, outcome)


class ReturnsAtOnce(Settling):
    def read(self, outcome: Outcome) -> Outcome:
        return replace(outcome, delay=None) if isinstance(outcome, GivenBack) else outcome


class CancelIsFailure(Settling):
    def read(self, outcome: Outcome) -> Outcome:
        failed = Failed(kind=FailureKind.TERMINAL, retryable=False, reason="cancelled")
        return failed if isinstance(outcome, Cancelled) else outcome


class DropIsSuccess(Settling):
    def read(self, outcome: Outcome) -> Outcome:
        return Completed((b"null",)) if isinstance(outcome, Dropped) else outcome


class Remembering(Pulling):
    """Knows what it has settled."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[str] = set()

    async def settle(self, delivery_id: str, outcome: Outcome) -> Receipt:
        if delivery_id in self.seen:
            return self.repeated(delivery_id)
        if delivery_id not in self._delivered:
            return self.unknown()
        self.seen.add(delivery_id)
        return await super().settle(delivery_id, outcome)

    def repeated(self, delivery_id: str) -> Receipt:
        return Receipt(verdict=Verdict.GONE, reason=delivery_id)

    def unknown(self) -> Receipt:
        return Receipt(verdict=Verdict.GONE)


class NotTwice(Remembering):
    def repeated(self, delivery_id: str) -> Receipt:
        raise KeyError(delivery_id)


class Gullible(Remembering):
    def unknown(self) -> Receipt:
        return Receipt(verdict=Verdict.ACCEPTED)


DEFECTS: dict[str, type[Pulling | Pushed]] = {
    "origin": ChangesItsName,
    "announced": AnnouncesOne,
    "started": Impatient,
    "limit": TellsNoLimit,
    "deliveries": LosesCharacters,
    "foreign": TakesForeign,
    "slots": TakesTooMany,
    "paused": TakesWhilePaused,
    "kept-alive": SaysNothing,
    "renewed": OnlySaysSo,
    "time-left": CountsMilliseconds,
    "reported": CannotReport,
    "cancel": CancelsAll,
    "not-now": RaisesWhatItLikes,
    "announce-not-now": HidesTrouble,
    "reconnected": ConnectsOnce,
    "drained": KeepsWhatIsLeft,
    "expelled": NeverGivesUp,
    "completed": Ascii,
    "nothing-returned": NullIsZero,
    "several": Backwards,
    "failed": RetriesThatToo,
    "every-failure": LacksAWord,
    "retried": FailsAtOnce,
    "retry-delay": RetriesAtOnce,
    "given-back": CountsGiveBacks,
    "give-back-delay": ReturnsAtOnce,
    "cancelled": CancelIsFailure,
    "dropped": DropIsSuccess,
    "repeated": NotTwice,
    "unknown": Gullible,
    "nothing-left": LeavesATask,
}


MORE: list[tuple[str, type[Pulling | Pushed]]] = [
    ("renewed", RenewsOne),
    ("reported", ReportsOfTheNewest),
    ("given-back", CallsItAnotherTask),
]
"""Second defects, each of another half of its sentence."""


async def broken_by(kind: type[Pulling | Pushed]) -> list[ContractBroken]:
    """Return what the checks find in a broker."""

    @asynccontextmanager
    async def open_system() -> AsyncGenerator[tuple[Broker, TaskSystem]]:
        if issubclass(kind, Pulling):
            broker = kind()
            broker.bystanders = bystanders
            yield broker, MemorySystem(broker).abilities(fans_out=issubclass(kind, FansOut))
        else:
            async with gateway_in_memory(lambda transport: kind(transport, timing=TIMING)) as pair:
                yield pair

    found: list[ContractBroken] = []
    async with anyio.create_task_group() as bystanders:
        try:
            await check_broker(open_system)
        except ContractBroken as exc:
            found = [exc]
        except ExceptionGroup as group:
            found = [exc for exc in group.exceptions if isinstance(exc, ContractBroken)]
        bystanders.cancel_scope.cancel()
    return found


@pytest.mark.parametrize("kind", [Pulling, FansOut, Pushed, Remembering])
async def test_a_sound_broker_breaks_nothing(kind: type[Pulling | Pushed]) -> None:
    assert await broken_by(kind) == []


def test_there_is_a_defect_for_each_check() -> None:
    assert list(DEFECTS) == [check.name for check in BROKER_CHECKS]


async def test_a_broker_that_settles_other_tasks_breaks_the_sentence_on_outputs() -> None:
    assert "completed" in {exc.name for exc in await broken_by(SettlesTheOldest)}


@pytest.mark.parametrize(("name", "kind"), [*DEFECTS.items(), *MORE])
async def test_each_defect_is_found_by_its_own_check_and_by_no_other(name: str, kind: type[Pulling | Pushed]) -> None:
    found = await broken_by(kind)
    assert [exc.name for exc in found] == [name], "\n".join(map(str, found))
    (only,) = found
    assert only.sentence in str(only)
    assert only.seen in str(only)
