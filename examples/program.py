"""A capability as a whole program, told by its environment what to do."""

from __future__ import annotations

import logging
import os
import socket
import sys
from functools import partial
from typing import Any

import anyio

from neuron_anyio import Capability, serve
from neuron_anyio.auth import token_file

__all__ = ["run_from_environment"]

EXIT_USAGE = 2


def run_from_environment(handler: Capability[..., Any]) -> int:
    """Serve one capability until SIGTERM or SIGINT; return the exit code.

    Reads `BIGBRAIN_GATEWAY_URL`, `BIGBRAIN_NEURON_ID` (default: the capability and the host's name),
    `BIGBRAIN_TOKEN_FILE` (read anew for every request) or `BIGBRAIN_TOKEN`, and `LOG_LEVEL` (default `INFO`).
    """
    level = logging.getLevelNamesMapping().get(os.environ.get("LOG_LEVEL", "INFO").upper())
    if level is None:
        return _usage("LOG_LEVEL must be DEBUG, INFO, WARNING, ERROR or CRITICAL")
    gateway = os.environ.get("BIGBRAIN_GATEWAY_URL")
    if not gateway:
        return _usage("BIGBRAIN_GATEWAY_URL is not set; it is the gateway's base URL, https://api.example.com")
    logging.basicConfig(level=level, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("httpx").setLevel(max(level, logging.WARNING))  # below it, it logs the URL of every task
    file = os.environ.get("BIGBRAIN_TOKEN_FILE")
    default_id = f"{handler.terms.type.replace('/', '-')}-{socket.gethostname()}"
    try:
        return anyio.run(
            partial(
                serve,
                gateway,
                neuron_id=os.environ.get("BIGBRAIN_NEURON_ID") or default_id,
                auth=token_file(file) if file else os.environ.get("BIGBRAIN_TOKEN") or None,
                capabilities=[handler],
            )
        )
    except ValueError as exc:
        return _usage(str(exc))


def _usage(problem: str) -> int:
    print(f"error: {problem}", file=sys.stderr)
    return EXIT_USAGE
