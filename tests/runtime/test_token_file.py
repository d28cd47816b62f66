"""Tokens read from a file, alone and on the wire (promise C4)."""

from __future__ import annotations

import os
import traceback
from collections.abc import Callable
from pathlib import Path

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuron_anyio.auth import token_file
from neuron_anyio.errors import TransportError
from neuron_anyio.tokens import Credentials

SECRET = "s3cret.TOKEN-value"


@pytest.mark.parametrize("ending", ["", "\n", "\r\n"])
def test_C4_the_final_line_break_of_a_token_file_is_stripped(tmp_path: Path, ending: str) -> None:
    file = tmp_path / "token"
    file.write_bytes((SECRET + ending).encode())
    assert token_file(file)() == SECRET
    assert token_file(str(file))() == SECRET


def test_C4_a_token_file_is_read_again_for_every_request(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("first\n")
    source = token_file(file)
    assert source() == "first"
    file.write_text("second\n")
    assert source() == "second"


def test_C4_a_token_file_may_be_missing_when_the_source_is_made(tmp_path: Path) -> None:
    file = tmp_path / "token"
    source = token_file(file)
    file.write_text("late\n")
    assert source() == "late"


def missing(path: Path) -> None: ...


def folder(path: Path) -> None:
    path.mkdir()


def empty(path: Path) -> None:
    path.write_bytes(b"")


def only_a_line_break(path: Path) -> None:
    path.write_bytes(b"\n")


def two_lines(path: Path) -> None:
    path.write_text(f"{SECRET}\n{SECRET}\n")


def two_final_line_breaks(path: Path) -> None:
    path.write_text(f"{SECRET}\n\n")


def with_a_space(path: Path) -> None:
    path.write_text(f"Bearer {SECRET}")


def with_a_byte_order_mark(path: Path) -> None:
    path.write_bytes(b"\xef\xbb\xbf" + SECRET.encode())


def not_text(path: Path) -> None:
    path.write_bytes(b"\xff\xfe" + SECRET.encode())


def huge(path: Path) -> None:
    path.write_bytes(b"x" * 10_000_000)


BAD: list[tuple[Callable[[Path], None], str]] = [
    (missing, r"cannot be read \(No such file or directory\); check the path"),
    (folder, r"cannot be read \(Is a directory\); check the path"),
    (empty, r"is empty; write the token into it"),
    (only_a_line_break, r"is empty; write the token into it"),
    (two_lines, r"holds a line break.*the token alone, on one line"),
    (two_final_line_breaks, r"holds a line break.*the token alone, on one line"),
    (with_a_space, r"holds a line break.*the token alone, on one line"),
    (with_a_byte_order_mark, r"holds a line break.*the token alone, on one line"),
    (not_text, r"holds a line break.*the token alone, on one line"),
    (huge, r"is too large for a token"),
]


@pytest.mark.parametrize(("make", "message"), BAD, ids=lambda value: getattr(value, "__name__", None))
def test_C4_a_bad_token_file_is_an_error_that_names_file_and_remedy_and_no_token(
    tmp_path: Path, make: Callable[[Path], None], message: str
) -> None:
    file = tmp_path / "token"
    make(file)
    with pytest.raises(ValueError, match=f"^the token file {file} {message}") as caught:
        token_file(file)()
    assert SECRET not in "".join(traceback.format_exception(caught.value))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_C4_a_token_file_of_somebody_else_is_an_error_that_says_so(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(SECRET)
    file.chmod(0)
    with pytest.raises(ValueError, match=r"cannot be read \(Permission denied\)"):
        token_file(file)()


def test_C9_the_repr_of_a_token_file_shows_its_path_and_no_token(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(SECRET)
    assert repr(token_file(file)) == f"token_file('{file}')"


@given(st.binary(min_size=1, max_size=40))
def test_C4_whatever_the_file_holds_the_result_is_a_header_or_an_error(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    file = tmp_path_factory.getbasetemp() / "any-token"
    file.write_bytes(content)
    try:
        token = token_file(file)()
    except ValueError as exc:
        assert str(exc).startswith(f"the token file {file} ")  # noqa: PT017 - either is fine
    else:
        assert token.isascii()
        assert token.isprintable()
        assert " " not in token
        assert content.rstrip(b"\r\n") == token.encode()


@pytest.mark.anyio
async def test_C4_a_transport_sees_a_bad_token_file_as_a_failed_attempt_and_the_next_one_mended(tmp_path: Path) -> None:
    file = tmp_path / "token"
    credentials = Credentials(token_file(file), patience=5)
    with anyio.fail_after(5):
        with pytest.raises(TransportError, match=r"gave no usable token: the token file .* cannot be read"):
            await credentials.get()
        file.write_text("mended\n")
        assert await credentials.get() == "mended"


@pytest.mark.anyio
async def test_C4_a_refused_token_is_not_sent_again_until_the_file_holds_another(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("old\n")
    credentials = Credentials(token_file(file), patience=5)
    with anyio.fail_after(5):
        assert await credentials.renew(await credentials.get()) is None
        file.write_text("new\n")
        assert await credentials.renew("old") == "new"
