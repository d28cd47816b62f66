"""Whether bytes are UTF-8, without holding their text."""

from __future__ import annotations

from codecs import utf_8_decode

__all__ = ["is_utf_8"]

PIECE = 65_536
"""Bytes that are looked at together: their text stays in the processor's cache, that of a large frame would be memory
that is touched for the first time."""


def is_utf_8(data: bytes) -> bool:
    """Tell whether a decoder would take the bytes."""
    if data.isascii():
        return True
    at, end = 0, len(data)
    try:
        while at < end:
            piece = data[at : at + PIECE]
            at += len(piece) if piece.isascii() else utf_8_decode(piece, "strict", at + PIECE >= end)[1]
    except UnicodeDecodeError:
        return False
    return True
