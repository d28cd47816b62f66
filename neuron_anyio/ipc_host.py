"""The host's side of `IpcTransport`: a program that holds the gateway's address and token for neurons beside it.

    transport = HttpTransport("https://api.example.com", auth=get_token)
    code = await run_neuron_process([sys.executable, "worker.py"], transport)

The neuron sees neither; the host forwards frames, and adds what its transport adds.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from subprocess import PIPE
from typing import Any

import anyio
import msgspec
from anyio import TASK_STATUS_IGNORED
from anyio.abc import ByteStream, Process, TaskGroup, TaskStatus
from anyio.streams.stapled import StapledByteStream
from msgspec import Raw

from .abc import EventStream, Oversized, Transport
from .config import Limits
from .errors import NeuronError, StreamRefused, TransportError
from .framing import Framing
from .jsonrpc import METHOD_NOT_FOUND, Handlers, RpcConnection, RpcError
from .local_streams import check_peer, listening_unix, socket_stream
from .logs import named
from .taskgroups import body_task_group

__all__ = ["run_neuron_process", "serve_bridge", "serve_unix"]

PATHS = frozenset({"register", "update-capability", "heartbeat", "ack", "nack", "progress"})
"""What a neuron may post; nothing else of the gateway is opened to it."""

METHODS = frozenset({"attach", "subscribe", "invoke", "detach"})

ENVELOPE = 1024

BREATH = 0.1
"""Seconds before the next try where a connection cannot be accepted: too many files are open, perhaps."""

GRACE = 1.0
"""Seconds that a child has after SIGTERM, and again to be gone after SIGKILL, when nobody waits for its drain."""


class _Params(msgspec.Struct, rename="camel"):
    neuron_id: str = ""
    channel: str = ""
    path: str = ""
    frame: Raw = Raw(b"null")


async def serve_bridge(
    stream: ByteStream,
    transport: Transport,
    *,
    framing: Framing = "lines",
    limits: Limits = Limits(),  # noqa: B008 - frozen
    log: logging.Logger | None = None,
) -> None:
    """Forward the frames of the neuron at the other end of a stream, until it closes.

    Args:
        stream: to the neuron; closed at the end.
        transport: to the gateway; opened here, and its token stays here.
        framing: how messages stand in the stream.
        limits: `frame_bytes`.
        log: default `neuron_anyio`.
    """
    logger = logging.getLogger("neuron_anyio") if log is None else log
    async with transport.open(), body_task_group() as tasks:
        host = _Host(transport, tasks)
        connection = RpcConnection(
            stream,
            Handlers(host.called),
            framing=framing,
            max_bytes=limits.frame_bytes + ENVELOPE,
            name="the neuron",
            log=logger,
        )
        host.connection = connection
        async with connection.running():
            await connection.wait_ended()
        tasks.cancel_scope.cancel()


class _Host:
    """Answers a neuron's calls."""

    connection: RpcConnection

    def __init__(self, transport: Transport, tasks: TaskGroup) -> None:
        self._transport = transport
        self._tasks = tasks
        self._neurons: dict[str, str] = {}
        self._streams: dict[str, anyio.CancelScope] = {}
        self._numbers = 0

    async def called(self, method: str, params: bytes) -> Any:
        if method not in METHODS:
            raise RpcError(f"this host does not know {method}", code=METHOD_NOT_FOUND)
        found = msgspec.json.decode(params, type=_Params)
        match method:
            case "attach":
                self._numbers += 1
                channel = f"neuron-{self._numbers}"
                self._neurons[channel] = found.neuron_id
                return {"channel": channel}
            case "subscribe":
                return await self._subscribe(found.channel)
            case "invoke":
                return await self._invoke(found.path, bytes(found.frame))
            case _:
                for channel in [name for name, neuron_id in self._neurons.items() if neuron_id == found.neuron_id]:
                    del self._neurons[channel]
                    if channel in self._streams:
                        self._streams[channel].cancel()
                return {}

    async def _subscribe(self, channel: str) -> dict[str, Any]:
        if channel not in self._neurons:
            raise RpcError("attach first")
        if channel in self._streams:
            raise RpcError("this channel is subscribed to already")
        scope = self._streams[channel] = anyio.CancelScope()
        refusal: NeuronError | None = await self._tasks.start(self._follow, channel, self._neurons[channel], scope)
        if refusal is None:
            return {}
        raise _answer(refusal)

    async def _follow(
        self, channel: str, neuron_id: str, scope: anyio.CancelScope, *, task_status: TaskStatus[NeuronError | None]
    ) -> None:
        """Forward what comes for a neuron, until the stream ends or the neuron detaches."""
        outcome: NeuronError | None = TransportError("the neuron has detached")
        reason: str | None = None
        ended = False
        with scope:
            try:
                async with self._transport.subscribe(neuron_id) as stream:
                    outcome = None
                    task_status.started(None)
                    with suppress(anyio.EndOfStream):
                        await self._forward(stream, channel)
                    ended = True
            except NeuronError as exc:
                if outcome is None:
                    ended, reason = True, str(exc)
                else:
                    outcome = exc
            finally:
                del self._streams[channel]
        if outcome is not None:
            task_status.started(outcome)
        elif ended:
            with suppress(TransportError):
                await self.connection.notify("end", {"channel": channel, "reason": reason})

    async def _forward(self, stream: EventStream, channel: str) -> None:
        while True:
            for document in await stream.receive():
                if isinstance(document, Oversized):
                    head = document.head.decode("utf-8", "replace")
                    await self.connection.notify("oversized", {"channel": channel, "size": document.size, "head": head})
                else:
                    frame = {"channel": channel, "frame": _embedded(document)}
                    await self.connection.notify("frame", frame)

    async def _invoke(self, path: str, frame: bytes) -> dict[str, Any]:
        if path not in PATHS:
            raise RpcError("this is nothing that a neuron may post")
        try:
            reply = await self._transport.post(path, frame)
        except NeuronError as exc:
            raise _answer(exc) from None
        return {
            "status": reply.status,
            "text": reply.text,
            "isJson": reply.is_json,
            "retryAfter": reply.retry_after,
        }


def _answer(error: NeuronError) -> RpcError:
    """Say what went wrong on the way to the gateway, and whether it is worth another try."""
    data: dict[str, Any] = {"reconnectable": isinstance(error, TransportError)}
    if isinstance(error, TransportError):
        data["retryAfter"] = error.retry_after
    if isinstance(error, StreamRefused):
        data["status"] = error.status
    return RpcError(str(error), data=msgspec.json.encode(data))


def _embedded(document: bytes | str) -> Raw | str:
    """Return a document as a member of a message: as it is, but on one line; a text where it is no JSON."""
    data = document.encode() if isinstance(document, str) else document
    try:
        msgspec.json.decode(data, type=Raw)
        return Raw(msgspec.json.format(data, indent=-1) if b"\n" in data else data)
    except (msgspec.DecodeError, RecursionError):
        return data.decode("utf-8", "replace")


async def run_neuron_process(
    command: Sequence[str],
    transport: Transport,
    *,
    stop: anyio.Event | None = None,
    patience: float = 30.0,
    framing: Framing = "lines",
    env: Mapping[str, str] | None = None,
    limits: Limits = Limits(),  # noqa: B008 - frozen
    log: logging.Logger | None = None,
) -> int:
    """Run a neuron as a child that speaks over its standard input and output, until it ends.

    Cancelling ends it within two seconds, without a drain. It does not see the signals of this program's terminal.

    Args:
        command: program and arguments, like `["neuron-anyio", "run", "worker.py", "--gateway-url", "stdio:"]`.
        transport: to the gateway.
        stop: set it, and the neuron drains and ends; it is killed when that takes longer than `patience` seconds.
        patience: see `stop`; also how long a neuron that has closed its end may live on.
        framing: how messages stand in the streams.
        env: the child's environment, this program's where None. It needs no token.
        limits: `frame_bytes`.
        log: default `neuron_anyio`.

    Returns:
        The child's exit code, below 0 where a signal ended it.

    Raises:
        OSError: it cannot be started.
    """
    # A session of its own: Ctrl-C in a terminal is the host's to pass on, and would count as a second signal there.
    process = await anyio.open_process(command, stdin=PIPE, stdout=PIPE, stderr=None, env=env, start_new_session=True)
    assert process.stdin is not None
    assert process.stdout is not None
    stream = StapledByteStream(process.stdin, process.stdout)
    try:
        async with body_task_group() as tasks:
            if stop is not None:
                tasks.start_soon(_stop, stop, process, patience)
            await serve_bridge(stream, transport, framing=framing, limits=limits, log=log)
            with anyio.move_on_after(patience):
                await process.wait()
            tasks.cancel_scope.cancel()
    finally:
        with anyio.move_on_after(3 * GRACE, shield=True):
            await _end(process)
    return await process.wait()


async def _stop(stop: anyio.Event, process: Process, patience: float) -> None:
    await stop.wait()
    with suppress(ProcessLookupError):
        process.send_signal(signal.SIGTERM)
    await anyio.sleep(patience)
    with suppress(ProcessLookupError):
        process.kill()


async def _end(process: Process) -> None:
    """End a child that still runs, and let go of it."""
    with suppress(ProcessLookupError):
        if process.returncode is None:
            process.terminate()
        with anyio.move_on_after(GRACE):
            await process.wait()
        if process.returncode is None:
            process.kill()
    await process.aclose()


async def serve_unix(
    path: str | os.PathLike[str],
    transport_for: Callable[[], Transport],
    *,
    framing: Framing = "lines",
    limits: Limits = Limits(),  # noqa: B008 - frozen
    log: logging.Logger | None = None,
    task_status: TaskStatus[None] = TASK_STATUS_IGNORED,
) -> None:
    """Serve the neurons that connect to a Unix socket, each of the same user as this program, until cancelled.

    Args:
        path: where to listen, for this user alone; a socket that was left there is replaced.
        transport_for: makes the transport of one neuron.
        framing: how messages stand in the streams.
        limits: `frame_bytes`.
        log: default `neuron_anyio`.
        task_status: told when it listens.

    Raises:
        OSError: it cannot listen there.
    """
    logger = logging.getLogger("neuron_anyio") if log is None else log

    async def serve_one(connected: socket.socket) -> None:
        async with socket_stream(connected) as stream:
            try:
                await serve_bridge(stream, transport_for(), framing=framing, limits=limits, log=log)
            except NeuronError as exc:
                line = named("ipc.neuron_not_served", path=os.fspath(path))
                logger.warning("a neuron at %s is not served: %s", os.fspath(path), exc, extra=line)
            except Exception:  # the other neurons are served on
                line = named("ipc.neuron_broken", path=os.fspath(path))
                logger.exception("serving a neuron at %s failed", os.fspath(path), extra=line)

    with listening_unix(path) as listener:
        async with body_task_group() as tasks:
            task_status.started()
            while True:
                await anyio.wait_readable(listener)
                try:
                    connected, _ = listener.accept()
                except OSError as exc:
                    line = named("ipc.not_accepted", path=os.fspath(path))
                    logger.warning("no neuron can be accepted at %s: %s", os.fspath(path), exc.strerror, extra=line)
                    await anyio.sleep(BREATH)
                    continue
                try:
                    check_peer(connected)
                except TransportError as exc:
                    connected.close()
                    line = named("ipc.program_not_served", path=os.fspath(path))
                    logger.warning("a program at %s is not served: %s", os.fspath(path), exc, extra=line)
                else:
                    tasks.start_soon(serve_one, connected)
