"""Where to ask: authorization server metadata (RFC 8414), put under the address that is known to work."""

from __future__ import annotations

import logging
from http import HTTPStatus
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import msgspec

from ..logs import named
from ._wire import UNREADABLE, TokenRequestFailed, Wire, checked_base, checked_url, open_wire

if TYPE_CHECKING:
    import httpx

__all__ = ["Endpoints", "discover_endpoints", "discovered", "rerooted"]

WELL_KNOWN = "/.well-known/oauth-authorization-server"
TOKEN_PATH = "/api/v1/auth/token"  # noqa: S105 - a path
DEVICE_PATH = "/api/v1/auth/device"

TIMEOUT = 30.0

_log = logging.getLogger("neuron_anyio.auth")


class Endpoints(msgspec.Struct, frozen=True):
    """Where a neuron enrols and mints.

    Attributes:
        token: URL of the token endpoint.
        device: URL of the device authorization endpoint.
    """

    token: str
    device: str


class _Metadata(msgspec.Struct):
    token_endpoint: str
    device_authorization_endpoint: str


async def discover_endpoints(
    moku_url: str,
    *,
    http_client: httpx.AsyncClient | None = None,
    timeout: float = TIMEOUT,  # noqa: ASYNC109 - of each request; there may be two
) -> Endpoints:
    """Ask a server for its endpoints; where it does not say, take those that every deployment has.

    Args:
        moku_url: base URL of the server. Its metadata may name an origin that only the server's side of a proxy knows,
            so of the URLs in there the paths alone count, below this one.
        http_client: an `httpx.AsyncClient` of yours; not closed here.
        timeout: seconds for each request.

    Raises:
        ValueError: the URL cannot be used.
    """
    base = checked_base(moku_url, "the server's URL")
    async with open_wire(base, http_client, timeout) as wire:
        return await discovered(wire, base)


async def discovered(wire: Wire, base: str) -> Endpoints:
    """Ask for the endpoints below a base URL that was checked."""
    parts = urlsplit(base)
    places = [f"{base}{WELL_KNOWN}"]
    if parts.path:
        # RFC 8414 puts the path behind; a proxy that passes on what begins with the path wants it before.
        places.insert(0, f"{parts.scheme}://{parts.netloc}{WELL_KNOWN}{parts.path}")
    for place in places:
        if (found := await _asked(wire, place, base)) is not None:
            return found
    return Endpoints(token=base + TOKEN_PATH, device=base + DEVICE_PATH)


async def _asked(wire: Wire, place: str, base: str) -> Endpoints | None:
    try:
        answer = await wire.get(place)
        if answer.status == HTTPStatus.NOT_FOUND:
            _log.info("no metadata at %s", place, extra=named("metadata.absent", place=place))
            return None
        if not HTTPStatus.OK <= answer.status < HTTPStatus.MULTIPLE_CHOICES:
            line = named("metadata.refused", place=place, status=answer.status)
            _log.warning("no metadata at %s: the server answered %d", place, answer.status, extra=line)
            return None
        metadata = msgspec.json.decode(answer.body, type=_Metadata)
        return Endpoints(
            token=rerooted(metadata.token_endpoint, base), device=rerooted(metadata.device_authorization_endpoint, base)
        )
    except TokenRequestFailed as exc:
        _log.warning("no metadata: %s", exc, extra=named("metadata.unreachable", place=place))
    except UNREADABLE:
        line = named("metadata.unreadable", place=place)
        text = "the metadata at %s is not the JSON object that it should be; the usual paths are taken"
        _log.warning(text, place, extra=line)
    except ValueError as exc:
        line = named("metadata.unusable", place=place)
        _log.warning("the metadata at %s cannot be used: %s; the usual paths are taken", place, exc, extra=line)
    return None


def rerooted(served: str, base: str) -> str:
    """Return the path of a URL below a base URL, once: a server that knows the base's path has it in there already.

    Raises:
        ValueError: there is no path, or it cannot be sent.
    """
    path = urlsplit(served).path
    if not path.strip("/"):
        raise ValueError("an endpoint has no path")
    path = path if path.startswith("/") else f"/{path}"
    parts = urlsplit(base)
    if parts.path and path.startswith(f"{parts.path}/"):
        return checked_url(f"{parts.scheme}://{parts.netloc}{path}", "an endpoint")
    return checked_url(base + path, "an endpoint")
