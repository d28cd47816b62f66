"""Names the handler that blocks the loop, while it still does (promise H2).

A handler in the loop is driven step by step; each step says when it begins and ends. One thread for the whole process
looks at the steps that are under way: it is the only one that can, for the loop itself does not turn.
"""

from __future__ import annotations

import logging
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence

from .events import Event, HandlerBlocked
from .lease import Lease
from .logs import named

__all__ = ["Watchdog"]

BLOCKED_AFTER = 1.0
"""Seconds: far longer than a step that only computes should take, and short beside a heartbeat's interval."""

LOOKS = 4
"""Within `BLOCKED_AFTER`."""

LINGER = 10.0
"""Seconds after the last step for which the thread stays: one that starts with every lease would cost more."""


class Watchdog:
    """Watches the handlers of one neuron. In the loop's thread only.

    Args:
        emit: where events go.
        log: logger.
        origins: names of the brokers, by number.
    """

    __slots__ = ("_emit", "_log", "_origins", "lease", "since", "thread", "told")

    def __init__(self, *, emit: Callable[[Event], None], log: logging.Logger, origins: Sequence[str] = ("",)) -> None:
        self._emit = emit
        self._log = log
        self._origins = origins
        self.thread: int = threading.get_ident()
        self.lease: Lease | None = None
        self.since: float = 0.0
        self.told: bool = False

    def begin(self, lease: Lease) -> None:
        """Note that a step of a handler begins."""
        self.told = False
        self.since = time.monotonic()
        self.lease = lease
        _watcher.watched[self.thread] = self
        if not _watcher.is_awake:  # looked at after the line above, so that a thread that ends just now has seen it
            _watcher.wake(self)

    def end(self) -> None:
        """Note that it has ended."""
        lease, self.lease = self.lease, None
        seconds = time.monotonic() - self.since
        if lease is not None and seconds > BLOCKED_AFTER:
            capability = lease.delivery.task.capability
            self._emit(HandlerBlocked(lease_id=lease.delivery.id, capability=capability, seconds=seconds))

    def blocking(self) -> str | None:
        """Name the handler whose step has been under way for too long; None where there is none. In any thread."""
        lease, since = self.lease, self.since
        if lease is None or time.monotonic() - since <= BLOCKED_AFTER:
            return None
        return f"lease {lease.delivery.id} ({lease.delivery.task.capability})"

    def look(self, now: float) -> None:
        """Name the handler whose step takes too long, once. In the watcher's thread."""
        lease, since = self.lease, self.since
        if lease is None or self.told or now - since <= BLOCKED_AFTER:
            return
        frame = sys._current_frames().get(self.thread)  # noqa: SLF001 - its documented name
        stack = "" if frame is None else "".join(traceback.format_stack(frame))
        if self.lease is not lease or self.since != since:
            return  # it has gone on meanwhile
        self.told = True
        self._log.warning(
            "the handler of lease %s (%s) has blocked the event loop for %.1f s; heartbeats and other handlers wait "
            "for it. Make it a plain `def`, or await anyio.to_thread.run_sync(...). It is at:\n%s",
            lease.delivery.id,
            lease.delivery.task.capability,
            now - since,
            stack,
            extra=named("handler.blocking", lease, origin=self._origins[lease.source], seconds=now - since),
        )


class _Watcher:
    """The thread. It starts with the first step and ends when there has been none for a while.

    Attributes:
        watched: the neuron whose handler makes a step, or made the last one, by the loop's thread.
        is_awake: whether the thread looks.
    """

    def __init__(self) -> None:
        self.watched: dict[int, Watchdog] = {}
        self.is_awake = False
        self._lock = threading.Lock()

    def wake(self, watchdog: Watchdog) -> None:
        """Start the thread, unless another thread's loop has."""
        with self._lock:
            self.watched[watchdog.thread] = watchdog
            if not self.is_awake:
                self.is_awake = True
                threading.Thread(target=self._watch, name="neuron watchdog", daemon=True).start()

    def _watch(self) -> None:
        while True:
            time.sleep(BLOCKED_AFTER / LOOKS)
            now = time.monotonic()
            latest = now - LINGER
            for watchdog in list(self.watched.values()):
                watchdog.look(now)
                latest = now if watchdog.lease is not None else max(latest, watchdog.since)
            if latest <= now - LINGER:
                with self._lock:
                    self.is_awake = False
                    if all(watchdog.lease is None for watchdog in list(self.watched.values())):
                        self.watched.clear()
                        return
                    self.is_awake = True


_watcher = _Watcher()
