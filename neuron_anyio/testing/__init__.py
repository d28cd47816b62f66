"""Help for testing neurons, gateways and what stands between them.

Each module is imported by its own name, so that one who needs a single part does not need the packages of all.
"""

from __future__ import annotations

__all__: list[str] = []
