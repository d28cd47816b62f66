"""`@capability`: a function, what it takes and gives, and the terms on which it is offered."""

from __future__ import annotations

import builtins
import inspect
import math
import sys
from collections.abc import Callable, Mapping
from typing import Any, Generic, Literal, ParamSpec, TypeAlias, TypeVar, cast, get_args

import msgspec

from .conversion import Converter, Mismatch, annotations_of, converter_for
from .frames import CAPABILITY_TYPE
from .jsontext import read_json, write_json
from .model import Offer
from .schemas import Validator, registered_validator, wire_validator

__all__ = ["Capability", "OnBehalfOf", "Runs", "Schema", "Terms", "capability", "on_behalf_of"]

P = ParamSpec("P")
R = TypeVar("R")

Runs: TypeAlias = Literal["loop", "thread", "process"]
Schema: TypeAlias = Mapping[str, Any] | bool

LEASE_TTL = (1.0, 3600.0)
"""Bounds of a wished lease time in seconds (BigBrain specification, section 3.1)."""


class OnBehalfOf(msgspec.Struct, frozen=True):
    """A scope: only tasks of this user. Made by `on_behalf_of`."""

    user: str


def on_behalf_of(user: str) -> OnBehalfOf:
    """Make a scope that takes only this user's tasks.

    Raises:
        ValueError: the user is empty.
    """
    if not _is_text(user):
        raise ValueError("on_behalf_of() takes the user's id, a string that is not empty")
    return OnBehalfOf(user)


class Terms(msgspec.Struct, frozen=True, kw_only=True):
    """On what terms a function is offered; `capability` describes the members.

    Raises:
        ValueError: a member breaks its rule; the message names it.
    """

    type: str
    scope: Literal["any"] | OnBehalfOf = "any"
    concurrency: int = 1
    lease_ttl: float | None = None
    timeout: float | None = None
    description: str | None = None
    runs: Runs = "loop"
    non_retryable: tuple[builtins.type[Exception], ...] = ()
    on_lease_lost: Literal["cancel", "continue"] = "cancel"

    def __post_init__(self) -> None:
        for rule in (self._check_type, self._check_numbers, self._check_choices):
            problem = rule()
            if problem is not None:
                raise ValueError(f"capability {self.type!r}: {problem}")

    def _check_type(self) -> str | None:
        if not _is_type(self.type):
            return (
                "the type must be namespaced, at least two segments of A-Z a-z 0-9 _ . - joined by '/', "
                "for example 'examples/http.fetch'"
            )
        return None

    def _check_numbers(self) -> str | None:
        if not _is_whole(self.concurrency) or self.concurrency < 1:
            return f"concurrency must be a whole number, 1 or more, not {self.concurrency!r}"
        low, high = LEASE_TTL
        if self.lease_ttl is not None and not (_is_number(self.lease_ttl) and low <= self.lease_ttl <= high):
            return f"lease_ttl must be {low:g} to {high:g} seconds or None, not {self.lease_ttl!r}"
        if self.timeout is not None and not (_is_number(self.timeout) and self.timeout > 0):
            return f"timeout must be a number of seconds above 0 or None, not {self.timeout!r}"
        return None

    def _check_choices(self) -> str | None:
        if not _is_scope(self.scope):
            return f"scope must be 'any' or on_behalf_of(user), not {self.scope!r}"
        if self.runs not in get_args(Runs):
            return f"runs must be 'loop', 'thread' or 'process', not {self.runs!r}"
        if self.on_lease_lost not in ("cancel", "continue"):
            return f"on_lease_lost must be 'cancel' or 'continue', not {self.on_lease_lost!r}"
        if not _are_exception_classes(self.non_retryable):
            return "non_retryable must be a tuple of exception classes"
        if self.description is not None and not _is_text(self.description):
            return "description must be a string that is not empty, or None"
        return None


class Capability(Generic[P, R]):
    """What `@capability` makes: still the function, and all that a neuron needs to offer it.

    Attributes:
        terms: type, scope, concurrency and so on, frozen.
        function: the function as it was written.
        input_schema, output_schema: as given, or made from the annotations; None where anything goes.
        takes_context: whether the function has a second parameter for the `LeaseContext`.
    """

    def __init__(
        self,
        function: Callable[P, R],
        terms: Terms,
        *,
        input_schema: Schema | None = None,
        output_schema: Schema | None = None,
        local_names: Mapping[str, Any] | None = None,
    ) -> None:
        self.function = function
        self.terms = terms
        self._schemas = (input_schema, output_schema)
        input_type, output_type, self.takes_context = annotations_of(function, terms.type, local_names or {})
        if terms.runs == "process" and self.takes_context:
            raise TypeError(
                f"capability {terms.type!r}: with runs='process' a handler takes the input alone; "
                "a context cannot be sent to another process"
            )
        self._input: Converter = converter_for(input_type, terms.type, "the input parameter")
        self._output: Converter = converter_for(output_type, terms.type, "the return value")
        self._input_validator = _registered(input_schema, terms.type, "input_schema")
        self._output_validator = _registered(output_schema, terms.type, "output_schema")
        self.__doc__ = function.__doc__
        self.__name__ = getattr(function, "__name__", type(function).__name__)
        self.__wrapped__ = function

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the function as it was written, without a neuron."""
        return self.function(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<Capability {self.terms.type!r}, concurrency {self.terms.concurrency}>"

    @property
    def input_schema(self) -> Schema | None:
        """The JSON Schema of the input: the one given, else the one of the annotation, else None."""
        return self._schemas[0] if self._schemas[0] is not None else self._input.schema

    @property
    def output_schema(self) -> Schema | None:
        """The JSON Schema of the output: the one given, else the one of the annotation, else None."""
        return self._schemas[1] if self._schemas[1] is not None else self._output.schema

    @property
    def offer(self) -> Offer:
        """What is announced to a broker."""
        terms = self.terms
        return Offer(
            capability=terms.type,
            concurrency=terms.concurrency,
            on_behalf_of=terms.scope.user if isinstance(terms.scope, OnBehalfOf) else None,
            lease_ttl=terms.lease_ttl,
            description=terms.description,
            input_schema=self.input_schema,
            output_schema=self.output_schema,
        )

    def with_options(self, **changes: Any) -> Capability[P, R]:
        """Return a copy on other terms, for one deployment: `fetch.with_options(concurrency=2)`.

        Args:
            changes: `type`, `scope`, `concurrency`, `lease_ttl`, `timeout`, `description`, `runs`, `non_retryable`,
                `on_lease_lost`.

        Raises:
            TypeError: an option that there is not.
            ValueError: an option that breaks its rule.
        """
        unknown = changes.keys() - set(Terms.__struct_fields__)
        if unknown:
            known = ", ".join(Terms.__struct_fields__)
            raise TypeError(f"with_options() does not know {', '.join(sorted(unknown))}; it knows {known}")
        copy = object.__new__(type(self))
        copy.__dict__.update(self.__dict__)
        copy.terms = msgspec.structs.replace(self.terms, **changes)
        return copy

    def read_input(self, text: bytes, schema: bytes | None) -> Any:
        """Turn a task's input into what the function takes (promises L1, L11.8, L12).

        Args:
            text: the input as JSON text.
            schema: the schema that came with the lease, or None for the registered one.

        Raises:
            Mismatch: the input breaks the schema or does not fit the annotation.
            InvalidSchema: the lease's schema cannot be used.
            NotJsonError: the text cannot be read.
        """
        validator = self._input_validator if schema is None else wire_validator(schema)
        if validator is None:
            return self._input.read(text)
        value = read_json(text)
        _judge(validator, value)
        return self._input.read(text) if self._input.is_typed else value

    def write_output(self, value: Any, schema: bytes | None) -> bytes:
        """Turn what the function returned into JSON text (promises L11.9, L11.10, L12).

        Args:
            value: what it returned.
            schema: the schema that came with the lease, or None for the registered one.

        Raises:
            NotJsonError: JSON cannot express it.
            Mismatch: it breaks the schema or does not fit the annotation.
            InvalidSchema: the lease's schema cannot be used.
        """
        text = write_json(value)
        if self._output.is_typed:
            self._output.read(text)
        validator = self._output_validator if schema is None else wire_validator(schema)
        if validator is not None:
            _judge(validator, read_json(text))
        return text


def capability(
    type: str,  # noqa: A002 - the wire's own word
    *,
    scope: Literal["any"] | OnBehalfOf = "any",
    concurrency: int = 1,
    lease_ttl: float | None = None,
    timeout: float | None = None,
    description: str | None = None,
    input_schema: Schema | None = None,
    output_schema: Schema | None = None,
    runs: Runs | None = None,
    non_retryable: tuple[builtins.type[Exception], ...] = (),
    on_lease_lost: Literal["cancel", "continue"] = "cancel",
) -> Callable[[Callable[P, R]], Capability[P, R]]:
    """Offer a function as a capability. The function stays callable as it was.

    The function takes the input, and a `LeaseContext` as a second parameter if it has one. Its annotations say what
    input it gets and what it returns: a type that msgspec knows, or `Any`, `object` or nothing for decoded JSON.

    Args:
        type: namespaced, at least two segments: `"examples/http.fetch"`.
        scope: `"any"`, or `on_behalf_of(user)` for one user's tasks.
        concurrency: how many run at once.
        lease_ttl: wished lease time, 1 to 3600 seconds; None for the gateway's default.
        timeout: seconds after which the handler is cancelled and the task is retried; None for never.
        description: a line for people.
        input_schema: a JSON Schema (a mapping or a bool) in place of the one made from the annotation.
        output_schema: the same for what the function returns.
        runs: `"loop"` (default for `async def`), `"thread"` (default for `def`) or `"process"`.
        non_retryable: exceptions that mean that the task can never succeed.
        on_lease_lost: what to do when the lease runs out under a running handler.

    Raises:
        ValueError: a term breaks its rule; the message names it.
        TypeError: the function's signature or annotations cannot be used; the message names parameter and remedy.
        InvalidSchema: a given schema cannot be used.
    """
    frame = sys._getframe(1)  # noqa: SLF001 - annotations may name what is local to the caller

    def decorate(function: Callable[P, R]) -> Capability[P, R]:
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            raise TypeError(f"capability {type!r}: a handler returns its output; it must not yield")
        is_async = inspect.iscoroutinefunction(cast("object", function))  # a cast, or the checker narrows R
        default: Runs = "loop" if is_async else "thread"
        terms = Terms(
            type=type,
            scope=scope,
            concurrency=concurrency,
            lease_ttl=lease_ttl,
            timeout=timeout,
            description=description,
            runs=default if runs is None else runs,
            non_retryable=non_retryable,
            on_lease_lost=on_lease_lost,
        )
        return Capability(
            function,
            terms,
            input_schema=input_schema,
            output_schema=output_schema,
            local_names=frame.f_locals,
        )

    return decorate


def _registered(schema: Schema | None, type: str, name: str) -> Validator | None:  # noqa: A002 - the wire's own word
    if schema is None:
        return None
    try:
        return registered_validator(schema)
    except ValueError as exc:
        exc.add_note(f"in {name} of capability {type!r}")
        raise


def _judge(validator: Validator, value: Any) -> None:
    violation = validator.check(value)
    if violation is not None:
        raise Mismatch(violation.message, path=violation.path, rule=violation.rule, schema_path=violation.schema_path)


# Users without a type checker hand over anything; these take what the annotations already promise to others.


def _is_type(value: object) -> bool:
    return isinstance(value, str) and CAPABILITY_TYPE.fullmatch(value) is not None


def _is_text(value: object) -> bool:
    return isinstance(value, str) and value != ""


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_scope(value: object) -> bool:
    return value == "any" or isinstance(value, OnBehalfOf)


def _are_exception_classes(value: object) -> bool:
    return isinstance(value, tuple) and all(map(_is_exception_class, cast("tuple[object, ...]", value)))


def _is_exception_class(value: object) -> bool:
    return inspect.isclass(value) and issubclass(value, Exception)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
