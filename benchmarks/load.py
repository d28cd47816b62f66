"""A gateway that hands out leases as fast as they are acked. `python -m benchmarks.load WARM_UP LEASES [PEM]`.

It prints its address, serves one neuron, keeps as many leases out as that neuron's registered concurrency, and prints
its own figures when all are acked and the neuron has gone. A PEM file, with key and certificates, makes it TLS.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Protocol

import msgspec

from . import wire
from .meter import Meter, report

__all__ = ["Session"]

_REGISTERED = (
    b'event: registered\ndata: {"type":"registered","sessionId":"s",'
    b'"capabilities":[{"type":"bench/page","scope":"any","concurrency":%d}],"acceptedAt":"2026-01-01T00:00:00Z"}\n\n'
)
_SCHEMA = (
    b'{"type":"object","required":["%s","body"],"properties":{"%s":{"type":"%s"},"body":{"type":"string"}},'
    b'"additionalProperties":false}'
)
_LEASE = (
    b'event: lease\ndata: {"type":"lease","lease":{"leaseId":"lease-%d","expiresAt":"2026-01-01T00:01:00Z","task":'
    b'{"taskId":"task-%d","workflowId":"workflow-1","capability":"bench/page","attempt":0,"input":'
    b'{"url":"https://example.com/","body":"' + b"lorem " * 150 + b'"}},'
    b'"inputSchema":' + _SCHEMA % (b"url", b"url", b"string") + b","
    b'"outputSchema":' + _SCHEMA % (b"status", b"status", b"integer") + b"},"
    b'"sentAt":"2026-01-01T00:00:00Z"}\n\n'
)


class _Offer(msgspec.Struct):
    concurrency: int


class _Frame(msgspec.Struct, rename="camel"):
    type: str
    lease_id: str = ""
    capabilities: list[_Offer] = []


_FRAMES = msgspec.json.Decoder(_Frame)


class _Stream(Protocol):
    def write(self, data: bytes, /) -> object: ...


class Session:
    """The one neuron: what it was sent and what it acked.

    Args:
        warm_up: leases that are not measured.
        leases: leases that are.

    Attributes:
        meter: of the gateway itself.
        ended: is done when the neuron has gone.
        stream: the event stream, once it is open.
    """

    def __init__(self, warm_up: int, leases: int) -> None:
        self.meter = Meter(warm_up, leases)
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.stream: _Stream | None = None
        self._unsent = iter(range(warm_up + leases))
        self._out: set[str] = set()

    def take(self, body: bytes) -> None:
        """Take a frame; send what follows from it."""
        frame = _FRAMES.decode(body)
        if frame.type == "ack":
            self._out.remove(frame.lease_id)
            self.meter.count()
            self._send()
        elif frame.type == "register":
            (offer,) = frame.capabilities
            assert self.stream is not None
            self.stream.write(_REGISTERED % offer.concurrency)
            for _ in range(offer.concurrency):
                self._send()
        elif frame.type == "nack":
            self.ended.set_exception(ValueError(f"a lease was not acked: {body!r}"))

    def _send(self) -> None:
        number = next(self._unsent, None)
        if number is not None and self.stream is not None:
            self._out.add(f"lease-{number}")
            self.stream.write(_LEASE % (number, number))


class _Server(wire.Connection):
    def __init__(self, session: Session) -> None:
        super().__init__()
        self._session = session

    def received(self, head: bytes, body: bytes) -> None:
        if head.startswith(b"GET "):
            self._session.stream = self.transport
            self.transport.write(wire.STREAM)
            return
        self.transport.write(wire.OK)
        self._session.take(body)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        if self.transport is self._session.stream and not self._session.ended.done():
            self._session.ended.set_result(None)


async def _main(warm_up: int, leases: int, certificate: str | None = None) -> None:
    session = Session(warm_up, leases)

    async def attend(port: int) -> None:  # noqa: ARG001 - leases do not name it
        await session.ended

    await wire.serve(lambda: _Server(session), attend, certificate)
    report(session.meter.figures())


if __name__ == "__main__":
    wire.run(_main(int(sys.argv[1]), int(sys.argv[2]), *sys.argv[3:]))
