"""The terminals of a page: commands run as they are shown, and what they say is what is shown below them.

`$ command` is waited for, and must end with exit code 0 unless the page asks for the code with `echo $?`.
`name$ command` runs in a terminal of that name, and goes on as soon as it has said what is shown; `name$ ^C` is Ctrl-C
there. `> ` continues a command. Where nothing is shown below a command, anything may be said.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import entry_points
from pathlib import Path
from typing import NamedTuple

from tests.docs.pages import ROOT

__all__ = ["Step", "Terminal", "Terminals", "environment_of", "free_port", "line_pattern", "steps_of"]

CHECKOUT = "checkout"
"""The terminal that is in a checkout of the project; all others are in the page's folder."""

PATIENCE = 30.0
"""Seconds for anything to happen; far above what it takes, so that only a fault runs into it."""

PORT = 8787
"""The port that pages show; each page gets another, so that they do not meet."""


PROBES = 8080
"""The port of probes that pages show; each page gets another, likewise."""

BELOW = 12_000
"""How far below a page's port its port of probes is."""

PLUGIN = "neuron_anyio.testing.pytest_plugin"

PROMPT = re.compile(r"(?P<terminal>[a-z]*)\$ (?P<command>.*)")

VARIES = re.compile(
    r"(?P<time>\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z)"
    r"|(?P<id>(?<![a-z])(?:task|lease|session)[_-][0-9a-f]+)"
    r"|(?P<number>\d+\.\d+(?= ?s\b))"
    r"|(?P<any>\.\.\.)"
)
"""What may differ from what a page shows: times, ids, durations, and what it leaves out."""

PATTERNS = {
    "time": r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z",
    "id": r"[a-z]+[_-][0-9a-f]+",
    "number": r"\d+\.\d+",
    "any": ".*",
}


class Step(NamedTuple):
    """One command of a page and what it shows below; no lines where it shows nothing."""

    terminal: str
    command: str
    shown: tuple[str, ...]


def steps_of(text: str) -> Iterator[Step]:
    """Take a `console` block apart."""
    current: Step | None = None
    for line in text.splitlines():
        if (prompt := PROMPT.fullmatch(line)) is not None:
            if current is not None:
                yield current
            current = Step(prompt["terminal"], prompt["command"], ())
            continue
        assert current is not None, f"a console block must begin with a prompt, not with {line!r}"
        if line.startswith("> ") and not current.shown:
            current = current._replace(command=f"{current.command}\n{line[2:]}")
        else:
            current = current._replace(shown=(*current.shown, line))
    if current is not None:
        yield current


def pattern_of(shown: Sequence[str]) -> re.Pattern[str]:
    """Return what finds the lines that a page shows, at the beginning of what was said."""
    lines = [r"(?:.*\n)*?" if line.strip() == "..." else line_pattern(line).pattern + r" *\n" for line in shown]
    return re.compile("".join(lines))


def line_pattern(line: str) -> re.Pattern[str]:
    """Return what finds one line that a page shows."""
    line = line.rstrip()
    done, parts = 0, list[str]()
    for found in VARIES.finditer(line):
        assert found.lastgroup is not None
        parts += [re.escape(line[done : found.start()]), PATTERNS[found.lastgroup]]
        done = found.end()
    return re.compile("".join([*parts, re.escape(line[done:])]))


class Terminal:
    """One terminal: at most one command at a time runs in it."""

    def __init__(self, folder: Path, environment: Mapping[str, str], port: int) -> None:
        self._folder = folder
        self._environment = environment
        self._port = port
        self._process: subprocess.Popen[str] | None = None
        self._said = ""
        self._ended = True
        self._code = 0
        self._news = threading.Condition()
        self._reader: threading.Thread | None = None

    def start(self, command: str) -> None:
        """Type a command, when the former one has ended."""
        self.wait()
        ports = {str(PORT): str(self._port), str(PROBES): str(self._port - BELOW)}
        with_port = re.sub("|".join(ports), lambda shown: ports[shown[0]], command)
        if re.match(r"neuron-anyio (gateway|dev)\b(?!.*--port)", with_port):
            with_port = re.sub(r"^neuron-anyio (gateway|dev)", rf"\g<0> --port {self._port}", with_port)
        self._said, self._ended = "", False
        self._process = subprocess.Popen(
            ["bash", "-c", f"(exit {self._code})\n{with_port}"],
            cwd=self._folder,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, args=(self._process,), daemon=True)
        self._reader.start()

    def expect(self, shown: Sequence[str]) -> None:
        """Wait until what is shown was said, first."""
        pattern = pattern_of(shown)
        with self._news:
            self._news.wait_for(lambda: self._ended or pattern.match(self._said) is not None, timeout=PATIENCE)
            found = pattern.match(self._said)
            shows = "\n".join(shown)
            assert found is not None, f"the page shows\n{shows}\n\nand there came\n{self._said}"
            self._said = self._said[found.end() :]

    def expect_end(self, shown: Sequence[str]) -> int:
        """Wait for the end; what is shown must be all that was said. Returns the exit code."""
        code = self.wait()
        if shown:
            self.expect(shown)
            assert not self._said or shown[-1].strip() == "...", f"the page does not show\n{self._said}"
        return code

    def send(self, number: signal.Signals) -> None:
        """Send a signal to what runs, as a terminal does: to the whole group."""
        assert self._process is not None
        os.killpg(self._process.pid, number)

    def wait(self) -> int:
        """Wait for the end of what runs; return its exit code."""
        if self._process is not None:
            with self._news:
                assert self._news.wait_for(lambda: self._ended, timeout=PATIENCE), f"still runs: {self._process.args!r}"
            self._code = self._process.wait(PATIENCE)
            assert self._reader is not None
            self._reader.join(PATIENCE)
            self._process = None
        return self._code

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def kill(self) -> None:
        if self._process is not None:
            if self._process.poll() is None:
                self.send(signal.SIGKILL)
            self._process.wait(PATIENCE)
            if self._reader is not None:
                self._reader.join(PATIENCE)

    def _read(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        with process.stdout:
            for line in process.stdout:
                with self._news:
                    self._said += line.replace(str(self._port), str(PORT))
                    self._news.notify_all()
        with self._news:
            self._ended = True
            self._news.notify_all()


class Terminals:
    """All terminals of one page, in one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.environment = environment_of(folder)
        self._open: dict[str, Terminal] = {}

    def run(self, step: Step, after: Step | None) -> None:
        """Do what one step of the page shows.

        Args:
            step: the step.
            after: the next one of its block: where it asks for the exit code, this may be any.
        """
        folder = ROOT if step.terminal == CHECKOUT else self.folder
        terminal = self._open.setdefault(step.terminal, Terminal(folder, self.environment, self.port))
        if step.command == "^C":
            terminal.send(signal.SIGINT)
            terminal.expect(step.shown)
            return
        terminal.start(step.command)
        if step.terminal:
            terminal.expect(step.shown)
        else:
            code = terminal.expect_end(step.shown)
            asked = after is not None and "$?" in after.command
            assert asked or code == 0, f"{step.command!r} ended with exit code {code}: {terminal._said}"

    def close(self) -> None:
        """End what still runs, as the end of a session does; each must follow a SIGTERM."""
        running = [terminal for terminal in self._open.values() if terminal.is_running]
        try:
            for terminal in running:
                terminal.send(signal.SIGTERM)
            for terminal in running:
                assert terminal.wait() in (0, -signal.SIGTERM)
        finally:
            for terminal in self._open.values():
                terminal.kill()


def environment_of(folder: Path) -> dict[str, str]:
    """Return this process's environment, with this interpreter's commands first, and warnings as errors."""
    own = ("BIGBRAIN_", "PYTEST_", "LOG_LEVEL")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(own)}
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    if not any(point.value == PLUGIN for point in entry_points(group="pytest11")):
        kept["PYTEST_PLUGINS"] = PLUGIN  # an installation from before the package had one
    return {
        **kept,
        "PATH": path,
        "TERM": "dumb",
        "COLUMNS": "120",
        "PYTHONUNBUFFERED": "1",
        "PYTHONWARNINGS": "error",
        "HOME": str(folder),
    }


def free_port() -> int:
    """Return a port below those that the kernel hands out, on which nobody listens now."""
    for number in range(1000):
        port = 20_000 + (os.getpid() * 31 + number) % 12_000
        with socket.socket() as trial:
            try:
                trial.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError("no port is free")
