"""The command line as real processes, for the tests of its verbs."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Literal

SCRIPT = str(Path(sys.executable).with_name("neuron-anyio"))

OWN = ("BIGBRAIN_GATEWAY_URL", "BIGBRAIN_NEURON_ID", "BIGBRAIN_TOKEN", "BIGBRAIN_TOKEN_FILE", "LOG_LEVEL")

PATIENCE = 15.0
"""Seconds for anything to happen; far above what it takes, so that only a fault runs into it."""

WORKER = '''
import os
import time

import anyio
import msgspec

from neuron_anyio import LeaseContext, capability


class Text(msgspec.Struct):
    text: str


@capability("examples/text.upper", description="Writes a text in capitals.")
async def upper(value: Text, ctx: LeaseContext) -> str:
    ctx.progress(percent=40, message="reading")
    return value.text.upper()


@capability("examples/thread", runs="thread", lease_ttl=30.0, timeout=20.0)
def in_thread(value):
    return {"seen": value}


@capability("examples/fails")
async def fails(value, ctx: LeaseContext):
    ctx.fail("the oven is cold", code="COLD")


@capability("examples/gated", concurrency=2)
async def gated(value, ctx: LeaseContext) -> str:
    """Say that it runs, and wait for a byte on stdin."""
    print("STARTED", ctx.lease_id, flush=True)
    ctx.progress(percent=50, message="waiting for a byte")
    try:
        await anyio.wait_readable(0)
    finally:
        if ctx.cancelled:
            print("CANCELLED", ctx.cancel_reason, flush=True)
    os.read(0, 1)
    return "released"


@capability("examples/stubborn")
async def stubborn(value, ctx: LeaseContext):
    print("STARTED", ctx.lease_id, flush=True)
    with anyio.CancelScope(shield=True):
        await ctx.wait_cancelled()
        print("STUBBORN", flush=True)
        await anyio.sleep_forever()


@capability("examples/deaf", runs="thread")
def deaf(value, ctx: LeaseContext):
    print("STARTED", ctx.lease_id, flush=True)
    while not ctx.cancelled:
        time.sleep(0.01)
    print("STUBBORN", flush=True)
    time.sleep(1000)


pair = [upper, in_thread]
'''


def environment(**changes: str) -> dict[str, str]:
    """Return this process's environment without the command's own variables; warnings are errors."""
    kept = {
        name: value for name, value in os.environ.items() if name not in OWN and not name.startswith("NEURON_ANYIO_")
    }
    return {**kept, "PYTHONWARNINGS": "error", "TERM": "xterm-256color", "COLUMNS": "200", **changes}


def call(
    *arguments: str, cwd: Path, env: Mapping[str, str] = {}, text: str | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return subprocess.run(
        [SCRIPT, *arguments],
        cwd=cwd,
        env=environment(**env),
        input=text,
        stdin=None if text is not None else subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


class Child:
    """A command that runs; its lines are read as they come."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.lines: dict[str, list[str]] = {"stdout": [], "stderr": []}
        self._news = threading.Condition()
        self._open = 2
        for name in self.lines:
            threading.Thread(target=self._read, args=(name, getattr(process, name)), daemon=True).start()

    def _read(self, name: str, stream: IO[str]) -> None:
        for line in stream:
            with self._news:
                self.lines[name].append(line.rstrip("\n"))
                self._news.notify_all()
        with self._news:
            self._open -= 1
            self._news.notify_all()

    def wait_for(
        self, pattern: str, *, stream: Literal["stdout", "stderr"] = "stderr", count: int = 1
    ) -> re.Match[str]:
        """Wait for so many lines that contain a pattern; return the last one's match."""

        def found() -> list[re.Match[str]]:
            return [match for line in self.lines[stream] if (match := re.search(pattern, line))]

        with self._news:
            self._news.wait_for(lambda: len(found()) >= count or not self._open, timeout=PATIENCE)
            matches = found()
        assert len(matches) >= count, f"{pattern!r} x{count} is not in {self.lines}"
        return matches[count - 1]

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def release(self) -> None:
        """Let one gated handler end."""
        assert self.process.stdin is not None
        self.process.stdin.write("x")
        self.process.stdin.flush()

    def end(self, patience: float = PATIENCE) -> int:
        """Wait for the end; nothing may be left but an exit code and plain lines."""
        code = self.process.wait(patience)
        with self._news:
            assert self._news.wait_for(lambda: not self._open, timeout=PATIENCE)
        for line in (*self.lines["stdout"], *self.lines["stderr"]):
            assert not re.search(r"Traceback|Warning: |Exception ignored", line), self.lines
        return code


@contextmanager
def running(*arguments: str, cwd: Path, env: Mapping[str, str] = {}) -> Iterator[Child]:
    """Start a command; kill it at the end of the block if it still runs."""
    with subprocess.Popen(
        [SCRIPT, *arguments],
        cwd=cwd,
        env=environment(**env),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        bufsize=1,
    ) as process:
        try:
            yield Child(process)
        finally:
            process.kill()


@contextmanager
def gateway(cwd: Path, *arguments: str, backend: str = "asyncio") -> Iterator[str]:
    """Run the development gateway on a free port; yield its URL."""
    with running("gateway", "--port", "0", "--backend", backend, *arguments, cwd=cwd) as child:
        yield child.wait_for(r"^gateway at (http://\S+)$", stream="stdout")[1]
        child.send(signal.SIGTERM)
        assert child.end() == 0


def ask(url: str, path: str, document: object = None, *, token: str | None = None) -> Any:
    """GET, or POST a document, and return the reply's."""
    data = None if document is None else json.dumps(document).encode()
    headers = {"content-type": "application/json"} | ({"authorization": f"Bearer {token}"} if token else {})
    with urllib.request.urlopen(urllib.request.Request(url + path, data, headers), timeout=PATIENCE) as reply:
        return json.load(reply)
