"""Help for testing neurons, gateways and what stands between them.

One's own handlers, without a gateway:

- `run_handler`, `start_handler`: one run of one handler, to its end or steered. In `handlers`.

One's own neuron, against a gateway:

- `open_memory_gateway`: the real one without a socket, for virtual time too. In `memory_gateway`.
- `open_fault_gateway`: one over real TCP that does one thing wrong; `faults.FAULTS` has the ids. In `fault_gateway`.
- `ScriptedGateway`: one whose every word is written by the test. In `scripted_gateway`.
- `SteeredHandler`: a handler whose runs end as the test says. In `steered_handler`.
- `pytest_plugin`: the fixtures `neuron_gateway` (the real one over HTTP), `memory_gateway` and `fault_gateway`.

One's own transport, broker, wire or SDK:

- `check_transport`: what every `Transport` has to do, checked against one of yours. In `transport_contract`.
- `check_broker`: what every `Broker` has to do, checked with a real neuron on one of yours. In `broker_contract`.
- `oracle.judge`: what was lost or done twice, from the gateway's `book` and the handlers' `worklog`.
- `scenarios.SCENARIOS` and `scenario_play.play`: every fault met by a neuron of any SDK, and what has to come of it.
- `strategies`: Hypothesis strategies for what goes over the wire and over the broker's seam.

The names above that stand alone can be taken from here, the rest from its module. Nothing is imported before it is
asked for, so that one who needs a single part does not need the packages of all.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .broker_contract import check_broker
    from .fault_gateway import FaultGateway, open_fault_gateway
    from .handlers import HandlerResult, HandlerRun, NotCompletedError, run_handler, start_handler
    from .memory_gateway import MemoryGateway, open_memory_gateway
    from .scripted_gateway import ScriptedGateway
    from .steered_handler import SteeredHandler
    from .transport_contract import check_transport

__all__ = [
    "FaultGateway",
    "HandlerResult",
    "HandlerRun",
    "MemoryGateway",
    "NotCompletedError",
    "ScriptedGateway",
    "SteeredHandler",
    "check_broker",
    "check_transport",
    "open_fault_gateway",
    "open_memory_gateway",
    "run_handler",
    "start_handler",
]

_HOMES = {
    "FaultGateway": "fault_gateway",
    "HandlerResult": "handlers",
    "HandlerRun": "handlers",
    "MemoryGateway": "memory_gateway",
    "NotCompletedError": "handlers",
    "ScriptedGateway": "scripted_gateway",
    "SteeredHandler": "steered_handler",
    "check_broker": "broker_contract",
    "check_transport": "transport_contract",
    "open_fault_gateway": "fault_gateway",
    "open_memory_gateway": "memory_gateway",
    "run_handler": "handlers",
    "start_handler": "handlers",
}
"""Where a name is."""


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
