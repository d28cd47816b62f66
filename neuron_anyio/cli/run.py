"""`neuron-anyio run`: serve a module's capabilities."""

from __future__ import annotations

import logging
from typing import Any

import anyio
import click

from neuron_anyio.config import Timing
from neuron_anyio.events import Draining, Event
from neuron_anyio.serve import serve

from .loading import load
from .options import (
    BACKEND,
    GATEWAY_URL,
    MODULE,
    NEURON,
    TOKEN,
    apply,
    chosen_auth,
    example,
    log_level,
    resized,
    stable_neuron_id,
)

__all__ = ["run"]

JOURNAL = click.option(
    "--journal",
    metavar="FILE",
    type=click.Path(dir_okay=False),
    help="Keep results here until the gateway has taken them, over a crash of this process. One file per neuron id.",
)

_log = logging.getLogger("neuron_anyio")


@click.command(epilog=example("neuron-anyio run worker.py --gateway-url http://127.0.0.1:8787"))
@apply(MODULE, GATEWAY_URL, *TOKEN, *NEURON, JOURNAL, log_level("info"), BACKEND)
def run(module: str, gateway_url: str, backend: str, **options: Any) -> int:
    """Serve the capabilities of MODULE until SIGTERM or SIGINT.

    MODULE is a name that can be imported from the current directory, or the path of a .py file. NAME picks one
    capability, or a list or tuple of them; without it all are served.

    A gateway that is not up yet is waited for. A token file is read again for every request. The first signal drains,
    the second cancels, the third ends at once.
    """
    auth = chosen_auth()
    loaded = load(module)
    arguments = {
        "neuron_id": stable_neuron_id(options["neuron_id"], loaded),
        "capabilities": resized(loaded.capabilities, options["concurrency"]),
        "auth": auth,
        "timing": Timing(drain=options["drain"], heartbeat=options["heartbeat"]),
        "max_concurrency": options["max_concurrency"],
        "journal": options["journal"],
        "on_event": _log_drain,
    }
    _log.info("connecting to %s as %s", gateway_url, arguments["neuron_id"])

    async def main() -> int:
        return await serve(gateway_url, **arguments)

    return anyio.run(main, backend=backend)


def _log_drain(event: Event) -> None:
    if isinstance(event, Draining) and (event.running or event.given_back):
        _log.info("draining: %d running, %d given back; signal again to cancel", event.running, event.given_back)
