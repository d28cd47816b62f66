"""Help for testing neurons, gateways and what stands between them.

Each module is imported by its own name, so that one who needs a single part does not need the packages of all.

- `fault_gateway.open_fault_gateway`: a gateway over real TCP that does one thing wrong; `faults.FAULTS` has the ids.
- `oracle.judge`: what was lost or done twice, from the gateway's `book` and the handlers' `worklog`.
- `scenarios.SCENARIOS` and `scenario_play.play`: every fault met by a neuron of any SDK, and what has to come of it.
- `strategies`: Hypothesis strategies for frames.
"""

from __future__ import annotations

__all__: list[str] = []
