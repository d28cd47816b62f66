"""Every block of every page is run, in order, in one folder for each page; what is not run says here why."""

from __future__ import annotations

import configparser
import json
import os
import re
import shutil
import sys
import tomllib
from collections.abc import Callable, Iterator
from itertools import zip_longest
from pathlib import Path

import pytest
import yaml

from tests.docs.pages import DOCS, PAGES, Block, blocks_of, loaded
from tests.docs.terminals import PORT, Step, Terminals, steps_of

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the pages show a POSIX shell")

PARSED: dict[str, Callable[[str], object]] = {
    "json": json.loads,
    "toml": tomllib.loads,
    "yaml": lambda text: list(yaml.safe_load_all(text)),
}

NOT_RUN = {
    "pip install": "the tests run in an environment that has the package, and must need no network",
    "systemctl": "needs a service manager; test_deployment.py has it look at the unit",
    "docker": "needs a daemon; test_deployment.py does what the image does",
    "kubectl": "needs a cluster; test_deployment.py runs what the manifest starts",
}
"""Beginnings of commands that are not run, and why."""

NOT_RUN_BLOCKS = {
    ("README.md", ""): "tests/e2e/test_readme.py and test_examples_tour.py run them, and CI runs the one that tests",
    ("architecture.md", ""): "drawings",
    ("seams.md", ""): "a drawing",
}
"""Pages and languages of blocks that are not run, and why."""

OTHER_LANGUAGES = {
    "text": "what programs say, and code of other packages; tests of their pages look at them",
    "dockerfile": "tests/docs/test_deployment.py runs its commands",
}


@pytest.fixture
def terminals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Terminals]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    before = dict(sys.modules)
    opened = Terminals(tmp_path)
    yield opened
    opened.close()
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if before.get(name) is not module and (file is None or Path(file).is_relative_to(tmp_path)):
            del sys.modules[name]
            if name in before:
                sys.modules[name] = before[name]


@pytest.mark.timeout(120)
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_blocks_of_a_page_do_what_it_says(page: Path, terminals: Terminals) -> None:
    blocks = list(blocks_of(page))
    if shutil.which("curl") is None and any(re.search(r"\bcurl -", block.text) for block in blocks):
        pytest.skip("the page asks with curl, which is not on this machine")
    for number, block in enumerate(blocks):
        commands = "\n".join(later.text for later in blocks[number:] if later.language == "console")
        try:
            run(block, terminals, is_run_later=block.file is not None and is_run_by(commands, block.file))
        except Exception as exc:
            exc.add_note(f"in the block {block.name}")
            raise


def is_run_by(commands: str, file: str) -> bool:
    """Return whether commands run a file: by its name, or as one of pytest's."""
    is_test = file.startswith(("test_", "conftest"))
    return file in commands or (is_test and re.search(r"^\$ pytest\b", commands, re.MULTILINE) is not None)


def run(block: Block, terminals: Terminals, *, is_run_later: bool) -> None:
    """Do with one block what a reader does: save it, import it unless a command below does, type its commands."""
    if block.file is not None:
        target = terminals.folder / block.file
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(block.text.replace(str(PORT), str(terminals.port)) + "\n", encoding="utf-8")
    if block.language == "python" and not is_run_later:
        text = block.text.replace(str(PORT), str(terminals.port))
        loaded(block._replace(text=text), None if block.file is None else Path(block.file).stem)
    elif block.language == "python":
        return
    elif block.language == "console" and re.search(r" node ", block.text) and shutil.which("node") is None:
        return  # there is no Node on this machine; tests/e2e/test_examples_desktop_host.py says so, too
    elif block.language == "console":
        steps = list(steps_of(block.text))
        for step, after in zip_longest(steps, steps[1:]):
            if step is not None and not any(step.command.startswith(start) for start in NOT_RUN):
                terminals.run(step, after)
    elif block.language == "sh":
        for command in block.text.splitlines():
            if not any(command.startswith(start) for start in (*NOT_RUN, "#")):
                terminals.run(Step("", command, ()), None)
    elif block.language in PARSED:
        PARSED[block.language](block.text)
    elif block.language == "ini":
        configparser.ConfigParser(strict=False, interpolation=None).read_string(block.text)
    else:
        why = NOT_RUN_BLOCKS.get((block.page.name, block.language)) or OTHER_LANGUAGES.get(block.language)
        assert why, f"a block in {block.language or 'no language'!r} is not run, and the list does not say why"


def test_what_is_said_not_to_be_run_is_there() -> None:
    found = {(block.page.name, block.language) for page in PAGES for block in blocks_of(page)}
    assert NOT_RUN_BLOCKS.keys() <= found
    commands = [
        step.command
        for page in PAGES
        for block in blocks_of(page)
        if block.language == "console"
        for step in steps_of(block.text)
    ]
    for start in NOT_RUN:
        assert any(command.startswith(start) for command in commands), start


def test_a_page_that_shows_what_is_not_so_fails(tmp_path: Path) -> None:
    terminals = Terminals(tmp_path)
    (step,) = steps_of("$ echo hello\ngood-bye")
    with pytest.raises(AssertionError, match="the page shows"):
        terminals.run(step, None)
    (step,) = steps_of("$ false")
    with pytest.raises(AssertionError, match="exit code 1"):
        terminals.run(step, None)
    (step,) = steps_of("$ printf 'one\\ntwo\\n'\none")
    with pytest.raises(AssertionError, match="the page does not show"):
        terminals.run(step, None)
    steps = list(steps_of("$ python -c 'raise SystemExit(7)'\n$ echo $?\n7"))
    for step, after in zip_longest(steps, steps[1:]):
        terminals.run(step, after)
    terminals.close()


def test_every_page_is_in_the_navigation() -> None:
    settings = yaml.load((DOCS.parent / "mkdocs.yml").read_text(encoding="utf-8"), yaml.BaseLoader)
    named: set[str] = set()

    def collect(part: object) -> None:
        if isinstance(part, str):
            named.add(part)
        elif isinstance(part, list):
            for item in part:
                collect(item)
        elif isinstance(part, dict):
            for item in part.values():
                collect(item)

    collect(settings["nav"])
    assert named == {os.fspath(page.relative_to(DOCS)) for page in DOCS.rglob("*.md")}
