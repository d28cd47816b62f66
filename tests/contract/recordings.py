"""Recorded sessions: what a gateway said and a neuron asked, and a gateway that says it again."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import msgspec

from tests.runtime.http_gateway import HttpGateway, http_reply

__all__ = ["Recording", "Replay", "normalised"]

FOLDER = Path(__file__).parent.parent / "vectors" / "bigbrain" / "exchanges"
OF_THE_MOMENT = ("sentAt", "completedAt", "failedAt", "startedAt", "reason", "details")


class Recording(msgspec.Struct):
    """One session in its order.

    Attributes:
        requests: what the neuron of the recording sent.
        steps: lines of the recording, without the first and the last.
    """

    requests: list[dict[str, Any]]
    steps: list[dict[str, Any]]

    @classmethod
    def load(cls, name: str) -> Recording:
        (file,) = FOLDER.glob(f"{name}*.jsonl")
        lines = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
        steps = [line for line in lines if line["kind"] not in ("meta", "sdk-events")]
        return cls([step for step in steps if step["kind"] == "request"], steps)

    @property
    def frames(self) -> list[dict[str, Any]]:
        return [json.loads(request["body"]) for request in self.requests if request["body"]]

    def of(self, *types: str) -> list[dict[str, Any]]:
        return [frame for frame in self.frames if frame["type"] in types]

    @property
    def targets(self) -> list[str]:
        return [f"{request['method']} {request['path']}" for request in self.requests]

    @property
    def tokens(self) -> list[str]:
        """Tokens of the requests in order, `<token-1>` as `token-1`."""
        found = (dict(request["headers"])["Authorization"] for request in self.requests)
        return [value.removeprefix("Bearer <").removesuffix(">") for value in found]


def normalised(frame: dict[str, Any]) -> dict[str, Any]:
    """Leave out what differs from run to run, and wording."""
    return {name: value for name, value in frame.items() if name not in OF_THE_MOMENT}


class Replay(HttpGateway):
    """Plays the gateway's side of a recording; a part of the stream waits for what the neuron had said before it."""

    def __init__(self, recording: Recording) -> None:
        super().__init__(register=False)
        self._stream_steps: list[tuple[dict[str, Any], list[dict[str, Any]]]] = []
        before: list[dict[str, Any]] = []
        for step in recording.steps:
            if step["kind"] == "request":
                before = [*before, json.loads(step["body"]) if step["body"] else {"type": "GET"}]
            elif step["kind"] == "response":
                self._note_response(step)
            else:
                self._stream_steps.append((step, before))

    def _note_response(self, step: dict[str, Any]) -> None:
        is_stream = step["method"] == "GET" and step["status"] == 200
        kind = dict(step["headers"]).get("Content-Type", "text/plain")
        raw = self.stream if is_stream else http_reply(step["status"], step["body"].encode(), content_type=kind)
        if step["method"] == "GET":
            self.stream_replies.append(raw)
        else:
            self.replies.setdefault(step["path"].rpartition("/")[2], []).append(raw)

    @property
    def left(self) -> int:
        """Parts of the stream that are still to be played."""
        return len(self._stream_steps)

    async def play(self, count: int | None = None) -> None:
        """Play so many parts of the stream, or the rest."""
        for _ in range(self.left if count is None else count):
            step, before = self._stream_steps.pop(0)
            await self.wait_for(partial(self._may_go_on, before))
            if step["kind"] == "sse-close":
                self.end_stream(cut=step["abort"])
            else:
                self.write(self._bytes_of(step["body"]))

    def _may_go_on(self, before: list[dict[str, Any]]) -> bool:
        return self._sink is not None and self._has_said(before)

    def _has_said(self, frames: list[dict[str, Any]]) -> bool:
        """Return whether the neuron has come as far: as many streams, registers and updates, the leases settled."""
        counted = [frame["type"] for frame in frames if frame["type"] in ("GET", "register", "update-capability")]
        settled = {frame["leaseId"] for frame in frames if frame["type"] in ("ack", "nack")}
        return (
            len(self.gets) >= counted.count("GET")
            and len(self.posted("register")) >= counted.count("register")
            and len(self.posted("update-capability")) >= counted.count("update-capability")
            and settled <= {frame["leaseId"] for frame in self.posted("ack", "nack")}
        )

    @staticmethod
    def _bytes_of(text: str) -> bytes:
        # Where a chunk ended within a character the recording has replacement characters.
        data = text.encode()
        hole = "\ufffd".encode()
        if data.endswith(hole):
            data = data.removesuffix(hole) + b"\xc3"
        if data.startswith(hole):
            data = b"\xa9" + data.removeprefix(hole)
        return data

    async def settled(self, *lease_ids: str) -> dict[str, dict[str, Any]]:
        """Wait until these leases are settled; return the first ack or nack of each."""
        found: dict[str, dict[str, Any]] = {}
        for lease_id in lease_ids:
            found[lease_id] = await self.wait_result(lease_id)
        return found

    async def said_all(self) -> None:
        """Give the neuron a moment to say what it should not."""
        for _ in range(50):
            await anyio.lowlevel.checkpoint()
