"""What a row of the benchmark is: whom it measures, how, and what is asked of the figures."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import msgspec

__all__ = ["LEANER", "PACKAGE", "SUBJECTS", "TLS", "Case", "Target"]

PACKAGE = ("asyncio", "uvloop", "trio")
"""This package on its backends."""

TLS = tuple(f"{backend}-tls" for backend in PACKAGE)

LEANER = "leaner"
"""The floor once more, on asyncio's own streams instead of anyio's."""

SUBJECTS = ("published", "floor", LEANER, *PACKAGE, *TLS)
"""Who may be measured: the published SDK, bare clients that validate nothing, and this package."""


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked of a figure's median.

    Attributes:
        figure: its name, as "cpu_us".
        at_most: a multiple of `of`'s median where `of` is given, else a number in the figure's unit.
        of: the subject that is compared with.
        subjects: of whom it is asked.
    """

    figure: str
    at_most: float
    of: str | None = None
    subjects: tuple[str, ...] = PACKAGE


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """One row.

    Attributes:
        row: its name, as "leases, window 16".
        subjects: whom it measures, of `SUBJECTS`; choices in the row that compares these.
        measure: runs one subject once; returns figures by name, with the unit as suffix: cpu_us, cpu_s, kib, ms, posts.
            "gateway_busy" is the gateway's share of a CPU, 0 to 1. The first figure is the one that the row is about.
        targets: what is asked.
        rounds: how often each subject has its turn; subjects take turns within a round.
        slow: rounds for subjects that need minutes.
    """

    row: str
    subjects: tuple[str, ...]
    measure: Callable[[str], Mapping[str, float]]
    targets: tuple[Target, ...] = ()
    rounds: int = 5
    slow: Mapping[str, int] = {}
