"""What `neuron-anyio dev` shows: the leases that run, and a line for each event. Pure; `screen` draws it."""

from __future__ import annotations

from typing import NamedTuple

from neuron_anyio import events
from neuron_anyio.client import TaskProgress
from neuron_anyio.events import Event
from neuron_anyio.model import Completed, Failed, GivenBack, Outcome

from .wording import progress_text

__all__ = ["Board", "Row"]


class Row(NamedTuple):
    """A lease that runs.

    Attributes:
        since: when its handler started, in seconds.
        progress: the newest word of the handler, `""` before the first.
    """

    lease_id: str
    task_id: str
    capability: str
    since: float
    progress: str


class Board:
    """Folds a neuron's events.

    Attributes:
        rows: running leases by id, oldest first.
        completed, failed: leases that ended with an output, and otherwise.
    """

    __slots__ = ("completed", "failed", "rows")

    def __init__(self) -> None:
        self.rows: dict[str, Row] = {}
        self.completed: int = 0
        self.failed: int = 0

    def apply(self, event: Event, now: float) -> str | None:
        """Take one event.

        Returns:
            A line for people, None for what they need not see.
        """
        match event:
            case events.LeaseStarted():
                self.rows[event.lease_id] = Row(event.lease_id, event.task_id, event.capability, now, "")
            case events.LeaseSettled():
                self.rows.pop(event.lease_id, None)
                self.completed += isinstance(event.outcome, Completed)
                self.failed += not isinstance(event.outcome, Completed)
            case _:
                pass
        return _line(event)

    def note_progress(self, lease_id: str, progress: TaskProgress) -> str | None:
        """Take the newest progress of a running lease; return a line when it is news."""
        row, text = self.rows.get(lease_id), progress_text(progress)
        if row is None or row.progress == text:
            return None
        self.rows[lease_id] = row._replace(progress=text)
        return f"{lease_id} {row.capability} {text}"


def _line(event: Event) -> str | None:
    line: str | None = None
    match event:
        case events.Registered():
            granted = ", ".join(f"{name} x{number}" for name, number in event.capabilities.items())
            line = f"registered {granted or 'nothing'}"
        case events.Disconnected() | events.Reconnecting():
            line = f"{type(event).__name__.lower()}: {event.reason}"
        case events.LeaseStarted():
            line = f"{event.lease_id} {event.capability} started, task {event.task_id}, attempt {event.attempt}"
        case events.LeaseSettled():
            took = "" if event.seconds is None else f" after {event.seconds:.2f} s"
            line = f"{event.lease_id} {event.capability} {_ending(event.outcome)}{took}"
        case events.LeaseLost():
            line = f"{event.lease_id} {event.capability} has run out while its handler runs"
        case events.ResultRejected():
            line = f"{event.lease_id} result not taken: {event.reason}"
        case events.Draining():
            line = f"draining: {event.running} running, {event.given_back} given back"
        case events.HandlerBlocked():
            line = f"{event.lease_id} {event.capability} blocks for {event.seconds:.1f} s"
        case _:
            pass
    return line


def _ending(outcome: Outcome) -> str:
    match outcome:
        case Completed():
            return "completed"
        case Failed():
            again = "to be tried again" if outcome.retryable else "for good"
            return f"failed {again} ({outcome.code or outcome.kind.name}: {outcome.reason})"
        case GivenBack():
            return f"given back ({outcome.reason})"
        case _:
            return f"{type(outcome).__name__.lower()} ({outcome.reason})"
