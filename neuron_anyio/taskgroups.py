"""A task group beside a block, with the block's own exception left as it is."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from anyio import create_task_group, get_cancelled_exc_class
from anyio.abc import TaskGroup

from .groups import alone, leaves

__all__ = ["body_task_group"]


@asynccontextmanager
async def body_task_group() -> AsyncGenerator[TaskGroup]:
    """Open a task group round a block: what the block raises, or one task alone, comes out without a group round it.

    A group that the block raises itself comes out as that group. A cancellation that comes meanwhile stands back: trio
    reports it beside the exception, asyncio does not.
    """
    raised: BaseException | None = None
    error: BaseException | None = None
    try:
        async with create_task_group() as tasks:
            try:
                yield tasks
            except BaseException as exc:  # a group that the block raises may hold an interrupt, or be made of one
                raised = exc
                raise
    except BaseExceptionGroup as outcome:
        others = [each for each in outcome.exceptions if not _is_cancellation(each)]
        error = alone(others[0] if len(others) == 1 else outcome, but_not=raised)
    if error is not None:
        raise error  # out here, so that it keeps the cause and the context that it came with


def _is_cancellation(error: BaseException) -> bool:
    return all(isinstance(leaf, get_cancelled_exc_class()) for leaf in leaves(error))
