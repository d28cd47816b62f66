"""The vectors of frames: what is valid survives, what is invalid is refused, what is ambiguous does no harm."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from neuron_anyio import frames
from neuron_anyio.codec import decode_neuron_frame, decode_server_frame, encode_frame
from neuron_anyio.errors import FrameError

VECTORS = Path(__file__).parent.parent / "vectors" / "bigbrain"
FREE = {"input", "output", "details", "data", "metadata", "inputSchema", "outputSchema"}

# The reference's own model refuses what the reference sends; a reader takes it as null (section 2.2).
ACCEPTED_ALL_THE_SAME = {"ack-missing-output"}


def vectors(kind: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (VECTORS / kind / "index.jsonl").read_bytes().splitlines()]


def body(vector: dict[str, Any], kind: str) -> bytes:
    return VECTORS.joinpath(kind, vector["file"]).read_bytes()


def named(vector: dict[str, Any]) -> str:
    return str(vector["name"])


def decoder(direction: str) -> Callable[..., frames.Frame]:
    return {"neuron->server": decode_neuron_frame, "server->neuron": decode_server_frame}[direction]


def meaning(document: Any, member: str = "") -> Any:
    """Reduce a document to what it says: no null members, points in time instead of their texts."""
    if member in FREE:
        return document
    if isinstance(document, dict):
        said = {name: meaning(value, name) for name, value in document.items() if value is not None or name == "input"}
        if document.get("type") == "ack":
            said.setdefault("output", None)
        return said
    if isinstance(document, list):
        return [meaning(item) for item in document]
    return datetime.fromisoformat(document) if member.endswith("At") else document


class TestVectors:
    @pytest.mark.parametrize("strict", [False, True], ids=["tolerant", "strict"])
    @pytest.mark.parametrize("vector", vectors("valid"), ids=named)
    def test_what_is_valid_survives_decode_and_encode(self, vector: dict[str, Any], strict: bool) -> None:
        data = body(vector, "valid")
        frame = decoder(vector["direction"])(data, strict=strict)
        assert frame.type == vector["frame_type"]
        again = json.loads(encode_frame(frame))
        assert meaning(again) == meaning(json.loads(data))
        if "reference_normalised" in vector:
            assert meaning(again) == meaning(json.loads(vector["reference_normalised"]))

    @pytest.mark.parametrize("vector", vectors("valid"), ids=named)
    def test_every_kind_of_buffer_gives_the_same_frame(self, vector: dict[str, Any]) -> None:
        data = body(vector, "valid")
        decode = decoder(vector["direction"])
        assert decode(bytearray(data)) == decode(memoryview(data)) == decode(data.decode()) == decode(data)

    @pytest.mark.parametrize("vector", vectors("invalid"), ids=named)
    def test_what_is_invalid_raises_frame_error(self, vector: dict[str, Any]) -> None:
        data = body(vector, "invalid")
        decode = decoder(vector["direction"])
        if vector["strict_only"]:
            assert decode(data).type == vector["frame_type"]
            with pytest.raises(FrameError, match="unknown to the specification"):
                decode(data, strict=True)
        elif vector["name"] in ACCEPTED_ALL_THE_SAME:
            decode(data, strict=True)
        else:
            for strict in (False, True):
                with pytest.raises(FrameError):
                    decode(data, strict=strict)

    @pytest.mark.parametrize("vector", vectors("ambiguous"), ids=named)
    def test_what_is_ambiguous_gives_a_frame_or_frame_error(self, vector: dict[str, Any]) -> None:
        data = body(vector, "ambiguous")
        for strict in (False, True):
            try:
                frame = decoder(vector["direction"])(data, strict=strict)
            except FrameError:
                continue
            assert frame.type == vector["frame_type"]

    def test_the_index_and_the_files_say_the_same(self) -> None:
        for kind in ("valid", "invalid", "ambiguous"):
            for vector in vectors(kind):
                assert body(vector, kind).decode() == vector["body"]
