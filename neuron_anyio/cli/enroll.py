"""`neuron-anyio enroll`: get a credential for this host, with an administrator's approval."""

from __future__ import annotations

import socket
from typing import Any

import anyio
import click

from neuron_anyio.auth import Approval, Enrollment, EnrollmentFailed, default_credential_path
from neuron_anyio.auth import enroll as enroll_neuron

from .options import BACKEND, apply, example, log_level
from .problems import Failure, Wrong

__all__ = ["enroll"]

INTERRUPTED = 130


class _Interrupted(click.ClickException):
    exit_code = INTERRUPTED


@click.command(epilog=example("neuron-anyio enroll --moku-url https://moku.example.com --name worker-1"))
@apply(
    click.option(
        "--moku-url",
        envvar="BIGBRAIN_MOKU_URL",
        show_envvar=True,
        required=True,
        metavar="URL",
        help="Base URL of the server that enrols neurons; not the gateway's.",
    ),
    click.option(
        "--name", metavar="NAME", show_default="neuron-HOST", help="The name under which the administrator sees it."
    ),
    click.option(
        "--capabilities",
        default="",
        metavar="TYPE,TYPE",
        help="Capability types that it will offer, for the administrator to see.",
    ),
    click.option(
        "--credentials-file",
        envvar="BIGBRAIN_CREDENTIALS_FILE",
        show_envvar=True,
        type=click.Path(dir_okay=False),
        metavar="PATH",
        show_default="~/.holokai/neuron-credentials.json",
        help="Where the credential is kept.",
    ),
    log_level("warning"),
    BACKEND,
)
def enroll(moku_url: str, name: str | None, capabilities: str, backend: str, **options: Any) -> int:
    """Enrol this host as a neuron: show a page and a code, and wait until an administrator has approved it.

    The credential that comes is written to a file that only this user can read; `client_credentials(...)` mints tokens
    with it. Where the file holds one that works, nothing happens; where that was revoked, it is replaced.

    Exit code 0 when the neuron is enrolled, 1 when it is not, 130 after SIGINT.
    """
    wanted = [kind.strip() for kind in capabilities.split(",") if kind.strip()]

    async def main() -> Enrollment:
        return await enroll_neuron(
            moku_url,
            name=f"neuron-{socket.gethostname()}" if name is None else name,
            capabilities=wanted,
            credentials_file=options["credentials_file"] or default_credential_path(),
            on_approval=_show,
        )

    try:
        done = anyio.run(main, backend=backend)
    except EnrollmentFailed as exc:
        raise Failure(f"not enrolled ({exc.code}): {exc}") from None
    except ValueError as exc:
        raise Wrong(str(exc).replace("the server's URL", "--moku-url").replace("name is", "--name is")) from None
    except KeyboardInterrupt:
        raise _Interrupted("interrupted; this neuron is not enrolled") from None
    how = "Enrolled" if done.status == "enrolled" else "Already enrolled"
    click.echo(f"{how} as client {done.client_id}; its credential is in {done.path}")
    return 0


def _show(approval: Approval) -> None:
    minutes = max(1, round(approval.expires_in / 60))
    click.echo("An administrator of your organisation has to approve this neuron. Open")
    click.echo(f"  {approval.verification_uri_complete or approval.verification_uri}")
    click.echo(f"and check the code {approval.user_code} there.")
    click.echo(f"Waiting up to {minutes} min ...")
