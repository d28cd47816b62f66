"""Times and bounds: what is allowed, and what the error says of what is not."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import pytest

from neuron_anyio.backoff import Backoff
from neuron_anyio.config import Limits, Timing

MIB = 1024 * 1024


def make(kind: type[Any], **values: Any) -> Any:
    return kind(**values)


def test_the_defaults_are_those_of_the_documentation() -> None:
    assert Timing() == Timing(
        heartbeat=10.0, request=30.0, drain=30.0, stream_idle=None, reconnect=Backoff(initial=0.5, maximum=30.0)
    )
    assert Limits() == Limits(
        frame_bytes=64 * MIB,
        output_bytes=64 * MIB,
        queue=10_000,
        queue_bytes=256 * MIB,
        undelivered=1_000,
        undelivered_age=3600.0,
        remembered_cancels=1_024,
        remembered_leases=10_000,
        remembered_results_bytes=16 * MIB,
        reply_bytes=64 * 1024,
    )


@pytest.mark.parametrize("kind", [Timing, Limits])
def test_they_are_frozen(kind: type[Any]) -> None:
    with pytest.raises(AttributeError):
        setattr(kind(), kind.__struct_fields__[0], 1)


def test_whole_numbers_are_times_too_and_a_drain_may_be_none_at_all() -> None:
    timing = Timing(heartbeat=1, request=1, drain=0, stream_idle=1)
    assert (timing.drain, timing.stream_idle) == (0, 1)


@pytest.mark.parametrize("name", ["heartbeat", "request", "drain", "stream_idle"])
@pytest.mark.parametrize("value", ["10", None, True, [1], math.nan, math.inf, 1j])
def test_a_time_that_is_no_number_is_refused_by_name(name: str, value: Any) -> None:
    if name == "stream_idle" and value is None:
        return
    with pytest.raises(ValueError, match=f"^timing.{name} must be a finite number of seconds, not "):
        make(Timing, **{name: value})


@pytest.mark.parametrize(
    ("name", "value"), [("heartbeat", 0), ("request", 0.0), ("stream_idle", 0), ("drain", -1), ("heartbeat", -0.1)]
)
def test_a_time_that_is_not_above_zero_is_refused_by_name(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"^timing.{name} must be ") as caught:
        make(Timing, **{name: value})
    assert repr(value) in str(caught.value)


def test_a_back_off_that_is_none_is_refused_with_the_remedy() -> None:
    wrong: Any = 0.5
    with pytest.raises(ValueError, match=r"timing.reconnect must be a Backoff\(initial=..., maximum=...\)"):
        Timing(reconnect=wrong)


@pytest.mark.parametrize("name", Limits.__struct_fields__)
@pytest.mark.parametrize("value", [0, -1, True, "1", None, math.nan, math.inf])
def test_a_bound_that_is_none_is_refused_by_name(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"^limits.{name} must be a .*number above 0, not "):
        make(Limits, **{name: value})


@pytest.mark.parametrize("name", [name for name in Limits.__struct_fields__ if name != "undelivered_age"])
def test_a_bound_is_a_whole_number(name: str) -> None:
    with pytest.raises(ValueError, match=f"^limits.{name} must be a whole number"):
        make(Limits, **{name: 1.5})
    assert getattr(make(Limits, **{name: 1}), name) == 1


def test_the_age_of_results_may_have_a_fraction() -> None:
    assert Limits(undelivered_age=0.5).undelivered_age == 0.5


@pytest.mark.parametrize("kind", [Timing, Limits])
def test_an_unknown_name_is_refused(kind: type[Any]) -> None:
    with pytest.raises(TypeError, match="nonsense"):
        kind(nonsense=1)


@pytest.mark.parametrize("kind", [Timing, Limits])
def test_a_changed_copy_is_checked_too(kind: type[Any]) -> None:
    with pytest.raises(ValueError, match=kind.__struct_fields__[0]):
        msgspec.structs.replace(kind(), **{kind.__struct_fields__[0]: 0})
