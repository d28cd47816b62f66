"""Frames over HTTP: what goes out, and what becomes of every answer (specification, sections 1, 1.1 and 1.2)."""

from __future__ import annotations

import gzip
import math
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any, TypeAlias

import anyio
import httpx
import pytest

from neuron_anyio import HttpTransport, Limits, Timing, TransportError
from neuron_anyio.abc import EventStream, Oversized
from neuron_anyio.errors import StreamRefused
from neuron_anyio.transports.http import checked_url
from tests.runtime.http1_server import Handler, Peer, Received, Server, answering, hang, serving
from tests.runtime.http_gateway import STREAM, chunk, http_reply

# ruff: noqa: SIM117 - the outer block is the scene, the inner one the act

pytestmark = pytest.mark.anyio

KNOWN_ID = "a b/ü:@!'()*~+&=?#%"
ENCODED_ID = "a%20b%2F%C3%BC%3A%40%21%27%28%29%2A~%2B%26%3D%3F%23%25"
SECRET = "s3cr3t-" + "x" * 600

Open: TypeAlias = Callable[..., AbstractAsyncContextManager[HttpTransport]]


@pytest.fixture(params=["own", "httpx"])
def opened(request: pytest.FixtureRequest) -> Open:
    """Open a transport: over our own connections, or over a client of the user's."""

    @asynccontextmanager
    async def open_transport(url: str, **options: Any) -> AsyncGenerator[HttpTransport]:
        with anyio.fail_after(10):
            if request.param == "own":
                transport = HttpTransport(url, **options)
                async with transport.open():
                    yield transport
            else:
                seconds = options.get("timing", Timing()).request
                async with httpx.AsyncClient(timeout=seconds, verify=False, trust_env=False) as client:
                    transport = HttpTransport(url, http_client=client, **options)
                    async with transport.open():
                        yield transport

    return open_transport


def streaming(*pieces: bytes, whole: bool = True) -> Handler:
    """Answer each request with these pieces of an event stream."""

    async def handle(peer: Peer) -> None:
        await peer.request()
        await peer.send(STREAM)
        for piece in pieces:
            await peer.send(chunk(piece))
        if whole:
            await peer.send(b"0\r\n\r\n")

    return handle


async def read_all(stream: EventStream) -> list[bytes | str | Oversized]:
    documents: list[bytes | str | Oversized] = []
    with pytest.raises(anyio.EndOfStream):
        while True:
            documents += await stream.receive()
    return documents


@asynccontextmanager
async def answered(opened: Open, replies: Iterable[bytes], **options: Any) -> AsyncGenerator[HttpTransport]:
    """Open a transport to a server that gives these replies, and see to it that each is asked for once."""
    left = list(replies)

    async def answer(peer: Peer) -> None:
        while True:
            await peer.request()
            await peer.send(left.pop(0))

    async with serving(answer) as server, opened(server.origin, **options) as transport:
        yield transport
    assert not left


async def refusal(transport: HttpTransport) -> StreamRefused:
    with pytest.raises(StreamRefused) as caught:
        async with transport.subscribe("n"):
            raise AssertionError
    return caught.value


def headers_of(request: Received) -> dict[str, str]:
    return {name.lower(): value for name, value in request.headers}


# What goes out


async def test_the_base_path_is_kept_and_its_trailing_slashes_are_not(opened: Open) -> None:
    bases = {"": "", "/": "", "///": "", "/base/path": "/base/path", "/base/path/": "/base/path", "/a%2Fb": "/a%2Fb"}
    async with serving(answering(http_reply(200, content_type="text/event-stream"))) as server:
        for base in bases:
            async with opened(server.origin + base) as transport:
                async with transport.subscribe("n") as stream:
                    await read_all(stream)
                await transport.post("update-capability", b"{}")
    targets = [request.target for request in server.requests]
    assert targets[::2] == [f"{path}/neuron/events?neuronId=n" for path in bases.values()]
    assert targets[1::2] == [f"{path}/neuron/update-capability" for path in bases.values()]


async def test_the_neuron_id_is_percent_encoded_down_to_the_unreserved_characters(opened: Open) -> None:
    async with serving(streaming()) as server, opened(server.origin) as transport:
        async with transport.subscribe(KNOWN_ID) as stream:
            await read_all(stream)
    assert server.requests[0].target == f"/neuron/events?neuronId={ENCODED_ID}"


async def test_the_request_for_the_stream_has_the_headers_of_the_specification_and_no_body(opened: Open) -> None:
    async with serving(streaming()) as server, opened(server.origin, auth="t-1") as transport:
        async with transport.subscribe("n") as stream:
            await read_all(stream)
    request = server.requests[0]
    headers = headers_of(request)
    assert request.method == "GET"
    assert headers["accept"] == "text/event-stream"
    assert headers["cache-control"] == "no-store"
    assert headers["authorization"] == "Bearer t-1"
    assert headers["host"] == server.origin.removeprefix("http://")
    assert headers["accept-encoding"] == "identity"
    assert not headers.keys() & {"content-type", "content-length", "transfer-encoding", "last-event-id"}


async def test_reference_D39_a_post_has_the_headers_of_the_specification_and_the_frames_bytes(opened: Open) -> None:
    body = '{"type":"ack","output":"ü\u2028"}'.encode()
    async with serving(answering(http_reply(200))) as server, opened(server.origin, auth="t-1") as transport:
        reply = await transport.post("ack", body)
    request = server.requests[0]
    headers = headers_of(request)
    assert (reply.status, request.method, request.body) == (200, "POST", body)
    assert headers["content-type"] == "application/json"
    assert headers["authorization"] == "Bearer t-1"
    assert headers["content-length"] == str(len(body))
    assert headers["accept-encoding"] == "identity"


async def test_our_own_connections_send_nothing_but_what_is_needed() -> None:
    async with serving(answering(http_reply(200))) as server:
        transport = HttpTransport(server.origin)
        async with transport.open():
            await transport.post("ack", b"{}")
    assert sorted(headers_of(server.requests[0])) == ["accept-encoding", "content-length", "content-type", "host"]


# What comes back to a POST


async def test_reference_D30_a_redirected_post_is_no_success_and_is_not_followed(opened: Open) -> None:
    statuses = [301, 302, 303, 307, 308]
    async with answered(opened, [http_reply(status, b"", "Location: /x") for status in statuses]) as transport:
        assert [(await transport.post("ack", b"{}")).status for _ in statuses] == statuses


async def test_the_status_of_a_reply_is_told_as_it_is(opened: Open) -> None:
    statuses = [200, 201, 202, 400, 404, 409, 500, 503, 204]
    replies = [http_reply(status) for status in statuses[:-1]]
    async with answered(opened, [*replies, b"HTTP/1.1 204 No Content\r\n\r\n"]) as transport:
        assert [(await transport.post("ack", b"{}")).status for _ in statuses] == statuses


async def test_reference_D07_what_a_success_says_does_not_matter(opened: Open) -> None:
    bodies = [b"", b"{", b"not json", b"\xff\xfe", b"[" * 5000]
    async with answered(opened, [http_reply(200, body) for body in bodies]) as transport:
        for _ in bodies:
            assert (await transport.post("ack", b"{}")).status == 200


async def test_L9_a_reply_says_whether_its_body_was_json(opened: Open) -> None:
    kinds = {"application/json": True, "application/problem+json; charset=utf-8": True, "text/html": False, None: False}
    async with answered(opened, [http_reply(404, b"{}", content_type=kind) for kind in kinds]) as transport:
        assert [(await transport.post("ack", b"{}")).is_json for _ in kinds] == list(kinds.values())


async def test_the_text_of_a_reply_is_one_short_line(opened: Open) -> None:
    body = ("two\nlines\x00 and  more " + "long " * 1000).encode() + b"\xff"
    async with serving(answering(http_reply(400, body))) as server, opened(server.origin) as transport:
        text = (await transport.post("ack", b"{}")).text
    assert text.startswith("two lines")
    assert "\n" not in text
    assert len(text) <= 300


async def endless(peer: Peer) -> None:
    """Answer with a body that never ends."""
    request = await peer.request()
    status = b"200 OK" if request.method == "POST" else b"503 Down"
    await peer.send(b"HTTP/1.1 " + status + b"\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n")
    async with anyio.create_task_group() as group:
        group.start_soon(send_for_ever, peer)
        await peer.wait_closed()
        group.cancel_scope.cancel()


async def send_for_ever(peer: Peer) -> None:
    with suppress(anyio.BrokenResourceError):
        while True:
            await peer.send(chunk(b"x" * 4096))
            await anyio.lowlevel.checkpoint()  # uvloop's sends give nobody else a turn


async def test_an_endless_reply_is_cut_at_the_limit(opened: Open) -> None:
    async with serving(endless) as server, opened(server.origin, limits=Limits(reply_bytes=10_000)) as transport:
        for _ in range(2):
            assert (await transport.post("ack", b"{}")).status == 200
        await server.wait_open(0)


async def test_an_endless_refusal_of_the_stream_is_cut_at_the_limit(opened: Open) -> None:
    async with serving(endless) as server, opened(server.origin, limits=Limits(reply_bytes=10_000)) as transport:
        with pytest.raises(StreamRefused, match="answered 503 to GET /neuron/events: xxx") as caught:
            async with transport.subscribe("n"):
                raise AssertionError
        await server.wait_open(0)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("moment", ["before the head", "in the body"])
async def test_a_post_without_a_whole_reply_fails_within_its_time(opened: Open, moment: str) -> None:
    async def stall(peer: Peer) -> None:
        await peer.request()
        if moment == "in the body":
            await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
        await peer.wait_closed()

    async with serving(stall) as server, opened(server.origin, timing=Timing(request=0.05)) as transport:
        with pytest.raises(TransportError):
            await transport.post("ack", b"{}")
        await server.wait_open(0)


async def test_nobody_listening_is_a_transport_error_that_names_the_origin(free_tcp_port: int) -> None:
    origin = f"http://127.0.0.1:{free_tcp_port}"
    transport = HttpTransport(origin)
    async with transport.open():
        with pytest.raises(TransportError, match=origin):
            await transport.post("ack", b"{}")
        with pytest.raises(TransportError, match=origin):
            async with transport.subscribe("n"):
                raise AssertionError


# What comes back to the request for the stream


async def test_documents_come_out_of_chunks_in_order_and_comments_are_counted(opened: Open) -> None:
    pieces = [b": hi\n\n", b"data: 1\n\ndata: 2\r\n\r\n: again\n\n", b"event: x\ndata: caf\xc3", b"\xa9\n\n"]
    async with serving(streaming(*pieces)) as server, opened(server.origin) as transport:
        async with transport.subscribe("n") as stream:
            assert await read_all(stream) == [b"1", b"2", "café".encode()]
            assert stream.comments == 2


async def test_an_event_over_the_limit_is_skipped_with_its_head(opened: Open) -> None:
    pieces = [b"data: " + b"x" * 3000, b"y" * 3000 + b"\n\n", b"data: next\n\n"]
    limits = Limits(frame_bytes=5000)
    async with serving(streaming(*pieces)) as server, opened(server.origin, limits=limits) as transport:
        async with transport.subscribe("n") as stream:
            big, following = await read_all(stream)
    assert isinstance(big, Oversized)
    assert (big.size, big.head[:5], following) == (6000, b"xxxxx", b"next")


async def test_a_stream_that_is_cut_off_is_broken_and_one_that_ends_is_not(opened: Open) -> None:
    async with serving(streaming(b"data: 1\n\n", whole=False)) as server, opened(server.origin) as transport:
        async with transport.subscribe("n") as stream:
            assert list(await stream.receive()) == [b"1"]
            with pytest.raises(TransportError):
                await stream.receive()


async def test_a_content_type_may_have_parameters_and_any_case(opened: Open) -> None:
    kinds = ["text/event-stream", "Text/Event-Stream; charset=UTF-8", "text/event-stream;x"]
    async with answered(opened, [http_reply(200, b"data: 1\n\n", content_type=kind) for kind in kinds]) as transport:
        for _ in kinds:
            async with transport.subscribe("n") as stream:
                assert await read_all(stream) == [b"1"]


async def test_reference_D31_a_200_that_is_no_event_stream_is_refused(opened: Open) -> None:
    kinds = ["application/json", "text/html; charset=utf-8", "text/event-streams", "", None]
    async with answered(opened, [http_reply(200, b"{}", content_type=kind) for kind in kinds]) as transport:
        for kind in kinds:
            error = await refusal(transport)
            assert error.status == 200
            assert f"its content type is {kind or ''!r}, not text/event-stream" in str(error)


async def test_reference_D30_no_status_but_200_is_a_stream_and_no_redirect_is_followed(opened: Open) -> None:
    moved = [301, 302, 307, 308]
    replies = {status: b"HTTP/1.1 %d Text\r\n\r\n" % status for status in (204, 304)}
    replies |= {status: http_reply(status, content_type="text/event-stream") for status in (201, 202, 205, 206)}
    replies |= {status: http_reply(status, b"", "Location: https://elsewhere.example/x?secret=1") for status in moved}
    async with answered(opened, replies.values()) as transport:
        for status in replies:
            error = await refusal(transport)
            assert error.status == status
            assert f"answered {status} to GET /neuron/events" in str(error)
            assert ("https://elsewhere.example/x" in str(error)) is (status in moved)
            assert "secret" not in str(error)


async def test_a_refusal_has_the_status_and_what_the_gateway_said(opened: Open) -> None:
    statuses = [400, 403, 404, 409, 429, 500, 503]
    async with answered(opened, [http_reply(status, b"too many\nneurons") for status in statuses]) as transport:
        for status in statuses:
            error = await refusal(transport)
            assert error.status == status
            assert str(error).endswith(f"answered {status} to GET /neuron/events: too many neurons")


async def test_a_compressed_stream_is_refused_and_says_why(opened: Open) -> None:
    body = gzip.compress(b"data: 1\n\n")
    codings = ["gzip", "br", "unheard-of"]
    replies = [
        http_reply(200, body, f"Content-Encoding: {coding}", content_type="text/event-stream") for coding in codings
    ]
    async with answered(opened, replies) as transport:
        for _ in codings:
            error = await refusal(transport)
            assert error.status == 200
            assert "a proxy must not compress the event stream" in str(error)


async def test_identity_is_no_compression(opened: Open) -> None:
    reply = http_reply(200, b"data: 1\n\n", "Content-Encoding: Identity", content_type="text/event-stream")
    async with serving(answering(reply)) as server, opened(server.origin) as transport:
        async with transport.subscribe("n") as stream:
            assert await read_all(stream) == [b"1"]


async def test_a_compressed_error_text_is_left_out(opened: Open) -> None:
    reply = http_reply(500, gzip.compress(b"boom"), "Content-Encoding: gzip")
    async with serving(answering(reply)) as server, opened(server.origin) as transport:
        assert (await transport.post("ack", b"{}")).text == ""


async def test_reference_D17_a_stream_that_is_accepted_and_never_answered_fails_within_its_time(opened: Open) -> None:
    async with serving(hang) as server, opened(server.origin, timing=Timing(request=0.05)) as transport:
        for _ in range(3):
            with pytest.raises(TransportError, match=r"no reply .* within|timed out after .* the reply") as caught:
                async with transport.subscribe("n"):
                    raise AssertionError
            assert not isinstance(caught.value, StreamRefused)
            await server.wait_open(0)


async def test_an_open_stream_may_be_silent_for_longer_than_a_request_may_take(opened: Open) -> None:
    async def late(peer: Peer) -> None:
        await peer.request()
        await peer.send(STREAM)
        await anyio.sleep(0.25)  # the time itself is what is tested
        await peer.send(chunk(b"data: 1\n\n") + b"0\r\n\r\n")

    async with serving(late) as server, opened(server.origin, timing=Timing(request=0.1)) as transport:
        async with transport.subscribe("n") as stream:
            assert await read_all(stream) == [b"1"]


# When to come back


async def test_C5_retry_after_is_read_and_bounded(opened: Open) -> None:
    hence = format_datetime(datetime.now(UTC) + timedelta(hours=1), usegmt=True)
    values = {
        "7": 7.0,
        "0": 0.0,
        "99999999999999999999999": 300.0,
        "Wed, 21 Oct 2015 07:28:00 GMT": 0.0,
        hence: 300.0,
        "soon": None,
        "-5": None,
        "1.5": None,
        "": None,
    }
    for status in (429, 503):
        replies = [http_reply(status, b"", f"Retry-After: {value}") for value in values for _ in range(2)]
        async with answered(opened, replies) as transport:
            for seconds in values.values():
                assert (await refusal(transport)).retry_after == seconds
                assert (await transport.post("register", b"{}")).retry_after == seconds


async def test_C5_retry_after_may_be_a_date(opened: Open) -> None:
    date = format_datetime(datetime.now(UTC) + timedelta(minutes=1), usegmt=True)
    async with answered(opened, [http_reply(503, b"", f"Retry-After: {date}")]) as transport:
        error = await refusal(transport)
    assert error.retry_after is not None
    assert 50 < error.retry_after <= 60


# No token in any text


async def test_C9_a_gateway_that_echoes_the_token_does_not_get_it_into_an_error(opened: Open) -> None:
    body = b"bad token " + SECRET.encode()
    replies = [
        http_reply(403, body),
        http_reply(302, b"", f"Location: https://h/{SECRET}"),
        http_reply(403, b"y" * 280 + body),  # where the text is cut
        http_reply(403, b" " * 1190 + body),
    ]
    async with answered(opened, [reply for reply in replies for _ in range(2)], auth=SECRET) as transport:
        for _ in replies:
            error = await refusal(transport)
            reply = await transport.post("ack", b"{}")
            assert "s3cr3t" not in str(error) + repr(error) + repr(reply) + repr(transport)


async def test_C9_a_token_in_the_content_type_is_not_shown(opened: Open) -> None:
    async with answered(opened, [http_reply(200, content_type=f"x/{SECRET}")], auth=SECRET) as transport:
        assert "s3cr3t" not in str(await refusal(transport))


# The URL


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("", "begin with http"),
        ("localhost:8080", "begin with http"),
        ("ftp://h", "begin with http"),
        ("http://", "names no host"),
        ("http://:80", "names no host"),
        ("http://h:port", "no usable port"),
        ("http://h:99999", "no usable port"),
        ("http://h:0", "no usable port"),
        ("http://h\n", "strip what it was read from"),
        ("http://a b", "strip what it was read from"),
        ("http://h/\t/", "strip what it was read from"),
        ("http://user:s3cr3t@h", "carries credentials"),
        ("ws://user:s3cr3t@h", "begin with http"),
        ("http://h/?token=s3cr3t", "must end with its path"),
        ("http://h/#x", "must end with its path"),
    ],
)
def test_a_url_that_cannot_be_used_is_refused_with_the_remedy(url: str, why: str) -> None:
    with pytest.raises(ValueError, match=why) as caught:
        HttpTransport(url)
    assert "s3cr3t" not in str(caught.value)


def test_a_url_loses_nothing_but_its_trailing_slashes() -> None:
    assert checked_url("https://H.example:8443/a//b///") == "https://H.example:8443/a//b"
    assert HttpTransport("https://h.example:8443/base/").origin == "https://h.example:8443"


# A client of the user's


async def test_a_users_client_carries_everything_and_is_left_open() -> None:
    seen: list[httpx.Request] = []

    async def app(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        if request.method == "GET":
            return httpx.Response(200, headers={"content-type": "text/event-stream"}, content=b"data: 1\n\n")
        return httpx.Response(200, json={"ok": True})

    client = httpx.AsyncClient(transport=httpx.MockTransport(app), headers={"x-tenant": "acme"}, follow_redirects=True)
    async with client:
        transport = HttpTransport("https://gateway.example/base/", auth="t-1", http_client=client)
        async with transport.open():
            async with transport.subscribe("n") as stream:
                assert await read_all(stream) == [b"1"]
            assert (await transport.post("ack", b"{}")).status == 200
        assert not client.is_closed
    assert [str(request.url) for request in seen] == [
        "https://gateway.example/base/neuron/events?neuronId=n",
        "https://gateway.example/base/neuron/ack",
    ]
    assert {request.headers["x-tenant"] for request in seen} == {"acme"}
    assert {request.headers["authorization"] for request in seen} == {"Bearer t-1"}


async def test_a_users_client_keeps_its_own_time_outs_for_posts(server_that_hangs: Server) -> None:
    async with httpx.AsyncClient(timeout=0.05, trust_env=False) as client:
        transport = HttpTransport(server_that_hangs.origin, http_client=client, timing=Timing(request=60))
        async with transport.open():
            with pytest.raises(TransportError, match="ReadTimeout"), anyio.fail_after(5):
                await transport.post("ack", b"{}")


@pytest.fixture
async def server_that_hangs(anyio_backend: Any) -> AsyncGenerator[Server]:
    async with serving(hang) as server:
        yield server


async def test_a_client_without_time_outs_waits_for_the_stream_as_long_as_it_takes(server_that_hangs: Server) -> None:
    async with httpx.AsyncClient(timeout=None, trust_env=False) as client:
        transport = HttpTransport(server_that_hangs.origin, http_client=client, timing=Timing(request=0.01))
        async with transport.open():
            with anyio.move_on_after(0.1) as scope:
                async with transport.subscribe("n"):
                    raise AssertionError
            assert scope.cancelled_caught
    assert math.isinf(client.timeout.read or math.inf)
