"""OpenTelemetry: a span for each run of a handler, and metrics. Needs the extra `otel`; the SDK is the program's own.

    async with open_neuron(url, neuron_id="worker-1", capabilities=[fetch], telemetry=Telemetry()): ...

Names are those of the semantic conventions for messaging; what these have no word for begins with `neuron.`. Neither
spans nor metrics have an input or an output in them (promise C9).
"""

from __future__ import annotations

import logging
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable, Container, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final

import anyio

from . import events
from .context import LeaseContext, NeuronHandle
from .logs import named
from .model import Failed
from .snapshot import Snapshot
from .taskgroups import body_task_group
from .telemetry_context import carried, context_of
from .telemetry_words import Attributes, said_of_error, said_of_outcome, server_of

# isort: split
# After the import above, which says what is missing where these are.
from opentelemetry import context, metrics, trace
from opentelemetry.context import Context
from opentelemetry.metrics import CallbackOptions, Observation
from opentelemetry.trace import Link, SpanKind, StatusCode

__all__ = ["NeuronTelemetry", "Telemetry", "has_sdk"]

EVERY: Final = 1.0
"""Seconds between two looks at the neuron, for the gauges."""

BUCKETS: Final = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
"""Seconds; the conventions' own."""


class Telemetry:
    """What `open_neuron` and `serve` take as `telemetry`; one may serve several neurons.

    Args:
        tracer_provider: default the global one.
        meter_provider: default the global one.
        system: `messaging.system`, for brokers that are no BigBrain.
        exception_messages: whether spans have the messages of handlers' exceptions, which may quote an input.

    Raises:
        ImportError: raised by the import of this module: opentelemetry-api is missing.
    """

    def __init__(
        self,
        tracer_provider: trace.TracerProvider | None = None,
        meter_provider: metrics.MeterProvider | None = None,
        *,
        system: str = "bigbrain",
        exception_messages: bool = False,
    ) -> None:
        self.system: str = system
        self.exception_messages: bool = exception_messages
        self.tracer: trace.Tracer = trace.get_tracer("neuron_anyio", tracer_provider=tracer_provider)
        meter = metrics.get_meter("neuron_anyio", meter_provider=meter_provider)
        self.processed: metrics.Histogram = meter.create_histogram(
            "messaging.process.duration", "s", "How long handlers ran.", explicit_bucket_boundaries_advisory=BUCKETS
        )
        self.settled: metrics.Histogram = meter.create_histogram(
            "messaging.client.operation.duration",
            "s",
            "From the decision how a lease ends to the broker's word on it.",
            explicit_bucket_boundaries_advisory=BUCKETS,
        )
        self.consumed: metrics.Counter = meter.create_counter(
            "messaging.client.consumed.messages", "{message}", "Leases that were taken into the book."
        )
        self.leases: metrics.Counter = meter.create_counter(
            "neuron.leases", "{lease}", "Leases that were settled, by outcome."
        )
        self._neurons: list[NeuronTelemetry] = []
        self._create_gauges(meter)

    def _create_gauges(self, meter: metrics.Meter) -> None:
        gauges: tuple[tuple[str, str, str, Callable[[NeuronTelemetry], Iterable[Observation]]], ...] = (
            ("neuron.slots", "{handler}", "Handlers that may run at once.", lambda one: one.by_type("limit")),
            ("neuron.running", "{handler}", "Handlers that run.", lambda one: one.by_type("running")),
            ("neuron.queued", "{lease}", "Leases that wait for a slot.", lambda one: one.by_type("queued")),
            ("neuron.undelivered", "{result}", "Results that nobody has taken yet.", NeuronTelemetry.undelivered),
            ("neuron.loop.lag", "s", "How late the event loop was.", NeuronTelemetry.late),
        )
        for name, unit, text, seen in gauges:

            def observe(
                _: CallbackOptions, seen: Callable[[NeuronTelemetry], Iterable[Observation]] = seen
            ) -> Iterable[Observation]:
                return [each for one in list(self._neurons) for each in seen(one)]

            meter.create_observable_gauge(name, [observe], unit, text)

    def instrument(
        self, neuron_id: str, *, log: logging.Logger, on_event: Callable[[events.Event], None] | None = None
    ) -> NeuronTelemetry:
        """Return what one neuron needs. `open_neuron` calls it.

        Args:
            neuron_id: its id, `messaging.client.id`.
            log: its logger, for what goes wrong with telemetry itself.
            on_event: told every event, too.
        """
        return NeuronTelemetry(self, neuron_id, log=log, on_event=on_event)

    @asynccontextmanager
    async def watching(self, instrument: NeuronTelemetry, neuron: NeuronHandle) -> AsyncGenerator[None]:
        """Show a neuron's gauges while the block runs."""
        async with body_task_group() as tasks:
            instrument.look(neuron)
            self._neurons.append(instrument)
            tasks.start_soon(instrument.watch, neuron)
            try:
                yield
            finally:
                self._neurons.remove(instrument)
                instrument.end_all()
            tasks.cancel_scope.cancel()

    def __repr__(self) -> str:
        return f"Telemetry(system={self.system!r})"


class _Run:
    """One run of a handler, and its span."""

    __slots__ = ("context", "key", "lease", "span")

    def __init__(self, lease: LeaseContext, span: trace.Span, current: Context) -> None:
        self.lease = lease
        self.span = span
        self.context = current
        self.key = (lease.origin, lease.lease_id)


class NeuronTelemetry:
    """The spans and metrics of one neuron. Made by `Telemetry.instrument`."""

    __slots__ = (
        "_capabilities",
        "_clock",
        "_lag",
        "_log",
        "_neuron_id",
        "_on_event",
        "_runs",
        "_seen",
        "_servers",
        "_telemetry",
    )

    def __init__(
        self,
        telemetry: Telemetry,
        neuron_id: str,
        *,
        log: logging.Logger,
        on_event: Callable[[events.Event], None] | None,
    ) -> None:
        self._telemetry = telemetry
        self._neuron_id = neuron_id
        self._log = log
        self._on_event = on_event
        self._runs: dict[tuple[str, str], _Run] = {}
        self._servers: dict[str, Attributes] = {}
        self._seen: Snapshot | None = None
        self._capabilities: Container[str] = frozenset()
        self._clock: tuple[int, NeuronHandle] | None = None
        self._lag = 0.0

    def carried(self) -> Mapping[str, str]:
        """Return the current context for a worker process."""
        return carried()

    def watching(self, neuron: NeuronHandle) -> Any:
        """Return the block in which the neuron lives."""
        return self._telemetry.watching(self, neuron)

    # Spans

    async def middleware(self, ctx: LeaseContext, call_next: Callable[[], Awaitable[Any]]) -> Any:
        """Run a handler, and the middleware below, in a span of their own; it ends when the outcome is decided."""
        run = self._begin(ctx)
        if run is None:
            return await call_next()
        token = context.attach(run.context)
        try:
            return await call_next()
        except Exception as exc:
            self._raised(run, exc)
            raise
        finally:
            context.detach(token)
            self._note_newest_id(run)

    def _begin(self, ctx: LeaseContext) -> _Run | None:
        try:
            caller = context_of(ctx.task.metadata)
            creator = trace.get_current_span(caller).get_span_context()
            span = self._telemetry.tracer.start_span(
                f"process {ctx.task.capability}",
                context=caller,
                kind=SpanKind.CONSUMER,
                attributes=self._described(ctx),
                links=[Link(creator)] if creator.is_valid else None,
                record_exception=False,
                set_status_on_exception=False,
            )
        except Exception:  # a sampler or a span processor of the program's own may raise; the task is not to blame
            line = named("telemetry.broken", neuron_id=self._neuron_id)
            self._log.exception("no span for lease %s", ctx.lease_id, extra=line)
            return None
        run = _Run(ctx, span, trace.set_span_in_context(span, caller))
        self._runs[run.key] = run
        return run

    def _described(self, ctx: LeaseContext) -> Attributes:
        task = ctx.task
        return {
            **self._operation(ctx.origin, task.capability, "process"),
            "messaging.operation.type": "process",
            "messaging.client.id": self._neuron_id,
            "messaging.message.id": ctx.lease_id,
            "messaging.message.conversation_id": task.workflow_id,
            "neuron.task.id": task.task_id,
            "neuron.task.attempt": task.attempt,
        }

    def _raised(self, run: _Run, error: Exception) -> None:
        if run.span.is_recording():
            said = said_of_error(error, with_message=self._telemetry.exception_messages)
            run.span.add_event("exception", said)

    def _note_newest_id(self, run: _Run) -> None:
        """Find the run under its lease's newest id (promise L3.4), which the outcome will have."""
        newest = (run.key[0], run.lease.lease_id)
        if newest != run.key and self._runs.pop(run.key, None) is not None:
            run.key = newest
            self._runs[newest] = run

    def _run_of(self, event: events.LeaseSettled) -> _Run | None:
        run = self._runs.pop((event.origin, event.lease_id), None)
        if run is None and event.seconds is not None:
            # A handler that was left behind: it runs on, and its lease may have a newer id than the run began with.
            newest = (event.origin, event.lease_id)
            run = next((each for each in self._runs.values() if (each.key[0], each.lease.lease_id) == newest), None)
            if run is not None:
                del self._runs[run.key]
        return run

    def end_all(self) -> None:
        """End the spans of handlers whose outcome nobody will decide any more."""
        for run in self._runs.values():
            run.span.end()
        self._runs.clear()

    # Events

    def on_event(self, event: events.Event) -> None:
        """Take an event of the neuron, and pass it on."""
        try:
            match event:
                case events.LeaseAdmitted():
                    self._telemetry.consumed.add(1, self._operation(event.origin, event.capability, "receive"))
                case events.LeaseSettled():
                    self._settled(event)
                case events.ResultAccepted():
                    self._answered(event)
                case events.ResultRejected():
                    self._answered(event, error="result_rejected")
                case _:
                    pass
        finally:
            if self._on_event is not None:
                self._on_event(event)

    def _settled(self, event: events.LeaseSettled) -> None:
        told = said_of_outcome(event.outcome)
        run = self._run_of(event)
        about = {**self._operation(event.origin, event.capability, "process"), **told}
        self._telemetry.leases.add(1, about)
        if event.seconds is not None:
            self._telemetry.processed.record(event.seconds, about, None if run is None else run.context)
        if run is None:
            return
        run.span.set_attributes({**told, "messaging.message.id": event.lease_id})
        if (reason := run.lease.cancel_reason) is not None:
            run.span.set_attribute("neuron.cancel_reason", reason.value)
        if isinstance(event.outcome, Failed):
            run.span.set_status(StatusCode.ERROR, event.outcome.kind.value)
        run.span.end()

    def _answered(self, event: events.ResultAccepted | events.ResultRejected, error: str | None = None) -> None:
        if event.seconds is None:
            return
        about = self._operation(event.origin, event.capability, "settle") | {"messaging.operation.type": "settle"}
        if error is not None:
            about["error.type"] = error
        self._telemetry.settled.record(event.seconds, about)

    def _operation(self, origin: str, capability: str, name: str) -> Attributes:
        server = self._servers.get(origin)
        if server is None:
            server = self._servers[origin] = server_of(origin)
        return {
            "messaging.system": self._telemetry.system,
            "messaging.operation.name": name,
            # Whoever sends leases names capabilities; only ours are so few that metrics may have them.
            **({"messaging.destination.name": capability} if capability in self._capabilities else {}),
            **server,
        }

    # Gauges

    async def watch(self, neuron: NeuronHandle) -> None:
        """Look at the neuron until cancelled."""
        while True:
            due = anyio.current_time() + EVERY
            await anyio.sleep_until(due)
            self._lag = max(0.0, anyio.current_time() - due)
            self.look(neuron)

    def look(self, neuron: NeuronHandle) -> None:
        """Keep how the neuron stands, for other threads. In the loop's thread."""
        self._clock = (threading.get_ident(), neuron)
        self._seen = neuron.snapshot()
        self._capabilities = self._seen.capabilities.keys()

    def by_type(self, member: str) -> Iterator[Observation]:
        """Observe a number of each capability."""
        for name, state in self._latest().capabilities.items():
            yield Observation(getattr(state, member), {**self._who(), "messaging.destination.name": name})

    def undelivered(self) -> Iterator[Observation]:
        """Observe the results that nobody has taken."""
        yield Observation(self._latest().undelivered, self._who())

    def late(self) -> Iterator[Observation]:
        """Observe how late the event loop was."""
        yield Observation(self._lag, self._who())

    def _who(self) -> Attributes:
        return {"messaging.system": self._telemetry.system, "messaging.client.id": self._neuron_id}

    def _latest(self) -> Snapshot:
        assert self._seen is not None
        assert self._clock is not None
        thread, neuron = self._clock
        # Only the loop's own thread may ask the neuron; others have what it kept last.
        return neuron.snapshot() if thread == threading.get_ident() else self._seen


def has_sdk() -> bool:
    """Return whether anybody has set up tracing for this process, or metrics."""
    by_default = type(metrics.get_meter_provider()).__module__.startswith("opentelemetry.metrics")
    return not by_default or not isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider)
