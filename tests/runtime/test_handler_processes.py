"""Handlers in worker processes: what they may do, how they end, and that nothing of them is left (H2, L8, L11, D5)."""

from __future__ import annotations

import functools
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

from neuron_anyio import LeaseContext, TerminalFailure, Timing, capability, events, open_neuron
from neuron_anyio.testing.scripted_gateway import ScriptedGateway
from tests.runtime import process_handlers as there
from tests.runtime.handlers import echo
from tests.runtime.http_gateway import Seen

pytestmark = [pytest.mark.anyio, pytest.mark.skipif(sys.platform != "linux", reason="processes are looked up in /proc")]

LATER = 1.5
"""Seconds of a lease or a time-out: longer than a process takes to start."""

ROOT = Path(__file__).parents[2]


def neuron(gateway: ScriptedGateway, *capabilities: Any, **options: Any) -> Any:
    return open_neuron(gateway.transport, neuron_id="neuron-1", capabilities=capabilities, **options)


def is_alive(pid: int) -> bool:
    """Whether a process does anything; what only waits for its parent to take notice of its end does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def children() -> set[int]:
    found = set()
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent = path.read_text().rpartition(")")[2].split()[:2]
        except OSError:
            continue
        if int(parent) == os.getpid() and state != "Z":
            found.add(int(path.parent.name))
    return found


async def until(condition: Callable[[], object], seconds: float = 10.0) -> None:
    with anyio.fail_after(seconds):
        while not condition():  # noqa: ASYNC110 - what it looks at tells nobody
            await anyio.sleep(0.01)


async def written(path: Path) -> int:
    await until(path.exists)
    return taken(path)


def taken(path: Path) -> int:
    number = int(path.read_text())
    path.unlink()
    return number


ENDINGS = {
    "os._exit": ("retryable", "HANDLER_THREW", "ended with exit code 3"),
    "SIGKILL": ("retryable", "HANDLER_THREW", "was killed by SIGKILL"),
    "segfault": ("retryable", "HANDLER_THREW", "was killed by SIGSEGV"),
    "closes everything": ("retryable", "HANDLER_THREW", "ended with exit code 0 before the handler did"),
    "leaves a fork": ("retryable", "HANDLER_THREW", "ended with exit code 4"),
    "SystemExit": ("retryable", "HANDLER_THREW", "the handler raised SystemExit"),
    "KeyboardInterrupt": ("retryable", "HANDLER_THREW", "the handler raised KeyboardInterrupt"),
    "GeneratorExit": ("retryable", "HANDLER_THREW", "the handler raised GeneratorExit"),
    "two arguments": ("retryable", "HANDLER_THREW", "one and two"),
    "unpicklable": ("terminal", "HANDLER_THREW", "no lock leaves"),
    "local class": ("retryable", "HANDLER_THREW", "Local: of a class that only this function knows"),
    "lambda": ("retryable", "HANDLER_THREW", "what the handler returned cannot leave its process"),
    "generator": ("retryable", "HANDLER_THREW", "what the handler returned cannot leave its process"),
    "lock": ("retryable", "HANDLER_THREW", "what the handler returned cannot leave its process"),
    "unreadable": ("retryable", "HANDLER_THREW", "what the handler returned cannot be read outside its process"),
    "terminal": ("terminal", "MINE", "no"),
    "retry": ("retryable", "HANDLER_RETRY", "later"),
    "recursion": ("retryable", "HANDLER_THREW", "maximum recursion depth"),
}


async def test_L11_4_L11_6_however_a_handler_ends_in_its_process_it_is_one_failure_and_the_next_lease_runs() -> None:
    assert ENDINGS.keys() == there.ENDS.keys()
    gateway = ScriptedGateway()
    before = children()
    with anyio.fail_after(25):
        async with neuron(gateway, there.misbehave, there.echo_there):
            for how, (kind, code, reason) in ENDINGS.items():
                gateway.lease(how, capability="test/misbehave", value=how)
                nack = await gateway.wait_result(how)
                assert (nack["kind"], nack["code"]) == (kind, code), how
                assert reason in nack["reason"]
                gateway.lease(f"after {how}", capability="test/there", value=how)
                assert (await gateway.wait_result(f"after {how}"))["output"] == how
            assert gateway.posted("nack", lease_id="terminal")[0]["details"] == {"a": 1}
            assert gateway.posted("nack", lease_id="retry")[0]["details"] == {"retryAfterMs": 1500}
        assert children() == before


async def test_H2_typed_inputs_and_outputs_go_to_the_process_and_back() -> None:
    gateway = ScriptedGateway()
    with anyio.fail_after(15):
        async with neuron(gateway, there.classed, there.moved, there.locked):
            gateway.lease("struct", capability="test/page", value={"url": "u"})
            gateway.lease("dataclass", capability="test/point", value={"x": 1})
            gateway.lease("mismatch", capability="test/page", value={"url": 1})
            gateway.lease("locked", capability="test/locked", value={"x": 1})
            assert (await gateway.wait_result("struct"))["output"] == {"url": "u", "size": 2}
            assert (await gateway.wait_result("dataclass"))["output"] == {"x": 2, "y": -1}
            assert (await gateway.wait_result("mismatch"))["code"] == "INPUT_SCHEMA_MISMATCH"
            nack = await gateway.wait_result("locked")
            assert nack["code"] == "HANDLER_THREW"
            assert nack["reason"].startswith("the input cannot be sent to the handler's process")


async def test_H2_large_inputs_and_outputs_go_through() -> None:
    gateway, large = ScriptedGateway(), "x" * 3_000_000
    with anyio.fail_after(15):
        async with neuron(gateway, there.echo_there):
            gateway.lease("l1", capability="test/there", value=large)
            assert (await gateway.wait_result("l1"))["output"] == large


async def test_L5_many_run_at_once_and_no_more_processes_are_made_than_run_and_one_to_spare() -> None:
    gateway = ScriptedGateway()
    before = children()
    with anyio.fail_after(25):
        async with neuron(gateway, there.echo_there, max_concurrency=3):
            for number in range(20):
                gateway.lease(f"l{number}", capability="test/there", value=number)
            acks = await gateway.wait_posted("ack", count=20)
            assert 2 <= len(children() - before) <= 4
        assert children() == before
    assert sorted(ack["output"] for ack in acks) == list(range(20))


async def cancel(gateway: ScriptedGateway, _: Any) -> dict[str, Any]:
    gateway.cancel("l1")
    return await gateway.wait_result("l1")


async def time_out(gateway: ScriptedGateway, _: Any) -> dict[str, Any]:
    return await gateway.wait_result("l1")


async def lose(gateway: ScriptedGateway, _: Any) -> dict[str, Any]:
    return await gateway.wait_result("l1")


async def drain(gateway: ScriptedGateway, running: Any) -> dict[str, Any]:
    await running.drain()
    return await gateway.wait_result("l1")


WAYS: list[tuple[Any, str]] = [
    (cancel, "CANCELLED"),
    (time_out, "HANDLER_TIMEOUT"),
    (lose, "LEASE_EXPIRED"),
    (drain, "NEURON_SHUTDOWN"),
]


@pytest.mark.parametrize(("way", "code"), WAYS, ids=[way[0].__name__ for way in WAYS])
async def test_L8_a_handler_that_is_cancelled_is_killed_and_its_slot_free_when_the_process_has_ended(
    way: Any, code: str, tmp_path: Path
) -> None:
    gateway = ScriptedGateway()
    if way is lose:
        gateway.always_answer("heartbeat", 503)
    alive: list[bool] = []

    def look(event: events.Event) -> None:
        if isinstance(event, events.LeaseSettled) and event.lease_id == "l1":
            alive.append(is_alive(pid))

    lives = there.lives.with_options(timeout=LATER if way is time_out else None)
    with anyio.fail_after(15):
        async with neuron(gateway, lives, timing=Timing(drain=0.5), on_event=look) as running:
            gateway.lease("l1", capability="test/lives", value=str(tmp_path), ttl=LATER if way is lose else 60.0)
            pid = await written(tmp_path / "pid")
            assert is_alive(pid)
            nack = await way(gateway, running)
            assert nack["code"] == code
            assert alive == [False]
            if way is not drain:
                gateway.lease("l2", capability="test/lives", value=str(tmp_path))
                assert await written(tmp_path / "pid") != pid


@pytest.mark.parametrize("wait", [0.0, 0.01, 0.05, 0.15])
async def test_L8_a_cancel_while_the_process_starts_leaves_none_behind(wait: float) -> None:
    gateway, seen = ScriptedGateway(), Seen()
    before = children()
    with anyio.fail_after(15):
        async with neuron(gateway, there.echo_there, on_event=seen):
            gateway.lease("l1", capability="test/there", value=1)
            await seen.wait(events.LeaseStarted)
            if wait:
                await anyio.sleep(wait)
            gateway.cancel("l1")
            await gateway.wait_result("l1")
            if gateway.posted("nack"):
                assert len(children() - before) <= 1  # the one to spare
            gateway.lease("l2", capability="test/there", value=2)
            assert (await gateway.wait_result("l2"))["output"] == 2
        assert children() == before


async def test_L8_what_a_handler_has_started_is_killed_with_it(tmp_path: Path) -> None:
    gateway = ScriptedGateway()
    with anyio.fail_after(15):
        async with neuron(gateway, there.forks):
            gateway.lease("l1", capability="test/forks", value=str(tmp_path))
            child = await written(tmp_path / "pid")
            assert is_alive(child)
            gateway.cancel("l1")
            assert (await gateway.wait_result("l1"))["kind"] == "cancelled"
            await until(lambda: not is_alive(child))


async def test_D3_a_cancelled_block_kills_the_process(tmp_path: Path) -> None:
    gateway = ScriptedGateway()
    with anyio.fail_after(10), anyio.CancelScope() as scope:
        async with neuron(gateway, there.lives):
            gateway.lease("l1", capability="test/lives", value=str(tmp_path))
            pid = await written(tmp_path / "pid")
            scope.cancel()
    assert not is_alive(pid)
    assert gateway.posted("nack")[0]["code"] == "NEURON_SHUTDOWN"


async def test_H2_a_process_that_died_while_it_was_idle_costs_no_lease() -> None:
    gateway = ScriptedGateway()
    before = children()
    with anyio.fail_after(15):
        async with neuron(gateway, there.echo_there):
            gateway.lease("l1", capability="test/there", value=1)
            await gateway.wait_result("l1")
            workers = children() - before
            for worker in workers:
                os.kill(worker, signal.SIGKILL)
            await until(lambda: not any(map(is_alive, workers)))
            await anyio.sleep(0.05)  # until the event loop knows as well
            gateway.lease("l2", capability="test/there", value=2)
            assert (await gateway.wait_result("l2"))["output"] == 2


async def test_D1_signals_to_all_processes_are_for_the_neuron_and_a_handler_finishes(tmp_path: Path) -> None:
    gateway = ScriptedGateway()
    with anyio.fail_after(10):
        async with neuron(gateway, there.takes_time, there.forked):
            gateway.lease("l1", capability="test/takes-time", value=str(tmp_path))
            pid = await written(tmp_path / "pid")
            os.kill(pid, signal.SIGTERM)
            assert (await gateway.wait_result("l1"))["output"] == pid
            assert os.getsid(pid) == pid  # a Ctrl-C in the terminal does not reach it
            gateway.lease("l2", capability="test/forked")
            assert (await gateway.wait_result("l2"))["output"] is True


async def test_H2_a_handler_in_a_process_may_print(capfd: pytest.CaptureFixture[str]) -> None:
    gateway = ScriptedGateway()
    with anyio.fail_after(10):
        async with neuron(gateway, there.talks):
            gateway.lease("l1", capability="test/talks")
            assert (await gateway.wait_result("l1"))["type"] == "ack"
    assert capfd.readouterr().out == "said by the handler\nsaid by its child\n"


async def test_H2_middleware_runs_in_the_loop_round_a_process_and_sees_where_it_failed() -> None:
    notes: list[str] = []

    async def sees(ctx: LeaseContext, call_next: Any) -> Any:
        try:
            return [await call_next(), ctx.attempt]
        except TerminalFailure as exc:
            notes.extend(exc.__notes__)
            raise

    gateway = ScriptedGateway()
    with anyio.fail_after(10):
        async with neuron(gateway, there.echo_there, there.misbehave, middleware=[sees]):
            gateway.lease("l1", capability="test/there", value=1)
            assert (await gateway.wait_result("l1"))["output"] == [1, 0]
            gateway.lease("l2", capability="test/misbehave", value="terminal")
            nack = await gateway.wait_result("l2")
    (note,) = notes
    assert note.startswith("In the worker process:\nTraceback")
    assert "process_handlers.py" in note
    assert nack["reason"] == "no"


async def test_L8_the_time_out_of_a_middleware_kills_the_process(tmp_path: Path) -> None:
    cut: list[bool] = []

    async def bounds(ctx: LeaseContext, call_next: Any) -> Any:
        async with anyio.create_task_group() as group:
            group.start_soon(call_next)
            pid = await written(tmp_path / "pid")
            group.cancel_scope.cancel()
        cut.append(is_alive(pid))

    gateway = ScriptedGateway()
    with anyio.fail_after(10):
        async with neuron(gateway, there.lives, middleware=[bounds]):
            gateway.lease("l1", capability="test/lives", value=str(tmp_path))
            assert (await gateway.wait_result("l1"))["type"] == "ack"
    assert cut == [False]


async def test_D5_an_idle_process_ends_as_programs_end(tmp_path: Path) -> None:
    gateway = ScriptedGateway()
    with anyio.fail_after(10):
        async with neuron(gateway, there.leaves_a_note):
            gateway.lease("l1", capability="test/note", value=str(tmp_path / "note"))
            await gateway.wait_result("l1")
            assert not exists(tmp_path / "note")
        assert exists(tmp_path / "note")


def exists(path: Path) -> bool:
    return path.exists()


# What cannot run there


def nested() -> Any:
    def inner(_: Any) -> None:
        pass

    return inner


async def with_loop(_: Any) -> None:
    pass


def hidden(_: Any) -> None:
    pass


first_hidden = hidden


def hidden(_: Any) -> None:  # type: ignore[no-redef]  # hides the first one on purpose
    pass


def with_context(_: Any, ctx: LeaseContext) -> None:
    pass


def two(_: Any, value: Any) -> None:
    pass


UNUSABLE: list[tuple[str, Any, str]] = [
    ("lambda", lambda _: None, "lambda"),
    ("nested", nested(), "inside another function"),
    ("async", with_loop, "no event loop"),
    ("hidden", first_hidden, "something else, or not there"),
    ("context", with_context, "context"),
    ("partial", functools.partial(two, 1), "partial"),
]


@pytest.mark.parametrize(("function", "text"), [row[1:] for row in UNUSABLE], ids=[row[0] for row in UNUSABLE])
async def test_H2_a_handler_that_a_process_cannot_find_is_refused_before_anything_runs(
    function: Any, text: str
) -> None:
    with pytest.raises(TypeError, match=text) as caught:
        neuron(ScriptedGateway(), capability("test/unusable", runs="process")(function))
    assert "runs='process'" in str(caught.value)
    assert "test/unusable" in str(caught.value)


async def test_H2_the_options_of_a_deployment_do_not_get_round_that() -> None:
    with pytest.raises(TypeError, match="no event loop"):
        neuron(ScriptedGateway(), echo.with_options(runs="process"))


# Whole programs

PROGRAM = """
import sys
import anyio, msgspec
from neuron_anyio import capability, open_neuron
from neuron_anyio.testing.scripted_gateway import ScriptedGateway

class Page(msgspec.Struct):
    url: str

@capability("test/page", runs="process")
def page(page: Page) -> Page:
    assert __name__ == "__mp_main__", __name__
    return Page(url=page.url.upper())

async def main():
    gateway = ScriptedGateway()
    async with open_neuron(gateway.transport, neuron_id="n", capabilities=[page]):
        for number in range(2):
            gateway.lease(str(number), capability="test/page", value={"url": "u"})
            result = await gateway.wait_result(str(number))
            print(result.get("output", result.get("reason")), flush=True)
"""
GUARDED = 'if __name__ == "__main__":\n    anyio.run(main, backend=sys.argv[1])\n'


def run_program(folder: Path, end: str, backend: str, *how: str) -> subprocess.CompletedProcess[str]:
    (folder / "program.py").write_text(textwrap.dedent(PROGRAM) + end)
    return subprocess.run(
        [sys.executable, *(how or ("program.py",)), backend],
        cwd=folder, capture_output=True, text=True, timeout=20, check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip


@pytest.fixture
def backend_name(anyio_backend_name: str) -> str:
    return anyio_backend_name


@pytest.mark.parametrize("how", [("program.py",), ("-m", "program")], ids=["file", "module"])
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_H2_a_program_may_define_such_handlers_itself(how: tuple[str, ...], backend: str, tmp_path: Path) -> None:
    done = run_program(tmp_path, GUARDED, backend, *how)
    assert (done.returncode, done.stderr, done.stdout) == (0, "", "{'url': 'U'}\n{'url': 'U'}\n")


def test_H2_a_program_that_starts_itself_where_it_is_imported_is_told_how_to_mend_it(tmp_path: Path) -> None:
    done = run_program(tmp_path, "anyio.run(main, backend=sys.argv[1])\n", "asyncio")
    assert done.returncode == 0
    assert "put what starts it under: if __name__ == '__main__':" in done.stdout


def test_H2_a_program_that_cannot_be_imported_is_refused(tmp_path: Path) -> None:
    done = run_program(tmp_path, "", "asyncio", "-c", PROGRAM + GUARDED)
    assert "defined in a program that no other process can import" in done.stderr


def test_H2_the_command_runs_a_file_with_such_a_handler(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(textwrap.dedent(PROGRAM).replace('"__mp_main__"', '"program"'))
    command = [sys.executable, "-m", "neuron_anyio", "dev", "program.py", "--port", "0", "--once"]
    done = subprocess.run(
        [*command, "--submit", "test/page", '{"url": "u"}'],
        cwd=tmp_path, capture_output=True, text=True, timeout=25, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert '"url": "U"' in done.stdout or '"url":"U"' in done.stdout


KILLED = """
import sys
import anyio
from neuron_anyio import open_neuron
from neuron_anyio.testing.scripted_gateway import ScriptedGateway
from tests.runtime.process_handlers import lives, echo_there

async def main():
    gateway = ScriptedGateway()
    async with open_neuron(gateway.transport, neuron_id="n", capabilities=[lives, echo_there]):
        gateway.lease("1", capability="test/lives", value=sys.argv[2])
        gateway.lease("2", capability="test/there", value=sys.argv[2])
        await anyio.sleep(60)

anyio.run(main, backend=sys.argv[1])
"""


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_D5_a_neuron_that_is_killed_takes_its_processes_with_it(backend: str, tmp_path: Path) -> None:
    command = [sys.executable, "-c", KILLED, backend, str(tmp_path)]
    with subprocess.Popen(command, cwd=ROOT) as program:
        until = time.monotonic() + 15
        while not (tmp_path / "pid").exists():
            assert time.monotonic() < until
            time.sleep(0.01)
        pid = int((tmp_path / "pid").read_text())
        program.kill()
    while is_alive(pid):
        assert time.monotonic() < until
        time.sleep(0.01)
