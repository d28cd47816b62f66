"""The walk from the built wheel, in an environment that has nothing else: what a user does on the first day."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import venv
from itertools import zip_longest
from pathlib import Path

import pytest

from tests.authority import outside
from tests.docs.pages import DOCS, ROOT, blocks_of
from tests.docs.terminals import Terminals, steps_of

pytestmark = [
    pytest.mark.thorough,  # once is enough: it installs packages
    pytest.mark.timeout(300),
    pytest.mark.skipif(sys.platform == "win32", reason="the page shows a POSIX shell"),
]

PAGE = DOCS / "walk.md"


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """Build the wheel and install, with the pip that is here, what the page says; return the environment."""
    environment = tmp_path / "environment"
    venv.create(environment)
    pip = [sys.executable, "-m", "pip", "--python", str(environment / "bin" / "python")]
    wheels = tmp_path / "wheels"
    build = [*pip, "wheel", "--quiet", "--no-deps", "--wheel-dir", str(wheels), str(ROOT)]
    subprocess.run(build, env=outside(), check=True, timeout=200)
    (wheel,) = wheels.glob("*.whl")
    (install,) = [
        step.command
        for block in blocks_of(PAGE)
        if block.language == "console"
        for step in steps_of(block.text)
        if step.command.startswith("pip install")
    ]
    wanted = [word.replace("neuron-anyio", str(wheel), 1) for word in shlex.split(install)[2:]]
    subprocess.run([*pip, "install", "--quiet", "--no-compile", *wanted], env=outside(), check=True, timeout=250)
    return environment


def test_the_walk_from_the_wheel_alone(tmp_path: Path, installed: Path) -> None:
    folder = tmp_path / "empty"
    folder.mkdir()
    terminals = Terminals(folder)
    terminals.environment["PATH"] = os.pathsep.join([str(installed / "bin"), "/usr/local/bin", "/usr/bin", "/bin"])
    terminals.environment.pop("PYTHONPATH", None)
    try:
        for block in blocks_of(PAGE):
            if block.file is not None:
                (folder / block.file).write_text(block.text + "\n", encoding="utf-8")
            elif block.language == "console":
                steps = list(steps_of(block.text))
                for step, after in zip_longest(steps, steps[1:]):
                    if step is not None and not step.command.startswith("pip install"):
                        terminals.run(step, after)
    finally:
        terminals.close()
    assert not (folder / "neuron_anyio").exists()
