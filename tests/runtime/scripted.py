"""A gateway whose every word is written by the test, over the in-memory transport."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import anyio

from neuron_anyio import MemoryTransport
from neuron_anyio.abc import Reply

__all__ = ["Scripted", "settle"]

Answer = Callable[[dict[str, Any]], Awaitable[Reply] | Reply]


class Scripted:
    """Records what is posted and answers 200, or what the test has laid down.

    Attributes:
        posts: every frame that was posted, decoded, in order.
        answers: replies by frame type, used up one by one; then `always`, else 200.
        always: what is answered to a frame type from now on.
        on_post: called after the answer to a frame is decided.
    """

    def __init__(self, *, register: bool = True) -> None:
        self.transport = MemoryTransport(self._on_post, origin="memory:test")
        self.posts: list[dict[str, Any]] = []
        self.answers: dict[str, list[Reply | Exception]] = {}
        self.always: dict[str, Reply | Exception] = {}
        self.on_post: Callable[[str, dict[str, Any]], None] = lambda path, frame: None
        self._register = register
        self._held: dict[str, anyio.Event] = {}
        self._changed = anyio.Event()
        self._numbers = 0

    async def _on_post(self, path: str, body: bytes) -> Reply:
        frame = json.loads(body)
        assert frame["type"] == path
        self.posts.append(frame)
        self._changed.set()
        self._changed = anyio.Event()
        if path in self._held:
            await self._held[path].wait()
        answer = self.answers[path].pop(0) if self.answers.get(path) else self.always.get(path, Reply(status=200))
        if isinstance(answer, Exception):
            raise answer
        if path == "register" and answer.status == 200 and self._register:
            self.registered(frame["capabilities"])
        self.on_post(path, frame)
        return answer

    # What the gateway says

    def send(self, **frame: Any) -> None:
        self.transport.push(json.dumps(frame).encode())

    def registered(self, capabilities: list[dict[str, Any]]) -> None:
        self.send(type="registered", sessionId="session-1", capabilities=capabilities, acceptedAt=stamp())

    def lease(
        self,
        lease_id: str,
        *,
        capability: str = "test/echo",
        value: Any = None,
        task_id: str | None = None,
        ttl: float = 60.0,
        **more: Any,
    ) -> None:
        schemas: dict[str, Any] = {name: more.pop(name) for name in ("inputSchema", "outputSchema") if name in more}
        task: dict[str, Any] = {
            "taskId": task_id or f"task-{lease_id}",
            "workflowId": "workflow",
            "capability": capability,
            "input": value,
            "attempt": 0,
            **more,
        }
        lease = {"leaseId": lease_id, "expiresAt": stamp(ttl), "task": task, **schemas}
        self.send(type="lease", lease=lease, sentAt=stamp())

    def cancel(self, lease_id: str) -> None:
        self.send(type="cancel", leaseId=lease_id, reason="the caller called it off", cancelledAt=stamp())

    # What the neuron said

    def of(self, *types: str, lease_id: str | None = None) -> list[dict[str, Any]]:
        return [
            post
            for post in self.posts
            if post["type"] in types and (lease_id is None or post.get("leaseId") == lease_id)
        ]

    async def wait(self, *types: str, lease_id: str | None = None, count: int = 1) -> list[dict[str, Any]]:
        """Wait until so many frames of these types (about this lease) have been posted."""
        with anyio.fail_after(10):
            while len(found := self.of(*types, lease_id=lease_id)) < count:
                await self._changed.wait()
        return found

    async def result(self, lease_id: str) -> dict[str, Any]:
        """Wait for the ack or nack of a lease."""
        return (await self.wait("ack", "nack", lease_id=lease_id))[0]

    # Holding replies back

    def hold(self, path: str) -> None:
        self._held[path] = anyio.Event()

    def release(self, path: str) -> None:
        self._held.pop(path).set()


_START = datetime(2026, 5, 9, 10, 0, tzinfo=UTC)


def stamp(seconds: float = 0.0) -> str:
    """Return a wire timestamp; the wall clock takes no part, only differences count."""
    return (_START + timedelta(seconds=seconds)).isoformat().replace("+00:00", "Z")


async def settle(times: int = 20) -> None:
    """Let every task run until it waits for something."""
    for _ in range(times):
        await anyio.lowlevel.checkpoint()
