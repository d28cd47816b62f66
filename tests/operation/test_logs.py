"""The JSON form of log lines, the fields of a handler's own, and who sets up what."""

from __future__ import annotations

import ast
import io
import json
import logging
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuron_anyio import LeaseContext, capability, open_neuron
from neuron_anyio.gateway import open_gateway
from neuron_anyio.logs import JsonFormatter, named
from neuron_anyio.testing.scripted_gateway import ScriptedGateway
from tests.operation.log_lines import PACKAGE
from tests.runtime.handlers import settle

TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


@pytest.fixture
def stream() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def log(stream: io.StringIO) -> Iterator[logging.Logger]:
    """A logger that writes JSON into `stream`."""
    logger = logging.getLogger("tests.operation.json")
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter())
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    logger.propagate = False
    yield logger
    logger.removeHandler(handler)


def parsed(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


# JSON


def test_a_line_has_time_level_event_message_logger_and_fields(log: logging.Logger, stream: io.StringIO) -> None:
    log.warning("lease %s is %s", "l1", "lost", extra=named("lease.lost", lease_id="l1", seconds=1.5))
    (line,) = parsed(stream)
    at = line.pop("time")
    assert TIME.fullmatch(at)
    assert datetime.now(UTC) - datetime.fromisoformat(at) < timedelta(seconds=10)
    assert list(line.items()) == [
        ("level", "WARNING"),
        ("event", "lease.lost"),
        ("message", "lease l1 is lost"),
        ("logger", log.name),
        ("lease_id", "l1"),
        ("seconds", 1.5),
    ]


def test_a_line_without_a_name_has_no_event(log: logging.Logger, stream: io.StringIO) -> None:
    log.info("hello")
    assert set(parsed(stream)[0]) == {"time", "level", "message", "logger"}


def test_an_exception_and_a_stack_are_members_on_the_same_line(log: logging.Logger, stream: io.StringIO) -> None:
    try:
        raise ValueError("line one\nline two")
    except ValueError:
        log.exception("failed", stack_info=True)
    (line,) = parsed(stream)
    assert line["exception"].startswith("Traceback (most recent call last):\n")
    assert line["exception"].endswith("ValueError: line one\nline two")
    assert "log.exception" in line["stack"]


def test_a_field_that_is_called_as_a_member_keeps_its_value_beside_it(log: logging.Logger, stream: io.StringIO) -> None:
    log.info("at", extra={"time": "noon", "level": 7, "event": 3})
    (line,) = parsed(stream)
    assert (line["time_"], line["level_"], line["level"], line["event"]) == ("noon", 7, "INFO", "3")


class Broken:
    def __str__(self) -> str:
        raise RuntimeError


class BrokenDict(dict[str, int]):
    def items(self) -> Any:
        raise RuntimeError


def circle() -> list[Any]:
    items: list[Any] = []
    items.append(items)
    return items


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (Path("/tmp"), "/tmp"),
        (float("nan"), "nan"),
        (float("inf"), "inf"),
        ({1: 2}, {"1": 2}),
        ({(1, 2): 3}, "{(1, 2): 3}"),
        (circle(), "[[...]]"),
        (Broken(), "<Broken>"),
        ({"deep": Broken()}, {"deep": "<Broken>"}),
        (b"bytes", "b'bytes'"),
        (10**5000, "<int>"),
        ([10**5000], "<list>"),
        (BrokenDict(one=1), "{'one': 1}"),
        ("lone \ud800", "lone ?"),
        (None, None),
        (True, True),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_field_of_any_kind_is_written(
    value: object, written: object, log: logging.Logger, stream: io.StringIO
) -> None:
    log.info("odd", extra={"value": value, "other": 1})
    (line,) = parsed(stream)
    assert (line["value"], line["other"]) == (written, 1)


def test_a_field_whose_name_is_no_text_is_written(log: logging.Logger, stream: io.StringIO) -> None:
    names: dict[Any, object] = {("a", 1): 2, 3: 4}
    log.info("odd", extra=names)
    (line,) = parsed(stream)
    assert (line["('a', 1)"], line["3"]) == (2, 4)


@given(st.text(), st.text())
def test_any_text_is_one_line_of_valid_json_that_a_terminal_survives(message: str, field: str) -> None:
    record = logging.makeLogRecord({"msg": "%s", "args": (message,), "field": field})
    line = JsonFormatter().format(record)
    assert len(line.splitlines()) == 1
    assert line.isprintable() or not re.search("[\x00-\x1f\x7f-\x9f]", line)
    read = json.loads(line.encode())
    assert (read["message"], read["field"]) == (clean(message), clean(field))


def clean(text: str) -> str:
    return text.encode("utf-8", "replace").decode()


# A handler's lines


@pytest.mark.anyio
async def test_L3_4_lines_of_a_handler_carry_its_lease_newest_id_attempt_and_origin(
    log: logging.Logger, stream: io.StringIO
) -> None:
    begun, go = anyio.Event(), anyio.Event()

    @capability("test/logs")
    async def logs(value: Any, ctx: LeaseContext) -> None:
        ctx.log.info("begins", extra={"size": 3})
        begun.set()
        await go.wait()
        ctx.log.info("ends", extra={"event": "page.fetched", "origin": "its own"})

    gateway = ScriptedGateway()
    with anyio.fail_after(10):
        async with open_neuron(gateway.transport, neuron_id="n", capabilities=[logs], logger=log):
            gateway.lease("l1", capability="test/logs", task_id="t", attempt=2)
            await begun.wait()
            gateway.lease("l2", capability="test/logs", task_id="t", attempt=3)
            await settle()
            go.set()
            await gateway.wait_result("l2")
    first, second = [line for line in parsed(stream) if line["message"] in {"begins", "ends"}]
    lease = {"task_id": "t", "capability": "test/logs"}
    assert first.items() >= {
        **lease, "event": "handler.log", "lease_id": "l1", "attempt": 2, "origin": "memory:test", "size": 3,
    }.items()  # fmt: skip
    assert (
        second.items()
        >= {**lease, "event": "page.fetched", "lease_id": "l2", "attempt": 3, "origin": "its own"}.items()
    )


@pytest.mark.anyio
async def test_lines_about_a_lease_carry_it(log: logging.Logger, stream: io.StringIO) -> None:
    @capability("test/fails")
    async def fails(value: Any, ctx: LeaseContext) -> None:
        ctx.fail("no")

    gateway = ScriptedGateway()
    with anyio.fail_after(10):
        async with open_neuron(gateway.transport, neuron_id="n", capabilities=[fails], logger=log):
            gateway.lease("l1", capability="test/fails", task_id="t", attempt=1)
            await gateway.wait_result("l1")
    lines = {line["event"]: line for line in parsed(stream)}
    assert lines["lease.failed"].items() >= {
        "lease_id": "l1", "task_id": "t", "capability": "test/fails", "attempt": 1, "origin": "memory:test",
        "kind": "TERMINAL", "retryable": False,
    }.items()  # fmt: skip
    assert list(lines) == [
        "connection.open", "connection.registered", "lease.failed", "neuron.stopped",
    ]  # fmt: skip


# Who sets up what

IMPORTS_ALL = """
import importlib, logging, pkgutil
import neuron_anyio

for found in pkgutil.walk_packages(neuron_anyio.__path__, "neuron_anyio."):
    if not found.name.endswith("__main__"):
        importlib.import_module(found.name)
names = [name for name in logging.root.manager.loggerDict if name.startswith("neuron_anyio")]
loggers = [logging.root, *map(logging.getLogger, names)]
print([(each.name, each.handlers, each.level) for each in loggers if each.handlers or each.level not in (0, 30)])
"""


def test_the_library_installs_no_handler_and_sets_no_level() -> None:
    done = subprocess.run([sys.executable, "-c", IMPORTS_ALL], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "[]\n"), done.stderr


def test_every_logger_of_the_package_is_in_one_tree() -> None:
    names = set()
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("getLogger"):
                names.add(ast.unparse(node.args[0]).strip("'") if node.args else "root")
    of_other_libraries = {"name"}  # cli.logs makes them quieter
    assert {name for name in names if name.partition(".")[0] != "neuron_anyio"} == of_other_libraries


WORKER = """
from neuron_anyio import capability

@capability("test/fails")
async def fails(value: object) -> None:
    raise ValueError
"""


@pytest.mark.anyio
@pytest.mark.parametrize("by_flag", [True, False], ids=["flag", "environment"])
async def test_the_command_logs_json_where_it_is_asked(tmp_path: Path, by_flag: bool) -> None:
    (tmp_path / "worker.py").write_text(WORKER)
    arguments = [
        "-m",
        "neuron_anyio",
        "run",
        "worker.py",
        "--neuron-id",
        "n",
        *(["--log-format", "json"] if by_flag else []),
    ]
    with anyio.fail_after(30):
        async with open_gateway() as gateway:
            variables = {
                **os.environ,
                "BIGBRAIN_GATEWAY_URL": gateway.url,
                **({} if by_flag else {"LOG_FORMAT": "json"}),
            }
            async with await anyio.open_process([sys.executable, *arguments], cwd=tmp_path, env=variables) as process:
                task = await gateway.submit("test/fails", None, max_attempts=1)
                await gateway.wait_settled(task.task_id)
                process.send_signal(signal.SIGTERM)
                assert process.stderr is not None
                said = b"".join([chunk async for chunk in process.stderr])
    lines = [json.loads(line) for line in said.decode().splitlines()]
    assert all(TIME.fullmatch(line["time"]) for line in lines)
    assert {line["event"] for line in lines} >= {
        "neuron.connecting", "connection.registered", "lease.failed", "neuron.stopped",
    }  # fmt: skip
