"""Replies of every kind, what is to come of them here, and where and why httpx does otherwise.

A row says all of it: a reply with a reason in `httpx` must fare differently there, one without must fare the same.
"""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["CHUNKED", "CONTINUE", "LENGTH", "OK", "REPLIES", "TO_HEAD", "Reply"]

START = b"HTTP/1.1 200 OK\r\n"
LENGTH = b"Content-Length: 2\r\n"
OK = START + LENGTH + b"\r\nok"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
ENCODED = b"Transfer-Encoding: chunked\r\n"
CHUNKS = b"2\r\nok\r\n0\r\n\r\n"
CHUNKED = START + ENCODED + b"\r\n" + CHUNKS
KIB = 1024


class Reply(NamedTuple):
    """Bytes that a server sends, and what becomes of them.

    Attributes:
        wire: the bytes.
        served: status and body, here; None where it is refused.
        httpx: why httpx does otherwise: serves what is refused here, refuses what is served, or reads it differently.
        kept: the next request goes on the same connection; None where either will do.
        until_end: nothing can be said of it before the server has closed the connection.
    """

    wire: bytes
    served: tuple[int, bytes] | None
    httpx: str = ""
    kept: bool | None = True
    until_end: bool = False


def ok(wire: bytes, httpx: str = "", *, kept: bool | None = True, body: bytes = b"ok", status: int = 200) -> Reply:
    return Reply(wire, (status, body), httpx, kept)


def cut(wire: bytes) -> Reply:
    return Reply(wire, None, until_end=True)


def no(wire: bytes, httpx: str = "") -> Reply:
    return Reply(wire, None, httpx)


def header(line: bytes) -> bytes:
    return START + line + b"\r\n" + LENGTH + b"\r\nok"


def first_line(line: bytes) -> bytes:
    return line + b"\r\n" + LENGTH + b"\r\nok"


def length(lines: bytes) -> bytes:
    return START + lines + b"\r\n\r\nok"


def encoding(value: bytes) -> bytes:
    return START + b"Transfer-Encoding:" + value + b"\r\n\r\n" + CHUNKS


def chunks(body: bytes) -> bytes:
    return START + ENCODED + b"\r\n" + body


def head_of(size: int) -> bytes:
    start = START + LENGTH + b"a: "
    return start + b"x" * (size - len(start) - 4) + b"\r\n\r\nok"


TWO_OPINIONS = "two statements about one length are refused even when they agree: whose proxy read which?"
LINE_ENDS = "a line ends with CR LF and nothing else; whoever reads it otherwise sees other headers"
FOLDED = "RFC 9112, 5.2 has done away with folded lines, and half of the readers take the second for another header"
CONTROLS = "control characters have no business in a header; httpx lets all pass but NUL and those that are spaces"
EXTENSIONS = "an extension is a token or a quoted string; httpx takes whatever stands before the end of the line"
SPACE = "RFC 9112, 7.1 has no white space there; who skips it and who does not see different sizes"
VERSION = "no such version was ever agreed on"
FLOOD = "more than 64 KiB between two pieces of body, or 256 headers, are an attack or a mistake; httpx stops later"
ONE_PIECE = "httpx limits only what it has to keep back, which depends on how it comes"
INFORMATIONAL = "an informational reply says how long its body is, and has none: the next head may be inside of it"
UNREAD = "what stands in the reason phrase is shown to nobody here"
LONG_SIZE = "leading zeros change no size; httpx counts digits"
AFTER_1XX = "an empty line after an informational reply belongs to nothing, and moves nothing"

REPLIES: dict[str, dict[str, Reply]] = {
    "ends": {
        "length": ok(OK),
        "length 0": ok(START + b"Content-Length: 0\r\n\r\n", body=b""),
        "chunked": ok(CHUNKED),
        "chunked without body": ok(chunks(b"0\r\n\r\n"), body=b""),
        "chunked in many chunks": ok(chunks(b"1\r\nx\r\n" * 5000 + b"0\r\n\r\n"), body=b"x" * 5000),
        "until the end": Reply(START + b"\r\nok", (200, b"ok"), kept=False, until_end=True),
        "until the end, empty": Reply(START + b"\r\n", (200, b""), kept=False, until_end=True),
        "until the end, though it says keep-alive": Reply(
            START + b"Connection: keep-alive\r\n\r\nok", (200, b"ok"), kept=False, until_end=True
        ),
        "Connection: close": ok(START + b"Connection: close\r\n" + LENGTH + b"\r\nok", kept=False),
        "Connection: close, chunked": ok(START + b"Connection: Close\r\n" + ENCODED + b"\r\n" + CHUNKS, kept=False),
        "Connection: close in a list": ok(START + b"Connection: x, close\r\n" + LENGTH + b"\r\nok", kept=False),
        "HTTP/1.0 until the end": Reply(b"HTTP/1.0 200 OK\r\n\r\nok", (200, b"ok"), kept=False, until_end=True),
        "HTTP/1.0 with length": ok(b"HTTP/1.0 200 OK\r\n" + LENGTH + b"\r\nok", kept=False),
        "HTTP/1.0 keep-alive": ok(b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n" + LENGTH + b"\r\nok", kept=False),
        "HTTP/1.0 chunked": ok(b"HTTP/1.0 200 OK\r\n" + ENCODED + b"\r\n" + CHUNKS, kept=False),
    },
    "cut off": {
        "nothing": cut(b""),
        "half a status line": cut(b"HTTP/1.1 200"),
        "half a head": cut(START + LENGTH),
        "half a length": cut(OK[:-1]),
        "half a chunk": cut(chunks(b"3\r\nok")),
        "no last chunk": cut(chunks(b"2\r\nok\r\n")),
        "half a last chunk": cut(chunks(b"2\r\nok\r\n0\r\n")),
        "half a trailer": cut(chunks(b"2\r\nok\r\n0\r\nA: b\r\n")),
        "only informational": cut(CONTINUE),
    },
    "informational": {
        "100": ok(CONTINUE + OK),
        "103": ok(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + OK),
        "several 1xx": ok(
            CONTINUE * 2 + b"HTTP/1.1 102 P\r\n\r\nHTTP/1.1 103 E\r\nLink: x\r\n\r\nHTTP/1.1 199 X\r\n\r\n" + OK
        ),
        "2,600 times 100": ok(CONTINUE * 2600 + OK),
        "5,000 times 100": no(CONTINUE * 5000 + OK, FLOOD),
        "100 with length 0": ok(b"HTTP/1.1 100 C\r\nContent-Length: 0\r\n\r\n" + OK),
        "100 with a length": no(b"HTTP/1.1 100 C\r\nContent-Length: 2\r\n\r\n" + OK, INFORMATIONAL),
        "100 with a body": no(b"HTTP/1.1 100 C\r\nContent-Length: 2\r\n\r\nab" + OK),
        "100 chunked": no(b"HTTP/1.1 100 C\r\n" + ENCODED + b"\r\n" + OK, INFORMATIONAL),
        "100 that closes": no(
            b"HTTP/1.1 100 C\r\nConnection: close\r\n\r\n" + OK, "announced the end of the connection and went on"
        ),
        "100 in HTTP/1.0": no(b"HTTP/1.0 100 C\r\n\r\n" + OK, "HTTP/1.0 has no informational replies"),
        "100 with Upgrade": ok(b"HTTP/1.1 100 C\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n" + OK),
        "100, an empty line": ok(CONTINUE + b"\r\n" + OK, AFTER_1XX),
        "101": no(b"HTTP/1.1 101 S\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n"),
        "101 and a reply": no(b"HTTP/1.1 101 S\r\n\r\n" + OK),
        "200 with Upgrade": ok(START + b"Upgrade: x\r\nConnection: upgrade\r\n" + LENGTH + b"\r\nok"),
    },
    "without body": {
        "204": ok(b"HTTP/1.1 204 N\r\n\r\n", status=204, body=b""),
        "204 with a length": ok(b"HTTP/1.1 204 N\r\n" + LENGTH + b"\r\n", status=204, body=b""),
        "204 with a length and a body": ok(
            b"HTTP/1.1 204 N\r\n" + LENGTH + b"\r\nok", status=204, body=b"", kept=False
        ),
        "204 chunked": ok(b"HTTP/1.1 204 N\r\n" + ENCODED + b"\r\n" + CHUNKS, status=204, body=b"", kept=False),
        "204 with two lengths": no(b"HTTP/1.1 204 N\r\n" + LENGTH * 2 + b"\r\n", TWO_OPINIONS),
        "304": ok(b"HTTP/1.1 304 N\r\n\r\n", status=304, body=b""),
        "304 with the length of what it stands for": ok(
            b"HTTP/1.1 304 N\r\nContent-Length: 9\r\n\r\n", status=304, body=b""
        ),
        "304 chunked": ok(b"HTTP/1.1 304 N\r\n" + ENCODED + b"\r\n", status=304, body=b""),
        "304 with a body": ok(b"HTTP/1.1 304 N\r\n" + LENGTH + b"\r\nok", status=304, body=b"", kept=False),
        "205 with a body": ok(b"HTTP/1.1 205 R\r\n" + LENGTH + b"\r\nok", status=205),
    },
    "more than was asked for": {
        "two replies": ok(OK + OK.replace(b"ok", b"no"), kept=False),
        "two chunked replies": ok(CHUNKED + CHUNKED.replace(b"ok", b"no"), kept=False),
        "204 and a reply": ok(b"HTTP/1.1 204 N\r\n\r\n" + OK, status=204, body=b"", kept=False),
        "half a reply after the reply": ok(OK + b"HTTP/1.1 200", kept=False),
        "an empty line after the reply": ok(OK + b"\r\n", kept=None),  # which moves nothing
        "NUL after the reply": ok(OK + b"\0", kept=False),
        "text after the chunks": ok(CHUNKED + b"text", kept=False),
        "a reply after the end of HTTP/1.0": ok(b"HTTP/1.0 200 OK\r\n" + LENGTH + b"\r\nok" + OK, kept=False),
    },
    "lengths": {
        "length in lower case": ok(length(b"content-length: 2")),
        "length without space": ok(length(b"Content-Length:2")),
        "length with white space": ok(length(b"Content-Length:\t 2 \t")),
        "length with zeros": ok(length(b"Content-Length: 0002")),
        "length twice": no(length(LENGTH + b"Content-Length: 2"), TWO_OPINIONS),
        "two lengths": no(length(LENGTH + b"Content-Length: 3")),
        "length twice in a list": no(length(b"Content-Length: 2, 2"), TWO_OPINIONS),
        "two lengths in a list": no(length(b"Content-Length: 2, 3")),
        "length and comma": no(length(b"Content-Length: 2,")),
        "no length, and a length": no(length(b"Content-Length:\r\nContent-Length: 2")),
        "no length": no(length(b"Content-Length:")),
        "length +2": no(length(b"Content-Length: +2")),
        "length -2": no(length(b"Content-Length: -2")),
        "length 0x2": no(length(b"Content-Length: 0x2")),
        "length 2.0": no(length(b"Content-Length: 2.0")),
        "length 0_2": no(length(b"Content-Length: 0_2")),
        "length 2 0": no(length(b"Content-Length: 2 0")),
        "length 2;": no(length(b"Content-Length: 2;")),
        "length in other digits": no(length("Content-Length: ٢".encode())),
        "length after VT": no(length(b"Content-Length: \x0b2")),
        "length beyond 64 bits": cut(length(b"Content-Length: 18446744073709551618"))._replace(until_end=False),
        "length of 21 digits": no(length(b"Content-Length: 999999999999999999999")),
        "length with chunks": no(START + LENGTH + ENCODED + b"\r\n" + CHUNKS, TWO_OPINIONS),
        "chunks with length": no(START + ENCODED + LENGTH + b"\r\n" + CHUNKS, TWO_OPINIONS),
        "length and identity": no(START + LENGTH + b"Transfer-Encoding: identity\r\n\r\nok"),
    },
    "transfer-encodings": {
        "ChunKed": ok(encoding(b" ChunKed"), "the same, but httpx shows the header's value in lower case"),
        "chunked without space": ok(encoding(b"chunked")),
        "chunked among spaces": ok(encoding(b"  chunked  ")),
        "chunked among tabs": no(encoding(b"\tchunked\t"), "some readers do not take a tab for white space"),
        "chunked and comma": no(encoding(b" chunked,")),
        "comma and chunked": no(encoding(b" ,chunked")),
        "chunked twice": no(START + ENCODED * 2 + b"\r\n" + CHUNKS),
        "chunked twice in a list": no(encoding(b" chunked, chunked")),
        "gzip, chunked": no(encoding(b" gzip, chunked")),
        "chunked, gzip": no(encoding(b" chunked, gzip")),
        "chunked, identity": no(encoding(b" chunked, identity")),
        "identity": no(encoding(b" identity")),
        "no transfer-encoding": no(encoding(b"")),
        "xchunked": no(encoding(b" xchunked")),
        "chunked;q=1": no(encoding(b" chunked;q=1")),
        '"chunked"': no(encoding(b' "chunked"')),
        "chunked after VT": no(encoding(b" \x0bchunked")),
        "chunked before FF": no(encoding(b" chunked\x0c")),
        "chunked before NUL": no(encoding(b" chunked\0")),
        "chunked in a folded line": no(encoding(b"\r\n chunked"), FOLDED),
        "Transfer-Encoding before a space": no(START + b"Transfer-Encoding : chunked\r\n\r\n" + CHUNKS),
        "Transfer_Encoding": Reply(
            START + b"Transfer_Encoding: chunked\r\n\r\n" + CHUNKS, (200, CHUNKS), kept=False, until_end=True
        ),
    },
    "chunks": {
        "chunk in capitals": ok(chunks(b"A\r\n0123456789\r\n0\r\n\r\n"), body=b"0123456789"),
        "chunk with zeros": ok(chunks(b"0000000002\r\nok\r\n000\r\n\r\n")),
        "chunk with 29 zeros": ok(chunks(b"0" * 29 + b"2\r\nok\r\n0\r\n\r\n"), LONG_SIZE),
        "chunk +2": no(chunks(b"+2\r\nok\r\n0\r\n\r\n")),
        "chunk -2": no(chunks(b"-2\r\nok\r\n0\r\n\r\n")),
        "chunk -0": no(chunks(b"2\r\nok\r\n-0\r\n\r\n")),
        "chunk 0x2": no(chunks(b"0x2\r\nok\r\n0\r\n\r\n")),
        "chunk 0_2": no(chunks(b"0_2\r\nok\r\n0\r\n\r\n")),
        "chunk 2g": no(chunks(b"2g\r\nok\r\n0\r\n\r\n")),
        "chunk after a space": no(chunks(b" 2\r\nok\r\n0\r\n\r\n")),
        "chunk before a space": no(chunks(b"2 \r\nok\r\n0\r\n\r\n"), SPACE),
        "chunk before a tab": no(chunks(b"2\t\r\nok\r\n0\r\n\r\n"), SPACE),
        "chunk before VT": no(chunks(b"2\x0b\r\nok\r\n0\r\n\r\n")),
        "chunk before CR": no(chunks(b"2\r\r\nok\r\n0\r\n\r\n")),
        "chunk beyond 64 bits": no(chunks(b"10000000000000002\r\nok\r\n0\r\n\r\n")),
        "chunk without size": no(chunks(b"\r\nok\r\n0\r\n\r\n")),
        "chunk of an extension": no(chunks(b";a\r\nok\r\n0\r\n\r\n")),
        "chunk longer than it says": no(chunks(b"2\r\nokk\r\n0\r\n\r\n")),
        "chunk shorter than it says": no(chunks(b"3\r\nok\r\n0\r\n\r\n")),
        "chunk without end": no(chunks(b"2\r\nok0\r\n\r\n")),
        "chunk, LF after its size": no(chunks(b"2\nok\r\n0\r\n\r\n")),
        "chunk, LF after its bytes": no(chunks(b"2\r\nok\n0\r\n\r\n")),
        "chunk, LF after the last": no(chunks(b"2\r\nok\r\n0\n\r\n")),
        "chunk, LF at the end": no(chunks(b"2\r\nok\r\n0\r\n\n"), LINE_ENDS),
        "chunks with LF alone": no(chunks(b"2\nok\n0\n\n")),
        "chunks with CR alone": no(chunks(b"2\rok\r0\r\r")),
        "extension": ok(chunks(b"2;a=b;c\r\nok\r\n0;d\r\n\r\n")),
        "extension in quotes": ok(chunks(b'2;a="b;c"\r\nok\r\n0\r\n\r\n')),
        "extension after a space": no(chunks(b"2 ;a=b\r\nok\r\n0\r\n\r\n")),
        "extension without name": no(chunks(b"2;\r\nok\r\n0\r\n\r\n"), EXTENSIONS),
        "extension with NUL": no(chunks(b"2;a\0\r\nok\r\n0\r\n\r\n"), EXTENSIONS),
        "extension with CR": no(chunks(b"2;a\rb\r\nok\r\n0\r\n\r\n"), EXTENSIONS),
        "extension with LF": no(chunks(b"2;a\nok\r\n0\r\n\r\n")),
        "extension of bytes": no(chunks(b"2;a=\xff\r\nok\r\n0\r\n\r\n"), EXTENSIONS),
        "trailer": ok(chunks(b"2\r\nok\r\n0\r\nA: b\r\nC: d\r\n\r\n")),
        "trailer that closes": ok(chunks(b"2\r\nok\r\n0\r\nConnection: close\r\n\r\n")),
        "trailer with a length": no(
            chunks(b"2\r\nok\r\n0\r\nContent-Length: 9\r\n\r\n"), "RFC 9110, 6.5.1: no framing in trailers"
        ),
        "trailer with an encoding": ok(chunks(b"2\r\nok\r\n0\r\nTransfer-Encoding: chunked\r\n\r\n")),
        "trailer without colon": no(chunks(b"2\r\nok\r\n0\r\nA b\r\n\r\n")),
        "trailer with NUL": no(chunks(b"2\r\nok\r\n0\r\nA: b\0\r\n\r\n")),
        "trailer with LF": no(chunks(b"2\r\nok\r\n0\r\nA: b\n\r\n"), LINE_ENDS),
        "trailer folded": no(chunks(b"2\r\nok\r\n0\r\nA: b\r\n c\r\n\r\n"), FOLDED),
    },
    "headers": {
        "header three times": ok(header(b"A: b\r\nA: c\r\na: b")),
        "header without value": ok(header(b"A:")),
        "header among spaces": ok(header(b"A: \t b \t ")),
        "header in quotes": ok(header(b'A: "b\\"c"')),
        "header in UTF-8": ok(header("A: ü".encode())),
        "header in Latin-1": ok(header(b"A: \xff\xe9")),
        "header folded": no(header(b"A: b\r\n c"), FOLDED),
        "header folded by a tab": no(header(b"A: b\r\n\tc"), FOLDED),
        "first header folded": no(header(b" A: b")),
        "header with NUL": no(header(b"A: b\0c")),
        "header with NUL in its name": no(header(b"A\0: b")),
        "header with SOH": no(header(b"A: \x01"), CONTROLS),
        "header with DEL": no(header(b"A: \x7f"), CONTROLS),
        "header with ESC": no(header(b"A: \x1b[0m"), CONTROLS),
        "header with VT": no(header(b"A: b\x0bc")),
        "header with FF": no(header(b"A: b\x0cc")),
        "space before the colon": no(header(b"A : b")),
        "tab before the colon": no(header(b"A\t: b")),
        "no colon": no(header(b"Ab")),
        "no name": no(header(b": b")),
        "name with a space": no(header(b"A B: c")),
        "name in brackets": no(header(b"(A): b")),
        "name of bytes": no(header(b"\xff: b")),
        "CR in a value": no(header(b"A: b\rc")),
        "LF in a value": no(header(b"A: b\nc")),
        "CR CR LF": no(header(b"A: b\r")),
        "CR between headers": no(header(b"A: b\rB: c")),
        "LF between headers": no(header(b"A: b\nB: c"), LINE_ENDS),
        "LF alone": no(OK.replace(b"\r\n", b"\n"), LINE_ENDS),
        "CR alone": no(OK.replace(b"\r\n", b"\r")),
        "LF after the status": no(b"HTTP/1.1 200 OK\n" + LENGTH + b"\r\nok", LINE_ENDS),
        "LF at the end of the head": no(START + LENGTH + b"\nok", LINE_ENDS),
    },
    "first lines": {
        "no reason": ok(first_line(b"HTTP/1.1 200")),
        "no reason after the space": ok(first_line(b"HTTP/1.1 200 ")),
        "reason in UTF-8": ok(first_line("HTTP/1.1 200 Schön".encode())),
        "reason with a tab": ok(first_line(b"HTTP/1.1 200 O\tK")),
        "reason with NUL": ok(first_line(b"HTTP/1.1 200 O\0K"), UNREAD),
        "reason with VT": ok(first_line(b"HTTP/1.1 200 O\x0bK"), UNREAD),
        "reason with CR": no(first_line(b"HTTP/1.1 200 O\rK")),
        "status 600": ok(first_line(b"HTTP/1.1 600 Hm"), status=600),
        "status 999": ok(first_line(b"HTTP/1.1 999 Hm"), status=999),
        "status 099": no(first_line(b"HTTP/1.1 099 OK")),
        "status 000": no(first_line(b"HTTP/1.1 000 OK")),
        "status 99": no(first_line(b"HTTP/1.1 99 OK")),
        "status 2000": no(first_line(b"HTTP/1.1 2000 OK")),
        "status +200": no(first_line(b"HTTP/1.1 +200 OK")),
        "status 20x": no(first_line(b"HTTP/1.1 20x OK")),
        "status 200OK": no(first_line(b"HTTP/1.1 200OK")),
        "two spaces": no(first_line(b"HTTP/1.1  200 OK")),
        "tab for a space": no(first_line(b"HTTP/1.1\t200 OK")),
        "http in lower case": no(first_line(b"http/1.1 200 OK")),
        "HTTP/1.2": no(first_line(b"HTTP/1.2 200 OK"), VERSION),
        "HTTP/2.0": no(first_line(b"HTTP/2.0 200 OK"), "HTTP/2 is not written like this"),
        "HTTP/0.9": no(first_line(b"HTTP/0.9 200 OK"), "HTTP/0.9 had no status line"),
        "HTTP/2": no(first_line(b"HTTP/2 200 OK")),
        "HTTP/1.10": no(first_line(b"HTTP/1.10 200 OK")),
        "HTTP/01.1": no(first_line(b"HTTP/01.1 200 OK")),
        "HTTP/1,1": no(first_line(b"HTTP/1,1 200 OK")),
        "RTSP": no(first_line(b"RTSP/1.0 200 OK")),
        "ICE": no(first_line(b"ICE/1.0 200 OK")),
        "ICY": no(first_line(b"ICY 200 OK")),
        "a request": no(first_line(b"GET / HTTP/1.1")),
        "mail": no(b"220 mail.example ESMTP\r\n\r\n"),
        "TLS": no(b"\x15\x03\x01\0\x02\x02\x46\r\n\r\n"),
        "byte order mark": no(b"\xef\xbb\xbf" + OK),
        "NUL first": no(b"\0" + OK),
        "space first": no(b" " + OK),
        "empty line first": no(b"\r\n" + OK),
        "empty lines first": no(b"\r\n" * 3 + OK),
        "LF first": no(b"\n" + OK),
        "CR first": no(b"\r" + OK),
    },
    "floods": {
        "256 headers": ok(START + LENGTH + b"a: b\r\n" * 255 + b"\r\nok"),
        "257 headers": no(START + LENGTH + b"a: b\r\n" * 256 + b"\r\nok", FLOOD),
        "5,000 headers": no(START + LENGTH + b"a: b\r\n" * 5000 + b"\r\nok", FLOOD),
        "a head of 64 KiB less a byte": ok(head_of(64 * KIB - 1)),
        "a head of 64 KiB": ok(head_of(64 * KIB)),
        "a head of 64 KiB and a byte": no(head_of(64 * KIB + 1), FLOOD),
        "a reply of 64 KiB": ok(head_of(64 * KIB - 2)),
        "a head of 300 KiB": no(head_of(300 * KIB)),
        "a reason of 70 KB": no(first_line(b"HTTP/1.1 200 " + b"x" * 70_000), FLOOD),
        "reason and header of 60 KB": no(
            first_line(b"HTTP/1.1 200 " + b"x" * 60_000 + b"\r\nA: " + b"x" * 60_000), FLOOD
        ),
        "spaces of 70 KB": no(header(b"A:" + b" " * 70_000 + b"b"), FLOOD),
        "a line without end": no(b"HTTP/1.1 200 " + b"x" * 200_000),
        "an extension of 60 KB": ok(chunks(b"2;" + b"x" * 60_000 + b"\r\nok\r\n0\r\n\r\n")),
        "an extension of 200 KB": no(chunks(b"2;" + b"x" * 200_000 + b"\r\nok\r\n0\r\n\r\n")),
        "a trailer of 200 KB": no(chunks(b"2\r\nok\r\n0\r\nA: " + b"x" * 200_000 + b"\r\n\r\n")),
        "trailers of 90 KB": ok(chunks(b"2\r\nok\r\n0\r\n" + b"A: b\r\n" * 15_000 + b"\r\n")),
        "empty lines of 70 KB": no(b"\r\n" * 35_000 + OK),
    },
}

TO_HEAD: dict[str, Reply] = {
    "length": ok(START + b"Content-Length: 7\r\n\r\n", body=b""),
    "chunked": ok(START + ENCODED + b"\r\n", body=b""),
    "neither": ok(START + b"\r\n", body=b""),
    "304": ok(b"HTTP/1.1 304 N\r\nContent-Length: 7\r\n\r\n", status=304, body=b""),
    "1xx first": ok(CONTINUE + START + LENGTH + b"\r\n", body=b""),
    "closing": ok(START + b"Connection: close\r\n" + LENGTH + b"\r\n", body=b"", kept=False),
    "HTTP/1.0": ok(b"HTTP/1.0 200 OK\r\n" + LENGTH + b"\r\n", body=b"", kept=False),
    "with the body that it announces": ok(OK, body=b"", kept=False),
    "with chunks": ok(CHUNKED, body=b"", kept=False),
    "with a second reply": ok(START + LENGTH + b"\r\n" + OK, body=b"", kept=False),
    "half a head": cut(START + LENGTH + b"\r"),
    "two lengths": no(START + LENGTH + b"Content-Length: 3\r\n\r\n"),
    "gzip": no(START + b"Transfer-Encoding: gzip\r\n\r\n"),
}
"""Replies to a HEAD request."""
