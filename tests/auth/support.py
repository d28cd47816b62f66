"""What the tests of enrolment and minting share."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyio
from anyio.from_thread import BlockingPortal, start_blocking_portal

from neuron_anyio.auth import Approval, ClientCredentials, Credential, write_credential
from tests.auth.server import SECRETS, TOKEN, AuthServer, auth_server
from tests.runtime.http1_server import Peer

__all__ = ["Clock", "Shown", "drip", "files_in", "no_secret_in", "served", "source_for", "stored"]


class Clock:
    """Seconds that a test moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Shown(list[Approval]):
    """Pass as `on_approval`."""

    def __call__(self, approval: Approval) -> None:
        self.append(approval)


def stored(server: AuthServer, folder: Path, *, secret: str | None = None, client_id: str = "client-1") -> Path:
    """Write the credential of a client that the server knows, unless another secret is given."""
    path = folder / "credential.json"
    secret = server.add_client(client_id) if secret is None else secret
    write_credential(path, Credential(client_id, secret, server.url + TOKEN, server.url))
    return path


@contextmanager
def served() -> Iterator[tuple[AuthServer, BlockingPortal]]:
    """Run a server beside a test that waits for processes."""
    with start_blocking_portal() as portal, portal.wrap_async_context_manager(auth_server()) as server:
        yield server, portal


def files_in(folder: Path) -> dict[str, bytes]:
    """Return what every file below a folder holds, by its name."""
    return {one.name: one.read_bytes() for one in folder.rglob("*") if one.is_file()}


def source_for(server: AuthServer, folder: Path, clock: Clock | None = None, **options: Any) -> ClientCredentials:
    """Make a token source with a client of its own, whose clock stands still."""
    return ClientCredentials(stored(server, folder), clock=clock or Clock(), **options)


def no_secret_in(*things: object) -> None:
    """See that no secret is in texts, reprs, or anything that a traceback shows."""
    for thing in things:
        text = "".join(traceback.format_exception(thing)) if isinstance(thing, BaseException) else f"{thing} {thing!r}"
        assert not [secret for secret in SECRETS if secret in text], text


async def drip(peer: Peer) -> None:
    """Answer byte by byte, so that each wait is short and the whole has no end."""
    await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\nContent-Type: application/json\r\n\r\n")
    while True:
        await peer.send(b" ")
        await anyio.sleep(0.02)
