"""A whole neuron over real HTTP, where HTTP matters: promises C as a gateway sees them."""

from __future__ import annotations

import json
import logging
from contextlib import suppress
from typing import Any

import anyio
import httpx
import pytest

from neuron_anyio import (
    AuthenticationFailed,
    Backoff,
    CredentialRevoked,
    NeuronError,
    RegistrationRejected,
    Timing,
    TransportError,
    events,
    open_neuron,
)
from neuron_anyio.testing.steered_handler import SteeredHandler
from tests.runtime.handlers import echo
from tests.runtime.http1_server import Peer, hang, reset, serving
from tests.runtime.http_gateway import HttpGateway, Seen, bearer, http_gateway, http_reply, sse

pytestmark = pytest.mark.anyio

FAST = Backoff(initial=0.01, maximum=0.02)
UNAUTHORIZED = http_reply(401, b'{"error":"unauthorized"}')
SECRET = "s3cr3t-t0k3n"


def neuron(gateway: HttpGateway | str, *capabilities: Any, **options: Any) -> Any:
    url = gateway if isinstance(gateway, str) else gateway.url
    options.setdefault("timing", Timing(reconnect=FAST))
    return open_neuron(url, neuron_id="neuron-1", capabilities=capabilities or [echo], **options)


async def fails(gateway: HttpGateway, kind: type[NeuronError], **options: Any) -> NeuronError:
    """Open a neuron that must fail, and return the one error that comes out."""
    with anyio.fail_after(10), pytest.raises(NeuronError) as caught:
        async with neuron(gateway, **options):
            await anyio.sleep_forever()
    assert type(caught.value) is kind
    return caught.value


# C1, C2, C3: connecting and registering


async def test_C1_a_registered_frame_that_overtakes_the_reply_to_register_counts() -> None:
    seen = Seen()
    async with http_gateway(register=False) as gateway, anyio.create_task_group() as group:
        gateway.hold("register")

        async def overtake() -> None:
            (frame,) = await gateway.wait_posted("register")
            gateway.registered([{**frame["capabilities"][0], "concurrency": 2}])
            await seen.wait(events.Registered)
            gateway.release("register")

        group.start_soon(overtake)
        async with neuron(gateway, on_event=seen) as running:
            assert running.session.id == "session-1"
            assert running.session.capabilities == {"test/echo": 2}
    assert len(seen.of(events.Registered)) == 1


async def test_C2_a_wrong_path_is_one_error_that_says_what_to_check() -> None:
    async with http_gateway() as gateway:
        gateway.stream_replies = [http_reply(404, b"<h1>Not Found</h1>", content_type="text/html")]
        error = await fails(gateway, RegistrationRejected)
    assert isinstance(error, RegistrationRejected)
    assert error.status == 404
    assert f"{gateway.server.origin} answered 404 to GET /neuron/events" in str(error)
    assert "check the path of the gateway's URL" in str(error)


@pytest.mark.parametrize("status", [400, 403, 405, 410, 422])
async def test_C2_a_stream_refused_for_good_before_the_first_acceptance_is_fatal(status: int) -> None:
    async with http_gateway() as gateway:
        gateway.stream_replies = [http_reply(status, b"no such neuron here")]
        error = await fails(gateway, RegistrationRejected)
    assert "no such neuron here" in str(error)
    assert "check" in str(error)
    assert len(gateway.gets) == 1


async def test_C2_whatever_may_pass_is_tried_again_until_there_is_a_stream() -> None:
    async with http_gateway() as gateway:
        gateway.stream_replies = [
            *(http_reply(status) for status in (408, 409, 425, 429, 500, 502, 503, 504)),
            http_reply(302, b"", "Location: /elsewhere"),
            http_reply(307, b"", "Location: /elsewhere"),
            b"HTTP/1.1 204 No Content\r\n\r\n",
            http_reply(200, b"{}"),
            http_reply(200, b"x", "Content-Encoding: gzip", content_type="text/event-stream"),
            b"SSH-2.0-what\r\n\r\n",
            reset_it,
        ]
        async with neuron(gateway) as running:
            assert running.snapshot().connection == "registered"
    assert len(gateway.gets) == 16
    assert {request.target for request in gateway.gets} == {"/neuron/events?neuronId=neuron-1"}
    assert len(gateway.posted("register")) == 1


async def reset_it(peer: Peer) -> None:
    reset(peer)
    await anyio.lowlevel.checkpoint()


async def test_C2_after_the_first_acceptance_a_404_is_an_outage_and_a_403_is_not() -> None:
    async with http_gateway() as gateway:
        with pytest.raises(RegistrationRejected, match="403"), anyio.fail_after(10):
            async with neuron(gateway):
                gateway.stream_replies = [http_reply(404)] * 3
                gateway.end_stream()
                await gateway.wait_streams(2)
                gateway.stream_replies = [http_reply(403)]
                gateway.end_stream()
                await anyio.sleep_forever()
    assert len(gateway.gets) == 6


@pytest.mark.parametrize("answer", [http_reply(302, b"", "Location: /x"), http_reply(500), http_reply(503), reset_it])
async def test_reference_D06_a_register_that_failed_is_tried_again_on_the_open_stream(answer: Any) -> None:
    async with http_gateway() as gateway:
        gateway.replies["register"] = [answer, answer]
        async with neuron(gateway, timing=Timing(heartbeat=0.02, reconnect=FAST)):
            await gateway.wait_posted("heartbeat")
    assert len(gateway.posted("register")) == 3
    assert gateway.streams == 1


async def test_reference_D37_frames_are_read_while_register_waits_for_its_answer() -> None:
    seen = Seen()
    async with http_gateway(register=False) as gateway, anyio.create_task_group() as group:
        gateway.hold("register")

        async def serve_meanwhile() -> None:
            await gateway.wait_posted("register")
            gateway.lease("l1", value=1)
            assert (await gateway.wait_result("l1"))["type"] == "ack"
            gateway.registered([{"type": "test/echo", "scope": "any", "concurrency": 1}])
            await seen.wait(events.Registered)
            gateway.release("register")

        group.start_soon(serve_meanwhile)
        async with neuron(gateway, on_event=seen):
            pass


async def test_reference_D38_a_nack_that_waits_for_its_answer_holds_up_nothing() -> None:
    async with http_gateway() as gateway, neuron(gateway):
        gateway.hold("nack")
        gateway.lease("l1", capability="test/unknown")
        await gateway.wait_posted("nack", lease_id="l1")
        gateway.lease("l2", value=2)
        assert (await gateway.wait_result("l2"))["type"] == "ack"
        gateway.release("nack")


# C4: tokens


class Tokens:
    """A source whose tokens the test sets, and which can raise."""

    def __init__(self, current: str | Exception = SECRET) -> None:
        self.current = current
        self.asked = 0
        self.refused: list[str] = []

    async def token(self, *, refused: str | None) -> str:
        self.asked += 1
        if refused is not None:
            self.refused.append(refused)
        if isinstance(self.current, Exception):
            raise self.current
        return self.current


@pytest.mark.parametrize(("auth", "requests"), [(SECRET, 2), (lambda: SECRET, 5), (None, 2)])
async def test_C4_a_token_that_is_never_accepted_is_one_error(auth: Any, requests: int) -> None:
    async with http_gateway(tokens=["another"]) as gateway:
        error = await fails(gateway, AuthenticationFailed, auth=auth)
    assert len(gateway.gets) == requests
    assert SECRET not in str(error)
    assert ("auth=..." in str(error)) is (auth is None)


@pytest.mark.parametrize(("auth", "requests"), [(SECRET, 2), (lambda: SECRET, 5)])
async def test_C4_it_is_the_same_error_when_only_register_is_refused(auth: Any, requests: int) -> None:
    async with http_gateway() as gateway:
        gateway.replies["register"] = [UNAUTHORIZED] * 20
        await fails(gateway, AuthenticationFailed, auth=auth)
    assert len(gateway.posted("register")) == requests
    assert gateway.streams == 1


async def test_C4_after_the_first_acceptance_refusals_are_an_outage() -> None:
    tokens = Tokens()
    async with http_gateway(tokens=[SECRET]) as gateway, neuron(gateway, auth=tokens):
        gateway.tokens = ["next"]
        gateway.end_stream(cut=True)
        await gateway.wait_gets(12)
        tokens.current = "next"
        await gateway.wait_posted("register", count=2)
    assert len(tokens.refused) > 10


async def test_C4_a_post_that_is_refused_twice_is_tried_again_and_leaves_the_stream_alone() -> None:
    tokens = Tokens()
    async with http_gateway() as gateway, neuron(gateway, auth=tokens):
        gateway.replies["ack"] = [UNAUTHORIZED] * 3
        gateway.lease("l1", value=1)
        await gateway.wait_posted("ack", count=4)
    assert gateway.streams == 1
    assert tokens.refused == [SECRET] * 3


@pytest.mark.parametrize("moment", ["connect", "heartbeat", "ack", "reconnect"])
async def test_reference_D33_a_revoked_credential_ends_the_neuron_with_that_error(moment: str) -> None:
    revoked = CredentialRevoked("enroll this neuron again")
    tokens = Tokens(revoked if moment == "connect" else SECRET)
    timing = Timing(heartbeat=0.02 if moment == "heartbeat" else 10, reconnect=FAST, drain=0.2)
    asked = 0
    async with http_gateway(tokens=[SECRET]) as gateway:
        with pytest.raises(CredentialRevoked) as caught, anyio.fail_after(10):
            async with neuron(gateway, auth=tokens, timing=timing):
                tokens.current = revoked
                asked = tokens.asked
                if moment == "ack":
                    gateway.lease("l1", value=1)
                elif moment == "reconnect":
                    gateway.end_stream()
                await anyio.sleep_forever()
    assert caught.value is revoked
    if moment in ("connect", "reconnect"):
        assert tokens.asked == asked + 1


async def test_C4_a_credential_that_is_revoked_while_the_stream_hangs_ends_the_neuron_at_once() -> None:
    tokens = Tokens()
    steered = SteeredHandler()
    timing = Timing(request=60, drain=0.2, reconnect=FAST)
    async with http_gateway() as gateway:
        with pytest.raises(CredentialRevoked), anyio.fail_after(10):
            async with neuron(gateway, steered.capability, auth=tokens, timing=timing):
                gateway.lease("l1", capability="test/steered")
                await steered.wait_started()
                gateway.stream_replies = [hang]
                gateway.end_stream()
                await gateway.wait_gets(2)
                tokens.current = CredentialRevoked("gone")
                steered.finish("l1")
                await anyio.sleep_forever()


async def test_C4_a_source_in_trouble_is_a_failed_attempt_with_a_log_line(caplog: pytest.LogCaptureFixture) -> None:
    tokens = Tokens(RuntimeError(SECRET))
    seen = Seen()
    async with http_gateway() as gateway, anyio.create_task_group() as group:

        async def mend() -> None:
            await seen.wait(events.Reconnecting, 3)
            tokens.current = "x"

        group.start_soon(mend)
        with caplog.at_level(logging.WARNING, "neuron_anyio"):
            async with neuron(gateway, auth=tokens, on_event=seen):
                pass
    assert "the token source raised RuntimeError" in caplog.text
    assert SECRET not in caplog.text + repr(seen)


async def test_C9_no_token_reaches_a_log_an_event_an_error_or_a_repr(caplog: pytest.LogCaptureFixture) -> None:
    echoing = http_reply(403, f"the token {SECRET} may not".encode())
    seen = Seen()
    with caplog.at_level(logging.DEBUG):
        async with http_gateway() as gateway:
            gateway.stream_replies = [http_reply(503, f"busy, {SECRET}".encode())]
            gateway.replies["register"] = [http_reply(500, f"failed for {SECRET}".encode())]
            timing = Timing(heartbeat=0.02, reconnect=FAST)
            with pytest.raises(RegistrationRejected) as caught, anyio.fail_after(10):
                async with neuron(gateway, auth=SECRET, timing=timing, on_event=seen) as running:
                    gateway.replies |= {"ack": [echoing], "heartbeat": [echoing], "progress": [echoing]}
                    gateway.lease("l1", value=1)
                    await seen.wait(events.ResultRejected)
                    await gateway.wait_posted("heartbeat")
                    shown = repr(running) + repr(running.snapshot())
                    gateway.stream_replies = [echoing]
                    gateway.end_stream()
                    await anyio.sleep_forever()
        assert {bearer(request) for request in gateway.requests} == {SECRET}
    assert "busy, [token]" in caplog.text
    assert SECRET not in caplog.text + repr(seen) + shown + str(caught.value) + repr(caught.value)


# C5: back-off


async def test_C5_a_gateway_that_is_not_up_is_waited_for(free_tcp_port: int, caplog: pytest.LogCaptureFixture) -> None:
    origin = f"http://127.0.0.1:{free_tcp_port}"
    seen = Seen()
    late = HttpGateway()

    async def serve(stream: anyio.abc.SocketStream) -> None:
        async with stream:
            with suppress(anyio.EndOfStream, anyio.BrokenResourceError):
                await late.handle(Peer(late.server, stream))

    async with serving(hang) as late.server, anyio.create_task_group() as group:

        async def start_later() -> None:
            await seen.wait(events.Reconnecting, 3)
            listener = await anyio.create_tcp_listener(
                local_host="127.0.0.1", local_port=free_tcp_port, reuse_port=True
            )
            async with listener:
                await listener.serve(serve)

        group.start_soon(start_later)
        with caplog.at_level(logging.WARNING, "neuron_anyio"), anyio.fail_after(10):
            async with neuron(origin, on_event=seen) as running:
                assert running.snapshot().connection == "registered"
        group.cancel_scope.cancel()
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert any(f"no stream from {origin} (attempt 1)" in text and "refused" in text for text in warnings)


@pytest.mark.parametrize(("status", "value", "at_least"), [(503, "7", 7), (429, "86400", 300), (503, "0", 0)])
async def test_C5_retry_after_on_the_stream_is_honoured(status: int, value: str, at_least: float) -> None:
    seen = Seen()
    async with http_gateway() as gateway, anyio.create_task_group() as group:
        gateway.stream_replies = [http_reply(status, b"", f"Retry-After: {value}")]

        async def run() -> None:
            async with neuron(gateway, on_event=seen):
                pass

        group.start_soon(run)
        delay = (await seen.wait(events.Reconnecting)).delay
        group.cancel_scope.cancel()
    assert at_least <= delay <= max(at_least, 0.02)


async def test_reference_D31_a_stream_that_flaps_counts_its_attempts_on() -> None:
    seen = Seen()
    async with http_gateway() as gateway, neuron(gateway, on_event=seen):
        for number in range(5):
            gateway.end_stream(cut=number % 2 == 0)
            await gateway.wait_streams(number + 2)
    assert [event.attempt for event in seen.of(events.Reconnecting)] == [1, 2, 3, 4, 5]


# C6, C7: dead streams


async def test_reference_D16_a_silent_stream_with_heartbeats_answered_404_registers_again() -> None:
    async with http_gateway() as gateway:
        gateway.always_answer("heartbeat", 404)
        async with neuron(gateway, timing=Timing(heartbeat=0.02, reconnect=FAST)):
            await gateway.wait_posted("register", count=3)
    assert gateway.streams == 1


async def test_C6_a_stream_whose_heartbeats_are_lost_is_opened_anew() -> None:
    async with http_gateway() as gateway:
        gateway.always_answer("heartbeat", TransportError("the connection is closed instead of an answer"))
        async with neuron(gateway, timing=Timing(heartbeat=0.02, reconnect=FAST)):
            await gateway.wait_posted("register", count=2)
    assert gateway.streams == 2


async def test_reference_D17_entering_can_be_given_up_while_the_gateway_does_not_answer() -> None:
    async with serving(hang) as server:
        with anyio.move_on_after(0.1) as scope, anyio.fail_after(5):
            async with neuron(server.origin):
                raise AssertionError
        assert scope.cancelled_caught
        await server.wait_open(0)


async def test_reference_D17_leaving_does_not_wait_for_a_stream_that_is_not_answered() -> None:
    async with http_gateway() as gateway:
        with anyio.fail_after(5):
            async with neuron(gateway, timing=Timing(request=60, reconnect=FAST)):
                gateway.stream_replies = [hang]
                gateway.end_stream()
                await gateway.wait_gets(2)
        await gateway.server.wait_open(0)


async def test_reference_D18_a_heartbeat_in_flight_over_a_reconnect_is_followed_by_others() -> None:
    async with http_gateway() as gateway, neuron(gateway, timing=Timing(heartbeat=0.05, reconnect=FAST)):
        gateway.hold("heartbeat")
        await gateway.wait_posted("heartbeat")
        gateway.end_stream()
        await gateway.wait_posted("register", count=2)
        gateway.release("heartbeat")
        await gateway.wait_posted("heartbeat", count=len(gateway.posted("heartbeat")) + 3)


async def test_reference_D47_leaving_does_not_wait_for_a_heartbeat() -> None:
    async with http_gateway() as gateway:
        with anyio.fail_after(5):
            async with neuron(gateway, timing=Timing(heartbeat=0.2, reconnect=FAST)):
                gateway.hold("heartbeat")
                await gateway.wait_posted("heartbeat")


@pytest.mark.parametrize(
    "document", ["[]", "5", "null", '{"type":[]}', "[" * 100_000, '{"type":"nope"}', "{bad", '{"type":"lease"}']
)
async def test_reference_D19_no_document_tears_the_stream_down(document: str) -> None:
    async with http_gateway() as gateway, neuron(gateway):
        gateway.write(sse(document))
        gateway.lease("l1", value=1)
        assert (await gateway.wait_result("l1"))["type"] == "ack"
    assert len(gateway.gets) == 1


async def test_C7_handlers_and_results_outlive_a_stream_that_is_cut() -> None:
    steered = SteeredHandler()
    async with http_gateway() as gateway, neuron(gateway, echo, steered.capability):
        gateway.lease("l1", capability="test/steered")
        await steered.wait_started()
        gateway.end_stream(cut=True)
        registers = await gateway.wait_posted("register", count=2)
        steered.finish("l1")
        assert (await gateway.wait_result("l1"))["type"] == "ack"
    assert registers[0] == registers[1]


# L9: what HTTP says to a result


@pytest.mark.parametrize("answer", [http_reply(302, b"", "Location: /x"), http_reply(503), reset_it, UNAUTHORIZED])
async def test_reference_D13_and_D30_a_result_is_sent_until_it_is_taken(answer: Any) -> None:
    seen = Seen()
    async with http_gateway() as gateway, neuron(gateway, on_event=seen):
        gateway.replies["ack"] = [answer] * 3
        gateway.lease("l1", value=1)
        await seen.wait(events.ResultAccepted)
    assert len(gateway.posted("ack")) == 4
    assert not gateway.posted("nack")


async def test_L9_a_404_with_json_means_that_the_lease_is_gone_and_one_without_may_be_an_ingress() -> None:
    seen = Seen()
    async with http_gateway() as gateway, neuron(gateway, on_event=seen):
        gateway.replies["ack"] = [http_reply(404, b"<h1>Not Found</h1>", content_type="text/html"), http_reply(200)]
        gateway.lease("l1", value=1)
        await seen.wait(events.ResultAccepted)
        gateway.replies["ack"] = [http_reply(404, b'{"detail":"no such lease"}')]
        gateway.lease("l2", value=2)
        assert "404" in (await seen.wait(events.ResultRejected)).reason
    assert [post["leaseId"] for post in gateway.posted("ack")] == ["l1", "l1", "l2"]


async def test_reference_D22_none_goes_out_as_null_and_text_as_utf_8() -> None:
    async with http_gateway() as gateway, neuron(gateway):
        gateway.lease("l1", value=None)
        gateway.lease("l2", value="ü\u2028😀")
        await gateway.wait_posted("ack", count=2)
    acks = [request.body for request in gateway.requests if request.target.endswith("/ack")]
    bodies = {json.loads(body)["leaseId"]: body for body in acks}
    assert b'"output":null' in bodies["l1"]
    assert "ü\u2028😀".encode() in bodies["l2"]


# A client of the user's


async def test_a_neuron_works_and_leaves_over_a_users_client() -> None:
    steered = SteeredHandler()
    async with http_gateway(tokens=[SECRET]) as gateway, httpx.AsyncClient(verify=False) as client:
        with anyio.fail_after(10):
            timing = Timing(heartbeat=0.05, reconnect=FAST)
            capabilities = (echo, steered.capability)
            async with neuron(gateway, *capabilities, auth=SECRET, http_client=client, timing=timing):
                gateway.lease("l1", value={"a": 1})
                assert (await gateway.wait_result("l1"))["output"] == {"a": 1}
                gateway.lease("l2", capability="test/steered")
                await steered.wait_started()
                gateway.cancel("l2")
                assert (await gateway.wait_result("l2"))["code"] == "CANCELLED"
                gateway.end_stream(cut=True)
                await gateway.wait_posted("register", count=2)
                await gateway.wait_posted("heartbeat", count=2)
        assert not client.is_closed
