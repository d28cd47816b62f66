"""What one decision of the ledger asks the shell to do."""

from __future__ import annotations

from typing import NamedTuple

from neuron_anyio.frames import ServerFrame

from .problems import Problem
from .tasks import Task

__all__ = ["Send", "Turn"]


class Send(NamedTuple):
    """A frame for one stream."""

    session_id: str
    frame: ServerFrame


class Turn:
    """The outcome of one call, filled while the ledger decides.

    Attributes:
        sends: frames in the order in which they go out.
        closed: sessions whose streams end after what is to be sent; the ledger has forgotten them already.
        changed: ids of tasks whose state or progress is new, each once.
        problem: why the request is refused, None when it is not.
        session_id: of `open_session`.
        task: of `submit` and `cancel`.
        created: of `submit`, False when the task was there before.
    """

    __slots__ = ("changed", "closed", "created", "problem", "sends", "session_id", "task")

    def __init__(self) -> None:
        self.sends: list[Send] = []
        self.closed: list[str] = []
        self.changed: dict[str, None] = {}
        self.problem: Problem | None = None
        self.session_id: str = ""
        self.task: Task | None = None
        self.created: bool = False

    def send(self, session_id: str, frame: ServerFrame) -> None:
        """Add a frame."""
        self.sends.append(Send(session_id, frame))
