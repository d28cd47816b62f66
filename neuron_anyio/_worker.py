"""What runs in a worker process: one handler after the other, for the neuron at the other end of a socket.

Each job, and each answer, is the length of a pickle and the pickle. A thread reads the jobs, so that the end of the
neuron, whatever it died of, ends the process too, in the middle of its work. Standard output stays what it is for the
neuron itself: handlers may print.
"""

from __future__ import annotations

import importlib
import os
import pickle
import queue
import signal
import socket
import struct
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from types import FrameType
from typing import Any, BinaryIO, NamedTuple

__all__ = ["HEAD", "Job", "is_importing", "work"]

HEAD = struct.Struct(">Q")
"""The length of what follows."""

LINGER = 5.0
"""Seconds that a process in which nothing runs may take to end once its neuron has gone."""


class Job(NamedTuple):
    """One call.

    Attributes:
        module, name: where the handler is.
        main: how to load the program itself, for what is defined there; else empty.
        value: the input, pickled: its class may be known only when the module is.
        carrier: what telemetry carries over; None without.
    """

    module: str
    name: str
    main: Mapping[str, Any]
    value: bytes
    carrier: Mapping[str, str] | None = None


_importing = threading.Event()


def is_importing() -> bool:
    """Return whether a worker process is looking for its handler: no time to open a neuron."""
    return _importing.is_set()


def work(descriptor: int) -> None:
    """Do what comes over a socket until it ends.

    Args:
        descriptor: the socket, inherited.
    """
    link = socket.socket(fileno=descriptor)
    link.set_inheritable(False)  # what a handler starts must not keep the neuron waiting
    _leave_signals_to_the_neuron(link)
    del sys.argv[1:]
    jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
    busy = threading.Event()
    threading.Thread(target=_read, args=(link.makefile("rb"), jobs, busy), name="neuron link", daemon=True).start()
    while (job := jobs.get()) is not None:
        answer = _answer(job)
        busy.clear()
        try:
            link.sendall(HEAD.pack(len(answer)))
            link.sendall(answer)
        except OSError:
            return


def _leave_signals_to_the_neuron(link: socket.socket) -> None:
    """Take no notice of a SIGTERM, which service managers send to all processes of a service: the neuron drains.

    A handler and not SIG_IGN, which programs that a handler starts would inherit; and what it forks is no worker.
    """

    def stay(_number: int, _frame: FrameType | None) -> None:
        pass

    def be_no_worker() -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.close(link.detach())

    signal.signal(signal.SIGTERM, stay)
    os.register_at_fork(after_in_child=be_no_worker)


def _read(stream: BinaryIO, jobs: queue.SimpleQueue[Job | None], busy: threading.Event) -> None:
    try:
        while len(head := stream.read(HEAD.size)) == HEAD.size:
            (size,) = HEAD.unpack(head)
            job = pickle.loads(stream.read(size))  # noqa: S301 - from the process that started this one
            busy.set()
            jobs.put(job)
    finally:
        if busy.is_set():
            os._exit(1)
        jobs.put(None)
        time.sleep(LINGER)
        os._exit(1)


def _answer(job: Job) -> bytes:
    """Return the answer: a pickled pair of what the handler raised, or None, and what it returned."""
    try:
        function = _found(job)
        with _resumed(job.carrier):
            value = function(pickle.loads(job.value))  # noqa: S301 - from the process that started this one
    except BaseException as exc:  # noqa: ASYNC103 - what a handler raises is its outcome, and the neuron judges it
        return _failed(exc)  # noqa: ASYNC104 - as above
    try:
        return pickle.dumps((None, value), pickle.HIGHEST_PROTOCOL)
    except Exception as exc:  # an object's own methods may raise anything
        return _failed(TypeError(f"what the handler returned cannot leave its process: {exc}"))


def _resumed(carrier: Mapping[str, str] | None) -> AbstractContextManager[None]:
    if carrier is None:
        return nullcontext()
    from .telemetry_context import resumed  # noqa: PLC0415 - for neurons that have telemetry alone

    return resumed(carrier)


def _found(job: Job) -> Callable[[Any], Any]:
    _importing.set()
    try:
        if job.main:
            from multiprocessing import spawn  # noqa: PLC0415 - for such a program alone

            spawn.prepare({**job.main})
        found: Any = importlib.import_module(job.module)
        for part in job.name.split("."):
            found = getattr(found, part)
    except (Exception, SystemExit) as exc:
        text = f"the worker process cannot load {job.module}: {type(exc).__name__}: {exc}"
        raise ImportError(text, name=job.module) from exc
    finally:
        _importing.clear()
    function: Callable[[Any], Any] = getattr(found, "function", found)
    return function


def _failed(error: BaseException) -> bytes:
    """Pickle an exception; where it cannot be, one of its class, or at least one with its text."""
    if not isinstance(error, Exception):
        # Sent back as it is, it would end the neuron (promise L11.6).
        error = RuntimeError(f"the handler raised {type(error).__name__}")
    elif error.__traceback__ is not None:
        error.add_note("".join(["In the worker process:\n", *traceback.format_exception(error)]).rstrip())
    text = f"{type(error).__name__}: {_text(error)}"
    for each in (error, _Bare(type(error), _text(error)), RuntimeError(text)):
        try:
            answer = pickle.dumps((each, None), pickle.HIGHEST_PROTOCOL)
            pickle.loads(answer)  # noqa: S301 - made in the line above; many exceptions pickle and do not come back
        except Exception:  # noqa: S112 - the next one is simpler; an exception's own methods may raise anything
            continue
        return answer
    raise AssertionError(text)


class _Bare:
    """Comes out of its pickle as an exception of a class, with a text, made past the class's `__init__`."""

    def __init__(self, kind: type[BaseException], text: str) -> None:
        self._arguments = (kind, text)

    def __reduce__(self) -> tuple[Callable[[type[BaseException], str], BaseException], tuple[type[BaseException], str]]:
        return _bare, self._arguments


def _bare(kind: type[BaseException], text: str) -> BaseException:
    return kind.__new__(kind, text)


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # an exception may be broken too
        return ""
