"""The page on migrating leaves no published name out, names nothing that is not there, and its worker works."""

from __future__ import annotations

import importlib
import inspect
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

import neuron_anyio
from tests.docs.pages import DOCS, blocks_of, rows_of, section_of
from tests.docs.terminals import environment_of
from tests.docs.test_deployment import process, wait_for

PAGE = DOCS / "migrating.md"

PUBLISHED = [
    "AckFrame",
    "AuthCallback",
    "CancelFrame",
    "Capability",
    "CapabilityRevokedFrame",
    "CapabilityScope",
    "CapabilityScopeOnBehalfOf",
    "CapabilityType",
    "DisconnectFrame",
    "Handler",
    "HandlerContext",
    "HeartbeatFrame",
    "HeartbeatInFlightEntry",
    "HeartbeatLoop",
    "HttpTransport",
    "LeaseFrame",
    "LeaseId",
    "LeasePayload",
    "NackFrame",
    "NackKind",
    "Neuron",
    "NeuronId",
    "NeuronToServerFrame",
    "POST_PATH",
    "PROTOCOL_VERSION",
    "ProgressFrame",
    "ReconnectInfo",
    "RegisterFrame",
    "RegisteredFrame",
    "SSE_EVENT",
    "SSE_PATH",
    "ServerToNeuronFrame",
    "SseEvent",
    "TaskPayload",
    "TerminalFailure",
    "TransportCallbacks",
    "TransportError",
    "UpdateCapabilityFrame",
    "UserId",
    "parse_server_frame",
    "parse_sse_stream",
    "run_lease",
    "ClientAuthenticator",
    "CredentialRevokedError",
    "EnrollResult",
    "EnrollmentError",
    "OAuthEndpoints",
    "OAuthTokenError",
    "StoredCredential",
    "TokenResponse",
    "client_secret_post",
    "create_client_credentials_auth",
    "default_credential_path",
    "discover_endpoints",
    "enroll",
    "read_credential_file",
    "write_credential_file",
]
"""What the published Python SDK 0.2.0 exports, and its module `auth`."""

PUBLISHED_OPTIONS = [
    "gateway_url",
    "neuron_id",
    "auth",
    "transport",
    "logger",
    "heartbeat_interval_ms",
    "initial_reconnect_delay_ms",
    "max_reconnect_delay_ms",
    "request_timeout",
    "client",
    "type",
    "scope",
    "concurrency",
    "lease_ttl_ms",
    "input_schema",
    "output_schema",
    "drain",
    "timeout",
    "moku_base_url",
    "client_name",
    "capability_types",
    "credential_path",
    "out",
    "refresh_buffer_s",
]

TABLES = ("Python names", "Python options", "TypeScript names", "Events")


def rows(*titles: str) -> list[list[str]]:
    return [row for title in titles for row in rows_of(section_of(PAGE, title))]


def named(cell: str) -> Iterator[tuple[str, Sequence[str]]]:
    """Return the names in a cell, with the keywords that they are called with."""
    for code in re.findall(r"`([^`]+)`", cell):
        found = re.fullmatch(r"([\w.]+)(?:\((.*)\))?", code)
        if found is not None and found[1].partition(".")[0] not in ("ctx", "str"):
            yield found[1], re.findall(r"(\w+)=", found[2] or "")


def resolved(name: str) -> Any:
    first, *rest = name.split(".")
    value: Any = getattr(neuron_anyio, first, None) or importlib.import_module(f"neuron_anyio.{first}")
    for part in rest:
        value = getattr(value, part)
    return value


def test_no_published_name_or_option_is_left_out() -> None:
    known = " ".join(row[0] for row in rows("Python names", "Python options"))
    words = set(re.findall(r"\w+", known))
    assert sorted(set(PUBLISHED) - words) == []
    assert sorted(set(PUBLISHED_OPTIONS) - words) == []


@pytest.mark.parametrize("row", rows(*TABLES), ids=lambda row: row[0])
def test_what_is_named_is_there(row: list[str]) -> None:
    for name, keywords in named(row[1]):
        taken = inspect.signature(resolved(name)).parameters if keywords else {}
        assert set(keywords) <= set(taken), f"{name} does not take {keywords}"


def test_what_a_context_is_said_to_have_it_has() -> None:
    members = {name for row in rows("Handler context") for name in re.findall(r"ctx\.(\w+)", row[2])}
    assert members
    assert all(hasattr(neuron_anyio.LeaseContext, name) or name == "log" for name in members)


def test_every_difference_has_a_promise() -> None:
    promises = (DOCS.parent / "tests" / "behaviour.md").read_text(encoding="utf-8")
    for row in rows("What behaves differently, and why"):
        for number in row[3].split(", "):
            assert re.search(rf"\b{number}\b", promises), number


def worker(name: str) -> str:
    (block,) = [block for block in blocks_of(PAGE) if block.file == name]
    return block.text


def worked(python: str, name: str, folder: Path) -> list[tuple[int, str]]:
    """Run a worker of the page for two tasks; return how they ended."""
    (folder / name).write_text(f"{worker(name)}\n")
    with process(["neuron-anyio", "gateway", "--port", "0"], folder) as gateway:
        url = wait_for(gateway, "gateway at").split()[-1]
        with process([python, name], folder, BIGBRAIN_GATEWAY_URL=url):
            found = [submitted(folder, url, text) for text in ("three small words", "")]
        gateway.terminate()
        assert gateway.wait(20) == 0
    return found


def submitted(folder: Path, url: str, text: str) -> tuple[int, str]:
    command = ["neuron-anyio", "submit", "examples/text.count", json.dumps({"text": text}), "--wait"]
    ended = subprocess.run(
        [*command, "--allow-unknown", "--gateway-url", url],
        env=environment_of(folder),
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    failure = re.sub(r".*failed: ", "", ended.stderr.splitlines()[-1])
    return ended.returncode, ended.stdout.strip() or failure


EXPECTED = [(0, '{"words":3}'), (1, "terminal, EMPTY: nothing to count")]


def test_the_worker_after_works(tmp_path: Path) -> None:
    assert worked(sys.executable, "after.py", tmp_path) == EXPECTED


@pytest.mark.skipif("PUBLISHED_PYTHON" not in os.environ, reason="needs an interpreter that has the published SDK")
def test_the_worker_before_does_the_same(tmp_path: Path) -> None:
    assert worked(os.environ["PUBLISHED_PYTHON"], "before.py", tmp_path) == EXPECTED
