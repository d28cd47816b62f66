"""Refusals, as the problem details that callers and neurons read (RFC 9457)."""

from __future__ import annotations

from http import HTTPStatus

import msgspec

from neuron_anyio.errors import NeuronError

__all__ = ["PROBLEM_TYPE", "Problem", "Refused", "problem"]

PROBLEM_TYPE = "application/problem+json"

LONGEST_DETAIL = 2_000
"""Characters: details name ids and types, which come from outside and have no bound of their own."""


class Problem(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One refusal.

    Attributes:
        status: of HTTP.
        title: the status's own phrase.
        detail: what is wrong here and what to do about it; never a value of an input or output, never a token.
        code: machine-readable, stable.
    """

    status: int
    title: str
    detail: str
    code: str


def problem(status: int, code: str, detail: str) -> Problem:
    """Make a problem with the status's own title."""
    return Problem(status=status, title=HTTPStatus(status).phrase, detail=detail[:LONGEST_DETAIL], code=code)


class Refused(NeuronError):
    """The gateway refuses a request. Its own methods raise it where its routes answer with the problem.

    Attributes:
        problem: the same as a document.
    """

    def __init__(self, refusal: Problem) -> None:
        super().__init__(refusal.detail)
        self.problem = refusal
