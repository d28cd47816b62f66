"""Structured-concurrency neurons for trio and asyncio.

A neuron connects to a gateway, offers capabilities, runs a handler for every lease and delivers what became of it.
"""

from .abc import Broker, Transport
from .backoff import Backoff
from .brokers.bigbrain import BigBrainBroker
from .capability import Capability, capability, on_behalf_of
from .config import Limits, Timing
from .context import LeaseContext
from .errors import (
    AuthenticationFailed,
    CredentialRevoked,
    FrameError,
    GatewayDisconnected,
    HandlerCancelled,
    JournalError,
    NeuronError,
    RegistrationRejected,
    RetryableFailure,
    TerminalFailure,
    TransportError,
)
from .events import Event
from .model import CancelReason
from .neuron import Neuron, open_neuron
from .serve import serve
from .setup import neuron_id_file
from .transports.http import HttpTransport
from .transports.ipc import IpcTransport
from .transports.memory import MemoryTransport

__all__ = [
    "AuthenticationFailed",
    "Backoff",
    "BigBrainBroker",
    "Broker",
    "CancelReason",
    "Capability",
    "CredentialRevoked",
    "Event",
    "FrameError",
    "GatewayDisconnected",
    "HandlerCancelled",
    "HttpTransport",
    "IpcTransport",
    "JournalError",
    "LeaseContext",
    "Limits",
    "MemoryTransport",
    "Neuron",
    "NeuronError",
    "RegistrationRejected",
    "RetryableFailure",
    "TerminalFailure",
    "Timing",
    "Transport",
    "TransportError",
    "capability",
    "neuron_id_file",
    "on_behalf_of",
    "open_neuron",
    "serve",
]
