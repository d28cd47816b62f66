"""An OpenTelemetry SDK in memory, and what it has seen."""

from __future__ import annotations

from typing import Any

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader, NumberDataPoint
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from neuron_anyio.telemetry import Telemetry

__all__ = ["BAGGAGE", "PARENT", "SPAN", "TRACE", "Sdk"]

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
PARENT = f"00-{TRACE}-{SPAN}-01"
BAGGAGE = "user=ann"


class Sdk:
    """One SDK. `telemetry` is what a neuron is given."""

    def __init__(self, **options: Any) -> None:
        self.exporter = InMemorySpanExporter()
        self.tracers = TracerProvider(shutdown_on_exit=False)
        self.tracers.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.reader = InMemoryMetricReader()
        self.meters = MeterProvider(metric_readers=[self.reader], shutdown_on_exit=False)
        self.telemetry = Telemetry(self.tracers, self.meters, **options)

    def spans(self) -> list[ReadableSpan]:
        """Return the spans that have ended, without those that handlers made."""
        return [span for span in self.exporter.get_finished_spans() if span.name.startswith("process ")]

    def span(self) -> ReadableSpan:
        """Return the only one."""
        (span,) = self.spans()
        return span

    def points(self, name: str) -> list[tuple[dict[str, Any], float]]:
        """Return the attributes of a metric's points, and their values: the count, where it is a histogram."""
        data = self.reader.get_metrics_data()
        return [
            (dict(point.attributes or {}), point.value if isinstance(point, NumberDataPoint) else point.count)
            for resource in ([] if data is None else data.resource_metrics)
            for scope in resource.scope_metrics
            for metric in scope.metrics
            if metric.name == name
            for point in metric.data.data_points
        ]

    def said(self) -> str:
        """Return all that spans and metrics say."""
        data = self.reader.get_metrics_data()
        spans = "".join(span.to_json() for span in self.exporter.get_finished_spans())
        return spans + ("" if data is None else str(data.to_json()))
