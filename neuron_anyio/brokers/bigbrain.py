"""BigBrain as a task system: registration, the stream, heartbeats, ack and nack, over any `Transport`.

Sections are those of the BigBrain specification.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime, timedelta

import anyio
import msgspec
from anyio import CancelScope
from anyio.abc import TaskGroup, TaskStatus

from .. import events, frames
from ..abc import EventStream, Intake, Oversized, Receipt, Reply, Transport
from ..codec import UnknownFrameType, decode_server_frame, encode_frame, peek_lease_id
from ..config import Timing
from ..errors import (
    AuthenticationFailed,
    CredentialRevoked,
    FrameError,
    GatewayDisconnected,
    NeuronError,
    RegistrationRejected,
    StreamRefused,
    TransportError,
)
from ..logs import named
from ..model import (
    Delivery,
    Failed,
    FailureKind,
    GiveBack,
    GivenBack,
    Held,
    Offer,
    Outcome,
    Progress,
)
from ..retries import Retries
from ..wakeup import Wakeup
from ._bigbrain_answers import FORGOTTEN, Refusals, Settlements, answer_text, is_success
from ._bigbrain_wire import capability_frame, delivery_of, settlement_frame
from ._silence import Silence

__all__ = ["BigBrainBroker"]

CONFIRMATION = 1.0
"""Seconds that an accepted neuron waits for its `registered` frame (promise C1)."""

STABLE = 5.0
"""Seconds that a stream must stay up before the back-off starts anew (promise C5)."""

UNANSWERED = 3
"""Heartbeats in a row without an answer after which the stream counts as dead (promise C6)."""


class BigBrainBroker:
    """A BigBrain gateway.

    Args:
        transport: how frames travel.
        timing: back-off, heartbeat, `stream_idle`.
        log: logger.
    """

    def __init__(
        self,
        transport: Transport,
        *,
        timing: Timing = Timing(),  # noqa: B008 - frozen
        log: logging.Logger | None = None,
    ) -> None:
        self.origin: str = transport.origin
        self._transport = transport
        self._timing = timing
        self._log = logging.getLogger("neuron_anyio") if log is None else log
        self._is_started = False
        self._asked: dict[str, tuple[int, ...]] = {}
        self._registered = False
        self._refusals = Refusals()
        self._settlements = Settlements()
        self._unanswered = 0
        self._fatal: NeuronError | None = None
        self._attempt: CancelScope | None = None
        self._session: TaskGroup | None = None
        self._ended = ""
        self._wake = Wakeup()
        self._is_registering = self._is_forgotten = False
        self._confirmed = Wakeup()
        self._task_status: TaskStatus[None]
        self._silence = Silence(idle=timing.stream_idle)
        self._intake: Intake

    def open(self, intake: Intake) -> AbstractAsyncContextManager[None]:
        """Open the transport."""
        self._intake = intake
        return self._transport.open()

    # Connecting: promises C1 to C7

    async def take(self, *, task_status: TaskStatus[None]) -> None:
        """Keep a stream open and the neuron registered, until cancelled or until there is no way to go on."""
        self._task_status = task_status
        self._is_started = False
        self._fatal = None
        self._refusals = Refusals()
        retries = Retries(self._timing.reconnect)
        while True:
            uptime, reason, retry_after = await self._connect()
            if self._fatal is not None:
                raise self._fatal
            if uptime > max(STABLE, retries.last_ceiling):
                retries.reset()
            delay = retries.fail(retry_after)
            attempt = retries.failures
            if retries.is_telling:
                line = named("connection.reconnecting", origin=self.origin, failures=attempt, delay=delay)
                text = "no stream from %s (attempt %d): %s; next in %.1f s"
                self._log.warning(text, self.origin, attempt, reason, delay, extra=line)
            self._intake.emit(events.Reconnecting(origin=self.origin, attempt=attempt, delay=delay, reason=reason))
            await self._wake.wait(until=anyio.current_time() + delay)
            if self._fatal is not None:  # what was posted meanwhile has brought it
                raise self._fatal

    async def _connect(self) -> tuple[float, str, float | None]:
        """Hold one stream to its end; return for how long it was open, why it ended, and what Retry-After said."""
        opened: float | None = None
        retry_after: float | None = None
        try:
            with CancelScope() as self._attempt:
                async with self._transport.subscribe(self._intake.neuron_id) as stream:
                    opened = anyio.current_time()
                    line = named("connection.open", origin=self.origin)
                    self._log.debug("the stream from %s is open", self.origin, extra=line)
                    self._intake.emit(events.Connected(origin=self.origin))
                    self._ended = ""
                    await self._hold(stream)
            reason = self._ended
        except StreamRefused as exc:
            reason, retry_after = str(exc), exc.retry_after
            self._check_refusal(exc.status, str(exc))
        except TransportError as exc:
            reason, retry_after = str(exc), exc.retry_after
            self._refusals.interrupt()
        except NeuronError as exc:
            self._fatal = exc
            reason = str(exc)
        if opened is None:
            return 0.0, reason, retry_after
        self._registered = False
        line = named("connection.close", origin=self.origin)
        self._log.debug("the stream from %s has ended: %s", self.origin, reason, extra=line)
        self._intake.emit(events.Disconnected(origin=self.origin, reason=reason))
        return anyio.current_time() - opened, reason, retry_after

    async def _hold(self, stream: EventStream) -> None:
        self._unanswered = 0
        self._silence = Silence(idle=self._timing.stream_idle)
        self._is_registering = False
        try:
            async with anyio.create_task_group() as self._session:
                self._register_soon(self._session)
                await self._read(stream, self._session.cancel_scope)
                self._session.cancel_scope.cancel()
        finally:
            self._session = None
        if not self._ended:
            self._ended = f"nothing came for {self._silence.limit:.0f} s"

    def _end_stream(self, reason: str) -> None:
        if not self._ended:
            self._ended = reason
        if self._session is not None:
            self._session.cancel_scope.cancel()

    def _fail(self, error: NeuronError) -> None:
        """End the neuron: now, whether a stream is open, being opened or waited for."""
        if self._fatal is None:
            self._fatal = error
        self._end_stream(str(error))
        if self._attempt is not None:
            self._attempt.cancel()
        self._wake.notify()

    def _register_soon(self, session: TaskGroup) -> None:
        if not self._is_registering:
            self._is_registering = True
            session.start_soon(self._be_registered)

    def _note_forgotten(self) -> None:
        """Register again: the gateway says that it has forgotten this neuron (promise C3)."""
        self._registered = False
        self._is_forgotten = True
        line = named("connection.forgotten", origin=self.origin)
        self._log.warning("%s has forgotten this neuron; registering again", self.origin, extra=line)
        if self._session is not None:
            self._register_soon(self._session)

    async def _be_registered(self) -> None:
        self._is_forgotten = True
        while self._is_forgotten:
            self._is_forgotten = False
            # Before the request: a gateway may send `registered` before it answers.
            self._confirmed = confirmed = Wakeup()
            if await self._register() and not await confirmed.wait(until=anyio.current_time() + CONFIRMATION):
                self._note_registered(None, dict.fromkeys(self._asked))
            if not self._is_started:
                self._is_started = True
                self._task_status.started()
        self._is_registering = False

    async def _register(self) -> bool:
        """Post `register` until it is accepted. Returns whether there was anything to offer."""
        retries = Retries(self._timing.reconnect)
        while offers := self._intake.offers():
            frame = frames.Register(
                neuron_id=self._intake.neuron_id,
                protocol_version=frames.PROTOCOL_VERSION,
                capabilities=tuple(capability_frame(offer) for offer in offers),
            )
            self._asked = {offer.capability: (offer.concurrency,) for offer in offers}
            retry_after: float | None = None
            try:
                reply = await self._post(frame)
            except TransportError as exc:
                reason = str(exc)
                self._refusals.interrupt()
            else:
                if is_success(reply):
                    self._registered = True
                    self._refusals.accept()
                    return True
                reason, retry_after = f"{reply.status} {reply.text}", reply.retry_after
                self._check_refusal(reply.status, f"{self.origin} answered {reply.status} to register: {reply.text}")
            delay = retries.fail(retry_after)
            if retries.is_telling and self._fatal is None:
                line = named("connection.register_not_accepted", origin=self.origin, delay=delay)
                text = "register not accepted by %s: %s; next in %.1f s"
                self._log.warning(text, self.origin, reason, delay, extra=line)
            await anyio.sleep(delay)
        return False

    def _check_refusal(self, status: int, text: str) -> None:
        """End the neuron if a refusal says so (promise C2)."""
        intake = self._intake
        advice = self._refusals.refuse(status, anyio.current_time(), neuron_id=intake.neuron_id, offers=intake.offers())
        if advice is not None:
            self._fail(RegistrationRejected(f"{text}; {advice}", status=status))

    # Reading: promises C6, C8, C11, C12

    async def _read(self, stream: EventStream, patience: CancelScope) -> None:
        """Read until the stream ends, or until the scope cancels what waits in vain."""
        silence, now = self._silence, anyio.current_time()
        while True:
            if patience.deadline != (deadline := silence.deadline(now)):
                patience.deadline = deadline
            try:
                documents = await stream.receive()
            except anyio.EndOfStream:
                return self._end_stream("the gateway closed the stream")
            except TransportError as exc:
                return self._end_stream(str(exc))
            except NeuronError as exc:
                return self._fail(exc)
            now = anyio.current_time()
            silence.heard(stream.comments, now)
            self._receive_all(documents)
            del documents  # a large one must not be held while the stream is silent

    def _receive_all(self, documents: Sequence[bytes | str | Oversized]) -> None:
        for document in documents:
            self._receive(document)

    def _receive(self, document: bytes | str | Oversized) -> None:
        if isinstance(document, Oversized):
            self._drop("over the size limit", document.size, peek_lease_id(document.head), oversized=True)
            return
        try:
            frame = decode_server_frame(document)
        except UnknownFrameType as exc:
            raw = document.encode() if isinstance(document, str) else document
            self._intake.emit(events.FrameReceived(origin=self.origin, type=exc.frame_type or "", raw=raw))
            return
        except FrameError as exc:
            raw = document.encode("utf-8", "replace") if isinstance(document, str) else document
            self._drop(str(exc), len(raw), peek_lease_id(raw), oversized=False)
            return
        self._intake.emit(events.FrameReceived(origin=self.origin, type=frame.type))
        self._handle(frame)

    def _drop(self, reason: str, size: int, lease_id: str | None, *, oversized: bool) -> None:
        line = named("frame.dropped", origin=self.origin, size=size, lease_id=lease_id)
        self._log.warning("dropped a frame of %d bytes from %s: %s", size, self.origin, reason, extra=line)
        self._intake.emit(events.FrameDropped(origin=self.origin, reason=reason, size=size))
        if lease_id is None:
            return
        if oversized:
            text = f"the lease has {size} bytes, more than this neuron reads"
            self._intake.refuse(lease_id, Failed(kind=FailureKind.DELIVERY_TOO_LARGE, retryable=False, reason=text))
        else:
            self._intake.refuse(lease_id, GivenBack(cause=GiveBack.MALFORMED, reason=reason))

    def _handle(self, frame: frames.ServerFrame) -> None:
        match frame:
            case frames.Lease():
                self._intake.deliver(delivery_of(frame))
            case frames.Cancel():
                self._intake.cancel(frame.lease_id, frame.reason)
            case frames.Registered():
                caps = {offer.type: self._cap(offer.type, offer.concurrency) for offer in frame.capabilities}
                self._note_registered(frame.session_id, caps)
            case frames.CapabilityRevoked():
                self._intake.revoke(frame.capability, frame.reason)
            case frames.Disconnect():
                self._disconnect(frame)

    def _cap(self, capability: str, granted: int) -> int | None:
        """Return the cap in a grant (promise C11): None where it is what the register, or an update since, asked."""
        asked = self._asked.get(capability)
        return None if asked is not None and (granted in asked or granted >= asked[-1]) else granted

    def _note_registered(self, session_id: str | None, granted: Mapping[str, int | None]) -> None:
        effective = self._intake.grant(session_id, granted)
        listed = ", ".join(f"{name} x{limit}" for name, limit in effective.items())
        line = named("connection.registered", origin=self.origin, session_id=session_id, capabilities=dict(effective))
        self._log.info("registered with %s: %s", self.origin, listed or "nothing", extra=line)
        self._intake.emit(events.Registered(origin=self.origin, session_id=session_id, capabilities=effective))
        self._confirmed.notify()

    def _disconnect(self, frame: frames.Disconnect) -> None:
        text = f"{self.origin} disconnected this neuron: {frame.reason}"
        if frame.reconnectable:
            self._end_stream(text)
        else:
            code = f" ({frame.code})" if frame.code else ""
            self._fail(GatewayDisconnected(f"{text}{code}; it must not reconnect", code=frame.code))

    # Posting

    async def _post(self, frame: frames.NeuronFrame) -> Reply:
        try:
            return await self._transport.post(frame.type, encode_frame(frame))
        except (CredentialRevoked, AuthenticationFailed) as exc:
            self._fail(exc)
            raise TransportError(str(exc)) from exc

    async def announce(self, offer: Offer) -> None:
        """Post `update-capability`."""
        # Before the request, as in `_register`: the grant may be sent before the answer.
        self._asked[offer.capability] = (*self._asked.get(offer.capability, ())[:1], offer.concurrency)
        frame = frames.UpdateCapability(neuron_id=self._intake.neuron_id, capability=capability_frame(offer))
        reply = await self._post(frame)
        if not is_success(reply):
            raise TransportError(f"{reply.status} {reply.text}", retry_after=reply.retry_after)

    async def keep_alive(self, held: Sequence[Held]) -> bool:
        """Post a heartbeat: while registered, and with leases in any state of the connection (promise H1)."""
        if not self._registered and not held:
            return False
        now = datetime.now(UTC)
        in_flight = tuple(
            frames.InFlight(
                lease_id=item.delivery_id, task_id=item.task_id, started_at=now - timedelta(seconds=item.age)
            )
            for item in held
        )
        self._unanswered += 1
        if self._unanswered > UNANSWERED and not self._silence.has_comments:
            self._end_stream(f"{UNANSWERED} heartbeats in a row were not answered")
        reply = await self._post(frames.Heartbeat(neuron_id=self._intake.neuron_id, in_flight=in_flight, sent_at=now))
        self._unanswered = 0
        if reply.status in FORGOTTEN and self._registered:
            self._note_forgotten()
        return is_success(reply)

    async def report(self, delivery: Delivery, progress: Progress) -> None:
        """Post progress."""
        frame = frames.Progress(
            lease_id=delivery.id,
            percent=progress.percent,
            message=progress.message,
            data=None if progress.data is None else msgspec.Raw(progress.data),
            sent_at=datetime.now(UTC),
        )
        reply = await self._post(frame)
        if not is_success(reply):
            raise TransportError(answer_text(reply.status))

    async def settle(self, delivery_id: str, outcome: Outcome) -> Receipt:
        """Post an ack or a nack; read the answer by promise L9."""
        reply = await self._post(settlement_frame(delivery_id, outcome))
        return self._settlements.receipt(delivery_id, reply, anyio.current_time)
