"""`run --reload`: a fresh process for every change of the code."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import anyio

from neuron_anyio.logs import named
from neuron_anyio.serve import EXIT_OK

from .children import Child, Stop
from .problems import Wrong

__all__ = ["checked_reload", "run_reloading"]

POLL = 500
"""Milliseconds after which the watching thread looks whether it is still needed."""

SHOWN = 3
"""Changed files that a line names."""

FRESH = {"PYTHONDONTWRITEBYTECODE": "1"}
"""Compiled code is known by second and size of its source: a quick change of as many characters would not be seen."""

_log = logging.getLogger("neuron_anyio")


def checked_reload() -> None:
    """Check that what watches files is there.

    Raises:
        Wrong: it is not.
    """
    if find_spec("watchfiles") is None:
        raise Wrong("--reload needs watchfiles, which is missing; run: pip install 'neuron-anyio[reload]'")


async def run_reloading(arguments: Sequence[str], folder: Path, *, drain: float) -> int:
    """Serve in a child; when a Python file changes, let it drain and start the next one.

    Args:
        arguments: of the command line.
        folder: what is watched, with all below it.
        drain: seconds that a child has to finish.

    Returns:
        The last child's exit code, 0 where none was running.
    """
    return await _Reloader(arguments, folder, drain).run()


class _Reloader:
    def __init__(self, arguments: Sequence[str], folder: Path, drain: float) -> None:
        self._arguments = arguments
        self._folder = folder
        self._drain = drain
        self._child: Child | None = None
        self._changed = anyio.Event()
        self._stop = Stop(lambda: [] if self._child is None else [self._child])

    async def run(self) -> int:
        code = EXIT_OK
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._stop.watch, self._drain)
            tasks.start_soon(self._watch_files)
            tasks.start_soon(self._wake_when_asked)
            code = await self._serve()
            tasks.cancel_scope.cancel()
        return code

    async def _serve(self) -> int:
        code = EXIT_OK
        while True:
            self._changed = anyio.Event()
            self._child = Child(self._arguments, variables=FRESH)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._end_when_changed, self._child)
                code = await self._child.run()
                tasks.cancel_scope.cancel()
            self._child = None
            if self._stop.asked.is_set():
                return self._stop.code(code)
            if not self._changed.is_set():
                text = "the neuron has ended with exit code %d; waiting for a change in %s"
                _log.warning(text, code, self._folder, extra=named("reload.waiting", code=code))
                await self._changed.wait()
                if self._stop.asked.is_set():
                    return EXIT_OK

    async def _end_when_changed(self, child: Child) -> None:
        await self._changed.wait()
        await child.end(self._drain)

    async def _wake_when_asked(self) -> None:
        await self._stop.asked.wait()
        self._changed.set()

    async def _watch_files(self) -> None:
        from watchfiles import Change, DefaultFilter, PythonFilter, awatch  # noqa: PLC0415 - an extra of its own

        is_code, is_ours = PythonFilter(), DefaultFilter()

        def counts(change: Change, path: str) -> bool:
            """Take Python files, and new folders with some, which may have come before they were watched themselves."""
            is_new = change is Change.added and is_ours(change, path)
            return is_code(change, path) or (is_new and any(Path(path).rglob("*.py")))

        async for changes in awatch(self._folder, watch_filter=counts, stop_event=self._stop.asked, rust_timeout=POLL):
            names = sorted({Path(path).name for _, path in changes})
            shown = ", ".join([*names[:SHOWN], *(["..."] if len(names) > SHOWN else [])])
            _log.info("changed: %s; draining and starting again", shown, extra=named("reload.changed", files=names))
            self._changed.set()
