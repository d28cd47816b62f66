"""A server that enrols neurons and mints tokens, over real HTTP, with every fault that a test asks for.

It speaks sections 9.1 to 9.3 of the BigBrain specification: metadata, device flow, client credentials with a secret or
a key.
"""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeAlias
from urllib.parse import parse_qsl

import anyio

from tests.runtime.http1_server import Peer, Received, Server, serving

__all__ = ["DEVICE", "GRANT", "SECRETS", "TOKEN", "WELL_KNOWN", "AuthServer", "Raw", "auth_server", "error", "reply"]

TOKEN = "/api/v1/auth/token"
DEVICE = "/api/v1/auth/device"
WELL_KNOWN = "/.well-known/oauth-authorization-server"
GRANT = "urn:ietf:params:oauth:grant-type:device_code"

SECRETS = ("s3cret-of-client", "dev1ce-code", "WXYZ-1234", "minted-token")
"""What the server gives out begins with one of these: none may be in a log, an error or a repr."""

Raw: TypeAlias = bytes | Callable[[Peer], Awaitable[None]]
"""A reply as the test writes it; a function has the connection to itself and closes it by returning."""


def reply(status: int, document: Any = None, *headers: str, kind: str | None = "application/json") -> bytes:
    """Write a whole reply: of a document, or of bytes as they are."""
    body = document if isinstance(document, bytes) else json.dumps(document).encode() if document is not None else b""
    lines = [f"HTTP/1.1 {status} Text", f"Content-Length: {len(body)}", *headers]
    if kind is not None:
        lines.append(f"Content-Type: {kind}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def error(code: str, status: int = 400, description: str | None = None) -> bytes:
    return reply(status, {"error": code} | ({} if description is None else {"error_description": description}))


class AuthServer:
    """Clients, their secrets and keys, and device codes.

    Attributes:
        clients: secret of each client; taking one out revokes it.
        keys: verifies an assertion of each client that has a key: `(algorithm, content, signature)`.
        tokens: those that are valid.
        expires_in: seconds of a token.
        metadata: what the well-known path serves, None for 404.
        device: members of the device reply that differ.
        verdict: of the administrator: None while pending, `approved`, or an OAuth error code.
        scripted: replies to the next requests of each path; then the server's own.
        requests: in their order.
    """

    def __init__(self, base: str) -> None:
        self.base = base
        self.server: Server
        self.clients: dict[str, str] = {}
        self.keys: dict[str, Callable[[str, bytes, bytes], bool]] = {}
        self.tokens: set[str] = set()
        self.expires_in: float = 900
        self.metadata: Any = None
        self.device: dict[str, Any] = {}
        self.verdict: str | None = None
        self.scripted: dict[str, list[Raw]] = {}
        self.requests: list[Received] = []
        self.assertions: list[tuple[dict[str, Any], dict[str, Any]]] = []
        self._given = 0
        self._changed = anyio.Event()

    @property
    def url(self) -> str:
        return self.server.origin + self.base

    def forms(self, path: str = TOKEN) -> list[dict[str, str]]:
        """Return the forms that were posted to a path."""
        found = [one for one in self.requests if one.method == "POST" and one.target == self.base + path]
        return [dict(parse_qsl(one.body.decode(), keep_blank_values=True)) for one in found]

    @property
    def mints(self) -> int:
        return sum(form["grant_type"] == "client_credentials" for form in self.forms())

    @property
    def polls(self) -> int:
        return len(self.forms()) - self.mints

    async def wait_for(self, condition: Callable[[], Any]) -> None:
        """Wait until something holds that changes with what comes."""
        with anyio.fail_after(10):
            while not condition():
                await self._changed.wait()

    def add_client(self, client_id: str = "client-1") -> str:
        """Make a client; return its secret."""
        self._given += 1
        secret = self.clients[client_id] = f"{SECRETS[0]}-{self._given}"
        return secret

    async def handle(self, peer: Peer) -> None:
        """Serve one connection."""
        while True:
            request = await peer.request()
            self.requests.append(request)
            self._changed.set()
            self._changed = anyio.Event()
            path = request.target.removeprefix(self.base)
            script = self.scripted.get(path)
            raw = script.pop(0) if script else self._answer(path, request)
            if not isinstance(raw, bytes):
                return await raw(peer)
            await peer.send(raw)

    def _answer(self, path: str, request: Received) -> bytes:
        if request.method == "GET":
            wanted = WELL_KNOWN in request.target and self.metadata is not None
            return reply(200, self.metadata) if wanted else reply(404)
        if request.header("content-type") != "application/x-www-form-urlencoded":
            return error("invalid_request", 415)
        form = dict(parse_qsl(request.body.decode(), keep_blank_values=True))
        if path.endswith("/device"):
            return reply(200, self._device_reply())
        if form.get("grant_type") == GRANT:
            return self._redeem(form)
        if form.get("grant_type") != "client_credentials":
            return error("unsupported_grant_type")
        return self._mint() if self._is_known(form) else error("invalid_client", 401)

    def _device_reply(self) -> dict[str, Any]:
        document = {
            "device_code": SECRETS[1],
            "user_code": SECRETS[2],
            "verification_uri": f"{self.url}/activate",
            "verification_uri_complete": f"{self.url}/activate?user_code={SECRETS[2]}",
            "expires_in": 900,
            "interval": 1,
            **self.device,
        }
        return {name: value for name, value in document.items() if value is not None}

    def _redeem(self, form: dict[str, str]) -> bytes:
        if form.get("device_code") != SECRETS[1]:
            return error("invalid_grant")
        if self.verdict != "approved":
            return error(self.verdict or "authorization_pending")
        self.verdict = "invalid_grant"  # a credential is given out once
        secret = self.add_client("client-new")
        return reply(200, {**json.loads(self._mint_document()), "client_id": "client-new", "client_secret": secret})

    def _is_known(self, form: dict[str, str]) -> bool:
        client_id = form.get("client_id", "")
        if "client_assertion" not in form:
            return client_id in self.clients and self.clients[client_id] == form.get("client_secret")
        head, claims, signature = form["client_assertion"].split(".")
        header, said = json.loads(_unbase64(head)), json.loads(_unbase64(claims))
        self.assertions.append((header, said))
        is_ours: bool = said["iss"] == said["sub"] == client_id and said["aud"] == self.url + TOKEN
        verify = self.keys.get(client_id)
        return (
            verify is not None and is_ours and verify(header["alg"], f"{head}.{claims}".encode(), _unbase64(signature))
        )

    def _mint(self) -> bytes:
        return reply(200, json.loads(self._mint_document()))

    def _mint_document(self) -> str:
        self._given += 1
        token = f"{SECRETS[3]}-{self._given}"
        self.tokens.add(token)
        return json.dumps({"access_token": token, "token_type": "bearer", "expires_in": self.expires_in})


def _unbase64(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


@asynccontextmanager
async def auth_server(base: str = "") -> AsyncGenerator[AuthServer]:
    """Run a server, its routes below a path if so asked."""
    server = AuthServer(base)
    async with serving(server.handle) as server.server:
        yield server
