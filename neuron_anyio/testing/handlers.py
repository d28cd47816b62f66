"""One run of one handler, for tests of handlers: a real neuron takes one delivery, and no gateway is needed.

    result = await run_handler(fetch, {"url": "https://example.com"})
    assert result.output["status"] == 200

What `@capability` made is run as in production: its input is judged and converted, it runs in the loop, a thread or a
process, its output is judged, and the outcome is what a gateway would be told. `start_handler` is for tests that meet
the handler half-way:

    async with start_handler(fetch, {"url": "https://example.com"}) as run:
        await run.wait_progress(1)
        run.cancel()
        assert (await run.result()).code == "CANCELLED"
"""

from __future__ import annotations

import logging
import math
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, TypedDict, Unpack

import anyio
import msgspec
from anyio import CancelScope
from anyio.abc import TaskStatus

from ..brokers._bigbrain_wire import settlement_frame
from ..capability import Capability, OnBehalfOf
from ..config import Timing
from ..context import LeaseContext
from ..errors import HandlerCancelled
from ..events import Event, LeaseSettled
from ..executor import Middleware
from ..frames import Ack, Nack
from ..groups import leaves
from ..jsontext import NotJsonError, read_json, write_json
from ..lease import Lease
from ..model import Completed, Delivery, Outcome, Progress, Task
from ..neuron import Opening, open_neuron
from ..taskgroups import body_task_group
from ..wakeup import Changed
from .one_delivery import OneDelivery

__all__ = ["HandlerOptions", "HandlerResult", "HandlerRun", "NotCompletedError", "run_handler", "start_handler"]

LEASE_TTL = 60.0
"""Seconds of a lease where neither the test nor the capability says otherwise: what gateways give."""


class NotCompletedError(AssertionError):
    """The handler did not do what the test waits for; its own exception, where there is one, is the cause."""


class HandlerOptions(TypedDict, total=False):
    """What may be said of a run; all of it has a default.

    Attributes:
        task_id: default `"task-1"`.
        attempt: how often the task was tried before; default 0.
        on_behalf_of: the task's user; default the user of the capability's scope, if it has one.
        metadata: the task's, any JSON object; default None.
        lease_ttl: seconds of the lease, renewed by heartbeats like any other; default what the capability wishes, else
            60. With 0 it arrives too late and is given back.
        state: what the neuron's lifespan would yield: `ctx.state`; default None.
        middleware: round the handler, the first outermost.
        input_schema: a JSON Schema that comes with the lease, in the place of the capability's own.
        output_schema: the same for the output.
        timing: the neuron's.
        logger: the neuron's; default `neuron_anyio`.
    """

    task_id: str
    attempt: int
    on_behalf_of: str | None
    metadata: Mapping[str, Any] | None
    lease_ttl: float
    state: Any
    middleware: Sequence[Middleware]
    input_schema: Mapping[str, Any] | bool
    output_schema: Mapping[str, Any] | bool
    timing: Timing
    logger: logging.Logger


class HandlerResult(msgspec.Struct, frozen=True, kw_only=True):
    """How a run has ended.

    Attributes:
        outcome: what a broker would be given.
        exception: what came out of the handler and its middleware, with its traceback; None where they returned, were
            cancelled, or never ran.
        progress: one for each call of `ctx.progress`, in order. (A gateway sees fewer: what comes faster than it can be
            sent is merged.)
        events: all that the neuron told, from the first to the last.
        seconds: how long the handler ran, by the loop's clock; 0.0 when it never started.
    """

    outcome: Outcome
    exception: BaseException | None
    progress: tuple[Progress, ...]
    events: tuple[Event, ...]
    seconds: float

    @property
    def output(self) -> Any:
        """The output, as the gateway would read it: decoded JSON.

        Raises:
            NotCompletedError: there is none; the message names kind, code and reason.
        """
        if not isinstance(self.outcome, Completed):
            raise NotCompletedError(f"the handler has no output: {_summary(self.outcome)}") from self.exception
        return read_json(self.outcome.outputs[0])

    @property
    def code(self) -> str | None:
        """The code in the nack that a BigBrain gateway would get; None for an ack."""
        frame = _frame(self.outcome)
        return frame.code if isinstance(frame, Nack) else None

    def __repr__(self) -> str:
        return f"HandlerResult(outcome={self.outcome!r}, {len(self.progress)} progress, {self.seconds:.3f} s)"


class HandlerRun:
    """A run that the test steers. You get one from `start_handler`; the block is its life."""

    def __init__(self, broker: OneDelivery) -> None:
        self._broker = broker
        self._changed = Changed()
        self._hurry = CancelScope()
        self._events: list[Event] = []
        self._progress: list[Progress] = []
        self._exception: BaseException | None = None
        self._is_started = False
        self._is_over = False

    @property
    def progress(self) -> tuple[Progress, ...]:
        """What was reported so far: one for each call, in order."""
        return tuple(self._progress)

    @property
    def outcome(self) -> Outcome | None:
        """How it ended; None while it has not."""
        return self._broker.outcome

    def cancel(self, reason: str = "cancelled by the test") -> None:
        """Call the task off, as a gateway does: reason `GATEWAY`. Nothing happens once the handler has ended."""
        self._broker.cancel(reason)

    def lose_lease(self) -> None:
        """Let the lease's time run out, now: reason `LEASE_LOST`, unless the capability goes on without a lease.

        It is done as a gateway might: the task is delivered again, with no time left. So `ctx.lease_id` is a new one.
        """
        self._broker.lose()

    def shut_down(self) -> None:
        """Stop the neuron, now, as a program that is told to does: reason `SHUTDOWN`, a second for the last words."""
        self._hurry.cancel()

    async def wait_started(self) -> None:
        """Wait until the handler has been called.

        Raises:
            NotCompletedError: it never will be; the message says why.
        """
        await self._wait_for(lambda: self._is_started, "the handler was never called")

    async def wait_progress(self, count: int = 1) -> tuple[Progress, ...]:
        """Wait until progress was reported so many times; return all of it.

        Raises:
            NotCompletedError: the handler has ended before.
        """
        await self._wait_for(lambda: len(self._progress) >= count, f"progress was not reported {count} times")
        return self.progress

    async def result(self) -> HandlerResult:
        """Wait until the handler has ended, and its neuron with it."""
        while not self._is_over:
            await self._changed.wait()
        assert self.outcome is not None
        ran = [event.seconds for event in self._events if isinstance(event, LeaseSettled)]
        return HandlerResult(
            outcome=self.outcome,
            exception=self._exception,
            progress=self.progress,
            events=tuple(self._events),
            seconds=(ran[0] if ran else None) or 0.0,
        )

    async def _wait_for(self, condition: Callable[[], bool], otherwise: str) -> None:
        while not condition():
            if self.outcome is not None:
                raise NotCompletedError(f"{otherwise}: {_summary(self.outcome)}") from self._exception
            await self._changed.wait()

    # What the neuron is given

    async def _live(self, opening: Opening, *, task_status: TaskStatus[None]) -> None:
        with self._hurry:
            async with opening:
                task_status.started()
                await self._broker.wait_settled()
        self._is_over = True
        self._changed.notify()

    def _note_event(self, event: Event) -> None:
        self._events.append(event)
        self._changed.notify()

    async def _outermost(self, ctx: LeaseContext, call_next: Callable[[], Awaitable[Any]]) -> Any:
        # Taken at once, updates have no time to be merged.
        ctx._wiring.on_progress = partial(self._note_progress, ctx)  # noqa: SLF001 - no other way to see each
        try:
            return await call_next()
        except BaseException as error:  # pytest's own are no `Exception`s
            cancellations = (HandlerCancelled, anyio.get_cancelled_exc_class())
            if not all(isinstance(leaf, cancellations) for leaf in leaves(error)):
                self._exception = error
            raise

    async def _innermost(self, ctx: LeaseContext, call_next: Callable[[], Awaitable[Any]]) -> Any:  # noqa: ARG002 - a middleware's signature
        self._is_started = True
        self._changed.notify()
        return await call_next()

    def _note_progress(self, ctx: LeaseContext, lease: Lease) -> None:  # noqa: ARG002 - what is told
        progress = ctx.take_progress()
        if progress is not None:
            self._progress.append(progress)
            self._changed.notify()


async def run_handler(
    handler: Capability[..., Any],
    input: Any,  # noqa: A002 - the wire's word
    **options: Unpack[HandlerOptions],
) -> HandlerResult:
    """Run a handler once, to its end.

    It waits as long as the handler takes; bound it with `anyio.fail_after`, or run it in virtual time.

    Args:
        handler: what `@capability` made.
        input: any JSON value, or a struct that stands for one.
        options: see `HandlerOptions`.

    Raises:
        TypeError: `handler` was not made by `@capability`, or there is no such option.
        ValueError: `input` is not JSON, or an option is wrong.
    """
    async with start_handler(handler, input, **options) as run:
        return await run.result()


@asynccontextmanager
async def start_handler(
    handler: Capability[..., Any],
    input: Any,  # noqa: A002 - the wire's word
    **options: Unpack[HandlerOptions],
) -> AsyncGenerator[HandlerRun]:
    """Run a handler beside the block; leaving the block before it has ended shuts it down.

    Args:
        handler: what `@capability` made.
        input: any JSON value, or a struct that stands for one.
        options: see `HandlerOptions`.

    Raises:
        TypeError: `handler` was not made by `@capability`, or there is no such option.
        ValueError: `input` is not JSON, or an option is wrong.
    """
    _check(handler, options)
    broker = OneDelivery(_delivery(handler, input, options))
    run = HandlerRun(broker)

    @asynccontextmanager
    async def lifespan() -> AsyncGenerator[Any]:
        yield options.get("state")

    opening = open_neuron(
        broker,
        neuron_id="neuron-1",
        capabilities=[handler],
        timing=options.get("timing", Timing()),
        lifespan=lifespan,
        middleware=(run._outermost, *options.get("middleware", ()), run._innermost),  # noqa: SLF001 - its own file
        on_event=run._note_event,  # noqa: SLF001 - as above
        logger=options.get("logger"),
    )
    async with body_task_group() as tasks:
        await tasks.start(run._live, opening)  # noqa: SLF001 - as above
        try:
            yield run
        finally:
            run.shut_down()


def _check(handler: object, options: HandlerOptions) -> None:
    if not isinstance(handler, Capability):
        name = getattr(handler, "__name__", type(handler).__name__)
        raise TypeError(f"handler must be made by @capability('namespace/name'); {name} was not")
    known = HandlerOptions.__annotations__
    if unknown := options.keys() - known.keys():
        raise TypeError(f"there is no option {', '.join(sorted(unknown))}; there is {', '.join(known)}")
    ttl: object = options.get("lease_ttl", LEASE_TTL)
    if not isinstance(ttl, int | float) or not 0 <= ttl < math.inf:
        raise ValueError(f"lease_ttl must be a finite number of seconds, 0 or more, not {ttl!r}")
    attempt: object = options.get("attempt", 0)
    if not isinstance(attempt, int) or attempt < 0:
        raise ValueError(f"attempt must be a whole number, 0 for the first, not {attempt!r}")


def _delivery(handler: Capability[..., Any], value: Any, options: HandlerOptions) -> Delivery:
    terms = handler.terms
    user = terms.scope.user if isinstance(terms.scope, OnBehalfOf) else None
    metadata = options.get("metadata")
    task = Task(
        task_id=options.get("task_id", "task-1"),
        workflow_id="workflow-1",
        capability=terms.type,
        attempt=options.get("attempt", 0),
        input=_json("input", value),
        on_behalf_of=options.get("on_behalf_of", user),
        metadata=None if metadata is None else _json_object("metadata", metadata),
    )
    return Delivery(
        id="lease-1",
        task=task,
        time_left=options.get("lease_ttl", terms.lease_ttl or LEASE_TTL),
        input_schema=_json("input_schema", options["input_schema"]) if "input_schema" in options else None,
        output_schema=_json("output_schema", options["output_schema"]) if "output_schema" in options else None,
    )


def _json(name: str, value: Any) -> bytes:
    try:
        return write_json(value)
    except NotJsonError as exc:
        raise ValueError(f"{name} must be JSON, and cannot be written as such: {exc}") from None


def _json_object(name: str, value: Mapping[str, Any]) -> Any:
    text = _json(name, value)
    if not text.startswith(b"{"):
        raise ValueError(f"{name} must be a mapping, which becomes a JSON object, not {type(value).__name__}")
    return read_json(text)


def _frame(outcome: Outcome) -> Ack | Nack:
    return settlement_frame("lease-1", outcome)


def _summary(outcome: Outcome) -> str:
    frame = _frame(outcome)
    return f"{frame.kind} {frame.code}: {frame.reason}" if isinstance(frame, Nack) else "it has completed"
