"""The file that keeps a credential: whole or not at all, and its owner's alone."""

from __future__ import annotations

import errno
import logging
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from rich.pretty import pretty_repr

from neuron_anyio.auth import (
    BadCredentialFile,
    Credential,
    default_credential_path,
    read_credential,
    token_file,
    write_credential,
)
from neuron_anyio.auth.credentials import LARGEST_FILE, check_writable

SECRET = "s3cret-of-client"
ONE = Credential("client-1", SECRET, "https://moku.example/t", "https://moku.example")


@pytest.fixture(autouse=True)
def open_umask() -> Iterator[None]:
    """Let the system take nothing from the modes that the package asks for."""
    before = os.umask(0)
    yield
    os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_credential_comes_back_as_it_was_written(tmp_path: Path) -> None:
    other = Credential("ä", '"\\\n', "https://h/t?x=1", "")
    for credential in (ONE, other):
        write_credential(tmp_path / "c.json", credential)
        assert read_credential(tmp_path / "c.json") == credential


def test_the_file_has_the_published_form(tmp_path: Path) -> None:
    write_credential(tmp_path / "c.json", ONE)
    assert (tmp_path / "c.json").read_text() == (
        '{\n  "client_id": "client-1",\n  "client_secret": "s3cret-of-client",\n'
        '  "token_endpoint": "https://moku.example/t",\n  "moku_base_url": "https://moku.example"\n}\n'
    )
    assert default_credential_path() == Path.home() / ".holokai" / "neuron-credentials.json"


def test_a_file_that_is_not_there_is_no_credential(tmp_path: Path) -> None:
    assert read_credential(tmp_path / "none" / "c.json") is None


def test_reference_D43_the_secret_is_in_no_file_that_others_can_open_not_even_for_a_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "c.json"
    path.write_text("old")
    path.chmod(0o644)
    seen: list[tuple[str, int]] = []
    sync = os.fsync

    def look(descriptor: int) -> None:
        seen.extend((one.name, mode(one)) for one in tmp_path.iterdir() if SECRET in one.read_text())
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", look)
    with path.open() as reader:
        write_credential(path, ONE)
        assert reader.read() == "old", "a new file takes the old one's place"
    assert {private for _, private in seen} == {0o600}
    assert len({name for name, _ in seen}) == 2, "under the other name first, and then under its own"
    assert mode(path) == 0o600
    assert [one.name for one in tmp_path.iterdir()] == ["c.json"]


def test_reference_D43_every_folder_that_is_made_is_the_owners_alone(tmp_path: Path) -> None:
    write_credential(tmp_path / "a" / "b" / "c.json", ONE)
    assert mode(tmp_path / "a") == mode(tmp_path / "a" / "b") == 0o700


def test_reference_D43_the_default_folder_is_closed_and_a_shared_one_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    shared = tmp_path / "shared"
    for folder in (shared, tmp_path / ".holokai"):
        folder.mkdir(mode=0o755)
        write_credential(folder / "neuron-credentials.json", ONE)
    assert mode(shared) == 0o755
    assert mode(tmp_path / ".holokai") == 0o700


def test_a_user_without_a_home_may_have_a_credential(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", none)
    write_credential(tmp_path / "c.json", ONE)
    assert read_credential(tmp_path / "c.json") == ONE


@pytest.mark.parametrize("had", [None, "old"])
def test_a_write_that_fails_leaves_what_was_there_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, had: str | None
) -> None:
    path = tmp_path / "c.json"
    if had is not None:
        path.write_text(had)

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_credential(path, ONE)
    assert [one.read_text() for one in tmp_path.iterdir()] == ([] if had is None else [had])


def test_a_link_is_followed(tmp_path: Path) -> None:
    (tmp_path / "vault").mkdir()
    link = tmp_path / "c.json"
    link.symlink_to(tmp_path / "vault" / "real.json")
    write_credential(link, ONE)
    assert link.is_symlink()
    assert read_credential(tmp_path / "vault" / "real.json") == ONE


@pytest.mark.parametrize("bits", [0o640, 0o604, 0o644])
def test_a_file_that_others_can_open_is_read_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, bits: int
) -> None:
    path = tmp_path / "c.json"
    write_credential(path, ONE)
    assert read_credential(path) == ONE
    assert caplog.text == ""
    path.chmod(bits)
    with caplog.at_level(logging.WARNING):
        assert read_credential(path) == ONE
    assert f"(mode {bits:04o}); run: chmod 600 {path}" in caplog.text


WRONG = {
    "empty": (b"", "it is not JSON"),
    "not JSON": (b'{"client_secret": "s3cret-of-client"', "it is not JSON"),
    "not text": (b'{"client_id": "s3cret-of-client\xff"}', "it is not JSON"),
    "half a character": (b'{"client_id": "s3cret-of-client\\ud800"}', "it is not JSON"),
    "a list": (b'["s3cret-of-client"]', "Expected `object`, got `array`"),
    "nested": (b'{"client_id":' + b"[" * 60_000, ""),
    "too large": (b'{"client_id": "' + b"s3cret-of-client" * LARGEST_FILE, "it is not JSON"),
    "a member missing": (b'{"client_id": "s3cret-of-client"}', "missing required field `client_secret`"),
    "a number": (msgspec.json.encode({"client_id": 7, "client_secret": SECRET}), "got `int` - at `$.client_id`"),
    "no URL": (msgspec.json.encode(msgspec.structs.replace(ONE, token_endpoint=SECRET)), "token_endpoint must begin"),
    "a line break in the URL": (
        msgspec.json.encode(msgspec.structs.replace(ONE, token_endpoint=f"https://h/{SECRET}\n")),
        "token_endpoint holds a space",
    ),
    "credentials in the URL": (
        msgspec.json.encode(msgspec.structs.replace(ONE, token_endpoint=f"https://u:{SECRET}@h/")),
        "token_endpoint carries credentials",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_C9_a_file_that_is_no_credential_is_refused_and_not_quoted(tmp_path: Path, name: str) -> None:
    path = tmp_path / "c.json"
    data, rule = WRONG[name]
    path.write_bytes(data)
    path.chmod(0o600)
    with pytest.raises(BadCredentialFile) as caught:
        read_credential(path)
    assert rule in str(caught.value)
    assert str(path) in str(caught.value)
    assert SECRET not in str(caught.value)
    assert caught.value.__cause__ is None


def test_a_folder_in_the_files_place_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadCredentialFile, match="cannot be read"):
        read_credential(tmp_path)
    with pytest.raises(IsADirectoryError):
        check_writable(tmp_path)


def test_members_that_nobody_knows_are_ignored(tmp_path: Path) -> None:
    path = tmp_path / "c.json"
    path.write_bytes(msgspec.json.encode({**msgspec.structs.asdict(ONE), "note": [1]}))
    path.chmod(0o600)
    assert read_credential(path) == ONE


def test_what_can_be_written_is_found_out_without_a_trace(tmp_path: Path) -> None:
    check_writable(tmp_path / "a" / "c.json")
    assert [one.name for one in tmp_path.rglob("*")] == ["a"]
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="directory"):
        check_writable(tmp_path / "file" / "c.json")


def test_C9_no_repr_shows_the_secret() -> None:
    assert SECRET not in f"{ONE} {ONE!r} {pretty_repr(ONE)}"
    assert "client-1" in repr(ONE)


@pytest.mark.parametrize("has_writer", [False, True])
def test_a_pipe_into_which_nobody_writes_is_an_error_and_holds_nobody_up(tmp_path: Path, has_writer: bool) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    end = os.open(pipe, os.O_RDWR) if has_writer else None
    try:
        with pytest.raises(BadCredentialFile, match="it is not JSON"):
            read_credential(pipe)
        with pytest.raises(ValueError, match="is empty"):
            token_file(pipe)()
    finally:
        if end is not None:
            os.close(end)
