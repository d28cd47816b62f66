"""Promises C in virtual time: what takes minutes, over a transport whose streams the test makes."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, cast

import anyio
import pytest
from anyio.streams.memory import MemoryObjectSendStream
from trio.testing import MockClock

from neuron_anyio import Backoff, BigBrainBroker, RegistrationRejected, Timing, TransportError, events, open_neuron
from neuron_anyio.abc import Oversized, Reply
from neuron_anyio.errors import StreamRefused
from neuron_anyio.model import Offer
from neuron_anyio.testing.scripted_gateway import ScriptedGateway
from neuron_anyio.testing.steered_handler import SteeredHandler
from tests.runtime.handlers import echo
from tests.runtime.http_gateway import Seen

pytestmark = [pytest.mark.anyio, pytest.mark.virtual_time]


@pytest.fixture
def anyio_backend() -> Any:
    return "trio", {"clock": MockClock(autojump_threshold=0)}


class Stream:
    """An event stream that counts comments as one over HTTP does."""

    def __init__(self) -> None:
        self.comments = 0
        self.send: MemoryObjectSendStream[bytes | None]
        self.send, self._receive = anyio.create_memory_object_stream[bytes | None](math.inf)

    def comment(self) -> None:
        self.send.send_nowait(None)

    async def receive(self) -> Sequence[bytes | str | Oversized]:
        document = await self._receive.receive()
        if document is None:
            self.comments += 1
            return []
        return [document]

    def close(self) -> None:
        self.send.close()
        self._receive.close()


class Gateway(ScriptedGateway):
    """A `ScriptedGateway` that is its own transport.

    Attributes:
        refusals: errors for the next attempts to open the stream.
        opened: when each attempt was made.
        stream: the newest one.
        open_takes: seconds until a stream is open.
    """

    origin = "test:gateway"

    def __init__(self, *, register: bool = True) -> None:
        super().__init__(confirms=register, patience=math.inf)
        self.refusals: list[Exception] = []
        self.opened: list[float] = []
        self.open_takes = 0.0
        self.stream: Stream

    @asynccontextmanager
    async def open(self) -> AsyncGenerator[None]:
        yield

    @asynccontextmanager
    async def subscribe(self, neuron_id: str) -> AsyncGenerator[Stream]:
        self.opened.append(anyio.current_time())
        await anyio.sleep(self.open_takes)
        if self.refusals:
            raise self.refusals.pop(0)
        self.stream = Stream()
        try:
            yield self.stream
        finally:
            self.stream.close()

    async def post(self, path: str, body: bytes) -> Reply:
        return await self.take(path, body)

    def send(self, **frame: Any) -> None:
        self.stream.send.send_nowait(json.dumps(frame).encode())


def neuron(gateway: Gateway, *capabilities: Any, **options: Any) -> Any:
    return open_neuron(gateway, neuron_id="neuron-1", capabilities=capabilities or [echo], **options)


async def disconnected(seen: Seen) -> str:
    """Wait, for hours if need be, until the stream has ended; return why."""
    while not (found := seen.of(events.Disconnected)):
        await seen.changed()
    return found[0].reason


def refused(status: int, **more: Any) -> StreamRefused:
    return StreamRefused(f"{status} from the test", status=status, **more)


# C5: back-off


async def test_C5_waits_double_up_to_the_maximum_and_are_really_waited() -> None:
    gateway, seen = Gateway(), Seen()
    gateway.refusals = [TransportError("down") for _ in range(200)]
    async with neuron(gateway, on_event=seen):
        pass
    delays = [event.delay for event in seen.of(events.Reconnecting)]
    gaps = [later - earlier for earlier, later in zip(gateway.opened, gateway.opened[1:], strict=False)]
    assert gaps == pytest.approx(delays)
    for number, delay in enumerate(delays):
        assert 0 <= delay <= min(30, 0.5 * 2 ** min(number, 10))
    late = delays[10:]
    assert min(late) < 5
    assert max(late) > 25  # full jitter: anywhere below the ceiling
    assert len({round(delay, 6) for delay in late}) > 100


async def test_C5_the_wait_after_a_stream_that_ended_is_really_waited() -> None:
    gateway, seen = Gateway(), Seen()
    ended: list[float] = []
    async with neuron(gateway, on_event=seen, timing=Timing(reconnect=Backoff(initial=20, maximum=20))):
        for number in range(5):
            gateway.stream.send.close()
            ended.append(anyio.current_time())
            await gateway.wait_posted("register", count=number + 2)
    waits = [opened - closed for opened, closed in zip(gateway.opened[1:], ended, strict=True)]
    assert waits == pytest.approx([event.delay for event in seen.of(events.Reconnecting)])


@pytest.mark.parametrize(("uptime", "grows"), [(4.9, True), (5.1, False)])
async def test_reference_D31_a_stream_must_stay_up_before_the_count_starts_anew(uptime: float, grows: bool) -> None:
    gateway, seen = Gateway(), Seen()
    async with neuron(gateway, on_event=seen):
        for _ in range(5):
            await anyio.sleep(uptime)
            count = len(gateway.posted("register"))
            gateway.stream.send.close()
            await gateway.wait_posted("register", count=count + 1)
    attempts = [event.attempt for event in seen.of(events.Reconnecting)]
    assert attempts == ([1, 2, 3, 4, 5] if grows else [1] * 5)


async def test_C5_the_longer_the_last_wait_could_be_the_longer_it_must_stay_up() -> None:
    gateway, seen = Gateway(), Seen()
    gateway.refusals = [TransportError("down") for _ in range(8)]
    async with neuron(gateway, on_event=seen):
        for uptime in (20, 29, 31):
            await anyio.sleep(uptime)
            count = len(gateway.posted("register"))
            gateway.stream.send.close()
            await gateway.wait_posted("register", count=count + 1)
    assert [event.attempt for event in seen.of(events.Reconnecting)] == [*range(1, 9), 9, 10, 1]


async def test_C5_the_time_that_opening_takes_is_no_uptime() -> None:
    gateway, seen = Gateway(), Seen()
    gateway.open_takes = 20
    async with neuron(gateway, on_event=seen):
        for number in range(3):
            gateway.stream.send.close()
            await gateway.wait_posted("register", count=number + 2)
    assert [event.attempt for event in seen.of(events.Reconnecting)] == [1, 2, 3]


@pytest.mark.parametrize(("asked", "waited"), [(7.0, 7.0), (300.0, 300.0), (100_000.0, 300.0)])
async def test_C5_retry_after_is_waited_for_by_stream_and_register(asked: float, waited: float) -> None:
    gateway = Gateway()
    gateway.refusals = [refused(503, retry_after=asked)]
    gateway.answer("register", Reply(status=429, retry_after=asked))
    began = anyio.current_time()
    async with neuron(gateway):
        assert gateway.opened == pytest.approx([began, began + waited], abs=0.5)
        assert anyio.current_time() == pytest.approx(began + 2 * waited, abs=0.5)


async def test_C5_every_tenth_attempt_warns(caplog: pytest.LogCaptureFixture) -> None:
    gateway = Gateway()
    gateway.refusals = [TransportError("down") for _ in range(35)]
    with caplog.at_level(logging.WARNING, "neuron_anyio"):
        async with neuron(gateway):
            pass
    numbers = [record.args[1] for record in caplog.records if isinstance(record.args, tuple) and len(record.args) == 4]
    assert numbers == [1, 3, 10, 20, 30]
    assert all("test:gateway" in record.getMessage() for record in caplog.records)


# C2: a neuron id that stays taken


@pytest.mark.parametrize("where", ["stream", "register"])
async def test_C2_an_id_that_is_taken_for_a_minute_is_fatal(where: str) -> None:
    gateway = Gateway()
    if where == "stream":
        gateway.refusals = [refused(409) for _ in range(1000)]
    else:
        gateway.always_answer("register", Reply(status=409, text="this neuron id is connected"))
    began = anyio.current_time()
    with pytest.raises(RegistrationRejected, match=r"another process is connected as 'neuron-1'") as caught:
        async with neuron(gateway):
            raise AssertionError
    assert caught.value.status == 409
    assert 60 <= anyio.current_time() - began <= 91


async def test_C2_an_id_that_is_free_again_within_a_minute_is_not() -> None:
    gateway = Gateway()
    gateway.always_answer("register", 409)
    async with anyio.create_task_group() as group:

        async def free() -> None:
            await anyio.sleep(40)
            gateway.always_answer("register", 200)

        group.start_soon(free)
        with anyio.fail_after(100):
            async with neuron(gateway):
                pass


# C6: silence


@pytest.mark.parametrize(("gap", "limit"), [(1.0, 15.0), (5.0, 15.0), (10.0, 30.0), (60.0, 180.0)])
async def test_C6_after_three_comments_a_silence_of_three_gaps_ends_the_stream(gap: float, limit: float) -> None:
    gateway, seen = Gateway(), Seen()
    async with neuron(gateway, on_event=seen):
        for _ in range(6):
            await anyio.sleep(gap)
            gateway.stream.comment()
        last = anyio.current_time()
        reason = await disconnected(seen)
        assert anyio.current_time() == pytest.approx(last + limit)
    assert reason == f"nothing came for {limit:.0f} s"


async def test_C6_the_longest_gap_counts() -> None:
    gateway, seen = Gateway(), Seen()
    async with neuron(gateway, on_event=seen):
        for gap in (1, 1, 14, 1, 1):
            await anyio.sleep(gap)
            gateway.stream.comment()
        last = anyio.current_time()
        await disconnected(seen)
        assert anyio.current_time() == pytest.approx(last + 42)


async def test_C6_frames_break_a_silence_as_comments_do() -> None:
    gateway, seen = Gateway(), Seen()
    async with neuron(gateway, on_event=seen):
        for _ in range(3):
            await anyio.sleep(1)
            gateway.stream.comment()
        for number in range(20):
            await anyio.sleep(14)
            gateway.lease(f"l{number}", value=1)
            await gateway.wait_result(f"l{number}")
        assert not seen.of(events.Disconnected)


async def test_C6_two_comments_make_no_rhythm_and_a_quiet_stream_is_left_alone() -> None:
    gateway, seen = Gateway(), Seen()
    async with neuron(gateway, on_event=seen):
        gateway.stream.comment()
        gateway.stream.comment()
        await anyio.sleep(3600)
        assert not seen.of(events.Disconnected)
        assert abs(len(gateway.posted("heartbeat")) - 360) <= 1


async def test_C6_without_comments_three_heartbeats_without_an_answer_end_the_stream() -> None:
    gateway, seen = Gateway(), Seen()
    async with neuron(gateway, on_event=seen):
        gateway.hold("heartbeat")
        began = anyio.current_time()
        reason = await disconnected(seen)
        assert 39 <= anyio.current_time() - began <= 41
        gateway.release("heartbeat")
    assert reason == "3 heartbeats in a row were not answered"


async def test_C6_a_stream_with_a_rhythm_is_not_judged_by_heartbeats() -> None:
    gateway, seen = Gateway(), Seen()
    async with neuron(gateway, on_event=seen):
        gateway.hold("heartbeat")
        for _ in range(100):
            await anyio.sleep(5)
            gateway.stream.comment()
        assert not seen.of(events.Disconnected)
        gateway.release("heartbeat")


async def test_C6_stream_idle_of_the_user_comes_before_the_rhythm() -> None:
    gateway, seen = Gateway(), Seen()
    async with neuron(gateway, on_event=seen, timing=Timing(stream_idle=100)):
        for _ in range(5):
            await anyio.sleep(1)
            gateway.stream.comment()
        last = anyio.current_time()
        await disconnected(seen)
        assert anyio.current_time() == pytest.approx(last + 100)


async def test_C6_each_stream_has_its_own_rhythm() -> None:
    gateway, seen = Gateway(), Seen()
    async with neuron(gateway, on_event=seen):
        for _ in range(5):
            await anyio.sleep(1)
            gateway.stream.comment()
        await disconnected(seen)
        await gateway.wait_posted("register", count=2)
        await anyio.sleep(1000)
        assert len(seen.of(events.Disconnected)) == 1


# C4 and H1 over long times


async def test_C4_a_year_of_refused_tokens_after_the_first_acceptance_is_an_outage() -> None:
    gateway = Gateway()
    async with neuron(gateway):
        gateway.refusals = [refused(401) for _ in range(1000)]
        gateway.stream.send.close()
        await gateway.wait_posted("register", count=2)
    assert len(gateway.opened) == 1002


async def test_H1_heartbeats_go_on_for_a_held_lease_while_there_is_no_stream() -> None:
    steered, gateway = SteeredHandler(), Gateway()
    async with neuron(gateway, steered.capability):
        gateway.lease("l1", capability="test/steered", ttl=60)
        await steered.wait_started()
        gateway.refusals = [TransportError("down") for _ in range(100)]
        gateway.stream.send.close()
        await anyio.sleep(600)
        assert steered.running == 1
        beats = [beat for beat in gateway.posted("heartbeat") if beat["inFlight"]]
        assert len(beats) >= 59
        steered.finish("l1")
        assert (await gateway.wait_result("l1"))["type"] == "ack"


async def test_C1_without_a_registered_frame_entering_ends_a_second_after_the_acceptance() -> None:
    gateway = Gateway(register=False)
    gateway.answer("register", Reply(status=503, retry_after=3.0))
    began = anyio.current_time()
    async with neuron(gateway, timing=Timing(reconnect=Backoff(initial=0.01, maximum=0.02))):
        assert anyio.current_time() == pytest.approx(began + 4, abs=0.1)


class Desk:
    """The least that a broker can be given as `Intake`."""

    neuron_id = "neuron-1"

    def __init__(self) -> None:
        self.emit = Seen()

    def offers(self) -> list[Offer]:
        return [Offer(capability="test/echo", concurrency=1)]

    def grant(self, session_id: str | None, granted: Mapping[str, int | None]) -> Mapping[str, int]:
        return dict.fromkeys(granted, 1)


async def test_C1_the_start_is_told_once_however_often_it_connects() -> None:
    gateway, desk = Gateway(), Desk()
    broker = BigBrainBroker(gateway)
    async with broker.open(cast("Any", desk)), anyio.create_task_group() as group:
        await group.start(broker.take)
        for number in range(3):
            gateway.stream.send.close()
            await gateway.wait_posted("register", count=number + 2)
            await anyio.sleep(5)
        group.cancel_scope.cancel()
    assert len(desk.emit.of(events.Registered)) == 4
