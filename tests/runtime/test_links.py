"""Transports of other people: with a reader task of their own, with a good-bye, and with errors that come late."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from neuron_anyio import Backoff, CredentialRevoked, NeuronError, Timing, TransportError, capability, open_neuron
from neuron_anyio.abc import Reply
from neuron_anyio.brokers.bigbrain import BigBrainBroker
from neuron_anyio.model import Completed
from neuron_anyio.testing.scripted_gateway import ScriptedGateway

pytestmark = pytest.mark.anyio

TIMING = Timing(reconnect=Backoff(initial=0.01, maximum=0.02))


@capability("test/work")
async def work(value: int) -> int:
    return value


class Bus:
    """A transport on a link that a task of its own reads; each stream has its own plan.

    Attributes:
        said: what happened, in order.
        lost: set, it breaks the link of the first stream.
        ends: set, it ends the first stream.
    """

    origin = "bus://test"

    def __init__(self) -> None:
        self.said: list[str] = []
        self.lost = anyio.Event()
        self.ends = anyio.Event()
        self.posting = anyio.Event()
        self.streams = 0
        self.refuses_first = False
        self.hangs_first = False

    @asynccontextmanager
    async def open(self) -> AsyncGenerator[None]:
        yield

    @asynccontextmanager
    async def subscribe(self, neuron_id: str) -> AsyncGenerator[Bus]:
        self.streams += 1
        number = self.streams
        self.said.append(f"stream {number}")
        if number == 1 and self.refuses_first:
            raise TransportError("not now", retry_after=30.0)
        failure: TransportError | None = None
        try:
            async with anyio.create_task_group() as reader:
                reader.start_soon(self._read, number)
                yield self
                await anyio.sleep(0.01)
                self.said.append(f"good-bye {number}")
                reader.cancel_scope.cancel()
        except BaseExceptionGroup as group:
            found = group.subgroup(TransportError)
            if found is None:
                raise
            failure = TransportError("the link is lost")
        if failure is not None:
            raise failure

    async def _read(self, number: int) -> None:
        if number == 1:
            await self.lost.wait()
            raise TransportError("the link is lost")
        await anyio.sleep_forever()

    @property
    def comments(self) -> int:
        return 0

    async def receive(self) -> Sequence[Any]:
        if self.streams == 1:
            await self.ends.wait()
            raise anyio.EndOfStream
        await anyio.sleep_forever()
        return ()

    async def post(self, path: str, body: bytes) -> Reply:
        self.said.append(f"{path} on {self.streams}")
        self.posting.set()
        if path == "ack":
            raise CredentialRevoked("the credential was revoked")
        if path == "register" and self.streams == 1 and self.hangs_first:
            await anyio.sleep_forever()
        return Reply(status=200)


async def test_C7_a_link_that_breaks_outside_receive_is_opened_again_while_register_is_under_way() -> None:
    bus = Bus()
    bus.hangs_first = True

    async def lose() -> None:
        await bus.posting.wait()
        bus.lost.set()

    with anyio.fail_after(5):
        async with anyio.create_task_group() as group:
            group.start_soon(lose)
            async with open_neuron(bus, neuron_id="n", capabilities=[work], timing=TIMING):
                assert bus.said == ["stream 1", "register on 1", "stream 2", "register on 2"]


async def test_a_transport_has_time_to_say_good_bye_when_a_stream_has_ended() -> None:
    bus = Bus()
    with anyio.fail_after(5):
        async with open_neuron(bus, neuron_id="n", capabilities=[work], timing=TIMING):
            bus.ends.set()
            while "register on 2" not in bus.said:  # noqa: ASYNC110 - a fake without an event for it
                await anyio.sleep(0.005)
    assert bus.said.index("good-bye 1") < bus.said.index("stream 2")


async def test_C2_what_ends_a_neuron_ends_it_between_two_streams_too() -> None:
    bus = Bus()
    bus.refuses_first = True
    broker = BigBrainBroker(bus)

    async def settle() -> None:
        while not bus.said:  # noqa: ASYNC110 - as above
            await anyio.sleep(0.005)
        await anyio.wait_all_tasks_blocked()
        with pytest.raises(TransportError):
            await broker.settle("l1", Completed((b"1",)))

    async def live() -> None:
        async with open_neuron(broker, neuron_id="n", capabilities=[work]):
            pytest.fail("nobody has accepted it")

    with anyio.fail_after(5):
        async with anyio.create_task_group() as group:
            group.start_soon(settle)
            with pytest.raises(NeuronError, match="revoked"):
                await live()
    assert bus.said == ["stream 1", "ack on 1"]


async def test_H1_a_result_that_is_undelivered_is_kept_alive_before_the_neuron_is_accepted() -> None:
    gateway = ScriptedGateway()
    gateway.hold("register")
    gateway.always_answer("nack", 503)
    timing = Timing(reconnect=Backoff(initial=0.01, maximum=0.02), heartbeat=10.0)
    async with anyio.create_task_group() as group:

        async def live() -> None:
            async with open_neuron(gateway.transport, neuron_id="n", capabilities=[work], timing=timing):
                await anyio.sleep_forever()

        group.start_soon(live)
        with anyio.fail_after(5):
            await gateway.wait_posted("register")
            gateway.lease("l1", capability="test/work", value="no number", ttl=0.6)
            (beat,) = await gateway.wait_posted("heartbeat")
        assert [held["leaseId"] for held in beat["inFlight"]] == ["l1"]
        group.cancel_scope.cancel()
