"""What the checks of both seams have in common: one sentence of a contract each, and what is said when it is broken."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Iterable
from typing import Any, Generic, TypeVar

import anyio
import msgspec

from neuron_anyio.groups import leaves

__all__ = [
    "PATIENCE",
    "Check",
    "ContractBroken",
    "LackingAbility",
    "Unexpected",
    "check_all",
    "expect",
    "expect_nothing_left",
    "require",
]

PATIENCE = 10.0
"""Seconds that one check may take, unless it is told otherwise: far more than any needs on a slow machine."""

LINGER, LOOKS = 0.5, 50
"""Seconds in which tasks that were told to end may end, and how often in this time it is looked whether they have."""

SHOWN = 100
"""Characters of a value that an error shows."""

_S = TypeVar("_S")


class ContractBroken(AssertionError):
    """What was tested does not do what one sentence of its contract says.

    Attributes:
        name: the check's.
        sentence: what it should do.
        seen: what it did.
    """

    def __init__(self, name: str, sentence: str, seen: str) -> None:
        super().__init__(f"{name}: {sentence}\n  seen: {seen}")
        self.name = name
        self.sentence = sentence
        self.seen = seen


class Unexpected(Exception):
    """Something else was seen than the sentence under check says."""


class LackingAbility(Exception):
    """The other side cannot do what a check needs."""


class Check(msgspec.Struct, Generic[_S], frozen=True):
    """One sentence of a contract, and how it is tried. Call it with what opens the two sides.

    Attributes:
        name: for people and for the ids of tests.
        sentence: what has to be so.
        play: tries it; raises `Unexpected` with what was seen, or `LackingAbility`.
    """

    name: str
    sentence: str
    play: Callable[[_S], Awaitable[None]]

    async def __call__(self, opener: _S, *, patience: float = PATIENCE) -> bool:
        """Try it; return False where the other side lacks an ability that it takes.

        Args:
            opener: opens what is tested and its other side, see `check_transport` and `check_broker`.
            patience: seconds after which the sentence counts as broken.

        Raises:
            ContractBroken: it is not so.
        """
        seen, cause = "", None
        try:
            with anyio.move_on_after(patience) as scope:
                await self.play(opener)
            if scope.cancel_called:  # also where it was held up and came to its end after all
                seen = f"no end within {patience:g} s"
        except Exception as exc:
            cause = exc
            found = list(leaves(exc))
            if any(isinstance(error, LackingAbility) for error in found):
                return False
            told = [str(error) for error in found if isinstance(error, Unexpected)]
            seen = told[0] if told else "; ".join(f"{type(error).__name__}: {error}" for error in found)
        if seen:
            raise ContractBroken(self.name, self.sentence, seen) from cause
        return True

    def __str__(self) -> str:
        return self.name


async def check_all(checks: Iterable[Check[_S]], opener: _S, *, patience: float, what: str) -> list[str]:
    """Try one sentence after the other; return the names of those that the other side's abilities left out.

    Raises:
        ContractBroken: one is broken.
        ExceptionGroup: of `ContractBroken`, several are.
    """
    left_out: list[str] = []
    broken: list[ContractBroken] = []
    for check in checks:
        try:
            if not await check(opener, patience=patience):
                left_out.append(check.name)
        except ContractBroken as exc:
            broken.append(exc)
    if len(broken) == 1:
        raise broken[0]
    if broken:
        raise ExceptionGroup(f"{what} breaks {len(broken)} sentences of its contract", broken)
    return left_out


def expect(holds: object, seen: str, *values: Any) -> None:
    """Go on if something holds.

    Args:
        holds: whether it does.
        seen: what was seen where it does not; `{}` stands for a value.
        *values: these, each shown cut to a line.

    Raises:
        Unexpected: it does not.
    """
    if not holds:
        raise Unexpected(seen.format(*[_shown(value) for value in values]))


async def expect_nothing_left(before: Collection[int]) -> None:
    """Go on when there are no tasks but those that were there before.

    Args:
        before: ids of these.

    Raises:
        Unexpected: there are others, and they do not end.
    """
    left: list[str] = []
    for _ in range(LOOKS):
        left = [str(task.name) for task in anyio.get_running_tasks() if task.id not in before]
        if not left:
            return
        await anyio.sleep(LINGER / LOOKS)
    raise Unexpected(f"{len(left)} tasks were left behind: {', '.join(left)}")


def require(ability: _S | None, name: str) -> _S:
    """Return an ability of the other side.

    Raises:
        LackingAbility: it is None.
    """
    if ability is None:
        raise LackingAbility(name)
    return ability


def _shown(value: object) -> str:
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."
