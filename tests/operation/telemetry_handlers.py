"""Handlers for the tests of telemetry that worker processes find by their names."""

from __future__ import annotations

import sys
from typing import Any

from neuron_anyio import capability

__all__ = ["loads_nothing", "where_there"]


@capability("test/where-there", runs="process")
def where_there(value: Any) -> dict[str, str]:
    from opentelemetry import baggage, trace

    current = trace.get_current_span().get_span_context()
    return {
        "trace": f"{current.trace_id:032x}",
        "span": f"{current.span_id:016x}",
        "user": str(baggage.get_baggage("user")),
    }


@capability("test/loads-nothing", runs="process")
def loads_nothing(value: Any) -> bool:
    return not any(name.startswith("opentelemetry") for name in sys.modules)
