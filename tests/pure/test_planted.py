"""A test in which the package logs a secret fails, and says where (promise C9)."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

SAMPLE = f"""
import logging

log = logging.getLogger("of the user's")

def as_the_package(line):
    exec(compile(line, {str(ROOT / "neuron_anyio" / "leaky.py")!r}, "exec"), {{"log": log}})

def test_message():
    as_the_package("log.warning('planted-secret-token')")

def test_argument():
    as_the_package("log.warning('%.3s', 'planted-secret-input')")

def test_field():
    as_the_package("log.warning('a line', extra={{'output': {{'deep': 's3cret'}}}})")

def test_exception():
    as_the_package("try: raise ValueError('planted-secret')\\nexcept ValueError: log.exception('it failed')")

def test_cause():
    as_the_package("try:\\n try: int('minted-token')\\n except ValueError as e: raise OSError from e\\n"
                   "except OSError as error: log.error('it failed', exc_info=error)")

def test_thread():
    import threading
    thread = threading.Thread(target=as_the_package, args=("log.warning('planted-secret')",))
    thread.start()
    thread.join()

def test_of_a_handler():
    log.warning("planted-secret")

def test_clean():
    as_the_package("log.warning('lease %s is lost', 'l1', extra={{'lease_id': 'l1'}})")
"""


def test_C9_a_secret_in_a_line_of_the_package_fails_the_test(tmp_path: Path) -> None:
    shutil.copy(ROOT / "tests" / "conftest.py", tmp_path)
    (tmp_path / "test_sample.py").write_text(SAMPLE)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-rA", "-W", "ignore"]
    arguments = [str(tmp_path), "--rootdir", str(tmp_path), "-c", str(ROOT / "pyproject.toml")]
    done = subprocess.run([*command, *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    lines = [
        line.partition(" - ")[0]
        for line in done.stdout.splitlines()
        if line.startswith(("FAILED", "ERROR")) and "::" in line
    ]
    failed = ["test_argument", "test_cause", "test_exception", "test_field", "test_message", "test_thread"]
    assert sorted(line.partition("::")[2] for line in lines) == failed, done.stdout
    assert "leaky.py:1: planted-secret" in done.stdout
