"""`neuron-anyio completion`: what shells make of its script."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.e2e.cli_child import SCRIPT, call, environment

TRY = """
eval "$(neuron-anyio completion bash)"
complete -p neuron-anyio
COMP_WORDS=({words} '{last}')
COMP_CWORD=$(( ${{#COMP_WORDS[@]}} - 1 ))
_neuron_anyio_completion neuron-anyio '{last}' '{before}'
printf '%s\\n' "${{COMPREPLY[@]}}"
"""


def bash(words: str, last: str, folder: Path) -> list[str]:
    """Return what bash offers in the place of the last word."""
    path = os.pathsep.join([str(Path(SCRIPT).parent), os.environ["PATH"]])
    script = TRY.format(words=words, last=last, before=words.rsplit(maxsplit=1)[-1])
    done = subprocess.run(
        ["bash", "--norc", "-c", script],
        cwd=folder,
        env=environment(PATH=path),
        capture_output=True,
        text=True,
        check=True,
    )
    registered, *offered = done.stdout.splitlines()
    assert re.fullmatch(r"complete .*-F _neuron_anyio_completion neuron-anyio", registered)
    assert done.stderr == ""
    return offered


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash here")
def test_bash_completes_verbs_flags_values_and_files(tmp_path: Path) -> None:
    (tmp_path / "worker.py").touch()
    assert bash("neuron-anyio", "ru", tmp_path) == ["run"]
    assert set(bash("neuron-anyio", "", tmp_path)) >= {
        "run",
        "dev",
        "gateway",
        "submit",
        "describe",
        "top",
        "completion",
    }
    assert bash("neuron-anyio run", "--max", tmp_path) == ["--max-concurrency"]
    assert bash("neuron-anyio run --backend", "t", tmp_path) == ["trio"]
    assert "--child" not in bash("neuron-anyio run", "--", tmp_path)


@pytest.mark.parametrize(
    ("shell", "sign"), [("bash", "complete -o nosort"), ("zsh", "#compdef"), ("fish", "complete ")]
)
def test_each_shell_has_a_script(shell: str, sign: str, tmp_path: Path) -> None:
    done = call("completion", shell, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert sign in done.stdout
    assert f"_NEURON_ANYIO_COMPLETE={shell}_complete" in done.stdout
    if shutil.which(shell) is not None:
        subprocess.run([shell, "-n", "-c", done.stdout], check=True)


def test_another_shell_is_refused(tmp_path: Path) -> None:
    done = call("completion", "tcsh", cwd=tmp_path)
    assert done.returncode == 2
    assert "'tcsh' is not one of 'bash', 'zsh', 'fish'" in done.stderr
