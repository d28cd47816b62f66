"""Options that several verbs share, and what their values mean."""

from __future__ import annotations

import math
import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, NamedTuple, TypeVar

import click
from click.core import ParameterSource

from neuron_anyio.auth import client_credentials, token_file
from neuron_anyio.capability import Capability
from neuron_anyio.config import Timing
from neuron_anyio.health import probe_address
from neuron_anyio.setup import checked_neuron_id
from neuron_anyio.tokens import Auth, checked_token
from neuron_anyio.transports.http import checked_url

from .loading import Loaded
from .logs import set_up_logging
from .problems import Wrong
from .settings import place_of

__all__ = [
    "BACKEND",
    "CREDENTIALS",
    "GATEWAY_URL",
    "MODULE",
    "NEURON",
    "TOKEN",
    "Concurrency",
    "Option",
    "Seconds",
    "Whole",
    "apply",
    "attempts",
    "checked_health",
    "chosen_auth",
    "chosen_token",
    "example",
    "is_local",
    "log_level",
    "resized",
    "stable_neuron_id",
]

F = TypeVar("F", bound=Callable[..., Any])
Option = Callable[[F], F]

DRAIN = 25.0
"""Seconds; a container usually gets 30 between the request to stop and the kill."""

LONGEST = 366 * 86_400
"""Seconds; the gateway's longest lease, and longer than anybody waits for anything."""

MOST_ATTEMPTS = 1_000
"""The gateway takes no task with more."""

MOST_AT_ONCE = 1_000_000
"""Far more than a process can run; what does not fit into a frame is far beyond."""

SOURCES = (ParameterSource.COMMANDLINE, ParameterSource.ENVIRONMENT, ParameterSource.DEFAULT_MAP)
"""Where a value may come from, the first that has one wins."""

SHOWN = 40
"""Characters of a wrong value in an error: the rule that follows it must still be read."""


class Seconds(click.FloatRange):
    """A time above 0 (or 0, too) that clocks and timers can work with."""

    def __init__(self, *, zero: bool = False) -> None:
        super().__init__(min=0, min_open=not zero, max=LONGEST)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Read a number of seconds; NaN, too, is out of range, though it passes comparisons with the bounds."""
        with suppress(click.BadParameter):
            number = float(super().convert(value, param, ctx))
            if not math.isnan(number):
                return number
        least = "above 0 and" if self.min_open else "from 0"
        raise click.BadParameter(f"{_shown(value)} is not a number of seconds {least} up to {self.max}", ctx, param)


class Whole(click.IntRange):
    """A whole number between two bounds, both allowed."""

    def __init__(self, least: int, most: int) -> None:
        super().__init__(least, most)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Read a whole number."""
        with suppress(click.BadParameter):
            return int(super().convert(value, param, ctx))
        raise click.BadParameter(f"{_shown(value)} is not a whole number from {self.min} to {self.max}", ctx, param)


def _shown(value: object) -> str:
    text = str(value)
    return repr(text if len(text) <= SHOWN else f"{text[:SHOWN]}…")


class Concurrency(NamedTuple):
    """One `--concurrency`: for one capability, or for all of them."""

    capability: str | None
    number: int


def _concurrencies(ctx: click.Context, param: click.Parameter, value: Sequence[str]) -> list[Concurrency]:
    found: list[Concurrency] = []
    for text in value:
        kind, equals, number = text.rpartition("=")
        digits = number.isascii() and number.isdecimal() and len(number) <= len(str(MOST_AT_ONCE))
        if not digits or not 1 <= int(number) <= MOST_AT_ONCE or (equals and not kind):
            rule = f"is neither TYPE=N nor N, with N a whole number from 1 to {MOST_AT_ONCE}"
            raise click.BadParameter(f"{_shown(text)} {rule}", ctx, param)
        found.append(Concurrency(kind or None, int(number)))
    return found


def _checked_url(ctx: click.Context, param: click.Parameter, value: str) -> str:
    del param
    if ctx.command.name == "run" and is_local(value):
        return value
    try:
        return checked_url(value)
    except ValueError as exc:
        raise Wrong(f"--gateway-url: {exc}") from None


def checked_health(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    """Return the address for probes."""
    if value is not None:
        try:
            probe_address(value)
        except ValueError as exc:
            raise click.BadParameter(str(exc), ctx, param) from None
    return value


def is_local(address: str) -> bool:
    """Tell whether an address names a host program on this machine instead of a gateway."""
    return address == "stdio:" or (address.startswith("unix:") and address != "unix:")


def _log(ctx: click.Context, param: click.Parameter, value: str) -> None:
    # Called for each of the two options, and of use from the first one on: errors that follow are logged, too.
    said: dict[str, str] = ctx.meta.setdefault(_log.__module__, {})
    said[str(param.name)] = value
    set_up_logging(said.get("log_level", "warning"), said.get("log_format", "text"))


MODULE = click.argument("module", metavar="MODULE[:NAME]")

GATEWAY_URL = click.option(
    "--gateway-url",
    envvar="BIGBRAIN_GATEWAY_URL",
    show_envvar=True,
    required=True,
    metavar="URL",
    callback=_checked_url,
    help="Base URL of the gateway.",
)

TOKEN: tuple[Option[Any], ...] = (
    click.option(
        "--token",
        envvar="BIGBRAIN_TOKEN",
        show_envvar=True,
        metavar="TEXT",
        help="Bearer token. Others can see a flag; a file or the environment keeps it.",
    ),
    click.option(
        "--token-file",
        envvar="BIGBRAIN_TOKEN_FILE",
        show_envvar=True,
        type=click.Path(path_type=str),
        metavar="PATH",
        help="File with the bearer token alone, on one line.",
    ),
)

CREDENTIALS = click.option(
    "--credentials-file",
    envvar="BIGBRAIN_CREDENTIALS_FILE",
    show_envvar=True,
    type=click.Path(path_type=str),
    metavar="PATH",
    help="What `enroll` has written: short-lived tokens are minted from it.",
)

BACKEND = click.option(
    "--backend", type=click.Choice(["asyncio", "trio"]), default="asyncio", show_default=True, help="Event loop."
)

NEURON: tuple[Option[Any], ...] = (
    click.option(
        "--neuron-id",
        envvar="BIGBRAIN_NEURON_ID",
        show_envvar=True,
        metavar="ID",
        show_default="HOST-MODULE",
        help="Stable name of this process. Two at once need two names.",
    ),
    click.option(
        "--drain",
        type=Seconds(zero=True),
        default=DRAIN,
        show_default=True,
        metavar="SECONDS",
        help="Time to finish what runs, after the first SIGTERM or SIGINT.",
    ),
    click.option(
        "--heartbeat",
        type=Seconds(),
        default=Timing().heartbeat,
        show_default=True,
        metavar="SECONDS",
        help="Time between heartbeats.",
    ),
    click.option(
        "--concurrency",
        multiple=True,
        callback=_concurrencies,
        metavar="TYPE=N|N",
        help="How many of a capability run at once, or of each. May be repeated.",
    ),
    click.option(
        "--max-concurrency",
        type=Whole(1, MOST_AT_ONCE),
        metavar="N",
        help="How many run at once over all capabilities.",
    ),
)


def apply(*options: Option[Any]) -> Callable[[F], F]:
    """Decorate with several options, in the order in which the help shows them."""

    def decorate(function: F) -> F:
        for option in reversed(options):
            function = option(function)
        return function

    return decorate


def attempts(text: str, default: int | None = None) -> Option[Any]:
    """Return the option that says how often a task is tried."""
    return click.option(
        "--max-attempts",
        type=Whole(1, MOST_ATTEMPTS),
        default=default,
        show_default=default is not None,
        metavar="N",
        help=text,
    )


def log_level(default: str) -> Option[Any]:
    """Return the options that set up logging before anything else is looked at."""
    form = click.option(
        "--log-format",
        envvar="LOG_FORMAT",
        show_envvar=True,
        type=click.Choice(["text", "json"], case_sensitive=False),
        default="text",
        show_default=True,
        is_eager=True,
        expose_value=False,
        callback=_log,
        help="How: lines for people, or one JSON object each.",
    )
    level = click.option(
        "--log-level",
        envvar="LOG_LEVEL",
        show_envvar=True,
        type=click.Choice(["debug", "info", "warning", "error", "critical"], case_sensitive=False),
        default=default,
        show_default=True,
        is_eager=True,
        expose_value=False,
        callback=_log,
        help="What is logged to stderr.",
    )
    return lambda function: level(form(function))


def example(line: str) -> str:
    """Return the epilog of a verb: one line that works as it stands."""
    return f"\b\nExample:\n  {line}"


def chosen_auth() -> Auth | None:
    """Return what the current command's options for tokens say, minted ones included."""
    path = _chosen("token", "token_file", "credentials_file").get("credentials_file")
    return chosen_token() if path is None else client_credentials(path)


def chosen_token() -> str | Callable[[], str] | None:
    """Return what the current command's options for a token say.

    Raises:
        Wrong: two were given in the same way, or the token cannot be used. Never shows it.
    """
    for name, value in _chosen("token", "token_file").items():
        label = _label(name)
        return _read_token_file(value, label) if name == "token_file" else _read_token(value, label)
    return None


def _chosen(*names: str) -> dict[str, str]:
    """Return the one option of these that counts, by its name: flags, then the environment, then the file."""
    context = click.get_current_context()
    given = {name: context.params[name] for name in names if context.params.get(name) is not None}
    by_source = [[name for name in given if context.get_parameter_source(name) is source] for source in SOURCES]
    chosen = next((names for names in by_source if names), list[str]())
    if len(chosen) > 1:
        labels = " and ".join(f"a {name.replace('_', ' ')}" for name in chosen)
        raise Wrong(f"both {labels} are given; leave out one of them")
    return {name: given[name] for name in chosen}


def _label(name: str) -> str:
    """Return how an option was given, for an error."""
    context = click.get_current_context()
    flag, place = f"--{name.replace('_', '-')}", place_of(context, name)
    if place is not None:
        return f"{place}: {flag.removeprefix('--')}"
    return flag if context.get_parameter_source(name) is ParameterSource.COMMANDLINE else f"BIGBRAIN_{name.upper()}"


def _read_token_file(path: str, label: str) -> Callable[[], str]:
    source = token_file(path)
    try:
        source()
    except ValueError as exc:
        raise Wrong(f"{label}: {exc}") from None
    return source


def _read_token(token: str, label: str) -> str:
    try:
        return checked_token(token)
    except ValueError as exc:
        reason = str(exc).partition(";")[0]
        raise Wrong(f"{label}: {reason}; give the token alone, or its file with --token-file") from None


def resized(capabilities: Sequence[Capability[..., Any]], wishes: Sequence[Concurrency]) -> list[Capability[..., Any]]:
    """Return the capabilities with the wished concurrency; what names one goes before what is for all.

    Raises:
        Wrong: a wish for a capability that is not there.
    """
    known = {item.terms.type for item in capabilities}
    numbers = {wish.capability: wish.number for wish in wishes}
    unknown = sorted(name for name in numbers.keys() - known if name is not None)
    if unknown:
        raise Wrong(f"--concurrency: no capability {unknown[0]!r} in the module; it has {', '.join(sorted(known))}")
    return [
        item.with_options(concurrency=numbers.get(item.terms.type, numbers.get(None, item.terms.concurrency)))
        for item in capabilities
    ]


def stable_neuron_id(given: str | None, loaded: Loaded) -> str:
    """Return the neuron's id: the one given, else one that stays the same on this host for this module.

    Raises:
        Wrong: it is empty.
    """
    try:
        return checked_neuron_id(f"{socket.gethostname()}-{loaded.name}" if given is None else given)
    except ValueError:
        raise Wrong("--neuron-id is empty; leave it out, or give a name") from None
