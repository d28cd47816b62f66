"""Whole conversations, played to a real neuron: nothing is answered twice, nothing is left without an answer."""

from __future__ import annotations

import json
import logging
from collections import Counter
from contextlib import AbstractAsyncContextManager
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

from neuron_anyio import (
    Backoff,
    Capability,
    GatewayDisconnected,
    MemoryTransport,
    Neuron,
    Timing,
    TransportError,
    capability,
    events,
    frames,
    open_neuron,
)
from neuron_anyio.abc import Reply
from neuron_anyio.codec import encode_frame
from neuron_anyio.testing import strategies
from neuron_anyio.testing.strategies import Break, Pause, Turn
from neuron_anyio.wakeup import Changed

pytestmark = pytest.mark.thorough

QUIET = logging.getLogger("neuron_anyio.quiet")
QUIET.setLevel(logging.CRITICAL)
LIMITS = {"core/one": 1, "core/two": 2}
OFFERS = tuple(frames.CapabilityOffer(type=name, scope="any", concurrency=limit) for name, limit in LIMITS.items())
TIMING = Timing(reconnect=Backoff(initial=0.001, maximum=0.001))
PATIENCE = 3600.0
"""Seconds of the neuron's time in which everything must be answered; virtual, where it is long."""


class Played:
    """What became of a conversation.

    Attributes:
        answers: how often each lease id was answered.
        started: task ids in the order of their starts, and `cancel ID` where the neuron read one.
        most: the most handlers of each type at once.
        error: what ended the neuron.
    """

    def __init__(self, turns: list[Turn]) -> None:
        self.turns = turns
        self.answers: Counter[str] = Counter()
        self.started: list[str] = []
        self.most: Counter[str] = Counter()
        self.error: GatewayDisconnected | None = None
        self._running: Counter[str] = Counter()
        self._cancels = (turn.lease_id for turn in turns if isinstance(turn, frames.Cancel))
        self._registers = 0
        self._all_said = False
        self._changed = Changed()
        self._transport = MemoryTransport(self._on_post)

    async def play(self) -> None:
        """Let a neuron have the conversation, and wait until it has answered."""
        with anyio.fail_after(2 * PATIENCE):
            async with anyio.create_task_group() as group:
                group.start_soon(self._say)
                try:
                    async with self._neuron():
                        while not (self._all_said and self.is_answered):
                            await self._changed.wait()
                except GatewayDisconnected as exc:
                    self.error = exc
                group.cancel_scope.cancel()

    def _neuron(self) -> AbstractAsyncContextManager[Neuron]:
        handlers = [self._handler(offer) for offer in OFFERS]
        return open_neuron(
            self._transport,
            neuron_id="n",
            capabilities=handlers,
            timing=TIMING,
            on_event=self._note,
            logger=QUIET,
        )

    def _handler(self, offer: frames.CapabilityOffer) -> Capability[..., Any]:
        async def run(seconds: Any) -> None:
            self._running[offer.type] += 1
            self.most[offer.type] = max(self.most[offer.type], self._running[offer.type])
            try:
                await anyio.sleep(seconds)
            finally:
                self._running[offer.type] -= 1

        return capability(offer.type, concurrency=offer.concurrency)(run)

    async def _on_post(self, path: str, body: bytes) -> Reply:
        frame = json.loads(body)
        self._registers += path == "register"
        if path in ("ack", "nack"):
            self.answers[frame["leaseId"]] += 1
        self._changed.notify()
        return Reply(status=200)

    def _note(self, event: events.Event) -> None:
        if isinstance(event, events.LeaseStarted):
            self.started.append(event.task_id)
        elif isinstance(event, events.FrameReceived) and event.type == "cancel":
            self.started.append(f"cancel {next(self._cancels)}")

    async def _say(self) -> None:
        registers = 0
        fresh = True
        for turn in self.turns:
            if fresh:
                while self._registers == registers:
                    await self._changed.wait()
                await self._transport.wait_subscribed()
                fresh = False
            if isinstance(turn, Pause):
                await anyio.sleep(turn.seconds)
            elif isinstance(turn, Break):
                registers, fresh = self._registers, True
                self._transport.break_stream(None if turn.clean else TransportError("cut"))
            else:
                self._transport.push(encode_frame(turn))
                await anyio.lowlevel.checkpoint()
        self._all_said = True
        self._changed.notify()

    # What has to be so

    @property
    def leases(self) -> list[frames.LeaseBody]:
        """The deliveries that were said."""
        return [turn.lease for turn in self.turns if isinstance(turn, frames.Lease)]

    @property
    def is_answered(self) -> bool:
        """Whether each task is answered under the id that it had last."""
        newest = {lease.task.task_id: lease.lease_id for lease in self.leases}
        return all(self.answers[lease_id] for lease_id in newest.values())

    def check(self) -> None:
        """See that the neuron has kept its promises, whatever was said."""
        assert self.is_answered
        assert all(self.most[name] <= limit for name, limit in LIMITS.items())
        said = Counter(lease.lease_id for lease in self.leases)
        assert all(count <= said[lease_id] for lease_id, count in self.answers.items())
        names = {lease.lease_id: lease.task.task_id for lease in self.leases}
        for place, word in enumerate(self.started):
            if word.startswith("cancel "):
                assert names.get(word.removeprefix("cancel ")) not in self.started[place:]
        ids = {(lease.task.task_id, lease.lease_id) for lease in self.leases}
        deliveries = Counter(task_id for task_id, _ in ids)
        runs = Counter(word for word in self.started if not word.startswith("cancel "))
        assert all(count <= deliveries[task_id] for task_id, count in runs.items())
        last = self.turns[-1]
        ends = isinstance(last, frames.Disconnect) and not last.reconnectable
        assert self.error is None or ends


def played(turns: list[Turn], *, virtual: bool) -> Played:
    played = Played(turns)
    if virtual:
        anyio.run(played.play, backend="trio", backend_options={"clock": MockClock(autojump_threshold=0)})
    else:
        anyio.run(played.play, backend="asyncio")
    return played


@settings(max_examples=150, deadline=None)
@given(strategies.sessions(capabilities=st.just(OFFERS), input=st.integers(0, 90), max_size=15))
def test_L3_L4_L5_L9_every_conversation_is_answered_in_virtual_time(turns: list[Turn]) -> None:
    played(turns, virtual=True).check()


@settings(max_examples=50, deadline=None)
@given(strategies.sessions(capabilities=st.just(OFFERS), input=st.just(0), without=["pause"], max_size=15))
def test_L3_L4_L5_L9_every_conversation_is_answered_on_asyncio(turns: list[Turn]) -> None:
    played(turns, virtual=False).check()


@settings(max_examples=100, deadline=None)
@given(strategies.sessions(capabilities=st.just(OFFERS), input=st.integers(0, 90), without=["redelivery"], max_size=15))
def test_L9_without_redeliveries_every_lease_is_answered_exactly_once(turns: list[Turn]) -> None:
    outcome = played(turns, virtual=True)
    outcome.check()
    assert outcome.answers == {lease.lease_id: 1 for lease in outcome.leases}
