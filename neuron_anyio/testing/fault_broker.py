"""The broker behind the fault gateway: what is handed out, what is done when a lease's moment has come.

Synchronous throughout. It knows the book, the open stream and the fault; requests are `fault_http`'s.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, TypeAlias

import anyio

from . import fault_leases as frames
from .book import ACK, Book, Task
from .fault_server import Server
from .fault_stream import EventStream
from .faults import Connecting, Deed, Fault, Leasing

__all__ = ["FaultBroker", "Later"]

REVOKED_FOR = 0.1
"""Seconds until what was revoked is granted again."""

OK, NOT_FOUND, CONFLICT = 200, 404, 409

Later: TypeAlias = Callable[[float, Callable[[], object]], object]
"""Call something after so many seconds."""


class FaultBroker:
    """Tasks in, leases out.

    Args:
        fault: what it does wrong.
        lease_ttl: seconds that a lease lives without a heartbeat.

    Attributes:
        book: tasks and leases.
        deed: of the fault, None when it is over.
        struck: how often the fault has acted, by what it acted on.
        stream: the open stream.
        server, later: set by whoever runs it.
    """

    server: Server
    later: Later

    def __init__(self, fault: Fault, *, lease_ttl: float) -> None:
        self.book: Book = Book()
        self.deed: Deed | None = fault.deed
        self.struck: Counter[str] = Counter()
        self.stream: EventStream | None = None
        self._lease_ttl = lease_ttl
        self._offers: list[Any] | None = None
        self._offered: set[str] = set()
        self._revoked: set[str] = set()
        self._is_new_stream = False
        self._last_lease = ""
        self._changed = anyio.Event()

    def strike(self, what: str = "") -> None:
        """Note that the fault acts now."""
        self.struck[what] += 1
        self.book.struck(time.monotonic())

    def notify(self) -> None:
        """Wake those who wait for a change."""
        self._changed.set()
        self._changed = anyio.Event()

    async def wait_for(self, condition: Callable[[], bool]) -> None:
        """Wait until something holds that changes with what neurons send."""
        while not condition():
            await self._changed.wait()

    # What operators do

    def cancel(self, task_id: str) -> None:
        """Call a task off."""
        lease_id = self.book.cancel(task_id)
        if lease_id is not None:
            self._push(frames.cancel(lease_id, now=self._wall()))
        self.notify()

    def revoke(self, capability: str) -> None:
        """Take a capability away, until `grant`."""
        self._revoked.add(capability)
        self._push(frames.revoked(capability, now=self._wall()))

    def grant(self) -> None:
        """Grant again what was revoked."""
        self._revoked.clear()
        self._push(frames.registered(self._offers or [], now=self._wall()))
        self.hand_out()

    def disconnect(self, *, reconnectable: bool) -> None:
        """Send the neuron away."""
        self._push(frames.disconnect(reconnectable=reconnectable, now=self._wall()))
        if self.stream is not None:
            self.stream.end()

    def restart(self, *, away: float, with_state: bool) -> None:
        """Hang up on everybody and come back after `away` seconds, with or without the leases."""
        if not with_state:
            self.book.forget_leases()
        self._offers = self.stream = None
        self.server.go_away(away)
        self.server.hang_up(reset=True)

    def reap(self) -> None:
        """Take back every lease, because the neuron that had them is gone."""
        self.book.reap(time.monotonic())
        self._offers = self.stream = None

    def open_stream(self, stream: EventStream) -> None:
        """Take a new stream in place of the one so far."""
        if self.stream is not None:
            self.stream.end()
        self._offers = None
        self.stream, self._is_new_stream = stream, True

    # What a neuron's frames do

    def act(self, route: str, frame: dict[str, Any]) -> int:
        """Do what a neuron asks for. Returns the status to answer with."""
        now = time.monotonic()
        match route:
            case "register":
                self._register(frame["capabilities"])
            case "heartbeat":
                held = [item["leaseId"] for item in frame["inFlight"]]
                self.book.renew(held, now)
                for lease_id in held:
                    self._note_started(lease_id)
                return NOT_FOUND if self._offers is None else OK
            case "progress":
                self._note_started(frame["leaseId"])
            case "ack" | "nack":
                return self._settle(frame, now)
            case _:
                pass
        return OK

    def refuse(self, frame: dict[str, Any]) -> None:
        """Answer a result as if its lease were over, and hand the task out again."""
        self.book.refuse(frame["leaseId"], frame.get("kind", ACK), time.monotonic())
        self.hand_out()

    def forget_neuron(self) -> None:
        """Hand nothing out before the neuron has registered again."""
        self._offers = None

    def _register(self, capabilities: list[Any]) -> None:
        self._offers = capabilities
        self._offered = {offer["type"] for offer in capabilities}
        if self._is_new_stream:
            self.book.take_back_unseen()
        self._is_new_stream = False
        self._push(frames.registered(capabilities, now=self._wall()))
        self.hand_out()

    def _settle(self, frame: dict[str, Any], now: float) -> int:
        lease_id = frame["leaseId"]
        deed = self._due("ack")
        if frame["type"] == ACK and deed is not None and deed.do == "refuse":
            self.strike()
            self.refuse(frame)
            return CONFLICT
        status = self.book.answer(lease_id, frame.get("kind", ACK), frame.get("output"), now)
        self.hand_out()
        self.notify()
        return status

    def _note_started(self, lease_id: str) -> None:
        if not self.book.seen(lease_id):
            return
        self.at_moment("started", lease_id)
        if isinstance(self.deed, Connecting) and self.deed.kind in ("rst", "close") and not self.struck["armed"]:
            self.strike("armed")
            self.server.hang_up(reset=self.deed.kind == "rst")

    # Leases out

    def hand_out(self) -> None:
        """Lease every task that somebody is there for."""
        if self.stream is None or self._offers is None:
            return
        able = self._offered - self._revoked
        tasks = [task for task in self.book.pending() if task.capability in able]
        deed = self._due("sent")
        if deed is not None and deed.do == "flood":
            if len(tasks) < deed.size:
                return
            self.strike()
        for task in tasks:
            self._lease(task)

    def _lease(self, task: Task) -> None:
        deed, ttl = self._due("sent"), self._lease_ttl
        if deed is not None and deed.other and not self._last_lease:
            deed = None
        if deed is not None and deed.do == "time" and deed.seconds > 0:
            ttl = deed.seconds
        lease_id = self._last_lease = self.book.lease(task, time.monotonic(), ttl=ttl)
        frame = frames.lease(task, lease_id, now=self._wall(), ttl=ttl)
        if deed is None:
            return self._push_lease(frame)
        self.strike()
        if deed.do == "cancel-first":
            self.book.cancel(task.id)
        elif deed.do in ("time", "another-user"):
            self.book.spoil(lease_id)
        for other in frames.twisted(deed, frame, now=self._wall()):
            self._push(other)
        return None

    def _push_lease(self, frame: dict[str, Any]) -> None:
        """Send a lease, unless the connection fails right now."""
        deed, stream = self.deed, self.stream
        if isinstance(deed, Connecting) and stream is not None and not self.struck[""]:
            if deed.kind == "close-mid-frame":
                self.strike()
                return stream.cut(frame)
            if deed.kind == "half-open":
                self.strike()
                stream.mute = True
        return self._push(frame)

    def _due(self, on: str) -> Leasing | None:
        """Return the fault's deed if this is its moment, and it has not been done yet or is done to all."""
        deed = self.deed
        if not isinstance(deed, Leasing) or deed.on != on or (self.struck[""] and deed.do != "clock"):
            return None
        return deed

    def at_moment(self, on: Literal["started", "ack", "acked"], lease_id: str) -> bool:
        """Do what the fault does at a moment of a lease. Returns whether it did something."""
        deed = self._due(on)
        if deed is None or deed.do == "refuse":
            return False
        task = self.book.task_of(self._last_lease if deed.other else lease_id)
        if task is None:
            return False
        self.strike()
        match deed.do:
            case "cancel" if task.is_over:
                self._push(frames.cancel(lease_id, now=self._wall()))
            case "cancel":
                self.cancel(task.id)
            case "redeliver":
                self._lease(task)
            case "revoke":
                self.revoke(task.capability)
                if self._last_lease != lease_id:
                    self.book.spoil(self._last_lease)  # it waits for a slot, and has to be given back
                self.later(REVOKED_FOR, self.grant)
            case "disconnect" | "dismiss":
                self.disconnect(reconnectable=deed.do == "disconnect")
            case _:
                self.restart(away=deed.seconds, with_state=deed.do == "restart")
        return True

    def _push(self, frame: dict[str, Any]) -> None:
        if self.stream is not None:
            self.stream.push(frame)

    def _wall(self) -> datetime:
        deed = self.deed
        off = deed.seconds if isinstance(deed, Leasing) and deed.do == "clock" else 0.0
        return datetime.now(UTC) + timedelta(seconds=off)
