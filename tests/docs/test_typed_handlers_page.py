"""Each row of the table on typed handlers is so: the one JSON value passes, and the other does not."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from neuron_anyio import capability
from neuron_anyio.conversion import Mismatch
from tests.docs.pages import DOCS, blocks_of, loaded, rows_of, section_of

PAGE = DOCS / "typed-handlers.md"
ROWS = rows_of(section_of(PAGE, "What an annotation may be"))


def handler_for(annotation: str) -> Any:
    (names,) = [block for block in blocks_of(PAGE) if block.file == "shapes.py"]
    kind = eval(annotation, vars(loaded(names)))

    async def handler(value: Any) -> Any:
        return value

    handler.__annotations__ = {"value": kind, "return": kind}
    return capability("examples/row")(handler)


def code_of(cell: str) -> list[str]:
    return [text.replace("\\|", "|") for text in re.findall(r"`([^`]+)`", cell)]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_a_row_of_the_table_is_so(row: list[str]) -> None:
    annotations, passing, refused = map(code_of, row)
    handler = handler_for(annotations[0])
    value = handler.read_input(passing[0].encode(), None)
    assert json.loads(handler.write_output(value, None)) == pytest.approx(json.loads(passing[0]))
    for text in refused[:1]:
        with pytest.raises(Mismatch):
            handler.read_input(text.encode(), None)


def test_the_table_is_long() -> None:
    assert len(ROWS) > 25
    assert [row[0] for row in ROWS if not row[2]] == ["`Any`, `object`, none"]


@pytest.mark.thorough
def test_a_type_checker_says_what_the_page_says(tmp_path: Path) -> None:
    (wrong,) = [block for block in blocks_of(PAGE) if block.file == "wrong.py"]
    (told,) = [block.text for block in blocks_of(PAGE) if block.language == "text"]
    (tmp_path / "wrong.py").write_text(f"{wrong.text}\n")
    ended = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "wrong.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert told in ended.stdout.splitlines()
