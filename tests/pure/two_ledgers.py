"""A gateway's book and neurons' books in one room, joined by a link that may do anything to what it carries.

`World` has the gateway, the link and the clock. `Shell` is a neuron: its book, and round it what the runtime does,
without a loop. What the books promise to each other is asserted where it happens; what must hold at any time is in
`World.check`, what must be true in the end in `World.settle_down`.
"""

from __future__ import annotations

import itertools
import json
from collections import Counter, deque
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Literal, TypeAlias

import msgspec

from neuron_anyio import frames
from neuron_anyio.backoff import Backoff
from neuron_anyio.brokers._bigbrain_wire import capability_frame, delivery_of, settlement_frame
from neuron_anyio.capability import Capability, capability, on_behalf_of
from neuron_anyio.codec import decode_neuron_frame, decode_server_frame, encode_frame
from neuron_anyio.config import Limits
from neuron_anyio.conversion import Mismatch
from neuron_anyio.gateway.ledger import GatewayLedger
from neuron_anyio.gateway.principals import ANYBODY
from neuron_anyio.gateway.store import MemoryStore
from neuron_anyio.gateway.tasks import State as TaskState
from neuron_anyio.gateway.tasks import Submission, Task
from neuron_anyio.gateway.turn import Turn
from neuron_anyio.lease import Lease, State
from neuron_anyio.ledger import Arrival, Ledger
from neuron_anyio.memory import CANCEL_FOR
from neuron_anyio.model import Cancelled, CancelReason, Delivery, GiveBack, GivenBack
from neuron_anyio.outcome import CancelledOut, Ending, Returned, input_failure, outcome_of
from neuron_anyio.records import Recorded, decode_record, encode_record, is_worth_recording, record_key
from tests.pure.books import answers, check_book

START = datetime(2026, 1, 1, tzinfo=UTC)
TTL = 30.0
RETRY_POST = 0.5
OLD = 300.0
"""Seconds after which the link forgets what it carries: well within what the books remember."""

A, B, C = "core/a", "core/b", "core/c"
OK = range(200, 300)
GONE = (404, 409, 410)


@capability(A, concurrency=2)
def any_input(item: Any) -> Any:
    return item


@capability(B, concurrency=1, timeout=20.0, on_lease_lost="continue")
def whole_number(item: int) -> Any:
    return item


@capability(C, concurrency=2, scope=on_behalf_of("ann"), lease_ttl=10.0)
def for_ann(item: Any) -> Any:
    return item


CAPABILITIES: Sequence[Capability[..., Any]] = (any_input, whole_number, for_ann)


Kind: TypeAlias = Literal["frame", "post", "reply"]


class Packet:
    """Something on its way.

    Attributes:
        kind: a frame of a stream, a post, or a post's reply.
        shell: the neuron's end.
        session: of a frame's stream.
        body: of a frame or a post.
        replied: whom to tell what became of a post; None is told when it is lost.
        status: of a reply.
        born: when it set out.
    """

    __slots__ = ("body", "born", "kind", "replied", "session", "shell", "status")

    def __init__(
        self,
        kind: Kind,
        shell: Shell,
        *,
        born: float,
        body: bytes = b"",
        session: str = "",
        replied: Callable[[int | None], None] | None = None,
        status: int = 0,
    ) -> None:
        self.kind: Kind = kind
        self.shell = shell
        self.body = body
        self.session = session
        self.replied = replied
        self.status = status
        self.born = born

    def __repr__(self) -> str:
        return f"{self.kind} of {self.shell.name}: {self.status or self.body[:60]!r}"


class Job:
    """A result on its way, as the courier has it."""

    __slots__ = ("again", "busy", "due")

    def __init__(self, due: float) -> None:
        self.due = due
        self.busy = False
        self.again = False


class Disk:
    """A neuron's journal: what is in the file, and the batch that is to be written next.

    Attributes:
        is_slow: nothing is written for the time being.
    """

    __slots__ = ("_file", "_forgotten", "_pending", "is_slow")

    def __init__(self) -> None:
        self.is_slow = False
        self._file: dict[bytes, tuple[bytes, float]] = {}
        self._pending: dict[bytes, tuple[bytes, float]] = {}
        self._forgotten: set[bytes] = set()

    def put(self, key: bytes, value: bytes, now: float) -> None:
        self._pending[key] = (value, now)
        if not self.is_slow:
            self.write()

    def forget(self, key: bytes) -> None:
        """Remove a key with what is written next: a death before that brings it back."""
        self._pending.pop(key, None)
        self._forgotten.add(key)

    def is_pending(self, key: bytes) -> bool:
        return key in self._pending

    def write(self) -> None:
        for key in self._forgotten:
            self._file.pop(key, None)
        self._file.update(self._pending)
        self._pending, self._forgotten = {}, set()

    def restart(self, now: float) -> list[tuple[bytes, Recorded, float]]:
        """Lose what was not written; return the rest with its keys and ages."""
        self.is_slow = False
        self._pending, self._forgotten = {}, set()
        return [(key, decode_record(value), now - at) for key, (value, at) in self._file.items()]

    def keys(self) -> set[bytes]:
        """Return what is recorded, or on its way into the file, and not forgotten."""
        return (self._file.keys() - self._forgotten) | self._pending.keys()

    def answers(self, identity: bytes) -> bool:
        """Return whether a task need not run again, by what is recorded."""
        own = [key for key in self.keys() if key.startswith(identity)]
        values = [(self._pending.get(key) or self._file[key])[0] for key in own]
        return any(answers(decode_record(value).outcome) for value in values)


class World:
    """Gateway, link and clock.

    Args:
        journal: neurons have one.
        orderly: streams keep their order and lose only their end, as over HTTP; else frames are lost, doubled and
            overtaken one by one. Posts may always be.
        limits: of every neuron.
        maximum: handlers over all capabilities of a neuron.
    """

    def __init__(self, *, orderly: bool, limits: Limits, maximum: int | None, journal: bool = False) -> None:
        self.journal = journal
        self.orderly = orderly
        self.limits = limits
        self.maximum = maximum
        self.now = 0.0
        numbers = itertools.count(1)
        self.store = MemoryStore()
        self.gateway = GatewayLedger(
            new_id=lambda kind: f"{kind}{next(numbers)}",
            wall=self.wall,
            lease_ttl=TTL,
            retry=Backoff(initial=1.0, maximum=4.0),
            store=self.store,
        )
        self.link: list[Packet] = []
        self.carried: deque[Packet] = deque(maxlen=60)
        self.shells: list[Shell] = []
        self.sessions: dict[str, Shell] = {}
        self.tasks: list[str] = []
        self.ended: dict[str, Task] = {}
        self.started: dict[str, str] = {}
        self.starts: Counter[str] = Counter()
        self.runs: dict[int, str] = {}

    def wall(self) -> datetime:
        return START + timedelta(seconds=self.now)

    def task(self, task_id: str) -> Task:
        found = self.store.get(task_id)
        assert found is not None
        return found

    def open_tasks(self) -> list[str]:
        return [task_id for task_id in self.tasks if task_id not in self.ended]

    # ---- the gateway's end

    def take(self, turn: Turn) -> Turn:
        """Put what the gateway sends onto the link."""
        for session, frame in turn.sends:
            shell = self.sessions[session]
            if isinstance(frame, frames.Lease):
                self.check_grant(shell, frame.lease.task.capability)
            self.link.append(Packet("frame", shell, born=self.now, body=encode_frame(frame), session=session))
        return turn

    def check_grant(self, shell: Shell, name: str) -> None:
        slots = self.gateway.roster.neurons[shell.name].slots[name]
        assert slots.offer is not None
        assert len(slots.leases) <= slots.offer.concurrency, "G2: never more leases out than granted"

    def submit(self, name: str, text: bytes) -> None:
        submission = Submission(capability=name, input=msgspec.Raw(text), on_behalf_of="ann" if name == C else None)
        turn = self.take(self.gateway.submit(submission, ANYBODY, self.now))
        assert turn.task is not None
        self.tasks.append(turn.task.task_id)

    def call_off(self, task_id: str) -> None:
        self.take(self.gateway.cancel(task_id, self.now, reason="so"))

    def answer(self, packet: Packet) -> None:
        turn = self.take(self.gateway.handle(decode_neuron_frame(packet.body), ANYBODY, self.now))
        status = 200 if turn.problem is None else turn.problem.status
        assert status in (200, 403, 404, 409), turn.problem
        reply = Packet("reply", packet.shell, born=self.now, replied=packet.replied, status=status)
        self.link.append(reply)

    # ---- the link

    def carry(self, index: int = 0) -> None:
        """Bring something to where it goes; in orderly streams nothing overtakes."""
        packet = self.link[index]
        if self.orderly and packet.kind == "frame":
            packet = next(each for each in self.link if each.kind == "frame" and each.session == packet.session)
        self.link.remove(packet)
        self.carried.append(packet)
        if packet.kind == "frame":
            packet.shell.receive(packet.body)
        elif packet.kind == "post":
            self.answer(packet)
        elif packet.replied is not None:
            packet.replied(packet.status)

    def carry_all(self) -> None:
        while self.link:
            self.carry()

    def lose(self, index: int) -> None:
        """Lose something; of an orderly stream, all that is still on its way."""
        packet = self.link[index]
        if packet.kind == "frame" and self.orderly:
            packet.shell.drop_stream()
            return
        self.link.remove(packet)
        if packet.replied is not None:
            packet.replied(None)

    def can_repeat(self, packet: Packet) -> bool:
        """Return whether this may come twice: a post, or a frame of a stream that is not orderly."""
        return packet.kind == "post" or (packet.kind == "frame" and not self.orderly)

    def repeat(self, packet: Packet) -> None:
        """Double something. Nobody waits for a second reply."""
        if not self.can_repeat(packet) or (packet.kind == "frame" and packet.shell not in self.shells):
            return
        double = Packet(packet.kind, packet.shell, born=packet.born, body=packet.body, session=packet.session)
        self.link.append(double)

    def forget(self, unwanted: Callable[[Packet], bool]) -> None:
        self.link = [packet for packet in self.link if not unwanted(packet)]

    # ---- time

    def pass_time(self, seconds: float) -> None:
        """Let time pass, doing everything when it is due."""
        end = self.now + seconds
        while (due := min(self.dues(), default=end)) < end:
            self.now = max(self.now, due)
            self.do_what_is_due()
        self.now = end
        self.do_what_is_due()

    def dues(self) -> list[float]:
        dues = [self.gateway.next_due(), *(shell.next_due() for shell in self.shells)]
        return [due for due in dues if due is not None]

    def do_what_is_due(self) -> None:
        self.take(self.gateway.tick(self.now))
        for shell in self.shells:
            shell.tick()
        for packet in [packet for packet in self.link if packet.born + OLD < self.now]:
            if packet in self.link:
                self.lose(self.link.index(packet))
        while self.carried and self.carried[0].born + OLD < self.now:
            self.carried.popleft()

    # ---- what always holds

    def check(self) -> None:
        for shell in self.shells:
            shell.check()
        for task_id in self.tasks:
            task = self.task(task_id)
            if task_id in self.ended:
                assert task == self.ended[task_id], "a task settles once"
            elif task.settled:
                self.ended[task_id] = task
                self.check_result(task)
            leases_over = task.results + task.expiries + task.give_backs
            assert 0 <= task.deliveries - leases_over <= 1, "a new lease only after the former is over"
            assert self.starts[task_id] <= task.deliveries, "no handler starts twice for one lease"

    def check_result(self, task: Task) -> None:
        if task.state is TaskState.SUCCEEDED:
            assert task.output is not None
            run = json.loads(bytes(task.output))
            assert self.runs[run] == task.task_id, "a task's output is what its own handler returned"

    # ---- what is true in the end

    def settle_down(self, *, with_help: bool) -> None:
        """Mend everything, let all handlers end well: then everything settles.

        Args:
            with_help: a neuron joins that was never confused.
        """
        self.link = [packet for packet in self.link if packet.kind != "frame"] if not self.orderly else self.link
        for name in (A, B, C):
            self.take(self.gateway.allow(name, self.now))
        for shell in self.shells:
            shell.mend()
        if with_help or all(shell.ledger.closed for shell in self.shells):
            Shell(self, f"help{len(self.shells)}").connect()
        for _ in range(150):
            self.carry_all()
            for shell in self.shells:
                for lease in shell.ledger.held.running():
                    shell.end(lease, CancelledOut() if lease.cancel_reason else shell.returns(lease))
            self.carry_all()
            self.check()
            if self.is_quiet():
                break
            self.pass_time(2.0)
            for shell in self.shells:
                shell.beat()
        assert all(self.task(task_id).settled for task_id in self.tasks), "nothing is lost"
        assert all(not shell.ledger.leases() and not shell.jobs for shell in self.shells)

    def is_quiet(self) -> bool:
        settled = all(self.task(task_id).settled for task_id in self.tasks)
        return settled and not any(shell.ledger.leases() or shell.jobs for shell in self.shells)


class Shell:
    """A neuron: its book, and what the runtime does round it.

    Args:
        world: where it lives.
        name: its id.
        disk: what an earlier process of this neuron left.
    """

    def __init__(self, world: World, name: str, disk: Disk | None = None) -> None:
        self.world = world
        self.name = name
        self.capabilities = {each.terms.type: each for each in CAPABILITIES}
        offers = [each.offer for each in CAPABILITIES]
        self.ledger = Ledger(offers, limits=world.limits, max_concurrency=world.maximum, on_over=self.forget)
        self.most = {offer.capability: offer.concurrency for offer in offers}
        self.disk = Disk() if disk is None and world.journal else disk
        self.keys: dict[Lease, bytes] = {}
        self.restored: list[Lease] = []
        self.session: str | None = None
        self.jobs: dict[Lease, Job] = {}
        self.called_off: dict[str, float] = {}
        self.never: set[str] = set()
        self.accepted: set[str] = set()
        self.answers: dict[bytes, Lease] = {}
        world.shells.append(self)
        if disk is not None:
            self.restore(disk)

    def __repr__(self) -> str:
        return self.name

    @property
    def now(self) -> float:
        return self.world.now

    # ---- the connection

    def connect(self) -> None:
        """Open a stream, and register on it."""
        self.forget_stream()
        world = self.world
        turn = world.gateway.open_session(self.name, ANYBODY, self.now)
        assert turn.problem is None
        self.session = turn.session_id
        world.sessions[self.session] = self
        world.take(turn)
        self.register()

    def drop_stream(self) -> None:
        if self.session is not None:
            self.world.gateway.close_session(self.session, self.now)
            self.session = None
        self.forget_stream()

    def forget_stream(self) -> None:
        if self.world.orderly:
            self.world.forget(lambda packet: packet.kind == "frame" and packet.shell is self)

    def register(self) -> None:
        offers = tuple(capability_frame(offer) for offer in self.ledger.offers(0))
        if offers and self.session is not None:
            self.post(
                frames.Register(neuron_id=self.name, protocol_version=frames.PROTOCOL_VERSION, capabilities=offers)
            )

    def post(self, frame: frames.NeuronFrame, replied: Callable[[int | None], None] | None = None) -> None:
        body = encode_frame(frame)
        self.world.link.append(Packet("post", self, born=self.now, body=body, replied=replied))

    def mend(self) -> None:
        """Be as well as a neuron can be that has gone through this."""
        self.slow_disk(is_slow=False)
        self.ledger.slots.paused = False
        self.drop_stream()
        self.connect()
        self.start()

    # ---- what comes in

    def receive(self, body: bytes) -> None:
        match decode_server_frame(body):
            case frames.Lease() as frame:
                self.deliver(delivery_of(frame))
            case frames.Cancel(lease_id=lease_id):
                self.cancel(lease_id)
            case frames.Registered(capabilities=capabilities):
                self.ledger.grant(0, {offer.type: offer.concurrency for offer in capabilities})
                self.start()
                self.deliver_restored()
            case frames.CapabilityRevoked(capability=name):
                for lease in self.ledger.revoke(0, name, self.now):
                    assert lease.started is None
                    self.put(lease)
            case frames.Disconnect():
                pass

    def deliver(self, delivery: Delivery) -> None:
        known = self.ledger.is_held(0, delivery.id)
        called_off = not known and self.called_off.pop(delivery.id, -1.0) >= self.now
        arrival, lease = self.ledger.arrive(0, delivery, self.now)
        assert (arrival is Arrival.IGNORE) == (lease is None)
        if lease is not None and arrival is Arrival.ADMIT and self.world.limits.undelivered == Limits().undelivered:
            assert lease.fingerprint not in self.answers, "L3.5: a result that nobody has taken answers"
        if called_off:
            assert lease is not None
            assert isinstance(lease.outcome, Cancelled), "L4.1: a cancel before its lease"
        if lease is None:
            return
        if arrival is Arrival.SETTLE:
            self.put(lease)
        elif arrival is not Arrival.ADOPTED:
            self.judge(lease, queued=arrival is Arrival.REPLACED)

    def judge(self, lease: Lease, *, queued: bool) -> None:
        task = lease.delivery.task
        try:
            self.capabilities[task.capability].read_input(task.input, lease.delivery.input_schema)
        except Mismatch as mismatch:
            self.finish(lease, input_failure(mismatch))
            return
        if not queued:
            self.ledger.enqueue(lease)
        self.start()
        if lease.state is State.QUEUED:
            self.ledger.wait(lease)

    def cancel(self, lease_id: str) -> None:
        before = {lease.delivery.id: lease.state for lease in self.ledger.leases()}
        known = self.ledger.is_held(0, lease_id)
        lease = self.ledger.cancel(0, lease_id, self.now)
        if not known:
            self.called_off[lease_id] = self.now + CANCEL_FOR
        if before.get(lease_id) is State.QUEUED:
            assert lease is not None
            assert isinstance(lease.outcome, Cancelled), "L4.2: cancelled at once"
            self.never.add(lease_id)
            self.put(lease)
            self.start()
        elif before.get(lease_id) in (State.RUNNING, State.STOPPING):
            assert lease is not None
            assert lease.cancel_reason is CancelReason.GATEWAY, "L4.3: the gateway's word outweighs every other"
        else:
            assert lease is None, "L4.4, L4.5: nothing to do"

    # ---- handlers

    def start(self) -> None:
        for lease in self.ledger.start_ready(self.now):
            if lease.is_running:
                self.check_start(lease)
                timeout = self.capabilities[lease.delivery.task.capability].terms.timeout
                lease.deadline = None if timeout is None else self.now + timeout
            else:
                assert isinstance(lease.outcome, GivenBack)
                self.put(lease)

    def check_start(self, lease: Lease) -> None:
        """All that must be true when a handler starts."""
        world, ledger, task = self.world, self.ledger, lease.delivery.task
        lease_id, pool = lease.delivery.id, ledger.slots.pools[task.capability]
        assert lease_id not in world.started, "L3.1, L3.2: a lease starts once"
        world.started[lease_id] = task.task_id
        world.starts[task.task_id] += 1
        assert lease_id not in self.never, "L4.2: a cancelled queued lease never starts"
        assert lease.time_left(self.now) != 0, "L6: no time left, no start"
        assert not ledger.closed, "D1: all that waited was given back"
        assert not ledger.slots.paused
        assert pool.is_granted(0), "C11, C12: nothing that is not granted starts"
        assert pool.running <= pool.limit, "L5: the capability's limit"
        assert ledger.slots.running <= (world.maximum or ledger.slots.running), "L5: the neuron's limit"
        assert ledger.undelivered < world.limits.undelivered, "L9: nothing starts at the bound of results"
        assert all(other.sequence > lease.sequence for other in pool.waiting()), "L5: first come, first served"
        for other in {*ledger.leases(), *ledger._kept._leases.values()} - {lease}:
            if other.fingerprint == lease.fingerprint:
                off = other.cancel_reason is CancelReason.GATEWAY
                assert not other.is_running or off, "L3.4: what runs is adopted"
                known = other.delivery.id in self.accepted
                assert not answers(other.outcome) or known, "L3.5: what has a result does not run again"
        if self.disk is not None and world.limits.undelivered == Limits().undelivered:
            assert not self.disk.answers(lease.fingerprint), "L10: what is recorded does not run again"

    def returns(self, lease: Lease) -> Returned:
        """Make an output by which the run can be told."""
        run = len(self.world.runs)
        self.world.runs[run] = lease.delivery.task.task_id
        return Returned(run)

    def end(self, lease: Lease, ending: Ending) -> None:
        """Let a handler end."""
        handler = self.capabilities[lease.delivery.task.capability]
        outcome = outcome_of(ending, lease, handler, verdict=None, output_bytes=1000)
        if lease.cancel_reason is CancelReason.GATEWAY:
            assert isinstance(outcome, Cancelled), "L4.3: cancelled, whatever it returned or raised"
        self.finish(lease, outcome)

    def finish(self, lease: Lease, outcome: Any) -> None:
        self.ledger.finish(lease, outcome, self.now)
        if answers(outcome):
            self.answers[lease.fingerprint] = lease
        self.put(lease)
        self.start()

    # ---- results

    def put(self, lease: Lease) -> None:
        assert lease.outcome is not None
        self.record(lease)
        job = self.jobs.get(lease)
        if job is None:
            self.jobs[lease] = Job(lease.due)
        elif job.busy:
            job.again = True
        else:
            job.due = self.now
        self.send_due()

    def send_due(self) -> None:
        for lease, job in list(self.jobs.items()):
            if job.busy or job.due > self.now or self.waits_for_disk(lease):
                continue
            if lease.state is not State.UNDELIVERED:
                del self.jobs[lease]
                continue
            assert lease.outcome is not None
            job.busy = True
            lease_id = lease.delivery.id
            frame = settlement_frame(lease_id, lease.outcome)
            self.post(frame, partial(self.replied, lease, lease_id))

    def replied(self, lease: Lease, lease_id: str, status: int | None) -> None:
        job = self.jobs[lease]
        job.busy = False
        if status is None or lease.delivery.id != lease_id or job.again:
            job.due = self.now + (RETRY_POST if status is None else 0.0)
            job.again = False
            return
        if status in OK:
            self.accepted.add(lease_id)
            self.ledger.accepted(lease, self.now)
        else:
            assert status in GONE
            alone = self.ledger._by_task.get(lease.fingerprint, lease) is lease
            self.ledger.gone(lease, self.now)
            if alone and answers(lease.outcome) and self.world.limits.undelivered == Limits().undelivered:
                assert lease.state is State.KEPT, "L9: it waits for the task to come again"
        del self.jobs[lease]
        if lease.state is State.SETTLED and self.answers.get(lease.fingerprint) is lease:
            del self.answers[lease.fingerprint]
        self.start()

    # ---- the journal: promise L10

    def record(self, lease: Lease) -> None:
        if self.disk is not None and is_worth_recording(lease):
            self.disk.put(self.keys.setdefault(lease, record_key(lease)), encode_record(lease), self.now)

    def forget(self, lease: Lease) -> None:
        key = self.keys.pop(lease, None)
        if key is not None and self.disk is not None:
            self.disk.forget(key)

    def waits_for_disk(self, lease: Lease) -> bool:
        return self.disk is not None and lease in self.keys and self.disk.is_pending(self.keys[lease])

    def slow_disk(self, is_slow: bool) -> None:
        if self.disk is not None:
            self.disk.is_slow = is_slow
            if not is_slow:
                self.disk.write()
                self.send_due()

    def restore(self, disk: Disk) -> None:
        for key, recorded, age in disk.restart(self.now):
            lease = self.ledger.restore(recorded, self.now, age=age)
            self.keys[lease] = key
            self.restored.append(lease)
            if answers(lease.outcome):
                self.answers[lease.fingerprint] = lease

    def deliver_restored(self) -> None:
        restored, self.restored = self.restored, []
        for lease in restored:
            if lease.state is State.UNDELIVERED and lease not in self.jobs:
                self.put(lease)

    # ---- time

    def next_due(self) -> float | None:
        dues = [job.due for lease, job in self.jobs.items() if not job.busy and not self.waits_for_disk(lease)]
        deadline = self.ledger.next_deadline()
        return min([*dues, *([] if deadline is None else [deadline])], default=None)

    def tick(self) -> None:
        for lease in self.ledger.impatient(self.now):
            self.put(lease)
        for lease in self.ledger.held.expire(self.now):
            if self.capabilities[lease.delivery.task.capability].terms.on_lease_lost == "cancel":
                assert self.ledger.stop(lease, CancelReason.LEASE_LOST)
        for lease in self.ledger.held.overdue(self.now):
            assert self.ledger.stop(lease, CancelReason.TIMEOUT)
        if self.disk is not None and not self.disk.is_slow:
            self.disk.write()
        self.send_due()

    def beat(self) -> None:
        """Send a heartbeat."""
        sent_at, held = self.now, self.ledger.held.listed(0, self.now)
        listed = {item.delivery_id for item in held}
        assert listed >= {lease.delivery.id for lease in self.ledger.held.running()}, "H1: what runs is listed"
        waiting = {lease.delivery.id for lease in self.ledger.leases() if lease.state is State.QUEUED}
        assert not listed & waiting, "H1: what waits is not"
        wall = self.world.wall()
        entries = tuple(
            frames.InFlight(
                lease_id=item.delivery_id, task_id=item.task_id, started_at=wall - timedelta(seconds=item.age)
            )
            for item in held
        )

        def replied(status: int | None) -> None:
            if status == 200:
                self.ledger.held.renew(0, listed, sent_at)
            elif status is not None:
                self.register()

        self.post(frames.Heartbeat(neuron_id=self.name, in_flight=entries, sent_at=wall), replied)

    # ---- what the owner does

    def resize(self, name: str, concurrency: int) -> None:
        changed = self.capabilities[name].with_options(concurrency=concurrency)
        self.capabilities[name] = changed
        self.ledger.slots.pools[name].resize(changed.offer)
        self.start()
        self.post(frames.UpdateCapability(neuron_id=self.name, capability=capability_frame(changed.offer)))

    def drain(self) -> None:
        waiting = [lease for lease in self.ledger.leases() if lease.state is State.QUEUED]
        given_back = self.ledger.close(self.now)
        assert sorted(map(id, given_back)) == sorted(map(id, waiting)), "D1: all that waits is given back"
        for lease in given_back:
            assert isinstance(lease.outcome, GivenBack)
            assert lease.outcome.cause is GiveBack.DRAINING
            assert lease.due == self.now
            self.put(lease)

    def stop_all(self) -> None:
        for lease in self.ledger.held.running():
            assert self.ledger.stop(lease, CancelReason.SHUTDOWN)

    def be_silent(self, seconds: float) -> None:
        """Be cut off: neither stream nor posts come through."""
        self.drop_stream()
        for _ in range(2):
            for packet in [packet for packet in self.world.link if packet.shell is self]:
                self.world.lose(self.world.link.index(packet))
            if seconds:
                self.world.pass_time(seconds)
            seconds = 0.0

    def die(self) -> None:
        """Be killed: nothing is left but what the gateway knows."""
        self.drop_stream()
        self.world.shells.remove(self)
        self.world.forget(lambda packet: packet.shell is self)

    def die_and_live_again(self, *, arrives: bool) -> Shell:
        """Be killed and started anew, with nothing but the journal where there is one.

        Args:
            arrives: what was posted is on its way still; else it is lost.
        """
        world = self.world
        self.drop_stream()
        world.shells.remove(self)
        world.forget(lambda packet: packet.shell is self and (packet.kind != "post" or not arrives))
        for packet in world.link:
            if packet.shell is self:
                packet.replied = None
        return Shell(world, self.name, self.disk)

    def check(self) -> None:
        check_book(self.ledger)
        if self.disk is not None:
            assert self.disk.keys() == set(self.keys.values()), "L10: what is undelivered is recorded, and nothing else"
            over = [lease for lease in self.keys if lease.state not in (State.UNDELIVERED, State.KEPT)]
            assert not over, "L10: what was accepted is forgotten"
        leases = self.ledger.leases()
        undelivered = {lease for lease in leases if lease.state is State.UNDELIVERED}
        assert undelivered <= self.jobs.keys() | set(self.restored), "whatever is decided is on its way"
        started = [lease for lease in leases if lease.started is not None and not lease.is_running]
        results = sum(1 for lease in started if not isinstance(lease.outcome, GivenBack))
        for name, pool in self.ledger.slots.pools.items():
            self.most[name] = max(self.most[name], pool.offer.concurrency)
        most = sum(self.most.values())  # a lower limit stops no handler that runs (L5)
        assert results < self.world.limits.undelivered + most, "L9: undelivered results are bounded"
