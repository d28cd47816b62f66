"""OpenTelemetry where it is not installed, where nobody asks for it, and from the command."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import anyio
import pytest

from neuron_anyio.gateway import open_gateway
from tests.operation.telemetry_bench import PARENT, TRACE

BLOCKED = """
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "opentelemetry":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Blocker())
"""
MODULE = """
from typing import Any

from neuron_anyio import capability

@capability("test/echo")
async def echo(value: Any) -> Any:
    return value
"""
LIFE = """
import sys
import anyio
from neuron_anyio import open_neuron
from neuron_anyio.testing.scripted_gateway import ScriptedGateway
from worker import echo

async def main():
    gateway = ScriptedGateway()
    with anyio.fail_after(20):
        async with open_neuron(gateway.transport, neuron_id="n", capabilities=[echo]):
            gateway.lease("l1", value=1)
            assert (await gateway.wait_result("l1"))["output"] == 1

anyio.run(main)
print(sorted(name for name in sys.modules if name.startswith(("opentelemetry", "neuron_anyio.telemetry"))))
"""
REMEDY = "telemetry needs opentelemetry-api, which is not installed: pip install 'neuron-anyio[otel]'"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "worker.py").write_text(MODULE)
    return tmp_path


def ran(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *arguments]
    variables = {**os.environ, "PYTHONPATH": str(folder)}
    return subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True, check=False)


def test_a_neuron_without_telemetry_loads_none_of_it(folder: Path) -> None:
    done = ran(folder, "-c", LIFE)
    assert (done.returncode, done.stdout) == (0, "[]\n"), done.stderr


def test_without_the_package_a_neuron_runs_and_telemetry_names_the_extra(folder: Path) -> None:
    assert ran(folder, "-c", BLOCKED + LIFE).returncode == 0
    done = ran(folder, "-c", f"{BLOCKED}\nimport neuron_anyio.telemetry")
    assert done.stderr.splitlines()[-1] == f"ImportError: {REMEDY}"


def test_without_the_package_the_command_names_the_extra(folder: Path) -> None:
    start = "import sys; from neuron_anyio.cli import main; sys.exit(main())"
    arguments = ["run", "worker.py", "--gateway-url", "http://127.0.0.1:1", "--telemetry"]
    done = ran(folder, "-c", f"{BLOCKED}\n{start}", *arguments)
    assert done.returncode == 2, done.stderr
    assert done.stderr == f"error: --telemetry: {REMEDY}\n"


# And where it is there

SET_UP = """
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SimpleSpanProcessor

provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(ConsoleSpanExporter()))
trace.set_tracer_provider(provider)
"""


@pytest.mark.anyio
@pytest.mark.parametrize("has_sdk", [True, False], ids=["sdk", "no-sdk"])
async def test_the_command_makes_spans_where_the_module_sets_up_an_sdk_and_warns_where_nobody_does(
    folder: Path, has_sdk: bool
) -> None:
    if has_sdk:
        (folder / "worker.py").write_text(SET_UP + MODULE)
    command = [sys.executable, "-m", "neuron_anyio", "run", "worker.py", "--telemetry", "--log-format", "json"]
    with anyio.fail_after(30):
        async with open_gateway() as gateway:
            variables = {**os.environ, "BIGBRAIN_GATEWAY_URL": gateway.url}
            async with await anyio.open_process(command, cwd=folder, env=variables) as process:
                task = await gateway.submit("test/echo", 1, metadata={"traceparent": PARENT})
                await gateway.wait_settled(task.task_id)
                process.send_signal(signal.SIGTERM)
                assert process.stdout is not None
                assert process.stderr is not None
                spans = b"".join([chunk async for chunk in process.stdout]).decode()
                said = b"".join([chunk async for chunk in process.stderr]).decode()
    assert ('"name": "process test/echo"' in spans) is has_sdk
    assert (TRACE in spans) is has_sdk
    assert ('"event": "telemetry.no_sdk"' in said) is not has_sdk
