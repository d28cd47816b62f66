"""One broker's side of a neuron: what the broker is given, and what it is kept told."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Protocol

import anyio
from anyio import CancelScope

from . import events
from .abc import Broker
from .config import Timing
from .errors import TransportError
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
    """The `Intake` of one broker, and the two tasks that speak to it: heartbeats and changed limits.

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
        self._heartbeat = Wakeup()
        self._announcing = Wakeup()
        self._to_announce: dict[str, None] = {}
        self._beating: CancelScope | None = None

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
            self._heartbeat.notify()
        self._desk.emit(event)

    # What the engine calls

    def lease_held(self) -> None:
        """Note that a lease may be held now, or a newer one of its task, which may want heartbeats earlier."""
        if self._beating is not None:
            self._beating.deadline = min(self._beating.deadline, self._desk.clock() + self._heartbeat_period())
        self._heartbeat.notify()

    def limit_changed(self, capability: str) -> None:
        """Note that the broker has to be told of a limit."""
        self._to_announce[capability] = None
        self._announcing.notify()

    async def keep_alive(self) -> None:
        """Send heartbeats for ever (promise H1)."""
        desk = self._desk
        due = desk.clock() + desk.timing.heartbeat
        while True:
            period = self._heartbeat_period()
            due = min(due, desk.clock() + period)
            # Not when it is due: leases that start without a pause would put it off for ever.
            if desk.clock() < due and await self._heartbeat.wait(until=due):
                continue
            due = desk.clock() + period
            await self._beat(period)

    def _heartbeat_period(self) -> float:
        shortest = self._desk.ledger.held.shortest(self._number)
        interval = self._desk.timing.heartbeat
        return interval if shortest is None else min(interval, max(SHORTEST, shortest / HEARTBEATS_PER_LEASE))

    async def _beat(self, period: float) -> None:
        desk = self._desk
        sent_at = desk.clock()
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
            self._beating = None
        self._renews = self._renews or taken
        self.alive = self.registered and (taken or not self._renews)

    async def announce_changes(self) -> None:
        """Tell the broker of changed limits, each until it is accepted or has changed again (promise L5)."""
        desk = self._desk
        retries = Retries(desk.timing.reconnect)
        while True:
            if not self._to_announce:
                await self._announcing.wait()
                continue
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
            await self._announcing.wait(until=desk.clock() + delay)
