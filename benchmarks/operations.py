"""Fixed work for `benchmarks.counts`. `python -m benchmarks.operations NAME OPERATIONS PREPARED`.

Prepares the material of PREPARED operations and does the first OPERATIONS of them, so that two runs that prepare as
much differ by operations alone. Nothing here looks at a clock; what varies comes from a seed. Each kind imports only
what it needs: under valgrind an import takes seconds.
"""

from __future__ import annotations

import gc
import random
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import msgspec

__all__ = ["OPERATIONS"]

CAPABILITY = "bench/page"
VARIETY = 64
"""Different texts, over and over."""

WORDS = ("lorem", "ipsum", "dolor", "sit", "amet", "consetetur", "sadipscing", "elitr")

INPUT_SCHEMA = {
    "type": "object",
    "required": ["url", "body"],
    "properties": {"url": {"type": "string"}, "body": {"type": "string"}},
}
OUTPUT_SCHEMA = {
    "type": "object",
    "required": ["status", "body"],
    "properties": {"status": {"type": "integer"}, "body": {"type": "string"}},
}


def _bodies() -> list[str]:
    """Return texts of some 900 bytes."""
    chance = random.Random(0)
    return [" ".join(chance.choices(WORDS, k=150)) for _ in range(VARIETY)]


def _lease(number: int, body: str) -> bytes:
    task = {"taskId": f"task-{number}", "workflowId": "workflow-1", "capability": CAPABILITY, "attempt": 0}
    lease = {
        "leaseId": f"lease-{number}",
        "expiresAt": "2026-01-01T00:01:00Z",
        "task": {**task, "input": {"url": "https://example.com/", "body": body}},
        "inputSchema": INPUT_SCHEMA,
        "outputSchema": OUTPUT_SCHEMA,
    }
    return msgspec.json.encode({"type": "lease", "lease": lease, "sentAt": "2026-01-01T00:00:00Z"})


def _leases() -> list[bytes]:
    return [_lease(number, body) for number, body in enumerate(_bodies())]


def _push(_: int) -> Callable[[int], object]:
    from neuron_anyio.sse import EventDecoder  # noqa: PLC0415 - see the module's docstring

    decoder, events = EventDecoder(), [b"event: lease\ndata: %s\n\n" % document for document in _leases()]
    return lambda number: decoder.push(events[number % VARIETY])


def _decode(_: int) -> Callable[[int], object]:
    from neuron_anyio.codec import decode_server_frame  # noqa: PLC0415 - see the module's docstring

    documents = _leases()
    return lambda number: decode_server_frame(documents[number % VARIETY])


def _encode(_: int) -> Callable[[int], object]:
    from neuron_anyio.codec import encode_frame  # noqa: PLC0415 - see the module's docstring
    from neuron_anyio.frames import Ack  # noqa: PLC0415 - see the module's docstring

    at = datetime(2026, 1, 1, tzinfo=UTC)
    outputs = [msgspec.Raw(msgspec.json.encode({"status": 200, "body": body})) for body in _bodies()]
    acks = [Ack(lease_id=f"lease-{number}", output=output, completed_at=at) for number, output in enumerate(outputs)]
    return lambda number: encode_frame(acks[number % VARIETY])


def _ledger(count: int) -> Callable[[int], object]:
    from neuron_anyio.config import Limits  # noqa: PLC0415 - see the module's docstring
    from neuron_anyio.ledger import Arrival, Ledger  # noqa: PLC0415 - see the module's docstring
    from neuron_anyio.model import Completed, Delivery, Offer, Task  # noqa: PLC0415 - see the module's docstring

    # Few are remembered, so that each operation also forgets one, as in a neuron that runs for hours.
    ledger = Ledger([Offer(capability=CAPABILITY, concurrency=4)], limits=Limits(remembered_leases=100))
    ledger.slots.pools[CAPABILITY].grant(0, 4)
    inputs = [body.encode() for body in _bodies()]
    tasks = [
        Task(
            task_id=f"task-{number}",
            workflow_id="workflow-1",
            capability=CAPABILITY,
            attempt=0,
            input=inputs[number % VARIETY],
        )
        for number in range(count)
    ]
    deliveries = [Delivery(id=f"lease-{number}", task=task, time_left=60.0) for number, task in enumerate(tasks)]
    outcome = Completed((b"{}",))

    def live(number: int) -> None:
        now = number / 1000
        arrival, lease = ledger.arrive(0, deliveries[number], now)
        assert arrival is Arrival.ADMIT
        assert lease is not None
        ledger.enqueue(lease)
        (started,) = ledger.start_ready(now)
        ledger.finish(started, outcome, now)
        ledger.accepted(started, now)

    return live


def _validate(_: int) -> Callable[[int], object]:
    from neuron_anyio.schemas import wire_validator  # noqa: PLC0415 - see the module's docstring

    schema = msgspec.json.encode(INPUT_SCHEMA)
    values: list[dict[str, Any]] = [{"url": "https://example.com/", "body": body} for body in _bodies()]

    def check(number: int) -> None:
        assert wire_validator(schema).check(values[number % VARIETY]) is None

    return check


def _recall(_: int) -> Callable[[int], object]:
    return _reply(0, recalls=True)


def _reply(_: int, *, recalls: bool = False) -> Callable[[int], object]:
    from neuron_anyio._http1_wire import ReplyParser  # noqa: PLC0415 - see the module's docstring

    head = b"HTTP/1.1 200 OK\r\nDate: Thu, 01 Jan 2026 00:00:00 GMT\r\nContent-Type: application/json\r\n"
    wire = head + b"Content-Length: 2\r\n\r\n{}"

    def parse(_: int) -> None:
        reply = ReplyParser("http://127.0.0.1:8080", recalls=recalls)
        reply.feed(wire)
        assert reply.reusable
        reply.take_body()

    return parse


def _outcome(_: int) -> Callable[[int], object]:
    from neuron_anyio.capability import Capability, capability  # noqa: PLC0415 - see the module's docstring
    from neuron_anyio.lease import Lease, State  # noqa: PLC0415 - see the module's docstring
    from neuron_anyio.model import Completed, Delivery, Task  # noqa: PLC0415 - see the module's docstring
    from neuron_anyio.outcome import Returned, outcome_of  # noqa: PLC0415 - see the module's docstring

    def fetch(page: dict[str, Any]) -> dict[str, Any]:
        return page

    handler: Capability[..., Any] = capability(CAPABILITY)(fetch)
    task = Task(task_id="task-1", workflow_id="workflow-1", capability=CAPABILITY, attempt=0, input=b"{}")
    delivery = Delivery(id="lease-1", task=task, output_schema=msgspec.json.encode(OUTPUT_SCHEMA))
    lease = Lease(delivery, source=0, fingerprint=b"", now=0.0)
    lease.state = State.RUNNING
    endings = [Returned({"status": 200, "body": body}) for body in _bodies()]

    def decide(number: int) -> None:
        outcome = outcome_of(endings[number % VARIETY], lease, handler, verdict=None, output_bytes=1 << 20)
        assert isinstance(outcome, Completed)

    return decide


OPERATIONS: dict[str, Callable[[int], Callable[[int], object]]] = {
    "push a lease event": _push,
    "decode a lease": _decode,
    "encode an ack": _encode,
    "a lease's life in the ledger": _ledger,
    "validate an input": _validate,
    "parse a reply": _reply,
    "recall a reply": _recall,
    "decide an outcome": _outcome,
}
"""From a name to what prepares so many operations and returns the one that does each, by its number. All take 1 KB."""


def _main(name: str, operations: int, prepared: int) -> None:
    operate = OPERATIONS[name](prepared)
    gc.collect()
    gc.freeze()  # what was prepared is not looked through again and again
    for number in range(operations):
        operate(number)


if __name__ == "__main__":
    _main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
