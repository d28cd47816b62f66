"""A test that leaves something behind fails, and says what (promise D5)."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

SAMPLE = """
import socket, threading, time
import anyio, pytest
from neuron_anyio.threads import ThreadCall

kept = []

def test_file():
    kept.append(open(__file__ + ".left", "w"))

def test_socket():
    kept.append(socket.socket())

def test_thread():
    async def call_of(function):
        return ThreadCall(function, (2.0,), on_cut=lambda: None)

    call = anyio.run(call_of, time.sleep)
    threading.Thread(target=call._call, args=((),), daemon=True, name="slow").start()

@pytest.mark.anyio
async def test_task(anyio_backend_name):
    if anyio_backend_name == "trio":
        import trio
        trio.lowlevel.spawn_system_task(trio.sleep_forever, name="forgotten")
    else:
        import asyncio
        kept.append(asyncio.create_task(asyncio.sleep(60), name="forgotten"))

@pytest.mark.anyio
async def test_nothing(tmp_path):
    with open(tmp_path / "file", "w"), socket.socket():
        await anyio.to_thread.run_sync(time.sleep, 0.001)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="open files are looked up in /proc")
def test_D5_files_sockets_handler_threads_and_tasks_that_are_left_fail_the_test(tmp_path: Path) -> None:
    shutil.copy(ROOT / "tests" / "conftest.py", tmp_path)
    (tmp_path / "test_sample.py").write_text(SAMPLE)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-rA", "-W", "ignore"]
    arguments = [str(tmp_path), "--rootdir", str(tmp_path), "-c", str(ROOT / "pyproject.toml")]
    done = subprocess.run([*command, *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    lines = [line.partition(" - ")[0] for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
    assert sorted(line.replace(f"{tmp_path}/", "").partition("::")[2] for line in lines) == [
        "test_file",
        "test_socket",
        "test_task[asyncio]",
        "test_task[trio]",
        "test_task[uvloop]",
        "test_thread",
    ], done.stdout
    assert all(
        what in done.stdout for what in ("left these tasks behind: ['forgotten']", "socket:[", ".py.left", "slow")
    )
