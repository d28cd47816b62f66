"""The program of the README's first screen, run as the README says."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

README = (Path(__file__).resolve().parents[2] / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith("BIGBRAIN_")}
COMMAND = (sys.executable, "-m", "neuron_anyio")
BOUND = 20.0


@contextmanager
def running(arguments: Sequence[str | Path]) -> Iterator[subprocess.Popen[str]]:
    """Run a program for the length of the block; then SIGTERM must end it with exit code 0."""
    with subprocess.Popen(arguments, env=ENVIRONMENT, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
            process.send_signal(signal.SIGTERM)
            assert process.wait(BOUND) == 0
        finally:
            process.kill()


@pytest.mark.skipif(sys.platform == "win32", reason="SIGTERM")
def test_the_first_screen_of_the_readme_works_as_it_says(tmp_path: Path) -> None:
    (_, program), (_, commands) = BLOCKS[:2]
    serve_gateway, run_worker, submit = (shlex.split(line) for line in commands.splitlines())
    assert serve_gateway == ["neuron-anyio", "gateway"]
    assert run_worker == ["python", "worker.py"]
    with running([*COMMAND, "gateway", "--port", "0"]) as gateway:
        assert gateway.stdout is not None
        url = gateway.stdout.readline().split()[-1]
        worker = tmp_path / "worker.py"
        worker.write_text(program.replace("http://127.0.0.1:8787", url))
        with running([sys.executable, worker]):
            line = [*COMMAND, *(word.replace("http://127.0.0.1:8787", url) for word in submit[1:])]
            assert url in line
            assert submitted(line) == '{"words":3}'


def submitted(line: Sequence[str]) -> str:
    """Return what `submit --wait` prints, once the worker is there: until then it says that nobody offers this."""
    deadline = time.monotonic() + BOUND
    while True:
        ended = subprocess.run(line, env=ENVIRONMENT, capture_output=True, text=True, timeout=BOUND, check=False)
        if ended.returncode == 0:
            return ended.stdout.strip()
        assert time.monotonic() < deadline, ended.stderr
        assert "no neuron offers" in ended.stderr
