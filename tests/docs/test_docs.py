"""The documentation says what is so: links lead somewhere, tables agree with what they describe."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import anyio
import pytest

from neuron_anyio import Limits, abc, capability, model, open_neuron, serve
from tests.docs.pages import DOCS, PAGES, README, ROOT, blocks_of, loaded, rows_of, section_of

MIB = 1024 * 1024


# Code


def test_the_first_handler_of_the_readme_can_be_called_without_a_neuron() -> None:
    module = loaded(next(blocks_of(README)))

    class Context:
        def progress(self, **members: Any) -> None:
            assert members == {"percent": 50, "message": "counting"}

    async def call() -> Any:
        return await module.count(module.Text("three small words"), Context())

    assert anyio.run(call).words == 3


@pytest.mark.anyio
async def test_the_broker_of_the_page_on_seams_works(tmp_path: Path) -> None:
    module = loaded(next(block for block in blocks_of(DOCS / "seams.md") if block.language == "python"))
    kinds = {"good": b'"text"', "bad": b'""', "odd": b"7"}
    for name, content in kinds.items():
        (tmp_path / f"{name}.json").write_bytes(content)

    @capability("examples/text.upper")
    async def upper(text: str) -> str:
        return text.upper() or "nothing"

    broker = module.FolderBroker(tmp_path, "examples/text.upper")
    assert isinstance(broker, abc.Broker)
    wanted = {"good.done", "bad.done", "odd.failed"}
    with anyio.fail_after(5):
        async with open_neuron(broker, neuron_id="n", capabilities=[upper]) as neuron:
            with neuron.events() as events:
                while set(os.listdir(tmp_path)) != wanted:  # noqa: PTH208 - three names, and no event tells of them
                    await events.receive()
    assert (tmp_path / "good.done").read_bytes() == b'"TEXT"'
    assert "does not match" in (tmp_path / "odd.failed").read_text()


# Commands


@pytest.mark.parametrize("title", ["Run it", "Test it"])
def test_the_first_block_of_run_it_and_test_it_is_one_command_line(title: str) -> None:
    block = next(block for block in blocks_of(README) if block.section == title)
    assert block.text
    assert "\n" not in block.text
    assert block.text.startswith("python3 -m venv .venv && ")


@pytest.mark.parametrize(
    ("command", "code", "said"), [("echo hello && true", 0, "hello\n"), ("false || exit 7", 7, "")]
)
def test_ci_runs_the_line_of_the_readme_and_ends_as_it_ends(tmp_path: Path, command: str, code: int, said: str) -> None:
    (line,) = [block.text for block in blocks_of(README) if block.section == "Test it"]
    (tmp_path / "README.md").write_text(README.read_text(encoding="utf-8").replace(line, command))
    (tmp_path / ".ci").mkdir()
    script = tmp_path / ".ci" / "run"
    script.write_bytes((ROOT / ".ci" / "run").read_bytes())
    script.chmod(0o755)
    ended = subprocess.run([script], cwd="/", capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (code, f"+ {command}\n{said}")


def test_ci_refuses_a_readme_that_has_no_single_line(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("## Test it\n\n```\ntrue\nfalse\n```\n")
    (tmp_path / ".ci").mkdir()
    script = tmp_path / ".ci" / "run"
    script.write_bytes((ROOT / ".ci" / "run").read_bytes())
    script.chmod(0o755)
    assert subprocess.run([script], capture_output=True, check=False).returncode == 2


# Links


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if target.startswith("https://"):
            continue
        path, _, anchor = target.partition("#")
        other = (page.parent / path).resolve() if path else page
        assert other.exists(), f"{page.name}: {target} leads nowhere"
        if anchor:
            titles = re.findall(r"^#+ (.+)$", other.read_text(encoding="utf-8"), re.MULTILINE)
            anchors = [re.sub(r"[^\w -]", "", title).lower().replace(" ", "-") for title in titles]
            assert anchor in anchors, f"{page.name}: {target} names no section"


# Tables


def test_the_exit_codes_are_those_of_serve() -> None:
    codes = [row[0] for row in rows_of(section_of(ROOT / "docs" / "operation.md", "Signals and exit codes"))]
    package = sys.modules[serve.__module__]
    named = [value for name, value in sorted(vars(package).items()) if name.startswith("EXIT_")]
    assert codes[-6:] == [str(code) for code in [*sorted(named), 130, 143]]


def test_the_bounds_are_those_of_limits() -> None:
    for names, values, _ in rows_of(section_of(ROOT / "docs" / "operation.md", "Bounds")):
        found = [
            float(number.replace(",", "")) * (MIB if unit == "MiB" else 1)
            for number, unit in re.findall(r"([\d,]*\d) (\w+)", values)
        ]
        assert [getattr(Limits(), name) for name in re.findall(r"`(\w+)`", names)] == found


def test_the_environment_is_what_the_command_reads() -> None:
    documented = {row[0].strip("`") for row in rows_of(section_of(ROOT / "docs" / "operation.md", "Environment"))}
    read: set[str] = set()
    for path in (ROOT / "neuron_anyio" / "cli").glob("*.py"):
        read |= set(re.findall(r'envvar="(\w+)"', path.read_text(encoding="utf-8")))
    assert documented == read


def test_the_log_lines_to_watch_are_written_somewhere() -> None:
    source = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "neuron_anyio").rglob("*.py"))
    rows = rows_of(section_of(ROOT / "docs" / "operation.md", "What to watch"))
    assert rows
    for _, line, _ in rows:
        for part in line.strip("`").replace("(attempt n)", "(attempt %d)").split(" ... "):
            assert part.strip(". ") in source, part


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_that_are_named_are_there(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    named = set(re.findall(r"`([\w/]+\.(?:py|md))`", text)) - {"worker.py"}
    missing = [
        name for name in named if not any((base / name).exists() for base in (ROOT, ROOT / "neuron_anyio", page.parent))
    ]
    assert missing == []


def test_the_page_on_seams_names_every_member_of_the_seams() -> None:
    text = (ROOT / "docs" / "seams.md").read_text(encoding="utf-8")
    members = {
        name
        for seam in (abc.Broker, abc.Transport, abc.Intake)
        for name, value in vars(seam).items()
        if not name.startswith("_") and (callable(value) or isinstance(value, property))
    }
    assert {name for name in members if not re.search(rf"`[^`]*\b{name}\b[^`]*`", text)} == set()


def test_what_the_seam_is_said_to_lack_it_lacks() -> None:
    rows = rows_of(section_of(ROOT / "docs" / "seams.md", "What the seam does not have yet"))
    named = [match for row in rows for match in re.findall(r"`(\w+)\.(\w+)", row[1])]
    assert len(named) >= len(rows)
    for owner, member in named:
        kind = getattr(abc, owner, None) or getattr(model, owner)
        assert member not in {*dir(kind), *getattr(kind, "__struct_fields__", ())}, f"{owner}.{member} has come"


def test_the_rows_that_need_more_are_numbered_like_the_list_of_what_is_missing() -> None:
    text = (ROOT / "docs" / "seams.md").read_text(encoding="utf-8")
    rows = [row[0] for row in rows_of(text) if len(row) == 3]
    used = {number for row in rows for number in re.findall(r" \((\d)\)$", row)}
    assert used == {row for row in rows if row.isdecimal()}


def test_the_change_log_has_the_version_of_the_package() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    assert f"## [{version}]" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
