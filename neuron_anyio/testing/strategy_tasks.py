"""Strategies for what crosses the broker's seam: deliveries and outcomes."""

from __future__ import annotations

from typing import Any, get_args

from hypothesis import strategies as st
from hypothesis.errors import InvalidArgument
from hypothesis.strategies import SearchStrategy

from neuron_anyio.model import (
    Cancelled,
    Completed,
    Delivery,
    Dropped,
    Failed,
    FailureKind,
    GiveBack,
    GivenBack,
    Outcome,
    Task,
)

from .strategy_values import CAPABILITY_TYPES, IDS, TEXTS, Json, chosen, json_texts, metadata_values
from .strategy_values import optional_json_texts as optional_texts

__all__ = ["deliveries", "outcomes"]

_RETRYABLE = {
    FailureKind.RETRY: st.just(True),
    FailureKind.CANCELLED_ITSELF: st.just(True),
    FailureKind.TIMED_OUT: st.just(True),
    FailureKind.THREW: st.booleans(),
}
"""Kinds of failure that another try may mend; none of the others is."""

_SECONDS = st.floats(0, 1e6)


def deliveries(
    *,
    capability: SearchStrategy[str] | None = None,
    input: SearchStrategy[Json] | None = None,  # noqa: A002 - what it is called everywhere
    id: SearchStrategy[str] | None = None,  # noqa: A002 - the member's name
    task_id: SearchStrategy[str] | None = None,
    workflow_id: SearchStrategy[str] | None = None,
    attempt: SearchStrategy[int] | None = None,
    on_behalf_of: SearchStrategy[str | None] | None = None,
    metadata: SearchStrategy[dict[str, Any] | None] | None = None,
    time_left: SearchStrategy[float | None] | None = None,
    input_schema: SearchStrategy[Json] | None = None,
    output_schema: SearchStrategy[Json] | None = None,
    fans_out: SearchStrategy[bool] | None = None,
) -> SearchStrategy[Delivery]:
    """Return a strategy for deliveries: `deliveries(capability=st.just("core/echo"), time_left=st.none())`.

    Input and schemas are given as Python holds JSON; a schema that is None is absent.

    Raises:
        InvalidArgument: an argument is no strategy.
    """
    for name, given in (("input", input), ("input_schema", input_schema), ("output_schema", output_schema)):
        chosen(name, given, st.none())
    task = st.builds(
        Task,
        task_id=chosen("task_id", task_id, IDS),
        workflow_id=chosen("workflow_id", workflow_id, IDS),
        capability=chosen("capability", capability, CAPABILITY_TYPES),
        attempt=chosen("attempt", attempt, st.integers(min_value=0)),
        input=json_texts(input),
        on_behalf_of=chosen("on_behalf_of", on_behalf_of, st.none() | IDS),
        metadata=chosen("metadata", metadata, metadata_values()),
    )
    return st.builds(
        Delivery,
        id=chosen("id", id, IDS),
        task=task,
        time_left=chosen("time_left", time_left, st.none() | _SECONDS),
        input_schema=optional_texts(input_schema),
        output_schema=optional_texts(output_schema),
        fans_out=chosen("fans_out", fans_out, st.booleans()),
    )


def outcomes(*kinds: type[Outcome], output: SearchStrategy[Json] | None = None) -> SearchStrategy[Outcome]:
    """Return a strategy for outcomes, of any kind or of those named: `outcomes(Completed, Failed)`.

    Args:
        kinds: classes of outcomes; all where none is named.
        output: for the outputs of `Completed`.

    Raises:
        InvalidArgument: an argument is no kind of outcome, or no strategy.
    """
    outputs = st.lists(json_texts(output if output is None else chosen("output", output, st.none())), max_size=3)
    made: dict[Any, SearchStrategy[Outcome]] = {
        Completed: st.builds(Completed, outputs.map(tuple)),
        Failed: st.sampled_from(FailureKind).flatmap(_failures),
        Cancelled: st.builds(Cancelled, reason=IDS),
        GivenBack: st.builds(GivenBack, cause=st.sampled_from(GiveBack), reason=IDS, delay=st.none() | _SECONDS),
        Dropped: st.builds(Dropped, reason=IDS),
    }
    unknown = [kind for kind in kinds if kind not in get_args(Outcome)]
    if unknown:
        known = ", ".join(kind.__name__ for kind in made)
        raise InvalidArgument(f"{unknown[0]!r} is no kind of outcome; there are {known}")
    return st.one_of([made[kind] for kind in kinds or made])


def _failures(kind: FailureKind) -> SearchStrategy[Outcome]:
    return _RETRYABLE.get(kind, st.just(False)).flatmap(
        lambda retryable: st.builds(
            Failed,
            kind=st.just(kind),
            retryable=st.just(retryable),
            reason=IDS,
            code=st.none() | TEXTS,
            details=optional_texts(),
            delay=st.none() | _SECONDS if retryable else st.none(),
        )
    )
