"""The journal's file: SQLite behind a lock. The worker thread's side of `journal`; nothing in here knows of a loop."""

from __future__ import annotations

import fcntl
import logging
import os
import sqlite3
import stat
from collections.abc import Collection, Generator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from .abc import Record
from .errors import JournalError
from .logs import named

__all__ = ["JournalFile", "open_file"]

APPLICATION_ID = 0x4E4A524E
"""Says in the header of the SQLite file whose it is ("NJRN")."""

VERSION = 1
"""Of the tables below."""

BUSY = 1.0
"""Seconds to wait for another program that has the file open, such as a person's `sqlite3`, to end its write."""

CHECKPOINT_PAGES = 256
"""The write-ahead log is moved into the database, and begun anew, each time it has this many pages (1 MiB)."""

LOG_BYTES = 1024 * 1024
"""To which the write-ahead log is cut when a large batch has made it longer."""

SCHEMA = (
    f"PRAGMA application_id = {APPLICATION_ID}",
    f"PRAGMA user_version = {VERSION}",
    "CREATE TABLE owner (gateway TEXT NOT NULL, neuron_id TEXT NOT NULL)",
    "CREATE TABLE record (place INTEGER PRIMARY KEY, key BLOB NOT NULL UNIQUE, value BLOB NOT NULL, at REAL NOT NULL)",
)

DAMAGED = "it is damaged; move it away, and a new one is made, without its results"
REMEDIES = {
    sqlite3.SQLITE_ERROR: DAMAGED,  # tables that are not as they were made
    sqlite3.SQLITE_NOTADB: "it must be a journal or not be there yet; give another path",
    sqlite3.SQLITE_CORRUPT: DAMAGED,
    sqlite3.SQLITE_BUSY: "another program has it open; end that program",
}
DEFAULT_PORTS = {"http": ":80", "https": ":443"}
"""Left out of an origin: with and without its own port, a URL names the same gateway."""

OTHER_REMEDY = "check that this user may read and write it and its folder, and that the disk has room"


class JournalFile:
    """The file, locked and open. One thread at a time.

    Attributes:
        path: where it is.
        recorded: what was in it, until the caller lets go of it.
        keys: what is in it now.
    """

    __slots__ = ("_connection", "_lock", "keys", "path", "recorded")

    def __init__(self, path: Path, connection: sqlite3.Connection, lock: int) -> None:
        self.path: Path = path
        self._connection = connection
        self._lock = lock
        rows = connection.execute("SELECT key, value, at FROM record ORDER BY place")
        self.recorded: Sequence[Record] = tuple(Record(*row) for row in rows)
        self.keys: set[bytes] = {record.key for record in self.recorded}

    def write(self, forgotten: Collection[bytes], records: Collection[Record]) -> None:
        """Write all of it or nothing.

        Raises:
            sqlite3.Error: nothing was written.
        """
        if not forgotten and not records:
            return
        with self._connection as transaction:
            transaction.executemany("DELETE FROM record WHERE key = ?", [(key,) for key in forgotten])
            transaction.executemany(
                "INSERT OR REPLACE INTO record (key, value, at) VALUES (?, ?, ?)",
                [(record.key, record.value, record.at) for record in records],
            )
        self.keys.difference_update(forgotten)
        self.keys.update(record.key for record in records)

    def close(self) -> None:
        """Close: the last connection moves the log into the database and removes it. Then let go of the lock."""
        try:
            self._connection.close()
        finally:
            _unlock(self._lock)


def open_file(path: str | os.PathLike[str], *, gateway: str, neuron_id: str, log: logging.Logger) -> JournalFile:
    """Lock and open a journal, or make it.

    Raises:
        JournalError: as for `open_journal`.
    """
    place = Path(os.path.realpath(path))
    owner = (_origins(gateway), neuron_id)
    with _explained(place), ExitStack() as undo:
        _check_place(place)
        lock = _lock(place)
        undo.callback(_unlock, lock)
        _make(place)
        connection = sqlite3.connect(
            f"{place.as_uri()}?mode=rw",  # never made by SQLite, which would ask the umask for its mode
            uri=True,
            timeout=BUSY,
            isolation_level="IMMEDIATE",
            check_same_thread=False,  # worker threads take turns
        )
        undo.callback(connection.close)
        is_new = _is_new(connection, place)
        _make_private(place, log)
        _prepare(connection, place)
        if is_new:
            _fill(connection, owner)
        _check_owner(connection, place, owner)
        file = JournalFile(place, connection, lock)
        undo.pop_all()
        return file


@contextmanager
def _explained(path: Path) -> Generator[None]:
    try:
        yield
    except sqlite3.Error as exc:
        remedy = REMEDIES.get(getattr(exc, "sqlite_errorcode", 0) & 0xFF, OTHER_REMEDY)
        raise JournalError(f"the journal {path} cannot be used ({exc}): {remedy}") from None
    except OSError as exc:
        raise JournalError(f"the journal {path} cannot be used ({exc.strerror or exc}): {OTHER_REMEDY}") from None


def _check_place(path: Path) -> None:
    if not path.parent.is_dir():
        raise JournalError(
            f"the journal {path} needs the folder {path.parent}, and there is none; make it, or give another path"
        )
    try:
        found = path.stat()
    except FileNotFoundError:
        return
    if not stat.S_ISREG(found.st_mode):
        kind = "a folder" if stat.S_ISDIR(found.st_mode) else "no ordinary file"
        raise JournalError(f"the journal {path} must be a file, and it is {kind}; give the path of a file")
    if found.st_nlink > 1:
        raise JournalError(
            f"the journal {path} has {found.st_nlink} names (hard links); under each of them it has another lock and "
            "another log, so it must have one: remove the others, or copy the file"
        )


def _make(path: Path) -> None:
    # Opened only if it is made here: closing any descriptor of a file drops the locks that SQLite has on it.
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return
    try:
        os.fchmod(descriptor, 0o600)  # the umask may have taken away more
    finally:
        os.close(descriptor)


def _make_private(path: Path, log: logging.Logger) -> None:
    for suffix in ("", "-wal", "-shm"):
        part = path.with_name(path.name + suffix)
        mode = stat.S_IMODE(part.stat().st_mode) if part.exists() else 0
        if mode & 0o077:
            part.chmod(0o600)
            line = named("journal.was_open", path=str(part))
            log.warning("%s could be opened by other users (mode %04o); it is 0600 now", part, mode, extra=line)


def _is_new(connection: sqlite3.Connection, path: Path) -> bool:
    """Return whether nothing was ever written to it, without changing anything.

    Raises:
        JournalError: it is something else than a journal that is understood here.
    """
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if (application, version, tables) == (0, 0, 0):
        return True
    if application != APPLICATION_ID or version < 1:
        raise JournalError(f"{path} is a database of something else, not a journal; give another path")
    if version > VERSION:
        raise JournalError(
            f"the journal {path} has version {version}, and this release reads {VERSION} at most; "
            "use the release that wrote it, or give another path"
        )
    return False


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
    if mode != "wal":
        raise JournalError(
            f"the journal {path} must lie on a file system that supports write-ahead logging, and this one does not; "
            "put it on a local disk"
        )
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")
    connection.execute(f"PRAGMA journal_size_limit = {LOG_BYTES}")
    with connection as transaction:
        transaction.execute("BEGIN IMMEDIATE")  # a file that can only be read is found out now


def _fill(connection: sqlite3.Connection, owner: tuple[str, str]) -> None:
    with connection as transaction:
        transaction.execute("BEGIN IMMEDIATE")
        for statement in SCHEMA:
            transaction.execute(statement)
        transaction.execute("INSERT INTO owner (gateway, neuron_id) VALUES (?, ?)", owner)


def _check_owner(connection: sqlite3.Connection, path: Path, asked: tuple[str, str]) -> None:
    owner = connection.execute("SELECT gateway, neuron_id FROM owner").fetchone() or (None, None)
    if owner != asked:
        raise JournalError(
            f"the journal {path} belongs to neuron {owner[1]!r} of gateway {owner[0]}, and it was opened for neuron "
            f"{asked[1]!r} of gateway {asked[0]}; give each its own file, or delete this one with its results"
        )


def _origins(gateways: str) -> str:
    return ", ".join(_origin(gateway) for gateway in gateways.split(", "))


def _origin(gateway: str) -> str:
    parts = urlsplit(gateway)
    if not parts.netloc:
        return gateway
    host = parts.netloc.rpartition("@")[2].lower()
    return f"{parts.scheme}://{host.removesuffix(DEFAULT_PORTS.get(parts.scheme, ''))}"


_locks: set[int] = set()
"""Descriptors of the lock files that this process holds."""


def _lock(path: Path) -> int:
    place = path.with_name(path.name + "-lock")
    descriptor = os.open(place, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    _locks.add(descriptor)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.fchmod(descriptor, 0o600)  # the umask may have taken away more
        os.truncate(descriptor, 0)
        os.pwrite(descriptor, b"%d\n" % os.getpid(), 0)
    except BlockingIOError:
        holder = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip()
        _unlock(descriptor)
        raise JournalError(f"the journal {path} is held by {_name(holder)}; give each neuron its own file") from None
    except OSError:
        _unlock(descriptor)
        raise
    return descriptor


def _name(holder: str) -> str:
    if not holder:
        return "another process"
    return "another neuron of this process" if holder == str(os.getpid()) else f"process {holder}"


def _unlock(descriptor: int) -> None:
    if descriptor in _locks:  # else this is a forked child, which has closed it
        _locks.remove(descriptor)
        os.close(descriptor)


def _unlock_in_child() -> None:
    # A forked child shares its parent's lock and would hold it as long as it lives. Programs that are started, such as
    # worker processes, do not inherit the descriptor.
    for descriptor in _locks:
        os.close(descriptor)
    _locks.clear()


os.register_at_fork(after_in_child=_unlock_in_child)
