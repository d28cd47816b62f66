"""The option for OpenTelemetry."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import click

from neuron_anyio.logs import named

from .problems import Wrong

if TYPE_CHECKING:
    from neuron_anyio.telemetry import Telemetry

__all__ = ["TELEMETRY", "chosen_telemetry"]

TELEMETRY = click.option(
    "--telemetry",
    is_flag=True,
    help="Spans and metrics for OpenTelemetry, whose SDK MODULE sets up, or opentelemetry-instrument.",
)


def chosen_telemetry(*, asked: bool) -> Telemetry | None:
    """Return what `serve` is given; after the module is loaded, which may set up the SDK.

    Raises:
        Wrong: the extra is missing.
    """
    if not asked:
        return None
    try:
        from neuron_anyio.telemetry import Telemetry, has_sdk  # noqa: PLC0415 - an extra, for those who ask for it
    except ImportError as exc:
        raise Wrong(f"--telemetry: {exc}") from None
    if not has_sdk():
        text = "no OpenTelemetry SDK is set up, so --telemetry shows nothing; run under opentelemetry-instrument"
        logging.getLogger("neuron_anyio").warning(text, extra=named("telemetry.no_sdk"))
    return Telemetry()
