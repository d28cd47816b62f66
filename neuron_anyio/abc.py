"""The two seams: `Broker`, a task system as a neuron sees it, and `Transport`, BigBrain frames over something.

A neuron speaks to any number of brokers in the words of `model`: deliveries, outcomes, progress. Only a broker knows
what its system calls these, which of them it has, and how it is reached. `BigBrainBroker` is one; it speaks frames,
and leaves to a `Transport` how their bytes travel. Whoever adds a task system writes a `Broker`; whoever adds a road
for BigBrain frames (a pipe, a message bus) writes a `Transport`.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol, runtime_checkable

import msgspec
from anyio.abc import TaskStatus

from .events import Event
from .model import Delivery, Failed, GivenBack, Held, Offer, Outcome, Progress

__all__ = [
    "Broker",
    "EventStream",
    "Intake",
    "Journal",
    "Oversized",
    "Receipt",
    "Record",
    "Reply",
    "Ticket",
    "Transport",
    "Verdict",
]


class Verdict(enum.Enum):
    """What became of a settlement that reached the broker."""

    ACCEPTED = "accepted"
    GONE = "the lease is over or another's; the result may still answer a redelivery"
    REFUSED = "the broker will never take this content"


class Receipt(msgspec.Struct, frozen=True, kw_only=True):
    """The broker's answer to a settlement.

    Attributes:
        verdict: what became of it.
        reason: the broker's text for people, `""` when accepted.
    """

    verdict: Verdict
    reason: str = ""


class Intake(Protocol):
    """What a neuron gives to each of its brokers. Every method returns at once; none raises on what a peer sent.

    Call from the event loop's thread only.
    """

    @property
    def neuron_id(self) -> str:
        """The neuron's id."""
        ...

    def offers(self) -> Sequence[Offer]:
        """Return what to announce now: capabilities as they stand, less what was revoked (promises C7, C12)."""
        ...

    def deliver(self, delivery: Delivery) -> None:
        """Hand over a delivery; the neuron runs it, answers it from its book or gives it back."""
        ...

    def cancel(self, delivery_id: str, reason: str) -> None:
        """Say that a delivery was called off (promise L4)."""
        ...

    def refuse(self, delivery_id: str, outcome: Failed | GivenBack) -> None:
        """Settle a delivery that could not be read, unless its id is held."""
        ...

    def grant(self, session_id: str | None, granted: Mapping[str, int | None]) -> Mapping[str, int]:
        """Say what the broker accepted; return the concurrency by type that is effective now (promise C11).

        Args:
            session_id: the broker's name for the session, None where it has none.
            granted: the most that it will send at once, by type; None where that is all that was asked for, so that it
                does not stand in the way of a limit that is raised later; a type that is missing was not granted.
        """
        ...

    def revoke(self, capability: str, reason: str) -> None:
        """Say that no more of a type will come (promise C12)."""
        ...

    def free_slots(self) -> Mapping[str, int]:
        """Return how many handlers of each type could start now; all 0 while draining or paused."""
        ...

    async def slots_changed(self) -> None:
        """Wait until a slot may have become free or been taken; look at `free_slots()` then. For pull systems."""
        ...

    def emit(self, event: Event) -> None:
        """Show an event to whoever listens."""
        ...


@runtime_checkable
class Broker(Protocol):
    """A task system as a neuron sees it.

    The neuron calls `open` first and leaves it last, so that last words still have a way. In between it runs `take`
    in a task of its own, calls `keep_alive` on a timer, and `report` and `settle` from its delivery workers, several at
    once. Nothing here is retried by the broker itself except its connection: a `TransportError` out of `settle` or
    `announce` means "not now", and the neuron tries again with back-off (promise L9).
    """

    @property
    def origin(self) -> str:
        """Name of the other side for logs and errors, without credentials."""
        ...

    def open(self, intake: Intake) -> AbstractAsyncContextManager[None]:
        """Acquire what the other methods need. No delivery is taken yet."""
        ...

    async def take(self, *, task_status: TaskStatus[None]) -> None:
        """Announce `intake.offers()` and take deliveries until cancelled, over any number of reconnects.

        A push system hands over what comes and need not look at `intake.free_slots()`; a pull system polls for as many
        as are free. Calls `task_status.started()` when the first announcement was accepted (promise C1).

        Raises:
            NeuronError: there is no way to go on; the neuron drains and raises it (promise C2).
        """
        ...

    async def announce(self, offer: Offer) -> None:
        """Tell of a changed capability.

        Raises:
            TransportError: not now.
        """
        ...

    async def keep_alive(self, held: Sequence[Held]) -> bool:
        """Renew these deliveries; return whether that was accepted. A system without renewal returns False.

        Called every interval, also with nothing held. Whether that is worth a request is the broker's decision.

        Raises:
            TransportError: not now.
        """
        ...

    async def report(self, delivery: Delivery, progress: Progress) -> None:
        """Send progress, once. A system without progress does nothing.

        Raises:
            TransportError: it was lost; nobody sends it again.
        """
        ...

    async def settle(self, delivery_id: str, outcome: Outcome) -> Receipt:
        """Send how a delivery ended, once. The neuron may send it again; a delivery that is not there is `GONE`.

        A system that cannot express an outcome chooses the nearest that loses nothing (a give-back that it does not
        know becomes a retryable failure).

        Raises:
            TransportError: not now; `retry_after` may say when, `is_final` that it is of no use.
        """
        ...


class Oversized(msgspec.Struct, frozen=True, kw_only=True):
    """A document over the size bound that was skipped.

    Attributes:
        size: bytes.
        head: its first 4 KiB.
    """

    size: int
    head: bytes


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to one posted frame.

    Attributes:
        status: as HTTP has it; a transport without statuses says 200 or 500.
        text: what the other side said, for people, already cut to a line; never a token.
        is_json: whether the body was JSON (a 404 from an ingress is not).
        retry_after: seconds that the other side asked to wait, or None.
    """

    status: int
    text: str = ""
    is_json: bool = False
    retry_after: float | None = None


class EventStream(Protocol):
    """The open stream of a `Transport`."""

    @property
    def comments(self) -> int:
        """Keep-alive comments so far; 0 for ever where the transport has none."""
        ...

    async def receive(self) -> Sequence[bytes | str | Oversized]:
        """Wait for something to come; return the documents in it, none for a mere keep-alive.

        Raises:
            anyio.EndOfStream: it ended cleanly.
            TransportError: it broke.
        """
        ...


class Record(msgspec.Struct, frozen=True):
    """One entry.

    Attributes:
        key: which task.
        value: what is kept for it.
        at: when it was recorded, wall-clock, seconds since the epoch.
    """

    key: bytes
    value: bytes
    at: float

    def __repr__(self) -> str:
        return f"Record(key={self.key.hex()}, {len(self.value)} bytes, at={self.at})"


class Ticket(Protocol):
    """One value on its way into a `Journal`."""

    @property
    def key(self) -> bytes:
        """The value's key."""
        ...

    @property
    def is_written(self) -> bool:
        """Whether it is there."""
        ...

    async def wait(self) -> None:
        """Wait until it is.

        Raises:
            JournalError: it could not be written.
        """
        ...


class Journal(Protocol):
    """Keeps results until they are accepted, over the death of the process (promise L10)."""

    @property
    def recorded(self) -> Sequence[Record]:
        """What was kept when it was opened, oldest first; nothing after `release`."""
        ...

    def release(self) -> None:
        """Let go of `recorded`, which may be large."""
        ...

    def put(self, key: bytes, value: bytes) -> Ticket:
        """Keep a value under a key, in the place of an earlier one. Never waits."""
        ...

    def ticket(self, key: bytes) -> Ticket:
        """Return the ticket of a value that was kept when it was opened."""
        ...

    def forget(self, key: bytes) -> None:
        """Remove a key, soon. Never waits."""
        ...


@runtime_checkable
class Transport(Protocol):
    """BigBrain frames both ways. Documents are JSON text; `codec` makes frames of them."""

    @property
    def origin(self) -> str:
        """Name of the other side for logs and errors, without credentials."""
        ...

    def open(self) -> AbstractAsyncContextManager[None]:
        """Acquire what the other methods need (a connection pool, a child process)."""
        ...

    def subscribe(self, neuron_id: str) -> AbstractAsyncContextManager[EventStream]:
        """Open the stream of frames for this neuron; inside the block it is open. Afterwards another may be opened.

        Raises:
            StreamRefused: the other side answered, and not with a stream.
            TransportError: it could not be reached.
        """
        ...

    async def post(self, path: str, body: bytes) -> Reply:
        """Carry one frame to the gateway. `path` is the frame's type, `"ack"`, `body` its JSON text.

        Several are carried at the same time; each may be cancelled, and leaves the transport usable. A refused token is
        mended here (promise C4): a reply of 401 means that a fresh one did not help.

        Raises:
            TransportError: no reply came; with `is_final` where none will ever come, so that nobody tries again.
        """
        ...
