"""What a file's tests share, made once for all processes among which pytest-xdist divides them."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable

import pytest

__all__ = ["once"]


def once(factory: pytest.TempPathFactory, name: str, make: Callable[[], bytes]) -> bytes:
    """Return what `make` makes: the first to ask has it made, and the others wait.

    A fixture of a module is made by every process that runs one of the module's tests.

    Args:
        factory: pytest's, whose folder is one for each run.
        name: of the file in which it is kept; one for each use.
        make: makes it; what it raises is raised here, and the next to ask tries again.
    """
    folder = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent  # each worker has a folder of its own in that of the run
    path = folder / name
    with path.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not path.exists():
            path.write_bytes(make())
    return path.read_bytes()
