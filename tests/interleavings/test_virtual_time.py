"""What takes minutes, hours and days, in no time: outages, long handlers, and what is remembered for how long."""

from __future__ import annotations

import random
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import Any

import anyio
import pytest
from trio.testing import MockClock

from neuron_anyio import Capability, MemoryTransport, Neuron, TransportError, capability, events, open_neuron
from neuron_anyio.abc import EventStream, Reply
from neuron_anyio.testing.scripted_gateway import ScriptedGateway
from neuron_anyio.testing.steered_handler import SteeredHandler
from neuron_anyio.tokens import Credentials

pytestmark = [pytest.mark.anyio, pytest.mark.virtual_time]

MINUTE, HOUR, DAY = 60.0, 3600.0, 86_400.0
A_MOMENT = 1.0


@pytest.fixture
def anyio_backend() -> Any:
    return "trio", {"clock": MockClock(autojump_threshold=0)}


@pytest.fixture(autouse=True)
def the_same_jitter_each_time() -> None:
    random.seed(4)


class Transport(MemoryTransport):
    """Roads that may be down, and a source of tokens that may be.

    Attributes:
        hindrance: raised by whatever is tried, None while all is well.
        opened: when a stream was tried.
        tried: when a frame was posted, whatever became of it, by its type.
        takes: seconds that whatever is tried takes.
    """

    def __init__(self, gateway: ScriptedGateway, token: Callable[[], str] | None) -> None:
        super().__init__(gateway.take, origin="memory:test")
        self.hindrance: TransportError | None = None
        self.opened: list[float] = []
        self.takes = 0.01
        self.tried: dict[str, list[float]] = {}
        self._credentials = Credentials(token, patience=30.0)

    @asynccontextmanager
    async def subscribe(self, neuron_id: str) -> AsyncGenerator[EventStream]:  # type: ignore[override]  # the same stream
        self.opened.append(anyio.current_time())
        await self._get_through()
        async with super().subscribe(neuron_id) as stream:
            yield stream

    async def post(self, path: str, body: bytes) -> Reply:
        self.tried.setdefault(path, []).append(anyio.current_time())
        await self._get_through()
        return await super().post(path, body)

    async def _get_through(self) -> None:
        await anyio.sleep(self.takes)
        if self.hindrance is not None:
            raise self.hindrance
        await self._credentials.get()


class Gateway(ScriptedGateway):
    """A `ScriptedGateway` on such roads."""

    def __init__(self, *, token: Callable[[], str] | None = None) -> None:
        super().__init__()
        self.transport: Transport = Transport(self, token)

    def go_down(self) -> None:
        self.transport.hindrance = TransportError("the gateway is down")
        self.transport.break_stream(TransportError("the gateway is down"))

    def come_back(self) -> None:
        self.transport.hindrance = None

    def results(self) -> dict[str, str]:
        """Return what was taken: "ack" or the nack's code, by lease id."""
        return {post["leaseId"]: post.get("code", "ack") for post in self.posted("ack", "nack")}


class Seen:
    """Events with their times."""

    def __init__(self) -> None:
        self.events: list[tuple[float, events.Event]] = []

    def __call__(self, event: events.Event) -> None:
        self.events.append((anyio.current_time(), event))

    def of(self, kind: type[events.Event]) -> list[tuple[float, Any]]:
        return [(time, event) for time, event in self.events if isinstance(event, kind)]


@asynccontextmanager
async def living(gateway: Gateway, *capabilities: Capability[..., Any], **options: Any) -> AsyncGenerator[Neuron]:
    async with open_neuron(gateway.transport, neuron_id="neuron-1", capabilities=capabilities, **options) as neuron:
        yield neuron


class Counted:
    """A capability that counts its runs."""

    def __init__(self) -> None:
        self.runs = 0
        self.capability = capability("test/counted")(self._run)

    async def _run(self, value: Any) -> Any:
        self.runs += 1
        return value


# ---- outages


async def test_C5_L9_after_an_hours_outage_everything_is_delivered() -> None:
    gateway, seen = Gateway(), Seen()
    short = SteeredHandler("test/short", concurrency=2)
    lost, kept = SteeredHandler("test/lost"), SteeredHandler("test/kept", on_lease_lost="continue")
    async with living(gateway, short.capability, lost.capability, kept.capability, on_event=seen):
        gateway.answer("ack", 503)
        for lease_id, kind in (("short1", "short"), ("short2", "short"), ("lost", "lost"), ("kept", "kept")):
            gateway.lease(lease_id, capability=f"test/{kind}", ttl=60.0)
        await short.wait_started(2)
        await anyio.sleep(A_MOMENT)
        short.finish("short1")  # refused once: undelivered when the outage begins
        await gateway.wait_posted("ack", lease_id="short1")
        gateway.go_down()
        began = anyio.current_time()
        await anyio.sleep(20.0)
        short.finish("short2")
        await anyio.sleep(HOUR - 20.0)
        assert lost.running == 0, "L7: a lease that cannot be renewed is lost"
        assert kept.running == 1, "L7: and some handlers go on all the same"
        gateway.come_back()
        kept.finish("kept")
        await anyio.sleep(30.0 + A_MOMENT)
        assert gateway.results() == {"short1": "ack", "short2": "ack", "lost": "LEASE_EXPIRED", "kept": "ack"}
        back, _ = seen.of(events.Registered)[-1]
        assert max(gateway.transport.tried["ack"]) < back + A_MOMENT, "L9: what waited goes out when it is back"
        gateway.lease("new", capability="test/short")
        await short.wait_started(3)
        short.finish("new")
        await gateway.wait_result("new")
    tries = [time for time in gateway.transport.opened if time >= began]
    delays = [event.delay for _, event in seen.of(events.Reconnecting)]
    for number, ((earlier, later), delay) in enumerate(zip(pairwise(tries), delays[1:], strict=True), start=1):
        assert later - earlier == pytest.approx(delay + 0.01, abs=1e-6), "waited as it was said"
        assert delay <= min(30.0, 0.5 * 2**number), "C5: doubling to 30 s"
    assert 180 <= len(tries) <= 320, "C5: half of 30 s on average"


async def test_H1_heartbeats_are_tried_all_through_an_hours_outage() -> None:
    gateway, kept = Gateway(), SteeredHandler(on_lease_lost="continue")
    async with living(gateway, kept.capability):
        gateway.lease("kept", capability="test/steered", ttl=60.0)
        await kept.wait_started()
        gateway.go_down()
        before = len(gateway.transport.tried.get("heartbeat", []))
        await anyio.sleep(HOUR)
        tries = gateway.transport.tried["heartbeat"][before:]
        assert abs(len(tries) - HOUR / 10.0) <= 1
        gateway.come_back()
        await anyio.sleep(30.0 + A_MOMENT)
        assert gateway.posted("heartbeat")[-1]["inFlight"][0]["leaseId"] == "kept"
        kept.finish("kept")
        await gateway.wait_result("kept")


async def test_C4_a_source_of_tokens_that_is_down_for_ten_minutes_costs_ten_minutes() -> None:
    is_down = False

    def token() -> str:
        if is_down:
            raise OSError("no tokens today")
        return "token"

    gateway, seen = Gateway(token=token), Seen()
    steered = SteeredHandler(concurrency=2, on_lease_lost="continue")
    async with living(gateway, steered.capability, on_event=seen):
        for lease_id in ("l1", "l2"):
            gateway.lease(lease_id, capability="test/steered")
        await steered.wait_started(2)
        is_down = True
        steered.finish("l1")
        await anyio.sleep(10 * MINUTE)
        assert not gateway.posted("ack")
        assert steered.running == 1
        is_down = False
        steered.finish("l2")
        await anyio.sleep(30.0 + A_MOMENT)
        assert gateway.results() == {"l1": "ack", "l2": "ack"}
        assert len(seen.of(events.Registered)) == 2, "C6: heartbeats without an answer ended the stream; it is back"
    gaps = [later - earlier for earlier, later in pairwise(gateway.transport.tried["ack"])]
    assert max(gaps) <= 30.02, "L9: retried with back-off all the time"


# ---- long handlers


@pytest.mark.parametrize("answered_after", [0.9, 5.0])
async def test_H1_a_short_lease_gets_its_first_heartbeat_in_time_though_one_is_under_way(answered_after: float) -> None:
    gateway, steered = Gateway(), SteeredHandler()
    async with living(gateway, steered.capability):
        await anyio.sleep(9.9)
        gateway.transport.takes = answered_after
        await anyio.sleep(0.6)
        assert len(gateway.transport.tried["heartbeat"]) == 1
        gateway.lease("l1", capability="test/steered", ttl=3.0)
        came = anyio.current_time()
        await anyio.sleep(A_MOMENT + 0.1)
        assert gateway.transport.tried["heartbeat"][1] - came <= A_MOMENT + 0.02
        gateway.transport.takes = 0.01
        steered.finish("l1")
        await gateway.wait_result("l1")


async def test_H1_a_result_that_nobody_takes_hurries_heartbeats_for_ten_lease_times_alone() -> None:
    gateway, counted = Gateway(), Counted()
    async with living(gateway, counted.capability):
        gateway.always_answer("ack", 503)
        gateway.lease("l1", capability="test/counted", ttl=0.6)
        await anyio.sleep(30.0)
        before = len(gateway.transport.tried["heartbeat"])
        await anyio.sleep(MINUTE)
        assert len(gateway.transport.tried["heartbeat"]) - before == 6
        gateway.always_answer("ack", 200)


async def test_H1_a_handler_of_a_day_is_kept_alive_by_a_heartbeat_every_ten_seconds() -> None:
    @capability("test/day")
    async def day(value: Any) -> Any:
        await anyio.sleep(DAY)
        return value

    gateway, seen = Gateway(), Seen()
    async with living(gateway, day, on_event=seen):
        gateway.lease("l1", capability="test/day", value="slept well", ttl=60.0)
        await anyio.sleep(DAY + A_MOMENT)
        assert gateway.posted("ack")[0]["output"] == "slept well"
    held = [beat for beat in gateway.posted("heartbeat") if beat["inFlight"]]
    assert abs(len(held) - DAY / 10.0) <= 1
    gaps = [later - earlier for earlier, later in pairwise(gateway.transport.tried["heartbeat"])]
    assert max(gaps) < 10.1, "without a pause"
    assert not seen.of(events.LeaseLost)
    assert not seen.of(events.Disconnected)


# ---- what is remembered for how long


@pytest.mark.parametrize(("minutes", "runs"), [(9, 1), (11, 2)])
async def test_L3_2_a_settled_lease_is_recognised_for_ten_minutes(minutes: int, runs: int) -> None:
    gateway, counted = Gateway(), Counted()
    async with living(gateway, counted.capability):
        gateway.lease("l1", capability="test/counted", value=7)
        await gateway.wait_result("l1")
        await anyio.sleep(minutes * MINUTE)
        gateway.lease("l1", capability="test/counted", value=7)
        acks = await gateway.wait_posted("ack", lease_id="l1", count=2)
        assert counted.runs == runs
    assert [ack["output"] for ack in acks] == [7, 7], "sent again, or run again"


@pytest.mark.parametrize(("minutes", "runs"), [(59, 1), (61, 2)])
async def test_L9_a_result_whose_lease_is_gone_is_kept_for_an_hour(minutes: int, runs: int) -> None:
    gateway, counted = Gateway(), Counted()
    gateway.answer("ack", Reply(status=410, is_json=True))
    async with living(gateway, counted.capability):
        gateway.lease("l1", capability="test/counted", task_id="t1", value=7)
        await gateway.wait_result("l1")
        await anyio.sleep(minutes * MINUTE)
        gateway.lease("l2", capability="test/counted", task_id="t1", value=7)
        assert (await gateway.wait_result("l2"))["output"] == 7
        assert counted.runs == runs


@pytest.mark.parametrize(("seconds", "runs"), [(59, 0), (61, 1)])
async def test_L4_1_a_cancel_waits_a_minute_for_its_lease(seconds: int, runs: int) -> None:
    gateway, counted = Gateway(), Counted()
    async with living(gateway, counted.capability):
        gateway.cancel("l1")
        await anyio.sleep(seconds)
        gateway.lease("l1", capability="test/counted", value=7)
        result = await gateway.wait_result("l1")
        assert counted.runs == runs
    assert result.get("kind") == (None if runs else "cancelled")
