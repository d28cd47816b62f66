"""How a client shows who it is: a secret, or an assertion signed with its key (RFC 6749, RFC 7523)."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, padding, rsa, utils
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat

from neuron_anyio import CredentialRevoked
from neuron_anyio.auth import (
    BadKey,
    Credential,
    TokenRequestFailed,
    client_credentials,
    client_secret_post,
    private_key_jwt,
    write_credential,
)
from tests.auth.server import TOKEN, AuthServer, auth_server
from tests.auth.support import no_secret_in, stored

pytestmark = pytest.mark.anyio

ONE = Credential("client-1", "s3cret-of-client", "https://moku.example/t", "https://moku.example")

KEYS: dict[str, Callable[[], Any]] = {
    "RS256": lambda: rsa.generate_private_key(65537, 2048),
    "ES256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "ES384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "ES512": lambda: ec.generate_private_key(ec.SECP521R1()),
    "EdDSA": ed25519.Ed25519PrivateKey.generate,
}


def pem(key: Any, encryption: Any = None) -> bytes:
    data: bytes = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption or NoEncryption())
    return data


def keep(folder: Path, data: bytes, name: str = "key.pem") -> Path:
    path = folder / name
    path.touch(0o600)
    path.write_bytes(data)
    return path


def verifies(key: Any) -> Callable[[str, bytes, bytes], bool]:
    """Return what a server would ask of the public half of a key."""
    public = key.public_key()

    def verify(algorithm: str, content: bytes, signature: bytes) -> bool:
        try:
            if algorithm == "RS256":
                public.verify(signature, content, padding.PKCS1v15(), hashes.SHA256())
            elif algorithm == "EdDSA":
                public.verify(signature, content)
            else:
                half = len(signature) // 2
                numbers = (int.from_bytes(signature[:half]), int.from_bytes(signature[half:]))
                kind = {"ES256": hashes.SHA256(), "ES384": hashes.SHA384(), "ES512": hashes.SHA512()}[algorithm]
                assert half == (key.curve.key_size + 7) // 8
                public.verify(utils.encode_dss_signature(*numbers), content, ec.ECDSA(kind))
        except InvalidSignature:
            return False
        return True

    return verify


def with_key(server: AuthServer, folder: Path, key: Any) -> tuple[Path, Path]:
    """Make a client that has a key and no secret; return the files of credential and key."""
    server.keys["client-1"] = verifies(key)
    return stored(server, folder, secret=""), keep(folder, pem(key))


def test_a_secret_goes_into_the_form_next_to_the_id() -> None:
    assert client_secret_post(ONE) == {"client_id": "client-1", "client_secret": "s3cret-of-client"}


async def test_an_empty_secret_is_not_sent(tmp_path: Path) -> None:
    async with auth_server() as server:
        source = client_credentials(stored(server, tmp_path, secret=""))
        with pytest.raises(TokenRequestFailed, match=r"client_secret of client client-1 is empty; pass auth") as caught:
            await source.token()
        assert caught.value.code == "client_authentication"
        assert server.requests == []


@pytest.mark.parametrize("algorithm", KEYS)
async def test_an_assertion_takes_the_place_of_the_secret(tmp_path: Path, algorithm: str) -> None:
    async with auth_server() as server:
        credential, key = with_key(server, tmp_path, KEYS[algorithm]())
        source = client_credentials(credential, authenticator=private_key_jwt(key, key_id="k1"))
        first = await source.token()
        assert first in server.tokens
        await source.token(refused=first)
        (form, _) = server.forms()
        assert {name for name in form if name.startswith("client_")} == {
            "client_id",
            "client_assertion_type",
            "client_assertion",
        }
        assert form["client_assertion_type"] == "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
        (header, claims), (_, later) = server.assertions
        assert header == {"alg": algorithm, "typ": "JWT", "kid": "k1"}
        assert set(claims) == {"iss", "sub", "aud", "iat", "exp", "jti"}
        assert claims["aud"] == server.url + TOKEN
        assert 0 <= time.time() - claims["iat"] < 10
        assert claims["exp"] == claims["iat"] + 60
        assert claims["jti"] != later["jti"]


async def test_audience_and_key_id_are_what_the_server_wants(tmp_path: Path) -> None:
    async with auth_server() as server:
        credential, key = with_key(server, tmp_path, KEYS["EdDSA"]())
        authenticator = private_key_jwt(key, audience="https://issuer.example")
        with pytest.raises(CredentialRevoked):
            await client_credentials(credential, authenticator=authenticator).token()
        (header, claims) = server.assertions[0]
        assert (claims["aud"], header) == ("https://issuer.example", {"alg": "EdDSA", "typ": "JWT"})


async def test_a_rotated_key_is_used_at_once(tmp_path: Path) -> None:
    async with auth_server() as server:
        credential, key = with_key(server, tmp_path, KEYS["ES256"]())
        source = client_credentials(credential, authenticator=private_key_jwt(key))
        token = await source.token()
        with_key(server, tmp_path, KEYS["RS256"]())
        assert await source.token(refused=token) in server.tokens
        assert [header["alg"] for header, _ in server.assertions] == ["ES256", "RS256"]


async def test_a_key_that_the_server_does_not_know_is_a_revoked_credential(tmp_path: Path) -> None:
    async with auth_server() as server:
        credential, key = with_key(server, tmp_path, KEYS["ES256"]())
        server.keys.clear()
        with pytest.raises(CredentialRevoked):
            await client_credentials(credential, authenticator=private_key_jwt(key)).token()
        assert server.mints == 1


WRONG: dict[str, tuple[Callable[[], bytes], str]] = {
    "no PEM": (lambda: b"s3cret-of-client", "is not a private key in PEM"),
    "empty": (lambda: b"", "is not a private key in PEM"),
    "a passphrase": (lambda: pem(KEYS["ES256"](), BestAvailableEncryption(b"s3cret-of-client")), "has a passphrase"),
    "a small key": (lambda: pem(rsa.generate_private_key(65537, 1024)), "must hold an RSA key of 2048 bits or more"),
    "another curve": (lambda: pem(ec.generate_private_key(ec.SECP256K1())), "a key on P-256, P-384 or P-521"),
    "another kind": (lambda: pem(ed448.Ed448PrivateKey.generate()), "or an Ed25519 key"),
}


@pytest.mark.parametrize("name", WRONG)
async def test_C9_a_key_that_cannot_be_used_is_told_with_its_file_and_not_quoted(tmp_path: Path, name: str) -> None:
    make, rule = WRONG[name]
    key = keep(tmp_path, make())
    write_credential(tmp_path / "c.json", ONE)
    authenticator = private_key_jwt(key)
    with pytest.raises(BadKey) as caught:
        authenticator(ONE)
    assert rule in str(caught.value)
    assert str(key) in str(caught.value)
    no_secret_in(caught.value)
    with pytest.raises(TokenRequestFailed, match=re.escape(rule)) as failed:
        await client_credentials(tmp_path / "c.json", authenticator=authenticator).token()
    assert failed.value.code == "client_authentication"
    no_secret_in(failed.value)


def test_a_key_file_that_is_not_there_or_open_to_others_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "key.pem"
    authenticator = private_key_jwt(path)
    with pytest.raises(BadKey, match="cannot be read"):
        authenticator(ONE)
    keep(tmp_path, pem(KEYS["EdDSA"]())).chmod(0o644)
    authenticator(ONE)
    assert f"the key file {path} can be opened by other users (mode 0644)" in caplog.text
    assert repr(authenticator) == f"private_key_jwt({str(path)!r})"


def test_without_the_extra_the_error_says_what_to_install() -> None:
    program = """
import sys
sys.modules["cryptography"] = None
from neuron_anyio.auth import private_key_jwt
try:
    private_key_jwt("key.pem")
except ImportError as exc:
    print(exc)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == (
        "private_key_jwt needs cryptography, which is not installed: pip install 'neuron-anyio[jwt]'\n"
    )


def test_importing_the_package_brings_neither_httpx_nor_cryptography() -> None:
    program = "import sys, neuron_anyio.auth; print(*{'httpx', 'cryptography', 'trio'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "\n"
