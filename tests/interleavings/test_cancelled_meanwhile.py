"""What blows at every step have brought to light, each by itself."""

from __future__ import annotations

import anyio
import pytest

from neuron_anyio import open_neuron
from neuron_anyio.taskgroups import body_task_group
from neuron_anyio.testing.scripted_gateway import ScriptedGateway
from neuron_anyio.testing.steered_handler import SteeredHandler

pytestmark = pytest.mark.anyio


class BodyError(Exception):
    pass


async def test_D3_the_bodys_exception_comes_out_alone_though_the_scope_is_cancelled_while_the_neuron_ends() -> None:
    steered, gateway = SteeredHandler(), ScriptedGateway()
    gateway.hold("nack")
    error = BodyError("mine")
    with anyio.fail_after(5), pytest.raises(BodyError) as caught:
        async with anyio.create_task_group() as group:

            async def cancel_meanwhile() -> None:
                await gateway.wait_posted("nack")
                scope.cancel()
                gateway.release("nack")

            group.start_soon(cancel_meanwhile)
            try:
                with anyio.CancelScope() as scope:
                    async with open_neuron(gateway.transport, neuron_id="n", capabilities=[steered.capability]):
                        gateway.lease("l1", capability="test/steered")
                        await steered.wait_started()
                        raise error
            except BodyError as exc:
                found = exc
        raise found
    assert caught.value is error


async def test_a_group_that_a_cancelled_block_raises_comes_out_as_that_group() -> None:
    mine = ExceptionGroup("mine", [BodyError("a")])
    with anyio.fail_after(5), anyio.CancelScope() as scope, pytest.raises(ExceptionGroup) as caught:
        async with body_task_group() as tasks:
            tasks.start_soon(anyio.sleep_forever)
            scope.cancel()
            raise mine
    assert caught.value is mine


async def test_a_cancelled_block_with_many_tasks_ends_quietly() -> None:
    with anyio.fail_after(5):
        with anyio.CancelScope() as scope:
            async with body_task_group() as tasks:
                for _ in range(3):
                    tasks.start_soon(anyio.sleep_forever)
                scope.cancel()
                await anyio.sleep_forever()
        assert scope.cancelled_caught
