"""What the page on deployment shows is what processes do: units, images, manifests, and how long a stop takes."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
import tomllib
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from configparser import ConfigParser
from contextlib import ExitStack, contextmanager
from http import HTTPStatus
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import anyio
import pytest
import yaml

from neuron_anyio.client import GatewayClient
from neuron_anyio.gateway import open_gateway
from neuron_anyio.serve import EXIT_FATAL, EXIT_USAGE
from tests.docs.pages import DOCS, ROOT, Block, blocks_of
from tests.docs.terminals import environment_of, free_port

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="SIGTERM")

FILES: dict[str, Block] = {block.file: block for block in blocks_of(DOCS / "deployment.md") if block.file is not None}
DRAIN = 25.0
STARTED = "started"

SLOW_WORKER = f"""
import anyio

from neuron_anyio import capability


@capability("examples/text.count")
async def count(text: str) -> int:
    with anyio.CancelScope(shield=True):
        print({STARTED!r}, flush=True)
        await anyio.sleep_forever()
"""


def unit() -> dict[str, dict[str, list[str]]]:
    """Return the unit's members; each may be there several times."""
    found: dict[str, dict[str, list[str]]] = {}
    section = ""
    for line in FILES["neuron@.service"].text.splitlines():
        if line.startswith("["):
            section = line.strip("[]")
        elif line and not line.startswith("#"):
            name, _, value = line.partition("=")
            found.setdefault(section, {}).setdefault(name, []).append(value)
    return found


def manifest() -> dict[str, Any]:
    (document,) = yaml.safe_load_all(FILES["neuron.yaml"].text)
    return dict(document)


def instructions() -> list[tuple[str, str]]:
    """Return the instructions of the Dockerfile."""
    lines = [line for line in FILES["Dockerfile"].text.splitlines() if line and not line.startswith("#")]
    return [(name, rest) for name, _, rest in (line.partition(" ") for line in lines)]


def entry_point() -> list[str]:
    (line,) = [rest for name, rest in instructions() if name == "ENTRYPOINT"]
    command = json.loads(line)
    assert isinstance(command, list)
    return [str(word) for word in command]


def built(folder: Path) -> None:
    """Do in a folder what the Dockerfile does, but for what needs another root or a network."""
    for name, rest in instructions():
        if name == "COPY":
            *sources, target = rest.split()
            for source in sources:
                (folder / target / source).write_text(FILES[source].text)


@contextmanager
def process(command: Sequence[str], folder: Path, **variables: str) -> Iterator[subprocess.Popen[str]]:
    environment = {**environment_of(folder), **variables}
    with subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as running:
        try:
            yield running
        finally:
            running.kill()


def wait_for(running: subprocess.Popen[str], part: str) -> str:
    """Read lines until one has this part."""
    assert running.stdout is not None
    seen: list[str] = []
    for line in running.stdout:
        seen.append(line)
        if part in line:
            return line
    raise AssertionError(f"{part!r} is not in {seen}")


@pytest.fixture(scope="module")
def gateway_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("gateway")
    with process(["neuron-anyio", "gateway", "--port", "0"], folder) as running:
        yield wait_for(running, "gateway at").split()[-1]
        running.terminate()
        assert running.wait(20) == 0


# systemd


def test_the_unit_has_what_it_needs() -> None:
    service = unit()["Service"]
    assert shlex.split(service["ExecStart"][0])[1] == "run"
    assert float(service["TimeoutStopSec"][0]) >= DRAIN + 5
    assert service["RestartPreventExitStatus"] == [f"{EXIT_FATAL} {EXIT_USAGE}"]
    parsed = ConfigParser(strict=False, interpolation=None)
    parsed.read_string(FILES["neuron@.service"].text)
    assert parsed.sections() == ["Unit", "Service", "Install"]


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd here")
def test_systemd_finds_nothing_wrong_with_the_unit(tmp_path: Path) -> None:
    program = Path(sys.executable).with_name("neuron-anyio")
    text = FILES["neuron@.service"].text.replace("/opt/neuron/bin/neuron-anyio", str(program))
    path = tmp_path / "neuron@.service"
    path.write_text(f"{text}\n")
    command = ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", f"{tmp_path}/neuron@1.service"]
    (tmp_path / "neuron@1.service").symlink_to(path)
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert not [line for line in ended.stderr.splitlines() if "neuron@" in line], ended.stderr
    assert ended.returncode == 0, ended.stderr


# Container and cluster


def test_the_image_installs_what_the_package_offers() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    (line,) = [rest for name, rest in instructions() if name == "RUN"]
    for word in shlex.split(line)[2:]:
        name, _, extras = word.strip("]").partition("[")
        if name == project["name"]:
            assert set(extras.split(",")) <= project["optional-dependencies"].keys()
        elif not name.startswith("-"):
            assert find_spec(name) is not None


def test_the_manifest_agrees_with_itself() -> None:
    spec = manifest()["spec"]
    pod = spec["template"]["spec"]
    (container,) = pod["containers"]
    assert spec["selector"]["matchLabels"] == spec["template"]["metadata"]["labels"]
    volumes = {volume["name"] for volume in pod["volumes"]}
    volumes |= {claim["metadata"]["name"] for claim in spec["volumeClaimTemplates"]}
    assert {mount["name"] for mount in container["volumeMounts"]} == volumes
    mounts = [mount["mountPath"] for mount in container["volumeMounts"]]
    token = next(item["value"] for item in container["env"] if item["name"] == "BIGBRAIN_TOKEN_FILE")
    assert all(any(path.startswith(f"{mount}/") for mount in mounts) for path in (token, container["args"][-1]))
    assert str(container["ports"][0]["containerPort"]) in container["args"]
    assert pod["terminationGracePeriodSeconds"] >= DRAIN + 5


def test_every_variable_is_one_that_the_command_reads() -> None:
    text = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "neuron_anyio" / "cli").glob("*.py"))
    read = set(re.findall(r'envvar="(\w+)"', text))
    given = {item.partition("=")[0] for item in unit()["Service"]["Environment"]}
    given |= {item["name"] for item in manifest()["spec"]["template"]["spec"]["containers"][0]["env"]}
    assert given <= read


def test_the_image_serves_with_what_the_manifest_gives(tmp_path: Path, gateway_url: str) -> None:
    built(tmp_path)
    (container,) = manifest()["spec"]["template"]["spec"]["containers"]
    (tmp_path / "token").write_text("secret\n")
    values = {"BIGBRAIN_GATEWAY_URL": gateway_url, "BIGBRAIN_TOKEN_FILE": str(tmp_path / "token")}
    variables = {item["name"]: values.get(item["name"]) or item.get("value", "pod-0") for item in container["env"]}
    (inside,) = [port["containerPort"] for port in container["ports"]]
    port = free_port()
    arguments = [word.replace("/var/lib/neuron", str(tmp_path)) for word in container["args"]]
    arguments = [f"127.0.0.1:{port}" if word == str(inside) else word for word in arguments]
    with process([*entry_point(), *arguments], tmp_path, **variables) as running:
        wait_for(running, "registered with")
        for probe in ("livenessProbe", "readinessProbe"):
            path = container[probe]["httpGet"]["path"]
            assert container[probe]["httpGet"]["port"] == container["ports"][0]["name"]
            assert answered(f"http://127.0.0.1:{port}{path}") == HTTPStatus.OK
        running.terminate()
        assert running.wait(20) == 0
    assert (tmp_path / "results.db").exists()


def answered(url: str) -> int:
    """Return the status of a probe's answer, once it is good: the neuron is looked at twice a second."""
    until = time.monotonic() + 10
    while True:
        try:
            with urllib.request.urlopen(url, timeout=5) as reply:
                return int(reply.status)
        except urllib.error.HTTPError as refusal:
            with refusal:
                if time.monotonic() > until:
                    return refusal.code
            time.sleep(0.05)


def test_systemd_is_told_when_the_unit_has_started(tmp_path: Path, gateway_url: str) -> None:
    built(tmp_path)
    assert unit()["Service"]["Type"] == ["notify"]
    variables = {"BIGBRAIN_GATEWAY_URL": gateway_url, "NOTIFY_SOCKET": str(tmp_path / "notify")}
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(variables["NOTIFY_SOCKET"])
        manager.settimeout(20)
        with process(entry_point(), tmp_path, **variables) as running:
            said = b""
            while b"READY=1" not in said:
                said += manager.recv(4096) + b"\n"
            running.terminate()
            assert running.wait(20) == 0


@pytest.mark.thorough
@pytest.mark.timeout(90)
def test_a_stop_takes_less_than_the_grace_period_even_if_a_handler_never_ends(tmp_path: Path, gateway_url: str) -> None:
    grace = manifest()["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
    (tmp_path / "worker.py").write_text(SLOW_WORKER)
    submit = ["neuron-anyio", "submit", "examples/text.count", '"a b"', "--allow-unknown", "--gateway-url", gateway_url]
    subprocess.run(submit, env=environment_of(tmp_path), check=True, capture_output=True)
    variables = {"BIGBRAIN_GATEWAY_URL": gateway_url, "BIGBRAIN_NEURON_ID": "pod-1"}
    with process(entry_point(), tmp_path, **variables) as running:
        wait_for(running, STARTED)
        begun = time.monotonic()
        running.send_signal(signal.SIGTERM)
        wait_for(running, "left behind")
        running.wait(grace)
        assert time.monotonic() - begun < grace - 2


def test_the_program_with_json_lines_and_uvloop_serves_and_stops(tmp_path: Path, gateway_url: str) -> None:
    built(tmp_path)
    variables = {"BIGBRAIN_GATEWAY_URL": gateway_url, "BIGBRAIN_NEURON_ID": "program"}
    with process([sys.executable, "program.py"], tmp_path, **variables) as running:
        line = wait_for(running, "registered with")
        assert json.loads(line)["level"] == "INFO"
        running.terminate()
        assert running.wait(20) == 0


# Rolling update


@pytest.mark.timeout(60)
def test_a_rolling_update_loses_nothing_and_costs_no_attempt(tmp_path: Path) -> None:
    (tmp_path / "worker.py").write_text(FILES["worker.py"].text)
    states = anyio.run(_updated, tmp_path)
    assert states == {("succeeded", 1)}


async def _updated(folder: Path) -> set[tuple[str, int]]:
    """Replace two workers, one after the other, while tasks wait and run; return how the tasks ended."""
    async with open_gateway() as gateway, GatewayClient(gateway.url) as client:
        with ExitStack() as stack, anyio.fail_after(50):

            def worker(name: str) -> subprocess.Popen[str]:
                variables = {"BIGBRAIN_GATEWAY_URL": gateway.url, "BIGBRAIN_NEURON_ID": name}
                return stack.enter_context(process([*entry_point(), "--log-level", "error"], folder, **variables))

            async def two_there() -> None:
                while sum(neuron.connected for neuron in gateway.neurons()) != 2:  # noqa: ASYNC110 - no event tells of them
                    await anyio.sleep(0.02)

            old = {name: worker(name) for name in ("pod-0", "pod-1")}
            await two_there()
            tasks = [(await client.submit("examples/text.count", "a b")).task_id for _ in range(100)]
            for name, running in old.items():
                running.send_signal(signal.SIGTERM)
                assert await anyio.to_thread.run_sync(running.wait) == os.EX_OK
                worker(name)
                await two_there()
            return {(task.state, task.attempts) for task in await gateway.wait_settled(*tasks)}
