"""JSON-RPC 2.0 over one byte stream, both ways: calls, answers and notifications, any number at once.

What is sent is written whole by a task of its own: a call that is cancelled leaves no half message behind, and its
answer is dropped when it comes. What the other side sends and is no message is dropped with a warning.
"""

from __future__ import annotations

import itertools
import logging
import re
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import msgspec
from anyio.abc import ByteStream, TaskGroup
from msgspec import Raw

from .errors import TransportError
from .framing import Framing, Skipped, decoder, encode
from .logs import named
from .taskgroups import body_task_group
from .wakeup import Changed, Wakeup

__all__ = ["METHOD_NOT_FOUND", "TOO_LARGE", "UNREADABLE", "Handlers", "RpcConnection", "RpcError"]

METHOD_NOT_FOUND = -32601
INVALID_PARAMS = -32602
INTERNAL_ERROR = -32603
TOO_LARGE = -32001
"""The message was larger than the other side holds: the same one will never do."""

UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
"""What decoding may raise; the last two for what is not UTF-8 and for what is nested too deeply."""

ROOM = 1024 * 1024
"""Bytes that may wait to be written; who would add to more waits."""

SERVED_AT_ONCE = 256
"""Calls of the other side; the next ones are not read before one of these is answered."""

LAST_WORDS = 1.0
"""Seconds for what waits to be written when the connection is left."""

CHUNK = 65536

_BEGINNING = re.compile(rb'\s*\{\s*(?:"jsonrpc"\s*:\s*"2\.0"\s*,\s*)?"id"\s*:\s*(\d{1,15})\s*,\s*"(\w+)"')
"""Of a message that was too large: its number, and whether it is a call."""


class RpcError(Exception):
    """The other side answered a call with an error; raise it in a handler to answer with one.

    Attributes:
        code: JSON-RPC's number.
        data: JSON text.
    """

    def __init__(self, message: str, *, code: int = INTERNAL_ERROR, data: bytes = b"null") -> None:
        super().__init__(message)
        self.code = code
        self.data = data


class _Error(msgspec.Struct):
    code: int
    message: str
    data: Raw = Raw(b"null")


class _Incoming(msgspec.Struct):
    id: int | str | None = None
    method: str | None = None
    params: Raw = Raw(b"null")
    result: Raw = Raw(b"null")
    error: _Error | None = None


def _ignore(*_: object) -> None:
    pass


class Handlers(msgspec.Struct, frozen=True):
    """What is done with what the other side sends.

    Attributes:
        call: serve a call: method and params as JSON text; what it returns is encoded as the result. It may raise
            `RpcError`, or one of `UNREADABLE` for params that do not fit.
        notification: take a notification: the same two. In the loop's thread, returns at once.
        skipped: take a message that was too large.
        ended: take the news that nothing goes any more, and why.
    """

    call: Callable[[str, bytes], Awaitable[Any]]
    notification: Callable[[str, bytes], None] = _ignore
    skipped: Callable[[Skipped], None] = _ignore
    ended: Callable[[str], None] = _ignore


class _Answer:
    __slots__ = ("arrived", "error", "result")

    def __init__(self) -> None:
        self.arrived = anyio.Event()
        self.result = b""
        self.error: Exception | None = None


class RpcConnection:
    """One connection; `running` is its life.

    Args:
        stream: the bytes; closed at the end.
        handlers: for what comes.
        framing: how messages stand in the stream.
        max_bytes: the most that one message may have.
        name: of the other side, for errors.
        log: logger.

    Attributes:
        end: why nothing goes any more, None while it does.
    """

    def __init__(
        self,
        stream: ByteStream,
        handlers: Handlers,
        *,
        framing: Framing,
        max_bytes: int,
        name: str,
        log: logging.Logger,
    ) -> None:
        self.end: str | None = None
        self._stream = stream
        self._handlers = handlers
        self._framing: Framing = framing
        self._decoder = decoder(framing, max_bytes)
        self._name = name
        self._log = log
        self._numbers = itertools.count(1)
        self._answers: dict[int | str, _Answer] = {}
        self._queue: deque[bytes] = deque()
        self._queued = 0
        self._filled = Wakeup()
        self._changed = Changed()
        self._serving = anyio.Semaphore(SERVED_AT_ONCE)

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        """Read and write while the block runs. At its end what waits is written, for at most a second."""
        try:
            async with body_task_group() as tasks:
                tasks.start_soon(self._read, tasks)
                tasks.start_soon(self._write)
                try:
                    yield
                finally:
                    with anyio.move_on_after(LAST_WORDS, shield=True):
                        while self._queued and self.end is None:
                            await self._changed.wait()
                    self._finish("it was left")
                    tasks.cancel_scope.cancel()
        finally:
            with anyio.move_on_after(LAST_WORDS, shield=True):
                await self._stream.aclose()

    async def wait_ended(self) -> str:
        """Wait until nothing goes any more; return why."""
        while self.end is None:
            await self._changed.wait()
        return self.end

    async def call(self, method: str, params: Any) -> bytes:
        """Call the other side; return the result as JSON text.

        Raises:
            RpcError: it answered with an error.
            TransportError: it is gone.
        """
        number = next(self._numbers)
        answer = self._answers[number] = _Answer()
        try:
            await self._send({"jsonrpc": "2.0", "id": number, "method": method, "params": params})
            await answer.arrived.wait()
        finally:
            del self._answers[number]
        if answer.error is not None:
            raise answer.error
        return answer.result

    async def notify(self, method: str, params: Any) -> None:
        """Tell the other side something that it does not answer.

        Raises:
            TransportError: it is gone.
        """
        await self._send({"jsonrpc": "2.0", "method": method, "params": params})

    async def _send(self, message: dict[str, Any]) -> None:
        while self._queued > ROOM and self.end is None:
            await self._changed.wait()
        if self.end is not None:
            raise TransportError(f"{self._name}: {self.end}")
        data = encode(msgspec.json.encode(message), self._framing)
        self._queue.append(data)
        self._queued += len(data)
        self._filled.notify()

    async def _write(self) -> None:
        while self.end is None:
            await self._filled.wait()
            while self._queue:
                data = b"".join(self._queue)
                self._queue.clear()
                try:
                    await self._stream.send(data)
                except (anyio.BrokenResourceError, anyio.ClosedResourceError, OSError):
                    self._finish("it has gone away")
                    return
                self._queued -= len(data)
                self._changed.notify()

    async def _read(self, tasks: TaskGroup) -> None:
        while True:
            try:
                chunk = await self._stream.receive(CHUNK)
            except anyio.EndOfStream:
                cut = "" if self._decoder.is_between else " in the middle of a message"
                return self._finish(f"it has closed the connection{cut}")
            except (anyio.BrokenResourceError, anyio.ClosedResourceError, OSError):
                return self._finish("it has gone away")
            for message in self._decoder.push(chunk):
                await self._take(message, tasks)

    async def _take(self, message: bytes | Skipped, tasks: TaskGroup) -> None:
        if isinstance(message, Skipped):
            line = named("ipc.message_too_large", size=message.size)
            self._log.warning("%s sent a message of %d bytes, which is too large", self._name, message.size, extra=line)
            self._handlers.skipped(message)
            return await self._refuse(message, tasks)
        try:
            found = msgspec.json.decode(message, type=_Incoming)
        except UNREADABLE:
            line = named("ipc.message_unreadable", size=len(message))
            text = "%s sent %d bytes that are no JSON-RPC message"
            return self._log.warning(text, self._name, len(message), extra=line)
        if found.method is None:
            self._answer(found)
        elif found.id is None:
            self._handlers.notification(found.method, bytes(found.params))
        else:
            await self._serving.acquire()
            tasks.start_soon(self._serve, found.id, found.method, bytes(found.params))
        return None

    async def _refuse(self, skipped: Skipped, tasks: TaskGroup) -> None:
        """Tell whoever waits for what was too large: the other side for an answer, or somebody here for this one."""
        begun = _BEGINNING.match(skipped.head)
        if begun is None:
            return
        number = int(begun[1])
        error = _Error(code=TOO_LARGE, message=f"a message of {skipped.size} bytes is too large")
        if begun[2] == b"method":
            await self._serving.acquire()
            tasks.start_soon(self._reply, {"jsonrpc": "2.0", "id": number, "error": error})
        else:
            self._answer(_Incoming(id=number, error=error))

    def _answer(self, found: _Incoming) -> None:
        answer = None if found.id is None else self._answers.get(found.id)
        if answer is None:
            return
        if found.error is None:
            answer.result = bytes(found.result)
        else:
            error = found.error
            answer.error = RpcError(error.message, code=error.code, data=bytes(error.data))
        answer.arrived.set()

    async def _serve(self, number: int | str, method: str, params: bytes) -> None:
        reply: dict[str, Any] = {"jsonrpc": "2.0", "id": number}
        try:
            reply["result"] = await self._handlers.call(method, params)
        except RpcError as exc:
            reply["error"] = _Error(code=exc.code, message=str(exc), data=Raw(exc.data))
        except UNREADABLE:
            reply["error"] = _Error(code=INVALID_PARAMS, message=f"the params of {method} do not fit")
        except Exception as exc:
            self._log.exception("a call of %s failed", self._name, extra=named("ipc.call_broken"))
            reply["error"] = _Error(code=INTERNAL_ERROR, message=type(exc).__name__)
        await self._reply(reply)

    async def _reply(self, reply: dict[str, Any]) -> None:
        """Answer a call. Until that is written it counts as served: who does not read is not read from."""
        try:
            await self._send(reply)
        except TransportError:
            self._log.debug("%s is gone before its call was answered", self._name, extra=named("ipc.caller_gone"))
        finally:
            self._serving.release()

    def _finish(self, reason: str) -> None:
        """Note the end and wake everybody who waits for something that will not come."""
        if self.end is not None:
            return
        self.end = reason
        for answer in self._answers.values():
            answer.error = TransportError(f"{self._name}: {reason}")
            answer.arrived.set()
        self._filled.notify()
        self._changed.notify()
        self._handlers.ended(reason)
