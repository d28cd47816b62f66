"""Two sides of a broker under check, and a real neuron on it: what every check of a broker needs."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Literal, TypeAlias

import anyio
import anyio.lowlevel
import msgspec
from anyio.abc import TaskStatus

from neuron_anyio.abc import Broker, Intake, Receipt
from neuron_anyio.backoff import Backoff
from neuron_anyio.capability import capability
from neuron_anyio.config import Timing
from neuron_anyio.context import LeaseContext
from neuron_anyio.errors import RetryableFailure, TerminalFailure, TransportError
from neuron_anyio.events import Event
from neuron_anyio.model import Delivery, Failed, GivenBack, Held, Offer, Outcome, Progress
from neuron_anyio.neuron import Neuron, open_neuron

from .contract import Check, Unexpected

__all__ = [
    "NEURON_ID",
    "Between",
    "OpenSystem",
    "Scene",
    "Settled",
    "TaskSystem",
    "TaskView",
    "Worker",
    "open_scene",
    "row",
]

NEURON_ID = "contract-check"
"""The id of the neuron that all checks run."""

LOOK_EVERY = 0.01
"""Seconds between two looks at a task."""

SHARE = 0.7
"""Of the time that is left to a check, how much one wait may take: the rest is for unwinding and for saying so."""

DRAIN = 1.0
"""Seconds that the neuron has to leave."""


class TaskView(msgspec.Struct, frozen=True, kw_only=True):
    """What a task system shows of a task.

    Attributes:
        state: `waiting` for somebody to take it, also again; `taken`; or how it ended. A system that does not tell
            `taken` from `waiting` says `waiting`.
        outputs: decoded, where it completed.
        progress: the newest, None where there is none or none is shown.
    """

    state: Literal["waiting", "taken", "completed", "failed", "cancelled", "dropped"]
    outputs: Sequence[Any] = ()
    progress: Progress | None = None

    @property
    def has_ended(self) -> bool:
        """Whether nothing more can happen to it."""
        return self.state not in ("waiting", "taken")


class TaskSystem(msgspec.Struct, frozen=True, kw_only=True):
    """A task system as its callers and operators see it. What it cannot do stays None or False, and is not checked.

    Attributes:
        submit: adds a task of a capability with an input; returns what the system calls it.
        look: shows a task.
        cancel: calls a task off, also one that runs.
        offered: returns the capabilities that the neuron has announced, with their concurrency.
        disconnect: breaks the broker's connection, once.
        outage: while its block runs, nothing reaches the system.
        expel: tells the neuron that it is not wanted any more, for good.
        capability: the type that the checks use.
        foreign: a type that nobody offers; None where the system knows one type alone.
        redelivery: seconds within which a task that went back has come again, for certain.
        lease_time: seconds after which a delivery that is not renewed goes to somebody else; None where none does.
        pulls: the broker asks for as many tasks as there are free slots; else the system sends what it likes.
        fans_out: a list that a handler returns is so many outputs.
        shows_progress: `look` has what handlers report.
        retries: a retryable failure makes the task come again; else it has failed.
        delays_retries: not before the time that the handler asked for.
        delays_give_backs: nor does what was given back with a delay.
        counts_give_backs: a give-back costs the task an attempt, for the system has no other word.
        tells_drops: a dropped task is told from one that failed.
    """

    submit: Callable[[str, Any], Awaitable[str]]
    look: Callable[[str], Awaitable[TaskView]]
    cancel: Callable[[str], Awaitable[None]] | None = None
    offered: Callable[[], Awaitable[Mapping[str, int]]] | None = None
    disconnect: Callable[[], Awaitable[None]] | None = None
    outage: Callable[[], AbstractAsyncContextManager[None]] | None = None
    expel: Callable[[], Awaitable[None]] | None = None
    capability: str = "check/work"
    foreign: str | None = "check/foreign"
    redelivery: float = 0.5
    lease_time: float | None = None
    pulls: bool = False
    fans_out: bool = False
    shows_progress: bool = False
    retries: bool = True
    delays_retries: bool = False
    delays_give_backs: bool = False
    counts_give_backs: bool = False
    tells_drops: bool = False


OpenSystem: TypeAlias = Callable[[], AbstractAsyncContextManager[tuple[Broker, TaskSystem]]]
"""Opens a task system of its own, and yields a broker for it that is not open yet, and the system."""


class Settled(msgspec.Struct, frozen=True):
    """A settlement that was answered."""

    delivery: Delivery
    outcome: Outcome
    receipt: Receipt
    at: float


class Between:
    """The broker as the neuron has it: notes what passes, and says another outcome where a check wants one.

    Attributes:
        deliveries: all that came, in order, each with the time.
        cancels: ids that were called off.
        settled: settlements that were answered.
        lost: how often which method raised `TransportError`.
        odd: what else was raised, and out of which method.
        beats: what `keep_alive` returned.
        instead: what to settle in the place of the next outcome of a task, by its name in the input.
        too_many: deliveries that came while no slot was free.
    """

    def __init__(self, broker: Broker) -> None:
        self.deliveries: list[tuple[float, Delivery]] = []
        self.cancels: list[str] = []
        self.settled: list[Settled] = []
        self.lost: dict[str, int] = {}
        self.odd: list[str] = []
        self.beats: list[object] = []
        self.instead: dict[str, Outcome] = {}
        self.too_many = 0
        self._broker = broker
        self._open: dict[str, Delivery] = {}

    @property
    def origin(self) -> str:
        """The broker's own."""
        return self._broker.origin

    @asynccontextmanager
    async def open(self, intake: Intake) -> AsyncGenerator[None]:
        """Open the broker, with an intake that takes notes."""
        async with self._broker.open(_NotingIntake(intake, self)):
            yield

    async def take(self, *, task_status: TaskStatus[None]) -> None:
        """Let the broker take."""
        await self._broker.take(task_status=task_status)

    async def announce(self, offer: Offer) -> None:
        """Let the broker announce."""
        with _Noting(self, "announce"):
            await self._broker.announce(offer)

    async def keep_alive(self, held: Sequence[Held]) -> bool:
        """Let the broker renew."""
        with _Noting(self, "keep_alive"):
            renewed = await self._broker.keep_alive(held)
        self.beats.append(renewed)
        return renewed

    async def report(self, delivery: Delivery, progress: Progress) -> None:
        """Let the broker report."""
        with _Noting(self, "report"):
            await self._broker.report(delivery, progress)

    async def settle(self, delivery_id: str, outcome: Outcome) -> Receipt:
        """Let the broker settle, what the neuron says or what a check says instead."""
        delivery = self._open.get(delivery_id)
        if delivery is None:  # one that could not be read, which is noted
            return await self._broker.settle(delivery_id, outcome)
        name = _name_of(delivery)
        said = self.instead.get(name, outcome)
        with _Noting(self, "settle"):
            receipt = await self._broker.settle(delivery_id, said)
        self.instead.pop(name, None)
        self._open.pop(delivery_id, None)
        self.settled.append(Settled(delivery, said, receipt, anyio.current_time()))
        return receipt

    async def settle_again(self, delivery_id: str, outcome: Outcome) -> Receipt:
        """Settle past the neuron."""
        return await self._broker.settle(delivery_id, outcome)

    def note_delivery(self, delivery: Delivery) -> None:
        """Note what the broker hands over."""
        self.deliveries.append((anyio.current_time(), delivery))
        self._open[delivery.id] = delivery

    def of(self, name: str) -> list[tuple[float, Delivery]]:
        """Return the deliveries of one task."""
        return [entry for entry in self.deliveries if _name_of(entry[1]) == name]


def _name_of(delivery: Delivery) -> str:
    """Return what a check calls a task, `""` where it is none of a check's."""
    try:
        return msgspec.json.decode(delivery.task.input, type=_Named).name
    except (msgspec.DecodeError, TypeError):
        return ""


class _Named(msgspec.Struct):
    name: str


class _Noting:
    """Notes what comes out of a method, and lets it out."""

    __slots__ = ("_between", "_method")

    def __init__(self, between: Between, method: str) -> None:
        self._between = between
        self._method = method

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if isinstance(error, TransportError):
            self._between.lost[self._method] = self._between.lost.get(self._method, 0) + 1
        elif isinstance(error, Exception):
            self._between.odd.append(f"{type(error).__name__} came out of {self._method}()")


class _NotingIntake:
    """The neuron's own intake, with a look at what goes in."""

    def __init__(self, intake: Intake, between: Between) -> None:
        self._intake = intake
        self._between = between
        self.neuron_id = intake.neuron_id

    def offers(self) -> Sequence[Offer]:
        return self._intake.offers()

    def deliver(self, delivery: Delivery) -> None:
        self._between.note_delivery(delivery)
        self._between.too_many += self._intake.free_slots().get(delivery.task.capability, 0) < 1
        self._intake.deliver(delivery)

    def cancel(self, delivery_id: str, reason: str) -> None:
        self._between.cancels.append(delivery_id)
        self._intake.cancel(delivery_id, reason)

    def refuse(self, delivery_id: str, outcome: Failed | GivenBack) -> None:
        self._between.odd.append(f"a delivery could not be read: {outcome.reason}")
        self._intake.refuse(delivery_id, outcome)

    def grant(self, session_id: str | None, granted: Mapping[str, int | None]) -> Mapping[str, int]:
        return self._intake.grant(session_id, granted)

    def revoke(self, capability: str, reason: str) -> None:
        self._intake.revoke(capability, reason)

    def free_slots(self) -> Mapping[str, int]:
        return self._intake.free_slots()

    async def slots_changed(self) -> None:
        await self._intake.slots_changed()

    def emit(self, event: Event) -> None:
        self._intake.emit(event)


class Worker:
    """Handlers that do what their input says.

    Attributes:
        inputs: of every run, in the order of their starts.
        contexts: the context of every run.
    """

    def __init__(self) -> None:
        self.inputs: list[dict[str, Any]] = []
        self.contexts: list[LeaseContext] = []
        self.reporting: anyio.Event = anyio.Event()
        self.released: anyio.Event = anyio.Event()

    def runs_of(self, name: str) -> int:
        """Return how often a task was started."""
        return sum(value["name"] == name for value in self.inputs)

    async def run(self, value: dict[str, Any], ctx: LeaseContext) -> Any:
        """Do what the input says."""
        self.inputs.append(value)
        self.contexts.append(ctx)
        match value["do"]:
            case "fail":
                raise TerminalFailure("the task says so")
            case "retry" if self.runs_of(value["name"]) == 1:
                raise RetryableFailure("not the first time", after=value.get("after"))
            case "report":
                await self.reporting.wait()
                ctx.progress(percent=50, message=f"half way in {value['name']}")
                await self.released.wait()
            case "wait":
                await self.released.wait()
            case _:
                await anyio.lowlevel.checkpoint()
        return value.get("value")


class Scene:
    """An open task system, its broker, and what watches the neuron on it.

    Attributes:
        system: the task system.
        between: the broker as the neuron has it.
        worker: the neuron's handlers.
    """

    def __init__(self, broker: Broker, system: TaskSystem) -> None:
        self.system = system
        self.between: Between = Between(broker)
        self.worker: Worker = Worker()

    @asynccontextmanager
    async def neuron(self, *, concurrency: int = 4, heartbeat: float = 0.2) -> AsyncGenerator[Neuron]:
        """Run a neuron with one capability."""
        handler = capability(self.system.capability, concurrency=concurrency)(self.worker.run)
        timing = Timing(heartbeat=heartbeat, drain=DRAIN, reconnect=Backoff(initial=0.05, maximum=0.2))
        async with open_neuron(self.between, neuron_id=NEURON_ID, capabilities=[handler], timing=timing) as neuron:
            yield neuron

    async def submit(self, name: str, do: str = "return", **rest: Any) -> str:
        """Submit a task; what it does, and what it returns as `value`, stands in its input."""
        return await self.system.submit(self.system.capability, {"name": name, "do": do, **rest})

    async def until(self, what: str, condition: Callable[[], object]) -> None:
        """Wait until something holds.

        Raises:
            Unexpected: it does not, after most of the time that the check has.
        """
        begun = anyio.current_time()
        patience = SHARE * (anyio.current_effective_deadline() - begun)
        while not condition():
            if anyio.current_time() - begun > patience:
                odd = "".join(f"; {text}" for text in sorted(set(self.between.odd)))
                raise Unexpected(f"within {patience:.1f} s {what} did not come to be{odd}")
            await anyio.sleep(LOOK_EVERY)

    async def ended(self, task: str) -> TaskView:
        """Wait until a task has ended, and return how.

        Raises:
            Unexpected: it does not.
        """
        view = await self.system.look(task)
        begun = anyio.current_time()
        patience = SHARE * (anyio.current_effective_deadline() - begun)
        while not view.has_ended:
            if anyio.current_time() - begun > patience:
                odd = "".join(f"; {text}" for text in sorted(set(self.between.odd)))
                raise Unexpected(f"after {patience:.1f} s the system still shows the task as {view.state}{odd}")
            await anyio.sleep(LOOK_EVERY)
            view = await self.system.look(task)
        return view


@asynccontextmanager
async def open_scene(open_system: OpenSystem) -> AsyncGenerator[Scene]:
    """Open a task system."""
    async with open_system() as (broker, system):
        yield Scene(broker, system)


def row(name: str, sentence: str, play: Callable[[Scene], Awaitable[None]]) -> Check[OpenSystem]:
    """Return a check that is played on an open task system."""

    async def opened(open_system: OpenSystem) -> None:
        async with open_scene(open_system) as scene:
            await play(scene)

    return Check(name, sentence, opened)
