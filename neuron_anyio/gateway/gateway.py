"""The gateway's runtime: the ledger with a clock, a timer and the streams that its frames go out on.

Everything is decided in the ledger; here turns are carried out. Nothing in this file knows HTTP: `app` does.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime
from itertools import groupby
from typing import TYPE_CHECKING, Any

import anyio
import msgspec

from neuron_anyio.backoff import Backoff
from neuron_anyio.frames import NeuronFrame
from neuron_anyio.jsontext import write_json
from neuron_anyio.statuses import CapabilityStatus, NeuronStatus, TaskPage, TaskStatus
from neuron_anyio.taskgroups import body_task_group
from neuron_anyio.wakeup import Wakeup

from .book import Bounds
from .ledger import BOUNDS, RETRY, GatewayLedger
from .principals import ANYBODY, Access, Authenticator, Principal
from .problems import Refused, problem
from .store import Store
from .streams import Outbox, Watch, frame_event
from .tasks import State, Submission
from .turn import Turn
from .views import capability_statuses, neuron_statuses, task_status

if TYPE_CHECKING:
    from starlette.types import ASGIApp

__all__ = ["BODY_BYTES", "KEEP_ALIVE", "STREAM_BYTES", "Gateway"]

MIB = 1024 * 1024

BODY_BYTES = 65 * MIB
"""The largest request: a neuron's largest output by default, and the frame round it."""

LONGEST_LEASE = 366 * 86_400.0
"""Seconds; far beyond it `expiresAt` would leave the calendar."""

STREAM_BYTES = 16 * MIB
"""What may wait for one stream's reader: far more than a window of leases, far less than memory."""

KEEP_ALIVE = 10.0
"""Seconds between comments on a silent stream: below the idle time-outs of the usual proxies."""


class Gateway:
    """A gateway without its HTTP; `open_gateway` makes one that is served, `create_app` an application for any server.

    Args:
        auth: who may come in, see `Access`.
        max_attempts: tries of a task that names no number itself.
        lease_ttl: seconds of a lease, for capabilities that name none.
        retry: back-off between the tries of a task.
        keep_alive: seconds between comments on a silent stream.
        store: where tasks are kept; in memory when None.
        bounds: how much is kept.
        body_bytes: largest request body.
        stream_bytes: what may wait for one stream's reader; a slower one loses its stream.

    Attributes:
        url: where it is served, `""` while it is not.
        app: its ASGI application, None before `create_app` has made it.
        ledger: what decides; for reading only.
    """

    def __init__(
        self,
        *,
        auth: Access = None,
        max_attempts: int = 3,
        lease_ttl: float = 60.0,
        retry: Backoff = RETRY,
        keep_alive: float = KEEP_ALIVE,
        store: Store | None = None,
        bounds: Bounds = BOUNDS,
        body_bytes: int = BODY_BYTES,
        stream_bytes: int = STREAM_BYTES,
    ) -> None:
        if max_attempts < 1:
            raise ValueError(f"max_attempts must be 1 or more, not {max_attempts!r}")
        if not 0 < lease_ttl <= LONGEST_LEASE:
            raise ValueError(f"lease_ttl must be seconds above 0 and up to {LONGEST_LEASE:.0f}, not {lease_ttl!r}")
        if not keep_alive > 0:
            raise ValueError(f"keep_alive must be a number of seconds above 0, not {keep_alive!r}")
        self.url = ""
        self.app: ASGIApp | None = None
        self.ledger: GatewayLedger = GatewayLedger(
            new_id=_new_id,
            wall=lambda: datetime.now(UTC),
            max_attempts=max_attempts,
            lease_ttl=lease_ttl,
            retry=retry,
            store=store,
            bounds=bounds,
        )
        self.authenticator: Authenticator = Authenticator(auth)
        self.keep_alive = keep_alive
        self.body_bytes = body_bytes
        self.is_running: bool = False
        self._stream_bytes = stream_bytes
        self._streams: dict[str, Outbox] = {}
        self._watches: dict[str | None, set[Watch]] = {}
        self._timer = Wakeup()
        self._armed = float("inf")

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        """Keep time while the block runs; at its end all streams end, without a `disconnect`."""
        self.ledger.restore(anyio.current_time())
        async with body_task_group() as tasks:
            tasks.start_soon(self._keep_time)
            self.is_running = True
            try:
                yield
            finally:
                self.close()
                tasks.cancel_scope.cancel()

    def close(self) -> None:
        """End all streams and take no new ones; what is asked meanwhile is still answered."""
        self.is_running = False
        for session_id, outbox in list(self._streams.items()):
            self.ledger.close_session(session_id, anyio.current_time())
            outbox.finish()
        self._streams.clear()
        for watch in self._all_watches():
            watch.notify()

    async def _keep_time(self) -> None:
        while True:
            due = self.ledger.next_due()
            self._armed = float("inf") if due is None else due
            await self._timer.wait(until=self._armed)
            await self._carry_out(self.ledger.tick(anyio.current_time()))

    # ---- neurons

    @contextmanager
    def stream(self, neuron_id: str, principal: Principal = ANYBODY) -> Generator[Outbox]:
        """Open a neuron's event stream and yield what is to go out on it; its leases outlive the block.

        Raises:
            Refused: the id is in use under another token, or the gateway is closing.
        """
        if not self.is_running:
            raise _closing()
        turn = self.ledger.open_session(neuron_id, principal, anyio.current_time())
        self._deliver(turn)
        if turn.problem is not None:
            raise Refused(turn.problem)
        outbox = self._streams[turn.session_id] = Outbox(self._stream_bytes)
        try:
            yield outbox
        finally:
            outbox.cut()
            self._drop(turn.session_id)

    async def handle(self, frame: NeuronFrame, principal: Principal = ANYBODY) -> None:
        """Take a frame that a neuron posted.

        Raises:
            Refused: as the problem says.
        """
        turn = self.ledger.handle(frame, principal, anyio.current_time())
        await self._carry_out(turn)
        if turn.problem is not None:
            raise Refused(turn.problem)

    # ---- callers

    async def submit(
        self,
        capability: str,
        input: Any,  # noqa: A002 - the wire's word
        *,
        on_behalf_of: str | None = None,
        metadata: dict[str, Any] | None = None,
        max_attempts: int | None = None,
        idempotency_key: str | None = None,
    ) -> TaskStatus:
        """Submit a task from inside the program, as `GatewayClient.submit` does from outside.

        Raises:
            Refused: as the problem says.
            ValueError: the input is not JSON.
        """
        submission = Submission(
            capability=capability,
            input=msgspec.Raw(write_json(input)),
            on_behalf_of=on_behalf_of,
            metadata=metadata,
            max_attempts=max_attempts,
        )
        status, _ = await self.take(submission, idempotency_key=idempotency_key)
        return _decoded(status)

    async def take(
        self, submission: Submission, principal: Principal = ANYBODY, *, idempotency_key: str | None = None
    ) -> tuple[TaskStatus, bool]:
        """Take a task; return where it stands, undecoded, and whether it is new.

        Raises:
            Refused: as the problem says.
        """
        turn = self.ledger.submit(submission, principal, anyio.current_time(), idempotency_key=idempotency_key)
        await self._carry_out(turn)
        if turn.problem is not None:
            raise Refused(turn.problem)
        assert turn.task is not None
        return task_status(self.ledger, turn.task), turn.created

    async def cancel(self, task_id: str, reason: str = "cancelled by its caller") -> TaskStatus:
        """Call a task off: at once while it waits, by asking its holder while it is leased.

        Raises:
            Refused: there is no such task, or it has succeeded or failed.
        """
        turn = self.ledger.cancel(task_id, anyio.current_time(), reason=reason)
        await self._carry_out(turn)
        if turn.problem is not None:
            raise Refused(turn.problem)
        return self.status(task_id)

    def status(self, task_id: str) -> TaskStatus:
        """Return where a task stands, its JSON values undecoded.

        Raises:
            Refused: there is no such task, or it is forgotten.
        """
        task = self.ledger.book.store.get(task_id)
        if task is None:
            raise Refused(problem(404, "unknown-task", f"there is no task {task_id!r}, or it is forgotten"))
        return task_status(self.ledger, task)

    def task(self, task_id: str) -> TaskStatus:
        """Return where a task stands, as `GatewayClient` would.

        Raises:
            Refused: there is no such task, or it is forgotten.
        """
        return _decoded(self.status(task_id))

    def tasks(
        self, *, state: State | None = None, capability: str | None = None, cursor: int | None = None, limit: int = 100
    ) -> TaskPage:
        """Return a page of tasks, newest first, their JSON values undecoded."""
        page = self.ledger.book.store.list(state=state, capability=capability, cursor=cursor, limit=limit)
        statuses = tuple(task_status(self.ledger, task) for task in page.tasks)
        return TaskPage(tasks=statuses, cursor=None if page.cursor is None else str(page.cursor))

    def counts(self) -> dict[str, int]:
        """Return how many tasks are in each state; forgotten ones are not counted."""
        return {state.value: self.ledger.book.counts[state] for state in State}

    async def wait_settled(self, *task_ids: str) -> list[TaskStatus]:
        """Wait until these tasks have settled, or with none named, until no task is open.

        Raises:
            Refused: one of them is not known.
        """
        with self.watch(None) as watch:
            while not self._all_settled(task_ids):
                if not self.is_running:
                    raise _closing()
                await watch.wait()
        return [self.task(task_id) for task_id in task_ids]

    def _all_settled(self, task_ids: tuple[str, ...]) -> bool:
        if task_ids:
            return all(self.status(task_id).settled for task_id in task_ids)
        counts = self.ledger.book.counts
        return not counts[State.PENDING] and not counts[State.LEASED]

    @contextmanager
    def watch(self, task_id: str | None) -> Generator[Watch]:
        """Be told of each change of a task, or with None of any task."""
        watch = Watch()
        self._watches.setdefault(task_id, set()).add(watch)
        try:
            yield watch
        finally:
            watches = self._watches[task_id]
            watches.discard(watch)
            if not watches:
                del self._watches[task_id]

    # ---- operators

    async def revoke(self, capability: str, reason: str = "revoked by the operator") -> None:
        """Take a capability back from all neurons, until `allow`; running tasks go on."""
        await self._carry_out(self.ledger.revoke(capability, anyio.current_time(), reason=reason))

    async def allow(self, capability: str) -> None:
        """Lift a revocation."""
        await self._carry_out(self.ledger.allow(capability, anyio.current_time()))

    async def disconnect(
        self,
        neuron_id: str,
        reason: str = "disconnected by the operator",
        *,
        reconnectable: bool = True,
        code: str | None = None,
    ) -> None:
        """Send a neuron away; with `reconnectable` false for good.

        Raises:
            Refused: it is not connected.
        """
        now = anyio.current_time()
        turn = self.ledger.disconnect(neuron_id, now, reason=reason, reconnectable=reconnectable, code=code)
        await self._carry_out(turn)
        if turn.problem is not None:
            raise Refused(turn.problem)

    def drop_stream(self, neuron_id: str) -> None:
        """Cut a neuron's stream without a word, as a network does; nothing happens when it has none."""
        neuron = self.ledger.roster.neurons.get(neuron_id)
        if neuron is not None and neuron.session is not None:
            self._streams[neuron.session.session_id].cut()

    def neurons(self) -> list[NeuronStatus]:
        """Return the neurons that are connected or hold leases."""
        return neuron_statuses(self.ledger)

    def capabilities(self) -> list[CapabilityStatus]:
        """Return every capability that is offered, wanted or revoked."""
        return capability_statuses(self.ledger)

    # ---- turns

    async def _carry_out(self, turn: Turn) -> None:
        self._deliver(turn)
        if turn.changed:
            await self.ledger.book.store.flush()

    def _deliver(self, turn: Turn) -> None:
        for session_id, sends in groupby(turn.sends, lambda send: send.session_id):
            outbox = self._streams.get(session_id)
            if outbox is not None and not outbox.put(frame_event(send.frame for send in sends)):
                outbox.cut()
                self._drop(session_id)
        for session_id in turn.closed:
            outbox = self._streams.pop(session_id, None)
            if outbox is not None:
                outbox.finish()
        for task_id in turn.changed:
            for watch in (*self._watches.get(task_id, ()), *self._watches.get(None, ())):
                watch.notify()
        due = self.ledger.next_due()
        if due is not None and due < self._armed:
            self._timer.notify()

    def _drop(self, session_id: str) -> None:
        self._streams.pop(session_id, None)
        self.ledger.close_session(session_id, anyio.current_time())

    def _all_watches(self) -> list[Watch]:
        return [watch for watches in self._watches.values() for watch in watches]


def _new_id(kind: str) -> str:
    return f"{kind}_{secrets.token_hex(12)}"


def _closing() -> Refused:
    return Refused(problem(503, "closing", "the gateway is closing; try again in a moment"))


def _decoded(status: TaskStatus) -> TaskStatus:
    """Return a status with its JSON values decoded, as a client reads it."""
    return msgspec.json.decode(msgspec.json.encode(status), type=TaskStatus)
