"""The page on the command has every verb and flag, as the command itself has them."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest

from neuron_anyio.cli.main import cli
from neuron_anyio.cli.settings import keys_of
from tests.docs.pages import DOCS, rows_of, section_of

PAGE: Path = DOCS / "command.md"


def default_of(option: click.Option) -> str:
    shown = option.to_info_dict()["default"]
    if isinstance(option.show_default, str):
        return option.show_default
    return "" if option.is_flag or shown in (None, "") else str(shown)


def row_of(key: str, option: click.Option) -> list[str]:
    """Return what the page says of an option: flag, variable, key, default, meaning."""
    value = "" if option.is_flag else option.metavar or option.make_metavar(click.Context(cli)).strip("[]")
    flag = f"`--{key} {value}`".replace(" `", "`").replace("|", "\\|")
    in_file = "" if key in ("config", "token") else f"`{key}`"
    meaning = str(option.help).replace("|", "\\|")
    return [flag, f"`{option.envvar}`", in_file, default_of(option), meaning]


@pytest.mark.parametrize("name", [name for name, verb in cli.commands.items() if keys_of(verb)])
def test_each_verb_has_a_table_of_all_its_flags(name: str) -> None:
    wanted = [row_of(key, option) for key, option in keys_of(cli.commands[name]).items()]
    lines = "\n".join(f"| {' | '.join(row)} |".replace("|  |", "| |") for row in wanted)
    assert rows_of(section_of(PAGE, name)) == wanted, f"the table should be\n{lines}"


def test_each_verb_has_a_section_that_says_how_to_call_it() -> None:
    for name, verb in cli.commands.items():
        arguments = [each for each in verb.params if isinstance(each, click.Argument)]
        words = [name, *(each.make_metavar(click.Context(verb)).strip("{}") for each in arguments)]
        assert f"`neuron-anyio {' '.join(words)}`" in section_of(PAGE, name)


def test_the_page_has_no_verb_that_there_is_not() -> None:
    text = section_of(PAGE, "Verbs").strip() or PAGE.read_text(encoding="utf-8").partition("## Verbs")[2]
    verbs = re.findall(r"^### (\w+)$", text, re.MULTILINE)
    assert verbs == [*cli.commands]
