"""The group of verbs, and the one place where exceptions become exit codes."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from contextlib import suppress

import click

from neuron_anyio.errors import NeuronError
from neuron_anyio.groups import alone
from neuron_anyio.logs import named

from .completion import completion
from .describe import describe
from .dev import dev
from .enroll import enroll
from .gateway import gateway
from .problems import one_line
from .run import run
from .settings import equipped, place_of
from .submit import submit
from .top import control, top

__all__ = ["cli", "run_command"]

INTERRUPTED = 130
STDERR = 2


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="neuron-anyio", message="%(version)s")
def cli() -> None:
    """Serve capabilities to a gateway, and try them out.

    Exit codes: 0 done, 1 failed, 2 wrong usage (arguments, environment, module), 3 results were left undelivered,
    130 and 143 forced by a second SIGINT or SIGTERM. Flags go before environment variables, these before the
    file of --config, that before defaults.
    """


for _verb in (run, dev, gateway, submit, describe, enroll, top, control):
    cli.add_command(equipped(_verb))
cli.add_command(completion)


def run_command(arguments: Sequence[str]) -> int:
    """Run one command line and return its exit code; what goes wrong is one line on stderr, never a traceback.

    Raises:
        ImportError: a package is missing; `cli.main` knows what to say of it.
    """
    try:
        code = cli.main(list(arguments), prog_name="neuron-anyio", standalone_mode=False, obj=list(arguments))
    except Exception as exc:
        error = alone(exc)
        if isinstance(error, ImportError):
            raise error from error.__cause__
        return _answer(error)
    return code if isinstance(code, int) else 0


def _answer(error: BaseException) -> int:
    """Say what went wrong, and return the exit code."""
    match error:
        case click.exceptions.NoArgsIsHelpError():
            error.show()
            return error.exit_code
        case click.Abort():
            return INTERRUPTED
        case click.UsageError():
            path = "neuron-anyio" if error.ctx is None else error.ctx.command_path
            message = f"{error.format_message().rstrip('.')}{_origin(error)}"
            return _say(f"{message}; see '{path} --help'", error.exit_code)
        case click.ClickException():
            return _say(error.format_message(), error.exit_code)
        case NeuronError():
            return _say(str(error), 1)
        case _:
            logging.getLogger("neuron_anyio").debug("unexpected", exc_info=error, extra=named("command.broken"))
            return _say(f"{type(error).__name__}: {error} (LOG_LEVEL=debug shows where)", 1)


def _origin(error: click.UsageError) -> str:
    """Say that a wrong value is the file's of settings."""
    if not isinstance(error, click.BadParameter) or error.ctx is None or error.param is None:
        return ""
    place = place_of(error.ctx, str(error.param.name))
    return "" if place is None else f" ({place})"


def _say(message: str, code: int) -> int:
    try:
        click.echo(f"error: {one_line(message)}", err=True)
    except OSError:  # who reads stderr is gone, and the code still tells, unless what is left is flushed at the exit
        with suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), STDERR)
    return code
