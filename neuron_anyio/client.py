"""What callers of a gateway use: submit tasks, wait for them, watch them, call them off."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from http import HTTPStatus
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, cast
from urllib.parse import quote

import anyio
import msgspec

from ._client_wire import TIMEOUT, RequestRefused, Wire, decoded
from .backoff import Backoff
from .errors import NeuronError, TransportError
from .jsontext import write_json
from .retries import Retries
from .sse import EventDecoder, ServerSentEvent
from .statuses import (
    CapabilityStatus,
    HeldSlots,
    NeuronStatus,
    TaskFailure,
    TaskPage,
    TaskProgress,
    TaskState,
    TaskStatus,
)
from .tokens import Auth, Credentials

if TYPE_CHECKING:
    import httpx

__all__ = [
    "CapabilityStatus",
    "GatewayClient",
    "HeldSlots",
    "NeuronStatus",
    "RequestRefused",
    "TaskCancelled",
    "TaskFailed",
    "TaskFailure",
    "TaskPage",
    "TaskProgress",
    "TaskState",
    "TaskStatus",
]

SILENCE = 60.0
"""Seconds without a byte after which a followed stream counts as dead; gateways send comments more often."""

PATIENCE = 300.0
"""Seconds for which a gateway that was there once may be away while a task is followed: time for a restart."""

RECONNECT = Backoff(initial=0.1, maximum=5.0)

EVENT_BYTES = 128 * 1024 * 1024
"""A settled status has the output in it, which may be as large as a neuron's limits allow."""

CONNECTIONS = 1_000
"""Tasks that one client may follow at the same time."""

_EVENT_STREAM = {"Accept": "text/event-stream", "Accept-Encoding": "identity", "Cache-Control": "no-store"}


class TaskFailed(NeuronError):
    """The task that was waited for has failed.

    Attributes:
        task_id: which.
        kind: see `TaskFailure`.
        reason: one line for people.
        code: machine-readable, or None.
        details: any JSON value.
    """

    def __init__(self, task_id: str, failure: TaskFailure) -> None:
        code = "" if failure.code is None else f", {failure.code}"
        super().__init__(f"task {task_id} failed ({failure.kind}{code}): {failure.reason}")
        self.task_id = task_id
        self.kind: str = failure.kind
        self.reason: str = failure.reason
        self.code: str | None = failure.code
        self.details: Any = failure.details


class TaskCancelled(NeuronError):
    """The task that was waited for was called off.

    Attributes:
        task_id: which.
        reason: why, by the caller who did it; None where a neuron did.
    """

    def __init__(self, task_id: str, reason: str | None) -> None:
        super().__init__(f"task {task_id} was cancelled" + ("" if reason is None else f": {reason}"))
        self.task_id = task_id
        self.reason = reason


class _Neurons(msgspec.Struct):
    neurons: list[NeuronStatus]


class _Capabilities(msgspec.Struct):
    capabilities: list[CapabilityStatus]


class GatewayClient:
    """A caller's view of one gateway: `async with GatewayClient(url) as client`.

    Args:
        url: base URL of the gateway.
        auth: a token, a callable that returns one, or a token source, as for `open_neuron`.
        http_client: an `httpx.AsyncClient` of yours, with its time-outs and TLS; not closed here.
    """

    def __init__(self, url: str, *, auth: Auth | None = None, http_client: httpx.AsyncClient | None = None) -> None:
        self._base = url.rstrip("/")
        self._credentials = Credentials(auth, patience=TIMEOUT)
        self._given = http_client
        self._opened: Wire | None = None
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        import httpx  # noqa: PLC0415 - costs 90 ms, which nobody pays who does not open a client

        from .http1 import Http1Transport  # noqa: PLC0415 - needs httpx

        http = self._given
        if http is None:
            own = httpx.AsyncClient(transport=Http1Transport(max_connections=CONNECTIONS))
            http = await self._stack.enter_async_context(own)
        self._opened = Wire(self._base, http, self._credentials)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._opened = None
        await self._stack.aclose()

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
        """Submit a task.

        Args:
            capability: type, like `examples/http.fetch`.
            input: any JSON value, or what msgspec makes one of.
            on_behalf_of: user; only a neuron that offers the capability for this user gets it.
            metadata: handed on to the handler.
            max_attempts: tries that it is worth; the gateway's default when None.
            idempotency_key: makes it safe to submit again after a `TransportError`: the same key finds the same task.

        Returns:
            The task's status. `offered` is False while no connected neuron does such tasks.

        Raises:
            RequestRefused, AuthenticationFailed, TransportError: see there.
            ValueError: the input is not JSON, or the key has characters that a header must not have.
        """
        document: dict[str, Any] = {"capability": capability, "input": msgspec.Raw(write_json(input))}
        optional = {"onBehalfOf": on_behalf_of, "metadata": metadata, "maxAttempts": max_attempts}
        document |= {name: value for name, value in optional.items() if value is not None}
        if idempotency_key is not None and not (idempotency_key.isascii() and idempotency_key.isprintable()):
            raise ValueError("idempotency_key must be of printable ASCII characters: it travels in a header")
        headers = {} if idempotency_key is None else {"Idempotency-Key": idempotency_key}
        return await self._wire.ask("POST", "/tasks", TaskStatus, document=document, headers=headers)

    async def task(self, task_id: str) -> TaskStatus:
        """Return where a task stands.

        Raises:
            RequestRefused, AuthenticationFailed, TransportError: see there.
        """
        return await self._wire.ask("GET", _task_path(task_id), TaskStatus)

    async def result(self, task_id: str, *, timeout: float | None = None) -> Any:  # noqa: ASYNC109 - spares a scope
        """Wait until a task has settled and return its output.

        Args:
            task_id: which.
            timeout: seconds, None for ever. The task goes on when it is over.

        Raises:
            TaskFailed, TaskCancelled: how it ended otherwise.
            TimeoutError: it took longer.
            RequestRefused, AuthenticationFailed, TransportError: see there.
        """
        with anyio.fail_after(timeout):
            async with self.follow(task_id) as updates:
                status = await _last(updates)
        if status.state == "failed":
            raise TaskFailed(task_id, status.failure or TaskFailure(kind="unknown", reason="no reason given"))
        if status.state == "cancelled":
            raise TaskCancelled(task_id, status.cancel_reason)
        return status.output

    @asynccontextmanager
    async def follow(self, task_id: str) -> AsyncGenerator[AsyncIterator[TaskStatus]]:
        """Follow a task: `async with client.follow(id) as updates: async for status in updates`.

        The first status comes at once, then one for each change of state or progress (several at once may come as one);
        the last is the settled one. A stream that breaks off is opened again.

        Raises:
            RequestRefused, AuthenticationFailed, TransportError: see there; raised by the iteration. A gateway that was
                there once is waited for, five minutes long.
        """
        async with aclosing(self._updates(task_id)) as updates:
            yield updates

    async def cancel(self, task_id: str, reason: str | None = None) -> TaskStatus:
        """Call a task off: at once while it waits, by asking its neuron while it runs.

        Raises:
            RequestRefused: it has succeeded or failed (409), or is not known (404).
            AuthenticationFailed, TransportError: see there.
        """
        document = {} if reason is None else {"reason": reason}
        return await self._wire.ask("POST", f"{_task_path(task_id)}/cancel", TaskStatus, document=document)

    def tasks(self, *, state: TaskState | None = None, capability: str | None = None) -> AsyncIterator[TaskStatus]:
        """Iterate over tasks, newest first: `async for status in client.tasks(state="failed")`.

        Raises:
            RequestRefused, AuthenticationFailed, TransportError: see there; raised by the iteration.
        """
        asked = {"state": state, "capability": capability}
        query = {name: value for name, value in asked.items() if value is not None}

        async def page(cursor: str | None) -> TaskPage:
            more = {} if cursor is None else {"cursor": cursor}
            return await self._wire.ask("GET", "/tasks", TaskPage, query=query | more)

        return _Pages(page)

    async def neurons(self) -> list[NeuronStatus]:
        """Return the neurons that are connected or hold leases.

        Raises:
            RequestRefused, AuthenticationFailed, TransportError: see there.
        """
        return (await self._wire.ask("GET", "/neurons", _Neurons)).neurons

    async def capabilities(self) -> list[CapabilityStatus]:
        """Return every capability that is offered, wanted or revoked.

        Raises:
            RequestRefused, AuthenticationFailed, TransportError: see there.
        """
        return (await self._wire.ask("GET", "/capabilities", _Capabilities)).capabilities

    def __repr__(self) -> str:
        return f"<GatewayClient {self._base}>"

    @property
    def _wire(self) -> Wire:
        if self._opened is None:
            raise RuntimeError("the client is not open: use it inside `async with GatewayClient(...) as client`")
        return self._opened

    # ---- a task's updates

    async def _updates(self, task_id: str) -> AsyncGenerator[TaskStatus]:
        """Yield each status until the settled one, over broken streams and a gateway's restart."""
        retries, heard = Retries(RECONNECT), None
        while True:
            begun = anyio.current_time()
            try:
                async with aclosing(self._stream(task_id)) as statuses:
                    async for status in statuses:
                        heard = anyio.current_time()
                        yield status  # noqa: ASYNC119 - who iterates closes it
                        if status.settled:
                            return
            except (TransportError, RequestRefused) as error:
                if not _passes(error):
                    raise
            # Where a stream cannot be had, for a proxy holds it back or nobody is there, asking is the next best.
            try:
                status = await self.task(task_id)
                heard = anyio.current_time()
                if status.settled:
                    yield status
                    return
            except (TransportError, RequestRefused) as error:
                if not _passes(error) or heard is None or anyio.current_time() - heard > PATIENCE:
                    raise
            if anyio.current_time() - begun > RECONNECT.maximum:
                retries.reset()
            await anyio.sleep(retries.fail())

    async def _stream(self, task_id: str) -> AsyncGenerator[TaskStatus]:
        path = f"{_task_path(task_id)}/events"
        what = f"GET {self._base}{path}"
        decoder = EventDecoder(EVENT_BYTES)
        async with self._wire.exchange("GET", path, headers=_EVENT_STREAM, silence=SILENCE) as response:
            if not response.headers.get("content-type", "").startswith("text/event-stream"):
                raise TransportError(f"{what}: no event stream came; check the URL, and what stands between")
            # The response's own iterators are generators inside generators, which nobody closes when the caller stops.
            async with aclosing(cast("AsyncGenerator[bytes]", aiter(cast("Any", response.stream)))) as chunks:
                async for chunk in chunks:
                    for event in decoder.push(chunk):
                        if isinstance(event, ServerSentEvent):
                            yield decoded(event.data, TaskStatus, what)  # noqa: ASYNC119 - who iterates closes it


class _Pages:
    """Iterates over the tasks of page after page."""

    def __init__(self, page: Callable[[str | None], Awaitable[TaskPage]]) -> None:
        self._page = page
        self._tasks: deque[TaskStatus] = deque()
        self._cursor: str | None = None
        self._ended = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> TaskStatus:
        while not self._tasks and not self._ended:
            page = await self._page(self._cursor)
            self._tasks.extend(page.tasks)
            self._cursor = page.cursor
            self._ended = page.cursor is None
        if not self._tasks:
            raise StopAsyncIteration
        return self._tasks.popleft()


async def _last(updates: AsyncIterator[TaskStatus]) -> TaskStatus:
    last = None
    async for status in updates:
        last = status
    assert last is not None, "a task's updates end with the settled one"
    return last


def _task_path(task_id: str) -> str:
    return f"/tasks/{quote(task_id, safe='')}"


def _passes(error: TransportError | RequestRefused) -> bool:
    """Return whether the same request may work later."""
    if isinstance(error, RequestRefused):
        return error.status >= HTTPStatus.INTERNAL_SERVER_ERROR or error.status == HTTPStatus.TOO_MANY_REQUESTS
    return True
