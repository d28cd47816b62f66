"""How a client shows the token endpoint who it is: with a secret, or with a signature of its own key."""

from __future__ import annotations

import base64
import os
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import msgspec

from .credentials import Credential, private_bytes

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

__all__ = ["BadKey", "ClientAuthenticator", "client_secret_post", "private_key_jwt"]

ClientAuthenticator: TypeAlias = Callable[[Credential], "Mapping[str, str] | Awaitable[Mapping[str, str]]"]
"""Returns the fields of the form that say and prove who asks; called for each request, sync or async."""

ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"

LIFETIME = 60
"""Seconds for which an assertion holds: one request, and clocks that differ a little."""

LEAST_RSA_BITS = 2048
"""RFC 7518, section 3.3."""

_CURVES = {"secp256r1": ("ES256", 256), "secp384r1": ("ES384", 384), "secp521r1": ("ES512", 512)}


class BadKey(ValueError):
    """What should prove who asks cannot be used. The message names file and remedy, never anything of the key."""


def client_secret_post(credential: Credential) -> dict[str, str]:
    """Send id and secret as fields of the form (RFC 6749, section 2.3.1). The default.

    Raises:
        BadKey: there is no secret.
    """
    if not credential.client_secret:
        raise BadKey(
            f"client_secret of client {credential.client_id} is empty; pass authenticator=private_key_jwt(...) where a "
            "key takes its place, or enrol"
        )
    return {"client_id": credential.client_id, "client_secret": credential.client_secret}


def private_key_jwt(
    key_file: str | os.PathLike[str], *, key_id: str | None = None, audience: str | None = None
) -> ClientAuthenticator:
    """Make an authenticator that signs an assertion with a private key (RFC 7523, section 2.2).

    The key decides the algorithm: RS256 for RSA, ES256, ES384 or ES512 for the curves P-256, P-384 and P-521, EdDSA for
    Ed25519. The file is read for each request, so that a rotated key is used at once.

    Args:
        key_file: private key in PEM, without a passphrase.
        key_id: `kid` of the assertion, where the server knows several keys of the client.
        audience: `aud` of the assertion; the token endpoint when None.

    Raises:
        ImportError: the package of the extra `jwt` is missing.
        BadKey: raised by the result, not here: the file cannot be read, or has no key of these kinds.
    """
    try:
        import_module("cryptography")  # better missed now than at the first token
    except ImportError as exc:
        remedy = "pip install 'neuron-anyio[jwt]'"
        raise ImportError(
            f"private_key_jwt needs cryptography, which is not installed: {remedy}", name=exc.name
        ) from exc
    return _PrivateKeyJwt(Path(key_file), key_id, audience)


class _PrivateKeyJwt:
    __slots__ = ("_audience", "_key_file", "_key_id")

    def __init__(self, key_file: Path, key_id: str | None, audience: str | None) -> None:
        self._key_file = key_file
        self._key_id = key_id
        self._audience = audience

    def __call__(self, credential: Credential) -> dict[str, str]:
        now = int(time.time())
        claims = {
            "iss": credential.client_id,
            "sub": credential.client_id,
            "aud": self._audience or credential.token_endpoint,
            "iat": now,
            "exp": now + LIFETIME,
            "jti": secrets.token_urlsafe(16),
        }
        return {
            "client_id": credential.client_id,
            "client_assertion_type": ASSERTION_TYPE,
            "client_assertion": self._signed(claims),
        }

    def _signed(self, claims: Mapping[str, Any]) -> str:
        """Return the compact form of a signed JWT (RFC 7515, section 7.1)."""
        algorithm, sign = _signer(self._key(), self._key_file)
        header = {"alg": algorithm, "typ": "JWT"} | ({} if self._key_id is None else {"kid": self._key_id})
        content = b".".join(_base64url(msgspec.json.encode(part)) for part in (header, claims))
        return b".".join((content, _base64url(sign(content)))).decode("ascii")

    def _key(self) -> Any:
        from cryptography.exceptions import UnsupportedAlgorithm  # noqa: PLC0415 - an extra
        from cryptography.hazmat.primitives.serialization import load_pem_private_key  # noqa: PLC0415 - an extra

        try:
            return load_pem_private_key(private_bytes(self._key_file, "the key file"), password=None)
        except OSError as exc:
            raise BadKey(
                f"the key file {self._key_file} cannot be read ({exc.strerror or type(exc).__name__}); "
                "check the path and that this user may read it"
            ) from None
        except TypeError:
            raise BadKey(f"the key file {self._key_file} has a passphrase; give one without, with mode 0600") from None
        except (ValueError, UnsupportedAlgorithm):
            raise BadKey(f"the key file {self._key_file} is not a private key in PEM") from None

    def __repr__(self) -> str:
        return f"private_key_jwt({str(self._key_file)!r})"


def _signer(key: Any, key_file: Path) -> tuple[str, Callable[[bytes], bytes]]:
    """Return the name of a key's algorithm (RFC 7518, RFC 8037), and what signs with it."""
    from cryptography.hazmat.primitives import hashes  # noqa: PLC0415 - an extra
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa  # noqa: PLC0415 - an extra

    match key:
        case rsa.RSAPrivateKey() if key.key_size >= LEAST_RSA_BITS:
            return "RS256", lambda data: key.sign(data, padding.PKCS1v15(), hashes.SHA256())
        case ec.EllipticCurvePrivateKey() if key.curve.name in _CURVES:
            algorithm, bits = _CURVES[key.curve.name]
            kinds: dict[int, hashes.HashAlgorithm] = {256: hashes.SHA256(), 384: hashes.SHA384(), 512: hashes.SHA512()}
            return algorithm, lambda data: _two_numbers(key, data, kinds[bits])
        case ed25519.Ed25519PrivateKey():
            return "EdDSA", key.sign
        case _:
            raise BadKey(
                f"the key file {key_file} must hold an RSA key of {LEAST_RSA_BITS} bits or more, "
                "a key on P-256, P-384 or P-521, or an Ed25519 key"
            )


def _two_numbers(key: EllipticCurvePrivateKey, data: bytes, kind: Any) -> bytes:
    """Sign on a curve; JWS wants the two numbers side by side (RFC 7518, section 3.4), not their DER."""
    from cryptography.hazmat.primitives.asymmetric import ec, utils  # noqa: PLC0415 - an extra

    size = (key.curve.key_size + 7) // 8
    numbers = utils.decode_dss_signature(key.sign(data, ec.ECDSA(kind)))
    return b"".join(number.to_bytes(size) for number in numbers)


def _base64url(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")
