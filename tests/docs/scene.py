"""What the symptoms on the page on troubleshooting share: a scene to play in, and neurons to fall ill."""

from __future__ import annotations

import re
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import anyio.from_thread
import pytest
from anyio.abc import ByteReceiveStream
from anyio.streams.text import TextReceiveStream

from neuron_anyio import (
    Backoff,
    Capability,
    NeuronError,
    Timing,
    capability,
    open_neuron,
)
from neuron_anyio.cli.wording import ending
from neuron_anyio.gateway import Gateway
from tests.docs.terminals import environment_of

__all__ = [
    "COMMAND",
    "COUNT",
    "QUICK",
    "SYMPTOMS",
    "Scene",
    "count",
    "neuron_at",
    "one_task",
    "process_at",
    "refused",
    "sleeper",
    "symptom",
]

QUICK = Timing(heartbeat=0.2, request=2.0, drain=1.0, reconnect=Backoff(initial=0.05, maximum=0.2))
COUNT = "examples/text.count"
COMMAND = str(Path(sys.executable).with_name("neuron-anyio"))
WORKER = f"""
import anyio

from neuron_anyio import capability


@capability({COUNT!r})
async def count(text):
    if text == "for long":
        await anyio.sleep(60)
    return 1
"""


class Scene:
    """What a symptom may use.

    Attributes:
        folder: an empty folder.
        patch: changes that are undone.
        said: lines that others than the neuron's log would show.
    """

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch, logged: Callable[[], list[str]]) -> None:
        self.folder = folder
        self.patch = patch
        self.said: list[str] = []
        self._logged = logged

    def lines(self) -> list[str]:
        """Return all that was said so far."""
        return [*self._logged(), *self.said]

    async def wait_for(self, *parts: str) -> None:
        """Wait until the log has lines with these parts."""
        while not all(any(part in line for line in self.lines()) for part in parts):  # noqa: ASYNC110 - logs tell nobody
            await anyio.sleep(0.01)


Symptom = Callable[[Scene], Awaitable[None]]
SYMPTOMS: dict[str, Symptom] = {}


def symptom(title: str) -> Callable[[Symptom], Symptom]:
    """Say of which section of the page a function is."""

    def decorate(function: Symptom) -> Symptom:
        SYMPTOMS[title] = function
        return function

    return decorate


@capability(COUNT)
async def count(text: str) -> int:
    return len(text.split())


def sleeper(seconds: float = 60.0, **options: Any) -> Capability[..., Any]:
    @capability(COUNT, **options)
    async def sleep(text: str) -> str:
        await anyio.sleep(seconds)
        return text

    return sleep


@asynccontextmanager
async def neuron_at(url: str, *capabilities: Capability[..., Any], **options: Any) -> AsyncGenerator[Any]:
    chosen = {"timing": QUICK, **options}
    async with open_neuron(url, neuron_id="worker-1", capabilities=capabilities or [count], **chosen) as neuron:
        yield neuron


async def refused(url: str, *capabilities: Capability[..., Any], **options: Any) -> str:
    """Open a neuron that is not let in; return why."""
    with pytest.raises(NeuronError) as raised:
        async with neuron_at(url, *capabilities, **options):
            raise AssertionError("it was let in")
    return str(raised.value)


async def one_task(gateway: Gateway, value: Any, scene: Scene) -> None:
    """Submit a task and note how it ends, as `submit --wait` says it."""
    task = await gateway.submit(COUNT, value, max_attempts=1)
    (status,) = await gateway.wait_settled(task.task_id)
    if status.state != "succeeded":
        scene.said.append(f"error: task {status.task_id} {ending(status)}")


@asynccontextmanager
async def process_at(scene: Scene, url: str, *arguments: str, code: int = 0) -> AsyncGenerator[None]:
    """Run a worker as a process while the block runs; then a SIGTERM ends it with an exit code. Notes what it says."""
    (scene.folder / "worker.py").write_text(WORKER)
    command = [COMMAND, "run", "worker.py", "--gateway-url", url, *arguments]
    environment = environment_of(scene.folder)

    async def read(stream: ByteReceiveStream) -> None:
        async for text in TextReceiveStream(stream):
            scene.said += [re.sub(r"^\S+Z ", "", line) for line in text.splitlines()]

    async with (
        await anyio.open_process(command, cwd=scene.folder, env=environment, stdout=None, stdin=None) as process,
        anyio.create_task_group() as group,
    ):
        assert process.stderr is not None
        group.start_soon(read, process.stderr)
        yield
        process.terminate()
        assert await process.wait() == code
