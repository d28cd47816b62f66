"""The project's brokers keep their contract."""

from __future__ import annotations

import functools

import pytest

from neuron_anyio.testing.broker_contract import BROKER_CHECKS, OpenSystem, check_broker
from neuron_anyio.testing.contract import Check
from tests.contract.broker_systems import gateway_in_memory, gateway_over_http, memory_system

pytestmark = pytest.mark.anyio

SYSTEMS: dict[str, OpenSystem] = {
    "http": gateway_over_http,
    "gateway": gateway_in_memory,
    "memory": memory_system,
    "fans-out": functools.partial(memory_system, fans_out=True),
}

BIGBRAIN_HAS_NONE = {"slots", "paused", "several", "give-back-delay"}
MEMORY_HAS_NONE = {"started", "renewed", "time-left", "not-now", "announce-not-now", "reconnected", "expelled"}

LEFT_OUT = {
    "http": BIGBRAIN_HAS_NONE,
    "gateway": BIGBRAIN_HAS_NONE,
    "memory": MEMORY_HAS_NONE | {"several"},
    "fans-out": MEMORY_HAS_NONE,
}


@pytest.mark.parametrize("system", SYSTEMS)
@pytest.mark.parametrize("check", BROKER_CHECKS, ids=str)
async def test_each_broker_keeps_each_sentence_of_the_contract(check: Check[OpenSystem], system: str) -> None:
    assert await check(SYSTEMS[system]) is (check.name not in LEFT_OUT[system])


async def test_the_whole_contract_at_once_says_what_it_left_out() -> None:
    assert set(await check_broker(SYSTEMS["fans-out"])) == LEFT_OUT["fans-out"]
