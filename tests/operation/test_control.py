"""A neuron's control socket, asked by programs of the same user."""

from __future__ import annotations

import json
import os
import socket
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, cast

import anyio
import pytest

from neuron_anyio import Neuron, NeuronError, TransportError, control, open_neuron
from neuron_anyio.cli.top import Which
from neuron_anyio.control import Method, Status, ask, control_folder, control_path, own_folder, serve_control
from neuron_anyio.local_streams import connect_unix
from neuron_anyio.taskgroups import body_task_group
from neuron_anyio.testing.steered_handler import SteeredHandler

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def controlled(path: Path, asked: list[str]) -> AsyncIterator[Neuron]:
    """Serve the socket of a neuron that was not started."""
    opening = open_neuron("http://127.0.0.1:9", neuron_id="n", capabilities=[SteeredHandler().capability])
    with anyio.fail_after(10):
        async with body_task_group() as tasks:
            drain = partial(asked.append, "drain")
            await tasks.start(partial(serve_control, opening.neuron, path, drain=drain))
            yield opening.neuron
            tasks.cancel_scope.cancel()


async def test_each_method_does_its_work_and_answers_how_the_neuron_stands(tmp_path: Path) -> None:
    asked: list[str] = []
    path = tmp_path / "n.sock"
    async with controlled(path, asked) as neuron:
        assert await ask(path) == Status(neuron_id="n", pid=os.getpid(), snapshot=neuron.snapshot())
        assert (await ask(path, "pause")).snapshot.paused
        assert not (await ask(path, "resume")).snapshot.paused
        assert asked == []
        assert (await ask(path, "drain")).neuron_id == "n"
        assert asked == ["drain"]
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0
    assert not path.exists()


async def test_other_methods_and_nonsense_are_refused_and_harm_nobody(tmp_path: Path) -> None:
    path = tmp_path / "n.sock"
    async with controlled(path, []):
        with pytest.raises(NeuronError, match=r"gives no answer: RpcError"):
            await ask(path, cast("Method", "kill"))
        stream = await connect_unix(path)
        async with stream:
            await stream.send(
                b"nonsense\n" + json.dumps({"jsonrpc": "2.0", "id": 1, "method": "snapshot"}).encode() + b"\n"
            )
            received = b""
            while not received.endswith(b"\n"):
                received += await stream.receive()
            answer: Any = json.loads(received)
            assert answer["result"]["neuron_id"] == "n"
        await (await connect_unix(path)).aclose()
        assert (await ask(path)).neuron_id == "n"


async def test_a_program_that_is_no_neuron_is_told_from_one(tmp_path: Path) -> None:
    with pytest.raises(TransportError, match="cannot connect to"):
        await ask(tmp_path / "nobody.sock")
    path = str(tmp_path / "other.sock")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as other:
        other.bind(path)
        other.listen()
        with anyio.fail_after(10):
            async with anyio.create_task_group() as tasks:

                async def hang_up() -> None:
                    await anyio.wait_readable(other)
                    other.accept()[0].close()

                tasks.start_soon(hang_up)
                with pytest.raises(TransportError):
                    await ask(path)


async def test_a_neuron_whose_loop_does_not_turn_is_not_waited_for_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(control, "ANSWER", 0.1)  # five seconds would be as true, and longer
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    path = own_folder() / "held.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as held:
        held.bind(str(path))
        held.listen()
        with anyio.fail_after(10), pytest.raises(NeuronError, match=r"gives no answer: none within 0\.1 s"):
            await ask(path)
        assert await Which(None, None).ask() == []
    assert "held.sock gives no answer" in caplog.text


async def test_two_neurons_do_not_share_a_socket_and_a_dead_ones_is_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "n.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as dead:
        dead.bind(str(path))
    async with controlled(path, []):
        with pytest.raises(OSError, match="another program listens there"):
            async with controlled(path, []):
                raise AssertionError
        assert (await ask(path)).neuron_id == "n"


def test_the_folder_is_the_users_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    assert own_folder() == control_folder() == tmp_path / "neuron-anyio"
    assert stat.S_IMODE(own_folder().stat().st_mode) == 0o700
    own_folder().chmod(0o750)
    with pytest.raises(PermissionError, match="mode 0700"):
        own_folder()
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temp"))
    assert control_folder() == tmp_path / "temp" / f"neuron-anyio-{os.getuid()}"
    (tmp_path / "temp").symlink_to(tmp_path)
    control_folder().symlink_to(tmp_path)
    with pytest.raises(PermissionError, match="mode 0700"):
        own_folder()


def test_the_socket_has_a_name_that_fits_and_is_no_other_neurons() -> None:
    ids = ["worker-1", "worker/1", "worker_1", "..", ".", "x" * 500, "x" * 501, "grün", "a b"]
    names = [control_path(each).name for each in ids]
    assert names[0] == "worker-1.sock"
    assert len(set(names)) == len(names)
    assert all(len(name) < 60 and "/" not in name and not name.startswith(".") for name in names)
