"""A coroutine that can be left behind.

A task cannot end before its coroutine does, and a coroutine that catches every cancellation never does. Driven step by
step, it can be closed where it would be told of its next cancellation: the drain costs the grace and no more (promise
D2). Three kinds of handlers hold the neuron all the same, and the log names them: one that waits in a shielded scope is
told of none until its shield ends, one whose task group has a child like that waits for it, and one that catches even
`GeneratorExit` cannot be closed without harm to the scopes that it has open.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator
from contextvars import Context
from typing import Any

import anyio

from .errors import HandlerCancelled

__all__ = ["Driven", "is_cancelled_by_scope"]


class Driven:
    """Awaits something, until told to let go of it.

    Args:
        awaitable: what a handler returned.
        begin, end: called round each step.
        on_stray: told of each cancellation that no scope has asked for; asyncio alone has such.
        context: of context variables, in which each step runs.

    Attributes:
        let_go: set it, and the awaitable is closed instead of told of its next cancellation. Its task must be cancelled
            too.
    """

    __slots__ = ("_awaitable", "_begin", "_end", "_in_context", "_on_stray", "let_go")

    def __init__(
        self,
        awaitable: Awaitable[Any],
        *,
        begin: Callable[[], None],
        end: Callable[[], None],
        on_stray: Callable[[], None],
        context: Context | None = None,
    ) -> None:
        self._awaitable = awaitable
        self._begin = begin
        self._end = end
        self._on_stray = on_stray
        self._in_context: Callable[..., Any] = _plainly if context is None else context.run
        self.let_go: bool = False

    def _closes(self, error: BaseException | None) -> bool:
        """Return whether to close instead of handing this over.

        Only in place of a cancellation: at any other step a scope or a task group of the handler's own may be just
        being left, and its backend does not survive being torn out of it.
        """
        if not self.let_go or not isinstance(error, anyio.get_cancelled_exc_class()):
            return False
        # To trio a sleep that is over is a cancellation too, and may be one step of a shielded clean-up.
        return getattr(error, "source", None) != "deadline"

    def __await__(self) -> Generator[Any, Any, Any]:
        run = self._in_context
        steps = self._awaitable.__await__()
        is_closed, value = False, None
        try:
            self._begin()
            trap = run(next, steps)
            while True:
                self._end()
                try:
                    value = yield trap
                except BaseException as exc:  # noqa: ASYNC103 - what a handler raises is its outcome
                    # How asyncio hands over a cancellation.
                    is_closed = isinstance(exc, GeneratorExit)
                    if isinstance(exc, anyio.get_cancelled_exc_class()) and not is_cancelled_by_scope():
                        self._on_stray()
                    self._begin()
                    trap = run(steps.throw, GeneratorExit() if self._closes(exc) else exc)
                else:
                    # How trio does: as a value that raises when it is unwrapped inside.
                    closes = self._closes(getattr(value, "error", None))
                    self._begin()
                    trap = run(steps.throw, GeneratorExit()) if closes else run(steps.send, value)
        except StopIteration as end:
            return end.value
        except GeneratorExit as exc:
            if is_closed:
                raise
            if self.let_go:
                raise HandlerCancelled("left behind") from None
            raise RuntimeError("the handler raised GeneratorExit") from exc  # let through, it would end the neuron
        finally:
            self._end()
            value = None  # trio's holds the exception that it raised, which knows this frame: a circle


def is_cancelled_by_scope() -> bool:
    """Return whether a scope round the current task, as it stands now, is cancelled."""
    return anyio.current_effective_deadline() == float("-inf")


def _plainly(step: Callable[..., Any], *arguments: Any) -> Any:
    return step(*arguments)
