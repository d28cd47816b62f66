"""The journal's file: whose it is, who may read it, who holds it, and what a death leaves behind."""

from __future__ import annotations

import logging
import os
import random
import signal
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import anyio
import pytest

from neuron_anyio._journal_file import APPLICATION_ID, JournalFile, open_file
from neuron_anyio.abc import Record
from neuron_anyio.errors import JournalError, NeuronError
from neuron_anyio.journal import open_journal

LOG = logging.getLogger("neuron_anyio.test_journal")
GATEWAY = "https://gateway.example"


def opened(path: Path, *, gateway: str = GATEWAY, neuron_id: str = "worker-1") -> closing[JournalFile]:
    return closing(open_file(path, gateway=gateway, neuron_id=neuron_id, log=LOG))


def fill(path: Path) -> None:
    with opened(path) as file:
        file.write((), [Record(b"key", b"value" * 1000, 1.0)])


def modes(folder: Path) -> dict[str, int]:
    return {entry.name: stat.S_IMODE(entry.stat().st_mode) for entry in folder.iterdir()}


@contextmanager
def refused(path: Path, *words: str) -> Iterator[None]:
    """What is inside is refused with an error that names the path and these words, and nothing of sqlite3 below it."""
    with pytest.raises(JournalError) as caught:
        yield
    for word in (str(path), *words):
        assert word in str(caught.value)
    assert isinstance(caught.value, NeuronError)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


# Modes


@pytest.mark.parametrize("umask", [0, 0o022, 0o777])
def test_all_its_files_are_for_this_user_alone_whatever_the_umask(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        with opened(tmp_path / "journal") as file:
            file.write((), [Record(b"key", b"value", 1.0)])
            assert modes(tmp_path) == dict.fromkeys(["journal", "journal-wal", "journal-shm", "journal-lock"], 0o600)
    finally:
        os.umask(before)


WATCHED = """
import logging, os, sys
from neuron_anyio._journal_file import open_file

def watch(event, args):
    if event == "os.chmod":  # raised before it is done
        print(oct(os.stat(args[0]).st_mode & 0o777))

os.umask(0)
sys.addaudithook(watch)
open_file(sys.argv[1], gateway="https://gateway.example", neuron_id="worker-1", log=logging.getLogger()).close()
"""


def test_its_files_are_private_already_when_they_are_made(tmp_path: Path) -> None:
    command = [sys.executable, "-c", WATCHED, str(tmp_path / "journal")]
    child = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=30, check=True)
    assert child.stdout.split() == ["0o600", "0o600"]


def test_a_file_that_others_can_read_is_made_private_and_that_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "journal"
    fill(path)
    path.chmod(0o644)
    with opened(path) as file:
        assert len(file.recorded) == 1
        assert set(modes(tmp_path).values()) == {0o600}
    assert f"{path} could be opened by other users (mode 0644); it is 0600 now" in caplog.text


def test_the_log_that_a_killed_process_left_is_made_private_too(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    with holder(path) as child:
        child.kill()
        child.wait()
    log = tmp_path / "journal-wal"
    log.chmod(0o666)
    with opened(path) as file:
        assert [record.key for record in file.recorded] == [b"key"]
        assert set(modes(tmp_path).values()) == {0o600}


# What is refused


def in_no_folder(path: Path) -> None:
    path.parent.rmdir()


def in_a_file(path: Path) -> None:
    path.parent.rmdir()
    path.parent.touch()


def folder(path: Path) -> None:
    path.mkdir()


def pipe(path: Path) -> None:
    os.mkfifo(path)


def text(path: Path) -> None:
    path.write_text("not a database, but a text that is long enough to have a header" * 100, encoding="utf-8")


def other_database(path: Path) -> None:
    with closing(sqlite3.connect(path)) as database:
        database.execute("CREATE TABLE photos (name TEXT)")


def other_application(path: Path) -> None:
    with closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA application_id = 7")


def newer(path: Path) -> None:
    with closing(sqlite3.connect(path)) as database:
        database.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        database.execute("PRAGMA user_version = 2")


def damaged(path: Path) -> None:
    fill(path)
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * 8192)


def without_tables(path: Path) -> None:
    fill(path)
    with closing(sqlite3.connect(path)) as database:
        database.execute("DROP TABLE record")


def without_owner(path: Path) -> None:
    fill(path)
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("DELETE FROM owner")


def with_two_names(path: Path) -> None:
    fill(path)
    os.link(path, path.with_name("again"))


@pytest.mark.parametrize(
    ("make", "rule", "remedy"),
    [
        (in_no_folder, "needs the folder", "make it"),
        (in_a_file, "needs the folder", "make it"),
        (folder, "must be a file, and it is a folder", "give the path of a file"),
        (pipe, "must be a file, and it is no ordinary file", "give the path of a file"),
        (text, "file is not a database", "give another path"),
        (other_database, "is a database of something else", "give another path"),
        (other_application, "is a database of something else", "give another path"),
        (newer, "has version 2, and this release reads 1 at most", "use the release that wrote it"),
        (damaged, "malformed", "move it away"),
        (without_tables, "no such table", "move it away"),
        (without_owner, "belongs to neuron None", "give each its own file"),
        (with_two_names, "has 2 names", "copy the file"),
    ],
)
def test_what_is_no_journal_is_refused_with_the_remedy_and_left_as_it_is(
    tmp_path: Path, make: Callable[[Path], None], rule: str, remedy: str
) -> None:
    path = tmp_path / "folder" / "journal"
    path.parent.mkdir()
    make(path)
    before = (path.read_bytes(), path.stat().st_mode) if path.is_file() else None
    for _ in range(2):
        with refused(path, rule, remedy), opened(path):
            pass
    assert before == ((path.read_bytes(), path.stat().st_mode) if path.is_file() else None)


def test_an_empty_file_becomes_a_journal(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    path.touch(mode=0o644)
    fill(path)
    assert modes(tmp_path)["journal"] == 0o600


def test_a_lock_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "journal-lock").symlink_to(tmp_path / "elsewhere")
    with refused(tmp_path / "journal", "check that this user may read and write it"), opened(tmp_path / "journal"):
        pass
    assert not (tmp_path / "elsewhere").exists()


def test_a_program_that_writes_to_it_at_that_moment_is_said(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    fill(path)
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.execute("BEGIN IMMEDIATE")
        with refused(path, "database is locked", "another program has it open"), opened(path):
            pass


@pytest.mark.parametrize(
    ("gateway", "neuron_id"), [("https://other.example", "worker-1"), (GATEWAY, "worker-2"), ("memory:", "worker-1")]
)
def test_it_belongs_to_one_gateway_and_one_neuron(tmp_path: Path, gateway: str, neuron_id: str) -> None:
    path = tmp_path / "journal"
    fill(path)
    words = ("neuron 'worker-1' of gateway https://gateway.example", f"neuron {neuron_id!r} of gateway {gateway}")
    with refused(path, *words, "give each its own file"), opened(path, gateway=gateway, neuron_id=neuron_id):
        pass


def test_of_a_gateway_the_origin_counts_and_no_secret_is_kept_or_told(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    fill(path)
    with opened(path, gateway="https://user:secret@Gateway.example/path?token=secret"):
        pass
    with pytest.raises(JournalError) as caught, opened(path, gateway="https://user:secret@other.example/?token=secret"):
        pass
    assert "secret" not in str(caught.value)
    assert b"secret" not in path.read_bytes()


def test_a_symbolic_link_leads_to_the_one_file_and_its_one_lock(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    link, path = tmp_path / "link", tmp_path / "real" / "journal"
    link.symlink_to(path)
    with opened(link), refused(path, "is held by"), opened(path):
        pass
    assert sorted(modes(path.parent)) == ["journal", "journal-lock"]


@pytest.mark.parametrize("name", ["a b", "a?b#c%41", "ünï", ":memory:", "file:x"])
def test_any_name_is_a_name(tmp_path: Path, name: str) -> None:
    fill(tmp_path / name)
    assert sorted(modes(tmp_path)) == sorted([name, f"{name}-lock"])


# Who holds it

HOLDER = """
import logging, os, sys, time
from neuron_anyio._journal_file import open_file
from neuron_anyio.abc import Record
file = open_file(sys.argv[1], gateway="https://gateway.example", neuron_id="worker-1", log=logging.getLogger())
file.write((), [Record(b"key", b"value", 1.0)])
if "fork" in sys.argv:
    runs, tell = os.pipe()
    child = os.fork()
    if child:
        os.read(runs, 1)
        print(child, flush=True)
    elif "exit" in sys.argv:
        os.write(tell, b".")
        del file
        sys.exit()
    else:
        os.write(tell, b".")
        time.sleep(60)
    if "exit" in sys.argv:
        os.waitpid(child, 0)
        file.write((), [Record(b"later", b"value", 1.0)])
if "program" in sys.argv:
    import subprocess
    print(subprocess.Popen(["sleep", "60"], close_fds=False).pid, flush=True)
print("open", flush=True)
sys.stdin.read()
"""


@contextmanager
def holder(path: Path, *how: str) -> Iterator[subprocess.Popen[str]]:
    """A process that holds the journal and has written one record, until it is killed or its stdin ends."""
    command = [sys.executable, "-c", HOLDER, str(path), *how]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        below = int(child.stdout.readline()) if how else None
        assert child.stdout.readline() == "open\n"
        try:
            yield child
        finally:
            child.kill()
            if below is not None and "exit" not in how:
                os.kill(below, signal.SIGKILL)


@pytest.mark.anyio
async def test_a_second_opener_in_the_process_is_refused_at_once_and_does_no_harm(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    with anyio.fail_after(10):
        async with open_journal(path, gateway=GATEWAY, neuron_id="worker-1", log=LOG) as journal:
            for _ in range(2):
                with refused(path, "held by another neuron of this process", "give each neuron its own file"):
                    async with open_journal(path, gateway=GATEWAY, neuron_id="worker-1", log=LOG):
                        pass
            await journal.record(b"key", b"value")
        async with open_journal(path, gateway=GATEWAY, neuron_id="worker-1", log=LOG) as journal:
            assert len(journal.recorded) == 1


def test_another_process_is_refused_and_told_the_holder_until_that_is_killed(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    with holder(path) as child:
        with refused(path, f"held by process {child.pid}"), opened(path):
            pass
        child.kill()
        child.wait()
        with opened(path) as file:
            assert [record.key for record in file.recorded] == [b"key"]


@pytest.mark.parametrize("below", ["fork", "program"])
def test_a_child_that_outlives_its_killed_parent_does_not_hold_the_journal(tmp_path: Path, below: str) -> None:
    path = tmp_path / "journal"
    with holder(path, below) as child:
        with refused(path, f"held by process {child.pid}"), opened(path):
            pass
        child.kill()
        child.wait()
        with opened(path) as file:
            assert [record.key for record in file.recorded] == [b"key"]


def test_a_forked_child_that_exits_takes_nothing_from_its_parent(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    with holder(path, "fork", "exit") as child:
        with refused(path, f"held by process {child.pid}"), opened(path):
            pass
        child.kill()
        child.wait()
        with opened(path) as file:
            assert [record.key for record in file.recorded] == [b"key", b"later"]


def test_what_could_not_be_opened_is_not_held(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    fill(path)
    with refused(path), opened(path, neuron_id="worker-2"):
        pass
    with opened(path):
        pass


# Death

NURSERY = """
import logging, os, random, sys
import anyio
from neuron_anyio.journal import open_journal

async def work(journal, name):
    for number in range(100_000):
        key = f"{os.getpid()}.{name}.{number}"
        await journal.record(key.encode(), key.encode() * random.randrange(1, 200))
        os.write(1, f"recorded {key}\\n".encode())
        if random.random() < 0.5:
            os.write(1, f"forgets {key}\\n".encode())
            journal.forget(key.encode())

async def main():
    log = logging.getLogger()
    async with open_journal(sys.argv[1], gateway="https://gateway.example", neuron_id="worker-1", log=log) as journal:
        os.write(1, f"recovered {len(journal.recorded)}\\n".encode())
        async with anyio.create_task_group() as tasks:
            for name in range(5):
                tasks.start_soon(work, journal, name)

for line in sys.stdin:
    child = os.fork()
    if not child:
        anyio.run(main, backend=sys.argv[2])
    os.write(1, f"born {child}\\n".encode())
    os.waitpid(child, 0)
    os.write(1, b"dead\\n")
"""


class Told:
    """What a dying process has said of its keys."""

    def __init__(self) -> None:
        self.recorded: set[str] = set()
        self.forgotten: set[str] = set()
        self.pid = 0

    def hear(self, line: str) -> bool:
        word, _, key = line.strip().partition(" ")
        if word == "born":
            self.pid = int(key)
        elif word == "recorded":
            self.recorded.add(key)
        elif word == "forgets":
            self.forgotten.add(key)
        return word != "dead"


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_all_that_was_said_to_be_recorded_is_there_after_each_of_25_kills(tmp_path: Path, backend: str) -> None:
    path = tmp_path / "journal"
    dice = random.Random(backend)
    told = Told()
    command = [sys.executable, "-c", NURSERY, str(path), backend]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as nursery:
        assert nursery.stdin is not None
        assert nursery.stdout is not None
        for _ in range(25):
            nursery.stdin.write("go\n")
            nursery.stdin.flush()
            wanted = len(told.recorded) + dice.randrange(100)
            told.pid = 0
            while not told.pid or len(told.recorded) < wanted:
                told.hear(nursery.stdout.readline())
            os.kill(told.pid, signal.SIGKILL)
            while told.hear(nursery.stdout.readline()):
                pass
            found = set(check_values(path))
            assert told.recorded - told.forgotten <= found
        nursery.stdin.close()
    assert len(told.recorded) > 500
    assert len(told.forgotten) > 100


def check_values(path: Path) -> Iterator[str]:
    with opened(path) as file:
        for record in file.recorded:
            assert record.value == record.key * (len(record.value) // len(record.key))
            yield record.key.decode()
