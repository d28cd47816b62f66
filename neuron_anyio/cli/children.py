"""Processes that serve on behalf of one that does not: `run --processes` and `run --reload` start them.

Each has a socket to the process that started it: it tells there when it is ready, and at its end it knows that it has
been left alone. It leads a session of its own, so that a Ctrl-C in the terminal comes to it through its supervisor.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from types import MappingProxyType

import anyio
from anyio.abc import Process

from neuron_anyio.events import Disconnected, Draining, Event, Registered
from neuron_anyio.logs import named

__all__ = ["Child", "Stop", "follow_supervisor"]

FORCED = 128
"""Added to a signal's number, as shells do."""

GRACE = 5.0
"""Seconds beyond the drain, and after a supervisor's death, in which a process ends whose event loop turns."""

READY, NOT_READY = b"1", b"0"

_log = logging.getLogger("neuron_anyio")


class Child:
    """One process that runs `neuron-anyio run`.

    Args:
        arguments: of the command line, as they were given to this process.
        number: its number among several, 0 where it is the only one.
        variables: of its environment, beside this process's own.

    Attributes:
        is_ready: the gateway has it, and it takes work.
    """

    def __init__(
        self, arguments: Sequence[str], *, number: int = 0, variables: Mapping[str, str] = MappingProxyType({})
    ) -> None:
        self.is_ready: bool = False
        self._arguments = [*arguments]
        self._number = number
        self._variables = variables
        self._process: Process | None = None
        self._ended = anyio.Event()
        self._sent: list[signal.Signals] = []

    async def run(self) -> int:
        """Start it and wait for its end; kill it when cancelled.

        Returns:
            Its exit code, 128 and the signal's number where a signal ended it.
        """
        ours, theirs = socket.socketpair()
        with ours:
            with theirs:
                process = await self._start(theirs.fileno())
            async with process:
                self._process = process
                for number in self._sent:
                    self._signal(number)
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(self._follow, ours)
                    await process.wait()
                    tasks.cancel_scope.cancel()
        code = process.returncode
        assert code is not None
        self._process = None
        self.is_ready = False
        self._ended.set()
        if code == -signal.SIGTERM and self._sent == [signal.SIGTERM]:
            return 0  # it had not begun to serve, so there was nothing to drain
        return FORCED - code if code < 0 else code

    def send(self, number: signal.Signals) -> None:
        """Send it a signal, as soon as it is there."""
        self._sent.append(number)
        self._signal(number)

    async def end(self, drain: float) -> None:
        """Let it drain, and wait for its end; kill it when it takes longer than a drain does."""
        if not self._sent:
            self.send(signal.SIGTERM)
        with anyio.move_on_after(drain + GRACE):
            await self._ended.wait()
            return
        _log.error("a process does not end; it is killed", extra=named("child.killed", number=self._number))
        self.send(signal.SIGKILL)

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None:
            with suppress(ProcessLookupError):
                self._process.send_signal(number)

    async def _start(self, fd: int) -> Process:
        verb, *arguments = self._arguments
        command = [sys.executable, "-P", "-m", "neuron_anyio", verb, "--child", f"{self._number}:{fd}", *arguments]
        mine = ("NOTIFY_SOCKET", "WATCHDOG_")  # the service manager listens to the process that it has started
        env = {name: value for name, value in os.environ.items() if not name.startswith(mine)} | {**self._variables}
        return await anyio.open_process(
            command, stdin=None, stdout=None, stderr=None, env=env, pass_fds=[fd], start_new_session=True
        )

    async def _follow(self, link: socket.socket) -> None:
        link.setblocking(False)
        while True:
            await anyio.wait_readable(link)
            try:
                news = link.recv(4096)
            except OSError:
                return
            if not news:
                return
            self.is_ready = news.endswith(READY)


class Stop:
    """Follows the signals to a supervisor: the first drains the children, the second cancels, the third kills.

    Attributes:
        asked: set by the first.
        forced: exit code after the second, None before.
    """

    def __init__(self, children: Callable[[], Sequence[Child]]) -> None:
        self.asked: anyio.Event = anyio.Event()
        self.forced: int | None = None
        self._children = children

    async def watch(self, drain: float) -> None:
        """Follow the signals until cancelled.

        Args:
            drain: seconds that the children have after the first.
        """
        with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as received:
            async with anyio.create_task_group() as tasks:
                async for number in received:
                    if not self.asked.is_set():
                        self.asked.set()
                        for child in self._children():
                            tasks.start_soon(child.end, drain)
                    elif self.forced is None:
                        self.forced = FORCED + number
                        self._send(signal.SIGINT)  # not the number of the first: equal ones that are close merge
                    else:
                        self._send(signal.SIGKILL)
                        sys.stderr.flush()
                        os._exit(FORCED + number)

    def code(self, code: int) -> int:
        """Return the exit code for the children's: which signal has cut them is told by this process's own."""
        return code if self.forced is None or code < FORCED else self.forced

    def _send(self, number: signal.Signals) -> None:
        for child in self._children():
            child.send(number)


def follow_supervisor(fd: int) -> Callable[[Event], None]:
    """Tell the process that has started this one when it is ready, and end when that process is gone.

    A thread watches, because the event loop may be blocked by a handler just then.

    Args:
        fd: this end of the socket between the two.

    Returns:
        What takes the neuron's events.
    """
    os.set_inheritable(fd, False)
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # it may come when all is served, and then just ends the process
    threading.Thread(target=_end_with, args=(fd,), name="supervisor", daemon=True).start()

    def tell(event: Event) -> None:
        news = READY if isinstance(event, Registered) else NOT_READY
        if isinstance(event, Registered | Disconnected | Draining):
            with suppress(OSError):
                os.write(fd, news)

    return tell


def _end_with(fd: int) -> None:
    with suppress(OSError):
        while os.read(fd, 1):
            pass
    _log.error("the supervisor is gone; ending now", extra=named("child.orphaned"))
    os.kill(os.getpid(), signal.SIGTERM)
    os.kill(os.getpid(), signal.SIGINT)  # the second means now; another number, as above
    time.sleep(GRACE)
    os._exit(FORCED + signal.SIGINT)
