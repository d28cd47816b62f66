"""A longer search for those who have the time: `pytest --hypothesis-profile=soak tests/pure/test_two_ledgers.py`."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("soak", settings.get_profile("suite"), max_examples=20_000)
