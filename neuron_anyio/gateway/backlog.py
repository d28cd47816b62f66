"""Tasks that wait for a neuron: in line, or resting before they get in line again."""

from __future__ import annotations

from .roster import Route
from .schedule import Schedule
from .tasks import Task

__all__ = ["Backlog"]


class Backlog:
    """One queue for each route, first come, first served, and the tasks that rest.

    Args:
        timers: where a resting task's end of rest stands, as `("ready", task_id)`.
    """

    __slots__ = ("_queues", "_resting", "_timers")

    def __init__(self, timers: Schedule[tuple[str, ...], float]) -> None:
        self._timers = timers
        self._queues: dict[Route, Schedule[str, int]] = {}
        self._resting: dict[str, tuple[Route, int]] = {}

    def put(self, task: Task, *, place: int, not_before: float | None = None) -> None:
        """Put a task in line, or to rest until a time.

        Args:
            task: is in neither now.
            place: order among those in line, least first.
            not_before: seconds, monotonic; None to get in line now.
        """
        if not_before is None:
            self._queues.setdefault(task.route, Schedule()).put(task.task_id, place)
        else:
            self._resting[task.task_id] = task.route, place
            self._timers.put(("ready", task.task_id), not_before)

    def wake(self, task_id: str) -> Route:
        """Put a task whose rest is over in line, and return its route."""
        route, place = self._resting.pop(task_id)
        self._queues.setdefault(route, Schedule()).put(task_id, place)
        return route

    def pop(self, route: Route) -> str:
        """Take out the first task of a route that has one."""
        queue = self._queues[route]
        task_id = queue.pop()
        if not queue:
            del self._queues[route]
        return task_id

    def discard(self, task: Task) -> None:
        """Take a task out wherever it waits."""
        if self._resting.pop(task.task_id, None) is not None:
            self._timers.discard(("ready", task.task_id))
        elif (queue := self._queues.get(task.route)) is not None:
            queue.discard(task.task_id)
            if not queue:
                del self._queues[task.route]

    def __contains__(self, route: Route) -> bool:
        return route in self._queues
