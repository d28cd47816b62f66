"""`GatewayClient` against a real gateway and a neuron on the wire."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import anyio
import httpx
import pytest
from anyio.abc import TaskStatus as Started

from neuron_anyio import LeaseContext, capability, open_neuron
from neuron_anyio.backoff import Backoff
from neuron_anyio.client import GatewayClient, RequestRefused, TaskCancelled, TaskFailed, TaskStatus
from neuron_anyio.errors import AuthenticationFailed, NeuronError, TransportError
from neuron_anyio.gateway import Gateway, MemoryStore, Principal, open_gateway
from neuron_anyio.http1 import Http1Transport
from tests.contract.gateway_bench import AT, ECHO, RawNeuron, offer, raw_neuron

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def everything(**options: Any) -> AsyncGenerator[tuple[Gateway, GatewayClient, RawNeuron]]:
    async with (
        open_gateway(**options) as gateway,
        GatewayClient(gateway.url) as client,
        raw_neuron(gateway.url, "n", offer(concurrency=10)) as neuron,
    ):
        yield gateway, client, neuron


async def test_a_task_is_submitted_and_its_output_waited_for() -> None:
    with anyio.fail_after(5):
        async with everything() as (_, client, neuron):
            status = await client.submit(ECHO, {"text": "héllo"}, metadata={"trace": 1}, max_attempts=2)
            assert (status.state, status.max_attempts, status.metadata) == ("leased", 2, {"trace": 1})
            async with anyio.create_task_group() as tasks:

                async def work() -> None:
                    lease = await neuron.lease()
                    await neuron.ack(lease, {"echo": lease["task"]["input"]})

                tasks.start_soon(work)
                assert await client.result(status.task_id) == {"echo": {"text": "héllo"}}
            assert await client.result(status.task_id) == {"echo": {"text": "héllo"}}, "and once more"
            assert (await client.task(status.task_id)).state == "succeeded"


async def test_a_task_that_nobody_offers_says_so() -> None:
    with anyio.fail_after(5):
        async with open_gateway() as gateway, GatewayClient(gateway.url + "/") as client:
            assert (await client.submit(ECHO, None)).offered is False


async def test_a_failed_task_raises_what_the_neuron_said() -> None:
    with anyio.fail_after(5):
        async with everything() as (_, client, neuron):
            status = await client.submit(ECHO, 1)
            await neuron.nack(await neuron.lease(), "terminal", code="NO_PAGE", details={"at": [1]})
            with pytest.raises(TaskFailed, match=r"terminal, NO_PAGE\): so") as caught:
                await client.result(status.task_id)
            error = caught.value
            assert isinstance(error, NeuronError)
            assert (error.kind, error.code, error.reason, error.details) == ("terminal", "NO_PAGE", "so", {"at": [1]})


async def test_a_cancelled_task_raises_with_the_callers_reason() -> None:
    with anyio.fail_after(5):
        async with everything() as (_, client, neuron):
            waiting = await client.submit("core/other", 1)
            assert (await client.cancel(waiting.task_id, "enough")).state == "cancelled"
            with pytest.raises(TaskCancelled, match="enough") as caught:
                await client.result(waiting.task_id)
            assert caught.value.reason == "enough"
            running = await client.submit(ECHO, 1)
            lease = await neuron.lease()
            assert (await client.cancel(running.task_id)).state == "leased"
            await neuron.next("cancel")
            await neuron.ack(lease, "crossed")
            assert await client.result(running.task_id) == "crossed"
            with pytest.raises(RequestRefused, match="succeeded already") as refused:
                await client.cancel(running.task_id)
            assert (refused.value.status, refused.value.code) == (409, "task-settled")


async def test_waiting_has_a_time_limit_and_the_task_goes_on() -> None:
    with anyio.fail_after(5):
        async with everything() as (gateway, client, _):
            status = await client.submit(ECHO, 1)
            with pytest.raises(TimeoutError):
                await client.result(status.task_id, timeout=0.05)
            assert gateway.counts()["leased"] == 1
            assert (await client.task(status.task_id)).state == "leased", "the client is as good as new"


async def test_following_shows_progress_and_every_state() -> None:
    with anyio.fail_after(5):
        async with everything() as (_, client, neuron):
            status = await client.submit(ECHO, 1)
            lease = await neuron.lease()
            seen: list[TaskStatus] = []
            async with client.follow(status.task_id) as updates:
                seen.append(await anext(updates))
                await neuron.post("progress", leaseId=lease["leaseId"], percent=50, data={"n": 1}, sentAt=AT)
                seen.append(await anext(updates))
                await neuron.ack(lease, "done")
                seen += [update async for update in updates]
            assert [update.state for update in seen] == ["leased", "leased", "succeeded"]
            assert seen[1].progress is not None
            assert (seen[1].progress.percent, seen[1].progress.data) == (50, {"n": 1})
            assert seen[-1].output == "done"


async def test_following_can_be_left_in_the_middle() -> None:
    with anyio.fail_after(5):
        async with everything() as (gateway, client, neuron):
            status = await client.submit(ECHO, 1)
            for _ in range(3):
                async with client.follow(status.task_id) as updates:
                    async for update in updates:
                        assert update.state == "leased"
                        break
            await neuron.ack(await neuron.lease())
            await gateway.wait_settled(status.task_id)


async def test_an_idempotency_key_finds_the_same_task() -> None:
    with anyio.fail_after(5):
        async with everything() as (_, client, __):
            first = await client.submit(ECHO, {"a": 1}, idempotency_key="k")
            assert (await client.submit(ECHO, {"a": 1}, idempotency_key="k")).task_id == first.task_id
            with pytest.raises(RequestRefused, match="new idempotency key") as caught:
                await client.submit(ECHO, {"a": 2}, idempotency_key="k")
            assert (caught.value.status, caught.value.code) == (422, "idempotency-key-reused")


async def test_tasks_are_listed_over_all_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("neuron_anyio.gateway.caller_routes.PAGE", 3)
    with anyio.fail_after(5):
        async with everything() as (_, client, __):
            made = [(await client.submit("core/other", n)).task_id for n in range(7)]
            await client.submit(ECHO, 1)
            found = [status.task_id async for status in client.tasks(capability="core/other")]
            assert found == made[::-1]
            assert [status.task_id async for status in client.tasks(state="pending")] == made[::-1]
            assert [status async for status in client.tasks(state="failed")] == []
            async for status in client.tasks():
                assert status.capability == ECHO
                break


async def test_neurons_and_capabilities_are_shown() -> None:
    with anyio.fail_after(5):
        async with everything() as (_, client, __):
            (neuron,) = await client.neurons()
            assert (neuron.neuron_id, neuron.connected, neuron.capabilities[0].concurrency) == ("n", True, 10)
            (capability,) = await client.capabilities()
            assert (capability.type, capability.neurons) == (ECHO, 1)


# ---- what goes wrong


async def test_refusals_name_the_request_the_status_the_gateways_text_and_what_to_check() -> None:
    with anyio.fail_after(5):
        async with everything() as (gateway, client, _):
            with pytest.raises(RequestRefused) as caught:
                await client.submit("echo", 1)
            assert str(caught.value).startswith(f"POST {gateway.url}/tasks: 400: capability must be")
            assert "check the arguments" in str(caught.value)
            with pytest.raises(RequestRefused, match="settled tasks are forgotten"):
                await client.result("nope")
            with pytest.raises(ValueError, match="NaN"):
                await client.submit(ECHO, float("nan"))


async def test_a_gateway_that_is_not_there_is_a_transport_error() -> None:
    with anyio.fail_after(5):
        async with open_gateway() as gateway:
            pass
        async with GatewayClient(gateway.url) as client:
            with pytest.raises(TransportError, match="POST"):
                await client.submit(ECHO, 1)
            with pytest.raises(TransportError):
                await client.result("task")


async def test_a_closed_client_says_how_to_open_it() -> None:
    client = GatewayClient("http://127.0.0.1:9")
    with pytest.raises(RuntimeError, match="async with"):
        await client.neurons()


async def test_tokens_are_asked_for_each_request_and_once_more_after_a_401() -> None:
    asked: list[str] = []

    async def auth() -> str:
        await anyio.lowlevel.checkpoint()
        asked.append("stale" if not asked else "fresh")
        return asked[-1]

    with anyio.fail_after(5):
        async with open_gateway(auth={"fresh": Principal("me")}) as gateway:
            async with GatewayClient(gateway.url, auth=auth) as client:
                status = await client.submit(ECHO, 1)
                assert asked == ["stale", "fresh"]
                await client.task(status.task_id)
                async with client.follow(status.task_id) as updates:
                    await anext(updates)
                assert asked == ["stale"] + ["fresh"] * 3
            for wrong in ("wr0ng", None, lambda: "wr0ng"):
                async with GatewayClient(gateway.url, auth=wrong) as client:
                    with pytest.raises(AuthenticationFailed) as caught:
                        await client.neurons()
                    assert "wr0ng" not in str(caught.value)


async def test_what_is_no_gateway_is_told_apart() -> None:
    async def handle(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/neurons"):
            return httpx.Response(200, text="<html>welcome</html>")
        if request.url.path.endswith("/capabilities"):
            return httpx.Response(302, headers={"Location": "https://elsewhere.example"})
        return httpx.Response(502, text="<html>bad gateway</html>")

    with anyio.fail_after(5):
        async with (
            httpx.AsyncClient(transport=httpx.MockTransport(handle)) as http,
            GatewayClient("https://api.example.com/base", http_client=http) as client,
        ):
            with pytest.raises(TransportError, match="not a gateway's; check the URL"):
                await client.neurons()
            with pytest.raises(RequestRefused, match="302"):
                await client.capabilities()
            with pytest.raises(RequestRefused, match=r"502.*log"):
                await client.submit(ECHO, 1)
        assert (http.is_closed, repr(client)) == (True, "<GatewayClient https://api.example.com/base>")


async def test_a_clients_own_http_client_is_used_and_left_open() -> None:
    with anyio.fail_after(5):
        async with open_gateway() as gateway, httpx.AsyncClient(transport=Http1Transport()) as http:
            async with GatewayClient(gateway.url, http_client=http) as client:
                await client.submit(ECHO, 1)
            assert not http.is_closed


# ---- streams that break


class Breaking(Http1Transport):
    """Breaks each of the first streams off after its first event."""

    def __init__(self, times: int) -> None:
        super().__init__()
        self.left = times

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        response = await super().handle_async_request(request)
        if request.url.path.endswith("/events") and self.left:
            self.left -= 1
            assert isinstance(response.stream, httpx.AsyncByteStream)
            response.stream = BrokenStream(response.stream, request)
        return response


class BrokenStream(httpx.AsyncByteStream):
    def __init__(self, stream: httpx.AsyncByteStream, request: httpx.Request) -> None:
        self.stream = stream
        self.chunks = aiter(stream)
        self.request = request
        self.broken = False

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        if self.broken:
            raise httpx.ReadError("broken off", request=self.request)
        chunk = await anext(self.chunks)
        self.broken = b"event:" in chunk
        return chunk

    async def aclose(self) -> None:
        await self.stream.aclose()


async def test_a_broken_stream_is_opened_again() -> None:
    with anyio.fail_after(5):
        transport = Breaking(2)
        async with (
            open_gateway() as gateway,
            httpx.AsyncClient(transport=transport) as http,
            GatewayClient(gateway.url, http_client=http) as client,
            raw_neuron(gateway.url) as neuron,
        ):
            status = await client.submit(ECHO, 1)
            lease = await neuron.lease()
            async with client.follow(status.task_id) as updates:
                for _ in range(3):
                    assert (await anext(updates)).state == "leased"
                assert transport.left == 0
                await neuron.ack(lease, "after all")
                last = [update async for update in updates][-1]
            assert (last.state, last.output) == ("succeeded", "after all")


async def test_a_gateway_that_restarts_is_waited_for() -> None:
    store = MemoryStore()
    with anyio.fail_after(10):
        async with AsyncExitStack() as first:
            gateway = await first.enter_async_context(open_gateway(store=store))
            port = int(gateway.url.rsplit(":", 1)[1])
            async with GatewayClient(gateway.url) as client:
                status = await client.submit(ECHO, 1)
                async with client.follow(status.task_id) as updates:
                    assert (await anext(updates)).state == "pending"
                    await first.aclose()
                    async with anyio.create_task_group() as tasks:

                        async def again(*, task_status: Started[None]) -> None:
                            async with (
                                open_gateway(store=store, port=port) as second,
                                raw_neuron(second.url) as neuron,
                            ):
                                await neuron.ack(await neuron.lease(), "second")
                                task_status.started()
                                await anyio.sleep_forever()

                        await tasks.start(again)
                        last = [update async for update in updates][-1]
                        tasks.cancel_scope.cancel()
                assert last.output == "second"


async def test_where_no_stream_can_be_had_the_task_is_asked_for() -> None:
    class NoStreams(Http1Transport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            if request.url.path.endswith("/events"):
                return httpx.Response(200, text="held back by a proxy", headers={"Content-Type": "text/plain"})
            return await super().handle_async_request(request)

    with anyio.fail_after(5):
        async with (
            open_gateway(retry=Backoff(initial=0.01, maximum=0.01)) as gateway,
            httpx.AsyncClient(transport=NoStreams()) as http,
            GatewayClient(gateway.url, http_client=http) as client,
            raw_neuron(gateway.url) as neuron,
        ):
            status = await client.submit(ECHO, 1)
            async with anyio.create_task_group() as tasks:

                async def work() -> None:
                    await neuron.nack(await neuron.lease())
                    await neuron.ack(await neuron.lease(), [1, 2])

                tasks.start_soon(work)
                assert await client.result(status.task_id) == [1, 2]


async def test_a_neuron_of_this_package_works_for_a_client() -> None:
    @capability(ECHO, concurrency=4)
    async def shout(text: str, ctx: LeaseContext) -> str:
        ctx.progress(percent=50)
        if ctx.attempt == 0:
            raise OSError("try again")
        return text.upper()

    with anyio.fail_after(10):
        async with (
            open_gateway(auth="t0ken", retry=Backoff(initial=0.01, maximum=0.01)) as gateway,
            GatewayClient(gateway.url, auth="t0ken") as client,
            open_neuron(gateway.url, neuron_id="worker", auth="t0ken", capabilities=[shout]) as neuron,
        ):
            assert neuron.session.capabilities == {ECHO: 4}
            status = await client.submit(ECHO, "héllo")
            assert await client.result(status.task_id) == "HÉLLO"
            status = await client.task(status.task_id)
            assert (status.attempts, status.deliveries) == (2, 2)
            await neuron.update_capability(ECHO, concurrency=2)
            while (await client.capabilities())[0].concurrency != 2:
                await anyio.lowlevel.checkpoint()
