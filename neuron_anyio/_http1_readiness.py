"""Whether a socket has something to read, and waiting until it has.

`anyio.wait_readable` lets the loop turn before it asks the system to watch the socket, and takes the watch back at the
end of each wait. The loops of asyncio can watch a socket for as long as it is open. Where the loop cannot, as trio,
whose own way is as cheap, anyio does it.
"""

from __future__ import annotations

import select
import socket
from typing import Any

import anyio

from .native_loop import event_maker, native_loop
from .wakeup import Wakeup

__all__ = ["Readiness"]


class Readiness:
    """Of one connected socket. In the loop's thread only.

    Args:
        connected: never blocks; whoever closes it calls `close` before.
    """

    __slots__ = ("_in_vain", "_is_awaited", "_loop", "_poll", "_socket", "_wakeup")

    def __init__(self, connected: socket.socket) -> None:
        self._socket = connected
        self._poll = select.poll()
        self._poll.register(connected, select.POLLIN)
        self._wakeup: Wakeup | None = None
        self._is_awaited = self._in_vain = False
        self._loop: Any = None  # while it watches

    def now(self) -> bool:
        """Return whether there is something to read, be it the end."""
        self._in_vain = False
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
            wakeup = self._watch()
            await (anyio.wait_readable(self._socket) if wakeup is None else wakeup.wait())
        finally:
            self._is_awaited = False

    def close(self) -> None:
        """Let the loop watch no longer, and whoever waits go on. May be called again."""
        self._unwatch()
        if self._is_awaited and self._wakeup is not None:
            self._wakeup.notify()

    def _watch(self) -> Wakeup | None:
        """Let the loop watch, and return what it wakes; None where it cannot watch."""
        if self._loop is None:
            loop = native_loop()
            if not hasattr(loop, "add_reader"):
                return None
            self._wakeup = self._wakeup or Wakeup(event_maker())
            loop.add_reader(self._socket.fileno(), self._look)
            self._loop = loop
        return self._wakeup

    def _unwatch(self) -> None:
        loop, self._loop = self._loop, None
        if loop is not None and not loop.is_closed():
            loop.remove_reader(self._socket.fileno())

    def _look(self) -> None:
        """Take the loop's word that there is something; it comes once more than needed, and when nobody waits."""
        if self._is_awaited and self._wakeup is not None:
            self._wakeup.notify()
        elif self._in_vain:
            self._unwatch()  # or the loop would go on and on about it
        else:
            self._in_vain = True
