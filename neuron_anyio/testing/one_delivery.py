"""A broker that has one delivery and takes its outcome."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager

import anyio
from anyio.abc import TaskStatus
from msgspec.structs import replace

from ..abc import Intake, Receipt, Verdict
from ..events import Registered
from ..model import Delivery, Held, Offer, Outcome, Progress

__all__ = ["OneDelivery"]


class OneDelivery:
    """Hands out one delivery to a neuron that has just come, and renews it until it is told not to.

    Args:
        delivery: the delivery.

    Attributes:
        origin: its name in events and logs.
        outcome: how the delivery ended, None while it has not.
    """

    def __init__(self, delivery: Delivery) -> None:
        self.origin = "memory:test"
        self.outcome: Outcome | None = None
        self._delivery = delivery
        self._settled = anyio.Event()
        self._is_cancelled = False
        self._is_lost = False
        self._intake: Intake

    def cancel(self, reason: str) -> None:
        """Call it off."""
        self._is_cancelled = True
        self._intake.cancel(self._delivery.id, reason)

    def lose(self) -> None:
        """Let its time be over: it is delivered again without any, and not renewed. Not after a cancel or the end."""
        if self._is_lost or self._is_cancelled or self.outcome is not None:
            return
        self._is_lost = True
        self._delivery = replace(self._delivery, id=f"{self._delivery.id}-again", time_left=0.0)
        self._intake.deliver(self._delivery)

    async def wait_settled(self) -> None:
        """Wait for the outcome."""
        await self._settled.wait()

    @asynccontextmanager
    async def open(self, intake: Intake) -> AsyncGenerator[None]:
        """Nothing to acquire."""
        self._intake = intake
        yield

    async def take(self, *, task_status: TaskStatus[None]) -> None:
        """Deliver, and stay."""
        offers = self._intake.offers()
        effective = self._intake.grant(None, dict.fromkeys(offer.capability for offer in offers))
        self._intake.emit(Registered(origin=self.origin, session_id=None, capabilities=effective))
        task_status.started()
        self._intake.deliver(self._delivery)
        await anyio.sleep_forever()

    async def announce(self, offer: Offer) -> None:
        """Nothing depends on limits here."""

    async def keep_alive(self, held: Sequence[Held]) -> bool:  # noqa: ARG002 - the seam's signature
        """Renew, unless the delivery's time is over."""
        return not self._is_lost

    async def report(self, delivery: Delivery, progress: Progress) -> None:
        """Nobody asks here; `HandlerRun` sees every update before it can be merged with others."""

    async def settle(self, delivery_id: str, outcome: Outcome) -> Receipt:  # noqa: ARG002 - the seam's signature
        """Take the outcome; there is one."""
        if self.outcome is None:
            self.outcome = outcome
            self._settled.set()
        return Receipt(verdict=Verdict.ACCEPTED)
