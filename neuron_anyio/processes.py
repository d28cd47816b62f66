"""The worker processes of one neuron: one for each handler with `runs="process"` that runs, and one to spare.

A process is killed where its handler is cancelled, with all that the handler has started: it leads a session of its
own, which also keeps a Ctrl-C in the terminal for the neuron. It is started by the neuron alone and needs no pool of
the event loop's, so a cancel at any moment, also while it starts, leaves nothing behind.
"""

from __future__ import annotations

import inspect
import os
import pickle
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import Any

import anyio
from anyio import BrokenWorkerProcess, move_on_after
from anyio.abc import Process, UNIXSocketStream

from ._worker import HEAD, Job, is_importing
from .capability import Capability

__all__ = ["Processes"]

BOOT = "import sys; sys.path[:] = sys.argv[2:]; from neuron_anyio._worker import work; work(int(sys.argv[1]))"

STARTS_WITHIN = 10.0
"""Seconds for the system to make a process: milliseconds, unless it has no memory left."""

ENDS_WITHIN = 1.0
"""Seconds for a process to end by itself when it is not needed any more, and to vanish when it is killed."""

CHUNK = 1 << 18
"""Bytes that are read at once."""

MAIN = ("init_main_from_name", "init_main_from_path", "sys_argv")
"""What tells another process how to load the running program itself."""


class Processes:
    """Worker processes, started as they are needed, and ended by `aclose`.

    Args:
        capabilities: all that the neuron can do.

    Attributes:
        carried: returns what telemetry carries over with a call; None without.

    Raises:
        TypeError: the handler of a capability that runs in a process cannot be found from there by its name.
        RuntimeError: this is such a process itself, which loads the program that has started it.
    """

    def __init__(self, capabilities: Iterable[Capability[..., Any]]) -> None:
        if is_importing():
            raise RuntimeError(
                "a worker process has to import this program to find its handler, and must not start it a second "
                "time; put what starts it under: if __name__ == '__main__':"
            )
        self.carried: Callable[[], Mapping[str, str]] | None = None
        self._idle: list[_Worker] = []
        self._is_stocking = False
        for capability in capabilities:
            if capability.terms.runs == "process":
                _check(capability)

    async def aclose(self) -> None:
        """End the processes, when no handler runs any more."""
        with move_on_after(ENDS_WITHIN, shield=True):
            for worker in self._idle:
                await worker.hang_up()
            for worker in self._idle:
                await worker.wait_ended()
        with move_on_after(ENDS_WITHIN, shield=True):
            for worker in self._idle:
                if worker.is_alive:
                    worker.kill()
            for worker in self._idle:
                await worker.wait_ended()

    async def run(self, function: Callable[..., Any], value: Any) -> Any:
        """Call a function in a process; return what it returns, raise what it raises.

        Cancelled, it kills the process and waits until it has ended (promise L8).

        Raises:
            TypeError: the input cannot be pickled, or what the function returned.
            BrokenWorkerProcess: the process could not be started, or has died.
        """
        carrier = None if self.carried is None else self.carried()
        job = pickle.dumps(_job(function, value, carrier), pickle.HIGHEST_PROTOCOL)
        worker = await self._take()
        try:
            await self._stock()
            answer = await worker.call(job)
        except BaseException:  # a cancellation, too: no process outlives its call
            worker.kill()
            with move_on_after(ENDS_WITHIN, shield=True):
                await worker.wait_ended()
            raise
        self._idle.append(worker)
        error, result = _read(answer)
        if error is not None:
            raise error
        return result

    async def _take(self) -> _Worker:
        while self._idle:
            worker = self._idle.pop()
            if worker.is_alive:
                return worker
            with move_on_after(ENDS_WITHIN, shield=True):
                await worker.wait_ended()
        return await _start()

    async def _stock(self) -> None:
        """See to it that one process more is there, or gets ready: half the time of a start is over when it is needed.

        What the handlers' modules import it imports when it is needed, so it is small.
        """
        if self._idle or self._is_stocking:
            return
        self._is_stocking = True
        try:
            self._idle.insert(0, await _start())
        except BrokenWorkerProcess:
            pass  # it will be missed when it is needed, and said then
        finally:
            self._is_stocking = False


class _Worker:
    """One process, seen from the neuron."""

    __slots__ = ("_link", "_process")

    def __init__(self, process: Process, link: UNIXSocketStream) -> None:
        self._process = process
        self._link = link

    @property
    def is_alive(self) -> bool:
        return self._process.returncode is None

    async def call(self, job: bytes) -> bytes | bytearray:
        """Hand over a job; return its answer."""
        try:
            await self._link.send(HEAD.pack(len(job)))
            await self._link.send(job)
            (size,) = HEAD.unpack(await self._receive(HEAD.size))
            return await self._receive(size)
        except (anyio.EndOfStream, anyio.BrokenResourceError):
            with move_on_after(ENDS_WITHIN, shield=True):
                await self._process.wait()
            raise BrokenWorkerProcess(f"the handler's process {self._fate()}") from None

    async def hang_up(self) -> None:
        """Tell the process that there is nothing more to do."""
        await self._link.aclose()

    def kill(self) -> None:
        """Kill the process, if it lives, and what it has started. Not long after its end: its number is free then."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)

    async def wait_ended(self) -> None:
        """Wait until the process has ended."""
        await self._link.aclose()
        await self._process.wait()

    async def _receive(self, size: int) -> bytearray:
        found = bytearray()
        while len(found) < size:
            found += await self._link.receive(min(CHUNK, size - len(found)))
        return found

    def _fate(self) -> str:
        code = self._process.returncode
        if code is None:
            return "has closed its connection to the neuron"
        if code >= 0:
            return f"ended with exit code {code} before the handler did"
        try:
            return f"was killed by {signal.Signals(-code).name}"
        except ValueError:  # a signal without a name, such as one of real time
            return f"was killed by signal {-code}"


async def _start() -> _Worker:
    ours, theirs = socket.socketpair()
    try:
        with theirs, move_on_after(STARTS_WITHIN, shield=True):  # a start that is torn may leave a process behind
            number = theirs.fileno()
            process = await anyio.open_process(
                [sys.executable, "-c", BOOT, str(number), *sys.path],
                stdin=subprocess.DEVNULL,
                stdout=None,
                stderr=None,
                start_new_session=True,
                pass_fds=[number],
            )
            return _Worker(process, await UNIXSocketStream.from_socket(ours))
    except OSError as exc:
        ours.close()
        raise BrokenWorkerProcess(f"the system makes no process for the handler: {exc.strerror}") from exc
    ours.close()
    raise BrokenWorkerProcess(f"the system made no process for the handler within {STARTS_WITHIN:g} s")


def _job(function: Callable[..., Any], value: Any, carrier: Mapping[str, str] | None) -> Job:
    module, name = function.__module__, function.__qualname__
    try:
        pickled = pickle.dumps(value, pickle.HIGHEST_PROTOCOL)
    except Exception as exc:  # an object's own methods may raise anything
        raise TypeError(f"the input cannot be sent to the handler's process: {exc}") from exc
    return Job(module, name, _main() if module == "__main__" else {}, pickled, carrier)


def _read(answer: bytes | bytearray) -> tuple[Exception | None, Any]:
    try:
        error, result = pickle.loads(answer)  # noqa: S301 - from a process of ours
    except (Exception, SystemExit) as exc:  # an object's own methods may raise anything (promise L11.6)
        raise TypeError(f"what the handler returned cannot be read outside its process: {exc}") from exc
    return error, result


def _main() -> Mapping[str, Any]:
    """Return how to load the running program in another process, without starting it; empty where there is no way."""
    from multiprocessing import spawn  # noqa: PLC0415 - for a program that defines such a handler itself, and no other

    data = spawn.get_preparation_data("neuron worker")
    name, is_file = str(data.get(MAIN[0], "")), MAIN[1] in data
    is_module = bool(name) and name.rpartition(".")[2] != "__main__"
    return {key: data[key] for key in MAIN if key in data} if is_module or is_file else {}


def _check(capability: Capability[..., Any]) -> None:
    problem = _problem(capability)
    if problem is not None:
        remedy = "it takes a plain `def` of the input alone, at the top of a module, which it is imported from"
        raise TypeError(f"capability {capability.terms.type!r}: {problem}; with runs='process' {remedy}")


def _problem(capability: Capability[..., Any]) -> str | None:
    function: Any = capability.function
    module, name = getattr(function, "__module__", None), getattr(function, "__qualname__", None)
    if capability.takes_context:
        return "a context cannot be sent to another process"
    if inspect.iscoroutinefunction(function):
        return f"{name} is `async def`, and a worker process has no event loop"
    if module is None or name is None or "<" in name:
        return f"{name or type(function).__name__} is a lambda, defined inside another function, or no function"
    return _whereabouts(function, module, name)


def _whereabouts(function: Any, module: str, name: str) -> str | None:
    found: Any = sys.modules.get(module)
    for part in name.split("."):
        found = getattr(found, part, None)
    if getattr(found, "function", found) is not function:
        return f"{name} of {module} is something else, or not there"
    if module == "__main__" and not _main():
        return f"{name} is defined in a program that no other process can import"
    return None
