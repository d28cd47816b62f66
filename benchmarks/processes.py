"""Gateways and clients in processes of their own."""

from __future__ import annotations

import atexit
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import msgspec

__all__ = ["Certificates", "RunFailed", "certificates", "ended", "figures", "module", "pair", "published_python"]

ROOT = Path(__file__).parents[1]
PATIENCE = 60.0
"""Seconds that one run may take, unless it says otherwise."""


class RunFailed(Exception):
    """A process ended with an error, or did not end; the notes are what was written to stderr."""


class Certificates(msgspec.Struct, frozen=True):
    """PEM files: the authority's certificate, and the gateway's key and certificates."""

    authority: Path
    gateway: Path


@cache
def certificates() -> Certificates:
    """Make an authority and a certificate for 127.0.0.1 that last as long as this process."""
    import trustme  # noqa: PLC0415 - a tenth of a second that only TLS needs

    folder = tempfile.TemporaryDirectory()
    atexit.register(folder.cleanup)
    authority, found = trustme.CA(), Certificates(Path(folder.name, "authority.pem"), Path(folder.name, "gateway.pem"))
    authority.cert_pem.write_to_path(found.authority)
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(found.gateway)
    return found


def published_python() -> str | None:
    """Return the interpreter that has the published SDK, where one was named."""
    return os.environ.get("PUBLISHED_PYTHON")


def module(name: str, *arguments: object, python: str | None = None) -> list[str]:
    """Return the command that runs `benchmarks.NAME`."""
    return [python or sys.executable, "-m", f"benchmarks.{name}", *map(str, arguments)]


@contextmanager
def _started(command: Sequence[str], environment: Mapping[str, str]) -> Generator[subprocess.Popen[str]]:
    # A proxy of the environment has no business between two processes of one machine.
    settings = {**os.environ, "NO_PROXY": "127.0.0.1", **environment}
    with (
        tempfile.TemporaryFile("w+", encoding="utf-8") as said,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=said, text=True, cwd=ROOT, env=settings) as process,
    ):
        try:
            yield process
        except RunFailed as exc:
            process.kill()
            said.seek(0)
            exc.add_note(said.read())
            raise
        finally:
            process.kill()


@contextmanager
def pair(
    gateway: Sequence[str], client: Callable[[str], Sequence[str]], environment: Mapping[str, str] | None = None
) -> Generator[tuple[subprocess.Popen[str], subprocess.Popen[str]]]:
    """Start a gateway, and a client with its address; yield both, and kill them at the end.

    Args:
        gateway: its command; it prints its address first.
        client: makes the client's command out of the address.
        environment: more variables for the client.
    """
    with _started(gateway, {}) as served:
        assert served.stdout is not None
        address = served.stdout.readline().strip()
        if not address:
            raise RunFailed(f"{gateway}: did not start")
        with _started(client(address), environment or {}) as process:
            yield served, process


def ended(process: subprocess.Popen[str], patience: float = PATIENCE) -> str:
    """Wait for a process to end; return the line that it printed last.

    Raises:
        RunFailed: it ended with an error, or not within `patience` seconds.
    """
    try:
        output, _ = process.communicate(timeout=patience)
    except subprocess.TimeoutExpired as exc:
        raise RunFailed(f"{process.args!r}: did not end within {patience:g} s") from exc
    if process.returncode:
        raise RunFailed(f"{process.args!r}: ended with {process.returncode}")
    return output.splitlines()[-1]


def figures(process: subprocess.Popen[str], patience: float = PATIENCE) -> dict[str, float]:
    """Wait for a process to end; return the figures that it printed last.

    Raises:
        RunFailed: it ended with an error, or not within `patience` seconds.
    """
    return msgspec.json.decode(ended(process, patience), type=dict[str, float])
