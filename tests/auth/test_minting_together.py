"""Many callers at once: one mint for all, its failure too, and nobody waits for who was cancelled."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

from neuron_anyio import CredentialRevoked, NeuronError
from neuron_anyio.auth import ClientCredentials, TokenRequestFailed
from tests.auth.server import TOKEN, AuthServer, auth_server, error, reply
from tests.auth.support import Clock, stored
from tests.runtime.http1_server import Peer

pytestmark = pytest.mark.anyio


class Held:
    """A reply that waits until the test lets it go."""

    def __init__(self, raw: bytes) -> None:
        self._raw = raw
        self.asked = anyio.Event()
        self.go = anyio.Event()

    async def __call__(self, peer: Peer) -> None:
        self.asked.set()
        await self.go.wait()
        await peer.send(self._raw)


GOOD = reply(200, {"access_token": "new", "expires_in": 900})


class Callers:
    """Callers of one source; what each got, a token or an error."""

    def __init__(self, source: ClientCredentials, group: Any) -> None:
        self._source = source
        self._group = group
        self.got: list[Any] = []
        self.waiting = 0
        self._changed = anyio.Event()

    def start(self, count: int, refused: str | None = None) -> list[anyio.CancelScope]:
        """Start so many callers; return what cancels each."""
        scopes = [anyio.CancelScope() for _ in range(count)]
        for scope in scopes:
            self._group.start_soon(self._call, scope, refused)
        return scopes

    async def _call(self, scope: anyio.CancelScope, refused: str | None) -> None:
        self.waiting += 1
        self._notify()
        with scope:
            try:
                self.got.append(await self._source.token(refused=refused))
            except NeuronError as exc:
                self.got.append(exc)
        self._notify()

    def _notify(self) -> None:
        self._changed.set()
        self._changed = anyio.Event()

    async def wait_until(self, condition: Callable[[], Any]) -> None:
        with anyio.fail_after(5):
            while not condition():
                await self._changed.wait()


@asynccontextmanager
async def callers(
    folder: Path, clock: Clock | None = None
) -> AsyncGenerator[tuple[AuthServer, ClientCredentials, Callers]]:
    async with auth_server() as server:
        source = ClientCredentials(stored(server, folder), clock=clock or Clock())
        async with anyio.create_task_group() as group:
            yield server, source, Callers(source, group)


async def test_callers_at_the_same_time_share_one_mint(tmp_path: Path) -> None:
    async with callers(tmp_path) as (server, _, many):
        held = Held(GOOD)
        server.scripted[TOKEN] = [held]
        many.start(20)
        await held.asked.wait()
        many.start(5)
        await many.wait_until(lambda: many.waiting == 25)
        held.go.set()
        await many.wait_until(lambda: len(many.got) == 25)
        assert many.got == ["new"] * 25
        assert server.mints == 1


@pytest.mark.parametrize(
    ("raw", "kind"),
    [(reply(500), TokenRequestFailed), (error("invalid_client", 401), CredentialRevoked)],
    ids=["error", "revoked"],
)
async def test_callers_at_the_same_time_share_a_failure(tmp_path: Path, raw: bytes, kind: type[Exception]) -> None:
    async with callers(tmp_path) as (server, source, many):
        held = Held(raw)
        server.scripted[TOKEN] = [held]
        many.start(20)
        await held.asked.wait()
        held.go.set()
        await many.wait_until(lambda: len(many.got) == 20)
        assert {type(one) for one in many.got} == {kind}
        assert len({str(one) for one in many.got}) == 1
        assert len({id(one) for one in many.got}) == 20, "each has an error of its own"
        assert server.mints == 1
        if kind is TokenRequestFailed:
            assert await source.token() in server.tokens, "who comes later asks anew"


async def test_C4_callers_whose_token_was_refused_together_share_one_mint(tmp_path: Path) -> None:
    async with callers(tmp_path) as (server, source, many):
        old = await source.token()
        many.start(20, refused=old)
        await many.wait_until(lambda: len(many.got) == 20)
        assert len(set(many.got)) == 1
        assert old not in many.got
        assert server.mints == 2


async def test_who_waits_takes_over_when_who_minted_is_cancelled(tmp_path: Path) -> None:
    async with callers(tmp_path) as (server, _, many):
        first, second = Held(GOOD), Held(GOOD)
        server.scripted[TOKEN] = [first, second]
        (leader,) = many.start(1)
        await first.asked.wait()
        many.start(4)
        await many.wait_until(lambda: many.waiting == 5)
        leader.cancel()
        await second.asked.wait()
        second.go.set()
        await many.wait_until(lambda: len(many.got) == 4)
        assert many.got == ["new"] * 4
        assert server.mints == 2


async def test_who_waits_may_leave_without_disturbing_the_mint(tmp_path: Path) -> None:
    async with callers(tmp_path) as (server, _, many):
        held = Held(GOOD)
        server.scripted[TOKEN] = [held]
        many.start(1)
        await held.asked.wait()
        for scope in many.start(3):
            scope.cancel()
        await many.wait_until(lambda: many.waiting == 4)
        held.go.set()
        await many.wait_until(lambda: many.got)
        assert many.got == ["new"]
        assert server.mints == 1


async def test_while_a_token_is_replaced_ahead_the_others_go_on_with_the_old_one(tmp_path: Path) -> None:
    clock = Clock()
    async with callers(tmp_path, clock) as (server, source, many):
        old = await source.token()
        clock.now = 850
        held = Held(GOOD)
        server.scripted[TOKEN] = [held]
        many.start(1)
        await held.asked.wait()
        assert [await source.token() for _ in range(3)] == [old] * 3
        clock.now = 900
        many.start(2)
        await many.wait_until(lambda: many.waiting == 3)
        assert many.got == [], "it has ended, and who comes now waits"
        held.go.set()
        await many.wait_until(lambda: len(many.got) == 3)
        assert set(many.got) == {"new"}
        assert server.mints == 2


async def test_a_token_counts_from_the_moment_it_was_asked_for(tmp_path: Path) -> None:
    clock = Clock()
    async with callers(tmp_path, clock) as (server, source, many):
        held = Held(GOOD)
        server.scripted[TOKEN] = [held]
        many.start(1)
        await held.asked.wait()
        clock.now = 100
        held.go.set()
        await many.wait_until(lambda: many.got)
        clock.now = 840
        assert await source.token() != "new"


@pytest.mark.parametrize("after", range(12))
async def test_a_source_works_on_after_a_cancellation_at_any_await(tmp_path: Path, after: int) -> None:
    async with auth_server() as server:
        source = ClientCredentials(stored(server, tmp_path))
        async with anyio.create_task_group() as group:
            with anyio.CancelScope() as scope:

                async def cancel() -> None:
                    for _ in range(after):
                        await anyio.lowlevel.checkpoint()
                    scope.cancel()

                group.start_soon(cancel)
                await source.token()
        with anyio.fail_after(5):
            assert await source.token() in server.tokens


def test_a_source_may_be_used_in_one_event_loop_after_another(tmp_path: Path) -> None:
    source = ClientCredentials(tmp_path / "credential.json")

    async def mint(kept: str | None) -> str:
        async with auth_server() as server:
            stored(server, tmp_path)
            first = await source.token()
            assert kept is None or first == kept
            # The client's old address is not there any more, so that it is the file's that counts.
            source._credential = None
            second = await source.token(refused=first)
            assert second in server.tokens
            return second

    anyio.run(mint, anyio.run(mint, None, backend="trio"), backend="asyncio")
