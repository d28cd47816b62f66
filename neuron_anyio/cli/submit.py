"""`neuron-anyio submit`: one task, and what becomes of it."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import anyio
import click

from neuron_anyio.client import GatewayClient, NeuronStatus, TaskStatus
from neuron_anyio.errors import AuthenticationFailed
from neuron_anyio.logs import named

from .documents import compact, read_document
from .options import CREDENTIALS, GATEWAY_URL, TOKEN, Seconds, apply, attempts, chosen_auth, example, log_level
from .problems import Failure
from .screen import Screen, open_screen
from .wording import ending, standing

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.spinner import Spinner

__all__ = ["submit"]

_log = logging.getLogger("neuron_anyio")


@click.command(
    epilog=example(
        """neuron-anyio submit examples/text.upper '{"text": "hello"}' --wait --gateway-url http://127.0.0.1:8787"""
    ),
)
@apply(
    click.argument("type", metavar="TYPE"),
    click.argument("json", metavar="JSON"),
    click.option("--wait", is_flag=True, help="Follow the task to its end and print its output."),
    click.option(
        "--timeout", type=Seconds(), metavar="SECONDS", help="Give up after this time; the task itself goes on."
    ),
    click.option("--allow-unknown", is_flag=True, help="Submit even if no neuron offers TYPE, and wait for one."),
    click.option("--on-behalf-of", metavar="USER", help="The user for whom it runs."),
    attempts("Tries that it is worth."),
    click.option("--idempotency-key", metavar="KEY", help="The same key finds the same task again."),
    GATEWAY_URL,
    *TOKEN,
    CREDENTIALS,
    log_level("warning"),
)
def submit(type: str, json: str, gateway_url: str, **options: Any) -> int:  # noqa: A002 - the option's name
    """Submit a task of TYPE with the input JSON, and print the task's id.

    JSON is a document, @FILE, or - for stdin. With --wait the output alone is printed, as JSON, and what happens until
    then goes to stderr; exit code 0 when the task has succeeded, 1 when it has failed or was cancelled.
    """
    request = _Request(type, read_document(json, "JSON"), options)
    client = GatewayClient(gateway_url, auth=chosen_auth())

    async def main() -> None:
        with anyio.fail_after(options["timeout"]):
            async with client:
                await request.run(client)

    try:
        anyio.run(main)
    except TimeoutError:
        goes_on = f"; task {request.task_id} goes on" if request.task_id else ""
        raise Failure(f"no end within {options['timeout']:g} s{goes_on}") from None
    except AuthenticationFailed as exc:
        raise Failure(f"{exc} (--token-file, --token)") from None
    return 0


class _Request:
    """One task of the command line's.

    Attributes:
        task_id: the gateway's name for it, `""` before it has one.
    """

    def __init__(self, kind: str, document: Any, options: dict[str, Any]) -> None:
        self.task_id = ""
        self._kind = kind
        self._document = document
        self._options = options

    async def run(self, client: GatewayClient) -> None:
        """Submit it, and wait for its end where that was asked for.

        Raises:
            Failure: it failed, was cancelled, or is waited for and nobody offers it.
        """
        waits, user = self._options["wait"], self._options["on_behalf_of"]
        if not self._options["allow_unknown"]:
            unknown = _unknown(self._kind, user, await client.neurons())
            if unknown and waits:
                raise Failure(f"{unknown}; start one, or wait for one with --allow-unknown")
            if unknown:
                _log.warning("%s; the task waits for one", unknown, extra=named("command.task_waits"))
        status = await client.submit(
            self._kind,
            self._document,
            on_behalf_of=user,
            max_attempts=self._options["max_attempts"],
            idempotency_key=self._options["idempotency_key"],
        )
        self.task_id = status.task_id
        if waits:
            await self._follow(client, status)
        else:
            click.echo(status.task_id)

    async def _follow(self, client: GatewayClient, status: TaskStatus) -> None:
        display = _Display(status)
        with open_screen(display.view, stderr=True) as screen:
            async with anyio.create_task_group() as group:
                group.start_soon(screen.keep_fresh)
                display.show(screen, status)
                async with client.follow(status.task_id) as updates:
                    async for update in updates:
                        display.show(screen, update)
                group.cancel_scope.cancel()
        last = display.status
        if last.state != "succeeded":
            raise Failure(f"task {last.task_id} {ending(last)}")
        click.echo(compact(last.output))


class _Display:
    """Where the task stands, for a screen."""

    def __init__(self, status: TaskStatus) -> None:
        self.status = status
        self._line = ""
        self._spinner: Spinner | None = None

    def show(self, screen: Screen, status: TaskStatus) -> None:
        """Take a status; add a line when it is news and nothing else shows it."""
        self.status = status
        line = f"task {status.task_id} {standing(status)}"
        if line != self._line and (not screen.is_live or not self._line):
            screen.say(line)
        self._line = line

    def view(self) -> RenderableType:
        """Return what a live display shows: a spinner and the newest line."""
        from rich.spinner import Spinner  # noqa: PLC0415 - needed on a terminal only
        from rich.text import Text  # noqa: PLC0415 - as above

        if self._spinner is None:
            self._spinner = Spinner("dots")
        self._spinner.update(text=Text(self._line))
        return self._spinner


def _unknown(kind: str, user: str | None, neurons: Sequence[NeuronStatus]) -> str:
    """Return that nobody offers a capability (for a user), and what is offered; `""` when somebody does."""
    offered = {
        (slots.type, slots.on_behalf_of) for neuron in neurons if neuron.connected for slots in neuron.capabilities
    }
    if (kind, user) in offered:
        return ""
    names = sorted({f"{name} (for {whose})" if whose else name for name, whose in offered})
    whom = f" on behalf of {user}" if user else ""
    return f"no neuron offers {kind!r}{whom}; offered: {', '.join(names) or 'nothing'}"
