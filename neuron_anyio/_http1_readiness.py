"""Whether a socket has something to read, and waiting until it has.

`anyio.wait_readable` lets the loop turn before it asks the system to watch the socket, and takes the watch back at the
end of each wait. The loops of asyncio can watch a socket for as long as it is open. Where the loop cannot, as trio, whose
own way is as cheap, anyio does it.
"""

from __future__ import annotations

import select
import socket
from typing import Any

import anyio
import anyio.lowlevel

from .wakeup import Wakeup

__all__ = ["Readiness"]


class Readiness:
    """Of one connected socket. In the loop's thread only.

    Args:
        connected: never blocks; whoever closes it calls `close` before.
    """

    __slots__ = ("_is_awaited", "_loop", "_poll", "_socket", "_wakeup")

    def __init__(self, connected: socket.socket) -> None:
        self._socket = connected
        self._poll = select.poll()
        self._poll.register(connected, select.POLLIN)
        self._wakeup = Wakeup()
        self._is_awaited = False
        self._loop: Any = None  # while it watches

    def now(self) -> bool:
        """Return whether there is something to read, be it the end."""
        return bool(self._poll.poll(0))

    async def wait(self) -> None:
        """Wait until there may be something to read, or until `close`.

        Raises:
            anyio.BusyResourceError: another task waits.
        """
        if self._is_awaited:
            raise anyio.BusyResourceError("reading from")
        self._is_awaited = True
        try:
            if self._is_watched():
                await self._wakeup.wait()
            else:
                await anyio.wait_readable(self._socket)
        finally:
            self._is_awaited = False

    def close(self) -> None:
        """Let the loop watch no longer, and whoever waits go on. May be called again."""
        self._unwatch()
        if self._is_awaited:
            self._wakeup.notify()

    def _is_watched(self) -> bool:
        if self._loop is None:
            loop = anyio.lowlevel.current_token().native_token
            if not hasattr(loop, "add_reader"):
                return False
            try:
                loop.add_reader(self._socket.fileno(), self._look)
            except NotImplementedError:
                return False
            self._loop = loop
        return True

    def _unwatch(self) -> None:
        loop, self._loop = self._loop, None
        if loop is not None and not loop.is_closed():
            loop.remove_reader(self._socket.fileno())

    def _look(self) -> None:
        """Take the loop's word that there is something: once more than needed, and also when nobody waits."""
        if not self.now():
            return  # it was read since
        if self._is_awaited:
            self._wakeup.notify()
        else:
            self._unwatch()  # or the loop would go on and on about it
