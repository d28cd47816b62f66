"""Whether a socket has something to read, and waiting until it has.

`anyio.wait_readable` lets the loop turn before it asks the system to watch the socket, and takes the watch back at the
end of each wait. The loops of asyncio can watch a socket for as long as it is open. Where the loop cannot, as trio,
whose own way is as cheap, anyio does it.
"""

from __future__ import annotations

import select
import socket
import weakref
from contextvars import Context
from typing import Any

import anyio

from .native_loop import FutureEvent, native_loop

__all__ = ["Readiness"]


class Readiness:
    """Of one connected socket. In the loop's thread only.

    Args:
        connected: never blocks; `close` closes it.

    Attributes:
        is_closed: whether `close` was called.
    """

    __slots__ = (
        "__weakref__",
        "_event",
        "_in_vain",
        "_loop",
        "_number",
        "_poll",
        "_socket",
        "_waiting",
        "is_closed",
    )

    def __init__(self, connected: socket.socket) -> None:
        self._loop: Any = None  # while it watches
        self._socket = connected
        self._number = -1  # of the socket, as the loop watches it
        self._poll = select.poll()
        self._poll.register(connected, select.POLLIN)
        self._event: FutureEvent | None = None  # while somebody waits for the loop that watches
        self._in_vain = False
        self.is_closed: bool = False
        self._waiting = 0

    def now(self) -> bool:
        """Return whether there is something to read, be it the end."""
        self._in_vain = False
        return bool(self._poll.poll(0))

    async def wait(self) -> None:
        """Wait until there may be something to read, or until `close`.

        Raises:
            anyio.BusyResourceError: another task waits.
        """
        if self._event is not None:
            raise anyio.BusyResourceError("reading from")
        self._waiting += 1
        try:
            if self._watch():
                self._event = FutureEvent(self._loop)
                await self._event.wait()
            else:
                await anyio.wait_readable(self._socket)
        finally:
            self._event = None
            self._leave()

    async def wait_writable(self) -> None:
        """Wait until something may be written, or until `close`."""
        self._waiting += 1
        try:
            await anyio.wait_writable(self._socket)
        finally:
            self._leave()

    def close(self) -> None:
        """Close the socket and let whoever waits go on. May be called again.

        It stays open until they have left: on asyncio a task would else take down with it the wait of whoever got the
        same file descriptor by then.
        """
        self.is_closed = True
        self._unwatch()
        if self._event is not None:
            self._event.set()
        if self._waiting:
            anyio.notify_closing(self._socket)
        else:
            self._socket.close()

    def _leave(self) -> None:
        self._waiting -= 1
        if self.is_closed and not self._waiting:
            self._socket.close()

    def _watch(self) -> bool:
        """Let the running loop watch; return whether it can."""
        if self._loop is not None and not self._loop.is_running():
            self._unwatch()  # a loop of an earlier run
        if self._loop is None:
            loop = native_loop()
            if not hasattr(loop, "add_reader"):
                return False
            # The loop must keep nothing alive: neither the variables of who waits first, nor what nobody uses any more.
            self._number = self._socket.fileno()  # kept: the garbage collector may close the socket first
            Context().run(loop.add_reader, self._number, _look, weakref.ref(self))
            self._loop = loop
        return True

    def _unwatch(self) -> None:
        loop, self._loop = self._loop, None
        if loop is not None and not loop.is_closed():
            loop.remove_reader(self._number)

    def __del__(self) -> None:
        self._unwatch()

    def look(self) -> None:
        """Take the loop's word that there is something; it comes once more than needed, and when nobody waits."""
        if self._event is not None:
            self._event.set()
        elif self._in_vain:
            self._unwatch()  # or the loop would go on and on about it
        else:
            self._in_vain = True


def _look(watched: weakref.ref[Readiness]) -> None:
    readiness = watched()
    if readiness is not None:
        readiness.look()
