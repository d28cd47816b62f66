"""How requests get to the server that mints: verified, through a proxy where the environment names one."""

from __future__ import annotations

import ssl
from pathlib import Path

import anyio
import pytest
import trustme

from neuron_anyio.auth import Credential, TokenRequestFailed, client_credentials, write_credential
from tests.auth.server import TOKEN, AuthServer, auth_server
from tests.auth.support import no_secret_in, stored
from tests.runtime.http1_server import serving

pytestmark = pytest.mark.anyio

PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in PROXIES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


async def test_a_server_whose_certificate_is_not_known_gets_no_secret(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = trustme.CA()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(context)
    server = AuthServer("")
    async with serving(server.handle, ssl_context=context, host="localhost") as server.server:
        path = stored(server, tmp_path)
        with anyio.fail_after(10), pytest.raises(TokenRequestFailed, match="certificate was not accepted") as caught:
            await client_credentials(path).token()
        assert caught.value.code == "unreachable"
        assert "SSL_CERT_FILE" in str(caught.value)
        no_secret_in(caught.value)
        assert server.requests == []
        authority.cert_pem.write_to_path(str(tmp_path / "authority.pem"))
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "authority.pem"))
        with anyio.fail_after(10):
            assert await client_credentials(path).token() in server.tokens


def elsewhere(server: AuthServer, folder: Path) -> Path:
    """Write the credential of a client of a server that only a proxy can reach."""
    path = folder / "credential.json"
    url = "http://moku.test"
    write_credential(path, Credential("client-1", server.add_client(), url + TOKEN, url))
    return path


async def test_the_environments_proxy_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with auth_server() as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        with anyio.fail_after(10):
            assert await client_credentials(elsewhere(proxy, tmp_path)).token() in proxy.tokens
        assert [one.target for one in proxy.requests] == ["http://moku.test" + TOKEN]
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        assert await client_credentials(stored(proxy, tmp_path)).token() in proxy.tokens
        assert proxy.requests[1].target == TOKEN


async def test_a_proxy_that_cannot_be_one_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with auth_server() as server:
        path = elsewhere(server, tmp_path)
        monkeypatch.setenv("HTTP_PROXY", "nonsense://x")
        with pytest.raises(TokenRequestFailed, match=r"proxy that the environment names for http://moku.test") as no:
            await client_credentials(path).token()
        assert no.value.code == "unreachable"
        no_secret_in(no.value)
