"""Who may start next: limits, grants, order (promises L5, C11, C12)."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuron_anyio.lease import Lease, Step
from neuron_anyio.slots import Pool, Slots
from tests.pure.books import delivery, ids, offer

A, B = "core/a", "core/b"


class Line:
    """Slots and the leases that wait for them."""

    def __init__(self, slots: Slots) -> None:
        self.slots = slots
        self.numbers = itertools.count(1)

    def queue(self, capability: str = A, *, source: int = 0, size: int = 2) -> Lease:
        number = next(self.numbers)
        lease = Lease(
            delivery(str(number), capability=capability, text=b"x" * size),
            source=source,
            fingerprint=b"",
            now=0.0,
            sequence=number,
        )
        lease.apply(Step.ENQUEUE)
        self.slots.enqueue(lease)
        return lease

    def start(self) -> list[Lease]:
        started: list[Lease] = []
        while (lease := self.slots.next()) is not None:
            self.slots.take(lease)
            lease.apply(Step.START)
            started.append(lease)
        return started

    def end(self, lease: Lease) -> None:
        self.slots.release(lease)
        lease.apply(Step.FINISH)

    def drop(self, lease: Lease) -> None:
        self.slots.leave_queue(lease)
        lease.apply(Step.FINISH)


def line(*offers: tuple[str, int], maximum: int | None = None) -> Line:
    return Line(Slots([offer(name, concurrency=count) for name, count in offers], maximum=maximum))


def test_L5_no_more_start_than_the_capability_allows() -> None:
    slots = line((A, 2))
    waiting = [slots.queue() for _ in range(3)]
    assert slots.start() == waiting[:2]
    slots.end(waiting[0])
    assert slots.start() == waiting[2:]


def test_L5_no_more_start_than_the_whole_neuron_allows() -> None:
    slots = line((A, 5), (B, 5), maximum=3)
    waiting = [slots.queue(name) for name in (A, B, A, B)]
    assert slots.start() == waiting[:3]
    slots.end(waiting[1])
    assert slots.start() == waiting[3:]


def test_L5_first_come_first_served_also_between_capabilities() -> None:
    slots = line((A, 1), (B, 1), maximum=1)
    waiting = [slots.queue(name) for name in (B, A, B)]
    order = []
    for _ in waiting:
        (lease,) = slots.start()
        order.append(lease)
        slots.end(lease)
    assert order == waiting


def test_L5_a_full_capability_does_not_hold_up_another() -> None:
    slots = line((A, 1), (B, 1))
    first, second, third = slots.queue(A), slots.queue(A), slots.queue(B)
    assert slots.start() == [first, third]
    assert slots.slots.pools[A].waiting() == [second]


def test_L5_what_has_left_the_queue_is_passed_over() -> None:
    slots = line((A, 1))
    first, second, third = slots.queue(), slots.queue(), slots.queue()
    slots.drop(first)
    slots.drop(second)
    assert slots.start() == [third]
    assert (slots.slots.queued, slots.slots.queued_bytes) == (0, 0)


def test_L5_a_larger_limit_holds_for_the_next_start() -> None:
    slots = line((A, 1))
    waiting = [slots.queue() for _ in range(3)]
    assert slots.start() == waiting[:1]
    slots.slots.pools[A].resize(offer(A, concurrency=3))
    assert slots.start() == waiting[1:]


def test_L5_a_smaller_limit_stops_nobody_and_holds_for_the_next_start() -> None:
    slots = line((A, 3))
    waiting = [slots.queue() for _ in range(4)]
    running = slots.start()
    slots.slots.pools[A].resize(offer(A, concurrency=1))
    assert slots.slots.pools[A].free == 0
    slots.end(running[0])
    slots.end(running[1])
    assert slots.start() == []
    slots.end(running[2])
    assert slots.start() == waiting[3:]


def test_nothing_starts_while_paused() -> None:
    slots = line((A, 1))
    waiting = slots.queue()
    slots.slots.paused = True
    assert slots.start() == []
    assert slots.slots.free() == {A: 0}
    slots.slots.paused = False
    assert slots.start() == [waiting]


def test_C11_the_limit_is_the_smaller_of_wish_and_grant() -> None:
    pool = Pool(offer(A, concurrency=4))
    assert pool.limit == 4, "until a broker speaks, the wish holds"
    pool.grant(0, 2)
    assert pool.limit == 2
    pool.grant(0, 9)
    assert pool.limit == 4
    pool.grant(0, None)
    assert pool.limit == 4, "None grants whatever is wished"


def test_C11_with_several_brokers_the_most_generous_grant_counts() -> None:
    pool = Pool(offer(A, concurrency=4))
    pool.grant(0, 1)
    pool.grant(1, 3)
    assert pool.limit == 3


def test_C12_what_one_broker_takes_back_does_not_starve_another_that_has_not_spoken() -> None:
    pool = Pool(offer(A, concurrency=4))
    pool.grant(0, 0)
    assert not pool.is_granted(0)
    assert pool.is_granted(1)
    assert pool.limit == 4


@pytest.mark.parametrize(
    ("granted", "wish", "limit"),
    [(None, 5, 5), (9, 5, 5), (9, 12, 9), (None, 1, 1), (1, 5, 1)],
    ids=["all that was asked", "more than it", "less than is wished now", "less is wished now", "less than was asked"],
)
def test_L5_a_new_wish_holds_at_once_up_to_what_the_broker_granted(granted: int | None, wish: int, limit: int) -> None:
    pool = Pool(offer(A, concurrency=2))
    pool.grant(0, granted)
    pool.resize(offer(A, concurrency=wish))
    assert pool.limit == limit


def test_C11_a_wish_that_was_lower_for_a_while_does_not_lift_a_cap() -> None:
    pool = Pool(offer(A, concurrency=4))
    pool.grant(0, 2)
    pool.resize(offer(A, concurrency=1))
    assert pool.limit == 1
    pool.resize(offer(A, concurrency=4))
    assert pool.limit == 2


def test_a_new_wish_does_not_undo_a_revocation() -> None:
    pool = Pool(offer(A, concurrency=2))
    pool.grant(0, 0)
    pool.resize(offer(A, concurrency=5))
    assert not pool.is_granted(0)


def test_free_slots_are_what_could_start_now() -> None:
    slots = line((A, 3), (B, 2), maximum=4)
    assert slots.slots.free() == {A: 3, B: 2}
    for _ in range(3):
        slots.queue(A)
    slots.start()
    assert slots.slots.free() == {A: 0, B: 1}
    slots.queue(B)
    assert slots.slots.free() == {A: 0, B: 1}, "who waits will take the other"


def test_free_slots_are_less_those_that_wait() -> None:
    slots = line((A, 3))
    slots.queue()
    slots.queue()
    assert slots.slots.free() == {A: 1}
    slots.queue()
    slots.queue()
    assert slots.slots.free() == {A: 0}


def test_a_queue_whose_leases_leave_from_the_middle_does_not_grow() -> None:
    slots = line((A, 1))
    slots.queue()
    slots.start()
    first = slots.queue()
    for _ in range(1_000):
        slots.drop(slots.queue())
    pool = slots.slots.pools[A]
    assert pool.waiting() == [first]
    assert len(pool._queue or ()) < 100


MOST = 5

STEPS = st.lists(
    st.tuples(st.sampled_from(["queue", "drop", "end", "resize", "grant", "start", "maximum"]), st.integers(0, MOST)),
    max_size=60,
)


@given(STEPS, st.integers(1, 4) | st.none())
def test_L5_limits_and_order_hold_under_any_steps(steps: list[tuple[str, int]], maximum: int | None) -> None:
    slots = line((A, 2), (B, 1), maximum=maximum)
    waiting: list[Lease] = []
    running: list[Lease] = []
    for what, number in steps:
        name = (A, B)[number % 2]
        pool = slots.slots.pools[name]
        if what == "queue":
            waiting.append(slots.queue(name))
        elif what == "drop" and waiting:
            slots.drop(waiting.pop(number % len(waiting)))
        elif what == "end" and running:
            slots.end(running.pop(number % len(running)))
        elif what == "resize":
            pool.resize(offer(name, concurrency=number + 1))
        elif what == "grant":
            pool.grant(0, None if number == MOST else number)
        elif what == "start":
            started = slots.start()
            for lease in started:
                own = [one for one in waiting if one.delivery.task.capability == lease.delivery.task.capability]
                assert lease is own[0], "first come, first served"
                waiting.remove(lease)
                running.append(lease)
            counts = {key: sum(one.delivery.task.capability == key for one in running) for key in (A, B)}
            assert maximum is None or not started or len(running) <= maximum
            grown = {lease.delivery.task.capability for lease in started}
            assert all(counts[key] <= slots.slots.pools[key].limit for key in grown)
            room = maximum is None or len(running) < maximum
            for key in (A, B):
                idle = room and counts[key] < slots.slots.pools[key].limit
                assert not (idle and slots.slots.pools[key].waiting()), "nobody waits before a free slot"
        assert sorted(ids(waiting)) == sorted(ids([w for p in slots.slots.pools.values() for w in p.waiting()]))
        assert slots.slots.queued_bytes == 2 * len(waiting)
