"""What counts as a reply, and what may go into a request's head."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuron_anyio._http1_request import Endpoint, Origin, Prepared, render_head
from neuron_anyio._http1_wire import MAX_HEAD_BYTES, MAX_HEADERS, ReplyParser, ReplyRefused, RequestRefused
from tests.runtime.http1_replies import REPLIES

CHUNKED = (
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"3;ext=1\r\nabc\r\n2\r\nde\r\n0\r\nX-Trailer: t\r\nConnection: close\r\n\r\n"
)
EARLY_HINTS = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
LENGTH = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabcde"

# name -> (bytes, status, body)
WHOLE = {
    "length": (LENGTH, 200, b"abcde"),
    "chunked with trailers": (CHUNKED, 200, b"abcde"),
    "1xx first": (CONTINUE + EARLY_HINTS + LENGTH, 200, b"abcde"),
    "100 with length 0": (b"HTTP/1.1 100 C\r\nContent-Length: 0\r\n\r\n" + LENGTH, 200, b"abcde"),
    "204": (b"HTTP/1.1 204 No Content\r\n\r\n", 204, b""),
    "304 with the length of what it stands for": (b"HTTP/1.1 304 N\r\nContent-Length: 9\r\n\r\n", 304, b""),
    "empty": (b"HTTP/1.1 500 \r\nContent-Length: 0\r\nX-Empty:\r\nX-Space:  v \t\r\n\r\n", 500, b""),
    "unknown status": (b"HTTP/1.1 799 Hm\r\nContent-Length: 1\r\n\r\na", 799, b"a"),
}


def parse(*pieces: bytes, to_head: bool = False) -> ReplyParser:
    reply = ReplyParser("http://h:1", to_head=to_head)
    for piece in pieces:
        reply.feed(piece)
    return reply


@pytest.mark.parametrize("name", WHOLE)
@given(data=st.data())
def test_a_reply_reads_the_same_at_any_chunking(name: str, data: st.DataObject) -> None:
    wire, status, body = WHOLE[name]
    cuts = sorted(data.draw(st.lists(st.integers(1, len(wire) - 1), max_size=12, unique=True)))
    reply = parse(*(wire[a:b] for a, b in zip([0, *cuts], [*cuts, len(wire)], strict=True)))
    assert (reply.complete, reply.reusable) == (True, True)
    assert (reply.status, reply.take_body(), reply.size) == (status, body, len(body))
    assert reply.headers == parse(wire).headers


@pytest.mark.parametrize("name", WHOLE)
def test_a_reply_is_incomplete_until_its_last_byte(name: str) -> None:
    wire, _, _ = WHOLE[name]
    for cut in range(1, len(wire)):
        reply = parse(wire[:cut])
        assert not reply.complete
        with pytest.raises(ReplyRefused, match=r"cut off in the (head|body) of its reply"):
            reply.feed_eof()


def test_header_names_are_lower_case_and_values_stripped() -> None:
    reply = parse(WHOLE["empty"][0])
    assert reply.headers == [(b"content-length", b"0"), (b"x-empty", b""), (b"x-space", b"v")]


def test_trailers_and_informational_headers_do_not_pass_for_headers() -> None:
    assert parse(CHUNKED).headers == [(b"transfer-encoding", b"chunked")]
    assert parse(WHOLE["1xx first"][0]).headers == [(b"content-length", b"5")]


def test_no_bytes_at_all_is_an_error_of_its_own() -> None:
    with pytest.raises(ReplyRefused, match="http://h:1: closed the connection without a reply"):
        parse().feed_eof()


@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
def test_a_reply_without_length_lasts_until_the_end_of_the_connection(version: bytes) -> None:
    reply = parse(b"HTTP/" + version + b" 200 OK\r\n\r\nabc", b"de")
    assert not reply.complete
    reply.feed_eof()
    assert (reply.complete, reply.reusable, reply.take_body()) == (True, False, b"abcde")


@pytest.mark.parametrize(
    "wire",
    [
        b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 1\r\n\r\na",
        b"HTTP/1.1 200 OK\r\nConnection: Close\r\nContent-Length: 1\r\n\r\na",
        b"HTTP/1.1 200 OK\r\nConnection: x, close\r\nContent-Length: 1\r\n\r\na",
        LENGTH + b"f",
        LENGTH + LENGTH,
        CHUNKED + b"\0",
    ],
)
def test_a_connection_is_not_reused(wire: bytes) -> None:
    reply = parse(wire)
    assert (reply.complete, reply.reusable) == (True, False)


@pytest.mark.parametrize(
    "head", [LENGTH[:-5], CHUNKED[: CHUNKED.index(b"3;")], b"HTTP/1.1 200 OK\r\n\r\n", CONTINUE + LENGTH[:-5]]
)
def test_a_reply_to_head_has_no_body_whatever_it_announces(head: bytes) -> None:
    for cut in range(len(head)):
        reply = parse(head[:cut], to_head=True) if cut else parse(to_head=True)
        assert not reply.complete
        reply.feed(head[cut:])
        assert (reply.complete, reply.reusable, reply.take_body()) == (True, True, b"")
        reply.feed(b"a")
        assert not reply.reusable
    assert not parse(head + b"abcde", to_head=True).reusable


@pytest.mark.parametrize(
    ("wire", "why"),
    [
        (b"SSH-2.0-OpenSSH_9.6\r\n", "not an HTTP/1.1 reply"),
        (b"HTTP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n", "wrong version"),
        (b"HTTP/0.9 200 OK\r\nContent-Length: 0\r\n\r\n", "wrong version"),
        (b"HTTP/1.1 099 OK\r\nContent-Length: 0\r\n\r\n", "status"),
        (b"HTTP/1.1 101 S\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\nabc", "101"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\na", "http://h:1: "),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\na", "http://h:1: "),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1, 1\r\n\r\na", "http://h:1: "),
        (b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\na", "http://h:1: "),
        (b"HTTP/1.1 200 OK\r\nContent-Length:\r\n\r\na", "http://h:1: "),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\na", "http://h:1: "),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "http://h:1: "),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n0\r\n\r\n", "http://h:1: "),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", "other than chunked"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n", "other than chunked"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", "contradict"),
        (b"HTTP/1.1 104 X\r\nContent-Length: 2\r\n\r\nab", "informational reply with a body"),
        (b"HTTP/1.1 104 X\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "informational reply with a body"),
        (b"HTTP/1.1 200 OK\r\nA: b\0\r\n\r\n", "http://h:1: "),
        (b"HTTP/1.1 200 OK\r\nA: b\r\n folded\r\n\r\n", "http://h:1: "),
        (b"HTTP/1.1 200 OK\r\nA : b\r\n\r\n", "http://h:1: "),
        (CHUNKED.replace(b"X-Trailer", b"Content-Length"), "http://h:1: "),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n", "http://h:1: "),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nabc\r\n", "http://h:1: "),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n", "http://h:1: "),
    ],
)
def test_what_is_malformed_or_ambiguous_is_refused(wire: bytes, why: str) -> None:
    with pytest.raises(ReplyRefused, match=why) as caught:
        parse(wire)
    assert str(caught.value).startswith("http://h:1: ")
    with pytest.raises(ReplyRefused):
        parse(*(bytes([byte]) for byte in wire)).feed_eof()


def test_the_head_is_bounded_by_bytes_and_by_count() -> None:
    start = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n"
    assert parse(start + b"a: b\r\n" * (MAX_HEADERS - 1) + b"\r\n").complete
    with pytest.raises(ReplyRefused, match="more than 256 headers"):
        parse(start + b"a: b\r\n" * MAX_HEADERS + b"\r\n")
    fits = b"a: " + b"x" * (MAX_HEAD_BYTES - 100) + b"\r\n\r\n"
    assert parse(start + fits).complete
    with pytest.raises(ReplyRefused, match="65536 bytes"):
        parse(start + b"a: " + b"x" * MAX_HEAD_BYTES + b"\r\n\r\n")


@pytest.mark.parametrize(
    ("start", "more"),
    [
        (b"HTTP/1.1 200 ", b"O"),
        (b"HTTP/1.1 200 OK\r\nA: ", b"x"),
        (b"", CONTINUE),
        (b"", b"\r\n"),
        (LENGTH[:17] + b"Transfer-Encoding: chunked\r\n\r\n0\r\n", b"A: b\r\n"),
        (LENGTH[:17] + b"Transfer-Encoding: chunked\r\n\r\n1;", b"x=y;"),
    ],
    ids=["reason", "header", "informational replies", "empty lines", "trailers", "chunk extension"],
)
def test_nothing_but_a_body_may_go_on_for_ever(start: bytes, more: bytes) -> None:
    reply = parse(start) if start else parse()
    pieces = [more * (4096 // len(more))] * 40
    with pytest.raises(ReplyRefused):
        deque(map(reply.feed, pieces), maxlen=0)


@given(
    st.sampled_from([reply.wire for kind in REPLIES.values() for reply in kind.values() if reply.wire]),
    st.lists(st.floats(0, 1), max_size=12),
)
def test_what_comes_of_bytes_does_not_depend_on_how_they_are_cut(wire: bytes, at: list[float]) -> None:
    cuts = sorted({1 + int(share * (len(wire) - 1)) for share in at} - {len(wire)})
    pieces = [wire[a:b] for a, b in zip([0, *cuts], [*cuts, len(wire)], strict=True)]
    assert read(pieces) == read([wire])


def read(pieces: list[bytes]) -> tuple[int, list[tuple[bytes, bytes]], bytes] | None:
    """Return what an exchange would take from these pieces; None where it refuses."""
    reply = ReplyParser("http://h:1")
    try:
        for piece in pieces:
            if not reply.complete:
                reply.feed(piece)
        reply.feed_eof()
    except ReplyRefused:
        return None
    return reply.status, reply.headers, reply.take_body()


def test_a_body_may() -> None:
    reply = parse(CHUNKED[: CHUNKED.index(b"3;")])
    for _ in range(1000):
        reply.feed(b"400\r\n" + b"x" * 1024 + b"\r\n")
    assert reply.size == 1_024_000


def check_any_bytes(pieces: list[bytes], *, to_head: bool) -> None:
    try:
        reply = parse(*pieces, to_head=to_head)
        reply.feed_eof()
        assert reply.complete
    except ReplyRefused:
        pass


@given(st.lists(st.binary(min_size=1, max_size=60), max_size=6), st.booleans())
def test_arbitrary_bytes_are_a_reply_or_refused(pieces: list[bytes], to_head: bool) -> None:
    check_any_bytes(pieces, to_head=to_head)


@given(
    st.sampled_from([wire for wire, _, _ in WHOLE.values()]),
    st.lists(st.tuples(st.integers(0, 120), st.binary(max_size=3)), max_size=4),
    st.booleans(),
)
def test_damaged_replies_are_a_reply_or_refused(wire: bytes, damage: list[tuple[int, bytes]], to_head: bool) -> None:
    for at, patch in damage:
        wire = wire[:at] + patch + wire[at + 1 :]
    check_any_bytes([wire] if wire else [], to_head=to_head)


@given(st.binary(min_size=1), st.sampled_from(b"\r\n\0"), st.integers(0, 50))
def test_a_line_break_in_a_header_value_is_refused_without_showing_it(text: bytes, evil: int, at: int) -> None:
    value = text[:at] + bytes([evil]) + text[at:]
    with pytest.raises(RequestRefused) as caught:
        render_head(b"POST", b"/", [(b"authorization", value)])
    assert str(caught.value) == "the value of header authorization must not contain CR, LF or NUL"


@pytest.mark.parametrize("name", [b"", b"a b", b"a:", b"a\r\nb", b"a\0", "ä".encode(), b" a"])
def test_a_header_name_that_is_no_token_is_refused(name: bytes) -> None:
    with pytest.raises(RequestRefused, match="one HTTP token"):
        render_head(b"POST", b"/", [(name, b"secret")])


@pytest.mark.parametrize("method", [b"", b"GET ", b"G\nET", b"GET / HTTP/1.1\r\nX: y\r\n\r\nGET"])
def test_a_method_that_is_no_token_is_refused(method: bytes) -> None:
    with pytest.raises(RequestRefused, match="the method must be one HTTP token"):
        render_head(method, b"/", [])


@pytest.mark.parametrize("target", [b"", b"/a b", b"/a\r\nX: y", b"/\0", "/ä".encode()])
def test_a_target_that_breaks_the_request_line_is_refused(target: bytes) -> None:
    with pytest.raises(RequestRefused, match="request target"):
        render_head(b"GET", target, [])


def test_a_head_is_one_line_for_each_header() -> None:
    head = render_head(b"POST", b"/a?b=c", [(b"host", b"h"), (b"x-empty", b""), (b"accept", b"a, b")])
    assert head == b"POST /a?b=c HTTP/1.1\r\nhost: h\r\nx-empty: \r\naccept: a, b\r\n\r\n"


def test_framing_and_host_are_left_to_the_client() -> None:
    endpoint = Endpoint.parse("http://h/")
    get = Prepared.render("GET", endpoint, [(b"a", b"b")], idempotent=True)
    assert get.with_body(b"").head == b"GET / HTTP/1.1\r\nhost: h\r\na: b\r\n\r\n"
    post = Prepared.render("POST", endpoint, [], idempotent=True)
    assert post.with_body(b"").head == b"POST / HTTP/1.1\r\nhost: h\r\ncontent-length: 0\r\n\r\n"
    assert post.with_body(b"abc").head == b"POST / HTTP/1.1\r\nhost: h\r\ncontent-length: 3\r\n\r\n"
    for name in (b"Host", b"CONTENT-LENGTH", b"transfer-encoding"):
        with pytest.raises(RequestRefused, match="leave the headers"):
            Prepared.render("POST", endpoint, [(name, b"x")], idempotent=True)


def test_c9_a_prepared_request_shows_no_token() -> None:
    secret = Prepared.render("POST", Endpoint.parse("http://h/"), [(b"authorization", b"hunter2")], idempotent=True)
    assert "hunter2" not in repr(secret)
    assert "hunter2" not in repr(secret.with_body(b"hunter2"))


@pytest.mark.parametrize(
    ("url", "origin", "target", "authority"),
    [
        ("http://example.com", Origin("http", "example.com", 80), b"/", b"example.com"),
        ("https://EXAMPLE.com:443/a?b#c", Origin("https", "example.com", 443), b"/a?b", b"example.com"),
        ("https://example.com:8443/", Origin("https", "example.com", 8443), b"/", b"example.com:8443"),
        ("http://[::1]:8000/x", Origin("http", "::1", 8000), b"/x", b"[::1]:8000"),
        ("http://[::1]/", Origin("http", "::1", 80), b"/", b"[::1]"),
        (
            "http://bücher.example/ü ü",
            Origin("http", "xn--bcher-kva.example", 80),
            b"/%C3%BC%20%C3%BC",
            b"xn--bcher-kva.example",
        ),
        ("http://127.0.0.1:80/", Origin("http", "127.0.0.1", 80), b"/", b"127.0.0.1"),
    ],
)
def test_a_url_is_taken_apart(url: str, origin: Origin, target: bytes, authority: bytes) -> None:
    assert Endpoint.parse(url) == Endpoint(origin, target, authority)


def test_an_origin_reads_as_a_url() -> None:
    assert str(Origin("http", "::1", 80)) == "http://[::1]:80"
    assert str(Origin("https", "example.com", 443)) == "https://example.com:443"


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("ftp://example.com/", "http://"),
        ("/path", "absolute"),
        ("example.com", "absolute"),
        ("", "absolute"),
        ("http://", "absolute"),
        ("http://user:hunter2@example.com/", "must not carry credentials"),
        ("http://h:65536/", "port"),
        ("http://h:0/", "port"),
        ("http://h:x/", "not a URL"),
        ("http://h/\n", "not a URL"),
        ("http://[::zz]/", "not a URL"),
    ],
)
def test_a_url_that_leads_nowhere_is_refused(url: str, why: str) -> None:
    with pytest.raises(ValueError, match=why) as caught:
        Endpoint.parse(url)
    assert "hunter2" not in str(caught.value)


@given(
    st.from_regex(r"(http|https|HTTP|ws)://[a-zA-Z0-9._-]{0,12}(:[0-9]{0,6})?(/[a-z.%?'&=/ ~-]{0,12})?", fullmatch=True)
)
def test_a_url_is_read_without_httpx_as_httpx_reads_it(url: str) -> None:
    assert _read(Endpoint.parse, url) == _read(Endpoint._read_by_httpx, url)


def _read(read: Callable[[str], Endpoint], url: str) -> Endpoint | None:
    try:
        return read(url)
    except RequestRefused:
        return None
