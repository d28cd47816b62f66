"""Who may speak for a lease: the principal whose neuron it went to, and nobody else (promise G4)."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest

from neuron_anyio import frames
from neuron_anyio.gateway import Principal, State
from neuron_anyio.gateway.problems import Problem
from tests.pure.test_gateway_ledger import START, Bench, ids, status

ANN, EVE = Principal("ann"), Principal("eve")


def ack(lease_id: str, output: bytes = b"1") -> frames.NeuronFrame:
    return frames.Ack(lease_id=lease_id, output=msgspec.Raw(output), completed_at=START)


def nack(lease_id: str) -> frames.NeuronFrame:
    return frames.Nack(lease_id=lease_id, kind="terminal", reason="so", failed_at=START)


def progress(lease_id: str) -> frames.NeuronFrame:
    return frames.Progress(lease_id=lease_id, percent=50.0, sent_at=START)


Word = Callable[[str], frames.NeuronFrame]
WORDS = pytest.mark.parametrize("word", [ack, nack, progress])


def refusal(bench: Bench, frame: frames.NeuronFrame, principal: Principal) -> Problem:
    turn = bench.post(frame, principal)
    assert turn.problem is not None
    assert (turn.changed, turn.sends, turn.closed) == ({}, [], [])
    return turn.problem


def a_lease(bench: Bench) -> tuple[str, str]:
    """Lease a task to Ann's neuron `n`; return the ids of task and lease."""
    bench.join("n", principal=ANN)
    task_id = bench.submit()
    return task_id, bench.leases("n")[-1].lease_id


@WORDS
def test_G4_another_principal_is_answered_as_if_there_were_no_such_lease(word: Word) -> None:
    bench = Bench()
    task_id, lease_id = a_lease(bench)
    bench.join("other", principal=EVE)
    unknown = refusal(bench, word("x" * len(lease_id)), EVE)
    found = refusal(bench, word(lease_id), EVE)
    assert (unknown.status, unknown.code) == (409, "lease-gone")
    assert found == msgspec.structs.replace(unknown, detail=unknown.detail.replace("x" * len(lease_id), lease_id))
    assert bench.task(task_id).state is State.LEASED
    assert status(bench.post(word(lease_id), ANN)) == 200


@WORDS
def test_G4_a_new_session_of_the_same_principal_speaks_for_the_older_leases(word: Word) -> None:
    bench = Bench()
    _, lease_id = a_lease(bench)
    bench.drop("n")
    refusal(bench, word(lease_id), EVE)
    bench.join("n", principal=ANN)
    refusal(bench, word(lease_id), EVE)
    assert status(bench.post(word(lease_id), ANN)) == 200


def test_G4_a_lease_that_ran_out_is_still_its_holders_though_another_took_the_neuron_id() -> None:
    bench = Bench(lease_ttl=30.0)
    task_id, lease_id = a_lease(bench)
    bench.drop("n")
    bench.pass_time(31)
    assert bench.open("n", EVE).problem is None, "it has neither a stream nor leases"
    refusal(bench, ack(lease_id), EVE)
    assert bench.task(task_id).state is State.PENDING
    assert status(bench.post(ack(lease_id), ANN)) == 200


def test_G4_a_repeated_result_is_recognised_for_its_sender_alone() -> None:
    bench = Bench()
    _, lease_id = a_lease(bench)
    assert status(bench.post(ack(lease_id), ANN)) == 200
    assert refusal(bench, ack(lease_id), EVE).code == "lease-gone"
    assert status(bench.post(ack(lease_id), ANN)) == 200


def test_G4_who_holds_a_lease_is_known_after_a_restart() -> None:
    before = Bench()
    task_id, lease_id = a_lease(before)
    after = Bench(store=before.store)
    after.ledger.restore(after.now)
    refusal(after, ack(lease_id), EVE)
    assert status(after.post(ack(lease_id), ANN)) == 200
    assert after.task(task_id).state is State.SUCCEEDED


def test_G4_a_refused_word_costs_the_holder_nothing() -> None:
    bench = Bench()
    _, lease_id = a_lease(bench)
    for word in (ack, nack, progress):
        refusal(bench, word(lease_id), EVE)
    second = bench.submit()
    assert status(bench.post(ack(lease_id), ANN)) == 200
    assert ids(bench.leases("n"))[-1] == second
