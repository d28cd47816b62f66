"""The command `neuron-anyio enroll`: its words, its files and its exit codes, as a real process."""

from __future__ import annotations

import signal
import socket
import subprocess
from pathlib import Path

import pytest

from neuron_anyio.auth import read_credential
from tests.auth.server import DEVICE, SECRETS, TOKEN, error, reply
from tests.auth.support import files_in, no_secret_in, served, stored
from tests.e2e.cli_child import call, running

HOME = "home"


def enroll(folder: Path, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Run the command to its end."""
    return call("enroll", *arguments, cwd=folder, env={"HOME": str(folder / HOME), **env})


def test_a_host_is_enrolled_and_the_second_time_it_is_so_already(tmp_path: Path) -> None:
    with served() as (server, _):
        server.verdict = "approved"
        path = tmp_path / "c.json"
        flags = ["--moku-url", server.url, "--credentials-file", str(path)]
        done = enroll(tmp_path, *flags, "--name", "worker-1", "--capabilities", " a/b, ,c/d,")
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.splitlines() == [
            "An administrator of your organisation has to approve this neuron. Open",
            f"  {server.url}/activate?user_code={SECRETS[2]}",
            f"and check the code {SECRETS[2]} there.",
            "Waiting up to 15 min ...",
            f"Enrolled as client client-new; its credential is in {path}",
        ]
        assert server.forms(DEVICE) == [
            {"client_name": "worker-1", "hostname": socket.gethostname(), "capability_types": "a/b,c/d"}
        ]
        assert path.stat().st_mode & 0o777 == 0o600
        again = enroll(tmp_path, *flags)
        assert (again.returncode, again.stderr) == (0, "")
        assert again.stdout == f"Already enrolled as client client-new; its credential is in {path}\n"


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_without_flags_the_environment_and_the_usual_place_are_taken(tmp_path: Path, backend: str) -> None:
    with served() as (server, _):
        server.verdict = "approved"
        server.device = {"verification_uri_complete": None}
        (tmp_path / HOME).mkdir(0o755)
        done = enroll(tmp_path, "--backend", backend, BIGBRAIN_MOKU_URL=server.url)
        assert (done.returncode, done.stderr) == (0, "")
        assert f"\n  {server.url}/activate\n" in done.stdout
        assert server.forms(DEVICE)[0]["client_name"] == f"neuron-{socket.gethostname()}"
        path = tmp_path / HOME / ".holokai" / "neuron-credentials.json"
        assert path.parent.stat().st_mode & 0o777 == 0o700
        assert read_credential(path) is not None
        elsewhere = {"BIGBRAIN_MOKU_URL": server.url, "BIGBRAIN_CREDENTIALS_FILE": str(stored(server, tmp_path))}
        assert "Already enrolled as client client-1;" in enroll(tmp_path, **elsewhere).stdout


FAILURES = {
    "denied": (
        {TOKEN: [error("authorization_pending"), error("access_denied")]},
        "not enrolled (access_denied): the administr",
    ),
    "refused": ({DEVICE: [reply(500, b"boom")]}, "not enrolled (device_request_failed): no device code: POST "),
    "a page": ({DEVICE: [reply(200, b"<html>", kind="text/html")]}, "not enrolled (invalid_response): POST "),
}


@pytest.mark.parametrize("name", FAILURES)
def test_D4_a_failure_is_one_line_and_exit_code_1(tmp_path: Path, name: str) -> None:
    scripted, text = FAILURES[name]
    with served() as (server, _):
        server.scripted = {path: list(replies) for path, replies in scripted.items()}
        flags = ["--moku-url", server.url, "--credentials-file", str(tmp_path / "c.json")]
        done = enroll(tmp_path, *flags, LOG_LEVEL="error")
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: {text}")
    assert done.stderr.count("\n") == 1
    assert files_in(tmp_path) == {}
    no_secret_in(done.stderr)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ([], "--moku-url"),
        (["--moku-url", "moku"], "--moku-url must begin with https:// (or http://) and name a host"),
        (["--moku-url", "https://u:geheim@h"], "--moku-url carries credentials; leave them out"),
        (["--moku-url", "https://h", "--name", " "], "--name is empty"),
        (["--moku-url", "https://h", "--credentials-file", "."], "is a directory"),
        (["--moku-url", "https://h", "extra"], "extra"),
    ],
)
def test_D4_bad_usage_is_one_line_and_exit_code_2(tmp_path: Path, arguments: list[str], text: str) -> None:
    done = enroll(tmp_path, *arguments)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert text in done.stderr
    assert done.stderr.count("\n") == 1
    assert "geheim" not in done.stderr


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize(
    ("number", "code", "said"),
    [
        (signal.SIGINT, 130, ["error: interrupted; this neuron is not enrolled"]),
        (signal.SIGTERM, -signal.SIGTERM, []),
    ],
    ids=["SIGINT", "SIGTERM"],
)
def test_D4_a_signal_while_the_administrator_is_waited_for_leaves_nothing(
    tmp_path: Path, backend: str, number: signal.Signals, code: int, said: list[str]
) -> None:
    flags = ["--backend", backend, "--moku-url"]
    with (
        served() as (server, portal),
        running("enroll", *flags, server.url, cwd=tmp_path, env={"HOME": str(tmp_path)}) as child,
    ):
        portal.call(server.wait_for, lambda: server.polls)
        child.send(number)
        assert child.end() == code
        assert child.lines["stderr"] == said
    assert files_in(tmp_path) == {}


def test_the_help_fits_a_terminal_and_names_the_variables(tmp_path: Path) -> None:
    done = enroll(tmp_path, "--help", COLUMNS="80")
    assert (done.returncode, done.stderr) == (0, "")
    assert max(map(len, done.stdout.split("Example:")[0].splitlines())) <= 80
    for name in ("BIGBRAIN_MOKU_URL", "BIGBRAIN_CREDENTIALS_FILE", "LOG_LEVEL", "~/.holokai/neuron-credentials.json"):
        assert name in done.stdout
