"""Run the example as a program of its own."""

from __future__ import annotations

from ..program import run_from_environment
from . import search

raise SystemExit(run_from_environment(search))
