"""How the verbs say where a task stands."""

from __future__ import annotations

from neuron_anyio.client import TaskFailure, TaskProgress, TaskStatus

__all__ = ["ending", "progress_text", "standing"]


def progress_text(progress: TaskProgress) -> str:
    """Return progress as `40 % message`; its data is not shown."""
    percent = [] if progress.percent is None else [f"{progress.percent:.3g} %"]
    return " ".join([*percent, *([progress.message] if progress.message else [])]) or "in progress"


def standing(status: TaskStatus) -> str:
    """Return where a task stands on its way: its state, the newest progress, and why it was tried in vain before."""
    if status.state == "leased":
        news = "" if status.progress is None else f": {progress_text(status.progress)}"
        return f"runs on {status.neuron_id}{news}"
    if status.state == "pending" and status.failure is not None:
        return f"pending again: {_failure_text(status.failure)}"
    if status.state == "pending" and status.offered is False:
        return "pending: no neuron offers it"
    return status.state


def ending(status: TaskStatus) -> str:
    """Return how a task ended that did not succeed: state, kind, code and reason."""
    if status.state == "cancelled" or status.failure is None:
        return f"{status.state}: {status.cancel_reason or 'no reason given'}"
    after = f" after {status.attempts} attempts" if status.attempts > 1 else ""
    return f"{status.state}{after}: {_failure_text(status.failure)}"


def _failure_text(failure: TaskFailure) -> str:
    code = "" if failure.code is None else f", {failure.code}"
    return f"{failure.kind}{code}: {failure.reason}"
