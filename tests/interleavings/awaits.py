"""Where a coroutine may be suspended, by the source, and where tasks are suspended, by their frames."""

from __future__ import annotations

import ast
import functools
import gc
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any, TypeAlias

import neuron_anyio
from neuron_anyio.driven import Driven

__all__ = ["Place", "frames_of", "places_in", "places_of", "shown"]

PACKAGE = Path(neuron_anyio.__file__).parent

Place: TypeAlias = tuple[str, int]
"""A file, as it lies in the package, and the line on which an `await`, `async with` or `async for` begins."""


@functools.cache
def _lines(file: str) -> dict[int, int]:
    """Return, for each line that belongs to an awaiting expression or header, the line on which that begins."""
    lines: dict[int, int] = {}
    tree = ast.parse((PACKAGE / file).read_text(encoding="utf-8"))
    for node in ast.walk(tree):  # outer ones first, so that the innermost stays
        match node:
            case ast.Await(lineno=first, end_lineno=last):
                pass
            case ast.AsyncWith(lineno=first, items=items):
                last = items[-1].context_expr.end_lineno
            case ast.AsyncFor(lineno=first, iter=header):
                last = header.end_lineno
            case ast.comprehension(is_async=1, iter=header):
                first, last = header.lineno, header.end_lineno
            case _:
                continue
        assert last is not None
        lines.update(dict.fromkeys(range(first, last + 1), first))
    return lines


def places_in(files: Iterable[str]) -> set[Place]:
    """Return every place of these files at which a task may be suspended."""
    return {(file, first) for file in files for first in _lines(file).values()}


def shown(place: Place) -> str:
    """Return a place for people: the file, and the line as it stands there."""
    file, first = place
    return f"{file}: {(PACKAGE / file).read_text(encoding='utf-8').splitlines()[first - 1].strip()}"


@functools.cache
def _file(filename: str) -> str | None:
    path = Path(filename)
    return str(path.relative_to(PACKAGE)) if path.is_relative_to(PACKAGE) else None


def places_of(coroutines: Iterable[Any]) -> set[Place]:
    """Return the places of the package at which these coroutines are suspended, each at all of its frames."""
    places: set[Place] = set()
    for coroutine in coroutines:
        for frame in frames_of(coroutine):
            file = _file(frame.f_code.co_filename)
            if file is not None and frame.f_lineno in _lines(file):
                places.add((file, _lines(file)[frame.f_lineno]))
    return places


def frames_of(awaited: Any) -> Iterator[FrameType]:
    """Return the frames of a suspended coroutine, the outermost first."""
    while awaited is not None:
        kind = next((kind for kind in ("cr", "gi", "ag") if hasattr(awaited, f"{kind}_frame")), None)
        if kind is None:
            awaited = _wrapped(awaited)
            continue
        frame = getattr(awaited, f"{kind}_frame")
        if frame is None:
            return
        yield frame
        if frame.f_code is Driven.__await__.__code__:
            awaited = frame.f_locals.get("steps")  # it takes the steps by hand
        else:
            awaited = getattr(awaited, "gi_yieldfrom" if kind == "gi" else f"{kind}_await")


def _wrapped(awaited: Any) -> Any:
    """Return what an iterator awaits on behalf of others; such ones show it to the garbage collector only."""
    if not type(awaited).__name__.startswith(("async_generator_", "coroutine_wrapper")):
        return None
    found = gc.get_referents(awaited)
    return next((each for each in found if hasattr(each, "ag_frame") or hasattr(each, "cr_frame")), None)
