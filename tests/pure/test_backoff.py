"""Waits between tries (promise C5)."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from neuron_anyio.backoff import RETRY_AFTER_MAX, Backoff, parse_retry_after

NOW = datetime(1994, 11, 6, 8, 49, 37, tzinfo=UTC)

backoffs = st.tuples(st.floats(0.001, 1e6), st.floats(0.001, 1e6)).map(lambda pair: Backoff(min(pair), max(pair)))
shares = st.floats(0, 1)


class TestCeiling:
    def test_C5_it_doubles_from_half_a_second_to_thirty(self) -> None:
        assert [Backoff().ceiling(failures) for failures in range(8)] == [0.5, 1, 2, 4, 8, 16, 30, 30]

    @settings(deadline=None)
    @given(backoffs, st.integers(0, 10**30))
    @example(Backoff(), 10**400)
    def test_C5_it_never_leaves_its_bounds_nor_overflows(self, backoff: Backoff, failures: int) -> None:
        assert backoff.initial <= backoff.ceiling(failures) <= backoff.maximum

    @settings(deadline=None)
    @given(backoffs, st.integers(0, 100))
    def test_C5_it_never_falls(self, backoff: Backoff, failures: int) -> None:
        assert backoff.ceiling(failures) <= backoff.ceiling(failures + 1) <= 2 * backoff.ceiling(failures)


class TestDelay:
    @settings(deadline=None)
    @given(backoffs, st.integers(0, 1000), shares)
    def test_C5_reference_D15_full_jitter_takes_any_share_of_the_ceiling(
        self, backoff: Backoff, failures: int, share: float
    ) -> None:
        assert backoff.delay(failures, random=share) == share * backoff.ceiling(failures)

    @settings(deadline=None)
    @given(backoffs, st.integers(0, 1000), shares, st.floats(0, RETRY_AFTER_MAX))
    def test_C5_no_wait_is_shorter_than_the_server_asked(
        self, backoff: Backoff, failures: int, share: float, retry_after: float
    ) -> None:
        delay = backoff.delay(failures, random=share, retry_after=retry_after)
        assert delay == max(retry_after, backoff.delay(failures, random=share))

    @pytest.mark.parametrize("retry_after", [300.0, 301.0, 1e9, math.inf])
    def test_C5_a_server_is_followed_up_to_five_minutes(self, retry_after: float) -> None:
        assert Backoff().delay(0, random=0.5, retry_after=retry_after) == 300.0


class TestValidation:
    @pytest.mark.parametrize("value", [0, -1, -0.0, math.nan, math.inf, -math.inf, True, False, "1", None, 1 + 0j])
    @pytest.mark.parametrize("name", ["initial", "maximum"])
    def test_what_is_not_a_positive_finite_number_is_refused_by_name(self, name: str, value: Any) -> None:
        with pytest.raises(ValueError, match=rf"^{name} must be a positive, finite number of seconds"):
            Backoff(**{name: value})

    def test_a_maximum_below_the_initial_wait_is_refused(self) -> None:
        with pytest.raises(ValueError, match=r"^maximum must be at least initial"):
            Backoff(initial=2, maximum=1)
        assert Backoff(initial=2, maximum=2).ceiling(9) == 2

    def test_it_is_a_value(self) -> None:
        assert Backoff() == Backoff(initial=0.5, maximum=30.0)
        with pytest.raises(AttributeError):
            Backoff().initial = 1.0  # type: ignore[misc]  # it is frozen
        with pytest.raises(msgspec.ValidationError, match="maximum"):
            msgspec.convert({"initial": 5, "maximum": 1}, Backoff)


class TestRetryAfter:
    @pytest.mark.parametrize(
        ("value", "expected"),
        [("0", 0), ("7", 7), (" 120 ", 120), ("300", 300), ("301", 300), ("9" * 10_000, 300), ("007", 7)],
    )
    def test_C5_seconds_are_read_and_bounded(self, value: str, expected: float) -> None:
        assert parse_retry_after(value, now=NOW) == expected

    @pytest.mark.parametrize(
        ("value", "expected"),
        [
            ("Sun, 06 Nov 1994 08:49:57 GMT", 20),
            ("Sunday, 06-Nov-94 08:49:57 GMT", 20),
            ("Sun Nov  6 08:49:57 1994", 20),
            ("Sun, 06 Nov 1994 08:49:37 GMT", 0),
            ("Sun, 06 Nov 1994 08:49:17 GMT", 0),
            ("Sun, 06 Nov 1994 10:49:57 +0200", 20),
            ("Sun, 06 Nov 1994 08:49:57 -0000", 20),
            ("Fri, 31 Dec 9999 23:59:59 GMT", 300),
        ],
    )
    def test_C5_dates_in_all_forms_of_http_are_read_and_bounded(self, value: str, expected: float) -> None:
        assert parse_retry_after(value, now=NOW) == expected

    @settings(deadline=None)
    @given(st.integers(-1000, 1000))
    def test_C5_a_date_counts_from_now(self, seconds: int) -> None:
        value = format_datetime(NOW + timedelta(seconds=seconds), usegmt=True)
        assert parse_retry_after(value, now=NOW) == min(max(seconds, 0), RETRY_AFTER_MAX)

    @pytest.mark.parametrize(
        "value",
        ["", " ", "-1", "-5", "+5", "1.5", "1e3", "inf", "nan", "soon", "٣", "0x10", "1_000", "5, 6", "5 s",
         "Sun, 06 Nov 1994 25:49:57 GMT", "Sun, 31 Feb 1994 08:49:57 GMT", "Sun, 06 Nov 99999 08:49:57 GMT"],
    )  # fmt: skip
    def test_C5_what_says_nothing_is_none(self, value: str) -> None:
        assert parse_retry_after(value, now=NOW) is None

    @settings(deadline=None)
    @given(
        st.text()
        | st.lists(
            st.sampled_from(["Sun", ",", " ", "06", "Nov", "1994", "-", ":", "49", "GMT", "+", "9999", "99", "\0"])
        ).map("".join)
    )
    @example("Mon, 01 Jan 0001 00:00:00 +2359")
    @example("Fri, 31 Dec 9999 23:59:59 -2359")
    @example("Fri, 31 Dec 2021 23:59:59 +99999999")
    @example("Fri, 31 Dec 2021 23:59:59 " + "9" * 5000)
    def test_C5_any_text_gives_bounded_seconds_or_none(self, value: str) -> None:
        seconds = parse_retry_after(value, now=NOW)
        assert seconds is None or 0 <= seconds <= RETRY_AFTER_MAX
