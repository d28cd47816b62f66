"""What OpenTelemetry knows of a task's caller: read from the task's metadata, carried on into a worker process.

Needs the extra `otel`.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, cast

try:
    from opentelemetry import baggage, context, propagate, trace
    from opentelemetry.baggage.propagation import W3CBaggagePropagator
    from opentelemetry.context import Context
    from opentelemetry.propagators.composite import CompositePropagator
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
except ImportError as _missing:
    remedy = "pip install 'neuron-anyio[otel]'"
    raise ImportError(
        f"telemetry needs opentelemetry-api, which is not installed: {remedy}", name=_missing.name
    ) from _missing

__all__ = ["carried", "carrier_of", "context_of", "resumed"]

NESTED = frozenset(
    {"headers", "carrier", "otel", "opentelemetry", "telemetry", "propagation", "trace", "tracing", "tracecontext"}
)
"""Members of a task's metadata in which callers put what would be headers elsewhere."""

LONGEST = 8192
"""Characters of one value; the W3C bounds all of the baggage so."""

_BETWEEN_PROCESSES = CompositePropagator([TraceContextTextMapPropagator(), W3CBaggagePropagator()])
"""Both ends are ours, so the choice for the outside does not matter here."""


def carrier_of(metadata: Mapping[str, Any] | None) -> dict[str, str]:
    """Return what of a task's metadata may be headers, with names in lower case.

    Its own members go before those of the members in `NESTED`; a list counts with its first item.
    """
    found: dict[str, str] = {}
    if not metadata:
        return found
    found.update(_headers(metadata))
    for name, value in metadata.items():
        if isinstance(value, Mapping) and name.lower().replace("_", "").replace("-", "") in NESTED:
            for header, text in _headers(cast("Mapping[Any, Any]", value)):
                found.setdefault(header, text)
    return found


def _headers(members: Mapping[Any, Any]) -> Iterator[tuple[str, str]]:
    for name, value in members.items():
        values = cast("list[Any]", value) if isinstance(value, list) else [value]
        text: Any = values[0] if values else None
        if isinstance(text, str) and len(text) <= LONGEST:
            yield str(name).lower(), text


def context_of(metadata: Mapping[str, Any] | None) -> Context:
    """Return the context that a task's caller was in, by the global propagator; an empty one where none is told.

    Nothing of the current context is in it: that is of whatever started the neuron, or settled the last lease.
    """
    carrier = carrier_of(metadata)
    return propagate.extract(carrier, context=Context()) if carrier else Context()


def carried() -> Mapping[str, str]:
    """Return the current context for `resumed`."""
    found: dict[str, str] = {}
    if trace.get_current_span().get_span_context().is_valid or baggage.get_all():
        _BETWEEN_PROCESSES.inject(found)
    return found


@contextmanager
def resumed(carrier: Mapping[str, str]) -> Generator[None]:
    """Make current, while the block runs, what was current in another process."""
    token = context.attach(_BETWEEN_PROCESSES.extract(carrier, context=Context()))
    try:
        yield
    finally:
        context.detach(token)
