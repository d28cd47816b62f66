"""What a handler sees of its lease."""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Callable, Generator, Sequence
from typing import Any, NoReturn, Protocol, TypeVar, TypeVarTuple, Unpack

import anyio
from anyio import from_thread
from anyio.lowlevel import EventLoopToken

from .errors import HandlerCancelled, RetryableFailure, TerminalFailure
from .jsontext import write_json
from .lease import Lease
from .logs import LeaseLogger, named
from .model import CancelReason, Progress, Task
from .snapshot import Snapshot

__all__ = ["LeaseContext", "NeuronHandle", "Wiring"]

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class NeuronHandle(Protocol):
    """The neuron, as its handlers may use it: a `Neuron`."""

    @property
    def neuron_id(self) -> str:
        """Its id."""
        ...

    def snapshot(self) -> Snapshot:
        """Return how it stands."""
        ...

    async def update_capability(self, type: str, *, concurrency: int) -> None:  # noqa: A002 - the wire's word
        """Change how many of a type run at once."""
        ...

    def pause(self) -> None:
        """Start no more handlers until `resume`."""
        ...

    def resume(self) -> None:
        """Start handlers again."""
        ...


class _Nothing:
    """What a plain call returns so that it may be awaited all the same."""

    __slots__ = ()

    def __await__(self) -> Generator[Any, None, None]:
        return
        yield  # pragma: no cover - makes this a generator


_NOTHING = _Nothing()


class Wiring:
    """What all contexts of one neuron share.

    Attributes:
        neuron: the neuron.
        state: what the lifespan yielded, None without one.
        log: the neuron's logger.
        clock: seconds, monotonic.
        on_progress: told that a lease has progress to send; in the loop's thread.
        token: the loop, for threads.
        origins: names of the brokers, by number.
        thread_id: the loop's thread.
    """

    __slots__ = ("clock", "log", "neuron", "on_progress", "origins", "state", "thread_id", "token")

    def __init__(
        self,
        *,
        neuron: NeuronHandle,
        state: Any,
        log: logging.Logger,
        clock: Callable[[], float],
        on_progress: Callable[[Lease], None],
        token: EventLoopToken,
        origins: Sequence[str] = ("",),
    ) -> None:
        self.neuron: NeuronHandle = neuron
        self.state: Any = state
        self.log: logging.Logger = log
        self.clock: Callable[[], float] = clock
        self.on_progress: Callable[[Lease], None] = on_progress
        self.token: EventLoopToken = token
        self.origins: Sequence[str] = origins
        self.thread_id: int = threading.get_ident()

    def in_loop(self, function: Callable[[Unpack[Ts]], T], *arguments: *Ts) -> T:
        """Call a function in the loop's thread, from whichever thread this is.

        Raises:
            RuntimeError, RunFinishedError: the loop has gone.
        """
        if threading.get_ident() == self.thread_id:
            return function(*arguments)
        return from_thread.run_sync(function, *arguments, token=self.token)


class LeaseContext:
    """One running lease, as its handler sees it. Everything but `wait_cancelled` may be called from any thread."""

    __slots__ = (
        "_cancelled",
        "_clamp_warned",
        "_data",
        "_has_progress",
        "_is_cut",
        "_lease",
        "_lock",
        "_log",
        "_message",
        "_new_percent",
        "_percent",
        "_task",
        "_verdict",
        "_wiring",
    )

    def __init__(self, lease: Lease, wiring: Wiring) -> None:
        self._lease = lease
        self._wiring = wiring
        self._task = lease.delivery.task
        self._cancelled: anyio.Event | None = None
        self._lock = threading.Lock()
        self._has_progress = False
        self._new_percent: float | None = None
        self._message: str | None = None
        self._data: bytes | None = None
        self._percent: float | None = None
        self._clamp_warned = False
        self._is_cut = False
        self._verdict: TerminalFailure | RetryableFailure | None = None
        self._log: logging.LoggerAdapter[logging.Logger] | None = None

    @property
    def log(self) -> logging.LoggerAdapter[logging.Logger]:
        """A logger whose lines carry what names the lease."""
        if self._log is None:  # made where it is asked for: most handlers log nothing
            self._log = LeaseLogger(self._wiring.log, self._lease, origin=self.origin)
        return self._log

    @property
    def task(self) -> Task:
        """The task: ids, attempt, user, metadata, and the input as JSON text."""
        return self._task

    @property
    def lease_id(self) -> str:
        """The lease's newest id (promise L3.4)."""
        return self._lease.delivery.id

    @property
    def origin(self) -> str:
        """The broker that the lease came from, `scheme://host:port` for a gateway."""
        return self._wiring.origins[self._lease.source]

    @property
    def attempt(self) -> int:
        """How often the task was tried before; 0 the first time."""
        return self._lease.delivery.task.attempt

    @property
    def idempotency_key(self) -> str:
        """The same for every delivery of this task, different for every task."""
        return f"{self._task.workflow_id}/{self._task.task_id}"

    @property
    def state(self) -> Any:
        """What the neuron's lifespan yielded, None without one."""
        return self._wiring.state

    @property
    def neuron(self) -> NeuronHandle:
        """The neuron that runs this."""
        return self._wiring.neuron

    def time_left(self) -> float:
        """Return the seconds until the lease expires; heartbeats renew it. `math.inf` where there is no expiry."""
        left = self._lease.time_left(self._wiring.in_loop(self._wiring.clock))
        return math.inf if left is None else left

    @property
    def cancelled(self) -> bool:
        """Whether the handler should stop."""
        return self._is_cut or self._lease.cancel_reason is not None

    @property
    def cancel_reason(self) -> CancelReason | None:
        """Why it should stop; None while it should not, and where a middleware's own scope has cancelled a thread."""
        return self._lease.cancel_reason

    async def wait_cancelled(self) -> CancelReason:
        """Wait until the handler should stop; return why. For handlers that shield themselves."""
        while self._lease.cancel_reason is None:
            if self._cancelled is None:
                self._cancelled = anyio.Event()
            await self._cancelled.wait()
        return self._lease.cancel_reason

    def check_cancelled(self) -> None:
        """Return at once, or raise where the handler should stop. For threads, which cannot be cancelled from outside.

        `anyio.from_thread.check_cancelled()` does the same in a thread.

        Raises:
            HandlerCancelled: a `BaseException`; let it pass.
        """
        if self.cancelled:
            reason = self._lease.cancel_reason
            raise HandlerCancelled("middleware" if reason is None else reason.value)

    def progress(self, *, percent: float | None = None, message: str | None = None, data: Any = None) -> _Nothing:
        """Say how far the work is; returns at once and never fails (promise H3).

        Calls that come faster than they can be sent are merged, the newest of each member wins. The result may be
        awaited, which does nothing.

        Args:
            percent: 0 to 100; outside it is clamped, with one warning.
            message: a line for people.
            data: any JSON value.
        """
        try:
            if percent is not None:
                percent = float(percent)
                if not 0 <= percent <= 100:  # noqa: PLR2004 - percent
                    percent = self._clamped(percent)
            if message is not None and not (type(message) is str and message.isascii()):
                message = str(message).encode("utf-8", "replace").decode()
            text = None if data is None else write_json(data)
        except Exception as exc:  # an object's own methods may raise anything
            line = named("progress.unsendable")
            self.log.warning("progress of lease %s not sent: %s", self.lease_id, type(exc).__name__, extra=line)
            return _NOTHING
        with self._lock:
            is_first, self._has_progress = not self._has_progress, True
            if percent is not None:
                self._percent = self._new_percent = percent
            if message is not None:
                self._message = message
            if text is not None:
                self._data = text
        if is_first:
            self._announce_progress()
        return _NOTHING

    def fail(self, reason: str = "", code: str | None = None, details: Any = None) -> NoReturn:
        """Settle: the task can never succeed (promise L11.2). The first verdict stands, even if it is swallowed.

        Raises:
            TerminalFailure: always.
        """
        raise self._settle(TerminalFailure(reason, code=code, details=details))

    def retry(self, reason: str = "", code: str | None = None, after: float | None = None) -> NoReturn:
        """Settle: this try failed, another may succeed (promise L11.3).

        Args:
            reason: a line for people.
            code: default `HANDLER_RETRY`.
            after: seconds to wait before the next try.

        Raises:
            RetryableFailure: always.
        """
        raise self._settle(RetryableFailure(reason, code=code, after=after))

    def __repr__(self) -> str:
        return f"<LeaseContext of {self._lease!r}>"

    # For the executor, the courier and the snapshot

    @property
    def percent(self) -> float | None:
        """How far the handler last said that the work is, 0 to 100; None before it has."""
        return self._percent

    def take_verdict(self) -> TerminalFailure | RetryableFailure | None:
        """Return what the handler settled by `fail` or `retry` before it was told to stop, and forget it.

        The exception knows the handler's frames, and they this context: a circle.
        """
        verdict, self._verdict = self._verdict, None
        return verdict

    @property
    def has_progress(self) -> bool:
        """Whether there is progress that was not sent yet."""
        return self._has_progress

    def take_progress(self) -> Progress | None:
        """Return what was not sent yet, and forget it."""
        with self._lock:
            if not self._has_progress:
                return None
            progress = Progress(percent=self._new_percent, message=self._message, data=self._data)
            self._has_progress, self._new_percent, self._message, self._data = False, None, None, None
        return progress

    def tell_cancelled(self) -> None:
        """Wake `wait_cancelled`. In the loop's thread."""
        if self._cancelled is not None:
            self._cancelled.set()

    def tell_thread(self, *, to_stop: bool) -> None:
        """Let the handler's thread know whether anybody waits for more than its end. In the loop's thread."""
        self._is_cut = to_stop

    def _settle(self, verdict: TerminalFailure | RetryableFailure) -> TerminalFailure | RetryableFailure:
        if self._verdict is None and self._lease.cancel_reason is None:
            self._verdict = verdict
        return verdict

    def _clamped(self, percent: float) -> float:
        if not self._clamp_warned:
            self._clamp_warned = True
            line = named("progress.clamped")
            self.log.warning("progress of lease %s: percent must be 0 to 100; clamped", self.lease_id, extra=line)
        return 0.0 if not percent > 0 else 100.0

    def _announce_progress(self) -> None:
        try:
            self._wiring.in_loop(self._wiring.on_progress, self._lease)
        except (RuntimeError, anyio.RunFinishedError):
            # The loop has gone: an abandoned thread outlived its neuron.
            self.log.debug("progress of lease %s came after the end", self.lease_id, extra=named("progress.late"))
