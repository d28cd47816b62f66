"""Byte streams between processes of one machine: the pipes that a parent gave, and Unix sockets whose peer is known."""

from __future__ import annotations

import errno
import os
import socket
import stat
import struct
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from pathlib import Path

import anyio
from anyio.abc import ByteStream

from .errors import TransportError

__all__ = ["check_peer", "connect_unix", "listening_unix", "open_stdio", "socket_stream"]

STDIN, STDOUT, STDERR = 0, 1, 2


async def open_stdio() -> ByteStream:
    """Take standard input and output for frames, until the stream is closed.

    Meanwhile what the program prints goes to standard error, and it reads nothing from standard input: a stray `print`
    in a handler must not stand between frames.

    Raises:
        TransportError: one of them is a terminal, closed, or a file: nobody at the other end speaks frames.
    """
    for name, fd, opened in (("input", STDIN, sys.__stdin__), ("output", STDOUT, sys.__stdout__)):
        if opened is None or not _is_pipe(fd):  # None: it was closed at the start, and the number is another's now
            what = "closed" if opened is None else "a terminal" if os.isatty(fd) else "a file or a device"
            raise TransportError(
                f"standard {name} is {what}, not a pipe or a socket; a host program has to start this one"
            )
    reader, writer = os.dup(STDIN), os.dup(STDOUT)
    _flush()
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, STDIN)
    os.dup2(nothing if sys.__stderr__ is None else STDERR, STDOUT)
    os.close(nothing)

    def give_back() -> None:
        _flush()
        os.dup2(reader, STDIN)
        os.dup2(writer, STDOUT)

    return _Pipes(reader, writer, on_close=give_back)


def _is_pipe(fd: int) -> bool:
    try:
        mode = os.fstat(fd).st_mode
    except OSError:
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)


def _flush() -> None:
    """Let what was printed go where it was meant to go, if there is still somebody who takes it."""
    with suppress(AttributeError, OSError, ValueError):  # None, a broken pipe, a closed file
        sys.stdout.flush()


class _Pipes(ByteStream):
    """A file descriptor to read and one to write, perhaps the same; closed with it."""

    def __init__(self, reader: int, writer: int, *, on_close: Callable[[], None] = lambda: None) -> None:
        self._fds = (reader, writer)
        self._on_close = on_close
        self._closed = False
        for fd in self._fds:
            os.set_blocking(fd, False)

    async def receive(self, max_bytes: int = 65536) -> bytes:
        await anyio.lowlevel.checkpoint()
        while True:
            try:
                data = os.read(self._reader, max_bytes)
            except BlockingIOError:
                await anyio.wait_readable(self._reader)
            except OSError as exc:
                raise anyio.BrokenResourceError from exc
            else:
                if not data:
                    raise anyio.EndOfStream
                return data

    async def send(self, item: bytes) -> None:
        await anyio.lowlevel.checkpoint()
        left = memoryview(item)
        while left:
            try:
                left = left[os.write(self._writer, left) :]
            except BlockingIOError:
                await anyio.wait_writable(self._writer)
            except OSError as exc:
                raise anyio.BrokenResourceError from exc

    async def send_eof(self) -> None:
        raise NotImplementedError("closing is the only end that two pipes have")

    async def aclose(self) -> None:
        if not self._closed:
            self._closed = True
            fds = set(self._fds)
            for fd in fds:
                os.set_blocking(fd, True)  # the description is shared with whoever gets it back
                anyio.notify_closing(fd)
            self._on_close()
            for fd in fds:
                os.close(fd)
        await anyio.lowlevel.checkpoint()

    @property
    def _reader(self) -> int:
        return self._open()[0]

    @property
    def _writer(self) -> int:
        return self._open()[1]

    def _open(self) -> tuple[int, int]:
        if self._closed:
            raise anyio.ClosedResourceError
        return self._fds


def socket_stream(connected: socket.socket) -> ByteStream:
    """Return a byte stream over a connected socket, which belongs to it from now on."""
    fd = connected.detach()
    return _Pipes(fd, fd)


async def connect_unix(path: str | os.PathLike[str]) -> ByteStream:
    """Connect to a host's socket, if it belongs to the user whom this program runs as.

    Raises:
        TransportError: nobody listens there, or somebody else does.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as raw:
        raw.setblocking(False)  # a local connection stands at once, or the listener's queue is full
        try:
            raw.connect(os.fspath(path))
        except OSError as exc:
            raise TransportError(f"cannot connect to {os.fspath(path)}: {exc.strerror or exc}") from None
        check_peer(raw)
        await anyio.lowlevel.checkpoint()
        return socket_stream(raw)


def check_peer(connected: socket.socket) -> None:
    """Check that the other end of a Unix socket is a program of the same user, as the kernel says.

    Raises:
        TransportError: it is another user's, or the system cannot tell.
    """
    option = getattr(socket, "SO_PEERCRED", None)
    if option is None:
        raise TransportError("this system does not say who is at the other end of a Unix socket; use stdio")
    layout = struct.Struct("3i")
    _, uid, _ = layout.unpack(connected.getsockopt(socket.SOL_SOCKET, option, layout.size))
    if uid != os.getuid():
        raise TransportError(f"the other end of the socket belongs to user {uid}, this program to {os.getuid()}")


@contextmanager
def listening_unix(path: str | os.PathLike[str]) -> Generator[socket.socket]:
    """Listen at a path for this user alone; a socket that is there and at which nobody listens is replaced.

    Raises:
        OSError: it cannot listen there.
    """
    place = Path(path)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        if place.is_socket():
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
                probe.setblocking(False)  # a listener that stands still, with a full queue, must not hold this one up
                if probe.connect_ex(str(place)) != errno.ECONNREFUSED:
                    raise OSError(errno.EADDRINUSE, "another program listens there", str(place))
            place.unlink()
        umask = os.umask(0o077)  # before it exists: nobody else's, not for a moment
        try:
            listener.bind(str(place))
        finally:
            os.umask(umask)
        listener.listen()
        listener.setblocking(False)
        try:
            yield listener
        finally:
            with suppress(FileNotFoundError):
                place.unlink()
