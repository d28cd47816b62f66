"""What goes into the journal and comes out of it (promise L10)."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence

import anyio

from .abc import Journal, Ticket
from .errors import JournalError
from .lease import Lease, State
from .ledger import Ledger
from .logs import named
from .records import decode_record, encode_record, is_worth_recording, record_key

__all__ = ["Recorder"]

PATIENCE = 5.0
"""Seconds that a result waits for the disk before it is delivered all the same: a hanging disk must not hold up all."""


class Recorder:
    """Keeps the results of a neuron in its journal while they are undelivered; without a journal it does nothing.

    Args:
        log: logger.
        origins: names of the brokers, by number.
    """

    def __init__(self, log: logging.Logger, *, origins: Sequence[str]) -> None:
        self._log = log
        self._origins = origins
        self._journal: Journal | None = None
        self._tickets: dict[Lease, Ticket] = {}
        self._restored: dict[int, list[Lease]] = {}
        self._unwritten: set[Lease] = set()

    @property
    def recorded(self) -> int:
        """Undelivered results that are in the file."""
        return sum(ticket.is_written and lease.state is State.UNDELIVERED for lease, ticket in self._tickets.items())

    def open(self, journal: Journal, ledger: Ledger, *, sources: int, now: float) -> None:
        """Take a journal, and what is in it into the book."""
        self._journal = journal
        wall = time.time()
        self._restored = {source: [] for source in range(sources)}
        for record in journal.recorded:
            try:
                recorded = decode_record(record.value)
            except JournalError as exc:
                self._log.error("%s; it stays in the file", exc, extra=named("journal.unreadable"))
                continue
            if recorded.source not in self._restored:
                line = named("journal.not_ours")
                self._log.error(
                    "a result in the journal is for a broker that is not here; it stays in the file", extra=line
                )
                continue
            lease = ledger.restore(recorded, now, age=max(0.0, wall - record.at))
            self._tickets[lease] = journal.ticket(record.key)
            self._restored[recorded.source].append(lease)
        journal.release()
        if self._tickets:
            line = named("journal.restored", results=len(self._tickets))
            self._log.info("the journal holds %d results that were not delivered", len(self._tickets), extra=line)

    def pop_restored(self, source: int) -> list[Lease]:
        """Return, once, what was in the journal for a broker and is still undelivered, oldest first."""
        return [lease for lease in self._restored.pop(source, []) if lease.state is State.UNDELIVERED]

    def record(self, lease: Lease) -> None:
        """Let the result of a lease be written, if it is worth it; over an earlier one of the same lease."""
        earlier = self._tickets.get(lease)
        if self._journal is None or (earlier is None and not is_worth_recording(lease)):
            return
        key = record_key(lease) if earlier is None else earlier.key
        self._tickets[lease] = self._journal.put(key, encode_record(lease))

    def is_pending(self, lease: Lease) -> bool:
        """Return whether the result of a lease is on its way into the file."""
        ticket = self._tickets.get(lease)
        return ticket is not None and not ticket.is_written

    async def wait_recorded(self, lease: Lease) -> None:
        """Wait until a result is in the file. One that cannot be written is delivered all the same.

        It is written again, for the next attempt: the disk may have room before the broker takes the result.
        """
        try:
            with anyio.move_on_after(PATIENCE) as patience:
                await self._tickets[lease].wait()
            if patience.cancelled_caught:
                self._warn(lease, f"it could not be written within {PATIENCE:g} s")
        except JournalError as exc:
            if lease not in self._tickets:
                return  # its task came again meanwhile, and nobody asks for it any more
            self._warn(lease, str(exc))
            self.record(lease)

    def _warn(self, lease: Lease, reason: str) -> None:
        if lease not in self._unwritten:  # once, not for each attempt
            self._unwritten.add(lease)
            line = named("result.not_recorded", lease, origin=self._origins[lease.source])
            self._log.error("the result of lease %s is not in the journal: %s", lease.delivery.id, reason, extra=line)

    def forget(self, lease: Lease) -> None:
        """Note that nobody will ask for the result of a lease any more."""
        self._unwritten.discard(lease)
        ticket = self._tickets.pop(lease, None)
        if ticket is not None and self._journal is not None:
            self._journal.forget(ticket.key)
