"""The oracle against histories that were made up: what it counts, and what it pardons."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from neuron_anyio.testing.book import ACK, Book
from neuron_anyio.testing.oracle import judge
from neuron_anyio.testing.worklog import WorkLog, append_to

AGAIN, TERMINAL, MISMATCH, CANCELLED = "retryable", "terminal", "schema-mismatch", "cancelled"


class Story:
    """A book with one task, and a clock that ticks with every line."""

    def __init__(self, **options: Any) -> None:
        self.book = Book()
        self.task = self.book.submit("t", "test/echo", None, **options)
        self.now = 0.0

    @property
    def state(self) -> str:
        return self.task.state

    def tick(self) -> float:
        self.now += 1.0
        return self.now

    def lease(self, ttl: float = 100.0) -> str:
        return self.book.lease(self.task, self.tick(), ttl=ttl)

    def answer(self, lease_id: str, kind: str = ACK, output: Any = None) -> int:
        return self.book.answer(lease_id, kind, output, self.tick())

    def work(self, run: str, what: str) -> None:
        self.book.note_work(f'{{"task":"t","run":"{run}","what":"{what}","at":{self.tick()}}}')

    def run(self, run: str) -> None:
        self.work(run, "started")
        self.work(run, "ended")


# What becomes of a task


@pytest.mark.parametrize(
    ("kind", "state"),
    [(ACK, "succeeded"), (TERMINAL, "failed"), (MISMATCH, "failed"), (CANCELLED, "cancelled"), (AGAIN, "pending")],
)
def test_the_first_result_decides(kind: str, state: str) -> None:
    story = Story()
    assert story.answer(story.lease(), kind) == 200
    assert story.state == state
    assert judge(story.book).lost == (state == "pending")


def test_a_task_that_nobody_finishes_is_lost() -> None:
    story = Story()
    assert judge(story.book).lost == 1
    story.lease()
    assert judge(story.book).lost == 1


def test_a_result_of_an_unknown_lease_is_404_and_of_one_that_is_over_409() -> None:
    story = Story()
    assert story.answer("lease-77") == 404
    old = story.lease()
    new = story.lease()
    assert story.answer(old) == 409
    assert story.answer(new) == 200
    assert story.answer(old) == 409
    assert len(story.book.taken) == 1


def test_the_same_result_again_is_taken_again_and_another_one_is_not() -> None:
    story = Story()
    lease = story.lease()
    assert [story.answer(lease), story.answer(lease), story.answer(lease, TERMINAL)] == [200, 200, 409]
    assert len(story.book.taken) == 1
    assert story.state == "succeeded"


def test_an_output_that_is_not_the_expected_one_is_wrong() -> None:
    story = Story(expected="text")
    story.answer(story.lease(), output="texts")
    assert judge(story.book).wrong == 1


def test_a_task_that_is_called_off_ends_when_nobody_has_it() -> None:
    pending, leased, running = Story(), Story(), Story()
    assert pending.book.cancel("t") is None
    assert pending.state == "cancelled"
    lease = leased.lease()
    assert leased.book.cancel("t") == lease
    assert leased.state == "leased"
    leased.book.reap(leased.tick())
    assert leased.state == "cancelled"
    lease = running.lease()
    running.book.cancel("t")
    assert running.answer(lease) == 200
    assert running.state == "succeeded"


def test_a_lease_runs_out_unless_heartbeats_renew_it() -> None:
    story = Story()
    lease = story.lease(ttl=10)
    story.book.renew([lease, "lease-77"], 8)
    story.book.expire(17.9)
    assert story.state == "leased"
    story.book.expire(18)
    assert story.state == "pending"
    assert story.book.pending() == [story.task]
    assert story.answer(lease) == 409


def test_only_leases_of_which_there_was_no_sign_are_taken_back_for_a_new_stream() -> None:
    story = Story()
    lease = story.lease()
    assert story.book.seen(lease)
    assert not story.book.seen(lease)
    story.book.take_back_unseen()
    assert story.state == "leased"
    story.lease()
    story.book.take_back_unseen()
    assert story.state == "pending"


def test_a_broker_that_forgets_knows_the_task_and_no_lease() -> None:
    story = Story()
    lease = story.lease()
    story.book.forget_leases()
    assert story.state == "pending"
    assert story.answer(lease) == 404
    assert story.lease() != lease
    assert story.task.attempt == 1


def test_a_task_id_is_taken_once() -> None:
    with pytest.raises(ValueError, match="task_id must be new"):
        Story().book.submit("t", "test/echo", None)


# Runs


def test_one_start_is_as_it_should_be_and_a_second_is_double() -> None:
    story = Story()
    story.lease()
    story.run("a")
    assert judge(story.book).double == 0
    story.run("b")
    verdict = judge(story.book)
    assert (verdict.double, verdict.starts, verdict.extra_starts) == (1, 2, 1)


def test_a_new_lease_alone_is_no_reason_to_run_again() -> None:
    story = Story()
    story.lease()
    story.run("a")
    story.lease()
    story.book.forget_leases()
    story.lease()
    story.run("b")
    assert judge(story.book).double == 1


def test_one_who_asked_for_another_try_gets_one_once_the_first_has_ended() -> None:
    story = Story()
    story.run("a")
    story.answer(story.lease(), AGAIN)
    story.run("b")
    assert judge(story.book).double == 0
    story.run("c")
    assert judge(story.book).double == 1


def test_another_try_while_the_first_still_runs_is_double() -> None:
    story = Story()
    story.work("a", "started")
    story.answer(story.lease(), AGAIN)
    story.work("b", "started")
    assert judge(story.book).double == 1


def test_a_wish_for_another_try_pardons_also_where_it_was_answered_409() -> None:
    story = Story()
    story.run("a")
    story.book.refuse(story.lease(), AGAIN, story.tick())
    story.run("b")
    assert judge(story.book).double == 0


def test_an_ack_that_was_answered_409_pardons_nothing() -> None:
    story = Story()
    story.run("a")
    story.book.refuse(story.lease(), ACK, story.tick())
    story.lease()
    story.run("b")
    assert judge(story.book).double == 1


@pytest.mark.parametrize("way", ["expire", "reap", "killed"])
def test_a_lost_lease_and_a_kill_pardon_one_start_also_at_once(way: str) -> None:
    story = Story()
    story.lease(ttl=1)
    story.work("a", "started")
    getattr(story.book, way)(story.tick())
    story.lease()
    story.work("b", "started")
    assert judge(story.book).double == 0
    story.work("c", "started")
    assert judge(story.book).double == 1


def test_a_lease_that_was_given_back_before_any_start_pardons_nothing() -> None:
    story = Story()
    story.answer(story.lease(), AGAIN)
    story.run("a")
    story.run("b")
    assert judge(story.book).double == 1


def test_the_order_of_the_log_is_that_of_its_times_not_of_its_lines() -> None:
    story = Story()
    story.book.note_work('{"task":"t","run":"b","what":"started","at":9}')
    story.book.note_work('{"task":"t","run":"a","what":"started","at":1}')
    story.book.note_work('{"task":"t","run":"a","what":"ended","at":2}')
    story.now = 4.0
    story.lease(ttl=1)
    story.book.expire(7)
    assert judge(story.book).double == 0


# Answers


def test_a_result_sent_again_is_counted_from_when_its_sender_was_told() -> None:
    story = Story()
    lease = story.lease()
    story.answer(lease)
    story.answer(lease)
    assert judge(story.book).answered_twice == 0
    story.book.told(lease, story.tick())
    story.answer(lease)
    assert judge(story.book).answered_twice == 1


# Recovery


def test_the_time_to_recover_runs_from_the_last_strike_to_the_next_result() -> None:
    story = Story()
    story.book.struck(2.0)
    story.book.struck(5.0)
    assert judge(story.book).seconds_to_recover is None
    story.now = 7.0
    story.answer(story.lease())
    assert judge(story.book).seconds_to_recover == 4.0


# Work logs


def test_a_work_log_can_be_a_file_that_the_book_reads_later(tmp_path: Path) -> None:
    story = Story()
    log = WorkLog(append_to(tmp_path / "work.log"))
    run = log.started("t")
    log.ended("t", run)
    log.started("t")
    for line in (tmp_path / "work.log").read_bytes().splitlines():
        story.book.note_work(line)
    assert [moment.what for moment in story.task.history] == ["started", "ended", "started"]
    assert judge(story.book).double == 1


def test_a_work_log_of_other_tasks_is_refused() -> None:
    with pytest.raises(ValueError, match="never submitted"):
        Story().book.note_work('{"task":"u","run":"a","what":"started","at":1}')
