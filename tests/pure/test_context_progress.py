"""What a handler says of its progress between two sends is merged."""

from __future__ import annotations

import logging
from typing import Any, cast

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from neuron_anyio.context import LeaseContext, Wiring
from neuron_anyio.lease import Lease
from neuron_anyio.model import Delivery, Progress, Task

TASK = Task(task_id="t", workflow_id="w", capability="test/steps", attempt=0, input=b"{}")
CALLS = st.lists(
    st.fixed_dictionaries(
        {},
        optional={
            "percent": st.none() | st.floats(0, 100),
            "message": st.none() | st.sampled_from(["", "a", "\N{SNOWMAN}"]),
            "data": st.none() | st.sampled_from([0, False, "", [], {"k": 1}]),
        },
    ),
    min_size=1,
    max_size=6,
)


def of(calls: list[dict[str, Any]], name: str) -> Any:
    """Return what was said last of a member, None if nothing."""
    return next((call[name] for call in reversed(calls) if call.get(name) is not None), None)


@given(st.lists(CALLS, min_size=1, max_size=3))
def test_H3_progress_merges_and_the_newest_of_each_member_wins(sends: list[list[dict[str, Any]]]) -> None:
    told: list[Lease] = []
    lease = Lease(Delivery(id="l", task=TASK), source=0, fingerprint=b"", now=0.0)
    wiring = Wiring(
        neuron=cast("Any", None),
        state=None,
        log=logging.getLogger("tests"),
        clock=float,
        on_progress=told.append,
        token=cast("Any", None),
    )
    context = LeaseContext(lease, wiring)
    for calls in sends:
        told.clear()
        for call in calls:
            context.progress(**call)
        assert told == [lease]
        data = of(calls, "data")
        text = None if data is None else msgspec.json.encode(data)
        assert context.take_progress() == Progress(
            percent=of(calls, "percent"), message=of(calls, "message"), data=text
        )
        assert not context.has_progress
        assert context.take_progress() is None
