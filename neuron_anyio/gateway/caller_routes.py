"""What callers talk to: tasks, and who does them."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Annotated, Any, TypeAlias, TypeVar

import msgspec
from msgspec import Meta, Raw
from msgspec.structs import replace
from starlette.requests import Request
from starlette.responses import Response

from neuron_anyio.statuses import TaskStatus

from .event_stream import EventStream
from .gateway import Gateway
from .posts import check_readable
from .problems import Refused, problem
from .replies import authenticated, decoded, json_reply, read_body
from .streams import Watch, event
from .tasks import State, Submission

__all__ = ["CallerRoutes"]

PAGE = 100
LARGEST_PAGE = 1_000

LARGEST_MAX_ATTEMPTS = 1_000
"""More tries of one task than anybody means."""

KEY_LENGTH = 255
LONGEST_NUMBER = 18
"""Digits; `int` takes its time for thousands."""

T = TypeVar("T")

_Text: TypeAlias = Annotated[str, Meta(min_length=1)]


class _NewTask(msgspec.Struct, rename="camel", forbid_unknown_fields=True):
    capability: str
    input: Raw
    on_behalf_of: _Text | None = None
    metadata: dict[str, Any] | None = None
    max_attempts: Annotated[int, Meta(ge=1, le=LARGEST_MAX_ATTEMPTS)] | None = None


class _Cancel(msgspec.Struct, rename="camel", forbid_unknown_fields=True):
    reason: _Text = "cancelled by its caller"


_new_task = msgspec.json.Decoder(_NewTask)
_cancel = msgspec.json.Decoder(_Cancel)


class CallerRoutes:
    """Endpoints for callers."""

    __slots__ = ("_gateway",)

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    async def submit(self, request: Request) -> Response:
        """Take a task: 201, or 200 for one that the same idempotency key made before."""
        principal = await authenticated(self._gateway, request)
        key = request.headers.get("idempotency-key")
        if key is not None and not 0 < len(key) <= KEY_LENGTH:
            detail = f"Idempotency-Key must have 1 to {KEY_LENGTH} characters"
            raise Refused(problem(400, "invalid-idempotency-key", detail))
        new = decoded(_new_task, await read_body(request, self._gateway.body_bytes))
        check_readable(new.input, "input", code="invalid-document")
        check_readable(new.metadata, "metadata", code="invalid-document")
        submission = Submission(
            capability=new.capability,
            input=new.input,
            on_behalf_of=new.on_behalf_of,
            metadata=new.metadata,
            max_attempts=new.max_attempts,
        )
        status, created = await self._gateway.take(submission, principal, idempotency_key=key)
        reply = json_reply(status, 201 if created else 200)
        reply.headers["Location"] = f"/tasks/{status.task_id}"
        return reply

    async def task(self, request: Request) -> Response:
        """Show a task."""
        await authenticated(self._gateway, request)
        return json_reply(self._gateway.status(request.path_params["task_id"]))

    async def tasks(self, request: Request) -> Response:
        """List tasks, newest first."""
        await authenticated(self._gateway, request)
        query = request.query_params
        page = self._gateway.tasks(
            state=_parsed(query.get("state"), "state", State, f"must be one of {', '.join(State)}"),
            capability=query.get("capability"),
            cursor=_parsed(query.get("cursor"), "cursor", _natural, "must be what an earlier page gave"),
            limit=_parsed(query.get("limit"), "limit", _limit, f"must be 1 to {LARGEST_PAGE}") or PAGE,
        )
        return json_reply(page)

    async def events(self, request: Request) -> Response:
        """Follow a task until it settles."""
        await authenticated(self._gateway, request)
        self._gateway.status(request.path_params["task_id"])
        stream = _follow(self._gateway, request.path_params["task_id"])
        return EventStream(stream, keep_alive=self._gateway.keep_alive)

    async def cancel(self, request: Request) -> Response:
        """Call a task off."""
        await authenticated(self._gateway, request)
        body = await read_body(request, self._gateway.body_bytes)
        reason = decoded(_cancel, body or b"{}").reason
        return json_reply(await self._gateway.cancel(request.path_params["task_id"], reason))

    async def neurons(self, request: Request) -> Response:
        """List the neurons that are connected or hold leases."""
        await authenticated(self._gateway, request)
        return json_reply({"neurons": self._gateway.neurons()})

    async def capabilities(self, request: Request) -> Response:
        """List every capability that is offered, wanted or revoked."""
        await authenticated(self._gateway, request)
        return json_reply({"capabilities": self._gateway.capabilities()})


class _TaskEvents:
    """What goes out on a follower's stream: where the task stands now, each time that changed.

    A slow follower misses steps in between, never the last one; nothing waits for it in memory.
    """

    def __init__(self, gateway: Gateway, task_id: str, watch: Watch) -> None:
        self._gateway = gateway
        self._task_id = task_id
        self._watch = watch
        self._shown: TaskStatus | None = None
        self.abort: Callable[[], None] | None = None

    async def take(self, *, until: float) -> bytes | None:
        while True:
            before = self._shown
            if before is not None and before.settled:
                return None
            try:
                now = self._shown = self._gateway.status(self._task_id)
            except Refused:  # settled and forgotten since
                return None
            if before is None or not _same(before, now):
                moved = before is None or (before.state, before.deliveries) != (now.state, now.deliveries)
                return event("state" if moved else "progress", msgspec.json.encode(now))
            if not self._gateway.is_running:
                return None
            if not await self._watch.wait(until=until):
                return b""

    def cut(self) -> None:
        if self.abort is not None:
            self.abort()


def _same(before: TaskStatus, now: TaskStatus) -> bool:
    """Return whether there is nothing to tell; that a lease was renewed is nothing."""
    return before == replace(now, lease_expires_at=before.lease_expires_at)


@contextmanager
def _follow(gateway: Gateway, task_id: str) -> Generator[_TaskEvents]:
    gateway.status(task_id)
    with gateway.watch(task_id) as watch:
        yield _TaskEvents(gateway, task_id, watch)


def _parsed(text: str | None, name: str, parse: Callable[[str], T], rule: str) -> T | None:
    if text is None:
        return None
    try:
        return parse(text)
    except ValueError:
        raise Refused(problem(400, "invalid-query", f"{name} {rule}")) from None


def _natural(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= LONGEST_NUMBER):
        raise ValueError
    return int(text)


def _limit(text: str) -> int:
    limit = _natural(text)
    if not 1 <= limit <= LARGEST_PAGE:
        raise ValueError
    return limit
