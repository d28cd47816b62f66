"""Places for connections, over all origins.

`Pool` decides in functions without `await`, and closing waits for nothing; so a cancellation, which can only strike at
an `await`, always finds the books in order. A place that comes free is handed to the longest waiter together
with its wake, for wakes alone come in any order.
"""

from __future__ import annotations

import time

import anyio
import msgspec

from ._http1_connection import Connection
from ._http1_request import Origin
from ._http1_wire import ExchangeFailed

__all__ = ["Pool", "PoolStatistics"]


class PoolStatistics(msgspec.Struct, frozen=True):
    """A pool at one moment.

    Attributes:
        places: connections that are open or being opened; never above the limit.
        active: those that carry an exchange.
        idle: those that wait for one.
        waiting: requests that wait for a place.
    """

    places: int
    active: int
    idle: int
    waiting: int


class _Waiter:
    """A request in the queue. What it waits for is put here before it is woken."""

    __slots__ = ("closed", "connection", "granted", "origin", "woken")

    def __init__(self, origin: Origin) -> None:
        self.origin = origin
        self.woken = anyio.Event()
        self.granted = self.closed = False
        self.connection: Connection | None = None

    def grant(self, connection: Connection | None) -> None:
        self.granted = True
        self.connection = connection
        self.woken.set()


class Pool:
    """Places for connections, over all origins.

    While anybody waits no place is free and no connection idle; so a newcomer never overtakes the queue.
    """

    __slots__ = (
        "_active",
        "_closed",
        "_idle",
        "_idle_timeout",
        "_max_connections",
        "_max_idle",
        "_places",
        "_waiters",
    )

    def __init__(self, *, max_connections: int, max_idle: int, idle_timeout: float) -> None:
        self._max_connections = max_connections
        self._max_idle = max_idle
        self._idle_timeout = idle_timeout
        self._places = 0
        self._active: set[Connection] = set()
        self._idle: list[Connection] = []  # oldest first
        self._waiters: list[_Waiter] = []  # an empty deque takes 700 bytes
        self._closed = False

    def statistics(self) -> PoolStatistics:
        return PoolStatistics(self._places, len(self._active), len(self._idle), len(self._waiters))

    def acquire_nowait(self, origin: Origin) -> Connection | None:
        """Take a place; the caller holds it until `release`.

        Returns:
            An idle connection to the origin, or None: the place is empty, open a connection and `adopt` it.

        Raises:
            ExchangeFailed: the pool was closed.
            anyio.WouldBlock: all places are taken.
        """
        if self._closed:
            raise _closed_here(origin)
        too_old = time.monotonic() - self._idle_timeout
        while self._idle and self._idle[0].idle_since <= too_old:
            self._evict(0)
        for index in reversed(range(len(self._idle))):
            connection = self._idle[index]
            if connection.origin != origin:
                continue
            if connection.is_stale():
                self._evict(index)
                continue
            del self._idle[index]
            self._active.add(connection)
            return connection
        if self._idle and self._places >= self._max_connections:
            self._evict(0)
        if self._places >= self._max_connections:
            raise anyio.WouldBlock
        self._places += 1
        return None

    async def acquire(self, origin: Origin) -> Connection | None:
        """Wait for a place where none is free; else as `acquire_nowait`."""
        try:
            return self.acquire_nowait(origin)
        except anyio.WouldBlock:
            return await self._wait(origin)

    async def _wait(self, origin: Origin) -> Connection | None:
        waiter = _Waiter(origin)
        self._waiters.append(waiter)
        try:
            await waiter.woken.wait()
        except BaseException:  # a cancellation may cross the grant: then the place goes to the next
            if waiter.granted:
                self.release(waiter.connection, reusable=True)
            elif not waiter.closed:
                self._waiters.remove(waiter)
            raise
        if waiter.closed:
            raise _closed_here(origin)
        return waiter.connection

    def _evict(self, index: int) -> None:
        self._places -= 1
        self._idle.pop(index).close()

    def adopt(self, connection: Connection) -> None:
        """Note the connection that was opened in an empty place.

        Raises:
            ExchangeFailed: the pool was closed meanwhile; the place still wants its `release`.
        """
        self._active.add(connection)
        if self._closed:
            raise _closed_here(connection.origin)

    def vacate(self, connection: Connection) -> None:
        """Empty a place without giving it up, to fill it anew. The caller closes the connection.

        Raises:
            ExchangeFailed: the pool was closed, and the connection with it.
        """
        self._active.discard(connection)
        if self._closed:
            raise _closed_here(connection.origin)

    def release(self, connection: Connection | None, *, reusable: bool) -> None:
        """Give a place up, with the connection in it if there is one; it is closed where it is of no more use."""
        waiter = self._waiters.pop(0) if self._waiters else None
        if connection is not None:
            self._active.discard(connection)
            connection.used = True
            # Whom it is handed to could not tell a stray reply from its own; an idle one is looked at when it is taken.
            wanted = waiter is None or (waiter.origin == connection.origin and not connection.is_stale())
            if self._closed or not reusable or not wanted:
                connection.close()
                connection = None
        if waiter is not None:
            if connection is not None:
                self._active.add(connection)
            waiter.grant(connection)
        elif connection is None:
            self._places -= 1
        else:
            connection.idle_since = time.monotonic()
            self._idle.append(connection)
            if len(self._idle) > self._max_idle:
                self._evict(0)

    def close(self) -> None:
        """Refuse everything from now on, wake who waits, close every connection.

        Exchanges under way fail, and release their places themselves.
        """
        self._closed = True
        for waiter in self._waiters:
            waiter.closed = True
            waiter.woken.set()
        self._waiters.clear()
        idle, self._idle = self._idle, []
        self._places -= len(idle)
        for connection in (*idle, *self._active):
            connection.close()


def _closed_here(origin: Origin) -> ExchangeFailed:
    return ExchangeFailed(f"{origin}: the HTTP transport was closed", phase="pool")
