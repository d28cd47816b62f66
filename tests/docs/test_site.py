"""The site is built without a warning, and its reference has every public name."""

from __future__ import annotations

import importlib
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.pages import DOCS, ROOT

MODULES = re.findall(
    r"^::: (neuron_anyio[\w.]*)$",
    "\n".join(page.read_text(encoding="utf-8") for page in sorted(DOCS.glob("reference*.md"))),
    re.MULTILINE,
)


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Build the site; return the anchors of its reference."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (0, ""), ended.stderr
    return "\n".join(path.read_text(encoding="utf-8") for path in Path(folder).glob("reference*/index.html"))


@pytest.mark.thorough
@pytest.mark.timeout(120)
def test_the_reference_has_every_public_name_and_only_those(reference: str) -> None:
    anchors = set(re.findall(r'id="(neuron_anyio[\w.]*)"', reference))
    missing: set[str] = set()
    for name in MODULES:
        try:
            module = importlib.import_module(name)
        except ModuleNotFoundError:
            assert name in anchors  # one name of a module
            continue
        exported = {
            each
            for each in module.__all__
            if inspect.isroutine(value := getattr(module, each)) or inspect.isclass(value)
        }
        shown = {each.removeprefix(f"{name}.") for each in anchors if each.startswith(f"{name}.")}
        missing |= {f"{name}.{each}" for each in exported - shown if f"{name}.{each}.{each}" not in anchors}
        top = {each for each in shown if "." not in each and f"{name}.{each}" not in MODULES}
        assert top <= {*module.__all__}
    assert missing == set()


def test_the_reference_covers_what_users_import() -> None:
    for name in ("abc", "model", "events", "frames", "codec", "sse", "client", "gateway", "auth", "testing"):
        assert f"neuron_anyio.{name}" in MODULES
    mentioned = set(re.findall(r"`([a-z_]+)[`.]", str(importlib.import_module("neuron_anyio.testing").__doc__)))
    testing = {path.stem for path in (ROOT / "neuron_anyio" / "testing").glob("*.py")} & mentioned
    assert len(testing) > 10
    assert {f"neuron_anyio.testing.{name}" for name in testing} <= set(MODULES)
