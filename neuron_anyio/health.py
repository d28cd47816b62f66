"""What operators ask of a neuron: has it started, is it alive, is it ready, how does it stand.

A task in the loop looks at the neuron twice a second and leaves a report; a thread of its own answers from the last
one, so that a loop which no longer turns is told by its silence. None of it shows a task's content.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Final

import anyio
import msgspec
from anyio import CapacityLimiter, to_thread

from .errors import NeuronError
from .metrics import metrics_text
from .neuron import Neuron
from .snapshot import Snapshot
from .taskgroups import body_task_group

__all__ = ["Health", "Report", "ServiceManager", "answered", "probe_address", "watched"]

EVERY: Final = 0.5
"""Seconds between reports."""

STALLED: Final = 5.0
"""Seconds without a report after which the loop counts as dead: ten missed ones, and less than a probe's patience."""

CLOSING: Final = 2.0
"""Seconds for the thread that answers to end."""

OK, NOT_FOUND, UNAVAILABLE = 200, 404, 503

READY, STOPPING = "READY=1", "STOPPING=1"


class Report(msgspec.Struct, frozen=True):
    """How a neuron stood when the loop last looked.

    Attributes:
        started: it has been accepted once.
        draining: it takes no new work.
        not_ready: why it takes no work, `""` when it does.
        status: one line for people.
    """

    started: bool
    draining: bool
    not_ready: str
    status: str


class Health:
    """The reports of one neuron: written by the loop, read by any thread."""

    __slots__ = ("_neuron", "_seen", "_started", "_stood", "report")

    def __init__(self, neuron: Neuron) -> None:
        self._neuron = neuron
        self._started = False
        self.report: Report | None = None
        self._stood: tuple[Snapshot, float] | None = None
        self._seen = time.monotonic()

    def look(self, *, lag: float) -> Report:
        """Make a report. In the loop's thread."""
        snapshot = self._neuron.snapshot()
        registered = snapshot.connection == "registered"
        self._started = self._started or registered
        not_ready = ""
        if snapshot.draining:
            not_ready = "draining"
        elif not registered:
            not_ready = f"not registered ({snapshot.connection})"
        elif not snapshot.alive:
            not_ready = "the last heartbeat was not taken"
        running = sum(state.running for state in snapshot.capabilities.values())
        queued = sum(state.queued for state in snapshot.capabilities.values())
        self.report = Report(
            started=self._started,
            draining=snapshot.draining,
            not_ready=not_ready,
            status=f"{not_ready or 'ready'}; {running} running, {queued} queued, {snapshot.undelivered} undelivered",
        )
        self._stood = (snapshot, lag)
        self._seen = time.monotonic()
        return self.report

    def answer(self, path: str) -> tuple[int, str]:
        """Answer a probe. In any thread.

        Returns:
            HTTP status and text.
        """
        probes = {
            "/startupz": self._started_up,
            "/livez": self._alive,
            "/readyz": self._ready,
            "/metrics": self._metrics,
        }
        probe = probes.get(path)
        return (NOT_FOUND, f"there are {', '.join(probes)}") if probe is None else probe()

    def _started_up(self) -> tuple[int, str]:
        return (
            (OK, "started") if self.report is not None and self.report.started else (UNAVAILABLE, "not registered yet")
        )

    def _ready(self) -> tuple[int, str]:
        report, alive = self.report, self._alive()
        if alive[0] != OK:
            return alive
        not_ready = "starting" if report is None else report.not_ready
        return (UNAVAILABLE, not_ready) if not_ready else (OK, "ready")

    def _metrics(self) -> tuple[int, str]:
        if self._stood is None:
            return UNAVAILABLE, "starting"
        snapshot, lag = self._stood
        return OK, metrics_text(self._neuron.neuron_id, snapshot, lag=lag)  # here, not in the loop: few ask

    def _alive(self) -> tuple[int, str]:
        silence = time.monotonic() - self._seen
        blocking = self._neuron.blocking_handler()
        if silence < STALLED:
            return OK, "alive"
        culprit = "" if blocking is None else f"; {blocking} blocks it"
        return UNAVAILABLE, f"the event loop has not turned for {silence:.0f} s{culprit}"


@asynccontextmanager
async def watched(neuron: Neuron, *, probes: int | str | None = None) -> AsyncGenerator[int | None]:
    """Answer probes, and tell the service manager, while the block runs; yield the port, None without probes.

    Round the neuron's own block, so that its start and its drain are seen.

    Args:
        neuron: `open_neuron(...).neuron`.
        probes: port, or `"HOST:PORT"`, for `/startupz`, `/livez`, `/readyz` and `/metrics`; 0 for a free port. A port
            alone is open on every IPv4 address of the machine, as the probes of a container need it.

    Raises:
        ValueError: that is no address.
        NeuronError: nobody can listen there.
    """
    health = Health(neuron)
    manager = ServiceManager()
    if probes is None and not manager.is_there:
        yield None
        return
    async with AsyncExitStack() as stack:
        port = None if probes is None else await stack.enter_async_context(answered(health.answer, probes))
        tasks = await stack.enter_async_context(body_task_group())
        tasks.start_soon(_watch, health, manager)
        try:
            yield port
        finally:
            manager.tell_stopping()
        tasks.cancel_scope.cancel()


@asynccontextmanager
async def answered(answer: Callable[[str], tuple[int, str]], probes: int | str) -> AsyncGenerator[int]:
    """Answer probes while the block runs; yield the port.

    Args:
        answer: path to HTTP status and text; called in any thread.
        probes: as for `watched`.

    Raises:
        ValueError: that is no address.
        NeuronError: nobody can listen there.
    """
    from .probes import ProbeServer  # noqa: PLC0415 - an HTTP server, for those alone who are probed

    host, port = probe_address(probes)
    try:
        server = ProbeServer(answer, host, port)
    except (OSError, UnicodeError) as exc:  # the latter for a host name that cannot be one
        place = f"{host or '*'}:{port}"
        why = getattr(exc, "strerror", None) or exc
        raise NeuronError(f"cannot answer probes at {place}: {why}; give another port") from None
    try:
        yield server.port
    finally:
        with anyio.move_on_after(CLOSING, shield=True):
            # A limiter of its own: threads of handlers that do not end may have used up the common one.
            await to_thread.run_sync(server.close, limiter=CapacityLimiter(1))


async def _watch(health: Health, manager: ServiceManager) -> None:
    due = anyio.current_time()
    while True:
        manager.tell(health.look(lag=max(0.0, anyio.current_time() - due)))
        due = anyio.current_time() + EVERY
        await anyio.sleep_until(due)


def probe_address(probes: int | str) -> tuple[str, int]:
    """Return host and port of an address for probes.

    Raises:
        ValueError: it is neither a port nor HOST:PORT.
    """
    host, _, port = str(probes).rpartition(":")
    if isinstance(probes, bool) or not port.isdecimal() or int(port) >= 1 << 16:
        raise ValueError(f"health must be a port, 0 to 65535, or HOST:PORT, not {probes!r}")
    return host.removeprefix("[").removesuffix("]"), int(port)


class ServiceManager:
    """The service manager that started this process, where there is one (sd_notify(3), sd_watchdog_enabled(3)).

    Raises nothing: a neuron does not stop for want of a listener. The watchdog is fed from the loop: when that no
    longer turns, the manager restarts the process.
    """

    __slots__ = ("_address", "_said", "_status", "_watchdog")

    def __init__(self) -> None:
        address = os.environ.get("NOTIFY_SOCKET", "")
        self._address = address if address.startswith(("/", "@")) else ""
        for_us = os.environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        self._watchdog = for_us and os.environ.get("WATCHDOG_USEC", "").isdecimal()
        self._said: set[str] = set()
        self._status = ""

    @property
    def is_there(self) -> bool:
        """Whether there is somebody to tell."""
        return self._address != ""

    def tell(self, report: Report) -> None:
        """Tell what is new in a report."""
        once = [READY] if report.started else []
        once += [STOPPING] if report.draining else []
        self._tell(once, report.status)

    def tell_stopping(self) -> None:
        """Tell that the neuron has ended, where no report has said so: it took less time than lies between two."""
        self._tell([STOPPING], self._status)

    def _tell(self, once: Sequence[str], status: str) -> None:
        new = [line for line in once if line not in self._said]
        lines = [*(["WATCHDOG=1"] if self._watchdog else []), *new]
        if status != self._status:
            lines.append(f"STATUS={status}")
        if lines and self._send("\n".join(lines)):
            self._said.update(new)
            self._status = status

    def _send(self, message: str) -> bool:
        """Return whether it was taken; what was not is said again."""
        if not self.is_there:
            return False
        address = self._address.replace("@", "\0", 1) if self._address.startswith("@") else self._address
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.setblocking(False)
            sender.sendto(message.encode(), address)
            return True
        return False
