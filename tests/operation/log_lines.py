"""The log lines of the package, read off its source."""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

__all__ = ["LEVELS", "Line", "lines"]

PACKAGE = Path(__file__).resolve().parents[2] / "neuron_anyio"

LEVELS = {"exception": "error"}
METHODS = {"debug", "info", "warning", "error", "exception", "critical", "log"}
LEASE = ("lease_id", "task_id", "capability", "attempt")
"""The fields that `named` makes of a lease."""


class Line(NamedTuple):
    """One call of a logger.

    Attributes:
        place: file and line.
        level: in lower case; empty where it depends.
        event: the line's name; None where it has none.
        fields: names of its fields.
    """

    place: str
    level: str
    event: str | None
    fields: frozenset[str]


@functools.cache
def lines() -> tuple[Line, ...]:
    """Return all of them."""
    return tuple(line for path in sorted(PACKAGE.rglob("*.py")) for line in _of_file(path))


def _of_file(path: Path) -> Iterator[Line]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for function in ast.walk(tree):
        if not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        named = [node for node in ast.walk(function) if isinstance(node, ast.Assign)]
        for call in ast.walk(function):
            if _is_of_logger(call):
                assert isinstance(call, ast.Call)
                assert isinstance(call.func, ast.Attribute)
                yield _line(path, call, call.func.attr, named)


def _is_of_logger(node: ast.AST) -> bool:
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute) or node.func.attr not in METHODS:
        return False
    owner = ast.unparse(node.func.value)
    return owner.endswith(("log", "logger")) or "getLogger(" in owner


def _line(path: Path, call: ast.Call, method: str, assigned: list[ast.Assign]) -> Line:
    place = f"{path.relative_to(PACKAGE.parent)}:{call.lineno}"
    level = "" if method == "log" else LEVELS.get(method, method)
    extra = next((each.value for each in call.keywords if each.arg == "extra"), None)
    if isinstance(extra, ast.Name):
        # The nearest assignment above, also one of several names at once.
        before = [each for each in assigned if each.lineno <= call.lineno and _value_of(each, extra.id) is not None]
        extra = _value_of(max(before, key=lambda each: each.lineno), extra.id) if before else None
    if not isinstance(extra, ast.Call) or not ast.unparse(extra.func).endswith("named"):
        return Line(place, level, None, frozenset())
    name, *lease = extra.args
    assert isinstance(name, ast.Constant)
    if ast.unparse(call.func).startswith("self.log.") and path.name == "context.py":
        lease = [name]  # a `LeaseLogger`, which adds these itself
    fields = {each.arg for each in extra.keywords if each.arg is not None}
    fields |= {*LEASE} if lease else set()
    fields |= {"origin"} if lease and (path.name == "context.py" or ast.unparse(extra.func) == "self._named") else set()
    if any(each.arg is None for each in extra.keywords):
        fields |= {"origin", "capability"}  # `**about`
    return Line(place, level, str(name.value), frozenset(fields))


def _value_of(assign: ast.Assign, name: str) -> ast.expr | None:
    (target,) = assign.targets
    if isinstance(target, ast.Name) and target.id == name:
        return assign.value
    if isinstance(target, ast.Tuple) and isinstance(assign.value, ast.Tuple):
        for each, value in zip(target.elts, assign.value.elts, strict=False):
            if isinstance(each, ast.Name) and each.id == name:
                return value
    return None
