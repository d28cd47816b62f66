"""Each section of the page on troubleshooting, reproduced: what it quotes is what is said."""

from __future__ import annotations

import logging
import re
from pathlib import Path

import anyio
import pytest

from tests.docs import symptoms
from tests.docs.pages import DOCS, blocks_of
from tests.docs.scene import SYMPTOMS, Scene
from tests.docs.terminals import line_pattern

pytestmark = pytest.mark.anyio

PAGE = DOCS / "troubleshooting.md"


def quoted(title: str) -> list[str]:
    """Return the lines that a section quotes."""
    return [
        line
        for block in blocks_of(PAGE)
        if block.section == title and block.language == "text"
        for line in block.text.splitlines()
    ]


@pytest.mark.parametrize("title", SYMPTOMS)
async def test_a_section_quotes_what_is_said(
    title: str, caplog: pytest.LogCaptureFixture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def logged() -> list[str]:
        return [f"{record.levelname} {record.getMessage()}" for record in caplog.records]

    caplog.set_level(logging.DEBUG, "neuron_anyio")
    monkeypatch.chdir(tmp_path)
    scene = Scene(tmp_path, monkeypatch, logged)
    with anyio.fail_after(20):
        await SYMPTOMS[title](scene)
    said = [re.sub(r"(?<=127\.0\.0\.1:)\d+", "8787", text) for text in scene.lines()]
    lines = [line.replace(str(tmp_path), "/srv/neuron").rstrip() for text in said for line in text.splitlines()]
    wanted = quoted(title)
    missing = [line for line in wanted if not any(line_pattern(line).fullmatch(other) for other in lines)]
    assert wanted
    assert missing == [], "\n".join(lines)


def test_every_section_is_reproduced() -> None:
    titles = [line.removeprefix("## ") for line in PAGE.read_text(encoding="utf-8").splitlines() if line[:3] == "## "]
    assert titles == list(SYMPTOMS)
    assert {function.__module__ for function in SYMPTOMS.values()} == {symptoms.__name__}
