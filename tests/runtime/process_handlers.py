"""Handlers that run in worker processes, which find them here by their names."""

from __future__ import annotations

import atexit
import ctypes
import dataclasses
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import msgspec

from neuron_anyio import RetryableFailure, TerminalFailure, capability

__all__ = [
    "ENDS",
    "Page",
    "Point",
    "classed",
    "echo_there",
    "forked",
    "forks",
    "leaves_a_note",
    "lives",
    "locked",
    "misbehave",
    "moved",
    "takes_time",
    "talks",
]


class Page(msgspec.Struct):
    url: str
    size: int = 1


@dataclasses.dataclass
class Point:
    x: int
    y: int = 0


class TwoArguments(Exception):
    """Pickles, and does not come back."""

    def __init__(self, first: str, second: str) -> None:
        super().__init__(f"{first} and {second}")


class Unpicklable(LookupError):
    """Does not even pickle."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.lock = threading.Lock()


class Unreadable:
    """Leaves its process, and ends whoever reads it."""

    def __reduce__(self) -> Any:
        return _leave_if_read, (os.getpid(),)


def _leave_if_read(home: int) -> None:
    if os.getpid() != home:
        sys.exit(3)


def _die_in_c() -> None:
    ctypes.string_at(0)


def _local_class() -> None:
    class Local(Exception):
        pass

    raise Local("of a class that only this function knows")


def _fail(error: BaseException) -> None:
    raise error


ENDS: dict[str, Any] = {
    "os._exit": lambda: os._exit(3),
    "SIGKILL": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "segfault": _die_in_c,
    "closes everything": lambda: os.closerange(3, 100),
    "leaves a fork": lambda: time.sleep(60) if os.fork() == 0 else os._exit(4),
    "SystemExit": lambda: sys.exit(3),
    "KeyboardInterrupt": lambda: _fail(KeyboardInterrupt()),
    "GeneratorExit": lambda: _fail(GeneratorExit()),
    "two arguments": lambda: _fail(TwoArguments("one", "two")),
    "unpicklable": lambda: _fail(Unpicklable("no lock leaves")),
    "local class": _local_class,
    "lambda": lambda: lambda: None,
    "generator": lambda: (number for number in range(3)),
    "lock": threading.Lock,
    "unreadable": Unreadable,
    "terminal": lambda: _fail(TerminalFailure("no", code="MINE", details={"a": 1})),
    "retry": lambda: _fail(RetryableFailure("later", after=1.5)),
    "recursion": lambda: _endless(0),
}


def _endless(number: int) -> int:
    return _endless(number + 1) + 1


@capability("test/misbehave", runs="process", non_retryable=(Unpicklable,))
def misbehave(how: str) -> Any:
    return ENDS[how]()


@capability("test/there", runs="process", concurrency=4)
def echo_there(value: Any) -> Any:
    return value


@capability("test/lives", runs="process")
def lives(folder: str) -> None:
    """Write this process's id there, and stay."""
    path = Path(folder) / "pid"
    path.with_suffix(".new").write_text(str(os.getpid()))
    path.with_suffix(".new").rename(path)
    time.sleep(60)


@capability("test/forks", runs="process")
def forks(folder: str) -> None:
    """Start a child that would outlive it, write the child's id, and stay."""
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    (Path(folder) / "pid.new").write_text(str(child.pid))
    (Path(folder) / "pid.new").rename(Path(folder) / "pid")
    child.wait()


@capability("test/page", runs="process")
def classed(page: Page) -> Page:
    return Page(url=page.url, size=page.size + 1)


@capability("test/point", runs="process")
def moved(point: Point) -> Point:
    return Point(point.x + 1, point.y - 1)


@dataclasses.dataclass
class Locked:
    """Can be made of JSON, and cannot be pickled."""

    x: int

    def __post_init__(self) -> None:
        self.lock = threading.Lock()


@capability("test/locked", runs="process")
def locked(value: Locked) -> int:
    return value.x


@capability("test/talks", runs="process")
def talks(_: Any) -> None:
    """Print, also from a program of its own, and read."""
    print("said by the handler", flush=True)
    subprocess.run([sys.executable, "-c", "print('said by its child')"], check=True)
    assert sys.stdin.read() == ""


@capability("test/forked", runs="process")
def forked(_: Any) -> bool:
    """Fork as multiprocessing does, and end the fork by a SIGTERM."""
    ours, theirs = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(theirs, b"!")
        time.sleep(60)
        os._exit(0)
    os.read(ours, 1)
    os.kill(child, signal.SIGTERM)
    return os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGTERM


@capability("test/note", runs="process")
def leaves_a_note(path: str) -> None:
    """Leave something to be done when the process ends."""
    atexit.register(Path(path).touch)


@capability("test/takes-time", runs="process")
def takes_time(folder: str) -> int:
    (Path(folder) / "pid.new").write_text(str(os.getpid()))
    (Path(folder) / "pid.new").rename(Path(folder) / "pid")
    time.sleep(0.3)
    return os.getpid()
