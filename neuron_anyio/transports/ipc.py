"""BigBrain frames through a host program that holds the connection and the token (BigBrain specification, section 8).

A host offers four functions: `attach` and `subscribe` for the frames that come, `invoke` for those that go, `detach`.
They may be a `Bridge` in the same process, or calls of JSON-RPC 2.0 over any byte stream:

    -> attach {"neuronId": ...}                   <- {"channel": ...}
    -> subscribe {"channel": ...}                 <- {}, or an error whose data has the refusal's "status",
                                                     or "reconnectable": false
                                                  <- frame {"channel": ..., "frame": {...}}    (notification)
                                                  <- end {"channel": ..., "reason": ...}; no reason for a clean end
                                                  <- oversized {"channel": ..., "size": 70000000, "head": "..."}
    -> invoke {"path": "ack", "frame": {...}}     <- {"status": 200, "text": "", "isJson": false, "retryAfter": null}
    -> detach {"neuronId": ...}                   <- {}

There is no token here and no way to reconnect: a channel that ends is subscribed to again, but a host that is gone ends
the neuron with `GatewayDisconnected`.
"""

from __future__ import annotations

import logging
import os
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from http import HTTPStatus
from typing import NoReturn, Protocol, TypeAlias, TypeVar, runtime_checkable

import anyio
import msgspec
from anyio.abc import ByteStream
from msgspec import Raw

from ..abc import Oversized, Reply
from ..config import Limits, Timing
from ..errors import GatewayDisconnected, NeuronError, StreamRefused, TransportError
from ..framing import Framing, Skipped
from ..jsonrpc import METHOD_NOT_FOUND, TOO_LARGE, UNREADABLE, Handlers, RpcConnection, RpcError
from ..local_streams import connect_unix, open_stdio
from ..wakeup import Wakeup

__all__ = ["Bridge", "IpcTransport", "Sink"]

_T = TypeVar("_T")

ENVELOPE = 1024
"""Bytes for what stands round a frame in a message."""

GOODBYE = 1.0
"""Seconds in which a host may answer `detach`."""


class Sink(Protocol):
    """Where a bridge puts what comes on a channel. In the loop's thread; every method returns at once."""

    def frame(self, document: bytes | str | Oversized) -> None:
        """Take one frame, as JSON text."""
        ...

    def ended(self, error: NeuronError | None) -> None:
        """Take the end: None for a clean one, a `TransportError` for a broken one, any other error for the last one."""
        ...


@runtime_checkable
class Bridge(Protocol):
    """What a host offers to a neuron in the same process."""

    async def attach(self, neuron_id: str) -> str:
        """Announce a neuron; return the name of its channel."""
        ...

    async def subscribe(self, channel: str, sink: Sink) -> None:
        """Let frames come, from now until `detach`.

        Raises:
            StreamRefused: the gateway would not have the neuron.
            TransportError: the gateway could not be reached.
        """
        ...

    async def invoke(self, path: str, frame: bytes) -> Reply:
        """Forward one frame, JSON text; return the gateway's answer.

        Raises:
            TransportError: none came.
        """
        ...

    async def detach(self, neuron_id: str) -> None:
        """Take leave; frames no longer come."""
        ...


Connect: TypeAlias = Callable[[], Awaitable[ByteStream]]


class IpcTransport:
    """Frames through a host program.

    Args:
        host: a `Bridge`; or a function that opens the byte stream to the host.
        framing: how messages stand in the byte stream: `"lines"` or `"lengths"`.
        origin: name of the host, for logs and errors.
        timing: `request` bounds each call.
        limits: `frame_bytes`.
        log: logger.
    """

    def __init__(
        self,
        host: Bridge | Connect,
        *,
        framing: Framing = "lines",
        origin: str = "ipc",
        timing: Timing = Timing(),  # noqa: B008 - frozen
        limits: Limits = Limits(),  # noqa: B008 - frozen
        log: logging.Logger | None = None,
    ) -> None:
        self.origin = origin
        self._host = host
        self._framing: Framing = framing
        self._timing = timing
        self._limits = limits
        self._log = logging.getLogger("neuron_anyio") if log is None else log
        self._bridge: Bridge | None = None

    @classmethod
    def stdio(
        cls,
        *,
        framing: Framing = "lines",
        timing: Timing = Timing(),  # noqa: B008 - frozen
        limits: Limits = Limits(),  # noqa: B008 - frozen
        log: logging.Logger | None = None,
    ) -> IpcTransport:
        """Speak to the program that started this one, over standard input and output.

        What this program prints goes to standard error meanwhile.
        """
        return cls(open_stdio, framing=framing, origin="stdio", timing=timing, limits=limits, log=log)

    @classmethod
    def unix(
        cls,
        path: str | os.PathLike[str],
        *,
        framing: Framing = "lines",
        timing: Timing = Timing(),  # noqa: B008 - frozen
        limits: Limits = Limits(),  # noqa: B008 - frozen
        log: logging.Logger | None = None,
    ) -> IpcTransport:
        """Speak to the program that listens at a Unix socket, if it is the same user's."""
        connect = partial(connect_unix, path)
        return cls(connect, framing=framing, origin=f"unix:{os.fspath(path)}", timing=timing, limits=limits, log=log)

    @asynccontextmanager
    async def open(self) -> AsyncGenerator[None]:
        """Connect to the host."""
        if isinstance(self._host, Bridge):
            self._bridge = self._host
            yield
            return
        bridge = _RpcBridge(self.origin)
        connection = RpcConnection(
            await self._host(),
            bridge.handlers,
            framing=self._framing,
            max_bytes=self._limits.frame_bytes + ENVELOPE,
            name=self.origin,
            log=self._log,
        )
        async with connection.running():
            bridge.connection = connection
            self._bridge = bridge
            yield

    @asynccontextmanager
    async def subscribe(self, neuron_id: str) -> AsyncGenerator[_Inbox]:
        """Attach, and let frames come."""
        bridge = self._opened
        inbox = _Inbox()
        channel = await self._bounded("attach", bridge.attach(neuron_id))
        try:
            await self._bounded("subscribe", bridge.subscribe(channel, inbox))
            yield inbox
        finally:
            with anyio.move_on_after(GOODBYE, shield=True), suppress(NeuronError):
                await bridge.detach(neuron_id)

    async def post(self, path: str, body: bytes) -> Reply:
        """Hand one frame to the host."""
        return await self._bounded(path, self._opened.invoke(path, body))

    async def _bounded(self, what: str, call: Awaitable[_T]) -> _T:
        try:
            with anyio.fail_after(self._timing.request):
                return await call
        except TimeoutError:
            raise TransportError(f"{self.origin} did not answer {what} within {self._timing.request:g} s") from None

    @property
    def _opened(self) -> Bridge:
        assert self._bridge is not None, "open() the transport first"
        return self._bridge

    def __repr__(self) -> str:
        return f"<IpcTransport to {self.origin}>"


class _Inbox:
    """The open stream: what came and was not received yet."""

    comments = 0

    def __init__(self) -> None:
        self._documents: list[bytes | str | Oversized] = []
        self._end: NeuronError | anyio.EndOfStream | None = None
        self._wakeup = Wakeup()

    def frame(self, document: bytes | str | Oversized) -> None:
        self._documents.append(document)
        self._wakeup.notify()

    def ended(self, error: NeuronError | None) -> None:
        self._end = self._end or error or anyio.EndOfStream()
        self._wakeup.notify()

    async def receive(self) -> Sequence[bytes | str | Oversized]:
        while not self._documents:
            if self._end is not None:
                raise self._end
            await self._wakeup.wait()
        documents, self._documents = self._documents, []
        return documents


class _Attached(msgspec.Struct):
    channel: str


class _Frame(msgspec.Struct):
    channel: str
    frame: Raw


class _Oversized(msgspec.Struct):
    channel: str
    size: int
    head: str = ""


class _End(msgspec.Struct):
    channel: str
    reason: str | None = None


class _Answered(msgspec.Struct, rename="camel"):
    status: int = 200
    text: str = ""
    is_json: bool = False
    retry_after: float | None = None


class _Refusal(msgspec.Struct, rename="camel"):
    status: int | None = None
    retry_after: float | None = None
    reconnectable: bool = True


class _TooLarge(TransportError):
    """The host does not hold a message as large as this one."""


class _RpcBridge:
    """A host at the other end of a byte stream."""

    connection: RpcConnection

    def __init__(self, origin: str) -> None:
        self._origin = origin
        self._sinks: dict[str, Sink] = {}
        self._channels: dict[str, str] = {}
        self.handlers = Handlers(self._called, self._told, self._skipped, self._ended)

    async def attach(self, neuron_id: str) -> str:
        channel = (await self._call("attach", {"neuronId": neuron_id}, _Attached)).channel
        self._channels[neuron_id] = channel
        return channel

    async def subscribe(self, channel: str, sink: Sink) -> None:
        self._sinks[channel] = sink  # before the call: frames may come before its answer
        try:
            await self._call("subscribe", {"channel": channel}, dict)
        except BaseException:  # a cancellation as well: nobody reads this sink any more
            self._sinks.pop(channel, None)
            raise

    async def invoke(self, path: str, frame: bytes) -> Reply:
        try:
            found = await self._call("invoke", {"path": path, "frame": Raw(frame)}, _Answered)
        except _TooLarge as exc:
            return Reply(status=HTTPStatus.REQUEST_ENTITY_TOO_LARGE, text=str(exc))
        return Reply(status=found.status, text=found.text, is_json=found.is_json, retry_after=found.retry_after)

    async def detach(self, neuron_id: str) -> None:
        self._sinks.pop(self._channels.pop(neuron_id, ""), None)
        await self._call("detach", {"neuronId": neuron_id}, dict)

    async def _call(self, method: str, params: object, kind: type[_T]) -> _T:
        try:
            return msgspec.json.decode(await self.connection.call(method, params), type=kind)
        except RpcError as exc:
            self._refused(method, exc)
        except UNREADABLE as exc:
            raise TransportError(f"{self._origin} answered {method} with something else: {exc}") from None
        except TransportError as exc:
            raise (exc if self.connection.end is None else self._gone(method)) from None

    def _refused(self, method: str, error: RpcError) -> NoReturn:
        refusal = _Refusal()
        with suppress(*UNREADABLE):
            refusal = msgspec.json.decode(error.data, type=_Refusal)
        text = f"{self._origin} refused {method}: {error}"
        if method == "invoke" and error.code == TOO_LARGE:
            raise _TooLarge(text) from None
        if method == "invoke":
            raise TransportError(text, retry_after=refusal.retry_after) from None
        if not refusal.reconnectable:
            raise GatewayDisconnected(text) from None
        if refusal.status is not None:
            raise StreamRefused(text, status=refusal.status, retry_after=refusal.retry_after) from None
        raise TransportError(text, retry_after=refusal.retry_after) from None

    def _gone(self, method: str) -> NeuronError:
        """Return the error for a host that is gone: it ends the neuron where frames come from, not where they go."""
        text = f"{self._origin}: {self.connection.end}"
        return TransportError(text, is_final=True) if method == "invoke" else GatewayDisconnected(text)

    async def _called(self, method: str, params: bytes) -> object:  # noqa: ARG002 - the connection's signature
        raise RpcError(f"a neuron does not know {method}", code=METHOD_NOT_FOUND)

    def _told(self, method: str, params: bytes) -> None:
        with suppress(*UNREADABLE):  # a newer host's word, perhaps
            if method == "frame":
                told = msgspec.json.decode(params, type=_Frame)
                if told.channel in self._sinks:
                    self._sinks[told.channel].frame(bytes(told.frame))
            elif method == "oversized":
                large = msgspec.json.decode(params, type=_Oversized)
                if large.channel in self._sinks:
                    self._sinks[large.channel].frame(Oversized(size=large.size, head=large.head.encode()))
            elif method == "end":
                ended = msgspec.json.decode(params, type=_End)
                if ended.channel in self._sinks:
                    broken = None if ended.reason is None else TransportError(f"{self._origin}: {ended.reason}")
                    self._sinks[ended.channel].ended(broken)

    def _skipped(self, skipped: Skipped) -> None:
        head = skipped.head.partition(b'"frame":')[2]
        for sink in self._sinks.values():
            sink.frame(Oversized(size=skipped.size, head=head))

    def _ended(self, reason: str) -> None:
        for sink in self._sinks.values():
            sink.ended(GatewayDisconnected(f"{self._origin}: {reason}"))
