"""The pages of the documentation as data: fenced blocks, sections, tables."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

__all__ = ["DOCS", "PAGES", "README", "ROOT", "Block", "blocks_of", "loaded", "rows_of", "section_of"]

ROOT = Path(__file__).resolve().parents[2]
README = ROOT / "README.md"
DOCS = ROOT / "docs"
PAGES = [README, ROOT / "CHANGELOG.md", ROOT / "examples" / "README.md", *sorted(DOCS.glob("*.md"))]

NAMED = re.compile(r"# ((?:[\w.-]+/)*(?:[\w.@-]+\.\w+|Dockerfile))$")
"""The first line of a block that is a file: its name in a comment."""


class Block(NamedTuple):
    """One fenced block."""

    page: Path
    line: int
    section: str
    language: str
    text: str

    @property
    def name(self) -> str:
        return f"{self.page.name}:{self.line}"

    @property
    def file(self) -> str | None:
        """The name of the file that the block is, None for one that is no file."""
        found = NAMED.match(self.text.partition("\n")[0])
        return None if found is None else found[1]


def blocks_of(page: Path) -> Iterator[Block]:
    section, language, begun = "", None, 0
    kept: list[str] = []
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1):
        if line.startswith("```"):
            if language is not None:
                yield Block(page, begun, section, language, "\n".join(kept))
                language = None
            else:
                language, begun, kept = line.removeprefix("```").strip(), number, []
        elif language is not None:
            kept.append(line)
        elif line.startswith("#"):
            section = line.lstrip("#").strip()


def loaded(block: Block, name: str | None = None) -> ModuleType:
    """Run a block as a module that is imported, not as a program.

    Args:
        block: of Python.
        name: of the module; made from the block's place if not given.
    """
    module = ModuleType(name or f"documented_{re.sub('[^a-z0-9]', '_', block.name.lower())}")
    sys.modules[module.__name__] = module
    exec(compile("\n" * block.line + block.text, block.page, "exec", dont_inherit=True), vars(module))
    return module


def section_of(page: Path, title: str) -> str:
    text = page.read_text(encoding="utf-8")
    found = re.search(rf"^##+ {re.escape(title)}\n(.*?)(?=^##+ |\Z)", text, re.MULTILINE | re.DOTALL)
    assert found is not None, f"{page.name} has no section {title!r}"
    return found.group(1)


def rows_of(text: str) -> list[list[str]]:
    """Return the cells of the rows of the tables in a text, without head and rule."""
    cut = re.compile(r"(?<!\\)\|")
    tables = [[cell.strip() for cell in cut.split(line)[1:-1]] for line in text.splitlines() if line.startswith("|")]
    rules = [number for number, cells in enumerate(tables) if all(set(cell) <= {"-", ":"} for cell in cells)]
    return [cells for number, cells in enumerate(tables) if number not in rules and number + 1 not in rules]
