"""Minting: what is asked, what is kept for how long, and what ends a neuron (section 9.3; promises C2 and C4)."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest

from neuron_anyio import CredentialRevoked
from neuron_anyio.auth import (
    Credential,
    TokenRequestFailed,
    client_credentials,
    read_credential,
    write_credential,
)
from neuron_anyio.tokens import Credentials, TokenSource
from tests.auth.server import SECRETS, TOKEN, auth_server, error, reply
from tests.auth.support import Clock, drip, no_secret_in, source_for, stored
from tests.runtime.http1_server import hang, unattended

pytestmark = pytest.mark.anyio


async def test_a_token_is_minted_with_the_files_credential_and_kept(tmp_path: Path) -> None:
    async with auth_server() as server:
        source = source_for(server, tmp_path)
        first = await source.token()
        assert [await source.token() for _ in range(3)] == [first] * 3
        assert first in server.tokens
        assert server.forms() == [
            {"grant_type": "client_credentials", "client_id": "client-1", "client_secret": server.clients["client-1"]}
        ]
        assert server.requests[0].header("accept") == "application/json"
        assert isinstance(source, TokenSource)


@pytest.mark.parametrize(("life", "kept"), [(900, 840), (120, 60), (100, 50), (30, 15), (0.5, 0.25)])
async def test_a_token_is_replaced_a_minute_or_half_its_life_ahead(tmp_path: Path, life: float, kept: float) -> None:
    async with auth_server() as server:
        server.expires_in = life
        clock = Clock()
        source = source_for(server, tmp_path, clock)
        first = await source.token()
        clock.now = kept - 0.001
        assert await source.token() == first
        clock.now = kept
        assert await source.token() != first
        assert server.mints == 2


async def test_reference_D32_a_refused_token_is_replaced_and_not_given_out_again(tmp_path: Path) -> None:
    async with auth_server() as server:
        source = source_for(server, tmp_path)
        first = await source.token()
        second = await source.token(refused=first)
        assert second != first
        assert await source.token(refused=first) == second, "it is replaced already"
        assert await source.token() == second
        assert server.mints == 2


async def test_reference_D32_a_server_that_gives_a_refused_token_again_is_asked_each_time(tmp_path: Path) -> None:
    async with auth_server() as server:
        source = source_for(server, tmp_path)
        same = reply(200, {"access_token": "same", "expires_in": 900})
        server.scripted[TOKEN] = [same, same]
        assert await source.token() == "same"
        assert await Credentials(source, patience=5).renew("same") is None
        assert await source.token() in server.tokens


async def test_C2_a_rotated_secret_is_read_from_the_file_and_used_at_once(tmp_path: Path) -> None:
    async with auth_server() as server:
        path = stored(server, tmp_path)
        source = client_credentials(path)
        first = await source.token()
        stored(server, tmp_path)
        assert await source.token(refused=first) in server.tokens
        assert server.mints == 3, "with the old secret, in vain, and with the new one"


async def test_C2_a_secret_that_is_written_before_it_holds_does_not_end_the_use_of_the_old_one(tmp_path: Path) -> None:
    async with auth_server() as server:
        path = stored(server, tmp_path)
        source = client_credentials(path)
        token = await source.token()
        old = server.clients["client-1"]
        stored(server, tmp_path, secret="not-yet")
        token = await source.token(refused=token)
        assert [form["client_secret"] for form in server.forms()] == [old, old]
        server.clients["client-1"] = "not-yet"
        assert await source.token(refused=token) in server.tokens


async def test_C2_a_credential_that_is_rotated_while_it_is_refused_is_read_once_more(tmp_path: Path) -> None:
    async with auth_server() as server:
        path = stored(server, tmp_path, secret="wrong")

        async def rotate(peer: Any) -> None:
            stored(server, tmp_path)
            await peer.send(error("invalid_client", 401))

        server.scripted[TOKEN] = [rotate]
        assert await client_credentials(path).token() in server.tokens


async def test_C2_reference_D33_a_revoked_credential_is_told_and_not_sent_again(tmp_path: Path) -> None:
    async with auth_server() as server:
        source = source_for(server, tmp_path)
        server.clients.clear()
        for _ in range(5):
            with pytest.raises(
                CredentialRevoked, match=r"client-1 is not accepted any more.*neuron-anyio enroll"
            ) as no:
                await source.token()
            no_secret_in(no.value, source)
        assert server.mints == 1
        stored(server, tmp_path)
        assert await source.token() in server.tokens, "what was enrolled anew is used"


async def test_C2_a_new_secret_that_is_not_accepted_either_is_not_sent_again(tmp_path: Path) -> None:
    async with auth_server() as server:
        path = stored(server, tmp_path)
        source = client_credentials(path)
        token = await source.token()
        server.clients.clear()
        stored(server, tmp_path, secret="wrong")
        for refused in (token, None, None):
            with pytest.raises(CredentialRevoked):
                await source.token(refused=refused)
        assert server.mints == 3


async def test_C2_without_a_file_there_is_no_credential(tmp_path: Path) -> None:
    async with auth_server() as server:
        path = stored(server, tmp_path)
        source = client_credentials(path)
        token = await source.token()
        server.clients.clear()
        path.unlink()
        for refused in (token, None):
            with pytest.raises(CredentialRevoked, match=f"there is no credential at {path}; run: neuron-anyio enroll"):
                await source.token(refused=refused)
        assert server.mints == 2


async def test_C2_the_token_that_is_left_carries_the_last_words(tmp_path: Path) -> None:
    async with auth_server() as server:
        clock = Clock()
        source = source_for(server, tmp_path, clock)
        token = await source.token()
        server.clients.clear()
        clock.now = 840
        with pytest.raises(CredentialRevoked):
            await source.token()
        assert await source.token() == token
        clock.now = 900
        with pytest.raises(CredentialRevoked):
            await source.token()
        assert server.mints == 2


async def test_while_no_new_token_can_be_had_the_old_one_is_used_to_its_end(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with auth_server() as server:
        clock = Clock()
        source = source_for(server, tmp_path, clock)
        token = await source.token()
        server.scripted[TOKEN] = [reply(503)] * 9
        for now, mints in ((840, 2), (840, 2), (844.9, 2), (845, 3), (899.9, 4)):
            clock.now = now
            assert await source.token() == token
            assert server.mints == mints
        assert "the old one is used for 60 s at most" in caplog.text
        clock.now = 900
        with pytest.raises(TokenRequestFailed, match="503"):
            await source.token()
        no_secret_in(caplog.text)


async def test_C5_a_server_that_asks_for_time_gets_it(tmp_path: Path) -> None:
    async with auth_server() as server:
        clock = Clock()
        source = source_for(server, tmp_path, clock)
        server.scripted[TOKEN] = [reply(429, None, "Retry-After: 60")]
        for now, left in ((0, 60), (20, 40), (59, 1)):
            clock.now = now
            with pytest.raises(TokenRequestFailed) as caught:
                await source.token()
            assert (caught.value.code, caught.value.status, caught.value.retry_after) == ("http_429", 429, left)
        assert server.mints == 1
        clock.now = 60
        assert await source.token() in server.tokens


async def test_nobody_there_silence_and_single_bytes_are_failed_attempts_that_name_the_place(tmp_path: Path) -> None:
    async with auth_server() as server, unattended() as silent:
        path = stored(server, tmp_path)
        server.scripted[TOKEN] = [hang, drip]
        source = client_credentials(path, timeout=0.1)
        for _ in range(2):
            with anyio.fail_after(5), pytest.raises(TokenRequestFailed, match=r"0\.1 s") as caught:
                await source.token()
            assert (caught.value.code, caught.value.status) == ("unreachable", None)
        write_credential(path, Credential("c", "s3cret-of-client", silent + "/t", silent))
        with anyio.fail_after(5), pytest.raises(TokenRequestFailed, match=silent) as caught:
            await client_credentials(path, timeout=0.1).token()
        no_secret_in(caught.value)
        assert str(caught.value).count(silent) == 1, "the place is named once"


async def test_a_file_that_is_being_written_is_a_failed_attempt(tmp_path: Path) -> None:
    async with auth_server() as server:
        path = stored(server, tmp_path)
        good = path.read_bytes()
        path.write_bytes(good[:40])
        source = client_credentials(path)
        with pytest.raises(TokenRequestFailed, match="is not a credential: it is not JSON") as caught:
            await source.token()
        assert caught.value.code == "credential_file"
        assert server.requests == []
        path.write_bytes(good)
        assert await source.token() in server.tokens


async def test_a_client_of_the_users_mints_and_stays_open(tmp_path: Path) -> None:
    async with auth_server() as server, httpx.AsyncClient(follow_redirects=True) as client:
        source = source_for(server, tmp_path, http_client=client)
        assert await source.token() in server.tokens
        server.scripted[TOKEN] = [
            reply(302, None, "Location: /x"),
            reply(200, b" " * 100_000),
            b"garbage\r\n\r\n",
            hang,
        ]
        quick = source_for(server, tmp_path, http_client=client, timeout=0.2)
        for code in ("http_302", "invalid_response", "unreachable", "unreachable"):
            with anyio.fail_after(5), pytest.raises(TokenRequestFailed) as caught:
                await quick.token()
            assert caught.value.code == code
            no_secret_in(caught.value)
        assert not client.is_closed


async def test_an_authenticator_may_be_async_and_its_failure_is_a_failed_attempt(tmp_path: Path) -> None:
    async with auth_server() as server:
        path = stored(server, tmp_path)

        async def remote(credential: Credential) -> Mapping[str, str]:
            await anyio.lowlevel.checkpoint()
            return {"client_id": credential.client_id, "client_secret": credential.client_secret}

        def broken(credential: Credential) -> Mapping[str, str]:
            raise RuntimeError(credential.client_secret)

        def gone(credential: Credential) -> Mapping[str, str]:
            raise CredentialRevoked("the key was destroyed")

        assert await client_credentials(path, authenticator=remote).token() in server.tokens
        with pytest.raises(TokenRequestFailed, match="the client authenticator raised RuntimeError") as caught:
            await client_credentials(path, authenticator=broken).token()
        assert SECRETS[0] not in str(caught.value)
        with pytest.raises(CredentialRevoked, match="destroyed"):
            await client_credentials(path, authenticator=gone).token()


async def test_a_credential_in_clear_text_is_warned_of_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "credential.json"
    write_credential(path, Credential("c", "s3cret-of-client", "http://192.0.2.1/t?x=1", ""))
    transport = httpx.MockTransport(lambda _: httpx.Response(500))
    async with httpx.AsyncClient(transport=transport) as client:
        source = client_credentials(path, http_client=client)
        for _ in range(2):
            with pytest.raises(TokenRequestFailed):
                await source.token()
    assert caplog.text.count("travels in clear text to http://192.0.2.1; use https") == 1


async def test_C9_no_secret_is_logged_and_no_repr_shows_one(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with auth_server() as server:
        with caplog.at_level(logging.DEBUG):
            source = source_for(server, tmp_path)
            token = await source.token()
            stored(server, tmp_path)
            await source.token(refused=token)
            server.clients.clear()
            with pytest.raises(CredentialRevoked):
                await source.token(refused=await source.token())
        ours = [record.getMessage() for record in caplog.records if record.name.startswith("neuron_anyio")]
        assert any("minted a token for client client-1, for 900 s" in line for line in ours)
        no_secret_in(source, caplog.text, read_credential(tmp_path / "credential.json"))


@pytest.mark.parametrize("wrong", [{"refresh_ahead": -1}, {"timeout": 0}, {"timeout": float("nan")}])
async def test_arguments_that_cannot_be_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="refresh_ahead must be 0 s or more, timeout above 0 s"):
        client_credentials(**wrong)
