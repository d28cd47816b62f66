"""A running neuron's own socket: how it stands, and pause, resume and drain, for programs of the same user.

One JSON-RPC 2.0 message a line over a Unix socket of mode 0600; the methods are `METHODS`. No task's content goes over
it. `neuron-anyio run` listens, `neuron-anyio top` asks.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import socket
import stat
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

import anyio
import msgspec
from anyio import TASK_STATUS_IGNORED
from anyio.abc import ByteStream, TaskStatus

from .errors import NeuronError, TransportError
from .jsonrpc import METHOD_NOT_FOUND, Handlers, RpcConnection, RpcError
from .local_streams import check_peer, connect_unix, listening_unix, socket_stream
from .neuron import Neuron
from .snapshot import Snapshot
from .taskgroups import body_task_group

__all__ = ["Method", "Status", "ask", "control_folder", "control_path", "own_folder", "serve_control"]

Method: TypeAlias = Literal["snapshot", "pause", "resume", "drain"]

MESSAGE_BYTES: Final = 64 * 1024 * 1024
"""A snapshot of a hundred thousand leases has a quarter of it."""

ANSWER: Final = 5.0
"""Seconds within which a neuron answers whose event loop turns."""

NAME: Final = 40
"""Characters of a neuron id in a file's name: a socket's whole path may have about a hundred."""


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """What a neuron answers to every method.

    Attributes:
        neuron_id: its id.
        pid: its process.
        snapshot: how it stands.
    """

    neuron_id: str
    pid: int
    snapshot: Snapshot


def control_folder() -> Path:
    """Return the folder with the sockets of this user's neurons, which need not be there."""
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    return Path(runtime, "neuron-anyio") if runtime else Path(tempfile.gettempdir(), f"neuron-anyio-{os.getuid()}")


def own_folder() -> Path:
    """Make that folder, for this user alone.

    Raises:
        OSError: it cannot be made.
        PermissionError: it is there, and another user's or open to others.
    """
    folder = control_folder()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise PermissionError(f"{folder} must be a folder of this user's with mode 0700")
    return folder


def control_path(neuron_id: str) -> Path:
    """Return where a neuron listens unless it is told otherwise."""
    name = re.sub(r"[^A-Za-z0-9._-]", "_", neuron_id)[:NAME]
    if name != neuron_id or name.startswith("."):
        name = f"{name.lstrip('.')}-{hashlib.sha256(neuron_id.encode()).hexdigest()[:8]}"
    return control_folder() / f"{name}.sock"


async def serve_control(
    neuron: Neuron,
    path: str | os.PathLike[str],
    *,
    drain: Callable[[], None],
    log: logging.Logger | None = None,
    task_status: TaskStatus[None] = TASK_STATUS_IGNORED,
) -> None:
    """Answer at a Unix socket until cancelled.

    Args:
        neuron: the neuron.
        path: where to listen; a socket that was left there is replaced.
        drain: asks the neuron's program to drain and end; returns at once.
        log: default `neuron_anyio`.
        task_status: told when it listens.

    Raises:
        OSError: it cannot listen there.
    """
    logger = logging.getLogger("neuron_anyio") if log is None else log
    actions: dict[str, Callable[[], None]] = {
        "snapshot": lambda: None,
        "pause": neuron.pause,
        "resume": neuron.resume,
        "drain": drain,
    }

    async def called(method: str, params: bytes) -> Any:
        del params
        if method not in actions:
            raise RpcError(f"there are {', '.join(actions)}", code=METHOD_NOT_FOUND)
        await anyio.lowlevel.checkpoint()
        actions[method]()
        return Status(neuron_id=neuron.neuron_id, pid=os.getpid(), snapshot=neuron.snapshot())

    async def serve_one(stream: ByteStream) -> None:
        connection = _connection(stream, Handlers(called), name="who asks the neuron", log=logger)
        async with connection.running():
            await connection.wait_ended()

    with listening_unix(path) as listener:
        async with body_task_group() as tasks:
            task_status.started()
            while True:
                await anyio.wait_readable(listener)
                stream = _accepted(listener)
                if stream is not None:
                    tasks.start_soon(serve_one, stream)


def _accepted(listener: socket.socket) -> ByteStream | None:
    """Return the next connection, None where it is gone again or another user's."""
    try:
        connected, _ = listener.accept()
    except OSError:
        return None
    try:
        check_peer(connected)
    except TransportError:
        connected.close()
        return None
    return socket_stream(connected)


async def ask(path: str | os.PathLike[str], method: Method = "snapshot") -> Status:
    """Call a method of the neuron that listens at a path.

    Raises:
        NeuronError: nobody listens there, it does not answer, or it is another user's.
    """

    async def refuse(method: str, params: bytes) -> Any:
        raise RpcError(f"there is no {method} here ({len(params)} bytes)", code=METHOD_NOT_FOUND)

    stream = await connect_unix(path)
    log = logging.getLogger("neuron_anyio")
    connection = _connection(stream, Handlers(refuse), name=f"the neuron at {os.fspath(path)}", log=log)
    try:
        async with connection.running():
            with anyio.fail_after(ANSWER):
                answer = await connection.call(method, {})
        return msgspec.json.decode(answer, type=Status)
    except (RpcError, msgspec.MsgspecError, TimeoutError) as exc:
        reason = f"none within {ANSWER:g} s" if isinstance(exc, TimeoutError) else type(exc).__name__
        raise NeuronError(f"the neuron at {os.fspath(path)} gives no answer: {reason}") from None


def _connection(stream: ByteStream, handlers: Handlers, *, name: str, log: logging.Logger) -> RpcConnection:
    return RpcConnection(stream, handlers, framing="lines", max_bytes=MESSAGE_BYTES, name=name, log=log)
