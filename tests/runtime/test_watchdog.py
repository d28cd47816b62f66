"""A handler that blocks the loop is named, with its stack, while it does (promise H2)."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from neuron_anyio import capability, events, open_neuron, watchdog
from neuron_anyio.testing.scripted_gateway import ScriptedGateway

pytestmark = pytest.mark.anyio


class Freeing(logging.Handler):
    """Frees the handler that blocks once its name has been called: proof that it was called before the loop turned."""

    def __init__(self) -> None:
        super().__init__()
        self.named = threading.Event()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if "has blocked the event loop" in record.getMessage():
            self.lines.append(record.getMessage())
            self.named.set()


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> Iterator[Freeing]:
    monkeypatch.setattr(watchdog, "BLOCKED_AFTER", 0.05)
    handler = Freeing()
    logger = logging.getLogger("neuron_anyio")
    logger.addHandler(handler)
    yield handler
    logger.removeHandler(handler)


async def test_H2_a_handler_that_blocks_the_loop_is_named_with_its_stack_while_it_does(log: Freeing) -> None:
    @capability("test/blocks")
    async def blocks(secret: str) -> bool:
        await anyio.lowlevel.checkpoint()
        return log.named.wait(5)

    gateway = ScriptedGateway()
    seen: list[events.Event] = []
    with anyio.fail_after(10):
        async with open_neuron(gateway.transport, neuron_id="neuron-1", capabilities=[blocks], on_event=seen.append):
            gateway.lease("l1", capability="test/blocks", value="hush")
            ack = await gateway.wait_result("l1")
    assert ack["output"] is True
    (line,) = log.lines
    assert "lease l1 (test/blocks)" in line
    assert "return log.named.wait(5)" in line
    assert "hush" not in line
    (blocked,) = [event for event in seen if isinstance(event, events.HandlerBlocked)]
    assert (blocked.lease_id, blocked.capability, blocked.reason) == ("l1", "test/blocks", None)
    assert blocked.seconds > 0.05


async def test_H2_handlers_that_wait_or_run_in_a_thread_are_not_named(log: Freeing) -> None:
    @capability("test/waits", concurrency=20)
    async def waits(_: Any) -> None:
        await anyio.sleep(0.15)

    @capability("test/thread")
    def thread(_: Any) -> None:
        time.sleep(0.15)

    gateway = ScriptedGateway()
    with anyio.fail_after(10):
        async with open_neuron(gateway.transport, neuron_id="neuron-1", capabilities=[waits, thread]):
            for number in range(20):
                gateway.lease(f"l{number}", capability="test/waits")
            gateway.lease("t", capability="test/thread")
            await gateway.wait_posted("ack", count=21)
    assert log.lines == []


async def test_H2_a_plain_function_in_the_loop_that_blocks_is_named_too(log: Freeing) -> None:
    @capability("test/blocks", runs="loop")
    def blocks(_: Any) -> bool:
        return log.named.wait(5)

    gateway = ScriptedGateway()
    with anyio.fail_after(10):
        async with open_neuron(gateway.transport, neuron_id="neuron-1", capabilities=[blocks]):
            gateway.lease("l1", capability="test/blocks")
            assert (await gateway.wait_result("l1"))["output"] is True


def test_H2_the_watcher_ends_when_no_handler_runs_any_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watchdog, "BLOCKED_AFTER", 0.01)
    monkeypatch.setattr(watchdog, "LINGER", 0.02)
    watcher = watchdog._Watcher()
    watcher.wake(watchdog.Watchdog(emit=lambda _: None, log=logging.getLogger()))
    (thread,) = [each for each in threading.enumerate() if each.name == "neuron watchdog" and each.is_alive()][-1:]
    thread.join(5)
    assert not thread.is_alive()
    assert not watcher.is_awake
