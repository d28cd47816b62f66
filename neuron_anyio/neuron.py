"""`open_neuron`, and the neuron that it gives."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Required, TypeAlias, TypedDict

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream

from .abc import Broker, Transport
from .capability import Capability
from .config import Limits, Timing
from .drain import drain
from .engine import Engine
from .errors import NeuronError
from .events import Event
from .executor import Middleware
from .listeners import Listeners
from .setup import brokers_for, capabilities_by_type, check_functions, checked_concurrency, checked_neuron_id
from .snapshot import Session, Snapshot
from .supervisor import NOTHING, Supervisor
from .tokens import Auth

if TYPE_CHECKING:
    import httpx

    from .telemetry import NeuronTelemetry, Telemetry

__all__ = ["Gateway", "Lifespan", "Neuron", "NeuronOptions", "Opening", "open_neuron"]

Gateway: TypeAlias = str | Transport | Broker | Sequence[Broker]
Lifespan: TypeAlias = Callable[[], AbstractAsyncContextManager[Any]]


class Neuron:
    """A running neuron. You get one from `open_neuron`; the block is its life.

    Attributes:
        neuron_id: its id.
    """

    def __init__(self, engine: Engine, listeners: Listeners) -> None:
        self.neuron_id: str = engine.neuron_id
        self._engine = engine
        self._listeners = listeners

    @property
    def session(self) -> Session:
        """The session with the (first) broker: its id, and the effective concurrency by type."""
        source = self._engine.sources[0]
        return Session(id=source.session_id, capabilities=dict(source.effective))

    def snapshot(self) -> Snapshot:
        """Return how the neuron stands, frozen."""
        return self._engine.snapshot()

    def blocking_handler(self) -> str | None:
        """Name the handler that blocks the event loop right now (promise H2); None where none does.

        The one method that may be called from any thread: while a handler blocks the loop, no other one answers.
        """
        return self._engine.executor.watchdog.blocking()

    async def update_capability(self, type: str, *, concurrency: int) -> None:  # noqa: A002 - the wire's word
        """Change how many of a type run at once: at once for starts, never stops a running one (promise L5).

        Returns when the change holds here; the brokers are told in the background, until they have taken it.

        Raises:
            KeyError: there is no such capability.
            ValueError: concurrency is not a whole number above 0.
        """
        self._engine.resize(type, concurrency)
        await anyio.lowlevel.checkpoint()

    def events(self, max_buffer: float = 1000) -> MemoryObjectReceiveStream[Event]:
        """Follow the events from now on, to the neuron's end.

        The stream is a context manager: `with neuron.events() as events: async for event in events: ...`.

        Args:
            max_buffer: events kept for a slow reader; more are dropped, with a warning. `math.inf` for no limit.
        """
        return self._listeners.follow(max_buffer)

    async def drain(self) -> None:
        """Take no new work and wait until all that runs has ended and is delivered; the block goes on.

        As on leaving the block, `Timing.drain` bounds it and what takes longer is cut (promise D1).
        """
        await drain(self._engine, self._engine.clock() + self._engine.timing.drain)

    async def wait_ended(self) -> NeuronError | None:
        """Wait until the last word is said; return what ended the neuron, None where it was asked to end.

        A handler that nothing can end holds the block longer (promise D2).
        """
        await self._engine.ended.wait()
        return self._engine.fatal

    def pause(self) -> None:
        """Start no more handlers until `resume`. Running ones go on; what arrives waits."""
        self._engine.ledger.slots.paused = True

    def resume(self) -> None:
        """Start handlers again."""
        self._engine.ledger.slots.paused = False
        self._engine.start_ready(self._engine.clock())

    def __repr__(self) -> str:
        return f"<Neuron {self.neuron_id!r}>"


class Opening(anyio.AsyncContextManagerMixin):
    """A neuron's block, to be entered once: what `open_neuron` returns.

    Attributes:
        neuron: the neuron; `serve` asks it, too, where the block was never entered.
    """

    def __init__(
        self,
        engine: Engine,
        listeners: Listeners,
        *,
        lifespan: Lifespan | None,
        journal: Path | None,
        telemetry: NeuronTelemetry | None = None,
    ) -> None:
        self.neuron: Neuron = Neuron(engine, listeners)
        self._engine = engine
        self._lifespan = lifespan
        self._journal = journal
        self._telemetry = telemetry

    def __asynccontextmanager__(self) -> AbstractAsyncContextManager[Neuron]:
        if self._engine.stopped:
            raise RuntimeError("this neuron has ended; call open_neuron again for another")
        watching = NOTHING if self._telemetry is None else self._telemetry.watching(self.neuron)
        return Supervisor(
            self._engine, self.neuron, lifespan=self._lifespan, journal=self._journal, watching=watching
        ).running()


class NeuronOptions(TypedDict, total=False):
    """What `open_neuron` takes besides the gateway, by name."""

    neuron_id: Required[str]
    capabilities: Required[Sequence[Capability[..., Any]]]
    auth: Auth | None
    timing: Timing
    limits: Limits
    journal: str | os.PathLike[str] | None
    lifespan: Lifespan | None
    middleware: Sequence[Middleware]
    max_concurrency: int | None
    on_event: Callable[[Event], None] | None
    http_client: httpx.AsyncClient | None
    logger: logging.Logger | None
    telemetry: Telemetry | None


def open_neuron(
    gateway: Gateway,
    *,
    neuron_id: str,
    capabilities: Sequence[Capability[..., Any]],
    auth: Auth | None = None,
    timing: Timing = Timing(),  # noqa: B008 - frozen
    limits: Limits = Limits(),  # noqa: B008 - frozen
    journal: str | os.PathLike[str] | None = None,
    lifespan: Lifespan | None = None,
    middleware: Sequence[Middleware] = (),
    max_concurrency: int | None = None,
    on_event: Callable[[Event], None] | None = None,
    http_client: httpx.AsyncClient | None = None,
    logger: logging.Logger | None = None,
    telemetry: Telemetry | None = None,
) -> Opening:
    """Connect a neuron and run its handlers while the block runs.

    Entering ends when the gateway has accepted the neuron (promise C1); bound it with `anyio.fail_after`. Leaving
    drains within `timing.drain` (D1); cancelling does not wait longer than two seconds (D3).

    Args:
        gateway: base URL; or a `Transport`; or a `Broker`, or several that share this neuron's slots.
        neuron_id: stable per process or device.
        capabilities: what `@capability` made.
        auth: a token, a callable that returns one, or a token source.
        timing: times, in seconds.
        limits: bounds.
        journal: path of the file that keeps results until they are accepted, over the death of the process (L10); its
            folder must exist.
        lifespan: async context manager factory; what it yields is `ctx.state`.
        middleware: round every handler, the first outermost.
        max_concurrency: handlers over all capabilities.
        on_event: called for every event from the first one; must not block.
        http_client: an `httpx.AsyncClient` of yours, not closed here.
        logger: default `neuron_anyio`.
        telemetry: spans and metrics for OpenTelemetry, a `neuron_anyio.telemetry.Telemetry`.

    Raises:
        ValueError, TypeError: an argument is wrong.
        NeuronError: one of its children, alone and never in a group: the gateway will not have this neuron (C2, C4).
            What the body raises comes out as it is.
    """
    log = logging.getLogger("neuron_anyio") if logger is None else logger
    by_type = capabilities_by_type(capabilities)
    check_functions(lifespan=lifespan, middleware=middleware, on_event=on_event)
    brokers = brokers_for(gateway, auth=auth, http_client=http_client, timing=timing, limits=limits, log=log)
    spans = None
    if telemetry is not None:
        spans = telemetry.instrument(neuron_id, log=log, on_event=on_event)
        middleware, on_event = (spans.middleware, *middleware), spans.on_event
    listeners = Listeners(on_event, origins=[broker.origin for broker in brokers], log=log)
    engine = Engine(
        neuron_id=checked_neuron_id(neuron_id),
        capabilities=by_type,
        brokers=brokers,
        timing=timing,
        limits=limits,
        max_concurrency=checked_concurrency(max_concurrency),
        middleware=tuple(middleware),
        listeners=listeners,
        log=log,
    )
    if spans is not None:
        engine.executor.processes.carried = spans.carried
    file = None if journal is None else Path(journal)
    return Opening(engine, listeners, lifespan=lifespan, journal=file, telemetry=spans)
