"""`neuron-anyio dev`: a gateway and a neuron in one process, to try a module out."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import anyio
import click

from neuron_anyio.capability import Capability, OnBehalfOf
from neuron_anyio.config import Timing
from neuron_anyio.events import Event
from neuron_anyio.serve import serve

from .board import Board
from .documents import compact, read_document, sample
from .gateway import LEASES, PORT
from .loading import load
from .options import (
    BACKEND,
    MODULE,
    NEURON,
    Whole,
    apply,
    example,
    log_level,
    resized,
    stable_neuron_id,
)
from .problems import Wrong
from .screen import Screen, board_view, open_screen
from .wording import ending

if TYPE_CHECKING:
    from neuron_anyio.client import TaskStatus
    from neuron_anyio.gateway.gateway import Gateway

__all__ = ["dev"]

LOOPBACK = "127.0.0.1"


class _Wanted(NamedTuple):
    """A task to submit at the start."""

    item: Capability[..., Any]
    input: Any


@click.command(
    epilog=example("""neuron-anyio dev worker.py --submit examples/text.upper '{"text": "hello"}' --once"""),
)
@apply(
    MODULE,
    click.option(
        "--port",
        type=Whole(0, 65535),
        default=PORT,
        show_default=True,
        metavar="N",
        help="Port of the gateway on this host; 0 for a free one.",
    ),
    click.option(
        "--submit",
        "submissions",
        type=(str, str),
        multiple=True,
        metavar="TYPE JSON",
        help="Submit a task at the start and print its result. May be repeated.",
    ),
    click.option("--once", is_flag=True, help="Exit when these tasks have ended: 0 when all have succeeded, else 1."),
    *NEURON,
    *LEASES,
    log_level("warning"),
    BACKEND,
)
def dev(module: str, port: int, backend: str, *, once: bool, **options: Any) -> int:
    """Try MODULE out: a gateway and a neuron in one process, over real HTTP on this host.

    Prints the gateway's URL and a line to submit a task with, then what happens to each lease.
    """
    loaded = load(module)
    capabilities = resized(loaded.capabilities, options["concurrency"])
    _keep_off_proxies()
    session = _Session(capabilities, _chosen(capabilities, options["submissions"]), once=once)
    neuron = {
        "neuron_id": stable_neuron_id(options["neuron_id"], loaded),
        "capabilities": capabilities,
        "timing": Timing(drain=options["drain"], heartbeat=options["heartbeat"]),
        "max_concurrency": options["max_concurrency"],
    }
    leases = {name: options[name] for name in ("lease_ttl", "max_attempts")}

    async def main() -> int:
        from neuron_anyio.gateway.server import open_gateway  # noqa: PLC0415 - Starlette and a server

        async with open_gateway(host=LOOPBACK, port=port, **leases) as gateway:
            return await session.run(gateway, neuron)

    return anyio.run(main, backend=backend)


def _keep_off_proxies() -> None:
    """Let requests to this host go straight, whatever proxy the environment names for the rest of the world."""
    direct = os.environ.get("no_proxy") or os.environ.get("NO_PROXY")
    os.environ["no_proxy"] = f"{direct},{LOOPBACK}" if direct else LOOPBACK


def _chosen(capabilities: Sequence[Capability[..., Any]], wanted: Sequence[tuple[str, str]]) -> list[_Wanted]:
    by_type = {item.terms.type: item for item in capabilities}
    for kind, _ in wanted:
        if kind not in by_type:
            raise Wrong(f"--submit: no capability {kind!r} in the module; it has {', '.join(sorted(by_type))}")
    return [_Wanted(by_type[kind], read_document(text, f"--submit {kind}")) for kind, text in wanted]


class _Session:
    """One run of `dev`."""

    def __init__(
        self, capabilities: Sequence[Capability[..., Any]], submissions: Sequence[_Wanted], *, once: bool
    ) -> None:
        if once and not submissions:
            raise Wrong("--once needs tasks to wait for; give --submit TYPE JSON")
        self._capabilities = capabilities
        self._submissions = submissions
        self._once = once
        self._board = Board()
        self._serving: anyio.CancelScope
        self._code = 0

    async def run(self, gateway: Gateway, neuron: dict[str, Any]) -> int:
        """Serve until a signal, or until the tasks of `--once` have ended; return the exit code."""
        click.echo(f"gateway at {gateway.url}")
        click.echo(f"submit with: {_line_to_copy(self._capabilities[0], gateway.url)}")
        with open_screen(lambda: board_view(self._board, anyio.current_time())) as screen:

            def tell(event: Event) -> None:
                line = self._board.apply(event, anyio.current_time())
                if line is not None:
                    screen.say(line)

            async with anyio.create_task_group() as group:
                group.start_soon(screen.keep_fresh)
                group.start_soon(self._watch_progress, gateway, screen)
                group.start_soon(self._submit, gateway, screen)
                with anyio.CancelScope() as self._serving:
                    self._code = await serve(gateway.url, on_event=tell, **neuron)
                group.cancel_scope.cancel()
        return self._code

    async def _watch_progress(self, gateway: Gateway, screen: Screen) -> None:
        """Follow the progress of what runs where the gateway keeps it: the neuron's events do not tell."""
        with gateway.watch(None) as watch:
            while True:
                await watch.wait()
                for row in list(self._board.rows.values()):
                    progress = gateway.task(row.task_id).progress
                    line = None if progress is None else self._board.note_progress(row.lease_id, progress)
                    if line is not None and not screen.is_live:
                        screen.say(line)

    async def _submit(self, gateway: Gateway, screen: Screen) -> None:
        if not self._submissions:
            return
        tasks = [
            await gateway.submit(each.item.terms.type, each.input, on_behalf_of=_user(each.item))
            for each in self._submissions
        ]
        async with anyio.create_task_group() as group:
            for task in tasks:
                group.start_soon(self._wait, gateway, screen, task.task_id)
        if self._once:
            self._serving.cancel()

    async def _wait(self, gateway: Gateway, screen: Screen, task_id: str) -> None:
        (status,) = await gateway.wait_settled(task_id)
        screen.say(f"task {task_id} {_result(status)}")
        if status.state != "succeeded":
            self._code = 1


def _user(item: Capability[..., Any]) -> str | None:
    return item.terms.scope.user if isinstance(item.terms.scope, OnBehalfOf) else None


def _line_to_copy(item: Capability[..., Any], url: str) -> str:
    parts = ["neuron-anyio", "submit", item.terms.type, compact(sample(item.input_schema)), "--wait"]
    if (user := _user(item)) is not None:
        parts += ["--on-behalf-of", user]
    return shlex.join([*parts, "--gateway-url", url])


def _result(status: TaskStatus) -> str:
    return f"succeeded: {compact(status.output)}" if status.state == "succeeded" else ending(status)
