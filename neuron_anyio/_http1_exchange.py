"""One request and its reply on one connection; on a second one when the first turns out to have been dead."""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, aclosing, nullcontext
from typing import TypeVar, cast

import anyio
import anyio.lowlevel
import msgspec

from ._http1_connection import Connection
from ._http1_pool import Pool
from ._http1_request import Origin, Outgoing
from ._http1_wire import ExchangeFailed, ExchangeTimedOut, Phase, ReplyParser, RequestRefused
from .errors import TransportError

__all__ = ["Exchange", "ReplyBody", "TimeLimits"]

# What fits into the socket buffers of any system in use: written in one go, without an eye on the reply.
SMALL_REQUEST = 64 * 1024
WRITE_BYTES = 256 * 1024
# Reply body that is kept while the request is still being written; beyond it the server has to wait.
EARLY_REPLY_BYTES = 1024 * 1024
_REFUSAL = 300  # a reply of this status or above has no use for the rest of the request

_T = TypeVar("_T")

_DOING: dict[Phase, str] = {
    "pool": "waiting for a connection to come free",
    "connect": "connecting",
    "write": "sending the request",
    "read": "waiting for the reply",
}


class TimeLimits(msgspec.Struct, frozen=True):
    """Seconds for each single wait of an exchange; None is unlimited."""

    pool: float | None = None
    connect: float | None = None
    write: float | None = None
    read: float | None = None


class Exchange:
    """A request on its way. Holds a place in the pool from `begin` to `finish`.

    Args:
        pool: where connections are kept.
        connect: opens one.
        origin: where to.
        outgoing: the request.
        limits: of each wait.
        seconds: for all of it, counted from the first wait. What need not wait asks for no time and makes no scope.
        recalls: see `ReplyParser`.

    Attributes:
        reply: what came so far.
    """

    __slots__ = (
        "_connect",
        "_connection",
        "_holds_place",
        "_limits",
        "_origin",
        "_outgoing",
        "_phase",
        "_pool",
        "_seconds",
        "_until",
        "_written",
        "reply",
    )

    def __init__(
        self,
        pool: Pool,
        connect: Callable[[Origin], Awaitable[Connection]],
        origin: Origin,
        outgoing: Outgoing,
        limits: TimeLimits,
        *,
        seconds: float = math.inf,
        recalls: bool = False,
    ) -> None:
        self._pool = pool
        self._connect = connect
        self._origin = origin
        self._outgoing = outgoing
        self._limits = limits
        self._seconds = seconds
        self._until: float | None = None
        self._connection: Connection | None = None
        self._holds_place = self._written = False
        self._phase: Phase = "pool"
        self.reply = ReplyParser(origin, to_head=outgoing.to_head, recalls=recalls)

    def timed_out(self, seconds: float) -> ExchangeTimedOut:
        """Return the error for a time limit that struck now."""
        message = f"{self._origin}: timed out after {seconds:g} s while {_DOING[self._phase]}"
        return ExchangeTimedOut(message, phase=self._phase)

    async def begin(self) -> None:
        """Send the request and read the reply's head. When it raises, nothing is held any more.

        Raises:
            ExchangeFailed, ReplyRefused, RequestRefused: as their classes say.
        """
        try:
            # What can be written at once is written without another look.
            await anyio.lowlevel.checkpoint_if_cancelled()
            try:
                self._connection = self._pool.acquire_nowait(self._origin)
                self._holds_place = True
            except anyio.WouldBlock:
                await self.within(self._limits.pool, self._wait_in_line)
            if self._connection is None:
                await self._open()
            try:
                await self._converse()
            except TransportError as exc:
                if not self._may_repeat(exc):
                    raise
                await self._replace_connection()
                await self._converse()
            if self.reply.complete:
                self.finish()
        except BaseException:  # whoever is cancelled here has no block yet that would give the connection back
            self.finish()
            raise

    def finish(self) -> None:
        """Give the connection back when it is fit for another exchange, else close it. May be called again."""
        if not self._holds_place:
            return
        self._holds_place = False
        connection, self._connection = self._connection, None
        reusable = self._written and self.reply.reusable and not self._outgoing.closes
        self._pool.release(connection, reusable=reusable)

    async def read_some(self) -> None:
        """Wait for more of the reply.

        Raises:
            ExchangeFailed, ReplyRefused: as their classes say.
        """
        self._phase = "read"
        if self.reply.started and self._seconds < math.inf and anyio.current_time() > self._deadline():
            raise self.timed_out(self._seconds)  # one that never lets us wait ends in time, too
        connection = self._held()
        data = await connection.receive_soon()
        if data is None:
            data = await self.within(self._limits.read, connection.receive_later)
        self._take(data)

    def _take(self, data: bytes) -> None:
        if data:
            self.reply.feed(data)
        else:
            self.reply.feed_eof()

    def _held(self) -> Connection:
        if self._connection is None:
            raise ExchangeFailed(f"{self._origin}: read after the reply was closed", phase="read")
        return self._connection

    def within(self, seconds: float | None, wait: Callable[[], Awaitable[_T]]) -> Awaitable[_T]:
        """Wait for a step of this exchange, at most so many seconds and no longer than there are for all of it.

        Raises:
            ExchangeTimedOut: it took longer.
        """
        limit, until = self._seconds, self._deadline()
        if seconds is not None and (earlier := anyio.current_time() + seconds) < until:
            limit, until = seconds, earlier
        return wait() if until == math.inf else self._until_then(until, limit, wait)

    async def _until_then(self, until: float, limit: float, wait: Callable[[], Awaitable[_T]]) -> _T:
        with anyio.CancelScope(deadline=until):
            return await wait()
        raise self.timed_out(limit)

    def _deadline(self) -> float:
        """Return when the time for all of it is over."""
        if self._until is None:
            self._until = math.inf if self._seconds == math.inf else anyio.current_time() + self._seconds
        return self._until

    # A place and a connection.

    async def _wait_in_line(self) -> None:
        self._connection = await self._pool.acquire(self._origin)
        self._holds_place = True

    async def _open(self) -> None:
        self._phase = "connect"
        await self.within(self._limits.connect, self._open_now)

    async def _open_now(self) -> None:
        self._connection = await self._connect(self._origin)
        self._pool.adopt(self._connection)

    def _may_repeat(self, exc: TransportError) -> bool:
        """Return whether an idle connection seems to have been dead: it broke before a byte of the reply came.

        A server that served the request and died looks the same, so only what may be repeated is.
        """
        assert self._connection is not None
        broke = not isinstance(exc, ExchangeTimedOut) and not self.reply.started
        return broke and self._connection.used and self._outgoing.repeatable

    async def _replace_connection(self) -> None:
        """Connect anew in the same place; another idle connection may be as dead as this one.

        The parser has seen nothing, so it serves the second try as well.
        """
        dead, self._connection = self._connection, None
        assert dead is not None
        self._pool.vacate(dead)
        dead.close()
        self._written = False
        await self._open()

    # The conversation.

    async def _converse(self) -> None:
        self._phase = "write"
        failure = await self._send()
        try:
            while not self.reply.head_complete:
                await self.read_some()
        except TransportError:
            if failure is not None and not self.reply.started:
                raise failure from None
            raise

    async def _send(self) -> ExchangeFailed | None:
        """Send the request; return rather than raise what broke it, for the reply may be there already."""
        head, body = self._outgoing.head, self._outgoing.body
        if not isinstance(body, bytes) or len(body) > SMALL_REQUEST:
            return await self._send_watching()
        try:
            rest = self._held().send_nowait(head + body)
            if rest is not None:
                await self._write(rest)
        except ExchangeTimedOut:
            raise
        except ExchangeFailed as exc:
            return exc
        self._written = True
        return None

    async def _send_watching(self) -> ExchangeFailed | None:
        """Send a request of some size with an eye on the reply, which may come early and end the sending.

        The body is iterated in the caller's task, where the caller's own scopes and context variables are.
        """
        failure: Exception | None = None
        refusal: list[TransportError] = []
        async with anyio.create_task_group() as watch:
            with anyio.CancelScope() as sending:
                watch.start_soon(self._watch_reply, sending, refusal)  # noqa: ASYNC111 - may be used after its block
                try:
                    await self._write(self._outgoing.head)
                    await self._write_body()
                    self._written = True
                except Exception as exc:  # raised below, where no group wraps it
                    failure = exc
            watch.cancel_scope.cancel()
        if refusal:
            raise refusal[0]
        if failure is None or type(failure) is ExchangeFailed:
            return failure
        raise failure

    async def _watch_reply(self, sending: anyio.CancelScope, refusal: list[TransportError]) -> None:
        """Read while the request is being sent; stop the sending when the reply makes it pointless."""
        reply = self.reply
        try:
            while not (reply.complete or (reply.head_complete and reply.status >= _REFUSAL)):
                if reply.size > EARLY_REPLY_BYTES:
                    return
                self._take(await self._held().receive())
        except TransportError as exc:
            refusal.append(exc)
        sending.cancel()

    async def _write(self, data: bytes | memoryview) -> None:
        connection = self._held()
        await self.within(self._limits.write, lambda: connection.send(data))

    async def _write_body(self) -> None:
        body = self._outgoing.body
        if not isinstance(body, bytes):
            await self._write_pieces(body)
            return
        for start in range(0, len(body), WRITE_BYTES):
            await self._write(body[start : start + WRITE_BYTES])
            await anyio.lowlevel.checkpoint()  # a system that takes all of it at once must not hold up the loop

    async def _write_pieces(self, body: AsyncIterable[bytes]) -> None:
        left = self._outgoing.length
        async with _closed_after(body) as pieces:
            async for piece in pieces:
                if left is not None:
                    left -= len(piece)
                    if left < 0:
                        raise RequestRefused("the body is longer than its content-length")
                    await self._write(piece)
                elif piece:  # an empty chunk would be the last one
                    await self._write(b"%x\r\n%b\r\n" % (len(piece), piece))
                await anyio.lowlevel.checkpoint()  # as above
        if left:
            raise RequestRefused("the body is shorter than its content-length")
        if left is None:
            await self._write(b"0\r\n\r\n")


class ReplyBody:
    """The body of a reply whose exchange has begun: an iterator of what comes, as it comes.

    A class rather than an async generator: one that is dropped half-way would be finished by the garbage collector.
    """

    __slots__ = ("_exchange",)

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        exchange = self._exchange
        while not (chunk := exchange.reply.take_body()):
            if exchange.reply.complete:
                exchange.finish()
                raise StopAsyncIteration
            await exchange.read_some()
        return chunk


def _closed_after(body: AsyncIterable[bytes]) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
    pieces = aiter(body)
    # Ended here rather than by the garbage collector, which trio warns of.
    return aclosing(cast("AsyncGenerator[bytes]", pieces)) if hasattr(pieces, "aclose") else nullcontext(pieces)
