"""One broker's side of a neuron: what the broker is given, and what it is kept told."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from contextvars import Context, copy_context
from functools import partial
from typing import Protocol

import anyio
from anyio import CancelScope
from anyio.abc import TaskGroup

from . import events
from .abc import Broker
from .alarms import Alarms
from .config import Timing
from .errors import TransportError
from .lease import Lease
from .ledger import Ledger
from .logs import named
from .model import Delivery, Failed, GivenBack, Offer
from .retries import Retries
from .wakeup import Changed, Wakeup

__all__ = ["Desk", "Source"]

HEARTBEATS_PER_LEASE = 3
"""Heartbeats within the shortest held lease time: two may be lost (promise H1)."""


SHORTEST = 0.1
"""Seconds between heartbeats at the least: a lease that comes with a few milliseconds left is past saving."""


class Desk(Protocol):
    """Where a source takes what comes in: the engine."""

    neuron_id: str
    ledger: Ledger
    timing: Timing
    log: logging.Logger
    changed: Changed
    alarms: Alarms

    def clock(self) -> float:
        """Return the loop's time in seconds."""
        ...

    def emit(self, event: events.Event) -> None:
        """Show an event."""
        ...

    def deliver(self, source: int, delivery: Delivery) -> None:
        """Take a delivery."""
        ...

    def cancel(self, source: int, delivery_id: str) -> None:
        """Take a cancel."""
        ...

    def refuse(self, source: int, delivery_id: str, outcome: Failed | GivenBack) -> None:
        """Settle what could not be read."""
        ...

    def grant(self, source: int, granted: Mapping[str, int | None]) -> None:
        """Take what was granted."""
        ...

    def revoke(self, source: int, capability: str, reason: str) -> None:
        """Take a revocation."""
        ...

    def renewed(self) -> None:
        """Note that leases have more time now."""
        ...

    def reconnected(self, source: int) -> None:
        """Note that a broker has come back."""
        ...


class Source:
    """The `Intake` of one broker, and what speaks to it: heartbeats and changed limits.

    Args:
        desk: where what comes in is taken.
        number: which of the neuron's brokers.
        broker: the broker.

    Attributes:
        origin: the broker's name, for events and logs.
        session_id: the broker's name for the session, None before and without one.
        effective: concurrency by type, as granted last.
        connected, registered: how the connection stands.
        alive: registered, and the last heartbeat was taken; a system that renews nothing takes none.
    """

    def __init__(self, desk: Desk, number: int, broker: Broker) -> None:
        self.origin: str = broker.origin
        self.session_id: str | None = None
        self.effective: Mapping[str, int] = {}
        self.connected: bool = False
        self.registered: bool = False
        self.alive: bool = False
        self._renews = False
        self._desk = desk
        self._number = number
        self._broker = broker
        self._heartbeat = desk.alarms.add(self._beat_soon)
        self._group: TaskGroup | None = None
        self._variables: Context = copy_context()
        self._announcing: Wakeup | None = None
        self._to_announce: dict[str, None] = {}
        self._is_beating = False
        self._beating: CancelScope | None = None
        self._wanted = math.inf

    # What the broker may call

    @property
    def neuron_id(self) -> str:
        """The neuron's id."""
        return self._desk.neuron_id

    def offers(self) -> Sequence[Offer]:
        """Return what to announce to this broker."""
        return self._desk.ledger.offers(self._number)

    def deliver(self, delivery: Delivery) -> None:
        """Take a delivery."""
        self._desk.deliver(self._number, delivery)

    def cancel(self, delivery_id: str, reason: str) -> None:
        """Take a cancel."""
        line = named("lease.cancelled", lease_id=delivery_id, origin=self.origin)
        self._desk.log.info("lease %s is cancelled by %s: %s", delivery_id, self.origin, reason[:200], extra=line)
        self._desk.cancel(self._number, delivery_id)

    def refuse(self, delivery_id: str, outcome: Failed | GivenBack) -> None:
        """Settle a delivery that could not be read."""
        self._desk.refuse(self._number, delivery_id, outcome)

    def grant(self, session_id: str | None, granted: Mapping[str, int | None]) -> Mapping[str, int]:
        """Take what the broker granted."""
        self.session_id = session_id
        self._desk.grant(self._number, granted)
        pools = self._desk.ledger.slots.pools
        self.effective = {name: pool.limit for name, pool in pools.items() if granted.get(name, 0) != 0}
        return self.effective

    def revoke(self, capability: str, reason: str) -> None:
        """Take a revocation."""
        self.effective = {name: limit for name, limit in self.effective.items() if name != capability}
        self._desk.revoke(self._number, capability, reason)

    def free_slots(self) -> Mapping[str, int]:
        """Return how many handlers of each type could start now."""
        ledger = self._desk.ledger
        free = ledger.slots.free()
        return dict.fromkeys(free, 0) if ledger.closed else free

    async def slots_changed(self) -> None:
        """Wait for a change of the slots."""
        await self._desk.changed.wait()

    def emit(self, event: events.Event) -> None:
        """Note what the event says of the connection, and pass it on."""
        if isinstance(event, events.Connected):
            self.connected = True
        elif isinstance(event, events.Disconnected):
            self.connected = self.registered = self.alive = False
        elif isinstance(event, events.Registered):
            self.registered = self.alive = True
            self._desk.reconnected(self._number)
            self._hasten(self._desk.clock() + self._shortest_period())
        self._desk.emit(event)

    # What the engine calls

    def lease_held(self, lease: Lease, now: float) -> None:
        """Note that a lease may be held now, or a newer one of its task, which may want heartbeats earlier."""
        self._hasten(now + self._period(lease.delivery.time_left))

    def limit_changed(self, capability: str) -> None:
        """Note that the broker has to be told of a limit."""
        self._to_announce[capability] = None
        if self._announcing is not None:
            self._announcing.notify()
        elif self._group is not None:
            self._announcing = Wakeup()
            announce = partial(self._announce_changes, self._announcing)
            # Not in the variables of the handler that may have changed the limit.
            self._variables.copy().run(partial(self._group.start_soon, announce, name="neuron updates"))

    def open(self, group: TaskGroup) -> None:
        """Speak to the broker in tasks of this group, until it is cancelled: heartbeats begin (promise H1)."""
        self._group = group
        self._heartbeat.set(self._desk.clock() + self._shortest_period())
        for capability in list(self._to_announce):
            self.limit_changed(capability)

    def close(self) -> None:
        """Begin nothing any more: the group is over."""
        self._group = None

    def _hasten(self, wanted: float) -> None:
        """Let the next heartbeat come by then; the one that is under way must not hold it up."""
        if not self._is_beating:
            self._heartbeat.advance(wanted)
            return
        self._wanted = min(self._wanted, wanted)
        if self._beating is not None:
            self._beating.deadline = min(self._beating.deadline, wanted)

    def _beat_soon(self) -> None:
        if self._group is not None:
            self._is_beating = True
            self._group.start_soon(self._beat, name="neuron heartbeat")

    def _shortest_period(self) -> float:
        return self._period(self._desk.ledger.held.shortest(self._number, self._desk.clock()))

    def _period(self, lease_time: float | None) -> float:
        """Return the seconds between two heartbeats that the shortest lease time wants."""
        interval = self._desk.timing.heartbeat
        return min(interval, max(SHORTEST, lease_time / HEARTBEATS_PER_LEASE)) if lease_time else interval

    async def _beat(self) -> None:
        desk = self._desk
        sent_at, period = desk.clock(), self._shortest_period()
        held = desk.ledger.held.listed(self._number, sent_at)
        taken = False
        try:
            # One that is not answered within its interval is given up, so that the next one goes out.
            with anyio.move_on_after(period) as self._beating:
                if taken := await self._broker.keep_alive(held):
                    desk.ledger.held.renew(self._number, [item.delivery_id for item in held], sent_at)
                    desk.renewed()
        except TransportError as exc:
            line = named("heartbeat.failed", origin=self.origin)
            desk.log.debug("heartbeat to %s failed: %s", self.origin, exc, extra=line)
        except Exception:
            desk.log.exception(
                "heartbeat to %s failed", self.origin, extra=named("heartbeat.broken", origin=self.origin)
            )
        finally:
            self._is_beating, self._beating = False, None
            wanted, self._wanted = self._wanted, math.inf
            self._heartbeat.set(min(sent_at + period, wanted, desk.clock() + self._shortest_period()))
        self._renews = self._renews or taken
        self.alive = self.registered and (taken or not self._renews)

    async def _announce_changes(self, announcing: Wakeup) -> None:
        """Tell the broker of changed limits, each until it is accepted or has changed again (promise L5)."""
        desk = self._desk
        retries = Retries(desk.timing.reconnect)
        while self._to_announce:
            capability = next(iter(self._to_announce))
            del self._to_announce[capability]
            pool = desk.ledger.slots.pools[capability]
            about = {"origin": self.origin, "capability": capability}
            if not pool.is_granted(self._number):
                continue  # the register that asks for it again carries the limit (promise C12)
            try:
                await self._broker.announce(pool.offer)
            except TransportError as exc:
                delay = retries.fail(exc.retry_after)
                if retries.is_telling:
                    line = named("capability.limit_not_taken", **about)
                    text = "%s did not take the new limit of %s: %s"
                    desk.log.warning(text, self.origin, capability, exc, extra=line)
            except Exception:
                delay = retries.fail()
                line = named("capability.limit_broken", **about)
                desk.log.exception("telling %s the new limit of %s failed", self.origin, capability, extra=line)
            else:
                retries.reset()
                continue
            self._to_announce.setdefault(capability)
            await announcing.wait(until=desk.clock() + delay)
        self._announcing = None
