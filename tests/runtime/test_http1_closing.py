"""What a closed socket, a stubborn one and a forged record do to those who wait, and to their neighbours."""

from __future__ import annotations

import socket
import ssl
import struct

import anyio
import anyio.abc
import anyio.lowlevel
import pytest
import trustme
from anyio.streams.tls import TLSStream

from neuron_anyio._http1_connection import Connection, default_ssl_context
from neuron_anyio._http1_request import Origin
from neuron_anyio.http1 import Endpoint, ExchangeFailed, Http1Transport, RawReply
from tests.runtime.http1_server import OK, Peer, answering, serving

pytestmark = pytest.mark.anyio

MIB = 1024 * 1024


async def post(transport: Http1Transport, endpoint: Endpoint, body: bytes = b"{}") -> RawReply:
    return await transport.request("POST", endpoint, [], body, timeout=5, max_reply_bytes=1000)


async def deaf(peer: Peer) -> None:
    """Read the head and then nothing, and say nothing."""
    await peer.head()
    await anyio.sleep_forever()


async def test_a_client_may_get_the_file_descriptor_that_another_was_writing_to_when_closed() -> None:
    closing, other = Http1Transport(), Http1Transport()
    async with serving(deaf) as silent, serving(answering(OK)) as server:

        async def write() -> None:
            with pytest.raises(ExchangeFailed, match="the HTTP transport was closed"):
                await post(closing, silent.endpoint(), bytes(20 * MIB))

        with anyio.fail_after(5):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(write)
                await anyio.sleep(0.2)  # until the system takes no more
                await closing.aclose()
                assert (await post(other, server.endpoint())).status == 200
        assert closing.statistics().places == 0
        await other.aclose()


async def test_a_file_descriptor_that_is_anothers_at_once_is_closed_to_its_reader_all_the_same() -> None:
    async with serving(deaf) as server:
        for turns in range(30):
            transport = Http1Transport()

            async def read(transport: Http1Transport) -> None:
                with pytest.raises(ExchangeFailed, match="the HTTP transport was closed"):
                    await post(transport, server.endpoint())

            with anyio.fail_after(5):
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(read, transport)
                    for _ in range(turns):
                        await anyio.lowlevel.checkpoint()
                    await transport.aclose()
                    pair = socket.socketpair()
                    await anyio.lowlevel.checkpoint()
                    await anyio.lowlevel.checkpoint()
            for each in pair:
                each.close()
            assert transport.statistics().places == 0


class _Renegotiating(socket.socket):
    """Writable, but by the rules of TLS it is the peer's turn."""

    looks = 0

    def send(self, *_: object) -> int:
        self.looks += 1
        raise ssl.SSLWantReadError


async def test_a_peer_that_begins_a_new_handshake_and_stops_keeps_no_processor_busy() -> None:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    with theirs, _Renegotiating(fileno=ours.detach()) as stubborn:
        connection = Connection(Origin("https", "gateway.example", 443), stubborn)
        with anyio.move_on_after(0.3):
            await connection.send(b"{}")
        assert 2 <= stubborn.looks <= 35
        connection.close()


async def test_a_forged_record_behind_a_good_one_is_not_waited_over() -> None:
    authority = trustme.CA()
    server_context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(server_context)
    trusting = default_ssl_context()
    authority.configure_trust(trusting)

    async def forge(peer: Peer) -> None:
        await peer.request()
        assert isinstance(peer.stream, TLSStream)
        peer.stream._ssl_object.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n")
        forged = b"\x17\x03\x03\x00\x20" + bytes(32)
        await peer.stream.transport_stream.send(peer.stream._write_bio.read() + forged)
        await anyio.sleep_forever()

    async with serving(forge, ssl_context=server_context) as server, Http1Transport(ssl_context=trusting) as transport:
        with anyio.fail_after(4), pytest.raises(ExchangeFailed, match=r"reading the reply failed: .*bad record mac"):
            await post(transport, server.endpoint())
        assert transport.statistics().places == 0


async def test_a_connection_that_is_reset_before_its_handshake_leaves_no_socket_behind(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    listener = socket.create_server(("127.0.0.1", 0))

    async def dial_and_be_reset(host: str, port: int) -> socket.socket:
        connected = socket.create_connection((host, port))
        accepted, _ = listener.accept()
        accepted.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        accepted.close()
        connected.setblocking(False)
        return connected

    monkeypatch.setattr("neuron_anyio._http1_connection.dial", dial_and_be_reset)
    with listener:
        async with Http1Transport() as transport:
            with pytest.raises(ExchangeFailed, match="the TLS handshake failed"):
                await post(transport, Endpoint.parse(f"https://127.0.0.1:{listener.getsockname()[1]}/"))
            assert transport.statistics().places == 0


async def test_a_task_that_is_cancelled_already_sends_nothing() -> None:
    async with serving(answering(OK)) as server, Http1Transport() as transport:
        await post(transport, server.endpoint("/first"))
        with anyio.CancelScope() as scope:
            scope.cancel()
            await post(transport, server.endpoint("/cancelled"))
        await post(transport, server.endpoint("/last"))
        assert [seen.target for seen in server.requests] == ["/first", "/last"]
        assert server.connections == 1


def test_C9_rich_shows_no_token_of_what_is_sent_or_answered() -> None:
    prepared = Http1Transport().prepare("POST", "http://gateway.example/", [(b"authorization", b"Bearer s3cret")])
    reply = RawReply(200, [(b"set-cookie", b"s3cret")], b"s3cret")
    for shown in (prepared, prepared.with_body(b"s3cret"), reply):
        assert "s3cret" not in repr(shown)
        assert "s3cret" not in repr(shown.__rich_repr__())
