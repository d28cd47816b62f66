"""A gateway whose every word is written by the test, over the in-memory transport.

    gateway = ScriptedGateway()
    gateway.answer("ack", 503)
    async with open_neuron(gateway.transport, neuron_id="neuron-1", capabilities=[echo]):
        gateway.lease("lease-1", capability="test/echo", value="hello")
        await gateway.wait_posted("ack", lease_id="lease-1", count=2)

It decides nothing and remembers nothing but what was posted: for tests of what a neuron says, word for word. One that
does what gateways do is `memory_gateway.open_memory_gateway`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, TypeAlias

import anyio
import msgspec

from ..abc import Reply
from ..errors import TransportError
from ..transports.memory import MemoryTransport
from ..wakeup import Changed

__all__ = ["Answer", "ScriptedGateway", "stamp"]

_KINDS = frozenset({"register", "update-capability", "heartbeat", "ack", "nack", "progress"})
"""The types of the frames that neurons post."""

Answer: TypeAlias = Reply | TransportError | int
"""What becomes of a post: a reply, a bare status, or no reply because the road breaks."""

OK = 200


class ScriptedGateway:
    """Records what is posted, and answers 200 or what the test has laid down.

    Args:
        confirms: an accepted `register` is confirmed by a `registered` frame with all that it asks for.
        patience: seconds after which a `wait_...` gives up with `TimeoutError`.

    Attributes:
        confirms: as given; may be changed.
        transport: what `open_neuron` is given. `transport.break_stream()` cuts the stream, `transport.push(document)`
            sends bytes that are no frame.
        posts: every frame that was posted, decoded, in order.
        on_post: called with type and frame of each post when its answer is decided, before the neuron has it.
    """

    def __init__(self, *, confirms: bool = True, patience: float = 10.0) -> None:
        self.transport: MemoryTransport = MemoryTransport(self.take, origin="memory:test")
        self.posts: list[dict[str, Any]] = []
        self.on_post: Callable[[str, dict[str, Any]], object] = lambda _kind, _frame: None
        self.confirms = confirms
        self._patience = patience
        self._next_answers: dict[str, list[Answer]] = {}
        self._answers: dict[str, Answer] = {}
        self._held: dict[str, anyio.Event] = {}
        self._changed = Changed()

    # What the gateway says

    def send(self, **frame: Any) -> None:
        """Send any frame, its members as the wire spells them.

        Raises:
            TransportError: no stream is open.
        """
        self.transport.push(json.dumps(frame).encode())

    def registered(self, capabilities: Sequence[Mapping[str, Any]], *, session_id: str = "session-1") -> None:
        """Send `registered`, granting these offers, as the wire spells them."""
        self.send(type="registered", sessionId=session_id, capabilities=capabilities, acceptedAt=stamp())

    def lease(
        self,
        lease_id: str,
        *,
        capability: str = "test/echo",
        value: Any = None,
        task_id: str | None = None,
        workflow_id: str = "workflow",
        attempt: int = 0,
        ttl: float = 60.0,
        input_schema: Any = msgspec.UNSET,
        output_schema: Any = msgspec.UNSET,
        **members: Any,
    ) -> None:
        """Send a lease.

        Args:
            lease_id: its id.
            capability: the task's type.
            value: the task's input, any JSON.
            task_id: by default one that no other lease id leads to.
            workflow_id: of the task.
            attempt: of the task, 0 for the first.
            ttl: seconds until it expires.
            input_schema: any JSON, None included; left out by default.
            output_schema: the same.
            members: more of the task as the wire spells it: `onBehalfOf`, `metadata`, what a newer gateway may send.
        """
        task = {
            "taskId": f"task-{lease_id}" if task_id is None else task_id,
            "workflowId": workflow_id,
            "capability": capability,
            "input": value,
            "attempt": attempt,
            **members,
        }
        schemas = {"inputSchema": input_schema, "outputSchema": output_schema}
        given = {name: schema for name, schema in schemas.items() if schema is not msgspec.UNSET}
        self.send(
            type="lease", lease={"leaseId": lease_id, "expiresAt": stamp(ttl), "task": task, **given}, sentAt=stamp()
        )

    def cancel(self, lease_id: str, reason: str = "the caller called it off") -> None:
        """Send a cancel."""
        self.send(type="cancel", leaseId=lease_id, reason=reason, cancelledAt=stamp())

    def revoke(self, capability: str, reason: str = "policy") -> None:
        """Send that a capability is revoked."""
        self.send(type="capability-revoked", capability=capability, reason=reason, revokedAt=stamp())

    def disconnect(self, reason: str = "go", *, reconnectable: bool = True, code: str | None = None) -> None:
        """Send the neuron away; the stream stays open until the neuron leaves it."""
        codes = {} if code is None else {"code": code}
        self.send(type="disconnect", reason=reason, **codes, reconnectable=reconnectable, sentAt=stamp())

    # What it answers

    def answer(self, kind: str, *answers: Answer) -> None:
        """Answer the next posts of a type so, one after the other.

        Raises:
            ValueError: neurons post no such frame.
        """
        self._next_answers.setdefault(_checked(kind), []).extend(answers)

    def always_answer(self, kind: str, answer: Answer) -> None:
        """Answer every post of a type so from now on, after those that `answer` was told; 200 is where it began.

        Raises:
            ValueError: neurons post no such frame.
        """
        self._answers[_checked(kind)] = answer

    def hold(self, kind: str) -> None:
        """Answer no post of a type until `release`; what is decided then holds for those that wait.

        Raises:
            ValueError: neurons post no such frame.
        """
        self._held.setdefault(_checked(kind), anyio.Event())

    def release(self, kind: str) -> None:
        """Answer what was held back, and all that comes."""
        held = self._held.pop(_checked(kind), None)
        if held is not None:
            held.set()

    async def take(self, kind: str, body: bytes) -> Reply:
        """Take a frame and answer it: for transports of your own, and to be overridden.

        Raises:
            TransportError: the script says so.
            AssertionError: the frame's own type is another.
        """
        frame: dict[str, Any] = json.loads(body)
        assert frame["type"] == kind, f"a frame of type {frame['type']!r} was posted as {kind!r}"
        self.posts.append(frame)
        self.notify()
        if kind in self._held:
            await self._held[kind].wait()
        laid_down = self._next_answers.get(kind)
        answer = laid_down.pop(0) if laid_down else self._answers.get(kind, OK)
        if isinstance(answer, TransportError):
            raise answer
        reply = Reply(status=answer) if isinstance(answer, int) else answer
        if kind == "register" and reply.status == OK and self.confirms:
            self.registered(frame["capabilities"])
        self.on_post(kind, frame)
        return reply

    # What the neuron said

    def posted(self, *kinds: str, lease_id: str | None = None) -> list[dict[str, Any]]:
        """Return the frames of these types, of one lease if it is named, in order."""
        return [
            post
            for post in self.posts
            if post["type"] in kinds and (lease_id is None or post.get("leaseId") == lease_id)
        ]

    async def wait_posted(self, *kinds: str, lease_id: str | None = None, count: int = 1) -> list[dict[str, Any]]:
        """Wait until so many frames of these types (of this lease) were posted; return all of them.

        Raises:
            TimeoutError: it took longer than `patience`.
        """
        await self.wait_for(lambda: len(self.posted(*kinds, lease_id=lease_id)) >= count)
        return self.posted(*kinds, lease_id=lease_id)

    async def wait_result(self, lease_id: str) -> dict[str, Any]:
        """Wait for the first ack or nack of a lease.

        Raises:
            TimeoutError: it took longer than `patience`.
        """
        return (await self.wait_posted("ack", "nack", lease_id=lease_id))[0]

    async def wait_for(self, condition: Callable[[], object]) -> None:
        """Wait until something holds that changes with what is posted.

        Raises:
            TimeoutError: it took longer than `patience`.
        """
        with anyio.fail_after(self._patience):
            while not condition():
                await self._changed.wait()

    def notify(self) -> None:
        """Let all who wait look again: for subclasses in which more than posts can change."""
        self._changed.notify()


_START = datetime(2026, 5, 9, 10, 0, tzinfo=UTC)


def stamp(seconds: float = 0.0) -> str:
    """Return a wire timestamp, so many seconds after one and the same moment: only differences count on the wire."""
    return (_START + timedelta(seconds=seconds)).isoformat().replace("+00:00", "Z")


def _checked(kind: str) -> str:
    if kind not in _KINDS:
        raise ValueError(
            f"kind must be the type of a frame that neurons post ({', '.join(sorted(_KINDS))}), not {kind!r}"
        )
    return kind
