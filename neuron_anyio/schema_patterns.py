"""What matching a pattern may cost.

Patterns run in a linear engine: the time for a string is its length times the length of the pattern with its counted
repetitions written out. The second factor is therefore bounded here, and weighed in the cost of a schema.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any, Final, cast

from .schema_refs import Schema
from .schema_report import InvalidSchema, quote

__all__ = ["CHARACTERS", "MAX_PATTERN_BYTES", "check_patterns", "pattern_work"]

_MAX_PATTERN: Final = 4_000
"""Length of a pattern, counted repetitions written out: 100 ns for each character matched, at worst."""

_MAX_PATTERNS: Final = 40_000
"""The same for all patterns of a schema together: compiling them stays below half a second."""

MAX_PATTERN_BYTES: Final = 1 << 20
"""Memory of one compiled pattern. Room for 1,000 characters of any script, not for tables that outgrow the cache."""

_UNICODE_CLASS: Final = 300
"""What a class such as `\\p{L}` counts for in a pattern: so many ranges."""

CHARACTERS: Final = 32
"""Characters of a string that count as one value more."""

_REPETITION: Final = re.compile(r"\{(?P<least>\d+)?,?(?P<most>\d+)?\}")
_UNICODE: Final = re.compile(r"\\[pP]")


def check_patterns(schemas: Iterable[Schema]) -> None:
    """Look at every pattern of a document, reachable or not: the metaschema has them all compiled.

    Raises:
        InvalidSchema: one of them, or all together, are too long.
    """
    total = sum(_length(pattern) for schema in schemas for pattern in _patterns(schema))
    if total > _MAX_PATTERNS:
        raise InvalidSchema(f"its patterns, repetitions written out, are longer than {_MAX_PATTERNS} characters in all")


def pattern_work(pattern: str) -> int:
    """Weigh matching one pattern, in evaluations for each value that it is matched with."""
    return 3 + _length(pattern) // 25


def _patterns(schema: Schema) -> Iterator[str]:
    pattern = schema.get("pattern")
    if isinstance(pattern, str):
        yield pattern
    by_pattern = schema.get("patternProperties")
    if isinstance(by_pattern, dict):
        yield from cast("dict[str, Any]", by_pattern)


def _length(pattern: str) -> int:
    """Bound the length of a pattern with its counted repetitions written out, without parsing it.

    A count after a group or another repetition may multiply all there is; any other repeats one character or class.
    """
    classes = len(_UNICODE.findall(pattern))
    length, times = len(pattern) + _UNICODE_CLASS * classes, 1
    for found in _REPETITION.finditer("".join(pattern.split())):
        count = max(1, int((found["most"] or found["least"] or "1")[:9]))
        before = found.string[found.start() - 1 : found.start()]
        if before == "]":
            length += count * (_UNICODE_CLASS if classes else 1)
        elif before in tuple(")}*+?"):
            times *= count
        else:
            length += count
    if length * times > _MAX_PATTERN:
        raise InvalidSchema(
            f"the pattern {quote(pattern)}, repetitions written out, is longer than {_MAX_PATTERN} characters"
        )
    return length * times
