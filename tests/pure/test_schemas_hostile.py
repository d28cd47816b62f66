"""Promise L12: a schema never makes the neuron fetch, execute or stall. The attacks are in `hostile_cases`."""

from __future__ import annotations

import json
import socketserver
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from neuron_anyio import schemas
from neuron_anyio.schema_budget import BASE_WORK, WORK_PER_VALUE
from neuron_anyio.schemas import wire_validator
from tests.once import once
from tests.pure.hostile_cases import SECRET, Case, cases, chain, in_lists
from tests.pure.hostile_schemas import CPU_SECONDS, outcomes, table

pytestmark = pytest.mark.thorough

ROOT = Path(__file__).resolve().parents[2]

SECONDS = 5.0
"""Processor time for compiling a schema and judging a value, twice, on a slow machine; an attack would take minutes."""

MOST_BYTES = 600 << 20
"""How much the memory of the process may grow; a value that is explained counts several times."""

LONGEST = 5_000
"""Characters of all that a violation says, pointers included."""

SMALL_STACK = 1024 * 1024
"""What the smallest platforms give a thread."""

CASES = cases()


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """Judge all cases in a process of its own. Whoever connects or reads gets a schema that accepts everything."""

    def judge() -> bytes:
        schema = tmp_path_factory.mktemp("trap") / "schema.json"
        schema.write_text("{}")
        with bait() as (host, visits):
            ran = subprocess.run(
                [sys.executable, "-m", "tests.pure.hostile_schemas", host, str(schema)],
                cwd=ROOT,
                capture_output=True,
                timeout=2 * CPU_SECONDS,
                check=False,
            )
        assert ran.returncode == 0, f"died after {ran.stdout.splitlines()[-1:]}: {ran.stderr[-1000:]!r}"
        assert visits == [], "something connected"
        return ran.stdout

    lines = [json.loads(line) for line in once(tmp_path_factory, "hostile", judge).splitlines()]
    return {line["name"]: line for line in lines}


@contextmanager
def bait() -> Iterator[tuple[str, list[str]]]:
    """Serve `{}` to whoever connects, and list them: what an engine that is no Python does, no hook would notice."""
    visits: list[str] = []

    class Visit(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            visits.append(f"{self.client_address}")
            self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Type: application/json\r\n\r\n{}")

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Visit) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"127.0.0.1:{server.server_address[1]}", visits
        finally:
            server.shutdown()
            thread.join()


def test_the_bait_notices_a_visit() -> None:
    with bait() as (host, visits):
        assert urllib.request.urlopen(f"http://{host}/schema", timeout=5).read() == b"{}"
    assert len(visits) == 1


@pytest.mark.parametrize("name", CASES)
def test_l12_a_hostile_schema_or_value_has_a_clear_and_quick_outcome(
    name: str, judged: dict[str, dict[str, Any]]
) -> None:
    assert judged[name]["outcomes"] == [CASES[name].outcome]
    assert judged[name]["seconds"] < SECONDS
    assert judged[name]["opened"] == []


@pytest.mark.parametrize("name", CASES)
def test_c9_what_is_said_of_a_hostile_value_shows_nothing_of_it(name: str, judged: dict[str, dict[str, Any]]) -> None:
    for said in judged[name]["said"]:
        assert SECRET not in said
        assert said.isprintable()
        assert len(said) < LONGEST


def test_l12_judging_them_all_takes_little_memory(judged: dict[str, dict[str, Any]]) -> None:
    assert judged[list(CASES)[-1]]["bytes"] < MOST_BYTES


def test_the_page_lists_the_same_cases_with_the_same_outcomes() -> None:
    page = ROOT.joinpath("docs", "schemas.md").read_text(encoding="utf-8")
    assert table() in page, "write it anew with `python -m tests.pure.hostile_schemas --table`"


def test_the_page_shows_bounds_and_messages_as_they_are() -> None:
    page = ROOT.joinpath("docs", "schemas.md").read_text(encoding="utf-8")
    for bound in (schemas.MAX_SCHEMA_BYTES, schemas.MAX_EXPLAINED_WORK, schemas.CACHED_SCHEMAS, BASE_WORK):
        assert f"{bound:,}" in page
    assert f"{schemas.MAX_SCHEMA_DEPTH} levels, " in page
    assert f"and {WORK_PER_VALUE} more for each value" in page
    for schema in ({"type": 5}, {"$ref": "http://x/a"}, {"pattern": "(?=a)"}, {"$ref": "#"}):
        with pytest.raises(schemas.InvalidSchema) as caught:
            wire_validator(json.dumps(schema).encode())
        assert f"\n{caught.value}\n" in page


@pytest.mark.parametrize(
    "schema",
    [
        {"anyOf": [{"type": "null"}, {"type": "array", "items": {"$ref": "#"}}]},
        {"items": {"anyOf": [{"allOf": [{"allOf": [{"$ref": "#"}]}]}, {}]}},
        {"items": {"allOf": [{"$ref": "#"}, {"prefixItems": [{}]}]}, "unevaluatedItems": True},
        {"type": "object", "patternProperties": {"": {"$ref": "#"}}, "minProperties": 1},
        {"uniqueItems": True, "items": {"$ref": "#"}, "additionalProperties": {"$ref": "#"}},
        {"$dynamicAnchor": "meta", "$ref": "https://json-schema.org/draft/2020-12/schema", "unevaluatedItems": True},
        chain(290, lambda following: {"anyOf": [following]}, {}),
        json.loads('{"not":' * 127 + "{}" + "}" * 127),
    ],
)
def test_l12_the_deepest_that_is_judged_fits_the_stack_of_a_small_thread(schema: Any) -> None:
    # A stack that overflows in the engine kills the process, so this runs in one of its own.
    code = (
        "import json, sys, threading\n"
        "from neuron_anyio.schemas import wire_validator\n"
        "from tests.pure.hostile_cases import in_lists, in_members\n"
        f"threading.stack_size({SMALL_STACK})\n"
        "validator = wire_validator(sys.argv[1].encode())\n"
        "def judge():\n"
        "    validator = wire_validator(b' ' + sys.argv[1].encode())\n"
        "    for levels in range(140):\n"
        "        validator.check(in_lists(levels)), validator.check(in_members(levels, {}))\n"
        "thread = threading.Thread(target=judge)\n"
        "thread.start()\n"
        "thread.join()\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code, json.dumps(schema)], cwd=ROOT, capture_output=True, timeout=50, check=False
    )
    assert (ran.returncode, ran.stderr) == (0, b"")


def test_l12_a_validator_made_in_one_thread_judges_in_another() -> None:
    validator = wire_validator(b'{"type": "array", "items": {"type": "integer"}}')
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.extend([validator.check([1]), validator.check(["x"])]))
    thread.start()
    thread.join()
    assert found[0] is None
    assert found[1].path == "/0"


def test_the_harness_would_notice_a_schema_that_gets_through() -> None:
    assert outcomes(Case({"type": "integer"}, "x", "valid")) == {"violation"}
    assert len(in_lists(3)[0][0]) == 1
