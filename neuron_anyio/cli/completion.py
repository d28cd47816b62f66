"""`neuron-anyio completion`: the script that lets a shell complete this command's words."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from .options import example
from .problems import Wrong

__all__ = ["completion"]

PROGRAM = "neuron-anyio"


@click.command(epilog=example('eval "$(neuron-anyio completion bash)"'))
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print a script that lets SHELL complete verbs, flags and their values; the shell's start-up file evaluates it.

    For fish: neuron-anyio completion fish | source
    """
    kind = get_completion_class(shell)
    if kind is None:
        raise Wrong(f"there is no completion for {shell}")
    script = kind(ctx.find_root().command, {}, PROGRAM, f"_{PROGRAM}_COMPLETE".replace("-", "_").upper())
    click.echo(script.source())
