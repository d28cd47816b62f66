"""The gateway for development, tests and small deployments."""

from __future__ import annotations

from .book import Bounds
from .gateway import Gateway
from .ledger import GatewayLedger
from .principals import Principal
from .problems import Problem, Refused
from .server import BindError, open_gateway
from .store import MemoryStore, Page, Store
from .tasks import State, Task

__all__ = [
    "BindError",
    "Bounds",
    "Gateway",
    "GatewayLedger",
    "MemoryStore",
    "Page",
    "Principal",
    "Problem",
    "Refused",
    "State",
    "Store",
    "Task",
    "open_gateway",
]
