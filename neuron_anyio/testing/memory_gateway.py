"""The real gateway without a socket: its ledger, leases, heartbeats, redelivery and revocations, in memory.

    async with open_memory_gateway() as gateway:
        async with open_neuron(gateway.transport(), neuron_id="neuron-1", capabilities=[echo]):
            task = await gateway.submit("test/echo", "hello")
            (settled,) = await gateway.wait_settled(task.task_id)
    assert settled.output == "hello"

Nothing here needs a network, so it works under trio's `MockClock`, where hours pass in no time: leases expire,
heartbeats go out and back-offs last as long as they say. It needs none of the packages of the extra `gateway`.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import ExitStack, asynccontextmanager

import anyio

from ..abc import Oversized, Reply
from ..backoff import Backoff
from ..errors import StreamRefused, TransportError
from ..gateway.book import Bounds
from ..gateway.gateway import BODY_BYTES, KEEP_ALIVE, STREAM_BYTES, Gateway
from ..gateway.ledger import BOUNDS, RETRY
from ..gateway.posts import check_size, take_post
from ..gateway.principals import ANYBODY, Principal
from ..gateway.problems import Problem, Refused
from ..gateway.store import Store
from ..gateway.streams import KEEP_ALIVE as COMMENT
from ..gateway.streams import Outbox
from ..sse import EventDecoder, OversizedEvent

__all__ = ["GatewayTransport", "MemoryGateway", "open_memory_gateway"]

ORIGIN = "memory:gateway"
BUSY = (429, 503)
"""Statuses that come with a wish to wait, a second as over HTTP."""


class MemoryGateway(Gateway):
    """A running gateway in memory. You get one from `open_memory_gateway`; the block is its life.

    It is a `neuron_anyio.gateway.Gateway` in all that callers and operators do: `submit`, `wait_settled`, `task`,
    `cancel`, `revoke`, `allow`, `disconnect`, `drop_stream`, `neurons`.
    """

    def transport(self, principal: Principal = ANYBODY) -> GatewayTransport:
        """Return a new way to this gateway, for one neuron.

        Args:
            principal: who the neuron is to the gateway, in the place of a token.
        """
        return GatewayTransport(self, principal)


class GatewayTransport:
    """A `Transport` from one neuron to a `MemoryGateway`.

    The stream is the gateway's own, byte for byte: what is cut off before it was read is lost, as on a real road.

    Attributes:
        origin: its name in events and logs.
    """

    def __init__(self, gateway: MemoryGateway, principal: Principal) -> None:
        self.origin = ORIGIN
        self._gateway = gateway
        self._principal = principal
        self._hindrance = ""
        self._streams: set[Outbox] = set()

    def go_down(self, reason: str = "the network is down") -> None:
        """Let nothing through until `come_back`: streams are cut, whatever is tried fails."""
        self._hindrance = reason
        for outbox in self._streams:
            outbox.cut()

    def come_back(self) -> None:
        """Let everything through again."""
        self._hindrance = ""

    @asynccontextmanager
    async def open(self) -> AsyncGenerator[None]:
        """Nothing to acquire."""
        yield

    @asynccontextmanager
    async def subscribe(self, neuron_id: str) -> AsyncGenerator[_GatewayStream]:
        """Open the event stream.

        Raises:
            StreamRefused: the gateway will not have this neuron.
            TransportError: it was told to go down, or the gateway's block has ended.
        """
        await anyio.lowlevel.checkpoint()
        self._check_road()
        with ExitStack() as stack:
            try:
                outbox = stack.enter_context(self._gateway.stream(neuron_id, self._principal))
            except Refused as refused:
                reply = _reply(refused.problem)
                text = f"{self.origin} answered {reply.status}: {reply.text}"
                raise StreamRefused(text, status=reply.status, retry_after=reply.retry_after) from None
            self._streams.add(outbox)
            stack.callback(self._streams.discard, outbox)
            yield _GatewayStream(outbox, self._gateway.keep_alive)

    async def post(self, path: str, body: bytes) -> Reply:
        """Hand one frame to the gateway.

        Raises:
            TransportError: it was told to go down, or the gateway's block has ended.
        """
        await anyio.lowlevel.checkpoint()
        self._check_road()
        try:
            check_size(len(body), self._gateway.body_bytes)
            await take_post(self._gateway, path, body, self._principal)
        except Refused as refused:
            return _reply(refused.problem)
        self._check_road()  # what went down meanwhile has done its work, and its answer is lost
        return Reply(status=200, is_json=True)

    def _check_road(self) -> None:
        if self._hindrance:
            raise TransportError(self._hindrance)
        if not self._gateway.is_running:
            raise TransportError(f"{self.origin} has closed")


class _GatewayStream:
    """The neuron's end of a stream."""

    def __init__(self, outbox: Outbox, keep_alive: float) -> None:
        self._outbox = outbox
        self._keep_alive = keep_alive
        self._decoder = EventDecoder()
        self._decoder.push(COMMENT)  # the gateway's first word on every stream
        self._is_cut = False
        outbox.abort = self._note_cut

    @property
    def comments(self) -> int:
        """Comments so far."""
        return self._decoder.comments

    async def receive(self) -> Sequence[bytes | str | Oversized]:
        """Wait for the next events, or for a comment, which has none."""
        data = await self._outbox.take(until=anyio.current_time() + self._keep_alive)
        if data is None:
            if self._is_cut:
                raise TransportError("the stream was cut off")
            raise anyio.EndOfStream
        return [
            Oversized(size=event.size, head=event.head) if isinstance(event, OversizedEvent) else event.data
            for event in self._decoder.push(data or COMMENT)
        ]

    def _note_cut(self) -> None:
        self._is_cut = True


def _reply(refusal: Problem) -> Reply:
    retry_after = 1.0 if refusal.status in BUSY else None
    return Reply(status=refusal.status, text=refusal.detail, is_json=True, retry_after=retry_after)


@asynccontextmanager
async def open_memory_gateway(
    *,
    max_attempts: int = 3,
    lease_ttl: float = 60.0,
    retry: Backoff = RETRY,
    keep_alive: float = KEEP_ALIVE,
    store: Store | None = None,
    bounds: Bounds = BOUNDS,
    body_bytes: int = BODY_BYTES,
    stream_bytes: int = STREAM_BYTES,
) -> AsyncGenerator[MemoryGateway]:
    """Run a gateway in memory while the block runs. Neurons that outlive it find nobody there.

    Args:
        max_attempts: tries of a task that names no number itself.
        lease_ttl: seconds of a lease, for capabilities that name none.
        retry: back-off between the tries of a task.
        keep_alive: seconds between comments on a silent stream.
        store: where tasks are kept; in memory when None. Give one to two gateways, one after the other, for a restart.
        bounds: how much is kept.
        body_bytes: the largest frame that it takes.
        stream_bytes: what may wait for one neuron to read; a slower one loses its stream, not its leases.

    Raises:
        ValueError: an argument is wrong.
    """
    gateway = MemoryGateway(
        max_attempts=max_attempts,
        lease_ttl=lease_ttl,
        retry=retry,
        keep_alive=keep_alive,
        store=store,
        bounds=bounds,
        body_bytes=body_bytes,
        stream_bytes=stream_bytes,
    )
    async with gateway.running():
        yield gateway
