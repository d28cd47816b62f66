"""What a check may cost, and how large an instance is: whether the one is too much for the other.

Counting an instance takes about 50 ns for each value; for most schemas it can be left out (`Cost.is_small`).
"""

from __future__ import annotations

from typing import Any, Final, TypeAlias, cast

import msgspec

from .schema_patterns import CHARACTERS

__all__ = ["BASE_WORK", "WORK_PER_VALUE", "Cost", "Levels", "Size"]

WORK_PER_VALUE: Final = 64
"""Evaluations for each value of the instance, 2 to 30 ns each. Below that, values need not be counted."""

BASE_WORK: Final = 20_000_000
"""Evaluations that even a small instance may take: a tenth of a second, half of one at worst."""

_WORD: Final = 64
"""Bits; longer integers are compared digit by digit."""

_FRACTION_WEIGHT: Final = 64
_LONG_FRACTION_WEIGHT: Final = 512
_PLAIN: Final = (1e-6, 1e18)
"""Numbers with a point take one to five microseconds, very large and very small ones up to thirty; an integer of 4,000
digits takes a millisecond, as it is read in quadratic time."""

Levels: TypeAlias = list[int]
"""So many by level of an instance, the top first."""


class Size(msgspec.Struct, frozen=True):
    """How large an instance is.

    Attributes:
        values: how many there are; a long string counts for more than one.
        weights: the same, but numbers that are dear to compare count for more as well.
    """

    values: Levels
    weights: Levels


class Cost(msgspec.Struct, frozen=True):
    """What a schema may cost.

    Attributes:
        levels: how often a value is looked at, by its level.
        is_finite: whether deeper values are never looked at; if not, they must not be there.
        has_alternatives: whether an error can carry the errors of alternatives.
        compares_numbers: whether numbers are compared with numbers exactly, which fractions make dear.
    """

    levels: tuple[int, ...]
    is_finite: bool
    has_alternatives: bool
    compares_numbers: bool = False

    @property
    def is_small(self) -> bool:
        """Whether no value that is an object or an array needs to be counted before it is judged."""
        return self.is_finite and self.levels[0] <= BASE_WORK and max(self.levels[1:], default=0) <= WORK_PER_VALUE

    def size(self, value: Any) -> Size | None:
        """Count the values that the schema looks at, by level; None when there are levels that it must not see."""
        size = Size([], [])
        level: list[Any] = [value]
        name_characters = 0
        while level:
            if len(size.values) == len(self.levels):
                return size if self.is_finite else None
            characters, name_characters = name_characters, 0
            numbers = 0
            below: list[Any] = []
            for each in level:
                kind = cast("type[Any]", type(each))
                if issubclass(kind, dict):
                    below.extend(each.values())
                    name_characters += sum(map(len, each))
                elif issubclass(kind, list | tuple):
                    below.extend(each)
                elif issubclass(kind, str):
                    characters += len(each)
                elif issubclass(kind, int | float):
                    numbers += _number_weight(each, is_exact=self.compares_numbers)
            size.values.append(len(level) + characters // CHARACTERS)
            size.weights.append(size.values[-1] + numbers)
            level = below
        return size

    def values(self, value: Any, *, most: int) -> Levels | None:
        """Count the values as `size` does, but every string as one; None when there are more than `most` on a level."""
        size: Levels = []
        level: list[Any] = [value]
        while level and len(size) < len(self.levels):
            size.append(len(level))
            below: list[Any] = []
            for each in level:
                kind = cast("type[Any]", type(each))
                if issubclass(kind, dict | list | tuple):
                    below.extend(each.values() if issubclass(kind, dict) else each)
                if len(below) > most:
                    return None
            level = below
        return size

    def work(self, weights: Levels) -> int:
        """Bound the evaluations for an instance of this size."""
        return sum(values * times for values, times in zip(weights, self.levels, strict=False))

    def is_excessive(self, size: Size) -> bool:
        """Whether judging an instance of this size would take more work than a check may take."""
        return self.work(size.weights) > BASE_WORK + WORK_PER_VALUE * sum(size.values)


def _number_weight(number: float, *, is_exact: bool) -> int:
    """Weigh what a number costs to compare, beyond one value: the engine does it with all digits, as fractions."""
    if isinstance(number, int):
        bits = number.bit_length()
        return bits // 16 + bits * bits // 4096 if bits > _WORD else 0
    if not is_exact:
        return 0
    return _FRACTION_WEIGHT if not number or _PLAIN[0] < abs(number) < _PLAIN[1] else _LONG_FRACTION_WEIGHT
