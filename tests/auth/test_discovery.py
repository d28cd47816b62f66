"""Where to ask: metadata, its fallback, and paths below the address that is known to work (section 9.1)."""

from __future__ import annotations

import logging
from typing import Any

import anyio
import httpx
import pytest

from neuron_anyio.auth import Endpoints, discover_endpoints
from neuron_anyio.auth.discovery import rerooted
from tests.auth.server import DEVICE, TOKEN, WELL_KNOWN, auth_server, reply
from tests.auth.support import drip
from tests.runtime.http1_server import hang

pytestmark = pytest.mark.anyio

GOOD = {"token_endpoint": "https://inside:8443/oauth/t?x=1", "device_authorization_endpoint": "oauth/d"}


async def test_the_metadatas_paths_are_taken_and_their_origins_are_not() -> None:
    async with auth_server() as server:
        server.metadata = GOOD
        found = await discover_endpoints(server.url + "/")
        assert found == Endpoints(token=server.url + "/oauth/t", device=server.url + "/oauth/d")
        assert [one.target for one in server.requests] == [WELL_KNOWN]
        assert server.requests[0].header("accept") == "application/json"


WRONG: dict[str, Any] = {
    "missing": reply(404),
    "an error": reply(500, b"boom"),
    "a redirect": reply(302, None, "Location: https://elsewhere.example/"),
    "not JSON": reply(200, b"<html>", kind="text/html"),
    "not text": reply(200, b"\xff\xfe"),
    "a list": reply(200, []),
    "one endpoint": reply(200, {"token_endpoint": "/t"}),
    "a number": reply(200, {"token_endpoint": 1, "device_authorization_endpoint": "/d"}),
    "no path": reply(200, {"token_endpoint": "https://inside", "device_authorization_endpoint": "/d"}),
    "a line break": reply(200, {"token_endpoint": "/t a\u0000", "device_authorization_endpoint": "/d"}),
    "no URL": reply(200, {"token_endpoint": "http://[::1/t", "device_authorization_endpoint": "/d"}),
    "huge": reply(200, b'{"x": "' + b"x" * 1_000_000 + b'"}'),
    "compressed": reply(200, b"\x1f\x8b", "Content-Encoding: gzip"),
    "not HTTP": b"SSH-2.0-OpenSSH\r\n\r\n",
    "silent": hang,
    "dripping": drip,
}


@pytest.mark.parametrize("name", WRONG)
async def test_metadata_that_cannot_be_used_is_replaced_by_the_usual_paths(name: str) -> None:
    async with auth_server() as server:
        server.scripted[WELL_KNOWN] = [WRONG[name]]
        with anyio.fail_after(10):
            found = await discover_endpoints(server.url, timeout=0.3 if callable(WRONG[name]) else 5)
        assert found == Endpoints(token=server.url + TOKEN, device=server.url + DEVICE)
        assert len(server.requests) == 1


async def test_a_server_without_metadata_is_nothing_to_warn_of(caplog: pytest.LogCaptureFixture) -> None:
    async with auth_server() as server:
        with caplog.at_level(logging.WARNING):
            await discover_endpoints(server.url)
            assert caplog.text == ""
            server.scripted[WELL_KNOWN] = [reply(503)]
            await discover_endpoints(server.url)
        assert "the server answered 503" in caplog.text


async def test_reference_D44_a_base_with_a_path_is_not_doubled_and_asked_as_the_standard_says() -> None:
    async with auth_server("/moku") as server:
        server.metadata = {
            "token_endpoint": "https://inside/moku/t",
            "device_authorization_endpoint": "https://inside/d",
        }
        found = await discover_endpoints(server.url)
        assert found == Endpoints(token=server.url + "/t", device=server.url + "/d")
        assert [one.target for one in server.requests] == [f"{WELL_KNOWN}/moku"]


async def test_reference_D44_a_base_with_a_path_is_also_asked_below_it() -> None:
    async with auth_server("/moku") as server:
        server.scripted[f"{WELL_KNOWN}/moku"] = [reply(404)]
        server.metadata = GOOD
        found = await discover_endpoints(server.url)
        assert found.token == server.url + "/oauth/t"
        assert [one.target for one in server.requests] == [f"{WELL_KNOWN}/moku", f"/moku{WELL_KNOWN}"]
        server.metadata = None
        assert await discover_endpoints(server.url) == Endpoints(token=server.url + TOKEN, device=server.url + DEVICE)


@pytest.mark.parametrize(
    ("served", "base", "expected"),
    [
        ("https://inside/t#f", "https://h", "https://h/t"),
        ("t", "https://h", "https://h/t"),
        ("/t/", "https://h", "https://h/t/"),
        ("//elsewhere/t", "https://h", "https://h/t"),
        ("https://inside/moku/t", "https://h/moku", "https://h/moku/t"),
        ("/moku/t", "https://h/moku", "https://h/moku/t"),
        ("moku/t", "https://h/moku", "https://h/moku/t"),
        ("/mokus/t", "https://h/moku", "https://h/moku/mokus/t"),
        ("/t", "https://h/a/b", "https://h/a/b/t"),
        ("https://u:p@inside/t", "https://h", "https://h/t"),
    ],
)
async def test_an_endpoint_lies_below_the_base_once(served: str, base: str, expected: str) -> None:
    assert rerooted(served, base) == expected


@pytest.mark.parametrize(
    ("url", "rule"),
    [
        ("moku.example", "must begin with https://"),
        ("ftp://h", "must begin with https://"),
        ("https://", "must begin with https://"),
        ("https://h:99999", "no usable host or port"),
        ("https://h:0", "must begin with https://"),
        ("https://h/ x", "holds a space"),
        ("https://h\n", "holds a space"),
        ("https://user:geheim@h", "carries credentials"),
        ("https://h/?x=1", "leave out what follows '?'"),
        ("https://h/#x", "leave out what follows '#'"),
    ],
)
async def test_a_base_that_cannot_be_used_is_refused(url: str, rule: str) -> None:
    with pytest.raises(ValueError, match="the server's URL") as caught:
        await discover_endpoints(url)
    assert rule in str(caught.value)
    assert "geheim" not in str(caught.value)


async def test_a_client_of_the_users_is_used_and_stays_open() -> None:
    async with auth_server() as server, httpx.AsyncClient(follow_redirects=True) as client:
        server.metadata = GOOD
        client.headers["x-mine"] = "yes"
        found = await discover_endpoints(server.url, http_client=client)
        assert found.token == server.url + "/oauth/t"
        assert server.requests[0].header("x-mine") == "yes"
        server.scripted[WELL_KNOWN] = [reply(302, None, "Location: /x")]
        await discover_endpoints(server.url, http_client=client)
        assert len(server.requests) == 2
        assert not client.is_closed
