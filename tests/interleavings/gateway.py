"""A gateway that takes its time over everything, and notes what it read and what it took."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import anyio

from neuron_anyio import BigBrainBroker, MemoryTransport
from neuron_anyio.abc import EventStream, Intake, Oversized, Reply
from neuron_anyio.engine import Engine
from neuron_anyio.taskgroups import body_task_group
from neuron_anyio.testing.scripted_gateway import stamp

__all__ = ["Broker", "Gateway"]

ROAD = 0.01
"""Seconds that anything takes on its way."""

SLOW = {"progress": 0.04}
FIRST_ANSWERS = {"register": [503], "ack": [503, 200, 503], "nack": [200, 503], "update-capability": [503]}
FORGOTTEN_BEAT = 3
"""The heartbeat that is answered with a 404: the gateway has forgotten the neuron."""


class Gateway(MemoryTransport):
    """Over the in-memory transport, with roads that take time.

    Attributes:
        sent: lease ids that were sent, in order.
        read: lease ids of frames that the neuron has read.
        replaced: lease ids whose task was delivered again, by the newer id.
        taken: the result that was accepted, by lease id.
        on_read: called with each frame that the neuron has read, just before it looks at it.
        silent: nothing is answered any more.
    """

    def __init__(self) -> None:
        super().__init__(self._answer, origin="memory:slow")
        self.sent: list[str] = []
        self.read: set[str] = set()
        self.replaced: dict[str, str] = {}
        self.taken: dict[str, dict[str, Any]] = {}
        self.on_read: Callable[[dict[str, Any]], None] = lambda _: None
        self.silent = False
        self._told: set[str] = set()
        self._answers = {path: list(answers) for path, answers in FIRST_ANSWERS.items()}
        self._posts: Counter[str] = Counter()
        self._waiting: list[dict[str, Any]] = []
        self._again = 6

    # ---- what it says

    def send(self, **frame: Any) -> None:
        """Send a frame, when there is a stream."""
        self._waiting.append(frame)
        self._push_waiting()

    def _push_waiting(self) -> None:
        while self._waiting and self._stream is not None:
            self.push(json.dumps(self._waiting.pop(0)).encode())

    def lease(self, lease_id: str, kind: str, *, task_id: str | None = None, ttl: float = 60.0) -> None:
        self.sent.append(lease_id)
        names = {"taskId": task_id or lease_id, "workflowId": "w", "capability": kind, "attempt": 0}
        lease = {"leaseId": lease_id, "expiresAt": stamp(ttl), "task": {**names, "input": lease_id}}
        self.send(type="lease", lease=lease, sentAt=stamp())

    def lease_again(self, lease_id: str, earlier: str, kind: str) -> None:
        """Deliver a task again, with the same input."""
        self.sent.append(lease_id)
        self.replaced[earlier] = lease_id
        names = {"taskId": earlier, "workflowId": "w", "capability": kind, "attempt": 1}
        lease = {"leaseId": lease_id, "expiresAt": stamp(60.0), "task": {**names, "input": earlier}}
        self.send(type="lease", lease=lease, sentAt=stamp())

    def cancel(self, lease_id: str) -> None:
        self.send(type="cancel", leaseId=lease_id, reason="called off", cancelledAt=stamp())

    def revoke(self, kind: str) -> None:
        self.send(type="capability-revoked", capability=kind, reason="no more", revokedAt=stamp())

    def disconnect(self) -> None:
        self.send(type="disconnect", reason="go away", reconnectable=False, sentAt=stamp())

    # ---- the roads

    @asynccontextmanager
    async def open(self) -> AsyncGenerator[None]:
        await anyio.sleep(ROAD)
        async with super().open():
            yield
        await anyio.sleep(ROAD)

    @asynccontextmanager
    async def subscribe(self, neuron_id: str) -> AsyncGenerator[EventStream]:  # type: ignore[override]  # notes what it reads
        await anyio.sleep(ROAD)
        async with super().subscribe(neuron_id) as stream:
            self._push_waiting()
            yield _Noting(stream, self)
            await anyio.sleep(ROAD)

    async def _answer(self, path: str, body: bytes) -> Reply:
        frame = json.loads(body)
        lease_id = frame.get("leaseId")
        if path in ("ack", "nack"):
            assert lease_id not in self._told, "whose result was accepted and who was told so sends no other"
        await anyio.sleep(ROAD + SLOW.get(path, 0.0))
        if self.silent:
            await anyio.sleep_forever()
        self._posts[path] += 1
        status = self._answers[path].pop(0) if self._answers.get(path) else 200
        if path == "heartbeat" and self._posts[path] == FORGOTTEN_BEAT:
            status = 404
        if status == 200:
            status = self._take(path, frame)
        await anyio.sleep(ROAD)
        if status == 200 and path in ("ack", "nack"):
            self._told.add(lease_id)
        return Reply(status=status)

    def _take(self, path: str, frame: dict[str, Any]) -> int:
        if path == "register":
            self.send(type="registered", sessionId="s", capabilities=frame["capabilities"], acceptedAt=stamp())
        elif path in ("ack", "nack"):
            lease_id = frame["leaseId"]
            if lease_id in self.taken:
                assert self.taken[lease_id] == frame, "one result of a lease"
                return 409
            self.taken[lease_id] = frame
            if frame.get("code") == "NEURON_DRAINING" and self._again:
                self._again -= 1  # an eager one that has not understood
                self.lease(f"{lease_id}+{self._again}", "core/work")
        return 200


class _Noting:
    """A stream that notes what was read from it."""

    def __init__(self, stream: EventStream, gateway: Gateway) -> None:
        self._stream = stream
        self._gateway = gateway

    @property
    def comments(self) -> int:
        return self._stream.comments

    async def receive(self) -> Sequence[bytes | str | Oversized]:
        documents = await self._stream.receive()
        for document in documents:
            assert isinstance(document, bytes)
            frame = json.loads(document)
            self._gateway.on_read(frame)
            if frame["type"] == "lease":
                self._gateway.read.add(frame["lease"]["leaseId"])
        return documents


class Broker(BigBrainBroker):
    """A broker that waits for slots as a pull system does, and by which the engine can be seen.

    Attributes:
        engine: None before it was opened.
    """

    engine: Engine | None = None

    @asynccontextmanager
    async def open(self, intake: Intake) -> AsyncGenerator[None]:
        self.engine = intake._desk  # type: ignore[attr-defined]  # a `Source`
        async with AsyncExitStack() as stack:
            tasks = await stack.enter_async_context(body_task_group())
            stack.callback(tasks.cancel_scope.cancel)
            tasks.start_soon(self._look_for_slots, intake)
            await stack.enter_async_context(super().open(intake))
            yield

    async def _look_for_slots(self, intake: Intake) -> None:
        while True:
            assert all(free >= 0 for free in intake.free_slots().values())
            await intake.slots_changed()
