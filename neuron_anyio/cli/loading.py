"""From `MODULE[:NAME]` to capabilities."""

from __future__ import annotations

import importlib
import logging
import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple, cast

from neuron_anyio.capability import Capability
from neuron_anyio.logs import named
from neuron_anyio.setup import capabilities_by_type

from .problems import Wrong, one_line

__all__ = ["Loaded", "load", "watched_folder"]

PACKAGE = str(Path(__file__).resolve().parent.parent)


class Loaded(NamedTuple):
    """What a target names.

    Attributes:
        name: the module's name, with the attribute's where one was given: `worker`, `worker-fetch`.
        capabilities: at least one, each type once.
    """

    name: str
    capabilities: Sequence[Capability[..., Any]]


def load(target: str) -> Loaded:
    """Import a module and pick capabilities from it.

    Args:
        target: `MODULE` for all capabilities of a module, in the order in which it defines them; `MODULE:NAME` for one
            capability or one list or tuple of them. A module is a name that can be imported from the current
            directory, or the path of a `.py` file.

    Raises:
        Wrong: there is no such module, it cannot be imported, or it has no capability of that name that can be offered.
    """
    where, attribute = _parts_of(target)
    module = _import_file(Path(where)) if _is_file(where) else _import_name(where)
    found = _named(module, attribute) if attribute else _capabilities_of(module)
    try:
        capabilities_by_type(found)
    except ValueError as exc:
        raise Wrong(f"module {module.__name__!r}: {exc}; pick one with MODULE:NAME") from None
    except TypeError as exc:
        raise Wrong(f"module {module.__name__!r}: {one_line(str(exc))}") from None
    return Loaded(f"{module.__name__}-{attribute}" if attribute else module.__name__, found)


def watched_folder(target: str) -> Path:
    """Return the folder with the code of a target and what it imports from beside it; nothing is imported.

    That is the whole package of a module in a package, else the folder of the module.

    Raises:
        Wrong: it names no module, or a file that is not there.
    """
    where, _ = _parts_of(target)
    if _is_file(where):
        root, parts = _place_of_file(Path(where))
    else:
        root, parts = Path.cwd(), where.split(".")
    package = root / parts[0]
    return package if (package / "__init__.py").is_file() else root


def _parts_of(target: str) -> tuple[str, str]:
    where, colon, attribute = target.partition(":")
    if not where or (colon and not attribute):
        raise Wrong(f"MODULE must be a module, or MODULE:NAME for some of its capabilities, not {target!r}")
    return where, attribute


def _is_file(where: str) -> bool:
    return where.endswith(".py") or os.sep in where


def _import_name(name: str) -> ModuleType:
    if not all(part.isidentifier() for part in name.split(".")):
        raise Wrong(f"{name!r} is not a module's name; give a name like 'package.module' or the path of a .py file")
    return _import(name, Path.cwd())


def _import_file(path: Path) -> ModuleType:
    """Import a file under the name that it has for the modules beside it, so that worker processes find it too."""
    root, parts = _place_of_file(path)
    name = ".".join(parts)
    module = _import(name, root)
    if module.__file__ is None or Path(module.__file__).resolve() != path.resolve():
        raise Wrong(f"{path} cannot be imported: {name!r} is another module; give the file another name")
    return module


def _place_of_file(path: Path) -> tuple[Path, list[str]]:
    """Return the folder from which a file is imported, and the parts of its module's name."""
    file = path.resolve()
    if file.suffix != ".py" or not file.is_file():
        raise Wrong(f"there is no Python file {path}; give a module's name or the path of a .py file")
    root, parts = file.parent, [file.stem]
    while (root / "__init__.py").is_file():
        root, parts = root.parent, [root.name, *parts]
    return root, parts


def _import(name: str, root: Path) -> ModuleType:
    if str(root) not in sys.path:
        sys.path.insert(0, str(root))
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as exc:
        if exc.name is not None and f"{name}.".startswith(f"{exc.name}."):
            remedy = "give a name that can be imported from there, or the path of a .py file"
            raise Wrong(f"there is no module {exc.name!r} in {root} or among what is installed; {remedy}") from None
        raise _failed(name, exc) from exc
    except SystemExit as exc:
        remedy = "put what starts it under: if __name__ == '__main__':"
        raise Wrong(f"module {name!r} ended the program when it was imported; {remedy}") from exc
    except Exception as exc:
        raise _failed(name, exc) from exc


def _failed(name: str, error: Exception) -> Wrong:
    line = named("command.import_failed", module_name=name)
    logging.getLogger("neuron_anyio").debug("importing %s", name, exc_info=error, extra=line)
    text = one_line(" ".join([str(error), *getattr(error, "__notes__", ())]))
    return Wrong(f"module {name!r} raised {type(error).__name__} when it was imported{_place(error)}: {text}")


def _place(error: Exception) -> str:
    """Return where the user's code raised, as far as it can be told."""
    if isinstance(error, SyntaxError):  # its text names the place already
        return ""
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith(("<frozen ", PACKAGE)) and frame.filename != importlib.__file__
    ]
    return f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""


def _capabilities_of(module: ModuleType) -> list[Capability[..., Any]]:
    found = _named_capabilities(module)
    if not found:
        remedy = "decorate a function with @capability('namespace/name')"
        raise Wrong(f"module {module.__name__!r} has no capability; {remedy}")
    return list({id(value): value for value in found.values()}.values())


def _named_capabilities(module: ModuleType) -> dict[str, Capability[..., Any]]:
    return {name: value for name, value in vars(module).items() if isinstance(value, Capability)}


def _named(module: ModuleType, name: str) -> list[Capability[..., Any]]:
    value: Any = getattr(module, name, None)
    if isinstance(value, Capability):
        return [value]
    if isinstance(value, list | tuple):
        items = cast("Sequence[Any]", value)
        if items and all(isinstance(item, Capability) for item in items):
            return list(items)
    known = ", ".join(_named_capabilities(module)) or "none"
    what = "is no capability and no list of them" if hasattr(module, name) else "is not there"
    raise Wrong(f"module {module.__name__!r}: {name!r} {what}; its capabilities are: {known}")
