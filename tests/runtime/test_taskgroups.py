"""The task group beside a block: what ends it, and what comes out."""

from __future__ import annotations

import anyio
import pytest

from neuron_anyio.taskgroups import body_task_group

pytestmark = pytest.mark.anyio


class BodyError(Exception):
    pass


class TaskError(Exception):
    pass


async def fail() -> None:
    raise TaskError("a")


async def test_a_block_that_raises_ends_the_tasks_beside_it() -> None:
    ended = False

    async def wait() -> None:
        nonlocal ended
        try:
            await anyio.sleep_forever()
        finally:
            ended = True

    cause = KeyError("why")
    with anyio.fail_after(5), pytest.raises(BodyError) as caught:
        async with body_task_group() as tasks:
            tasks.start_soon(wait)
            await anyio.wait_all_tasks_blocked()
            raise BodyError("b") from cause
    assert ended
    assert caught.value.__cause__ is cause


async def test_one_task_that_fails_comes_out_alone_and_ends_the_block() -> None:
    with anyio.fail_after(5), pytest.raises(TaskError):
        async with body_task_group() as tasks:
            tasks.start_soon(fail)
            await anyio.sleep_forever()


async def test_a_block_and_a_task_that_fail_come_out_together() -> None:
    with anyio.fail_after(5), pytest.raises(ExceptionGroup) as caught:
        async with body_task_group() as tasks:
            tasks.start_soon(fail)
            raise BodyError("b")
    assert sorted(type(error).__name__ for error in caught.value.exceptions) == ["BodyError", "TaskError"]


async def test_a_group_that_the_block_raises_comes_out_as_it_is_though_it_holds_one() -> None:
    group = ExceptionGroup("mine", [BodyError("a")])
    with anyio.fail_after(5), pytest.raises(ExceptionGroup) as caught:
        async with body_task_group() as tasks:
            tasks.start_soon(anyio.sleep_forever)
            raise group
    assert caught.value is group


async def test_a_cancelled_block_ends_quietly() -> None:
    with anyio.fail_after(5):
        with anyio.CancelScope() as scope:
            async with body_task_group() as tasks:
                tasks.start_soon(anyio.sleep_forever)
                scope.cancel()
        assert scope.cancelled_caught
