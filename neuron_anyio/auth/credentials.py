"""The credential of an enrolled neuron, and the file that keeps it (BigBrain specification, section 9.2)."""

from __future__ import annotations

import logging
import os
import stat
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from ..errors import NeuronError
from ..logs import named
from ._wire import UNREADABLE, checked_url
from .tokenfile import without_waiting

__all__ = [
    "BadCredentialFile",
    "Credential",
    "check_writable",
    "default_credential_path",
    "private_bytes",
    "read_credential",
    "write_credential",
]

LARGEST_FILE = 64 * 1024
"""Bytes of the longest file that is read: credentials and keys end far below, and the path may name a device."""

PRIVATE_FOLDER = 0o700
_OTHERS = stat.S_IRWXG | stat.S_IRWXO

_log = logging.getLogger("neuron_anyio.auth")


class BadCredentialFile(NeuronError):
    """A credential file is there and cannot be used. The message names file, member and rule, never what is in it.

    You get `CredentialRevoked` instead from a token source whose file is missing: the neuron is not enrolled.
    """


class Credential(msgspec.Struct, frozen=True):
    """What an enrolled neuron keeps: an OAuth client, which can be revoked, never a token.

    Attributes:
        client_id: the client's name.
        client_secret: the client's secret; `""` where a key takes its place.
        token_endpoint: URL at which tokens are minted.
        moku_base_url: URL of the server that enrolled the neuron, without a slash at its end.
    """

    client_id: str
    client_secret: str
    token_endpoint: str
    moku_base_url: str

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        """Leave the secret out (promise C9)."""
        return [("client_id", self.client_id), ("token_endpoint", self.token_endpoint)]

    def __repr__(self) -> str:
        return f"Credential({', '.join(f'{name}={value!r}' for name, value in self.__rich_repr__())})"


def default_credential_path() -> Path:
    """Return where a credential is kept unless somebody says otherwise: `~/.holokai/neuron-credentials.json`."""
    return Path.home() / ".holokai" / "neuron-credentials.json"


def read_credential(path: str | os.PathLike[str]) -> Credential | None:
    """Read a credential file. One that others than its owner can open is a warning in the log.

    Returns:
        The credential; None where there is no file.

    Raises:
        BadCredentialFile: it cannot be read, or is not a credential.
    """
    try:
        data = private_bytes(path, "the credential file")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as exc:
        raise BadCredentialFile(
            f"the credential file {path} cannot be read ({_why(exc)}); check the path and that this user may read it"
        ) from None
    try:
        credential = msgspec.json.decode(data, type=Credential)
        checked_url(credential.token_endpoint, "token_endpoint")
    except msgspec.ValidationError as exc:
        rule = str(exc)
    except UNREADABLE:
        rule = "it is not JSON"  # the decoder's own words may quote what it could not decode
    except ValueError as exc:
        rule = str(exc)
    else:
        return credential
    raise BadCredentialFile(
        f"the credential file {path} is not a credential: {rule}; mend it, or delete it and enrol again"
    )


def private_bytes(path: str | os.PathLike[str], what: str) -> bytes:
    """Read a file that is its owner's alone; warn where it is not.

    A mounted secret is often readable by its group, so that others may open it is no reason to refuse it.

    Raises:
        OSError: it cannot be read.
    """
    with open(path, "rb", opener=without_waiting) as file:
        mode = os.fstat(file.fileno()).st_mode
        if stat.S_ISREG(mode) and mode & _OTHERS:
            _log.warning(
                "%s %s can be opened by other users (mode %04o); run: chmod 600 %s",
                what,
                path,
                stat.S_IMODE(mode),
                path,
                extra=named("secret.is_open", path=str(path)),
            )
        return file.read(LARGEST_FILE) or b""  # None: a pipe into which nothing was written yet


def write_credential(path: str | os.PathLike[str], credential: Credential) -> None:
    """Write a credential file: whole or not at all, and readable by its owner alone from its first byte on.

    Missing folders are made, each with mode 0700, and the default folder is closed to others if it was open. Other
    folders are left as they are: they may be everybody's. A link is followed.

    Raises:
        OSError: it cannot be written; what was there before is untouched.
    """
    target = Path(os.path.realpath(path))
    _make_folders(target.parent)
    data = msgspec.json.format(msgspec.json.encode(credential), indent=2) + b"\n"
    descriptor, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)  # mode 0600, and not followed
    try:
        with open(descriptor, "wb") as file:  # noqa: PTH123 - a descriptor, not a path
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(target)
    except BaseException:  # an interrupt, too, must not leave the secret behind
        with suppress(OSError):
            Path(name).unlink()
        raise
    _sync_folder(target.parent)


def check_writable(path: str | os.PathLike[str]) -> None:
    """Find out whether a credential file could be written, before a credential is given out that comes only once.

    Raises:
        OSError: it could not.
    """
    target = Path(os.path.realpath(path))
    if target.is_dir():
        raise IsADirectoryError(21, "it is a folder")
    _make_folders(target.parent)
    descriptor, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    os.close(descriptor)
    Path(name).unlink()


def _make_folders(folder: Path) -> None:
    missing = [one for one in (folder, *folder.parents) if not one.exists()]
    for one in reversed(missing):
        one.mkdir(mode=PRIVATE_FOLDER, exist_ok=True)
    if _is_default(folder) and (mode := stat.S_IMODE(folder.stat().st_mode)) & _OTHERS:
        folder.chmod(mode & ~_OTHERS)


def _is_default(folder: Path) -> bool:
    try:
        return folder == Path(os.path.realpath(default_credential_path().parent))
    except RuntimeError:  # a user without a home, as containers have them
        return False


def _sync_folder(folder: Path) -> None:
    """Make the new name last over a power cut. Some file systems cannot, and the file is good all the same."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _why(error: OSError) -> str:
    return error.strerror or type(error).__name__
