"""Options that several verbs share, and what their values mean."""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar

import click
from click.core import ParameterSource

from neuron_anyio.auth import token_file
from neuron_anyio.capability import Capability
from neuron_anyio.config import Timing
from neuron_anyio.setup import checked_neuron_id
from neuron_anyio.tokens import checked_token
from neuron_anyio.transports.http import checked_url

from .loading import Loaded
from .logs import set_up_logging
from .problems import Wrong

__all__ = [
    "BACKEND",
    "GATEWAY_URL",
    "MODULE",
    "NEURON",
    "TOKEN",
    "Concurrency",
    "apply",
    "chosen_auth",
    "chosen_timing",
    "example",
    "log_level",
    "resized",
    "stable_neuron_id",
]

F = TypeVar("F", bound=Callable[..., Any])
Option = Callable[[F], F]

DRAIN = 25.0
"""Seconds; a container usually gets 30 between the request to stop and the kill."""


class Concurrency(NamedTuple):
    """One `--concurrency`: for one capability, or for all of them."""

    capability: str | None
    number: int


def _concurrencies(ctx: click.Context, param: click.Parameter, value: Sequence[str]) -> list[Concurrency]:
    found: list[Concurrency] = []
    for text in value:
        kind, equals, number = text.rpartition("=")
        if not (number.isascii() and number.isdecimal()) or int(number) < 1 or (equals and not kind):
            raise click.BadParameter(f"{text!r} is neither TYPE=N nor N, with N a whole number, 1 or more", ctx, param)
        found.append(Concurrency(kind or None, int(number)))
    return found


def _checked_url(ctx: click.Context, param: click.Parameter, value: str) -> str:
    del ctx, param
    try:
        return checked_url(value)
    except ValueError as exc:
        raise Wrong(f"--gateway-url: {exc}") from None


def _log(ctx: click.Context, param: click.Parameter, value: str) -> None:
    del ctx, param
    set_up_logging(value)


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
        type=click.FloatRange(min=0),
        default=DRAIN,
        show_default=True,
        metavar="SECONDS",
        help="Time to finish what runs, after the first SIGTERM or SIGINT.",
    ),
    click.option(
        "--heartbeat",
        type=click.FloatRange(min=0, min_open=True),
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
        type=click.IntRange(min=1),
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


def log_level(default: str) -> Option[Any]:
    """Return the option that sets up logging before anything else is looked at."""
    return click.option(
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


def example(line: str) -> str:
    """Return the epilog of a verb: one line that works as it stands."""
    return f"\b\nExample:\n  {line}"


def chosen_auth() -> str | Callable[[], str] | None:
    """Return what the current command's `--token` and `--token-file` say; a flag goes before the environment.

    Raises:
        Wrong: both were given in the same way, or the token cannot be used. Never shows it.
    """
    context = click.get_current_context()
    given = {name: context.params[name] for name in ("token", "token_file") if context.params[name] is not None}
    flags = [name for name in given if context.get_parameter_source(name) is ParameterSource.COMMANDLINE]
    chosen = flags or list(given)
    if len(chosen) > 1:
        raise Wrong("both a token and a token file are given; leave out one of them")
    if not chosen:
        return None
    (name,) = chosen
    label = f"--{name.replace('_', '-')}" if flags else f"BIGBRAIN_{name.upper()}"
    return _read_token_file(given[name], label) if name == "token_file" else _read_token(given[name], label)


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


def chosen_timing(*, drain: float, heartbeat: float) -> Timing:
    """Return the times that the options say.

    Raises:
        Wrong: one of them is no time.
    """
    try:
        return Timing(drain=drain, heartbeat=heartbeat)
    except ValueError as exc:
        raise Wrong(str(exc).replace("timing.", "--")) from None


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
