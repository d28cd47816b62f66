"""Whether bytes are UTF-8, against Python's own decoder."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuron_anyio import utf_8
from neuron_anyio.utf_8 import PIECE, is_utf_8

PIECES = [
    b"a",
    b"abcd",
    "é".encode(),
    "€".encode(),
    "😀".encode(),
    b"\xf0\x9f",
    b"\x98\x80",
    b"\xff",
    b"\xed\xa0\x80",
    b"\xc3",
]


def decodes(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


@given(st.lists(st.sampled_from(PIECES)).map(b"".join) | st.binary(), st.integers(4, 9))
def test_bytes_are_utf_8_where_the_decoder_takes_them_wherever_they_are_cut(data: bytes, piece: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(utf_8, "PIECE", piece)
        assert is_utf_8(data) == decodes(data)


@pytest.mark.parametrize("letter", ["é", "€", "😀"])
@pytest.mark.parametrize("before", range(5))
def test_a_letter_across_the_edge_of_a_piece_is_whole(letter: str, before: int) -> None:
    text = b"x" * (PIECE - before) + letter.encode()
    assert is_utf_8(text)
    assert is_utf_8(text + b"x" * PIECE)
    assert not is_utf_8(text[:-1])
    assert not is_utf_8(text[:-1] + b"x" * PIECE)
