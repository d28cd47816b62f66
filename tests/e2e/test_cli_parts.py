"""The parts of the command line that need no process: inputs to copy, and the board of `dev`."""

from __future__ import annotations

import enum
from datetime import UTC, datetime
from typing import Any, Literal

import msgspec
import pytest

from neuron_anyio import capability, events
from neuron_anyio.cli.board import Board
from neuron_anyio.cli.documents import sample
from neuron_anyio.client import TaskProgress
from neuron_anyio.model import Cancelled, Completed, Failed, FailureKind, GiveBack, GivenBack, Outcome


class Color(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Point(msgspec.Struct):
    x: int
    y: float = 2.0


class Drawing(msgspec.Struct, tag="drawing"):
    name: str
    at: Point
    color: Color
    size: Literal["small", "large"]
    points: list[Point]
    next: Drawing | None
    flags: dict[str, bool]
    note: str | None = None


TYPES = [int, float, bool, str, None, list[int], dict[str, int], int | None, Color, Literal["a", 1], Point, Drawing]


@pytest.mark.parametrize("kind", TYPES, ids=str)
def test_the_input_to_copy_fits_the_annotation_that_its_schema_came_from(kind: Any) -> None:
    @capability("examples/any")
    async def handler(value: kind) -> None: ...

    text = msgspec.json.encode(sample(handler.input_schema))
    handler.read_input(text, None)


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        (None, None),
        (True, None),
        ({}, None),
        ({"type": "string", "default": "here"}, "here"),
        ({"const": None}, None),
        ({"examples": [[1, 2]]}, [1, 2]),
        ({"$ref": "#/$defs/a~1b", "$defs": {"a/b": {"enum": [7]}}}, 7),
        ({"$ref": "#/nowhere/at/all"}, None),
        ({"$ref": "#"}, None),
        ({"properties": {"a": {}}}, {}),
        ({"type": ["string", "null"]}, None),
    ],
    ids=str,
)
def test_the_input_to_copy_is_what_the_schema_names_or_something_of_its_type(schema: Any, value: Any) -> None:
    assert sample(schema) == value


LEASE = {"lease_id": "l-1", "task_id": "t-1", "capability": "a/b"}
SECRET = "nobody's business"

OUTCOMES: list[tuple[Outcome, str]] = [
    (Completed((SECRET.encode(),)), "l-1 a/b completed after 0.50 s"),
    (
        Failed(kind=FailureKind.THREW, retryable=True, reason="ValueError: boom"),
        "l-1 a/b failed to be tried again (THREW: ValueError: boom) after 0.50 s",
    ),
    (
        Failed(kind=FailureKind.TERMINAL, retryable=False, reason="never", code="NEVER"),
        "l-1 a/b failed for good (NEVER: never) after 0.50 s",
    ),
    (Cancelled(reason="called off"), "l-1 a/b cancelled (called off) after 0.50 s"),
    (GivenBack(cause=GiveBack.DRAINING, reason="draining"), "l-1 a/b given back (draining) after 0.50 s"),
]


@pytest.mark.parametrize(("outcome", "line"), OUTCOMES, ids=lambda value: type(value).__name__)
def test_the_board_holds_a_lease_from_its_start_to_its_end(outcome: Outcome, line: str) -> None:
    board = Board()
    assert board.apply(events.LeaseAdmitted(**LEASE), 9.0) is None
    assert board.apply(events.LeaseStarted(**LEASE, attempt=1), 10.0) == "l-1 a/b started, task t-1, attempt 1"
    assert board.rows["l-1"].since == 10.0
    assert board.apply(events.LeaseSettled(**LEASE, outcome=outcome, seconds=0.5), 11.0) == line
    assert board.rows == {}
    assert board.completed + board.failed == 1
    assert board.completed == isinstance(outcome, Completed)


def test_the_board_tells_progress_once_and_not_its_data() -> None:
    board = Board()
    board.apply(events.LeaseStarted(**LEASE, attempt=0), 0.0)
    progress = TaskProgress(sent_at=datetime.now(UTC), percent=100 / 3, message="reading", data=SECRET)
    assert board.note_progress("l-1", progress) == "l-1 a/b 33.3 % reading"
    assert board.note_progress("l-1", progress) is None
    assert board.rows["l-1"].progress == "33.3 % reading"
    assert board.note_progress("l-2", progress) is None


EVENTS: list[tuple[events.Event, str | None]] = [
    (events.Registered(session_id=None, capabilities={"a/b": 2, "a/c": 1}), "registered a/b x2, a/c x1"),
    (events.Registered(session_id=None, capabilities={}), "registered nothing"),
    (events.Connected(), None),
    (events.Disconnected(reason="gone"), "disconnected: gone"),
    (events.Reconnecting(attempt=1, delay=0.5, reason="gone"), "reconnecting: gone"),
    (events.FrameReceived(type="lease", raw=SECRET.encode()), None),
    (events.LeaseLost(**LEASE), "l-1 a/b has run out while its handler runs"),
    (events.ResultAccepted(lease_id="l-1", task_id="t-1"), None),
    (events.ResultRejected(lease_id="l-1", task_id="t-1", reason="410"), "l-1 result not taken: 410"),
    (events.Draining(running=1, given_back=2), "draining: 1 running, 2 given back"),
    (events.HandlerBlocked(lease_id="l-1", capability="a/b", seconds=1.5), "l-1 a/b blocks for 1.5 s"),
]


@pytest.mark.parametrize(("event", "line"), EVENTS, ids=lambda value: type(value).__name__)
def test_each_event_is_a_line_or_nothing(event: events.Event, line: str | None) -> None:
    assert Board().apply(event, 0.0) == line
