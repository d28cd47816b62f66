"""What a task is: nothing of its content in a repr, and a word for every ending on the wire."""

from __future__ import annotations

from typing import Any

import pytest

from neuron_anyio.brokers._bigbrain_wire import GIVE_BACKS, NACKS
from neuron_anyio.model import (
    Cancelled,
    Completed,
    Delivery,
    Dropped,
    Failed,
    FailureKind,
    GiveBack,
    GivenBack,
    Held,
    Offer,
    Progress,
    Task,
)

SECRET = b'"hunter2"'
TEXT = SECRET.decode()
TASK = Task(task_id="t1", workflow_id="w1", capability="core/x", attempt=2, input=SECRET, metadata={"password": TEXT})


@pytest.mark.parametrize(
    ("thing", "shown"),
    [
        (TASK, "t1"),
        (Delivery(id="l1", task=TASK, input_schema=SECRET, output_schema=SECRET), "l1"),
        (Progress(percent=5.0, message=TEXT, data=SECRET), "5.0"),
        (Completed((SECRET, SECRET)), "2 outputs"),
        (Completed((SECRET,)), "1 output)"),
        (Failed(kind=FailureKind.THREW, retryable=True, reason=TEXT, code="C", details=SECRET), "THREW"),
        (Cancelled(reason=TEXT), "Cancelled"),
        (GivenBack(cause=GiveBack.DRAINING, reason=TEXT), "DRAINING"),
        (Dropped(reason=TEXT), "Dropped"),
    ],
)
def test_C9_reprs_show_ids_and_kinds_and_no_content(thing: Any, shown: str) -> None:
    assert "hunter2" not in f"{thing!r} {thing} {[thing]}"
    assert shown in repr(thing)


@pytest.mark.parametrize("thing", [TASK, Progress(), Completed((b"1",)), Held(delivery_id="l", task_id="t", age=0.0)])
def test_they_are_frozen(thing: Any) -> None:
    with pytest.raises(AttributeError):
        setattr(thing, thing.__struct_fields__[0], None)


def test_an_offer_is_for_anybody_unless_it_says_otherwise() -> None:
    assert Offer(capability="core/x", concurrency=1).on_behalf_of is None


def test_L11_every_failure_and_every_give_back_has_its_word_on_the_wire() -> None:
    assert NACKS.keys() == set(FailureKind)
    assert GIVE_BACKS.keys() == set(GiveBack)
    codes = [code for _, code in NACKS.values()] + list(GIVE_BACKS.values())
    assert len(set(codes)) == len(codes), "each code says one thing"
