"""The package with one choice. `python -m benchmarks.chosen CHOICE URL WINDOW WARM_UP LEASES`, on asyncio.

CHOICE is one of `benchmarks.rows.choices.CHOICES`. What a choice needs is imported for it alone.
"""

from __future__ import annotations

import os
import ssl
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import anyio
import msgspec

from neuron_anyio import Capability, LeaseContext, capability, open_neuron
from neuron_anyio.executor import Middleware
from neuron_anyio.transports.http import HttpTransport

from .meter import Meter, report

__all__: list[str] = []

CAPABILITY = "bench/page"


class Page(msgspec.Struct):
    url: str
    body: str


class Fetched(msgspec.Struct):
    status: int
    body: str


@capability(CAPABILITY)
def in_thread(page: dict[str, Any]) -> dict[str, Any]:
    return {"status": 200, "body": page["body"]}


@capability(CAPABILITY, runs="process")
def in_process(page: dict[str, Any]) -> dict[str, Any]:
    return {"status": 200, "body": page["body"]}


def _typed(page_type: type[Any], fetched_type: type[Any], count: Callable[[], None]) -> Capability[..., Any]:
    async def fetch(page: Any) -> Any:
        count()
        return fetched_type(status=200, body=page.body)

    fetch.__annotations__ = {"page": page_type, "return": fetched_type}
    return capability(CAPABILITY)(fetch)


def _handler(choice: str, count: Callable[[], None]) -> Capability[..., Any]:
    """Return what runs a lease. Those in a thread or a process do not count: a middleware does."""

    @capability(CAPABILITY)
    async def fetch(page: dict[str, Any]) -> dict[str, Any]:
        count()
        return {"status": 200, "body": page["body"]}

    match choice:
        case "typed":
            return _typed(Page, Fetched, count)
        case "pydantic":
            from pydantic import create_model  # noqa: PLC0415 - see the module's docstring

            page, fetched = create_model("Page", url=str, body=str), create_model("Fetched", status=int, body=str)
            return _typed(page, fetched, count)
        case "thread":
            return in_thread
        case "process":
            return in_process
        case _:
            return fetch


def _telemetry(stack: AsyncExitStack) -> Any:
    """Return telemetry that makes spans and metrics in full, and hands the spans to an exporter that drops them."""
    from opentelemetry.sdk.metrics import MeterProvider  # noqa: PLC0415 - see the module's docstring
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader  # noqa: PLC0415 - as above
    from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415 - as above
    from opentelemetry.sdk.trace.export import (  # noqa: PLC0415 - as above
        BatchSpanProcessor,
        SpanExporter,
        SpanExportResult,
    )

    from neuron_anyio.telemetry import Telemetry  # noqa: PLC0415 - as above

    class Nowhere(SpanExporter):
        def export(self, spans: object) -> SpanExportResult:  # noqa: ARG002 - the SDK hands them over
            return SpanExportResult.SUCCESS

    traces, meters = TracerProvider(), MeterProvider([InMemoryMetricReader()])
    traces.add_span_processor(BatchSpanProcessor(Nowhere()))
    stack.callback(traces.shutdown)
    stack.callback(meters.shutdown)
    return Telemetry(traces, meters)


async def _client(choice: str, stack: AsyncExitStack) -> Any:
    import httpx  # noqa: PLC0415 - see the module's docstring

    settings: dict[str, dict[str, Any]] = {
        "client": {},
        "client-tls": {"verify": ssl.create_default_context()},
        "http2": {"http1": False, "http2": True},
    }
    return await stack.enter_async_context(httpx.AsyncClient(**settings[choice], trust_env=False))


def _be_proxied(url: str) -> None:
    """Let the environment name the gateway as its own proxy: it looks at no host."""
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        del os.environ[name]
    os.environ["HTTP_PROXY"] = url


async def _way(choice: str, url: str, stack: AsyncExitStack) -> dict[str, Any]:
    """Return the arguments of `open_neuron` that say how frames travel."""
    match choice:
        case "client" | "client-tls" | "http2":
            return {"gateway": url, "http_client": await _client(choice, stack)}
        case "tls":
            return {"gateway": HttpTransport(url, ssl_context=ssl.create_default_context())}
        case "proxy":
            _be_proxied(url)
            return {"gateway": url}
        case _:
            return {"gateway": url}


def _counting(count: Callable[[], None], workers: int) -> Middleware:
    """Return a middleware that counts leases, and lets none go before so many workers have started."""
    returned, ready = 0, anyio.Event()

    async def counted(ctx: LeaseContext, call_next: Callable[[], Awaitable[Any]]) -> Any:  # noqa: ARG001 - given
        nonlocal returned
        result = await call_next()
        returned += 1
        if returned == workers:
            ready.set()
        if returned < workers:
            await ready.wait()
        count()
        return result

    return counted


def _additions(choice: str, count: Callable[[], None], window: int, stack: AsyncExitStack) -> dict[str, Any]:
    """Return the arguments of `open_neuron` that stand round a handler."""

    async def passed_through(ctx: LeaseContext, call_next: Callable[[], Awaitable[Any]]) -> Any:  # noqa: ARG001 - given
        return await call_next()

    match choice:
        case "on-event":
            return {"on_event": bool}
        case "middleware":
            return {"middleware": [passed_through]}
        case "thread" | "process":
            return {"middleware": [_counting(count, window)]}
        case "telemetry":
            return {"telemetry": _telemetry(stack)}
        case "journal":
            return {"journal": Path(stack.enter_context(TemporaryDirectory()), "results.db")}
        case _:
            return {}


def _workers_cpu() -> float:
    """Return the CPU time of the child processes so far, seconds. Linux only."""
    lists = Path("/proc/self/task").glob("*/children")
    workers = [int(pid) for each in lists for pid in each.read_text(encoding="ascii").split()]
    return sum(time.clock_gettime((~pid << 3) | 2) for pid in workers)  # as clock_getcpuclockid(3) makes it


async def _main(choice: str, url: str, window: int, warm_up: int, leases: int) -> None:
    done = anyio.Event()
    meter = Meter(warm_up, leases, others=_workers_cpu if choice == "process" else float)

    def count() -> None:
        if meter.count():
            done.set()

    async with AsyncExitStack() as stack:
        offered = _handler(choice, count).with_options(concurrency=window)
        options = await _way(choice, url, stack) | _additions(choice, count, window, stack)
        async with open_neuron(neuron_id="bench", capabilities=[offered], **options):
            await done.wait()
    report(meter.figures())


if __name__ == "__main__":
    anyio.run(partial(_main, sys.argv[1], sys.argv[2], *map(int, sys.argv[3:])))
