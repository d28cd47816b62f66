"""Requests that cannot be sent as they are: refused here wherever httpx refuses them, before anything is sent."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import NamedTuple

import h11
import httpx
import pytest

from neuron_anyio.http1 import Header, Http1Transport, RequestRefused
from tests.runtime.http1_outcomes import UNUSED
from tests.runtime.http1_server import OK, answering, serving

pytestmark = pytest.mark.anyio

SECRET = b"hunter2"


class Asked(NamedTuple):
    """A request, and whether it may be sent.

    Attributes:
        sent: here.
        httpx: why httpx does otherwise.
    """

    method: str = "POST"
    headers: tuple[Header, ...] = ()
    target: bytes | None = None
    body: bytes | tuple[bytes, ...] = b"{}"
    sent: bool = False
    httpx: str = ""


def value(text: bytes, *, sent: bool = False, httpx: str = "") -> Asked:
    return Asked(headers=((b"x-a", text),), sent=sent, httpx=httpx)


def name(text: bytes, *, sent: bool = False, httpx: str = "") -> Asked:
    return Asked(headers=((text, SECRET),), sent=sent, httpx=httpx)


TWICE = "two statements about one length are for nobody to send"
NO_LINE = "ends no line and hides nothing; the server may judge it"

REQUESTS: dict[str, Asked] = {
    "plain": Asked(sent=True),
    # Values.
    "value": value(b"a b\tc", sent=True),
    "value, empty": value(b"", sent=True),
    "value in Latin-1": value(b"\xff", sent=True),
    "value with CR LF": value(SECRET + b"\r\nX-Evil: 1"),
    "value with CR LF at its end": value(SECRET + b"\r\n"),
    "value with CR": value(SECRET + b"\rX-Evil: 1"),
    "value with LF": value(SECRET + b"\nX-Evil: 1"),
    "value with LF at its end": value(SECRET + b"\n"),
    "value with NUL": value(SECRET + b"\0"),
    "value folded": value(SECRET + b"\r\n more"),
    "value of a whole request": value(b"a\r\n\r\nGET /evil HTTP/1.1\r\nHost: h\r\n\r\n"),
    "value with VT": value(b"a\x0bb", sent=True, httpx=NO_LINE),
    "value with FF": value(b"a\x0cb", sent=True, httpx=NO_LINE),
    "value after a space": value(b" a", sent=True, httpx=NO_LINE),
    "value before a space": value(b"a ", sent=True, httpx=NO_LINE),
    # Names.
    "name, empty": name(b""),
    "name with a space": name(b"x a"),
    "name before a space": name(b"x-a "),
    "name after a space": name(b" x-a"),
    "name with a colon": name(b"x:a"),
    "name with CR LF": name(b"x\r\na"),
    "name with LF": name(b"x\na"),
    "name with NUL": name(b"x\0a"),
    "name in brackets": name(b"(x)"),
    "name of bytes": name(b"\xff"),
    # Methods and targets.
    "method with a space": Asked(method="GET /"),
    "method with CR LF": Asked(method="GET\r\n"),
    "method, empty": Asked(method=""),
    "method of bytes": Asked(method="GÄT"),
    "method of its own": Asked(method="BREW", sent=True),
    "target with a space": Asked(target=b"/a b"),
    "target with CR LF": Asked(target=b"/ HTTP/1.1\r\nX-Evil: 1"),
    "target with LF": Asked(target=b"/\n"),
    "target with NUL": Asked(target=b"/\0"),
    "target, empty": Asked(target=b""),
    "target in UTF-8": Asked(target="/ä".encode()),
    "target of a star": Asked(target=b"*", sent=True),
    # Framing.
    "length and encoding": Asked(headers=((b"content-length", b"2"), (b"transfer-encoding", b"chunked")), httpx=TWICE),
    "length twice": Asked(headers=((b"content-length", b"2"), (b"content-length", b"2")), httpx=TWICE),
    "two lengths": Asked(headers=((b"content-length", b"2"), (b"content-length", b"3"))),
    "length twice in a list": Asked(headers=((b"content-length", b"2, 2"),), httpx=TWICE),
    "length that is none": Asked(headers=((b"content-length", b"x"),)),
    "length -2": Asked(headers=((b"content-length", b"-2"),)),
    "length +2": Asked(headers=((b"content-length", b"+2"),)),
    "length, too short": Asked(headers=((b"content-length", b"1"),)),
    "length, too long": Asked(headers=((b"content-length", b"3"),)),
    "encoding gzip": Asked(headers=((b"transfer-encoding", b"gzip"),)),
    "encoding twice": Asked(headers=((b"transfer-encoding", b"chunked"), (b"transfer-encoding", b"chunked"))),
    "pieces": Asked(body=(b"a", b"", b"b"), sent=True),
    "pieces of a length": Asked(body=(b"a", b"b"), headers=((b"content-length", b"2"),), sent=True),
    "pieces, too short": Asked(body=(b"a",), headers=((b"content-length", b"2"),)),
    "pieces, too long": Asked(body=(b"ab", b"c"), headers=((b"content-length", b"2"),)),
}


class Pieces(httpx.AsyncByteStream):
    """No generator: httpx leaves those to the garbage collector."""

    def __init__(self, pieces: tuple[bytes, ...]) -> None:
        self._pieces = iter(pieces)

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        try:
            return next(self._pieces)
        except StopIteration:
            raise StopAsyncIteration from None


class Whole(httpx.ByteStream):
    """As `Pieces`: a generator that httpx leaves is one that trio warns of."""

    def __init__(self, body: bytes) -> None:
        super().__init__(body)
        self._body = body

    def __aiter__(self) -> AsyncIterator[bytes]:
        return Pieces((self._body,))


def request_of(asked: Asked, url: str) -> httpx.Request:
    """Write a request past httpx's own care for headers: its transports are what is compared."""
    stream = Whole(asked.body) if isinstance(asked.body, bytes) else Pieces(asked.body)
    extensions = {} if asked.target is None else {"target": asked.target}
    headers = [(b"host", b"h"), *asked.headers]
    framed = {key for key, _ in asked.headers} & {b"content-length", b"transfer-encoding"}
    if not framed:
        in_pieces = isinstance(asked.body, tuple)
        headers.append((b"transfer-encoding", b"chunked") if in_pieces else (b"content-length", b"2"))
    request = httpx.Request("POST", url, headers=headers, stream=stream, extensions=extensions)
    request.method = asked.method
    return request


async def is_sent(transport: httpx.AsyncBaseTransport, request: httpx.Request) -> bool:
    try:
        response = await transport.handle_async_request(request)
    except (httpx.LocalProtocolError, h11.LocalProtocolError, TypeError) as exc:  # httpx lets the others through
        if isinstance(transport, Http1Transport):
            assert isinstance(exc, httpx.LocalProtocolError)  # noqa: PT017 - as below
            assert SECRET.decode() not in str(exc)  # noqa: PT017 - it may succeed, too
        return False
    assert await response.aread() == b"ok"
    return True


async def test_what_cannot_be_sent_is_refused_as_by_httpx_or_the_table_says_why() -> None:
    found: dict[str, object] = {}
    async with serving(answering(OK)) as server, Http1Transport() as ours:
        for title, asked in REQUESTS.items():
            before = len(server.requests)
            here = await is_sent(ours, request_of(asked, server.url()))
            seen = len(server.requests) - before
            async with httpx.AsyncHTTPTransport(verify=UNUSED) as transport:
                there = await is_sent(transport, request_of(asked, server.url()))
            # What is wrong with a body that is iterated shows only when it is.
            nothing_sent = seen == 0 or isinstance(asked.body, tuple)
            if here is not asked.sent or (here != there) is not bool(asked.httpx) or not (here or nothing_sent):
                found[title] = {"here": here, "there": there, "seen": seen}
        now = ours.statistics()
        assert (now.active, now.waiting, now.places) == (0, 0, now.idle)
    assert not found


async def test_the_fast_path_refuses_the_same() -> None:
    found: dict[str, object] = {}
    async with serving(answering(OK)) as server, Http1Transport() as transport:
        for title, asked in REQUESTS.items():
            if asked.target is not None or not isinstance(asked.body, bytes):
                continue  # it takes a URL, which cannot hold these, and whole bodies
            before = len(server.requests)
            for way in ("request", "stream"):
                try:
                    if way == "request":
                        await transport.request(
                            asked.method, server.url(), asked.headers, asked.body, timeout=5, max_reply_bytes=10
                        )
                    else:
                        async with transport.stream(
                            asked.method, server.url(), asked.headers, asked.body, timeout=5
                        ) as reply:
                            assert [chunk async for chunk in reply.chunks] == [b"ok"]
                    sent = True
                except RequestRefused as exc:
                    assert SECRET.decode() not in str(exc)  # noqa: PT017 - it may succeed, too
                    sent = False
                if sent is not asked.sent:
                    found[f"{title}, {way}"] = sent
            if len(server.requests) - before != 2 * asked.sent:
                found[title] = "something was sent"
    assert not found
