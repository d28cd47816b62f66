"""What a type checker sees of the package. Never run: mypy and pyright read it, both strictly.

A comment that excuses an error is a claim too: `mypy` has `warn_unused_ignores`, pyright the line below, so that a
mistake which is no longer noticed fails here.
"""
# pyright: reportUnnecessaryTypeIgnoreComment=true

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, assert_type

import anyio
import msgspec
from anyio.abc import TaskStatus as StartStatus
from anyio.streams.memory import MemoryObjectReceiveStream

from neuron_anyio import (
    Backoff,
    Broker,
    CancelReason,
    Capability,
    Event,
    LeaseContext,
    Limits,
    Neuron,
    RetryableFailure,
    TerminalFailure,
    Timing,
    Transport,
    capability,
    on_behalf_of,
    open_neuron,
    serve,
)
from neuron_anyio.abc import EventStream, Intake, Receipt, Reply, Verdict
from neuron_anyio.client import GatewayClient, NeuronStatus, TaskStatus
from neuron_anyio.context import NeuronHandle
from neuron_anyio.gateway import Gateway, Principal, open_gateway
from neuron_anyio.model import Delivery, Held, Offer, Outcome, Progress, Task
from neuron_anyio.snapshot import Session, Snapshot


class Page(msgspec.Struct):
    url: str
    max_bytes: int = 1_000_000


class Fetched(msgspec.Struct):
    status: int
    body: str


@capability("examples/http.fetch", concurrency=8, lease_ttl=60.0, scope=on_behalf_of("user-1"))
async def fetch(page: Page, ctx: LeaseContext) -> Fetched:
    ctx.progress(percent=10, message="connecting")
    await ctx.progress(percent=20)
    assert_type(ctx.task, Task)
    assert_type(ctx.cancel_reason, CancelReason | None)
    assert_type(await ctx.wait_cancelled(), CancelReason)
    assert_type(ctx.time_left(), float)
    assert_type(ctx.neuron.snapshot(), Snapshot)
    return Fetched(status=200, body=page.url)


@capability("examples/text.count", runs="thread", non_retryable=(ValueError,))
def count(text: str) -> int:
    return len(text)


@capability("examples/text.refuse")
def refuse(text: str, ctx: LeaseContext) -> int:
    if not text:
        ctx.fail("nothing to count", code="EMPTY", details={"length": 0})
    # No `return`: a checker knows that `retry` never comes back.
    ctx.retry("try later", after=5.0)


class OneHost(msgspec.Struct):
    host: str


async def the_decorator_adds_nothing_and_takes_nothing(ctx: LeaseContext) -> None:
    assert_type(await fetch(Page(url="https://example.com"), ctx), Fetched)
    assert_type(await fetch(page=Page(url="https://example.com"), ctx=ctx), Fetched)
    assert_type(await fetch.with_options(concurrency=2)(Page(url="https://example.com"), ctx), Fetched)
    assert_type(count("three"), int)
    assert_type(count.with_options(scope=on_behalf_of("user-2"))("three"), int)
    assert_type(refuse("", ctx), int)


async def what_a_checker_refuses(ctx: LeaseContext) -> None:
    await fetch(OneHost(host="example.com"), ctx)  # type: ignore[arg-type]
    await fetch(Page(url="https://example.com"))  # type: ignore[call-arg]
    count(3)  # type: ignore[arg-type]
    count(text="three", ctx=ctx)  # type: ignore[call-arg]
    capability("examples/text.count", runs="fiber")  # type: ignore[arg-type]
    capability("examples/text.count", scope="user-1")  # type: ignore[arg-type]
    capability("examples/text.count", 2)  # type: ignore[arg-type, call-arg]
    ctx.progress(50)  # type: ignore[call-arg]
    ctx.progress(percent="half")  # type: ignore[arg-type]
    Timing(drain="30 s")  # type: ignore[arg-type]
    Limits(1)  # type: ignore[call-arg]
    TerminalFailure("no", after=1.0)  # type: ignore[call-arg]
    RetryableFailure("no", details={})  # type: ignore[call-arg]


class Crawler:
    """Handlers that share what their instance holds."""

    def __init__(self, agent: str) -> None:
        self.agent = agent

    @capability("examples/crawl.fetch", concurrency=2)
    async def fetch(self, page: Page, ctx: LeaseContext) -> Fetched:
        ctx.log.info(self.agent)
        return Fetched(status=200, body=page.url)

    @capability("examples/crawl.count")
    def count(self, text: str) -> int:
        return len(text)

    @staticmethod
    @capability("examples/crawl.over")
    def over(text: str) -> int:
        return len(text)


async def methods_keep_their_signature_without_self(ctx: LeaseContext) -> None:
    crawler = Crawler("agent")
    assert_type(crawler.count("three"), int)
    assert_type(crawler.count.with_options(concurrency=2)("three"), int)
    assert_type(Crawler.count(crawler, "three"), int)
    assert_type(Crawler.over("three"), int)
    assert_type(await crawler.fetch(Page(url="https://example.com"), ctx), Fetched)
    handlers: list[Capability[..., Any]] = [crawler.fetch, crawler.count, Crawler.over]
    open_neuron("https://api.example.com", neuron_id="w", capabilities=[crawler.fetch, crawler.count, Crawler.over])
    open_neuron("https://api.example.com", neuron_id="w", capabilities=handlers)
    open_neuron("https://api.example.com", neuron_id="w", capabilities=[crawler.close])  # type: ignore[attr-defined]
    crawler.count(3)  # type: ignore[arg-type]
    crawler.count(crawler, "three")  # type: ignore[call-arg, arg-type]
    await crawler.fetch(Page(url="https://example.com"))  # type: ignore[call-arg]
    Crawler.over(3)  # type: ignore[arg-type]


def what_is_wrong_inside_a_handler() -> None:
    @capability("examples/wrong")
    async def wrong_field(page: Page) -> Fetched:
        return Fetched(status=200, body=page.uri)  # type: ignore[attr-defined]

    @capability("examples/wrong")
    async def wrong_result(page: Page) -> Fetched:
        return page.url  # type: ignore[return-value]

    @capability("examples/wrong")
    def wrong_result_of_def(page: Page) -> int:
        return page.url  # type: ignore[return-value]

    @capability("examples/wrong")
    def wrong_context(page: Page, ctx: LeaseContext) -> None:
        ctx.finish()  # type: ignore[attr-defined]

    wrong_context(Page(url=""))  # type: ignore[call-arg]
    assert_type(wrong_result_of_def(page=Page(url="")), int)
    coroutines: list[Callable[[Page], Coroutine[Any, Any, Fetched]]] = [wrong_field, wrong_result]
    integers: list[Callable[[Page], Coroutine[Any, Any, int]]] = [wrong_field]  # type: ignore[list-item]
    print(coroutines, integers)


def options_have_types() -> None:
    assert_type(count.terms.concurrency, int)
    assert_type(count.input_schema, Mapping[str, Any] | bool | None)
    count.with_options(runs="loop", timeout=None, non_retryable=(ValueError, KeyError), description="counts")
    count.with_options(concurrency="2")  # type: ignore[arg-type]
    count.with_options(scope="user-1")  # type: ignore[arg-type]
    count.with_options(runs="fiber")  # type: ignore[arg-type]
    count.with_options(retries=3)  # type: ignore[call-arg]


class TokenVault:
    """A token source, known by its shape alone."""

    async def token(self, *, refused: str | None) -> str:
        return "token" if refused is None else "another"


class NoVault:
    async def token(self) -> str:
        return "token"


def token() -> str:
    return "token"


async def token_from_afar() -> str:
    return "token"


@asynccontextmanager
async def pool() -> AsyncGenerator[list[str]]:
    yield []


async def timed(ctx: LeaseContext, call_next: Callable[[], Awaitable[Any]]) -> Any:
    ctx.log.info("begins")
    return await call_next()


def seen(event: Event) -> None:
    print(event)


async def embed() -> None:
    async with open_neuron(
        "https://api.example.com",
        neuron_id="worker-1",
        auth=TokenVault(),
        capabilities=[fetch, count, refuse],
        timing=Timing(heartbeat=5.0, reconnect=Backoff(initial=0.1, maximum=5.0)),
        limits=Limits(queue=10),
        lifespan=pool,
        middleware=[timed],
        max_concurrency=4,
        on_event=seen,
    ) as neuron:
        assert_type(neuron, Neuron)
        assert_type(neuron.session, Session)
        assert_type(neuron.snapshot(), Snapshot)
        assert_type(neuron.neuron_id, str)
        await neuron.update_capability("examples/http.fetch", concurrency=2)
        with neuron.events(max_buffer=10) as events:
            assert_type(events, MemoryObjectReceiveStream[Event])
            async for event in events:
                assert_type(event, Event)
        handle: NeuronHandle = neuron
        handle.pause()
        handle.resume()
        await neuron.drain()


async def program() -> int:
    options: Mapping[str, Any] = {}
    code = await serve("https://api.example.com", neuron_id="worker-1", auth=token, capabilities=[fetch], **options)
    assert_type(code, int)
    return code


async def serve_takes_what_open_neuron_takes() -> None:
    await serve(QueueBroker(), neuron_id="w", capabilities=[count], timing=Timing(drain=5.0), max_concurrency=2)
    await serve("https://api.example.com", neuron_id="w", capabilities=[count], lifespan=pool, middleware=[timed])
    await serve("https://api.example.com", neuron_id="w", capabilities=[count], journal="results", on_event=seen)
    await serve("https://api.example.com", capabilities=[count])  # type: ignore[call-arg]
    await serve("https://api.example.com", neuron_id=1, capabilities=[count])  # type: ignore[arg-type]
    await serve("https://api.example.com", neuron_id="w", capabilities=[token])  # type: ignore[list-item]
    await serve("https://api.example.com", neuron_id="w", capabilities=[count], retries=3)  # type: ignore[call-arg]
    await serve("https://api.example.com", neuron_id="w", capabilities=[count], drain=5.0)  # type: ignore[call-arg]
    await serve(8080, neuron_id="w", capabilities=[count])  # type: ignore[arg-type]


async def what_can_be_a_token() -> None:
    open_neuron("https://api.example.com", neuron_id="w", capabilities=[count], auth="token")
    open_neuron("https://api.example.com", neuron_id="w", capabilities=[count], auth=token)
    open_neuron("https://api.example.com", neuron_id="w", capabilities=[count], auth=token_from_afar)
    open_neuron("https://api.example.com", neuron_id="w", capabilities=[count], auth=None)
    open_neuron("https://api.example.com", neuron_id="w", capabilities=[count], auth=7)  # type: ignore[arg-type]
    open_neuron("https://api.example.com", neuron_id="w", capabilities=[count], auth=NoVault())  # type: ignore[arg-type]


async def what_open_neuron_refuses() -> None:
    open_neuron("https://api.example.com", capabilities=[count])  # type: ignore[call-arg]
    open_neuron("https://api.example.com", "w", capabilities=[count])  # type: ignore[call-arg]
    open_neuron("https://api.example.com", neuron_id="w", capabilities=[token])  # type: ignore[list-item]
    open_neuron("https://api.example.com", neuron_id="w", capabilities=[count], retries=3)  # type: ignore[call-arg]
    open_neuron(8080, neuron_id="w", capabilities=[count])  # type: ignore[arg-type]
    open_neuron("https://api.example.com", neuron_id="w", capabilities=[count], lifespan=pool())  # type: ignore[arg-type]
    async with open_neuron("https://api.example.com", neuron_id="w", capabilities=[count]) as neuron:
        await neuron.update_capability("examples/text.count", 2)  # type: ignore[call-arg]


class QueueBroker:
    """A third party's broker, known by its shape alone."""

    @property
    def origin(self) -> str:
        return "queue:"

    @asynccontextmanager
    async def open(self, intake: Intake) -> AsyncGenerator[None]:
        assert_type(intake.free_slots(), Mapping[str, int])
        assert_type(intake.offers(), Sequence[Offer])
        yield

    async def take(self, *, task_status: StartStatus[None]) -> None:
        task_status.started()
        await anyio.sleep_forever()

    async def announce(self, offer: Offer) -> None:
        print(offer.capability)

    async def keep_alive(self, held: Sequence[Held]) -> bool:
        return not held

    async def report(self, delivery: Delivery, progress: Progress) -> None:
        print(delivery.id, progress.percent)

    async def settle(self, delivery_id: str, outcome: Outcome) -> Receipt:
        print(delivery_id, outcome)
        return Receipt(verdict=Verdict.ACCEPTED)


class Pipe:
    """A third party's transport, known by its shape alone."""

    @property
    def origin(self) -> str:
        return "pipe:"

    @asynccontextmanager
    async def open(self) -> AsyncGenerator[None]:
        yield

    def subscribe(self, neuron_id: str) -> AbstractAsyncContextManager[EventStream]:
        raise NotImplementedError(neuron_id)

    async def post(self, path: str, body: bytes) -> Reply:
        return Reply(status=200, text=f"{path} {len(body)}")


class DeafBroker(QueueBroker):
    async def settle(self, delivery_id: str, outcome: Outcome) -> None:  # type: ignore[override]
        print(delivery_id, outcome)


async def whatever_has_the_shape_will_do() -> None:
    broker: Broker = QueueBroker()
    transport: Transport = Pipe()
    open_neuron(broker, neuron_id="w", capabilities=[count])
    open_neuron(transport, neuron_id="w", capabilities=[count])
    open_neuron([QueueBroker(), QueueBroker()], neuron_id="w", capabilities=[count])
    open_neuron(DeafBroker(), neuron_id="w", capabilities=[count])  # type: ignore[arg-type]
    open_neuron([Pipe()], neuron_id="w", capabilities=[count])  # type: ignore[list-item]


async def a_gateway_and_its_callers() -> None:
    async with open_gateway(auth={"secret": Principal("caller", user="user-1")}) as gateway:
        assert_type(gateway, Gateway)
        async with GatewayClient(gateway.url, auth=token) as client:
            assert_type(client, GatewayClient)
            task = await client.submit("examples/text.count", "three", idempotency_key="key")
            assert_type(task, TaskStatus)
            async with client.follow(task.task_id) as updates:
                async for update in updates:
                    assert_type(update, TaskStatus)
            assert_type(await client.cancel(task.task_id), TaskStatus)
            async for listed in client.tasks(state="failed"):
                assert_type(listed, TaskStatus)
            assert_type(await client.neurons(), list[NeuronStatus])
            client.tasks(state="lost")  # type: ignore[arg-type]
            await client.submit("examples/text.count")  # type: ignore[call-arg]
