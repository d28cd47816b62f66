"""The command line's help, start and refusals: one clear line, the right exit code, never a traceback (promise D4)."""

from __future__ import annotations

import os
import re
import shlex
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.e2e.cli_bad_input import MODULES, TABLE, TOKEN, WRONG_TOKEN, Bad
from tests.e2e.cli_child import OWN, SCRIPT, call, environment, gateway, running

VERBS = ("run", "dev", "gateway", "submit", "describe")
UNSET = {"LOG_LEVEL": "critical"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("usage")
    for name, text in MODULES.items():
        (path / f"{name}.py").write_text(text)
    (path / "two-lines").write_text(f"{WRONG_TOKEN}\n{WRONG_TOKEN}\n")
    (path / "broken.json").write_text('{"text": ')
    return path


class Places(NamedTuple):
    """What the table's rows stand for: `{closed}` and so on."""

    closed: str
    open: str
    locked: str
    taken: str


class _Elsewhere(BaseHTTPRequestHandler):
    """A server that is no gateway."""

    def do_GET(self) -> None:
        self.send_error(404)

    def log_message(self, *_: Any) -> None: ...


@pytest.fixture(scope="module")
def places(folder: Path) -> Iterator[Places]:
    with (
        socket.create_server(("127.0.0.1", 0)) as taken,
        ThreadingHTTPServer(("127.0.0.1", 0), _Elsewhere) as elsewhere,
        gateway(folder, "--token", TOKEN) as locked,
    ):
        threading.Thread(target=elsewhere.serve_forever, daemon=True).start()
        with socket.create_server(("127.0.0.1", 0)) as gone:
            closed = gone.getsockname()[1]
        yield Places(
            closed=f"http://127.0.0.1:{closed}",
            open=f"http://127.0.0.1:{elsewhere.server_address[1]}",
            locked=locked,
            taken=str(taken.getsockname()[1]),
        )
        elsewhere.shutdown()


@pytest.mark.thorough
@pytest.mark.parametrize("bad", TABLE, ids=lambda bad: bad.name.replace(" ", "-"))
def test_D4_bad_input_is_one_line_that_says_what_is_wrong_and_what_to_do(
    bad: Bad, folder: Path, places: Places
) -> None:
    arguments = [part.format(**places._asdict()) for part in shlex.split(bad.line)]
    done = call(*arguments, cwd=folder, env={**UNSET, **bad.env})
    lines = [line for line in done.stderr.splitlines() if not line.startswith("task task_")]
    assert len(lines) == 1, done.stderr
    assert re.fullmatch(f"error: {bad.error}", lines[0]), lines[0]
    assert done.stdout == ""
    assert done.returncode == bad.code
    assert WRONG_TOKEN not in done.stderr


def test_D4_wrong_usage_is_2_where_nobody_reads_stderr(folder: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    command = [SCRIPT, "describe", "nowhere"]
    with os.fdopen(writer, "wb") as stderr:
        done = subprocess.run(command, cwd=folder, env=environment(), stderr=stderr, check=False, timeout=30)
    assert done.returncode == 2


def test_D4_an_interrupt_while_the_verbs_are_imported_is_130_and_no_traceback(tmp_path: Path) -> None:
    (tmp_path / "click.py").write_text("raise KeyboardInterrupt\n")  # as if it came at that very moment
    program = "import sys; from neuron_anyio.cli import main; sys.exit(main())"
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, check=False, timeout=30)
    assert (done.returncode, done.stderr) == (130, b"")


def test_D4_debug_logging_shows_where_a_module_raised(folder: Path) -> None:
    done = call("describe", "raises", cwd=folder, env={"LOG_LEVEL": "debug"})
    assert 'raises.py", line 2, in load' in done.stderr
    assert done.returncode == 2


@pytest.mark.parametrize("verb", ["", *VERBS])
def test_help_fits_a_terminal_and_names_every_environment_variable(verb: str, folder: Path) -> None:
    done = call(*filter(None, [verb, "--help"]), cwd=folder, env={"COLUMNS": "80"})
    assert done.returncode == 0
    assert done.stderr == ""
    assert max(map(len, done.stdout.split("Example:")[0].splitlines())) <= 80
    if verb == "run":
        assert all(name in done.stdout for name in OWN)


def test_no_arguments_show_the_help(folder: Path) -> None:
    done = call(cwd=folder)
    assert done.returncode == 2
    assert "Commands:" in done.stderr + done.stdout


@pytest.mark.parametrize("verb", VERBS)
def test_the_example_in_the_help_of_each_verb_works_as_it_stands(verb: str, folder: Path) -> None:
    help_text = call(verb, "--help", cwd=folder).stdout
    (line,) = re.findall(r"^ *Example:\n +(neuron-anyio .*)$", help_text, re.MULTILINE)
    program, *arguments = shlex.split(line)
    assert program == Path(SCRIPT).name
    assert arguments[0] == verb
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    arguments = [part.replace("8787", port) for part in arguments]  # a port of this test's own
    if verb == "dev":
        arguments += ["--port", port]
    _EXAMPLES[verb](arguments, port, folder)


def _example_ends(arguments: list[str], port: str, folder: Path) -> None:
    done = call(*arguments, cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "examples/text.upper" in done.stdout


def _example_serves(arguments: list[str], port: str, folder: Path) -> None:
    with running(*arguments, cwd=folder) as child:
        child.wait_for(rf"gateway at http://127\.0\.0\.1:{port}$", stream="stdout")
        child.process.terminate()
        assert child.end() == 0


def _example_runs(arguments: list[str], port: str, folder: Path) -> None:
    with running("gateway", "--port", port, cwd=folder) as served, running(*arguments, cwd=folder) as child:
        child.wait_for("registered with")
        child.process.terminate()
        assert child.end() == 0
        served.process.terminate()
        assert served.end() == 0


def _example_submits(arguments: list[str], port: str, folder: Path) -> None:
    with running("dev", "worker.py", "--port", port, cwd=folder) as child:
        child.wait_for("registered", stream="stdout")
        done = call(*arguments, cwd=folder)
        assert (done.returncode, done.stdout) == (0, '"HELLO"\n')
        child.process.terminate()
        assert child.end() == 0


_EXAMPLES = {
    "run": _example_runs,
    "dev": _example_ends,
    "gateway": _example_serves,
    "submit": _example_submits,
    "describe": _example_ends,
}


def test_the_module_runs_as_the_command_does(folder: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-P", "-m", "neuron_anyio", "--version"],
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == call("--version", cwd=folder).stdout
    assert re.fullmatch(r"\d+\.\d+\.\d+\S*\n", done.stdout)


@pytest.mark.parametrize(
    ("package", "arguments"),
    [("click", ["--help"]), ("hypercorn", ["gateway", "--port", "0"]), ("starlette", ["dev", "worker", "--port", "0"])],
)
def test_a_missing_extra_is_one_line_that_says_how_to_install_it(
    package: str, arguments: list[str], folder: Path
) -> None:
    code = (
        f"import sys; sys.modules[{package!r}] = None; sys.argv[1:] = {arguments!r}\n"
        "from neuron_anyio.cli import main; sys.exit(main())"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], cwd=folder, env=environment(), capture_output=True, text=True, check=False
    )
    assert done.stderr == f"error: {package} is missing; run: pip install 'neuron-anyio[cli]'\n"
    assert done.returncode == 2


@pytest.mark.parametrize("arguments", [["--help"], ["describe", "worker"]])
def test_the_command_imports_no_loop_client_server_or_terminal_that_it_does_not_need(
    arguments: list[str], folder: Path
) -> None:
    code = (
        f"import sys; sys.argv[1:] = {arguments!r}\n"
        "from neuron_anyio.cli import main; main()\n"
        "print(*({'trio', 'asyncio', 'httpx', 'starlette', 'hypercorn', 'rich'} & sys.modules.keys()), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], cwd=folder, env=environment(), capture_output=True, text=True, check=True
    )
    assert done.stderr == "\n"
