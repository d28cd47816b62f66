"""The oracle: says, after the fact, whether anything was lost or done twice.

The law: one accepted result per task, one start of its handler. A further start is pardoned once by what made it
needed: the lease ran out or the process was killed (then even while the former run goes on), or the neuron itself asked
for another try.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from .book import Book, Moment, State

__all__ = ["Verdict", "judge"]


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What became of the tasks.

    Attributes:
        lost: tasks that nobody has finished.
        double: starts that nothing called for: at once with another run of the task, or after one.
        answered_twice: results sent again although the neuron had been told that they were taken.
        wrong: tasks whose accepted output is not the expected one, or comes from a lease that nobody may run.
        starts: of handlers, in all.
        extra_starts: beyond the first of each task, pardoned ones included.
        seconds_to_recover: from the last time that the fault struck to the next accepted result; None without one.
        states: of the tasks by id.
    """

    lost: int
    double: int
    answered_twice: int
    wrong: int
    starts: int
    extra_starts: int
    seconds_to_recover: float | None
    states: dict[str, State]


def judge(book: Book) -> Verdict:
    """Judge what a book says so far."""
    tasks = book.tasks.values()
    starts = [sum(moment.what == "started" for moment in task.history) for task in tasks]
    end_of_fault = max(book.strikes, default=None)
    return Verdict(
        lost=sum(not task.is_over for task in tasks),
        double=sum(_doubles(task.history) for task in tasks),
        answered_twice=sum(_repeats(task.history) for task in tasks),
        wrong=sum(not task.right for task in tasks),
        starts=sum(starts),
        extra_starts=sum(max(0, count - 1) for count in starts),
        seconds_to_recover=None if end_of_fault is None else _seconds_to_next(book.taken, end_of_fault),
        states={task.id: task.state for task in tasks},
    )


def _seconds_to_next(times: Iterable[float], since: float) -> float | None:
    return min((at - since for at in times if at >= since), default=None)


def _doubles(history: Iterable[Moment]) -> int:
    """Count the starts that nothing called for."""
    running: set[str] = set()
    started = False
    pardon = ""
    found = 0
    for moment in sorted(history, key=lambda moment: moment.at):
        match moment.what:
            case "started":
                if started and not (pardon == "lost" or (pardon == "again" and not running)):
                    found += 1
                started, pardon = True, ""
                running.add(moment.id)
            case "ended":
                running.discard(moment.id)
            case "killed":
                running.clear()
                pardon = "lost" if started else ""
            case "lost":
                pardon = "lost" if started else ""
            case "again" if started:
                pardon = pardon or "again"
            case _:
                pass
    return found


def _repeats(history: Iterable[Moment]) -> int:
    """Count the results that were sent again for nothing."""
    told: set[str] = set()
    found = 0
    for moment in history:
        if moment.what == "told":
            told.add(moment.id)
        elif moment.what == "answered":
            found += moment.id in told
    return found
