"""`neuron-anyio gateway`: serve the development gateway."""

from __future__ import annotations

import ipaddress
import logging
import signal
from typing import Any

import anyio
import click

from neuron_anyio.logs import named

from .options import BACKEND, TOKEN, Seconds, Whole, apply, attempts, chosen_token, example, log_level

__all__ = ["LEASES", "PORT", "gateway"]

PORT = 8787

LEASES = (
    click.option(
        "--lease-ttl",
        type=Seconds(),
        default=60.0,
        show_default=True,
        metavar="SECONDS",
        help="Length of a lease, for capabilities that name none.",
    ),
    attempts("Tries of a task that names no number itself.", 3),
)


@click.command(epilog=example(f"neuron-anyio gateway --port {PORT}"))
@apply(
    click.option("--host", default="127.0.0.1", show_default=True, metavar="HOST", help="Address to listen on."),
    click.option(
        "--port",
        type=Whole(0, 65535),
        default=PORT,
        show_default=True,
        metavar="N",
        help="Port to listen on; 0 for a free one.",
    ),
    *TOKEN,
    *LEASES,
    log_level("info"),
    BACKEND,
)
def gateway(host: str, port: int, backend: str, **options: Any) -> int:
    """Serve a gateway for development, tests and small deployments, until SIGTERM or SIGINT.

    Its tasks live in memory. With a token it lets in only who brings it; a token file is read once, at the start.
    """
    auth = chosen_token()
    if auth is None and not _is_loopback(host):
        log, line = logging.getLogger("neuron_anyio"), named("gateway.is_open", host=host)
        log.warning("%s is open to everybody; give --token-file to lock it", host, extra=line)

    async def main() -> int:
        from neuron_anyio.gateway.server import open_gateway  # noqa: PLC0415 - Starlette and a server: for this verb only

        with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
            async with open_gateway(
                host=host,
                port=port,
                auth=auth() if callable(auth) else auth,
                lease_ttl=options["lease_ttl"],
                max_attempts=options["max_attempts"],
            ) as served:
                click.echo(f"gateway at {served.url}")
                await anext(aiter(signals))
        return 0

    return anyio.run(main, backend=backend)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
