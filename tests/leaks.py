"""What a test may leave behind: open files, and threads that still run a handler."""

from __future__ import annotations

import os
import sys
import threading
from contextlib import suppress
from types import FrameType

from neuron_anyio.threads import ThreadCall

__all__ = ["handler_threads", "open_files"]

_IN_THREAD = ThreadCall._call.__code__


def open_files() -> set[str]:
    """Return the open sockets and files, on Linux. What an event loop opens for itself is neither."""
    found: set[str] = set()
    if sys.platform != "linux":
        return found
    for name in os.listdir("/proc/self/fd"):  # noqa: PTH208 - it is read before and after every test
        with suppress(OSError):  # the one of this very look
            target = os.readlink(f"/proc/self/fd/{name}")  # noqa: PTH115 - as above
            if target.startswith(("socket:", "/")) and not target.startswith(("/dev/", "/proc/")):
                found.add(f"{name} {target}")
    return found


def handler_threads() -> list[str]:
    """Return the names of the threads that run a handler now. Those that idle in a pool run none."""
    if threading.active_count() == 1:
        return []
    frames = sys._current_frames()
    return [
        thread.name
        for thread in threading.enumerate()
        if thread.ident is not None and _runs_a_handler(frames.get(thread.ident))
    ]


def _runs_a_handler(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code is _IN_THREAD:
            return True
        frame = frame.f_back
    return False
