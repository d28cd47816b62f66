"""What the page on the seams shows keeps the contract that it describes."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from trio.testing import MockClock

from neuron_anyio.abc import Broker
from neuron_anyio.testing.broker_contract import BROKER_CHECKS, OpenSystem, TaskSystem, TaskView
from neuron_anyio.testing.contract import Check
from tests.docs.pages import DOCS, blocks_of, loaded

pytestmark = [pytest.mark.anyio, pytest.mark.virtual_time]


@pytest.fixture
def anyio_backend() -> Any:
    return "trio", {"clock": MockClock(autojump_threshold=0)}


THE_BROKER, THE_TESTS = (loaded(block) for block in blocks_of(DOCS / "seams.md") if block.language == "python")

FOLDERS_HAVE_NONE = {
    *(
        "announced",
        "started",
        "limit",
        "foreign",
        "renewed",
        "time-left",
        "cancel",
        "not-now",
        "announce-not-now",
        "reconnected",
    ),
    *("expelled", "several", "retry-delay", "give-back-delay", "cancelled"),
}


STATES: dict[str, Any] = {".json": "waiting", ".busy": "taken", ".failed": "failed", ".done": "completed"}


def write(folder: Path, value: Any) -> str:
    name = f"task-{len(list(folder.iterdir()))}"
    (folder / f"{name}.new").write_text(json.dumps(value))
    (folder / f"{name}.new").rename(folder / f"{name}.json")
    return name


def read(folder: Path, task: str) -> TaskView:
    (file,) = folder.glob(f"{task}.*")
    state = STATES[file.suffix]
    return TaskView(state=state, outputs=[json.loads(file.read_bytes())] if state == "completed" else [])


def folder_system(folder: Path) -> OpenSystem:
    @asynccontextmanager
    async def open_system() -> AsyncGenerator[tuple[Broker, TaskSystem]]:
        async def submit(capability: str, value: Any) -> str:
            return write(folder, value)

        async def look(task: str) -> TaskView:
            return read(folder, task)

        broker = THE_BROKER.FolderBroker(folder, "check/work")
        yield broker, TaskSystem(submit=submit, look=look, pulls=True, foreign=None, redelivery=1.5)

    return open_system


@pytest.mark.parametrize("check", BROKER_CHECKS, ids=str)
async def test_the_broker_of_the_page_keeps_its_contract(check: Check[OpenSystem], tmp_path: Path) -> None:
    assert await check(folder_system(tmp_path)) is (check.name not in FOLDERS_HAVE_NONE)


async def test_the_transport_of_the_page_keeps_its_contract() -> None:
    await THE_TESTS.test_my_transport()


@pytest.mark.parametrize("check", BROKER_CHECKS, ids=str)
async def test_the_other_broker_of_the_page_keeps_its_contract(check: Check[OpenSystem]) -> None:
    await check(THE_TESTS.open_system)
