"""The neuron's book against the gateway's, over a link that drops, delays, repeats and reorders.

The invariants are the promises: a task settles once; never more run than the limits allow; what was called off while it
waited never starts; nothing is lost; nothing runs twice without need. They stand in `two_ledgers`.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from neuron_anyio import RetryableFailure, TerminalFailure
from neuron_anyio.config import Limits
from neuron_anyio.gateway.tasks import State as TaskState
from neuron_anyio.lease import Lease
from neuron_anyio.outcome import CancelledOut, Ending, Raised
from tests.pure.two_ledgers import A, B, C, Shell, World

EXAMPLES = 400
"""Of each machine in the ordinary suite: a core takes a quarter of a minute for both. The profile `soak` has more."""

PROFILE = settings.get_profile(settings.get_current_profile_name())

pytestmark = [pytest.mark.thorough, pytest.mark.timeout(300 if PROFILE.max_examples <= EXAMPLES else 7_200)]


def one_of_each(*choices: Iterable[Any]) -> st.SearchStrategy[tuple[Any, ...]]:
    """Draw all that a rule needs at once: most of an example's time goes into drawing."""
    return st.sampled_from(list(itertools.product(*choices)))


NAMES = [A, A, B, C]
BOTH = [False, True]
NEURON = ["beat", "drop", "reconnect", "connect", "register", "pause", "resume", "slow disk", "disk"]
LIMITS = [
    Limits(),
    Limits(queue=2),
    Limits(queue_bytes=12),
    Limits(undelivered=1),
    Limits(undelivered=2, undelivered_age=20.0, remembered_results_bytes=1),
]
BAD_ENDINGS: list[Ending] = [
    Raised(ValueError("so")),
    Raised(RetryableFailure("so", after=1.0)),
    Raised(TerminalFailure("so")),
    CancelledOut(),
]
INDEX = range(31)


class TwoLedgers(RuleBasedStateMachine):
    """Callers, neurons and the weather.

    Attributes:
        journal: the neurons have one.
    """

    journal = False

    @initialize(drawn=one_of_each([False, False, True], LIMITS, [None, None, 1, 3], [1, 2]))
    def begin(self, drawn: tuple[bool, Limits, int | None, int]) -> None:
        orderly, limits, maximum, neurons = drawn
        self.world = World(orderly=orderly, limits=limits, maximum=maximum, journal=self.journal)
        self.fair = True
        self.revoked = False
        self.names = iter(f"neuron{number}" for number in range(1_000))
        for _ in range(neurons):
            self.join()

    def shell(self, index: int) -> Shell:
        return self.world.shells[index % len(self.world.shells)]

    # ---- the link

    @rule(fair=st.booleans())
    def weather(self, fair: bool) -> None:
        """In fair weather all is carried at once."""
        self.fair = fair

    @precondition(lambda self: self.world.link)
    @rule(drawn=one_of_each(["carry", "overtake", "lose", "repeat"], INDEX, range(1, 5)))
    def link(self, drawn: tuple[str, int, int]) -> None:
        what, index, count = drawn
        world = self.world
        for _ in range(count):
            at = index % (len(world.link) or 1)
            if what in ("carry", "overtake") and world.link:
                world.carry(at if what == "carry" else -1)
            elif what == "lose" and world.link:
                world.lose(at)
            elif world.link:
                world.repeat(world.link[at])

    @precondition(lambda self: self.world.carried)
    @rule(index=st.sampled_from(INDEX))
    def repeat_what_was_carried(self, index: int) -> None:
        packets = [packet for packet in self.world.carried if self.world.can_repeat(packet)]
        leases = [packet for packet in packets if packet.body.startswith(b'{"type":"lease"')] or packets
        if leases:
            self.world.repeat(leases[-1 - index % len(leases)])

    @rule(seconds=st.sampled_from([0.1, 0.6, 2.0, 9.0, 21.0, 31.0, 31.0]))
    def pass_time(self, seconds: float) -> None:
        self.world.pass_time(seconds)

    @rule(rounds=st.integers(1, 4))
    def pass_time_in_touch(self, rounds: int) -> None:
        for _ in range(rounds):
            for shell in self.world.shells:
                shell.beat()
            self.world.carry_all()
            self.world.pass_time(5.0)

    # ---- callers

    @rule(drawn=one_of_each(NAMES, [b"1", b"1", b"22", b'"no number"'], range(1, 6)))
    def submit(self, drawn: tuple[str, bytes, int]) -> None:
        name, text, count = drawn
        for _ in range(count):
            self.world.submit(name, text)

    @precondition(lambda self: len(self.world.ended) < len(self.world.tasks))
    @rule(drawn=one_of_each(INDEX, range(1, 4)))
    def call_off(self, drawn: tuple[int, int]) -> None:
        index, count = drawn
        for _ in range(count):
            tasks = self.world.open_tasks() or self.world.tasks
            self.world.call_off(tasks[-1 - index % len(tasks)])

    @rule(drawn=one_of_each(NAMES, BOTH))
    def submit_and_call_off(self, drawn: tuple[str, bool]) -> None:
        name, overtaken = drawn
        world = self.world
        before = len(world.link)
        world.submit(name, b"1")
        world.call_off(world.tasks[-1])
        if overtaken and len(world.link) == before + 2:
            world.carry(-1)

    @rule(drawn=one_of_each(NAMES, BOTH))
    def revoke_or_allow(self, drawn: tuple[str, bool]) -> None:
        name, revoke = drawn
        gateway, now = self.world.gateway, self.world.now
        self.revoked = self.revoked or revoke
        self.world.take(gateway.revoke(name, now, reason="so") if revoke else gateway.allow(name, now))

    # ---- handlers

    def is_anything_running(self) -> bool:
        return any(shell.ledger.slots.running for shell in self.world.shells)

    def running(self) -> list[tuple[Shell, Lease]]:
        return [(shell, lease) for shell in self.world.shells for lease in shell.ledger.held.running()]

    @precondition(lambda self: self.is_anything_running())
    @rule(drawn=one_of_each(INDEX, [None, None, *BAD_ENDINGS], range(1, 4)))
    def handlers_end(self, drawn: tuple[int, Ending | None, int]) -> None:
        index, ending, count = drawn
        for _ in range(count):
            running = self.running()
            if running:
                shell, lease = running[index % len(running)]
                shell.end(lease, shell.returns(lease) if ending is None else ending)

    @precondition(lambda self: self.is_anything_running() and any(lease.cancel_reason for _, lease in self.running()))
    @rule()
    def cancelled_handlers_end(self) -> None:
        for shell, lease in self.running():
            if lease.cancel_reason is not None:
                shell.end(lease, CancelledOut())

    # ---- neurons

    @precondition(lambda self: len(self.world.shells) < 3)
    @rule()
    def join(self) -> None:
        Shell(self.world, next(self.names)).connect()

    @rule(drawn=one_of_each(INDEX, NEURON))
    def neuron(self, drawn: tuple[int, str]) -> None:
        index, what = drawn
        shell = self.shell(index)
        if what == "beat":
            shell.beat()
        elif what in ("drop", "reconnect"):
            shell.drop_stream()
        if what in ("connect", "reconnect"):
            shell.connect()
        elif what == "register":
            shell.register()
        elif what in ("slow disk", "disk"):
            shell.slow_disk(is_slow=what == "slow disk")
        elif what in ("pause", "resume"):
            shell.ledger.slots.paused = what == "pause"
            shell.start()

    @rule(drawn=one_of_each(INDEX, range(3), BOTH))
    def neuron_is_silent(self, drawn: tuple[int, int, bool]) -> None:
        index, ends, reconnect = drawn
        shell = self.shell(index)
        shell.drop_stream()
        for lease in shell.ledger.held.running()[:ends]:
            shell.end(lease, shell.returns(lease))
        shell.be_silent(31.0)
        if reconnect:
            shell.connect()

    @rule(drawn=one_of_each(INDEX, NAMES, range(1, 5)))
    def resize(self, drawn: tuple[int, str, int]) -> None:
        index, name, concurrency = drawn
        self.shell(index).resize(name, concurrency)

    @precondition(lambda self: len(self.world.shells) > 1)
    @rule(drawn=one_of_each(INDEX, ["drain", "drain", "cut", "die"]))
    def neuron_ends(self, drawn: tuple[int, str]) -> None:
        index, what = drawn
        shell = self.shell(index)
        if what == "die":
            shell.die()
        elif not shell.ledger.closed:
            shell.drain()
        elif what == "cut":
            shell.stop_all()

    @rule(drawn=one_of_each(INDEX, range(3), BOTH, [0.0, 31.0], BOTH))
    def neuron_lives_again(self, drawn: tuple[int, int, bool, float, bool]) -> None:
        """Promise L10: with a journal nothing that has ended runs again; without one it may."""
        index, ends, arrives, away, connect = drawn
        shell = self.shell(index)
        for lease in shell.ledger.held.running()[:ends]:
            shell.end(lease, shell.returns(lease))
        reborn = shell.die_and_live_again(arrives=arrives)
        self.world.pass_time(away)
        if connect:
            reborn.connect()

    # ---- promises

    @invariant()
    def promises_hold(self) -> None:
        if hasattr(self, "world"):
            if self.fair:
                self.world.carry_all()
            self.world.check()

    def teardown(self) -> None:
        """In the end everything settles, by the neurons alone where they could not be confused about their grants."""
        if hasattr(self, "world"):
            self.world.settle_down(with_help=self.revoked or not self.world.orderly)


class TwoLedgersAndJournals(TwoLedgers):
    """The same with journals: a neuron that is killed and started anew has not forgotten what it has done."""

    journal = True


MACHINE = settings(max_examples=max(EXAMPLES, PROFILE.max_examples), stateful_step_count=40, deadline=None)
TwoLedgers.TestCase.settings = TwoLedgersAndJournals.TestCase.settings = MACHINE
TestTwoLedgers = TwoLedgers.TestCase
TestTwoLedgersAndJournals = TwoLedgersAndJournals.TestCase


# ---- in fair weather


class Fair:
    """A world in which nothing is lost, and time passes as a running neuron lets it."""

    def __init__(self, *, neurons: int, maximum: int | None = None) -> None:
        self.world = World(orderly=True, limits=Limits(), maximum=maximum)
        for number in range(neurons):
            Shell(self.world, f"neuron{number}").connect()
        self.world.carry_all()

    def pass_time(self, seconds: float) -> None:
        """Let time pass with a heartbeat every five seconds."""
        while seconds > 0:
            step = min(5.0, seconds)
            self.world.pass_time(step)
            seconds -= step
            for shell in self.world.shells:
                shell.beat()
            self.world.carry_all()
            self.world.check()

    def running(self) -> list[tuple[Shell, Lease]]:
        return [(shell, lease) for shell in self.world.shells for lease in shell.ledger.held.running()]


ACTS = st.lists(
    st.one_of(
        st.tuples(st.just("submit"), st.sampled_from([A, C]), st.integers(1, 4)),
        st.tuples(st.just("end"), st.sampled_from(INDEX), st.just(0)),
        st.tuples(st.just("wait"), st.sampled_from([0.5, 7.0, 15.0]), st.just(0)),
        st.tuples(st.just("reconnect"), st.sampled_from(INDEX), st.just(0)),
        st.tuples(st.just("resize"), st.sampled_from([A, C]), st.integers(1, 4)),
        st.tuples(st.just("drain"), st.sampled_from(INDEX), st.just(0)),
    ),
    max_size=25,
)


@settings(max_examples=60, deadline=None)
@given(acts=ACTS, neurons=st.integers(1, 3))
def test_in_fair_weather_every_task_runs_once_and_succeeds(acts: list[tuple[str, Any, int]], neurons: int) -> None:
    fair = Fair(neurons=neurons)
    world = fair.world
    for act, what, number in acts:
        shell = world.shells[what % len(world.shells)] if act in ("reconnect", "drain") else world.shells[0]
        if act == "submit":
            for _ in range(number):
                world.submit(what, b"1")
        elif act == "end" and fair.running():
            owner, lease = fair.running()[what % len(fair.running())]
            owner.end(lease, owner.returns(lease))
        elif act == "wait":
            fair.pass_time(what)
        elif act == "reconnect" and not shell.ledger.closed:
            shell.connect()
        elif act == "resize":
            shell.resize(what, number)
        elif act == "drain" and sum(not each.ledger.closed for each in world.shells) > 1:
            shell.drain()
        world.carry_all()
        world.check()
    for _ in range(100):
        for owner, lease in fair.running():
            owner.end(lease, owner.returns(lease))
        world.carry_all()
        fair.pass_time(1.0)
    assert [world.task(task_id).state for task_id in world.tasks] == [TaskState.SUCCEEDED] * len(world.tasks)
    assert sorted(world.started.values()) == sorted(world.tasks), "each once, over reconnects, drains and give-backs"


def test_L6_a_task_that_waits_for_a_slot_longer_than_its_lease_still_runs() -> None:
    fair = Fair(neurons=1, maximum=1)
    fair.world.submit(A, b"1")
    fair.world.submit(C, b"1")
    for _ in range(60):
        fair.pass_time(1.0)
    for _ in range(3):
        for owner, lease in fair.running():
            owner.end(lease, owner.returns(lease))
        fair.pass_time(10.0)
    assert [fair.world.task(task_id).state for task_id in fair.world.tasks] == [TaskState.SUCCEEDED] * 2
