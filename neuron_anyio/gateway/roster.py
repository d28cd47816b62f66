"""Who is connected, what they offer, and which of their slots are free (promises G2 and G3).

Leases belong to a neuron id, not to a session: a neuron that lost its stream still holds them, and a session that
replaces it finds them counted against its slots.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import TypeAlias

from neuron_anyio.frames import CapabilityOffer

from .principals import Principal
from .tasks import Progressed

__all__ = ["LiveLease", "Neuron", "Roster", "Route", "Session", "Slots"]

Route: TypeAlias = tuple[str, str | None]
"""Capability type and user (None for `any`): a task and an offer that are equal in it fit each other."""


class LiveLease:
    """A lease that has not ended.

    Attributes:
        lease_id, task_id: its names.
        slots: where it takes a slot.
        session: on which it went out, None for one from before a restart.
        ttl: seconds that a renewal is worth.
        expires_at: wall-clock, for people; what counts is the ledger's timer.
        progress: the newest word of its handler.
    """

    __slots__ = ("expires_at", "lease_id", "progress", "session", "slots", "task_id", "ttl")

    def __init__(self, lease_id: str, task_id: str, slots: Slots, *, ttl: float, expires_at: datetime) -> None:
        self.lease_id: str = lease_id
        self.task_id: str = task_id
        self.slots: Slots = slots
        self.session: Session | None = None
        self.ttl: float = ttl
        self.expires_at: datetime = expires_at
        self.progress: Progressed | None = None


class Slots:
    """What one neuron does of one capability.

    Attributes:
        neuron: whose.
        type: capability type.
        offer: what is granted now, None when nothing is.
        leases: what it holds, by lease id.
        rests_until: no lease goes out before (seconds, monotonic).
        give_backs: leases that came back in a row.
        served: when it was last picked, as a count over all.
    """

    __slots__ = ("give_backs", "leases", "neuron", "offer", "rests_until", "served", "type")

    def __init__(self, neuron: Neuron, capability: str) -> None:
        self.neuron: Neuron = neuron
        self.type: str = capability
        self.offer: CapabilityOffer | None = None
        self.leases: dict[str, LiveLease] = {}
        self.rests_until: float = float("-inf")
        self.give_backs: int = 0
        self.served: int = 0

    @property
    def free(self) -> int:
        """Leases that may still go out; below 0 after the grant was lowered."""
        return 0 if self.offer is None else self.offer.concurrency - len(self.leases)

    @property
    def route(self) -> Route | None:
        """Which tasks it fits, None while nothing is offered."""
        if self.offer is None:
            return None
        scope = self.offer.scope
        return self.type, None if scope == "any" else scope.on_behalf_of


class Session:
    """One event stream.

    Attributes:
        session_id: the gateway's own.
        principal: who opened it.
        since: wall-clock.
        registered: `register` was accepted on it.
        draining: it has asked for no more until it registers anew.
    """

    __slots__ = ("draining", "principal", "registered", "session_id", "since")

    def __init__(self, session_id: str, principal: Principal, since: datetime) -> None:
        self.session_id: str = session_id
        self.principal: Principal = principal
        self.since: datetime = since
        self.registered: bool = False
        self.draining: bool = False


class Neuron:
    """One neuron id.

    Attributes:
        neuron_id: its own name for itself.
        owner: name of the principal that it is known under, None when that is not known.
        session: its open stream, None while there is none.
        offered: what it wants to do, granted or not; empty before the first `register`.
        slots: by capability type, also such as are no longer offered but still have leases.
    """

    __slots__ = ("neuron_id", "offered", "owner", "session", "slots")

    def __init__(self, neuron_id: str) -> None:
        self.neuron_id: str = neuron_id
        self.owner: str | None = None
        self.session: Session | None = None
        self.offered: dict[str, CapabilityOffer] = {}
        self.slots: dict[str, Slots] = {}

    @property
    def leases(self) -> Iterator[LiveLease]:
        """All that it holds."""
        return (lease for slots in self.slots.values() for lease in slots.leases.values())


class Roster:
    """All neurons, and for each route those that could take a lease at once.

    Whoever changes what `Slots` holds calls `refresh` after it.
    """

    __slots__ = ("_available", "_offering", "_picks", "_placed", "neurons", "revoked", "sessions")

    def __init__(self) -> None:
        self.neurons: dict[str, Neuron] = {}
        self.sessions: dict[str, Neuron] = {}
        self.revoked: set[str] = set()
        self._placed: dict[Slots, Route] = {}
        self._offering: dict[Route, dict[Slots, None]] = {}
        self._available: dict[Route, dict[Slots, None]] = {}
        self._picks = 0

    def connect(self, neuron_id: str, session: Session) -> None:
        """Make a session the neuron's own; the caller has closed the former one."""
        neuron = self.neurons.setdefault(neuron_id, Neuron(neuron_id))
        if neuron.owner != session.principal.name:
            neuron.offered = {}  # checked against what another token may offer
        neuron.owner = session.principal.name
        neuron.session = session
        self.sessions[session.session_id] = neuron

    def disconnect(self, session_id: str, now: float) -> Neuron | None:
        """Forget a session; its leases stay with the neuron. Return the neuron, None for an unknown session."""
        neuron = self.sessions.pop(session_id, None)
        if neuron is not None:
            neuron.session = None
            for slots in list(neuron.slots.values()):
                slots.offer = None
                self.refresh(slots, now)
        return neuron

    def grant(self, neuron: Neuron, now: float) -> tuple[CapabilityOffer, ...]:
        """Bring a registered neuron's slots in line with what it offers, and return what it got."""
        granted = {offer.type: offer for offer in neuron.offered.values() if offer.type not in self.revoked}
        for capability in granted:
            neuron.slots.setdefault(capability, Slots(neuron, capability))
        for slots in list(neuron.slots.values()):
            slots.offer = granted.get(slots.type)
            self.refresh(slots, now)
        return tuple(granted.values())

    def slots_of(self, neuron_id: str, capability: str) -> Slots:
        """Return a neuron's slots for a capability; neuron and slots are made where there are none."""
        neuron = self.neurons.setdefault(neuron_id, Neuron(neuron_id))
        return neuron.slots.setdefault(capability, Slots(neuron, capability))

    def refresh(self, slots: Slots, now: float) -> None:
        """Note whether these slots are offered, and whether they could take a lease now."""
        route = slots.route
        placed = self._placed.pop(slots, None)
        if placed is not None and placed != route:
            _take_out(self._offering, placed, slots)
            _take_out(self._available, placed, slots)
        if route is None:
            if not slots.leases:
                slots.neuron.slots.pop(slots.type, None)
            return
        self._placed[slots] = route
        self._offering.setdefault(route, {})[slots] = None
        session = slots.neuron.session
        if session is not None and not session.draining and slots.free > 0 and slots.rests_until <= now:
            self._available.setdefault(route, {})[slots] = None
        else:
            _take_out(self._available, route, slots)

    def is_offered(self, route: Route) -> bool:
        """Return whether anybody connected does such tasks."""
        return route in self._offering

    def pick(self, route: Route) -> Slots | None:
        """Return the slots with most room, those first that waited longest; None when nobody has room."""
        available = self._available.get(route)
        if not available:
            return None
        slots = max(available, key=lambda each: (each.free, -each.served))
        self._picks += 1
        slots.served = self._picks
        return slots

    def offering(self, capability: str) -> Iterable[Slots]:
        """Return all slots that are offered for a capability, whatever the user."""
        return [slots for slots in self._placed if slots.type == capability]

    def offered_types(self) -> set[str]:
        """Return the capabilities that anybody connected does."""
        return {capability for capability, _ in self._offering}

    def forget(self, neuron_id: str) -> bool:
        """Forget a neuron that has neither a session nor leases; return whether it is gone."""
        neuron = self.neurons.get(neuron_id)
        if neuron is not None and neuron.session is None and not any(neuron.leases):
            del self.neurons[neuron_id]
        return neuron_id not in self.neurons


def _take_out(index: dict[Route, dict[Slots, None]], route: Route, slots: Slots) -> None:
    members = index.get(route)
    if members is not None:
        members.pop(slots, None)
        if not members:
            del index[route]
