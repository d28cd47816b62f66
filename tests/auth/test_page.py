"""What docs/auth.md shows is what the command and the errors say."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import anyio
import pytest

from neuron_anyio import CredentialRevoked
from neuron_anyio.auth import client_credentials
from tests.auth.support import served, stored
from tests.e2e.cli_child import call

PAGE = (Path(__file__).parents[2] / "docs" / "auth.md").read_text(encoding="utf-8")
SHOWN = "https://moku.example.com"


def test_the_enrolment_that_the_page_shows(tmp_path: Path) -> None:
    (block,) = re.findall(r"```text\n\$ (.*?)\n```", PAGE, re.DOTALL)
    line, said = block.split("\n", 1)
    with served() as (server, _):
        server.verdict = "approved"
        _, *arguments = shlex.split(line.replace(SHOWN, server.url))
        done = call(*arguments, cwd=tmp_path, env={"HOME": str(tmp_path)})
        assert done.stdout.replace(server.url, SHOWN).replace(str(tmp_path), "/home/me") == said + "\n"


def test_the_last_words_of_a_revoked_neuron_that_the_page_shows(tmp_path: Path) -> None:
    (shown,) = re.findall(r"```text\nerror: (.*?)\n```", PAGE)
    with served() as (server, _):
        path = stored(server, tmp_path, secret="gone")
        with pytest.raises(CredentialRevoked) as caught:
            anyio.run(client_credentials(path).token)
    assert str(caught.value).replace(str(path), "/home/me/.holokai/neuron-credentials.json") == shown


def test_every_flag_and_variable_of_the_command_is_on_the_page(tmp_path: Path) -> None:
    text = call("enroll", "--help", cwd=tmp_path).stdout
    of_every_verb = {"--log-level", "--log-format", "--backend", "--config"}  # on the page on the command
    options = set(re.findall(r"^  (--[a-z-]+)", text, re.MULTILINE)) - of_every_verb
    variables = set(re.findall(r"BIGBRAIN_[A-Z_]+", text))
    assert len(options) == 4
    assert len(variables) == 2
    assert not [name for name in options | variables if f"`{name}" not in PAGE]
