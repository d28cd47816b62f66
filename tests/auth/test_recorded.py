"""The recorded exchanges a* (enrolment) and b* (minting): the same requests to the same replies, and where we differ.

Where the published SDK's outcome is a defect, the table says what a better neuron does instead.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

from neuron_anyio import CredentialRevoked, NeuronError
from neuron_anyio.auth import ClientCredentials, Credential, Enrollment, EnrollmentFailed, TokenRequestFailed, enroll
from neuron_anyio.auth import write_credential as write
from tests.auth.server import TOKEN, reply
from tests.auth.support import Clock, Shown
from tests.runtime.http1_server import Peer, Received, serving

pytestmark = pytest.mark.anyio

FOLDER = Path(__file__).parent.parent / "vectors" / "bigbrain" / "exchanges"


class Replay:
    """Plays the server's side of a recording; what is asked beyond it gets the last reply again.

    Attributes:
        asked: method, path and body of each request.
        expected: the same of the recording.
        result: how the recording ended.
    """

    def __init__(self, name: str) -> None:
        text = (FOLDER / f"{name}.jsonl").read_text(encoding="utf-8")
        self._lines = [json.loads(line) for line in text.splitlines()]
        self.url = ""
        self.asked: list[tuple[str, str, str]] = []
        self.expected = [
            (line["method"], line["path"], line["body"] or "") for line in self._lines if line["kind"] == "request"
        ]
        self.result: Any = next(line["result"] for line in self._lines if line["kind"] == "result")

    def there(self, text: str) -> str:
        """Put this run's address in the recording's place."""
        return text.replace("http://127.0.0.1:PORT", self.url)

    async def handle(self, peer: Peer) -> None:
        while True:
            request = await peer.request()
            await peer.send(self._next(request))

    def _next(self, request: Received) -> bytes:
        replies = [line for line in self._lines if line["kind"] == "response"]
        step = replies[min(len(self.asked), len(replies) - 1)]
        self.asked.append((request.method, request.target, request.body.decode()))
        body = None if step["body"] is None else self.there(step["body"]).encode()
        return reply(step["status"], body, kind=dict(step["headers"]).get("Content-Type"))


@asynccontextmanager
async def replay(name: str) -> AsyncGenerator[Replay]:
    played = Replay(name)
    async with serving(played.handle) as server:
        played.url = server.origin
        yield played


class Pauses(list[float]):
    """Pass as `sleep`."""

    async def __call__(self, seconds: float) -> None:
        self.append(seconds)
        assert len(self) < 20
        await anyio.lowlevel.checkpoint()


ENROLMENTS = {
    "a1-enroll-ok": "",
    "a2-enroll-discovery": "",
    "a3-enroll-denied": "access_denied",
    "a4-enroll-expired": "expired_token",
    "a5-enroll-invalid-grant": "invalid_grant",
    "a7-enroll-no-credential": "invalid_response",
    "a8-device-500": "device_request_failed",
    "a9-device-incomplete": "invalid_response",
    "a10-device-nonjson": "invalid_response",  # the published SDK lets the decoder's error out
    "a11-expires-0": "expired_token",
    "a12-interval-missing": "",
}


@pytest.mark.parametrize("name", ENROLMENTS)
async def test_an_enrolment_asks_and_ends_as_recorded(tmp_path: Path, name: str) -> None:
    code = ENROLMENTS[name]
    async with replay(name) as played:
        capabilities = ["examples/http.fetch", "examples/web.search"] if name.startswith("a1-") else []
        path, pauses, shown = tmp_path / "a" / "b" / "cred.json", Pauses(), Shown()
        failed: EnrollmentFailed | None = None
        done: Enrollment | None = None
        try:
            done = await enroll(
                played.url + "/",
                name="my neuron",
                hostname="host-1",
                capabilities=capabilities,
                credentials_file=path,
                on_approval=shown,
                sleep=pauses,
            )
        except EnrollmentFailed as exc:
            failed = exc
        if failed is not None:
            assert failed.code == code == (played.result["code"] or played.result["oauth_error"] or "invalid_response")
            assert not path.exists()
        if done is not None:
            assert (done.status, done.client_id) == (played.result["status"], played.result["client_id"])
            assert path.read_text() == played.there(played.result["file"])
            assert oct(path.stat().st_mode & 0o777) == played.result["file_mode"]
            assert oct(path.parent.stat().st_mode & 0o777) == played.result["dir_mode"]
            assert code == ""
        assert played.asked == played.expected
        assert pauses == played.result["slept"]
        lines = played.result["lines"]
        assert bool(shown) == bool(lines)
        for approval in shown:
            page = approval.verification_uri_complete or approval.verification_uri
            assert (page, approval.user_code) == (played.there(lines[1]).strip(), lines[2].rpartition(" ")[2])


async def test_too_many_requests_end_no_enrolment_as_they_do_in_recording_a6(tmp_path: Path) -> None:
    async with replay("a6-enroll-429") as played:

        class Enough(Exception): ...

        class Three(Pauses):
            async def __call__(self, seconds: float) -> None:
                await super().__call__(seconds)
                if len(self) == 3:
                    raise Enough

        with pytest.raises(Enough):
            await enroll(
                played.url,
                name="my neuron",
                hostname="host-1",
                credentials_file=tmp_path / "c.json",
                on_approval=Shown(),
                sleep=Three(),
            )
        assert played.asked == [*played.expected, played.expected[-1]]


def source_of(played: Replay, folder: Path, clock: Clock | None = None, *, secret: str = "mkc_1") -> ClientCredentials:
    path = folder / "cred.json"
    write(path, Credential("c-1", secret, played.url + TOKEN, played.url))
    return ClientCredentials(path, clock=clock or Clock())


@pytest.mark.parametrize("name", ["b1-mint-cache", "b2-mint-short-lived"])
async def test_a_token_is_kept_for_as_long_as_recorded(tmp_path: Path, name: str) -> None:
    async with replay(name) as played:
        clock = Clock()
        source = source_of(played, tmp_path, clock)
        for now, token, mints in played.result:
            clock.now = now
            assert await source.token() == token
            assert len(played.asked) == mints
        assert played.asked == played.expected


async def together(source: ClientCredentials, count: int) -> list[Any]:
    got: list[Any] = []

    async def call() -> None:
        try:
            got.append(await source.token())
        except NeuronError as exc:
            got.append(type(exc))

    async with anyio.create_task_group() as group:
        for _ in range(count):
            group.start_soon(call)
    return got


async def test_five_callers_share_a_mint_as_in_recording_b3(tmp_path: Path) -> None:
    async with replay("b3-single-flight") as played:
        assert await together(source_of(played, tmp_path), 5) == played.result["tokens"]
        assert played.asked == played.expected


async def test_five_callers_share_a_failure_which_in_recording_b4_they_do_not(tmp_path: Path) -> None:
    async with replay("b4-single-flight-failing") as played:
        assert await together(source_of(played, tmp_path), 5) == [TokenRequestFailed] * 5
        assert played.asked == played.expected[:1]


async def test_a_rotated_secret_is_used_as_in_recording_b5(tmp_path: Path) -> None:
    async with replay("b5-rotated-secret") as played:
        source = source_of(played, tmp_path)
        first = await source.token()
        source_of(played, tmp_path, secret="mkc_2")
        assert [first, await source.token(refused=first)] == played.result
        assert played.asked == played.expected


async def test_reference_D33_a_revoked_credential_is_sent_once_and_not_each_time_as_in_recording_b6(
    tmp_path: Path,
) -> None:
    async with replay("b6-revoked") as played:
        source = source_of(played, tmp_path)
        for _ in played.result["out"]:
            with pytest.raises(CredentialRevoked):
                await source.token()
        assert played.asked == played.expected[:1]


async def test_without_a_file_nothing_is_asked_as_in_recording_b7(tmp_path: Path) -> None:
    async with replay("b7-no-file") as played:
        assert played.result["raised"] == "CredentialRevokedError"
        with pytest.raises(CredentialRevoked):
            await ClientCredentials(tmp_path / "none.json").token()
        assert played.asked == played.expected == []


@pytest.mark.parametrize("number", range(5))
async def test_a_reply_that_is_no_token_is_refused_two_of_which_recording_b8_takes(tmp_path: Path, number: int) -> None:
    async with replay(f"b8-{number}-token-response") as played:
        with pytest.raises(TokenRequestFailed) as caught:
            await source_of(played, tmp_path).token()
        assert caught.value.code == "invalid_response"
        assert played.asked == played.expected
        assert isinstance(played.result, str) is (number >= 3), "those that the published SDK takes"


async def test_an_enrolment_with_a_credential_that_mints_ends_there_as_in_recording_b9(tmp_path: Path) -> None:
    async with replay("b9-already-enrolled") as played:
        source_of(played, tmp_path)
        done = await enroll(
            played.url, name="n", credentials_file=tmp_path / "cred.json", on_approval=Shown(), sleep=Pauses()
        )
        assert [done.status, done.client_id] == played.result[:2]
        assert played.asked == played.expected


async def test_an_enrolment_ends_where_the_credential_cannot_be_tried_as_in_recording_b10(tmp_path: Path) -> None:
    async with replay("b10-existing-5xx") as played:
        source_of(played, tmp_path)
        with pytest.raises(EnrollmentFailed) as caught:
            await enroll(
                played.url, name="n", credentials_file=tmp_path / "cred.json", on_approval=Shown(), sleep=Pauses()
            )
        assert caught.value.code == played.result["code"]
        assert played.asked == played.expected


def test_every_recording_of_enrolment_and_minting_is_a_test() -> None:
    text = Path(__file__).read_text(encoding="utf-8")
    names = [path.stem for path in FOLDER.glob("[ab]*.jsonl")]
    assert len(names) == 26
    assert not [name for name in names if f'"{name}"' not in text and not name.startswith("b8-")]
