"""Promise C4: where tokens come from, and what happens when one is refused."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest

from neuron_anyio import AuthenticationFailed, CredentialRevoked, HttpTransport, NeuronError, TransportError
from neuron_anyio.errors import StreamRefused
from neuron_anyio.tokens import Credentials, checked_token
from tests.runtime.http_gateway import HttpGateway, bearer, http_gateway

pytestmark = pytest.mark.anyio

ACK = b'{"type":"ack","leaseId":"l1"}'


def credentials(auth: Any, *, patience: float = 5) -> Credentials:
    return Credentials(auth, patience=patience)


class Source:
    """Gives its tokens in turn, the last one for ever, and remembers what it was asked.

    Attributes:
        asked: the refused token of each question, None for the ordinary ones.
        gate: questions wait for it, where there is one.
    """

    def __init__(self, *tokens: str | Exception) -> None:
        self._tokens = list(tokens)
        self.asked: list[str | None] = []
        self.gate: anyio.Event | None = None

    async def token(self, *, refused: str | None) -> str:
        self.asked.append(refused)
        if self.gate is not None:
            await self.gate.wait()
        token = self._tokens.pop(0) if len(self._tokens) > 1 else self._tokens[0]
        if isinstance(token, Exception):
            raise token
        return token

    @property
    def renewals(self) -> list[str]:
        return [token for token in self.asked if token is not None]


class Rotating:
    """A source with a current token, which it replaces when it hears that just this one was refused."""

    def __init__(self) -> None:
        self.number = 1
        self.renewals: list[str] = []

    async def token(self, *, refused: str | None) -> str:
        await anyio.lowlevel.checkpoint()
        if refused is not None:
            self.renewals.append(refused)
        if refused == f"token-{self.number}":
            self.number += 1
        return f"token-{self.number}"


class Later:
    """An awaitable that is no coroutine."""

    def __init__(self, value: str) -> None:
        self._value = value

    def __await__(self) -> Generator[Any, Any, str]:
        yield from anyio.lowlevel.checkpoint().__await__()
        return self._value


async def in_a_moment() -> str:
    await anyio.lowlevel.checkpoint()
    return "t"


class SyncSource:
    def token(self, *, refused: str | None) -> str:
        return "t"


@pytest.mark.parametrize(
    "auth",
    ["t", lambda: "t", in_a_moment, Source("t"), SyncSource(), lambda: Later("t"), lambda: in_a_moment()],  # noqa: PLW0108 - the last is no coroutine function
    ids=["token", "callable", "coroutine function", "source", "sync source", "awaitable", "returns a coroutine"],
)
async def test_C4_a_token_may_be_given_in_many_ways(auth: Any) -> None:
    assert await credentials(auth).get() == "t"


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_reference_D34_a_future_is_awaited(anyio_backend: Any) -> None:
    def auth() -> Awaitable[str]:
        future = asyncio.get_running_loop().create_future()
        future.get_loop().call_soon(future.set_result, "t")
        return future

    assert await credentials(auth).get() == "t"


async def test_without_auth_there_is_no_token() -> None:
    assert await credentials(None).get() is None


async def test_C4_a_source_is_asked_for_every_request() -> None:
    source = Source("a", "b", "c")
    kept = credentials(source)
    assert [await kept.get() for _ in range(4)] == ["a", "b", "c", "c"]
    assert source.asked == [None] * 4


@pytest.mark.parametrize(
    "token", ["", "two\nlines", "with space", "tab\t", "ümlaut", "nul\0", "\ufeffbom", 5, b"t", None]
)
def test_a_token_that_no_header_can_carry_is_refused_without_being_shown(token: Any) -> None:
    with pytest.raises(ValueError, match="token") as caught:
        checked_token(token)
    assert str(token) not in str(caught.value) or not token


@pytest.mark.parametrize("auth", ["", "s3cr3t\n"])
def test_a_static_token_is_judged_when_it_is_given(auth: str) -> None:
    with pytest.raises(ValueError, match="token") as caught:
        HttpTransport("http://h", auth=auth)
    assert "s3cr3t" not in str(caught.value)


@pytest.mark.parametrize("auth", [5, b"token", ["t"]])
def test_what_is_no_source_of_tokens_is_a_type_error(auth: Any) -> None:
    with pytest.raises(TypeError, match="auth must be"):
        credentials(auth)


# A source in trouble


def failing(error: Exception) -> Callable[[], str]:
    def auth() -> str:
        raise error

    return auth


@pytest.mark.parametrize(
    ("auth", "why"),
    [
        (failing(RuntimeError("s3cr3t")), "raised RuntimeError"),
        (failing(ValueError("the token s3cr3t is bad")), "raised ValueError"),
        (failing(TimeoutError("s3cr3t")), "raised TimeoutError"),
        (failing(NeuronError("s3cr3t")), "raised NeuronError"),
        (lambda: "", "the token is empty"),
        (lambda: "s3cr3t\nX-Evil: 1", "line break"),
        (lambda: "s3cr3t\r\n", "line break"),
        (lambda: b"s3cr3t", "must be a string, not bytes"),
        (lambda: None, "must be a string, not NoneType"),
    ],
)
async def test_C4_a_source_in_trouble_is_a_failed_attempt_that_shows_no_token(auth: Any, why: str) -> None:
    with pytest.raises(TransportError, match=f"the token source .*{why}") as caught:
        await credentials(auth).get()
    assert "s3cr3t" not in str(caught.value)


async def test_C4_a_source_that_hangs_is_given_up() -> None:
    with anyio.fail_after(5), pytest.raises(TransportError, match=r"gave no token within 0.01 s"):
        await credentials(anyio.sleep_forever, patience=0.01).get()


async def test_C4_a_source_may_say_that_there_will_be_no_more_or_that_it_is_not_reachable() -> None:
    for error in (CredentialRevoked("enroll again"), TransportError("the token endpoint is down", retry_after=3)):
        with pytest.raises(type(error)) as caught:
            await credentials(failing(error)).get()
        assert caught.value is error


# Refused


async def test_C4_a_refused_token_is_told_to_the_source_and_not_given_again() -> None:
    source = Source("a", "b")
    kept = credentials(source)
    assert await kept.get() == "a"
    assert await kept.renew("a") == "b"
    assert source.asked == [None, "a"]


@pytest.mark.parametrize("auth", [Source("a"), lambda: "a", "a"])
async def test_C4_a_source_that_gives_the_refused_token_again_has_no_other(auth: Any) -> None:
    kept = credentials(auth)
    assert await kept.renew(await kept.get()) is None


async def test_C4_concurrent_refusals_share_one_question() -> None:
    source = Source("b", "c")
    gate = source.gate = anyio.Event()
    kept = credentials(source)
    kept.note_accepted()
    fresh: list[str | None] = []

    async def renew() -> None:
        fresh.append(await kept.renew("a"))

    async with anyio.create_task_group() as group:
        for _ in range(20):
            group.start_soon(renew)
        await anyio.wait_all_tasks_blocked()
        gate.set()
    assert fresh == ["b"] * 20
    assert await kept.renew("a") == "b"  # a late reply to a request of that time
    assert source.asked == ["a"]


async def test_C4_concurrent_refusals_share_a_failure_too() -> None:
    source = Source(RuntimeError("down"), "b")
    gate = source.gate = anyio.Event()
    kept = credentials(source)
    kept.note_accepted()
    outcomes: list[str | None] = []

    async def renew() -> None:
        try:
            outcomes.append(await kept.renew("a"))
        except TransportError:
            outcomes.append("failed")

    async with anyio.create_task_group() as group:
        for _ in range(5):
            group.start_soon(renew)
        await anyio.wait_all_tasks_blocked()
        gate.set()
    assert sorted(map(str, outcomes)) == ["None"] * 4 + ["failed"]
    assert await kept.renew("a") == "b"


async def test_C4_a_question_that_is_cancelled_is_asked_by_the_next() -> None:
    source = Source("b")
    gate = source.gate = anyio.Event()
    kept = credentials(source)
    kept.note_accepted()
    fresh: list[str | None] = []

    async def renew() -> None:
        fresh.append(await kept.renew("a"))

    async with anyio.create_task_group() as group:
        with anyio.CancelScope() as first:
            async with anyio.create_task_group() as inner:
                inner.start_soon(kept.renew, "a")
                await anyio.wait_all_tasks_blocked()
                group.start_soon(renew)
                await anyio.wait_all_tasks_blocked()
                first.cancel()
        gate.set()
    assert fresh == ["b"]


async def test_C4_an_old_renewal_does_not_answer_for_a_new_refusal() -> None:
    source = Source("b", "c", "d")
    kept = credentials(source)
    kept.note_accepted()
    assert await kept.renew("a") == "b"
    assert await kept.get() == "c"
    assert await kept.renew("c") == "d"
    assert source.asked == ["a", None, "c"]


async def test_C4_a_token_that_comes_back_and_is_refused_again_is_asked_about_again() -> None:
    source = Source("b", "a", "c")
    kept = credentials(source)
    kept.note_accepted()
    assert await kept.renew("a") == "b"
    assert await kept.get() == "a"
    assert await kept.renew("a") == "c"


# Before the first acceptance


async def refusals_until_fatal(auth: Any) -> tuple[int, str]:
    kept = credentials(auth)
    for number in range(20):
        try:
            token = await kept.get()
            if await kept.renew(token) is not None:
                kept.note_refused_again()
        except AuthenticationFailed as exc:
            return number, str(exc)
    return -1, ""


async def test_C4_a_static_token_may_be_refused_once_and_a_source_four_times() -> None:
    attempts, text = await refusals_until_fatal("s3cr3t")
    assert (attempts, "(401, 2 times)" in text, "s3cr3t" in text) == (1, True, False)
    attempts, text = await refusals_until_fatal(lambda: "s3cr3t")
    assert (attempts, "(401, 5 times)" in text, "s3cr3t" in text) == (4, True, False)
    attempts, text = await refusals_until_fatal(Rotating())
    assert (attempts, "(401, 5 times)" in text) == (2, True)
    attempts, text = await refusals_until_fatal(None)
    assert (attempts, "none was given (auth=...)" in text) == (1, True)


@pytest.mark.parametrize("auth", ["t", lambda: "t", Rotating(), None])
async def test_C4_after_the_first_acceptance_no_number_of_refusals_is_fatal(auth: Any) -> None:
    kept = credentials(auth)
    kept.note_accepted()
    for _ in range(20):
        await kept.renew(await kept.get())
        kept.note_refused_again()


# Over HTTP


@asynccontextmanager
async def scene(auth: Any, *tokens: str) -> AsyncGenerator[tuple[HttpGateway, HttpTransport]]:
    """Open a transport to a gateway that accepts these tokens."""
    with anyio.fail_after(10):
        async with http_gateway(tokens=tokens) as gateway:
            transport = HttpTransport(gateway.url, auth=auth)
            async with transport.open():
                yield gateway, transport


def sent(gateway: HttpGateway) -> list[str | None]:
    return [bearer(request) for request in gateway.requests]


async def test_C4_a_refused_post_is_sent_once_more_with_another_token() -> None:
    source = Source("stale", "fresh")
    async with scene(source, "fresh") as (gateway, transport):
        assert (await transport.post("ack", ACK)).status == 200
        assert sent(gateway) == ["stale", "fresh"]
        assert [request.body for request in gateway.requests] == [ACK, ACK]
    assert source.asked == [None, "stale"]


async def test_C4_a_refused_stream_is_asked_for_once_more_with_another_token() -> None:
    source = Source("stale", "fresh")
    async with scene(source, "fresh") as (gateway, transport), transport.subscribe("n"):
        assert sent(gateway) == ["stale", "fresh"]
    assert source.asked == [None, "stale"]


@pytest.mark.parametrize("tokens", [["stale"], ["stale", "stale-too", "fresh"]])
async def test_C4_a_second_refusal_is_a_failed_attempt(tokens: list[str]) -> None:
    for act in ("post", "subscribe"):
        async with scene(Source(*tokens), "fresh") as (gateway, transport):
            if act == "post":
                assert (await transport.post("ack", ACK)).status == 401
            else:
                with pytest.raises(StreamRefused) as caught:
                    async with transport.subscribe("n"):
                        raise AssertionError
                assert caught.value.status == 401
            assert sent(gateway) == tokens[:2]


async def test_reference_D32_a_source_that_caches_is_told_what_was_refused() -> None:
    source = Rotating()
    async with scene(source, "token-2") as (_, transport):
        for _ in range(5):
            assert (await transport.post("ack", ACK)).status == 200
    assert source.renewals == ["token-1"]


async def test_C4_concurrent_refusals_over_http_share_one_question() -> None:
    source = Rotating()
    async with scene(source, "token-1", "token-2") as (gateway, transport):
        assert (await transport.post("ack", ACK)).status == 200
        gateway.tokens = ["token-2"]
        statuses: list[int] = []

        async def post() -> None:
            statuses.append((await transport.post("ack", ACK)).status)

        async with anyio.create_task_group() as group:
            for _ in range(16):
                group.start_soon(post)
        assert statuses == [200] * 16
        assert source.renewals == ["token-1"]
        assert sent(gateway).count("token-1") <= 17


async def test_C4_an_accepted_stream_is_no_acceptance_of_posts() -> None:
    async with scene("s3cr3t", "s3cr3t") as (gateway, transport), transport.subscribe("n"):
        gateway.tokens = []
        assert (await transport.post("register", ACK)).status == 401
        with pytest.raises(AuthenticationFailed):
            await transport.post("register", ACK)
