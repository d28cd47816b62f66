"""CPU time of the client for a lease of 1 KB in and 1 KB out, with schemas on the frame, by leases in flight."""

from __future__ import annotations

from functools import partial

from benchmarks.cases import LEANER, PACKAGE, TLS, Case, Target
from benchmarks.processes import certificates, figures, module, pair, published_python

__all__ = ["cases"]

WINDOWS = (1, 16, 64)
WARM_UP = 200
FLOORS = {"floor": "anyio", LEANER: "asyncio"}


def measure(subject: str, *, window: int, leases: int, published_leases: int) -> dict[str, float]:
    """Let one subject work its leases off."""
    count = published_leases if subject == "published" else leases
    backend, _, tls = subject.partition("-")
    secrets = certificates() if tls else None
    gateway = module("load", WARM_UP, count, *([secrets.gateway] if secrets else []))

    def client(url: str) -> list[str]:
        numbers = (url, window, WARM_UP, count)
        if subject == "published":
            return module("published", *numbers, python=published_python())
        if subject in FLOORS:
            return module("floor", FLOORS[subject], *numbers)
        return module("neuron", backend, *numbers)

    trust = {"SSL_CERT_FILE": str(secrets.authority)} if secrets else {}
    with pair(gateway, client, trust) as (served, process):
        own, other = figures(process), figures(served)
    return {"cpu_us": own["cpu_us"], "gateway_cpu_us": other["cpu_us"], "gateway_busy": other["busy"]}


def cases(*, quick: bool) -> list[Case]:
    """Return a row for each window."""
    windows = (16,) if quick else WINDOWS
    leases, published_leases = (600, 100) if quick else (3000, 600)
    return [
        Case(
            row=f"leases, window {window}",
            subjects=("published", "floor", LEANER, *PACKAGE, *TLS),
            measure=partial(measure, window=window, leases=leases, published_leases=published_leases),
            targets=(
                Target(figure="cpu_us", at_most=1.6, of="floor", subjects=("asyncio",)),
                Target(figure="cpu_us", at_most=1.0, of="asyncio", subjects=("uvloop", "trio")),
                *([Target(figure="cpu_us", at_most=1 / 25, of="published")] if window > 1 else []),
                Target(figure="cpu_us", at_most=2.0, of="floor", subjects=TLS),
            ),
            rounds=1 if quick else 5,
            slow={"published": 1 if quick else 3},
        )
        for window in windows
    ]
