"""Where the command line's settings come from: flags, variables, a file, defaults, in this order (promise D4)."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from neuron_anyio.cli.main import cli, run_command
from neuron_anyio.cli.settings import keys_of
from tests.e2e.cli_child import WORKER, ask, call, gateway, running

NOWHERE = "http://127.0.0.1:9"
NAMED = {
    "gateway-url": "BIGBRAIN_GATEWAY_URL",
    "neuron-id": "BIGBRAIN_NEURON_ID",
    "token": "BIGBRAIN_TOKEN",
    "token-file": "BIGBRAIN_TOKEN_FILE",
    "moku-url": "BIGBRAIN_MOKU_URL",
    "credentials-file": "BIGBRAIN_CREDENTIALS_FILE",
    "log-level": "LOG_LEVEL",
    "log-format": "LOG_FORMAT",
    "config": "NEURON_ANYIO_CONFIG",
}
"""Variables whose names others have fixed, or that are one for all verbs."""

VERBS = [verb for verb in cli.commands.values() if any(isinstance(each, click.Option) for each in verb.params)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "worker.py").write_text(WORKER)
    return tmp_path


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with gateway(tmp_path_factory.mktemp("gateway")) as served:
        yield served


def granted(url: str, neuron_id: str) -> tuple[int, int]:
    """Return the concurrency of two capabilities of a neuron, as the gateway has granted it."""
    (found,) = [each for each in ask(url, "/neurons")["neurons"] if each["neuronId"] == neuron_id]
    numbers = {each["type"]: each["concurrency"] for each in found["capabilities"]}
    return numbers["examples/gated"], numbers["examples/fails"]


@pytest.mark.parametrize("verb", VERBS, ids=lambda verb: str(verb.name))
def test_every_flag_has_a_variable_by_one_rule_and_the_help_shows_it(verb: click.Command, folder: Path) -> None:
    shown = "".join(call(str(verb.name), "--help", cwd=folder).stdout.split())
    for key, option in keys_of(verb).items():
        rule = f"NEURON_ANYIO_{verb.name}_{key}".upper().replace("-", "_")
        assert option.envvar == NAMED.get(key, rule)
        assert f"[envvar:{option.envvar}" in shown


@pytest.mark.parametrize(
    ("options", "env", "file", "neuron_id"),
    [
        (["--neuron-id", "by-flag"], "by-environment", "by-file", "by-flag"),
        ([], "by-environment", "by-file", "by-environment"),
        ([], "", "by-file", "by-file"),
    ],
    ids=["flag", "environment", "file"],
)
def test_flags_go_before_the_environment_and_that_before_the_file(
    options: list[str], env: str, file: str, neuron_id: str, folder: Path
) -> None:
    (folder / "neuron-anyio.toml").write_text(f'[run]\nneuron-id = "{file}"\ngateway-url = "{NOWHERE}"\n')
    with running("run", "worker", *options, cwd=folder, env={"BIGBRAIN_NEURON_ID": env}) as child:
        assert child.wait_for(rf"connecting to {NOWHERE} as (\S+)$")[1] == neuron_id
        child.wait_for("no stream from")
        child.send(signal.SIGTERM)
        assert child.end() == 0


def test_a_file_sets_what_flags_set_of_whatever_kind(folder: Path, url: str, tmp_path: Path) -> None:
    (tmp_path / "settings.toml").write_text(
        f"""
[run]
gateway-url = "{url}"
neuron-id = "filed"
concurrency = ["examples/gated=3", 2]
max-concurrency = 7
drain = 0.5
burst = 300
backend = "trio"
journal = "results.db"
reload = false
control = "{tmp_path / "neuron.sock"}"

[submit]
wait = true

[dev]
submit = [["examples/text.upper", '{{"text": "hello"}}']]
once = true
port = 0
"""
    )
    env = {"NEURON_ANYIO_CONFIG": str(tmp_path / "settings.toml")}
    with running("run", "worker", cwd=folder, env=env) as child:
        child.wait_for("registered with")
        assert granted(url, "filed") == (3, 2)
        assert (folder / "results.db").exists()
        assert (tmp_path / "neuron.sock").is_socket()
        child.send(signal.SIGTERM)
        assert child.end() == 0
    done = call("dev", "worker", cwd=folder, env=env)
    assert done.returncode == 0, done.stderr
    assert '"HELLO"' in done.stdout


def test_variables_set_what_flags_set_of_whatever_kind(folder: Path, url: str) -> None:
    env = {
        "BIGBRAIN_GATEWAY_URL": url,
        "BIGBRAIN_NEURON_ID": "by-variables",
        "NEURON_ANYIO_RUN_CONCURRENCY": "examples/gated=3 2",
        "NEURON_ANYIO_RUN_BURST": "300",
        "NEURON_ANYIO_RUN_PROCESSES": "2",
        "NEURON_ANYIO_RUN_BACKEND": "trio",
        "NEURON_ANYIO_RUN_CONTROL": "off",
    }
    with running("run", "worker", cwd=folder, env=env) as child:
        child.wait_for("registered with", count=2)
        assert granted(url, "by-variables-1") == granted(url, "by-variables-2") == (3, 2)
        child.send(signal.SIGTERM)
        assert child.end() == 0


def test_a_token_file_of_the_file_stands_back_for_a_token_of_the_environment(folder: Path) -> None:
    (folder / "neuron-anyio.toml").write_text('[run]\ntoken-file = "nowhere"\n')
    arguments = ["run", "worker", "--gateway-url", NOWHERE]
    done = call(*arguments, cwd=folder)
    assert done.returncode == 2
    assert done.stderr.startswith("error: neuron-anyio.toml: token-file: the token file nowhere cannot be read")
    with running(*arguments, cwd=folder, env={"BIGBRAIN_TOKEN": "secret"}) as child:
        child.wait_for("no stream from")
        child.send(signal.SIGTERM)
        assert child.end() == 0


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("[run]\ndrian = 3", "neuron-anyio.toml: [run] has no setting 'drian'; the nearest is 'drain'"),
        (
            "[run]\nmax_concurrency = 3",
            "neuron-anyio.toml: [run] has no setting 'max_concurrency'; the nearest is 'max-concurrency'",
        ),
        ("[run]\nconfig = 'x'", "neuron-anyio.toml: [run] has no setting 'config'; the nearest is "),
        ("[run]\nchild = '1:1'", "neuron-anyio.toml: [run] has no setting 'child'; the nearest is "),
        ("[rum]\ndrain = 3", "neuron-anyio.toml: there is no verb 'rum'; the nearest is 'run'"),
        ("[submit]\nwiat = true", "neuron-anyio.toml: [submit] has no setting 'wiat'; the nearest is 'wait'"),
        ("drain = 3", "neuron-anyio.toml: 'drain' stands outside of a table; put it under its verb, for example [run]"),
        (
            "[run]\ntoken = 'a-secret'",
            "neuron-anyio.toml: a token does not belong into [run]; put it into a file and name that: token-file",
        ),
        ("[run]\nreload = 'yes'", "neuron-anyio.toml: 'reload' in [run] must be true or false"),
        ("[run]\ndrain = true", "neuron-anyio.toml: 'drain' in [run] must be text or a number"),
        ("[run]\ndrain = [1]", "neuron-anyio.toml: 'drain' in [run] must be text or a number"),
        ("[dev]\nsubmit = ['a', 'b']", "neuron-anyio.toml: 'submit' in [dev] must be a list of lists of 2"),
        ("[run]\ndrain =", "neuron-anyio.toml is not TOML: "),
        ("\udcff", "neuron-anyio.toml is not TOML: "),
        (f"[run]\ndrain = {'9' * 5000}", "neuron-anyio.toml is not TOML: "),
        (f"[run]\ndrain = {'[' * 5000}", "neuron-anyio.toml is not TOML: "),
        ("[run]\njournal = 'x\\u0000'".replace("'", '"'), "neuron-anyio.toml: 'journal' in [run] must not have a NUL"),
    ],
    ids=lambda text: text.splitlines()[-1][:20] if isinstance(text, str) else None,
)
def test_D4_what_is_wrong_in_the_file_is_one_line_that_names_it(
    text: str, error: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    Path("neuron-anyio.toml").write_bytes(text.encode("utf-8", "surrogateescape"))
    assert run_command(["run", "worker", "--gateway-url", NOWHERE]) == 2  # in this process: no logging is set up yet
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {error}")
    assert "a-secret" not in line


@pytest.mark.parametrize("number", ["-1", "nan"])
def test_D4_a_value_of_the_file_is_judged_as_a_flags_and_the_file_named(number: str, folder: Path) -> None:
    (folder / "neuron-anyio.toml").write_text(f"[run]\ndrain = {number}\n")
    done = call("run", "worker", "--gateway-url", NOWHERE, cwd=folder)
    rule = f"{number!r} is not a number of seconds from 0 up to 31622400 (neuron-anyio.toml)"
    assert (done.returncode, done.stdout) == (2, "")
    assert rule in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_D4_a_file_that_is_named_and_not_there_is_an_error(folder: Path) -> None:
    done = call("describe", "worker", "--config", "none.toml", cwd=folder)
    error = "none.toml cannot be read (No such file or directory); check --config or NEURON_ANYIO_CONFIG"
    assert (done.returncode, done.stderr) == (2, f"error: {error}\n")
