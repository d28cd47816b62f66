"""The project's transports keep their contract, and the checks see where one does not."""

from __future__ import annotations

from functools import partial

import pytest

from neuron_anyio.testing.contract import Check
from neuron_anyio.testing.transport_contract import TRANSPORT_CHECKS, OpenPair, check_transport
from tests.contract.transport_pairs import http_pair, httpx_pair, ipc_pair, memory_pair

pytestmark = pytest.mark.anyio

PAIRS: dict[str, OpenPair] = {
    "http": http_pair,
    "httpx": httpx_pair,
    "ipc-lines": ipc_pair,
    "ipc-lengths": partial(ipc_pair, framing="lengths"),
    "memory": memory_pair,
}

LEFT_OUT = {
    "http": set(),
    "httpx": set(),
    "ipc-lines": {"comments"},
    "ipc-lengths": {"comments"},
    "memory": {"oversized", "comments", "refused", "unreachable"},
}


@pytest.mark.parametrize("pair", PAIRS)
@pytest.mark.parametrize("check", TRANSPORT_CHECKS, ids=str)
async def test_each_transport_keeps_each_sentence_of_the_contract(check: Check[OpenPair], pair: str) -> None:
    assert await check(PAIRS[pair]) is (check.name not in LEFT_OUT[pair])


async def test_the_whole_contract_at_once_says_what_it_left_out() -> None:
    assert set(await check_transport(memory_pair)) == LEFT_OUT["memory"]
