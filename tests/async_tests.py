"""What pytest collects of asynchronous tests, and on which backends it would run them: `-m tests.async_tests`."""

from __future__ import annotations

import inspect
import json
import sys
from typing import Any, NamedTuple

import pytest

__all__ = ["AsyncTest", "collected"]


class AsyncTest(NamedTuple):
    """One asynchronous test.

    Attributes:
        name: where it is, as pytest names it, without its parameters.
        marked: anyio's plugin runs it.
        virtual_time: it says that its time is virtual.
        backends: on which it runs, each once for each set of its other parameters.
    """

    name: str
    marked: bool
    virtual_time: bool
    backends: tuple[str, ...]


class _Seen:
    def __init__(self) -> None:
        self.tests: dict[str, AsyncTest] = {}

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        for item in session.items:
            if isinstance(item, pytest.Function) and _is_async(item.function):
                self._note(item)

    def _note(self, item: pytest.Function) -> None:
        name = item.nodeid.partition("[")[0]
        marked, virtual = (item.get_closest_marker(mark) is not None for mark in ("anyio", "virtual_time"))
        before = self.tests.get(name, AsyncTest(name, marked, virtual, ()))
        both = before.marked and marked
        self.tests[name] = before._replace(marked=both, backends=(*before.backends, _backend(item)))


def _is_async(function: Any) -> bool:
    return inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function)


def _backend(item: pytest.Function) -> str:
    if "anyio_backend" not in item.fixturenames:
        return "none"
    chosen: Any
    if hasattr(item, "callspec") and "anyio_backend" in item.callspec.params:
        chosen = item.callspec.params["anyio_backend"]
    else:
        chosen = item._fixtureinfo.name2fixturedefs["anyio_backend"][-1].func()
    name, options = (chosen, {}) if isinstance(chosen, str) else chosen
    return "uvloop" if options.get("use_uvloop") else str(name)


def collected(*arguments: str) -> list[AsyncTest]:
    """Let pytest collect in this process, which should be one of its own.

    Raises:
        SystemExit: it could not collect everything.
    """
    seen = _Seen()
    code = pytest.main(["--collect-only", "-qq", "-p", "no:cacheprovider", *arguments], plugins=[seen])
    if code != pytest.ExitCode.OK:
        sys.exit(int(code))
    return list(seen.tests.values())


if __name__ == "__main__":
    tests = collected(*sys.argv[1:])
    print(json.dumps(tests))
