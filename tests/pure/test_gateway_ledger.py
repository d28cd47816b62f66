"""The gateway's decisions, without a socket or a clock: promises G1 to G4 row by row."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from neuron_anyio import frames
from neuron_anyio.backoff import Backoff
from neuron_anyio.gateway.book import Bounds
from neuron_anyio.gateway.ledger import GatewayLedger
from neuron_anyio.gateway.policy import GIVE_BACK_CODES
from neuron_anyio.gateway.principals import ANYBODY, Principal
from neuron_anyio.gateway.store import MemoryStore
from neuron_anyio.gateway.tasks import State, Submission, Task
from neuron_anyio.gateway.turn import Turn

START = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
ECHO = "core/echo"


class Bench:
    """A ledger, its time, and all frames that it ever sent, by session."""

    def __init__(self, **options: Any) -> None:
        self.now = 0.0
        self.sent: dict[str, list[frames.ServerFrame]] = {}
        self.closed: list[str] = []
        self.sessions: dict[str, str] = {}
        self.store = options.pop("store", None) or MemoryStore()
        numbers = itertools.count(1)
        self.ledger = GatewayLedger(
            new_id=lambda kind: f"{kind}-{next(numbers)}",
            wall=lambda: START + timedelta(seconds=self.now),
            store=self.store,
            **options,
        )

    def take(self, turn: Turn) -> Turn:
        for send in turn.sends:
            self.sent.setdefault(send.session_id, []).append(send.frame)
        self.closed += turn.closed
        return turn

    def open(self, neuron_id: str, principal: Principal = ANYBODY) -> Turn:
        turn = self.take(self.ledger.open_session(neuron_id, principal, self.now))
        if turn.problem is None:
            self.sessions[neuron_id] = turn.session_id
        return turn

    def post(self, frame: frames.NeuronFrame, principal: Principal = ANYBODY) -> Turn:
        return self.take(self.ledger.handle(frame, principal, self.now))

    def register(
        self, neuron_id: str, *offers: frames.CapabilityOffer, principal: Principal = ANYBODY, version: str = "1.0.0"
    ) -> Turn:
        offered = offers or (offer(),)
        return self.post(
            frames.Register(neuron_id=neuron_id, protocol_version=version, capabilities=offered), principal
        )

    def join(self, neuron_id: str, *offers: frames.CapabilityOffer, principal: Principal = ANYBODY) -> None:
        assert self.open(neuron_id, principal).problem is None
        assert self.register(neuron_id, *offers, principal=principal).problem is None

    def drop(self, neuron_id: str) -> None:
        self.ledger.close_session(self.sessions[neuron_id], self.now)

    def submit(self, capability: str = ECHO, *, key: str | None = None, user: str | None = None, **rest: Any) -> str:
        submission = Submission(
            capability=capability, input=msgspec.Raw(rest.pop("input", b"{}")), on_behalf_of=user, **rest
        )
        turn = self.take(self.ledger.submit(submission, ANYBODY, self.now, idempotency_key=key))
        assert turn.problem is None, turn.problem
        assert turn.task is not None
        return turn.task.task_id

    def cancel(self, task_id: str, reason: str = "not needed") -> Turn:
        return self.take(self.ledger.cancel(task_id, self.now, reason=reason))

    def ack(self, lease: frames.LeaseBody, output: bytes = b"1") -> Turn:
        return self.post(frames.Ack(lease_id=lease.lease_id, output=msgspec.Raw(output), completed_at=START))

    def nack(
        self, lease: frames.LeaseBody, kind: Any = "retryable", code: str | None = None, details: bytes | None = None
    ) -> Turn:
        raw = None if details is None else msgspec.Raw(details)
        return self.post(
            frames.Nack(lease_id=lease.lease_id, kind=kind, reason="so", code=code, details=raw, failed_at=START)
        )

    def heartbeat(self, neuron_id: str, *leases: frames.LeaseBody, principal: Principal = ANYBODY) -> Turn:
        held = tuple(
            frames.InFlight(lease_id=lease.lease_id, task_id=lease.task.task_id, started_at=START) for lease in leases
        )
        return self.post(frames.Heartbeat(neuron_id=neuron_id, in_flight=held, sent_at=START), principal)

    def pass_time(self, seconds: float) -> None:
        """Let time pass the way the shell does: by ticking whenever something is due."""
        end = self.now + seconds
        while (due := self.ledger.next_due()) is not None and due <= end:
            self.now = max(self.now, due)
            self.take(self.ledger.tick(self.now))
        self.now = end

    def leases(self, neuron_id: str) -> list[frames.LeaseBody]:
        """All leases that were sent on the neuron's present session."""
        frames_sent = self.sent.get(self.sessions[neuron_id], [])
        return [frame.lease for frame in frames_sent if isinstance(frame, frames.Lease)]

    def received(self, neuron_id: str, kind: type[Any]) -> list[Any]:
        return [frame for frame in self.sent.get(self.sessions[neuron_id], []) if isinstance(frame, kind)]

    def task(self, task_id: str) -> Task:
        task = self.store.get(task_id)
        assert task is not None
        return task


def offer(
    capability: str = ECHO, *, concurrency: int = 1, user: str | None = None, ttl: float | None = None
) -> frames.CapabilityOffer:
    return frames.CapabilityOffer(
        type=capability,
        scope="any" if user is None else frames.OnBehalfOf(user),
        concurrency=concurrency,
        lease_ttl_ms=None if ttl is None else int(ttl * 1000),
    )


def status(turn: Turn) -> int:
    return 200 if turn.problem is None else turn.problem.status


def ids(leases: Sequence[frames.LeaseBody]) -> list[str]:
    return [lease.task.task_id for lease in leases]


# ---- G1


def test_G1_an_ack_settles_the_task_with_its_output() -> None:
    bench = Bench()
    bench.join("n")
    task_id = bench.submit(input=b'{"a": 1}')
    (lease,) = bench.leases("n")
    assert (bytes(lease.task.input), lease.task.attempt, lease.task.capability) == (b'{"a": 1}', 0, ECHO)
    assert status(bench.ack(lease, b'{"b":2}')) == 200
    task = bench.task(task_id)
    assert (task.state, bytes(task.output or b""), task.attempts) == (State.SUCCEEDED, b'{"b":2}', 1)


def test_G1_a_retryable_nack_waits_for_the_back_off_and_fails_at_max_attempts() -> None:
    bench = Bench(retry=Backoff(initial=2.0, maximum=3.0))
    bench.join("n")
    task_id = bench.submit()
    for attempt, pause in ((0, 2.0), (1, 3.0)):
        lease = bench.leases("n")[attempt]
        assert lease.task.attempt == attempt
        bench.nack(lease, code="HANDLER_THREW")
        assert bench.task(task_id).state is State.PENDING
        bench.pass_time(pause - 0.01)
        assert len(bench.leases("n")) == attempt + 1, "before the back-off is over nothing goes out"
        bench.pass_time(0.02)
    bench.nack(bench.leases("n")[2], code="HANDLER_THREW")
    task = bench.task(task_id)
    assert (task.state, task.attempts) == (State.FAILED, 3)
    assert task.failure is not None
    assert (task.failure.kind, task.failure.code, task.failure.reason) == ("retryable", "HANDLER_THREW", "so")


def test_G1_a_task_may_name_its_own_number_of_attempts() -> None:
    bench = Bench()
    bench.join("n")
    task_id = bench.submit(max_attempts=1)
    bench.nack(bench.leases("n")[0])
    assert bench.task(task_id).state is State.FAILED


@pytest.mark.parametrize(
    ("details", "pause"),
    [
        (b'{"retryAfterMs": 7000}', 7.0),
        (b'{"retryAfterMs": 0, "other": [1]}', 0.0),
        (b'{"retryAfterMs": -5}', 2.0),
        (b'{"retryAfterMs": "soon"}', 2.0),
        (b"[7000]", 2.0),
        (b'{"retryAfterMs": 9e99}', 86_400.0),
    ],
)
def test_G1_retry_after_of_the_details_is_honoured_where_it_is_a_time(details: bytes, pause: float) -> None:
    bench = Bench(retry=Backoff(initial=2.0, maximum=2.0))
    bench.join("n")
    bench.submit()
    bench.nack(bench.leases("n")[0], code="HANDLER_RETRY", details=details)
    if pause:
        bench.pass_time(pause - 0.01)
        assert len(bench.leases("n")) == 1
        bench.pass_time(0.02)
    assert len(bench.leases("n")) == 2


@pytest.mark.parametrize("kind", ["terminal", "schema-mismatch"])
def test_G1_terminal_and_schema_mismatch_fail_at_once_with_code_and_details(kind: str) -> None:
    bench = Bench()
    bench.join("n")
    task_id = bench.submit()
    bench.nack(bench.leases("n")[0], kind, code="NO_SUCH_PAGE", details=b'{"at": [1,\n 2]}')
    task = bench.task(task_id)
    assert task.state is State.FAILED
    assert task.failure is not None
    assert (task.failure.kind, task.failure.code) == (kind, "NO_SUCH_PAGE")
    assert bytes(task.failure.details or b"") == b'{"at":[1,2]}', "details are kept as one line"


def test_G1_a_cancelled_nack_cancels_the_task_though_nobody_asked() -> None:
    bench = Bench()
    bench.join("n")
    task_id = bench.submit()
    bench.nack(bench.leases("n")[0], "cancelled", code="CANCELLED")
    assert bench.task(task_id).state is State.CANCELLED


@pytest.mark.parametrize("code", sorted(GIVE_BACK_CODES))
def test_G1_a_give_back_costs_no_attempt_and_goes_to_another_neuron_first(code: str) -> None:
    bench = Bench()
    bench.join("first")
    task_id = bench.submit(max_attempts=1)
    bench.join("second")
    bench.nack(bench.leases("first")[0], code=code)
    assert ids(bench.leases("second")) == [task_id]
    assert bench.leases("second")[0].task.attempt == 0
    task = bench.task(task_id)
    assert (task.state, task.attempts, task.give_backs, task.failure) == (State.LEASED, 0, 1, None)
    assert len(bench.leases("first")) == 1


def test_G1_give_back_codes_are_those_of_the_neuron_promises() -> None:
    of_l2 = {"UNKNOWN_CAPABILITY", "CAPABILITY_REVOKED", "NEURON_DRAINING", "NEURON_OVERLOADED"}
    of_g1 = {"LEASE_EXPIRED", "NEURON_SHUTDOWN", "MALFORMED_LEASE", "SCOPE_MISMATCH"}
    assert of_l2 | of_g1 == GIVE_BACK_CODES


def test_G1_a_lone_neuron_that_gives_back_gets_the_task_again_after_a_growing_rest() -> None:
    bench = Bench()
    bench.join("n")
    bench.submit()
    times = []
    for _ in range(8):
        times.append(bench.now)
        bench.nack(bench.leases("n")[-1], code="NEURON_OVERLOADED")
        count = len(bench.leases("n"))
        while len(bench.leases("n")) == count:
            due = bench.ledger.next_due()
            assert due is not None
            bench.pass_time(due - bench.now)
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert gaps == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0])


def test_G1_a_task_that_always_comes_back_does_not_hold_up_the_others() -> None:
    bench = Bench()
    bench.join("n")
    poison = bench.submit()
    good = [bench.submit() for _ in range(5)]
    done: list[str] = []
    for _ in range(40):
        for lease in bench.leases("n"):
            if bench.task(lease.task.task_id).lease_id != lease.lease_id:
                continue
            if lease.task.task_id == poison:
                bench.nack(lease, code="MALFORMED_LEASE")
            else:
                bench.ack(lease)
                done.append(lease.task.task_id)
        bench.pass_time(0.1)
    assert set(good) <= set(done)


@pytest.mark.parametrize("code", ["NEURON_DRAINING", "NEURON_SHUTDOWN"])
def test_G1_a_draining_neuron_gets_nothing_more_until_it_registers_anew(code: str) -> None:
    bench = Bench()
    bench.join("n", offer(concurrency=5), offer("core/other"))
    bench.submit()
    bench.nack(bench.leases("n")[0], code=code)
    bench.submit("core/other")
    bench.pass_time(100)
    assert len(bench.leases("n")) == 1
    bench.register("n", offer(concurrency=5), offer("core/other"))
    assert len(bench.leases("n")) == 3


# ---- G2


def test_G2_never_more_leases_out_than_granted_until_ack_nack_or_expiry() -> None:
    bench = Bench()
    bench.join("n", offer(concurrency=2, ttl=10.0), offer("core/other", concurrency=1))
    tasks = [bench.submit() for _ in range(6)]
    assert ids(bench.leases("n")) == tasks[:2]
    bench.submit("core/other")
    assert len(bench.leases("n")) == 3, "each capability has its own slots"
    bench.ack(bench.leases("n")[0])
    assert ids(bench.leases("n"))[3:] == [tasks[2]]
    bench.nack(bench.leases("n")[1], "terminal")
    assert ids(bench.leases("n"))[4:] == [tasks[3]]
    bench.pass_time(11.0)
    assert ids(bench.leases("n"))[5:] == [tasks[2], tasks[3]], "two ran out and went out again, in their old order"
    assert bench.task(tasks[4]).state is State.PENDING


def test_G2_update_capability_changes_the_bound_at_once_in_both_directions() -> None:
    bench = Bench()
    bench.join("n", offer(concurrency=1))
    for _ in range(6):
        bench.submit()
    bench.post(frames.UpdateCapability(neuron_id="n", capability=offer(concurrency=3)))
    assert len(bench.leases("n")) == 3
    assert bench.received("n", frames.Registered)[-1].capabilities == (offer(concurrency=3),)
    bench.post(frames.UpdateCapability(neuron_id="n", capability=offer(concurrency=1)))
    bench.ack(bench.leases("n")[0])
    bench.ack(bench.leases("n")[1])
    assert len(bench.leases("n")) == 3, "running ones count against the lower bound"
    bench.ack(bench.leases("n")[2])
    assert len(bench.leases("n")) == 4


def test_G2_an_update_of_what_was_not_registered_is_refused() -> None:
    bench = Bench()
    bench.open("n")
    assert status(bench.post(frames.UpdateCapability(neuron_id="n", capability=offer()))) == 409
    bench.register("n")
    assert status(bench.post(frames.UpdateCapability(neuron_id="n", capability=offer("core/other")))) == 409


def test_G2_tasks_of_one_capability_go_out_in_the_order_of_submission() -> None:
    bench = Bench()
    tasks = [bench.submit() for _ in range(5)]
    bench.join("n", offer(concurrency=5))
    assert ids(bench.leases("n")) == tasks


def test_G2_tasks_are_spread_over_neurons_by_their_free_slots() -> None:
    bench = Bench()
    bench.join("small", offer(concurrency=1))
    bench.join("large", offer(concurrency=3))
    for _ in range(4):
        bench.submit()
    assert (len(bench.leases("small")), len(bench.leases("large"))) == (1, 3)
    bench = Bench()
    for name in "abc":
        bench.join(name, offer(concurrency=10))
    for _ in range(9):
        bench.submit()
    assert [len(bench.leases(name)) for name in "abc"] == [3, 3, 3]


# ---- G3


def test_G3_a_task_on_behalf_of_a_user_goes_only_to_a_neuron_that_offers_it_for_that_user() -> None:
    bench = Bench()
    bench.join("any", offer(concurrency=9))
    bench.join("ann", offer(concurrency=9, user="ann"))
    bench.join("bob", offer(concurrency=9, user="bob"))
    for_ann, for_cid, rest = bench.submit(user="ann"), bench.submit(user="cid"), bench.submit()
    assert ids(bench.leases("ann")) == [for_ann]
    assert bench.leases("ann")[0].task.on_behalf_of == "ann"
    assert ids(bench.leases("any")) == [rest]
    assert bench.leases("bob") == []
    assert bench.task(for_cid).state is State.PENDING
    assert not bench.ledger.roster.is_offered((ECHO, "cid"))


# ---- G4


def test_G4_a_dropped_stream_keeps_its_leases_until_they_expire_then_they_are_redelivered() -> None:
    bench = Bench(lease_ttl=30.0)
    bench.join("gone")
    task_id = bench.submit()
    (first,) = bench.leases("gone")
    assert first.expires_at - START == timedelta(seconds=30)
    bench.join("other")
    bench.drop("gone")
    bench.pass_time(29.9)
    assert bench.leases("other") == []
    bench.pass_time(0.2)
    (second,) = bench.leases("other")
    assert second.task.task_id == task_id
    assert second.task.attempt == 1
    assert second.lease_id != first.lease_id


def test_G4_a_heartbeat_renews_all_listed_leases_with_one_statement_even_without_a_stream() -> None:
    class CountingStore(MemoryStore):
        renewals: list[tuple[list[str], datetime]]

        def renew(self, task_ids: Any, renewed_at: datetime) -> None:
            self.renewals.append((sorted(task_ids), renewed_at))

    store = CountingStore()
    store.renewals = []
    bench = Bench(store=store, lease_ttl=30.0)
    bench.join("n", offer(concurrency=3))
    tasks = [bench.submit() for _ in range(3)]
    leases = bench.leases("n")
    bench.drop("n")
    bench.pass_time(20)
    assert status(bench.heartbeat("n", *leases[:2])) == 200
    assert store.renewals == [(sorted(tasks[:2]), START + timedelta(seconds=20))]
    bench.pass_time(20)
    assert [bench.task(task_id).state for task_id in tasks] == [State.LEASED, State.LEASED, State.PENDING]
    bench.pass_time(20)
    assert [bench.task(task_id).state for task_id in tasks] == [State.PENDING] * 3


def test_G4_a_heartbeat_renews_nobody_elses_leases() -> None:
    bench = Bench(lease_ttl=30.0)
    bench.join("a")
    task_id = bench.submit()
    bench.join("b", offer("core/other"))
    bench.pass_time(20)
    assert status(bench.heartbeat("b", *bench.leases("a"))) == 200
    bench.pass_time(11)
    assert bench.task(task_id).expiries == 1


def test_G4_a_second_session_replaces_the_first_for_good_and_has_its_leases() -> None:
    bench = Bench(lease_ttl=30.0)
    bench.join("n", offer(concurrency=2))
    first_session = bench.sessions["n"]
    task_id = bench.submit()
    (lease,) = bench.leases("n")
    bench.join("n", offer(concurrency=2))
    (goodbye,) = [frame for frame in bench.sent[first_session] if isinstance(frame, frames.Disconnect)]
    assert (goodbye.reconnectable, goodbye.code) == (False, "REPLACED")
    assert bench.closed == [first_session]
    bench.ledger.close_session(first_session, bench.now)  # the shell sees the old stream end: nothing happens
    for _ in range(3):
        bench.submit()
    assert len(bench.leases("n")) == 1, "the lease of the first session takes one of two slots"
    bench.pass_time(20)
    bench.heartbeat("n", lease)
    bench.pass_time(20)
    assert status(bench.ack(lease)) == 200
    assert bench.task(task_id).state is State.SUCCEEDED


def test_G4_an_ack_that_comes_late_is_accepted_while_nobody_else_has_the_task() -> None:
    bench = Bench(lease_ttl=30.0)
    bench.join("n")
    task_id = bench.submit()
    (lease,) = bench.leases("n")
    bench.drop("n")
    bench.pass_time(31)
    assert bench.task(task_id).state is State.PENDING
    assert status(bench.ack(lease)) == 200
    task = bench.task(task_id)
    assert (task.state, task.attempts, task.expiries) == (State.SUCCEEDED, 1, 0)
    bench.join("other")
    assert bench.leases("other") == [], "no work is done twice"


def test_G4_a_late_nack_speaks_for_the_task_too() -> None:
    bench = Bench(lease_ttl=30.0, retry=Backoff(initial=5.0, maximum=5.0))
    bench.join("n")
    failed, again = bench.submit(), None
    (lease,) = bench.leases("n")
    bench.drop("n")
    bench.pass_time(31)
    bench.nack(lease, "terminal", code="NO")
    assert bench.task(failed).state is State.FAILED
    bench.join("n")
    again = bench.submit()
    (lease,) = bench.leases("n")
    bench.drop("n")
    bench.pass_time(31)
    bench.nack(lease)
    assert (bench.task(again).state, bench.task(again).attempts) == (State.PENDING, 1)
    bench.join("n")
    assert bench.leases("n") == [], "the back-off counts for it"
    bench.pass_time(5.1)
    assert ids(bench.leases("n")) == [again]


def test_G4_a_result_for_a_lease_that_was_given_to_another_is_refused() -> None:
    bench = Bench(lease_ttl=30.0)
    bench.join("slow")
    task_id = bench.submit()
    (old,) = bench.leases("slow")
    bench.drop("slow")
    bench.pass_time(31)
    bench.join("quick")
    assert status(bench.ack(old)) == 409
    assert status(bench.nack(old, "terminal")) == 409
    assert bench.task(task_id).state is State.LEASED
    assert status(bench.ack(bench.leases("quick")[0])) == 200


def test_G4_the_same_settlement_again_is_accepted_and_another_is_not() -> None:
    bench = Bench()
    bench.join("n")
    bench.submit()
    (lease,) = bench.leases("n")
    assert status(bench.ack(lease, b'"a"')) == 200
    assert status(bench.ack(lease, b'"a"')) == 200
    assert status(bench.ack(lease, b'"b"')) == 409
    assert status(bench.nack(lease)) == 409
    bench.submit()
    lease = bench.leases("n")[1]
    assert status(bench.nack(lease, code="X", details=b"1")) == 200
    assert status(bench.nack(lease, code="X", details=b"1")) == 200
    assert status(bench.nack(lease, code="X", details=b"2")) == 409
    assert status(bench.ack(lease)) == 409


def test_G4_results_and_progress_for_an_unknown_lease_are_refused() -> None:
    bench = Bench()
    bench.join("n")
    bench.submit()
    lease = msgspec.structs.replace(bench.leases("n")[0], lease_id="never-seen")
    assert status(bench.ack(lease)) == 409
    assert status(bench.nack(lease)) == 409
    assert status(bench.post(frames.Progress(lease_id="never-seen", sent_at=START))) == 409


def test_G4_leases_that_nobody_answers_for_fail_the_task_at_max_attempts() -> None:
    bench = Bench(lease_ttl=30.0)
    bench.join("n")
    task_id = bench.submit()
    bench.pass_time(100)
    task = bench.task(task_id)
    assert (task.state, task.expiries, task.results) == (State.FAILED, 3, 0)
    assert task.failure is not None
    assert (task.failure.kind, task.failure.code) == ("expired", "LEASE_EXPIRED")
    assert [lease.task.attempt for lease in bench.leases("n")] == [0, 1, 2]


def test_G4_a_heartbeat_of_a_stranger_asks_it_to_register() -> None:
    bench = Bench()
    assert status(bench.heartbeat("nobody")) == 404
    bench.open("new")
    assert status(bench.heartbeat("new")) == 404
    bench.register("new")
    bench.drop("new")
    assert status(bench.heartbeat("new")) == 200
    bench.pass_time(3601)
    assert status(bench.heartbeat("new")) == 404, "after an hour without stream and leases it is forgotten"


def test_G4_a_lease_lives_as_long_as_its_capability_asks() -> None:
    bench = Bench(lease_ttl=30.0)
    bench.join("n", offer(ttl=5.0))
    task_id = bench.submit()
    bench.pass_time(4.9)
    assert bench.task(task_id).expiries == 0
    bench.pass_time(0.2)
    assert bench.task(task_id).expiries == 1


# ---- registering


def test_registering_needs_an_open_stream() -> None:
    bench = Bench()
    turn = bench.register("n")
    assert turn.problem is not None
    assert turn.problem.status == 409
    assert "GET /neuron/events" in turn.problem.detail


@pytest.mark.parametrize(("version", "expected"), [("1", 200), ("1.7.3", 200), ("2.0.0", 400), ("one", 400)])
def test_only_the_first_major_version_is_spoken(version: str, expected: int) -> None:
    bench = Bench()
    bench.open("n")
    assert status(bench.register("n", version=version)) == expected


def test_a_foreign_namespace_is_refused_naming_the_types() -> None:
    bench = Bench()
    acme = Principal("acme-ci", namespaces=("org/acme",))
    bench.open("n", acme)
    turn = bench.register("n", offer("org/acme/x"), offer("org/acmes/y"), offer("core/z"), principal=acme)
    assert turn.problem is not None
    assert turn.problem.status == 403
    assert "org/acmes/y, core/z" in turn.problem.detail
    assert "org/acme/x" not in turn.problem.detail
    assert status(bench.register("n", offer("org/acme/x"), principal=acme)) == 200


def test_a_user_may_offer_and_submit_for_itself_alone() -> None:
    bench = Bench()
    ann = Principal("ann-laptop", user="ann")
    bench.open("n", ann)
    assert status(bench.register("n", offer(user="bob"), principal=ann)) == 403
    assert status(bench.register("n", offer(user="ann"), principal=ann)) == 200
    submission = Submission(capability=ECHO, input=msgspec.Raw(b"1"), on_behalf_of="bob")
    assert status(bench.ledger.submit(submission, ann, 0.0)) == 403


def test_another_principal_cannot_take_over_a_neuron_id_in_use() -> None:
    bench = Bench()
    one, two = Principal("one"), Principal("two")
    bench.join("n", principal=one)
    assert status(bench.open("n", two)) == 409
    assert status(bench.register("n", principal=two)) == 403
    assert status(bench.heartbeat("n", principal=two)) == 403
    bench.drop("n")
    assert status(bench.open("n", two)) == 200


def test_registering_again_on_the_same_stream_is_an_update_with_a_fresh_registered_frame() -> None:
    bench = Bench()
    bench.join("n", offer(concurrency=1))
    bench.register("n", offer(concurrency=2), offer("core/other"))
    frames_sent = bench.received("n", frames.Registered)
    assert [len(frame.capabilities) for frame in frames_sent] == [1, 2]
    assert {frame.session_id for frame in frames_sent} == {bench.sessions["n"]}
    assert bench.closed == []


def test_a_revoked_capability_is_withheld_until_it_is_allowed_again() -> None:
    bench = Bench()
    bench.join("n", offer(concurrency=9), offer("core/other"))
    bench.take(bench.ledger.revoke(ECHO, bench.now, reason="policy"))
    (frame,) = bench.received("n", frames.CapabilityRevoked)
    assert (frame.capability, frame.reason) == (ECHO, "policy")
    task_id = bench.submit()
    assert bench.task(task_id).state is State.PENDING
    bench.register("n", offer("core/other"))  # left out, as a neuron does
    assert bench.received("n", frames.Registered)[-1].capabilities == (offer("core/other"),)
    bench.join("m", offer())
    assert bench.received("m", frames.Registered)[-1].capabilities == ()
    bench.drop("m")
    bench.take(bench.ledger.allow(ECHO, bench.now))
    assert {each.type for each in bench.received("n", frames.Registered)[-1].capabilities} == {ECHO, "core/other"}
    assert ids(bench.leases("n")) == [task_id]


def test_an_operator_can_send_a_neuron_away() -> None:
    bench = Bench()
    bench.join("n")
    session = bench.sessions["n"]
    bench.take(bench.ledger.disconnect("n", bench.now, reason="maintenance"))
    assert bench.received("n", frames.Disconnect)[0].reconnectable is True
    assert bench.closed == [session]
    assert status(bench.ledger.disconnect("n", bench.now, reason="again")) == 404


# ---- callers


def test_a_pending_task_is_cancelled_at_once() -> None:
    bench = Bench()
    task_id = bench.submit()
    assert status(bench.cancel(task_id)) == 200
    assert bench.task(task_id).state is State.CANCELLED
    bench.join("n")
    assert bench.leases("n") == []
    assert status(bench.cancel(task_id)) == 200, "again is fine"
    assert status(bench.cancel("no-such")) == 404


def test_a_task_in_its_back_off_is_cancelled_at_once() -> None:
    bench = Bench()
    bench.join("n")
    task_id = bench.submit()
    bench.nack(bench.leases("n")[0])
    bench.cancel(task_id)
    bench.pass_time(100)
    assert bench.task(task_id).state is State.CANCELLED
    assert len(bench.leases("n")) == 1


@pytest.mark.parametrize("answer", ["cancelled", "retryable"])
def test_a_leased_task_is_cancelled_when_its_holder_says_so(answer: str) -> None:
    bench = Bench()
    bench.join("n")
    task_id = bench.submit()
    (lease,) = bench.leases("n")
    bench.cancel(task_id, "changed my mind")
    bench.cancel(task_id, "again")
    (frame,) = bench.received("n", frames.Cancel)
    assert (frame.lease_id, frame.reason) == (lease.lease_id, "changed my mind")
    assert bench.task(task_id).state is State.LEASED
    bench.nack(lease, answer)
    assert bench.task(task_id).state is State.CANCELLED


def test_L4_5_an_ack_that_crosses_a_cancel_wins() -> None:
    bench = Bench()
    bench.join("n")
    task_id = bench.submit()
    bench.cancel(task_id)
    bench.ack(bench.leases("n")[0])
    assert bench.task(task_id).state is State.SUCCEEDED
    assert status(bench.cancel(task_id)) == 409


def test_a_cancelled_lease_that_runs_out_is_cancelled() -> None:
    bench = Bench(lease_ttl=30.0)
    bench.join("n")
    task_id = bench.submit()
    bench.cancel(task_id)
    bench.pass_time(31)
    assert bench.task(task_id).state is State.CANCELLED


def test_a_holder_without_a_stream_hears_of_the_cancel_when_it_registers() -> None:
    bench = Bench()
    bench.join("n")
    task_id = bench.submit()
    (lease,) = bench.leases("n")
    bench.drop("n")
    bench.cancel(task_id)
    bench.join("n")
    assert [frame.lease_id for frame in bench.received("n", frames.Cancel)] == [lease.lease_id]


def test_an_idempotency_key_finds_its_task_and_refuses_another() -> None:
    bench = Bench()
    first = bench.submit(key="k", input=b'{"a":1,"b":2}')
    assert bench.submit(key="k", input=b'{"b": 2, "a": 1}') == first
    assert bench.submit(key="other", input=b'{"a":1,"b":2}') != first
    clash = Submission(capability=ECHO, input=msgspec.Raw(b"0"))
    assert status(bench.ledger.submit(clash, ANYBODY, 0.0, idempotency_key="k")) == 422
    turn = bench.ledger.submit(clash, Principal("somebody else"), 0.0, idempotency_key="k")
    assert turn.created, "keys belong to their principal"


def test_progress_merges_and_stays_with_the_task() -> None:
    bench = Bench()
    bench.join("n")
    task_id = bench.submit()
    (lease,) = bench.leases("n")
    bench.post(frames.Progress(lease_id=lease.lease_id, percent=10.0, message="begun", sent_at=START))
    turn = bench.post(frames.Progress(lease_id=lease.lease_id, percent=20.0, data=msgspec.Raw(b"[1]"), sent_at=START))
    assert list(turn.changed) == [task_id]
    bench.ack(lease)
    progress = bench.task(task_id).progress
    assert progress is not None
    assert (progress.percent, progress.message, bytes(progress.data or b"")) == (20.0, "begun", b"[1]")


def test_settled_tasks_are_forgotten_by_number_and_by_age() -> None:
    bench = Bench(bounds=Bounds(settled_tasks=2, settled_age=100.0))
    bench.join("n", offer(concurrency=9))
    tasks = [bench.submit() for _ in range(4)]
    for lease in bench.leases("n")[:3]:
        bench.ack(lease)
    assert [bench.store.get(task_id) is None for task_id in tasks] == [True, False, False, False]
    bench.heartbeat("n", bench.leases("n")[3])
    bench.pass_time(59)
    bench.heartbeat("n", bench.leases("n")[3])
    bench.pass_time(42)
    assert [bench.store.get(task_id) is None for task_id in tasks] == [True, True, True, False]
    assert bench.ledger.book.counts == {State.PENDING: 0, State.LEASED: 1, State.SUCCEEDED: 0}


def test_too_many_open_tasks_are_refused_until_some_settle() -> None:
    bench = Bench(bounds=Bounds(open_tasks=2))
    bench.join("n")
    bench.submit()
    bench.submit()
    third = Submission(capability=ECHO, input=msgspec.Raw(b"3"))
    assert status(bench.ledger.submit(third, ANYBODY, 0.0)) == 429
    bench.ack(bench.leases("n")[0])
    assert status(bench.ledger.submit(third, ANYBODY, 0.0)) == 200


def test_a_gateway_that_starts_with_a_store_takes_up_where_the_last_one_stopped() -> None:
    before = Bench(lease_ttl=30.0)
    before.join("n", offer(concurrency=2))
    done, held, waiting = before.submit(), before.submit(), before.submit()
    before.ack(before.leases("n")[0])
    lease = before.leases("n")[1]
    assert before.task(waiting).state is State.LEASED
    newest = before.submit()

    after = Bench(store=before.store, lease_ttl=30.0)
    after.now = 10.0
    after.ledger.restore(after.now)
    assert after.ledger.book.counts == {State.SUCCEEDED: 1, State.LEASED: 2, State.PENDING: 1}
    assert status(after.heartbeat("n")) == 200
    assert status(after.ack(lease)) == 200
    assert after.task(held).state is State.SUCCEEDED
    after.pass_time(21)
    assert after.task(waiting).state is State.PENDING
    after.join("other", offer(concurrency=9))
    assert set(ids(after.leases("other"))) == {waiting, newest}
    assert after.task(done).state is State.SUCCEEDED


def test_reprs_show_no_input_and_no_output() -> None:
    bench = Bench()
    bench.join("n")
    task_id = bench.submit(input=b'"secret"', metadata={"token": "secret"})
    bench.ack(bench.leases("n")[0], b'"secret"')
    assert "secret" not in repr(bench.task(task_id))
    assert "secret" not in repr(Submission(capability=ECHO, input=msgspec.Raw(b'"secret"'), metadata={"a": "secret"}))
