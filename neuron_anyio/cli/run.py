"""`neuron-anyio run`: serve a module's capabilities."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import anyio
import click

from neuron_anyio.config import Timing
from neuron_anyio.events import Draining, Event
from neuron_anyio.logs import named
from neuron_anyio.neuron import open_neuron
from neuron_anyio.transports.ipc import IpcTransport

from .loading import load
from .options import (
    BACKEND,
    CREDENTIALS,
    GATEWAY_URL,
    MODULE,
    NEURON,
    TOKEN,
    apply,
    chosen_auth,
    example,
    is_local,
    log_level,
    resized,
    stable_neuron_id,
)
from .problems import Wrong
from .run_options import SERVING, Child, health_of, numbered
from .serving import Beside, serve_with
from .telemetry import TELEMETRY, chosen_telemetry

__all__ = ["run"]

_log = logging.getLogger("neuron_anyio")


@click.command(epilog=example("neuron-anyio run worker.py --gateway-url http://127.0.0.1:8787"))
@apply(MODULE, GATEWAY_URL, *TOKEN, CREDENTIALS, *NEURON, *SERVING, TELEMETRY, log_level("info"), BACKEND)
def run(module: str, gateway_url: str, backend: str, **options: Any) -> int:
    """Serve the capabilities of MODULE until SIGTERM or SIGINT.

    MODULE is a name that can be imported from the current directory, or the path of a .py file. NAME picks one
    capability, or a list or tuple of them; without it all are served.

    The gateway may be a host program that holds the connection and the token: `stdio:` for the one that started this
    program, `unix:PATH` for one that listens there.

    A gateway that is not up yet is waited for. A token file is read again for every request. The first signal drains,
    the second cancels, the third ends at once.

    With --processes N the processes are the neurons ID-1 to ID-N, and their files FILE-1 to FILE-N; all are drained
    together, and one that ends is started again.
    """
    auth = chosen_auth()
    if auth is not None and is_local(gateway_url):
        raise Wrong(f"{gateway_url} takes no token: the host program has its own; leave out token and token file")
    child: Child | None = options["child"]
    if child is None and (options["reload"] or options["processes"] > 1):
        from .supervised import supervise  # noqa: PLC0415 - for those alone who start processes

        return supervise(module, backend, is_stdio=gateway_url == "stdio:", **options)
    number = 0 if child is None else child.number
    on_event = _listener(child)  # before the import, which may take long, and must not outlive a supervisor either
    loaded = load(module)
    arguments: dict[str, Any] = {
        "neuron_id": numbered(stable_neuron_id(options["neuron_id"], loaded), number),
        "capabilities": resized(loaded.capabilities, options["concurrency"]),
        "timing": Timing(drain=options["drain"], heartbeat=options["heartbeat"]),
        "max_concurrency": options["max_concurrency"],
        "journal": numbered(options["journal"], number),
        "on_event": on_event,
        "telemetry": chosen_telemetry(asked=options["telemetry"]),
    }
    beside = Beside(
        health=health_of(options["health"], number),
        control=numbered(options["control"], number) if options["control"] != "off" else "off",
        burst=options["burst"],
    )
    line = named("neuron.connecting", neuron_id=arguments["neuron_id"], gateway=gateway_url)
    _log.info("connecting to %s as %s", gateway_url, arguments["neuron_id"], extra=line)

    async def main() -> int:
        if is_local(gateway_url):
            return await serve_with(open_neuron(_host(gateway_url, arguments["timing"]), **arguments), beside)
        return await serve_with(open_neuron(gateway_url, auth=auth, **arguments), beside)

    return anyio.run(main, backend=backend)


def _host(address: str, timing: Timing) -> IpcTransport:
    scheme, _, path = address.partition(":")
    return IpcTransport.stdio(timing=timing) if scheme == "stdio" else IpcTransport.unix(path, timing=timing)


def _listener(child: Child | None) -> Callable[[Event], None]:
    if child is None:
        return _log_drain
    from .children import follow_supervisor  # noqa: PLC0415 - for those alone who were started by one

    tell = follow_supervisor(child.fd)

    def listen(event: Event) -> None:
        tell(event)
        _log_drain(event)

    return listen


def _log_drain(event: Event) -> None:
    if isinstance(event, Draining) and (event.running or event.given_back):
        line = named("neuron.draining", running=event.running, given_back=event.given_back)
        text = "draining: %d running, %d given back; signal again to cancel"
        _log.info(text, event.running, event.given_back, extra=line)
