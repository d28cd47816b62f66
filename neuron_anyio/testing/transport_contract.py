"""What every `Transport` has to do, checked against one of yours.

You supply an opener: it is given what answers posts, and yields your transport and its other side.

    @asynccontextmanager
    async def open_pair(answer: Answer) -> AsyncGenerator[tuple[Transport, Peer]]:
        async with my_server(answer) as server:
            yield MyTransport(server.address), Peer(push=server.push, end=server.end, cut=server.cut)

    async def test_my_transport() -> None:
        await check_transport(open_pair)

Each check opens a pair of its own. `TRANSPORT_CHECKS` has them one by one, for a parametrized test.
"""

from __future__ import annotations

from typing import Any

import anyio
from anyio.abc import TaskStatus

from neuron_anyio.abc import Reply

from .contract import PATIENCE, Check, ContractBroken, check_all, expect, expect_nothing_left
from .transport_contract_posts import POST_CHECKS
from .transport_contract_scene import NEURON_ID, Answer, OpenPair, Peer, always, open_scene, works
from .transport_contract_stream import STREAM_CHECKS

__all__ = ["TRANSPORT_CHECKS", "Answer", "ContractBroken", "OpenPair", "Peer", "check_transport"]

_nobody = always(Reply(status=200))


async def _origin(open_pair: OpenPair) -> None:
    async with open_pair(_nobody) as (transport, _):
        before: Any = transport.origin
        async with transport.open():
            inside = transport.origin
        for origin in (before, inside, transport.origin):
            expect(isinstance(origin, str) and origin and origin.isprintable(), "origin is {}", origin)
            expect(origin == before, "origin was {} and then {}", before, origin)
            expect("@" not in origin, "origin has what looks like credentials in it")


async def _nothing_left(open_pair: OpenPair) -> None:
    before = {task.id for task in anyio.get_running_tasks()}
    async with open_scene(open_pair) as scene:
        await works(scene)
        async with scene.transport.subscribe(NEURON_ID):
            await scene.peer.push(b'{"never":"read"}')
        with anyio.move_on_after(0):
            await scene.transport.post("ack", b"{}")
    await expect_nothing_left(before)


async def _cancelled_as_a_whole(open_pair: OpenPair) -> None:
    async with open_pair(_nobody) as (transport, peer), anyio.create_task_group() as group:

        async def hold(*, task_status: TaskStatus[None]) -> None:
            async with transport.open(), transport.subscribe(NEURON_ID) as stream:
                await peer.push(b'{"never":"read"}')
                task_status.started()
                while True:
                    await stream.receive()

        await group.start(hold)
        group.cancel_scope.cancel()


TRANSPORT_CHECKS: tuple[Check[OpenPair], ...] = (
    Check("origin", "`origin` names the other side in one line, without credentials, and stays.", _origin),
    *STREAM_CHECKS,
    *POST_CHECKS,
    Check("cancelled", "All of it can be cancelled with a stream open.", _cancelled_as_a_whole),
    Check("nothing-left", "When `open` is left, no task is left behind.", _nothing_left),
)
"""One check for each sentence of the contract. `str` of one is its name: `parametrize("check", ..., ids=str)`."""


async def check_transport(open_pair: OpenPair, *, patience: float = PATIENCE) -> list[str]:
    """Check every sentence of the contract of `Transport` and `EventStream`.

    Args:
        open_pair: opens the transport and its other side.
        patience: seconds for each sentence.

    Returns:
        The names of the checks that were left out because the other side lacks what they need.

    Raises:
        ContractBroken: a sentence is broken.
        ExceptionGroup: of `ContractBroken`, several are.
    """
    return await check_all(TRANSPORT_CHECKS, open_pair, patience=patience, what="the transport")
