"""Requests' bodies in, documents out: what all routes share."""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from .gateway import Gateway
from .posts import check_size
from .principals import Principal
from .problems import PROBLEM_TYPE, Problem, Refused, problem

__all__ = ["authenticated", "decoded", "json_reply", "problem_reply", "read_body"]

DISCARD = 4
"""So many times the allowed size of a body is read and thrown away, for the sender to see why it was refused: a reply
that overtakes an upload is often lost with its connection."""

T = TypeVar("T")
_encoder = msgspec.json.Encoder()


def json_reply(value: Any, status: int = 200) -> Response:
    """Return a value as JSON."""
    return Response(_encoder.encode(value), status_code=status, media_type="application/json")


def problem_reply(refusal: Problem) -> Response:
    """Return a problem document with the headers that its status asks for."""
    headers = {
        401: {"WWW-Authenticate": 'Bearer realm="neuron gateway"'},
        429: {"Retry-After": "1"},
        503: {"Retry-After": "1"},
    }.get(refusal.status)
    return Response(_encoder.encode(refusal), status_code=refusal.status, headers=headers, media_type=PROBLEM_TYPE)


async def authenticated(gateway: Gateway, request: Request) -> Principal:
    """Return who is asking.

    Raises:
        Refused: nobody who may.
    """
    principal = await gateway.authenticator.principal(request.headers.get("authorization"))
    if principal is None:
        detail = "a valid token is needed: send Authorization: Bearer <token>"
        raise Refused(problem(401, "unauthorized", detail))
    return principal


async def read_body(request: Request, limit: int) -> bytes:
    """Return the whole body.

    Raises:
        Refused: it is longer than `limit`, or not UTF-8.
    """
    chunks: list[bytes] = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size <= limit:
            chunks.append(chunk)
        else:
            chunks.clear()
            if size > limit * DISCARD:
                break
    check_size(size, limit)
    body = b"".join(chunks)
    try:
        if not body.isascii():
            body.decode()
    except UnicodeDecodeError:
        raise Refused(problem(400, "not-utf-8", "the body is not UTF-8")) from None
    return body


def decoded(decoder: msgspec.json.Decoder[T], body: bytes) -> T:
    """Decode a caller's document.

    Raises:
        Refused: it is not JSON, or not the document that is expected; the text names the member and the rule.
    """
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        raise Refused(problem(400, "invalid-document", str(error))) from None
    except msgspec.DecodeError as error:
        detail = f"the body is not JSON: {str(error).removeprefix('JSON is malformed: ')}"
        raise Refused(problem(400, "not-json", detail)) from None
    except RecursionError:
        raise Refused(problem(400, "not-json", "the body is nested too deeply")) from None
