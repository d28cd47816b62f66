"""`neuron_anyio.testing` itself: its names are there when they are asked for, and not before."""

from __future__ import annotations

import ast
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from neuron_anyio import testing

HEAVY = ["starlette", "hypercorn", "hypothesis", "httpx", "trio", "pytest"]


def test_every_name_is_what_its_module_has() -> None:
    assert sorted(testing._HOMES) == sorted(testing.__all__)
    for name, home in testing._HOMES.items():
        assert getattr(testing, name) is getattr(import_module(f"neuron_anyio.testing.{home}"), name)
    assert set(testing.__all__) <= set(dir(testing))


def test_no_name_is_that_of_a_module_which_would_take_its_place_once_it_is_imported() -> None:
    modules = {path.stem for path in Path(testing.__file__).parent.glob("*.py")}
    assert modules.isdisjoint(testing.__all__)


def test_type_checkers_are_told_the_same() -> None:
    tree = ast.parse(Path(testing.__file__).read_text(encoding="utf-8"))
    guarded = next(node for node in tree.body if isinstance(node, ast.If))
    told = {
        alias.name: node.module for node in guarded.body if isinstance(node, ast.ImportFrom) for alias in node.names
    }
    assert told == testing._HOMES


def test_a_name_that_there_is_not_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match=r"module 'neuron_anyio\.testing' has no attribute 'run_handlers'"):
        _ = testing.run_handlers


@pytest.mark.parametrize(
    ("name", "never"),
    [
        ("run_handler", [*HEAVY, "neuron_anyio.gateway"]),
        ("ScriptedGateway", [*HEAVY, "neuron_anyio.gateway"]),
        ("open_memory_gateway", HEAVY),
        ("open_fault_gateway", HEAVY),
    ],
)
def test_a_name_brings_what_it_needs_and_no_more(name: str, never: list[str]) -> None:
    program = f"import sys; from neuron_anyio.testing import {name}; print(*[m for m in {never!r} if m in sys.modules])"
    brought = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert brought.stdout.split() == []
