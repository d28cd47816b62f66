"""Every number on the command line, found by walking the commands: a value without sense is refused (promise D4)."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from typing import NamedTuple

import click
import pytest

from neuron_anyio.cli.logs import CHATTY
from neuron_anyio.cli.main import cli, run_command
from neuron_anyio.cli.options import LONGEST, MOST_ATTEMPTS, Seconds, Whole
from neuron_anyio.gateway.caller_routes import LARGEST_MAX_ATTEMPTS
from neuron_anyio.gateway.gateway import LONGEST_LEASE

ODD = ["nan", "-nan", "inf", "-inf", "1e999", "1e308", "-1", "-0.5", "9" * 30, "9" * 5000, "", " ", "0x10", "one"]
ZERO_MEANS_SOMETHING = {"--drain": "at once", "--port": "a free one"}
VALUE_IS_OPTIONAL = {"--burst": "what begins with a dash after it is read as another option, and refused as that"}
FILLED = {"module": "worker", "gateway_url": "http://127.0.0.1:9", "type": "a/b", "json": "1"}
"""A good value of each parameter that a verb needs."""

NUMBERS = (click.types.IntParamType, click.types.FloatParamType)
NOT_NUMBERS = (click.types.StringParamType, click.types.BoolParamType, click.Choice, click.Path, click.Tuple)


@pytest.fixture
def own_logging(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Undo what a command that runs in this process does to the logging of all."""
    monkeypatch.delenv("LOG_LEVEL", raising=False)
    loggers = [logging.root, *map(logging.getLogger, CHATTY)]
    before = [(logger, logger.level, logger.handlers[:]) for logger in loggers]
    monkeypatch.setattr(logging.root, "handlers", [])  # or it would close those of pytest
    yield
    for logger, level, handlers in before:
        logger.setLevel(level)
        logger.handlers = handlers


class Number(NamedTuple):
    verb: click.Command
    option: click.Option

    @property
    def flag(self) -> str:
        return self.option.opts[0]


def options() -> list[Number]:
    return [
        Number(verb, option)
        for verb in cli.commands.values()
        for option in verb.params
        if isinstance(option, click.Option)
    ]


def is_number(option: click.Option) -> bool:
    """Tell by the type, or, where an option is read by a callback of its own, by the word that stands for it."""
    words = re.findall(r"\w+", option.metavar or "")
    return isinstance(option.type, NUMBERS) or not {"N", "SECONDS", "BYTES", "PERCENT"}.isdisjoint(words)


def odd_values() -> list[tuple[Number, str]]:
    found = [number for number in options() if is_number(number.option) and not number.option.is_flag]
    return [
        (number, value)
        for number in found
        for value in (*ODD, *([] if number.flag in ZERO_MEANS_SOMETHING else ["0", "0.0", "-0"]))
        if not (number.flag in VALUE_IS_OPTIONAL and value.startswith("-"))
    ]


def line_of(number: Number, value: str) -> list[str]:
    line = [str(number.verb.name)]
    for param in number.verb.params:
        if param.required and param is not number.option:
            assert param.name is not None
            line += [param.opts[0]] * isinstance(param, click.Option) + [FILLED[param.name]]
    return [*line, f"{number.flag}={value}"]


@pytest.mark.parametrize("number", options(), ids=lambda number: f"{number.verb.name}{number.flag}")
def test_D4_the_type_of_each_option_is_known_to_be_a_bounded_number_or_none(number: Number) -> None:
    kind = number.option.type
    if isinstance(kind, NUMBERS):
        assert isinstance(kind, Seconds | Whole), "a number needs both bounds, and an error that says them"
    else:
        assert isinstance(kind, NOT_NUMBERS)


@pytest.mark.parametrize(
    ("number", "value"),
    odd_values(),
    ids=lambda part: repr(part[:9]) if isinstance(part, str) else part.verb.name + part.flag,
)
def test_D4_a_number_that_makes_no_sense_is_one_line_that_names_option_and_rule(
    number: Number, value: str, own_logging: None, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(click.UsageError):  # first without running anything: a value that is taken might serve for ever
        number.option.process_value(click.Context(number.verb), (value,) if number.option.multiple else value)
    assert run_command(line_of(number, value)) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    (line,) = shown.err.splitlines()
    assert line.startswith("error: Invalid value for ")
    assert number.flag in line
    assert " up to " in line or " from " in line
    assert "--help" in line
    assert len(line) < 300


def test_D4_there_are_numbers_to_look_at() -> None:
    flags = {number.flag for number, _ in odd_values()}
    assert flags >= {"--timeout", "--lease-ttl", "--drain", "--heartbeat", "--port", "--concurrency", "--max-attempts"}


@pytest.mark.parametrize("flag", ZERO_MEANS_SOMETHING)
def test_zero_is_taken_where_it_means_something(flag: str) -> None:
    for verb, option in options():
        if option.opts[0] == flag:
            assert option.process_value(click.Context(verb), "0") == 0


def test_what_the_command_line_refuses_as_too_large_the_gateway_would_refuse_too() -> None:
    assert LONGEST == LONGEST_LEASE
    assert MOST_ATTEMPTS == LARGEST_MAX_ATTEMPTS
