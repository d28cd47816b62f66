"""Replies of the token endpoint that are no token, and refusals: what is said of them (promise C9)."""

from __future__ import annotations

from pathlib import Path

import pytest

from neuron_anyio import TransportError
from neuron_anyio.auth import TokenRequestFailed, client_credentials
from tests.auth.server import TOKEN, auth_server, error, reply
from tests.auth.support import no_secret_in, source_for, stored

pytestmark = pytest.mark.anyio


GARBAGE = {
    "no token": (reply(200, {"expires_in": 900}), "missing required field `access_token`"),
    "no life": (reply(200, {"access_token": "minted-token"}), "missing required field `expires_in`"),
    "a life in text": (reply(200, {"access_token": "minted-token", "expires_in": "900"}), "at `$.expires_in`"),
    "a life of true": (reply(200, {"access_token": "minted-token", "expires_in": True}), "at `$.expires_in`"),
    "no life left": (reply(200, {"access_token": "minted-token", "expires_in": -5}), "at `$.expires_in`"),
    "an empty token": (reply(200, {"access_token": "", "expires_in": 9}), "access_token cannot be used"),
    "two lines": (reply(200, {"access_token": "minted-token\r\nX: y", "expires_in": 9}), "access_token cannot be used"),
    "another type": (
        reply(200, {"access_token": "minted-token", "expires_in": 9, "token_type": "mac"}),
        "token_type must be bearer",
    ),
    "a page": (reply(200, b"<html>minted-token", kind="text/html; charset=x"), "is not JSON but text/html"),
    "nothing": (reply(200), "is not JSON"),
    "a list": (reply(200, ["minted-token"]), "Expected `object`, got `array`"),
    "not text": (reply(200, b'{"access_token": "minted-token\xff", "expires_in": 9}'), "is not JSON"),
    "huge": (reply(200, b" " * 100_000), "longer than 64 KiB"),
    "compressed": (reply(200, b"\x1f\x8b", "Content-Encoding: gzip"), "is compressed"),
}


@pytest.mark.parametrize("name", GARBAGE)
async def test_a_reply_that_is_no_token_says_which_member_breaks_which_rule(tmp_path: Path, name: str) -> None:
    raw, rule = GARBAGE[name]
    async with auth_server() as server:
        source = source_for(server, tmp_path)
        server.scripted[TOKEN] = [raw]
        with pytest.raises(TransportError) as caught:
            await source.token()
        assert isinstance(caught.value, TokenRequestFailed)
        assert (caught.value.code, caught.value.status) == ("invalid_response", 200)
        assert rule in str(caught.value)
        assert f"POST {server.url}{TOKEN}" in str(caught.value)
        no_secret_in(caught.value)
        assert await source.token() in server.tokens


async def test_a_type_in_capitals_and_none_are_bearer_too(tmp_path: Path) -> None:
    async with auth_server() as server:
        source = source_for(server, tmp_path)
        server.scripted[TOKEN] = [
            reply(200, {"access_token": f"t{kind}", "expires_in": 9, "token_type": kind})
            for kind in ("Bearer", None, 7)
        ]
        token = None
        for expected in ("tBearer", "tNone", "t7"):
            token = await source.token(refused=token)
            assert token == expected


REFUSALS = {
    "a code": (
        error("unauthorized_client", 400, "not for you"),
        "unauthorized_client",
        "400: unauthorized_client: not for you",
    ),
    "another 401": (reply(401, b"no"), "http_401", "401"),
    "no code": (reply(500, {"error": {"x": 1}}), "http_500", "500"),
    "a code of two lines": (error("a\nb", 403), "http_403", "403"),
    "a code like ours": (error("x" * 65, 403), "http_403", "403"),
    "a page": (reply(502, b"<html>", kind="text/html"), "http_502", "502"),
    "a redirect": (
        reply(307, None, "Location: https://elsewhere.example/t?secret=s3cret-of-client"),
        "http_307",
        "307: redirects are not followed; use the URL that leads there at once: https://elsewhere.example/t",
    ),
}


@pytest.mark.parametrize("name", REFUSALS)
async def test_C9_a_refusal_says_why_and_no_redirect_is_followed(tmp_path: Path, name: str) -> None:
    raw, code, text = REFUSALS[name]
    async with auth_server() as server:
        source = source_for(server, tmp_path)
        server.scripted[TOKEN] = [raw]
        with pytest.raises(TokenRequestFailed) as caught:
            await source.token()
        assert caught.value.code == code
        assert str(caught.value) == f"POST {server.url}{TOKEN}: {text}"
        no_secret_in(caught.value)
        assert len(server.requests) == 1


async def test_C9_what_the_server_quotes_of_the_form_is_taken_out(tmp_path: Path) -> None:
    async with auth_server() as server:
        secret = "s3cret-of-client ü/&"
        server.clients["client-1"] = secret
        path = stored(server, tmp_path, secret=secret)
        quoted = server_quotes = "client_secret=s3cret-of-client+%C3%BC%2F%26 or s3cret-of-client ü/& is wrong"
        server.scripted[TOKEN] = [error("invalid_request", 400, server_quotes), error(quoted, 400)]
        for _ in range(2):
            with pytest.raises(TokenRequestFailed) as caught:
                await client_credentials(path).token()
            no_secret_in(caught.value)
        assert await client_credentials(path).token() in server.tokens
