"""Where settings come from below the flags: a variable for each flag, and a file with a table for each verb."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import click
from click.core import ParameterSource

from .problems import Wrong

__all__ = ["equipped", "keys_of", "place_of"]

DEFAULT = "neuron-anyio.toml"
"""Read from the working directory where it is there and no other file is named."""

SECRET = "token"  # noqa: S105 - the name of one
"""No setting of a file: it would be copied, shown and committed with it."""

PLACE = "neuron_anyio.settings"
"""Where a context keeps the path of its file."""


def equipped(command: click.Command) -> click.Command:
    """Give a verb `--config`, and each of its flags a variable: `NEURON_ANYIO_VERB_FLAG` where it has no other name."""
    first_eager = next((n for n, each in enumerate(command.params) if each.is_eager), len(command.params))
    command.params.insert(first_eager, _config())  # what is eager and stands behind it may have its value from the file
    for key, option in keys_of(command).items():
        if option.envvar is None:
            option.envvar = f"NEURON_ANYIO_{command.name}_{key}".upper().replace("-", "_")
        option.show_envvar = True
    return command


def keys_of(command: click.Command) -> dict[str, click.Option]:
    """Return a verb's options by their names in the file: the flag without its dashes."""
    options = [each for each in command.params if isinstance(each, click.Option) and not each.hidden]
    return {max(each.opts, key=len).removeprefix("--"): each for each in options}


def place_of(context: click.Context, name: str) -> str | None:
    """Return the file that a parameter's value comes from, None where it has another source."""
    is_there = context.get_parameter_source(name) is ParameterSource.DEFAULT_MAP
    return str(context.meta.get(PLACE)) if is_there else None


def _config() -> click.Option:
    return click.Option(
        ["--config"],
        envvar="NEURON_ANYIO_CONFIG",
        metavar="FILE",
        show_default=f"{DEFAULT} where it is there",
        is_eager=True,
        expose_value=False,
        callback=_read,
        help="TOML file with settings, a table for each verb. Flags and the environment go before it.",
    )


def _read(ctx: click.Context, param: click.Parameter, value: str | None) -> None:
    del param
    path = Path(value or DEFAULT)
    if ctx.resilient_parsing or (not value and not path.is_file()):
        return
    group = None if ctx.parent is None else ctx.parent.command
    commands = group.commands if isinstance(group, click.Group) else {str(ctx.command.name): ctx.command}
    tables = dict(_tables(path, _parsed(path), commands))
    ctx.meta[PLACE] = path
    ctx.default_map = tables.get(str(ctx.command.name))


def _parsed(path: Path) -> dict[str, Any]:
    import tomllib  # noqa: PLC0415 - only where there is a file

    try:
        with path.open("rb") as file:
            return tomllib.load(file)
    except OSError as exc:
        raise Wrong(f"{path} cannot be read ({exc.strerror}); check --config or NEURON_ANYIO_CONFIG") from None
    except (ValueError, RecursionError) as exc:  # besides what is no TOML: numbers and lists beyond Python's bounds
        raise Wrong(f"{path} is not TOML: {exc}") from None


def _tables(
    path: Path, document: Mapping[str, Any], commands: Mapping[str, click.Command]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each verb's settings by parameter; all are checked, whichever verb runs."""
    known = {verb: keys_of(command) for verb, command in commands.items()}
    known = {verb: options for verb, options in known.items() if "config" in options}
    for verb, table in document.items():
        if not isinstance(table, dict):
            raise Wrong(f"{path}: {verb!r} stands outside of a table; put it under its verb, for example [run]")
        if verb not in known:
            raise Wrong(f"{path}: there is no verb {verb!r}; the nearest is {_nearest(verb, known)!r}")
        options = {key: option for key, option in known[verb].items() if key not in ("config", SECRET)}
        settings: dict[str, Any] = {}
        for key, value in cast("dict[str, Any]", table).items():
            if key == SECRET and key in known[verb]:
                raise Wrong(
                    f"{path}: a token does not belong into [{verb}]; put it into a file and name that: token-file"
                )
            if key not in options:
                raise Wrong(f"{path}: [{verb}] has no setting {key!r}; the nearest is {_nearest(key, options)!r}")
            option = options[key]
            settings[str(option.name)] = _as_typed(value, option, f"{path}: {key!r} in [{verb}]")
        yield verb, settings


def _nearest(word: str, known: Collection[str]) -> str:
    import difflib  # noqa: PLC0415 - for an error message

    return difflib.get_close_matches(word, known, n=1, cutoff=0)[0]


def _as_typed(value: Any, option: click.Option, place: str) -> Any:
    """Return a value as the command line would have it, so that it is judged as one."""
    if option.is_flag:
        if not isinstance(value, bool):
            raise Wrong(f"{place} must be true or false")
        return value
    if option.multiple:
        values = cast("list[Any]", value) if isinstance(value, list) else [value]
        if option.nargs == 1:
            return [_text(each, place) for each in values]
        return [[_text(each, place) for each in _list_of(group, option.nargs, place)] for group in values]
    return _text(value, place)


def _list_of(value: Any, length: int, place: str) -> list[Any]:
    if not isinstance(value, list) or len(cast("list[Any]", value)) != length:
        raise Wrong(f"{place} must be a list of lists of {length}")
    return cast("list[Any]", value)


def _text(value: Any, place: str) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise Wrong(f"{place} must be text or a number")
    text = str(value)
    if "\0" in text:  # no flag and no variable can have one, so nothing behind here expects it
        raise Wrong(f"{place} must not have a NUL character")
    return text
