"""What it costs to leave the plain path: CPU time of the client for a lease, 16 in flight, on asyncio.

The subjects are choices: each is the plain neuron with one thing more. `http2` has a gateway in pure Python; the CPU is
the client's all the same. What goes through httpx gets fewer leases.
"""

from __future__ import annotations

from functools import partial

from benchmarks.cases import Case
from benchmarks.processes import certificates, figures, module, pair

__all__ = ["CHOICES", "PLAIN", "cases", "measure"]

PLAIN = "plain"
CHOICES = {
    PLAIN: "`async def`, `dict` in and out, our own connections",
    "on-event": "`on_event=` with a function that does nothing",
    "middleware": "`middleware=` with one that does nothing but `await call_next()`",
    "typed": "msgspec structs in and out",
    "pydantic": "pydantic models in and out",
    "telemetry": "`telemetry=`, with OpenTelemetry's SDK and an exporter that drops the spans",
    "journal": "`journal=`",
    "thread": "a handler in a thread (`def`)",
    "process": '`runs="process"`; the CPU of the worker processes counts',
    "tls": "https, `HttpTransport(ssl_context=...)`",
    "client": "`http_client=httpx.AsyncClient()`",
    "client-tls": "the same over https, with certificates of one's own",
    "proxy": "a proxy named by the environment",
    "http2": "`http_client=httpx.AsyncClient(http2=True)`",
}
"""What each choice is."""

WINDOW = 16
WARM_UP = 200
SLOW = ("client", "client-tls", "proxy", "http2")


def measure(subject: str, *, leases: int, slow_leases: int) -> dict[str, float]:
    """Let one subject work its leases off."""
    count = slow_leases if subject in SLOW else leases
    secrets = certificates() if subject.endswith("tls") else None
    gateway = (
        module("load_http2", WARM_UP, count)
        if subject == "http2"
        else module("load", WARM_UP, count, *([secrets.gateway] if secrets else []))
    )

    def client(url: str) -> list[str]:
        numbers = (url, WINDOW, WARM_UP, count)
        return module("floor", "anyio", *numbers) if subject == "floor" else module("chosen", subject, *numbers)

    trust = {"SSL_CERT_FILE": str(secrets.authority)} if secrets else {}
    with pair(gateway, client, trust) as (served, process):
        own, other = figures(process), figures(served)
    return {"cpu_us": own["cpu_us"], "gateway_cpu_us": other["cpu_us"], "gateway_busy": other["busy"]}


def cases(*, quick: bool) -> list[Case]:
    """Return the row."""
    leases, slow_leases = (400, 100) if quick else (3000, 600)
    return [
        Case(
            row=f"choices, window {WINDOW}",
            subjects=("floor", *CHOICES),
            measure=partial(measure, leases=leases, slow_leases=slow_leases),
            rounds=1 if quick else 5,
        )
    ]
