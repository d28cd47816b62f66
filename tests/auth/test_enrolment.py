"""The device flow: what is asked, shown, waited for and written, and every way in which it fails (section 9.2)."""

from __future__ import annotations

import logging
import socket
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest

from neuron_anyio.auth import (
    Approval,
    Credential,
    Enrollment,
    EnrollmentFailed,
    client_credentials,
    enroll,
    read_credential,
    write_credential,
)
from tests.auth.server import DEVICE, GRANT, SECRETS, TOKEN, WELL_KNOWN, AuthServer, Raw, auth_server, error, reply
from tests.auth.support import Shown, files_in, no_secret_in, stored
from tests.runtime.http1_server import Peer, hang

pytestmark = pytest.mark.anyio


class Pauses(list[float]):
    """Pass as `sleep`: takes no time, and approves before the poll after so many."""

    def __init__(self, server: AuthServer, approve_after: int | None = 0) -> None:
        super().__init__()
        self._server = server
        self._approve_after = approve_after

    async def __call__(self, seconds: float) -> None:
        if len(self) == self._approve_after:
            self._server.verdict = "approved"
        self.append(seconds)
        await anyio.lowlevel.checkpoint()


async def enrolled(server: AuthServer, folder: Path, **options: Any) -> tuple[Enrollment, Shown, Pauses]:
    shown, pauses = Shown(), options.pop("sleep", None) or Pauses(server)
    arguments = {"name": "my neuron", "on_approval": shown, "credentials_file": folder / "c.json", "sleep": pauses}
    with anyio.fail_after(10):
        return await enroll(server.url, **{**arguments, **options}), shown, pauses


async def fails(server: AuthServer, folder: Path, code: str, **options: Any) -> str:
    """See that it fails with this code and leaves no file; return what it says."""
    with pytest.raises(EnrollmentFailed) as caught:
        await enrolled(server, folder, **options)
    assert caught.value.code == code, caught.value
    no_secret_in(caught.value)
    assert not [name for name in files_in(folder) if "json" in name]
    return str(caught.value)


async def test_a_neuron_is_enrolled_and_mints(tmp_path: Path) -> None:
    async with auth_server() as server:
        result, shown, pauses = await enrolled(
            server, tmp_path, hostname="host-1", capabilities=["examples/a", "examples/b"]
        )
        path = tmp_path / "c.json"
        assert result == Enrollment("enrolled", "client-new", path)
        assert read_credential(path) == Credential(
            "client-new", server.clients["client-new"], server.url + TOKEN, server.url
        )
        assert [one.target for one in server.requests] == [WELL_KNOWN, DEVICE, TOKEN]
        assert server.forms(DEVICE) == [
            {"client_name": "my neuron", "hostname": "host-1", "capability_types": "examples/a,examples/b"}
        ]
        assert server.forms() == [{"grant_type": GRANT, "device_code": SECRETS[1]}]
        (approval,) = shown
        page = server.url + "/activate"
        assert approval == Approval(page, SECRETS[2], f"{page}?user_code={SECRETS[2]}", 900)
        assert pauses == [1.0]
        assert await client_credentials(path).token() in server.tokens


async def test_without_hints_the_host_is_named_and_capabilities_are_not(tmp_path: Path) -> None:
    async with auth_server() as server:
        await enrolled(server, tmp_path)
        assert server.forms(DEVICE) == [{"client_name": "my neuron", "hostname": socket.gethostname()}]


async def test_the_metadatas_endpoints_are_used_and_kept(tmp_path: Path) -> None:
    async with auth_server("/moku") as server:
        server.metadata = {"token_endpoint": "/moku/o/token", "device_authorization_endpoint": "o/device"}
        await enrolled(server, tmp_path)
        kept = read_credential(tmp_path / "c.json")
        assert kept is not None
        assert (kept.token_endpoint, kept.moku_base_url) == (server.url + "/o/token", server.url)
        assert len(server.forms("/o/device")) == len(server.forms("/o/token")) == 1


async def test_what_passes_is_waited_for_and_slow_down_makes_slower(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with auth_server() as server:
        server.device = {"interval": 2}
        server.scripted[TOKEN] = [
            error("authorization_pending"),
            error("slow_down"),
            error("race", 409),
            reply(503),
            reply(429, b"later", "Retry-After: 20"),
            reply(502, b" " * 100_000),
            error("slow_down"),
            error("authorization_pending"),
        ]
        _, _, pauses = await enrolled(server, tmp_path, sleep=Pauses(server, 8))
        assert pauses == [2, 2, 7, 7, 7, 20, 7, 12, 12]
        assert "503; asking again in 7 s" in caplog.text
        no_secret_in(caplog.text)


async def test_after_a_time_out_and_a_reset_fewer_polls_are_made(tmp_path: Path) -> None:
    async def leave(peer: Peer) -> None: ...

    async with auth_server() as server:
        server.scripted[TOKEN] = [hang, leave, b"SSH-2.0\r\n\r\n"]
        _, _, pauses = await enrolled(server, tmp_path, sleep=Pauses(server, 3), timeout=0.3)
        assert pauses == [1, 6, 11, 16]


@pytest.mark.parametrize(
    ("said", "expected"), [(None, 5), (0, 1), (-7, 1), (7.5, 7.5), (1e9, 60), ("3", 5), (True, 5), ([], 5)]
)
async def test_the_servers_interval_is_kept_to_within_reason(tmp_path: Path, said: Any, expected: float) -> None:
    async with auth_server() as server:
        server.device = {"interval": said}
        _, _, pauses = await enrolled(server, tmp_path)
        assert pauses == [expected]


ENDS = {
    "denied": (error("access_denied"), "access_denied", "the administrator has denied this neuron"),
    "expired": (error("expired_token"), "expired_token", "nobody has approved this neuron in time; enrol again"),
    "invalid_grant": (error("invalid_grant", 400, "bad code"), "invalid_grant", "400: invalid_grant: bad code; enrol"),
    "quoted": (error("invalid_grant", 400, "no dev1ce-code"), "invalid_grant", "invalid_grant: no [secret]; enrol"),
    "redirect": (reply(302, None, "Location: /login"), "http_302", "redirects are not followed"),
    "another 4xx": (reply(418), "http_418", "418; enrol again"),
    "no credential": (
        reply(200, {"access_token": "minted-token", "expires_in": 9}),
        "invalid_response",
        "missing required field `client_id`",
    ),
    "an empty secret": (reply(200, {"client_id": "c", "client_secret": ""}), "invalid_response", "$.client_secret"),
    "a page": (reply(200, b"<html>s3cret-of-client", kind="text/html"), "invalid_response", "not JSON but text/html"),
    "huge": (reply(200, b" " * 100_000), "invalid_response", "longer than 64 KiB"),
}


@pytest.mark.parametrize("name", ENDS)
async def test_what_ends_the_polls_says_why(tmp_path: Path, name: str) -> None:
    raw, code, text = ENDS[name]
    async with auth_server() as server:
        server.scripted[TOKEN] = [raw]
        assert text in await fails(server, tmp_path, code)
        assert server.polls == 1


REFUSED: dict[str, tuple[Raw, str, str]] = {
    "an error": (reply(500, b"boom", kind="text/plain"), "device_request_failed", "no device code: POST "),
    "a code": (error("access_denied", 403, "not here"), "device_request_failed", "403: access_denied: not here"),
    "a redirect": (reply(302, None, "Location: https://x.example/"), "device_request_failed", "redirects are not"),
    "incomplete": (reply(200, {"device_code": "x"}), "invalid_response", "missing required field `user_code`"),
    "a page": (reply(200, b"<html>", kind="text/html"), "invalid_response", "is not JSON but text/html; check the ser"),
    "nobody": (b"", "unreachable", ""),
    "silent": (hang, "unreachable", "timed out after 0.3 s"),
}


@pytest.mark.parametrize("name", REFUSED)
async def test_without_a_device_code_nothing_is_shown(tmp_path: Path, name: str) -> None:
    raw, code, text = REFUSED[name]

    async def leave(peer: Peer) -> None: ...

    async with auth_server() as server:
        server.scripted[DEVICE] = [raw] if raw else [leave, leave]  # a kept connection is tried anew once
        shown = Shown()
        said = await fails(server, tmp_path, code, timeout=0.3, on_approval=shown)
        assert text in said
        assert f"{server.url}{DEVICE}" in said
        assert shown == []


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("device_code", ""),
        ("user_code", 1),
        ("user_code", "\x1b[2J"),
        ("verification_uri", "https://h/\x07"),
        ("expires_in", "900"),
        ("expires_in", True),
        ("expires_in", None),
    ],
)
async def test_a_device_reply_that_cannot_be_shown_or_read_is_refused(
    tmp_path: Path, member: str, value: object
) -> None:
    async with auth_server() as server:
        server.device = {member: value}
        assert member in await fails(server, tmp_path, "invalid_response")


async def test_no_administrator_is_waited_for_longer_than_a_day(tmp_path: Path) -> None:
    async with auth_server() as server:
        server.device = {"expires_in": 1e300}
        _, shown, _ = await enrolled(server, tmp_path)
        assert shown[0].expires_in == 86_400


async def test_the_page_with_the_code_in_it_is_optional(tmp_path: Path) -> None:
    async with auth_server() as server:
        server.device = {"verification_uri_complete": "\x1b[2J"}
        _, shown, _ = await enrolled(server, tmp_path)
        assert shown[0].verification_uri_complete is None


@pytest.mark.parametrize("life", [0, -1])
async def test_a_code_without_time_left_is_not_polled_for(tmp_path: Path, life: float) -> None:
    async with auth_server() as server:
        server.device = {"expires_in": life}
        await fails(server, tmp_path, "expired_token")
        assert server.polls == 0


async def test_the_last_poll_is_made_when_the_time_is_over(tmp_path: Path) -> None:
    async with auth_server() as server:
        server.device = {"expires_in": 0.2, "interval": 5}
        with anyio.fail_after(3):
            await fails(server, tmp_path, "expired_token", sleep=anyio.sleep)
        assert server.polls == 1


async def test_who_is_enrolled_already_is_not_enrolled_again(tmp_path: Path) -> None:
    async with auth_server() as server:
        path = stored(server, tmp_path)
        before = path.read_bytes()
        result, shown, _ = await enrolled(server, tmp_path, credentials_file=path)
        assert result == Enrollment("already-enrolled", "client-1", path)
        assert shown == []
        assert path.read_bytes() == before
        assert server.mints == len(server.requests) == 1


async def test_a_credential_of_another_server_is_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with auth_server() as server:
        path = tmp_path / "c.json"
        other = Credential("client-1", server.add_client(), server.url + TOKEN, "https://other.example")
        write_credential(path, other)
        await enrolled(server, tmp_path)
        assert "is from https://other.example, not from" in caplog.text


async def test_a_revoked_credential_is_replaced(tmp_path: Path) -> None:
    async with auth_server() as server:
        path = stored(server, tmp_path, secret="s3cret-of-client-gone")
        result, _, _ = await enrolled(server, tmp_path, credentials_file=path)
        assert result.status == "enrolled"
        assert await client_credentials(path).token() in server.tokens


async def test_a_credential_that_cannot_be_tried_is_not_given_up(tmp_path: Path) -> None:
    async with auth_server() as server:
        path = stored(server, tmp_path)
        before = path.read_bytes()
        server.scripted[TOKEN] = [reply(500)]
        with pytest.raises(EnrollmentFailed, match=r"could not be tried: .*: 500; try again, or delete it") as caught:
            await enrolled(server, tmp_path, credentials_file=path)
        assert caught.value.code == "http_500"
        path.write_bytes(b"{")
        with pytest.raises(EnrollmentFailed, match="is not a credential") as caught:
            await enrolled(server, tmp_path, credentials_file=path)
        assert caught.value.code == "credential_file"
        assert path.read_bytes() == b"{" != before


async def test_a_place_that_cannot_be_written_is_found_out_before_anything_is_asked(tmp_path: Path) -> None:
    async with auth_server() as server:
        (tmp_path / "file").write_text("")
        said = await fails(server, tmp_path, "credential_not_written", credentials_file=tmp_path / "file" / "c.json")
        assert str(tmp_path / "file" / "c.json") in said
        assert server.requests == []


async def test_a_place_that_is_gone_when_the_credential_comes_is_told_with_the_clients_name(tmp_path: Path) -> None:
    async with auth_server() as server:
        folder = tmp_path / "a"

        def spoil(_: Approval) -> None:
            folder.rmdir()
            folder.write_text("")

        said = await fails(
            server, tmp_path, "credential_not_written", credentials_file=folder / "c.json", on_approval=spoil
        )
        assert "client client-new was enrolled, and its credential is lost" in said


async def test_an_async_callback_is_awaited_and_its_error_comes_out(tmp_path: Path) -> None:
    async with auth_server() as server:
        called: list[str] = []

        async def ask(approval: Approval) -> None:
            await anyio.lowlevel.checkpoint()
            called.append(approval.user_code)
            raise LookupError

        with pytest.raises(LookupError):
            await enrolled(server, tmp_path, on_approval=ask)
        assert called == [SECRETS[2]]
        assert server.polls == 0


async def test_a_client_of_the_users_enrols_and_stays_open(tmp_path: Path) -> None:
    async with auth_server() as server, httpx.AsyncClient(follow_redirects=True) as client:
        server.scripted[TOKEN] = [error("authorization_pending"), hang]
        await enrolled(server, tmp_path, http_client=client, timeout=0.3, sleep=Pauses(server, 2))
        server.scripted[DEVICE] = [reply(302, None, "Location: /x")]
        (tmp_path / "c.json").unlink()
        await fails(server, tmp_path, "device_request_failed", http_client=client)
        assert not client.is_closed


@pytest.mark.parametrize("moment", ["metadata", "device", "shown", "pause", "poll", "token of a file"])
async def test_a_cancellation_at_any_moment_leaves_the_file_as_it_was(tmp_path: Path, moment: str) -> None:
    async with auth_server() as server, anyio.create_task_group() as group:
        path = tmp_path / "c.json"
        if moment == "token of a file":
            stored(server, tmp_path).rename(path)
        before = files_in(tmp_path)
        reached = anyio.Event()

        async def stop_here(_: object) -> None:
            reached.set()
            await anyio.sleep_forever()

        places = {"metadata": WELL_KNOWN, "device": DEVICE, "poll": TOKEN, "token of a file": TOKEN}
        if moment in places:
            server.scripted[places[moment]] = [stop_here]
        options: dict[str, Any] = {"shown": {"on_approval": stop_here}, "pause": {"sleep": stop_here}}.get(moment, {})
        scope = anyio.CancelScope()

        async def run() -> None:
            with scope:
                await enrolled(server, tmp_path, **options)

        group.start_soon(run)
        with anyio.fail_after(5):
            await reached.wait()
        scope.cancel()
    assert files_in(tmp_path) == before


@pytest.mark.parametrize("after", range(30))
async def test_a_cancellation_at_any_await_leaves_a_whole_file_or_none(tmp_path: Path, after: int) -> None:
    async with auth_server() as server, anyio.create_task_group() as group:
        server.verdict = "approved"
        done = anyio.Event()

        async def cancel() -> None:
            for _ in range(after):
                await anyio.lowlevel.checkpoint()
            if not done.is_set():
                scope.cancel()

        with anyio.CancelScope() as scope:
            group.start_soon(cancel)
            await enrolled(server, tmp_path)
        done.set()
        assert list(files_in(tmp_path)) in ([], ["c.json"])
        if (kept := read_credential(tmp_path / "c.json")) is not None:
            assert server.clients[kept.client_id] == kept.client_secret


async def test_C9_no_secret_is_logged_and_no_repr_shows_the_code(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with auth_server() as server:
        server.scripted[TOKEN] = [error("slow_down"), reply(500), hang]
        with caplog.at_level(logging.DEBUG):
            result, shown, _ = await enrolled(server, tmp_path, sleep=Pauses(server, 3), timeout=0.3)
        no_secret_in(caplog.text, result, shown[0], shown)


@pytest.mark.parametrize(("url", "name", "rule"), [("moku", "n", "must begin with https"), ("https://h", " ", "name")])
async def test_arguments_that_cannot_be_are_refused(tmp_path: Path, url: str, name: str, rule: str) -> None:
    with pytest.raises(ValueError, match=rule):
        await enroll(url, name=name, on_approval=Shown(), credentials_file=tmp_path / "c.json")
    assert files_in(tmp_path) == {}
