"""Tokens read from a file, alone on one line (promise C4)."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from ..tokens import BadToken, checked_token

__all__ = ["token_file", "without_waiting"]

LARGEST_FILE = 64 * 1024
"""Bytes of the longest file that is read: headers end far below, and the path may name a device by mistake."""


def without_waiting(path: str, flags: int) -> int:
    """Open a file without waiting, for `open(opener=)`: a pipe without a writer must not hold up the event loop."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def token_file(path: str | os.PathLike[str]) -> Callable[[], str]:
    """Make a token source that reads a file for every request, so that a rotated token is used at once.

    Nothing is read yet: call the result to see whether the file is good. A file that is not good later on is a failed
    attempt of one request and is read again for the next (promise C4).

    Args:
        path: a file that holds the token alone, on one line; its final line break is stripped.

    Returns:
        What `auth=` takes. Called, it returns the token.

    Raises:
        BadToken: a `ValueError`, raised by the result, not here: the file cannot be read, is empty, or holds more than
            a token. The message names the file and the remedy, never what is in it.
    """
    return _TokenFile(Path(path))


class _TokenFile:
    __slots__ = ("_path",)

    def __init__(self, path: Path) -> None:
        self._path = path

    def __call__(self) -> str:
        # Bytes as characters: a decoder's error would quote what it could not decode.
        text = self._read().decode("latin-1").removesuffix("\n").removesuffix("\r")
        if not text:
            raise BadToken(f"the token file {self._path} is empty; write the token into it")
        if len(text) >= LARGEST_FILE:
            raise BadToken(f"the token file {self._path} is too large for a token; give the file that holds it alone")
        try:
            return checked_token(text)
        except BadToken:
            raise BadToken(
                f"the token file {self._path} holds a line break, a space or another character that a header must not "
                "have; it must hold the token alone, on one line"
            ) from None

    def _read(self) -> bytes:
        try:
            with open(self._path, "rb", opener=without_waiting) as file:
                return file.read(LARGEST_FILE + 2) or b""  # None: a pipe into which nothing was written yet
        except OSError as exc:
            raise BadToken(
                f"the token file {self._path} cannot be read ({exc.strerror or type(exc).__name__}); "
                "check the path and that this user may read it"
            ) from None

    def __repr__(self) -> str:
        return f"token_file({str(self._path)!r})"
