"""`@capability`: a function, what it takes and gives, and the terms on which it is offered."""

from __future__ import annotations

import builtins
import contextlib
import inspect
import sys
from collections.abc import Callable, Mapping
from typing import (
    Any,
    Concatenate,
    Generic,
    Literal,
    ParamSpec,
    TypeAlias,
    TypedDict,
    TypeVar,
    Unpack,
    cast,
    overload,
)

import msgspec

from .annotations import LocalNames, annotations_of, is_async, is_generator, shape_of
from .conversion import Converter, converter_for, judge
from .jsontext import read_json
from .model import Offer
from .schemas import Validator, registered_validator, wire_validator
from .terms import OnBehalfOf, Runs, Terms, on_behalf_of

__all__ = ["Capability", "OnBehalfOf", "Options", "Runs", "Schema", "Terms", "capability", "on_behalf_of"]

P = ParamSpec("P")
Q = ParamSpec("Q")
R = TypeVar("R")
T = TypeVar("T")

Schema: TypeAlias = Mapping[str, Any] | bool


class Options(TypedDict, total=False):
    """The terms by name, as `Capability.with_options` takes them."""

    type: str
    scope: Literal["any"] | OnBehalfOf
    concurrency: int
    lease_ttl: float | None
    timeout: float | None
    description: str | None
    runs: Runs
    non_retryable: tuple[builtins.type[Exception], ...]
    on_lease_lost: Literal["cancel", "continue"]


class _Contract(msgspec.Struct, frozen=True):
    """What a function takes and gives: converters made once from its annotations."""

    input: Converter
    output: Converter


class Capability(Generic[P, R]):
    """What `@capability` makes: still the function, and all that a neuron needs to offer it.

    In a class it is a method: taken from an instance it is bound to it, and can then be offered.

    Attributes:
        terms: type, scope, concurrency and so on, frozen.
        function: the function as it was written, bound where it is a method of an instance.
        takes_context: whether the function has a second parameter for the `LeaseContext`.
        is_unbound: whether it is a method without its instance, which cannot be offered.
    """

    def __init__(
        self,
        function: Callable[P, R],
        terms: Terms,
        *,
        input_schema: Schema | None = None,
        output_schema: Schema | None = None,
        local_names: LocalNames | None = None,
    ) -> None:
        self.function: Callable[P, R] = function
        self.terms: Terms = terms
        self._schemas = (input_schema, output_schema)
        names = LocalNames() if local_names is None else local_names
        self._shape = shape_of(function, terms.type, names)
        self.takes_context: bool = self._shape.takes_context
        self.is_unbound: bool = self._shape.takes_self
        _check_process(self)
        self._contract: _Contract | None = None
        self._pending: LocalNames | None = names
        with contextlib.suppress(NameError):  # what is defined further down is there when a neuron is opened
            self._resolve()
        self._input_validator = _registered(input_schema, terms.type, "input_schema")
        self._output_validator = _registered(output_schema, terms.type, "output_schema")
        self.__doc__ = function.__doc__
        self.__name__: str = getattr(function, "__name__", type(function).__name__)
        self.__wrapped__: Callable[P, R] = function

    def _resolve(self) -> _Contract:
        kind, names = self.terms.type, self._pending
        assert names is not None
        takes, returns = annotations_of(self.function, self._shape, kind, names)
        self._contract = _Contract(
            converter_for(takes, kind, f"the parameter {self._shape.input!r}"),
            converter_for(returns, kind, "the return value", as_output=True),
        )
        self._pending = None
        return self._contract

    def resolve(self) -> None:
        """Find what the annotations name, where the decorator could not yet; entering a neuron does it.

        Raises:
            TypeError: a name is still not there, or what it names cannot be used.
        """
        self._contracted()

    def _contracted(self) -> _Contract:
        if self._contract is not None:
            return self._contract
        try:
            return self._resolve()
        except NameError as exc:
            remedy = "define it or import it in that module, outside `if TYPE_CHECKING`"
            raise TypeError(f"capability {self.terms.type!r}: {exc}; {remedy}") from None

    @overload
    def __get__(self, instance: None, owner: builtins.type[Any]) -> Capability[P, R]: ...
    @overload
    def __get__(
        self: Capability[Concatenate[T, Q], R], instance: T, owner: builtins.type[Any] | None = None
    ) -> Capability[Q, R]: ...
    def __get__(self, instance: Any, owner: Any = None) -> Capability[..., Any]:
        """Return the method of an instance; what has no `self` stays as it is."""
        if instance is None or not self.is_unbound:
            return self
        bound = self._copy()
        bound.function = bound.__wrapped__ = cast("Any", self.function).__get__(instance, owner)
        bound.is_unbound = False
        return bound

    def _copy(self) -> Capability[P, R]:
        copy = object.__new__(type(self))
        copy.__dict__.update(self.__dict__)
        return copy

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the function as it was written, without a neuron."""
        return self.function(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<Capability {self.terms.type!r}, concurrency {self.terms.concurrency}>"

    @property
    def input_schema(self) -> Schema | None:
        """The JSON Schema of the input: the one given, else the one of the annotation, else None."""
        return self._schemas[0] if self._schemas[0] is not None else self._contracted().input.schema

    @property
    def output_schema(self) -> Schema | None:
        """The JSON Schema of the output: the one given, else the one of the annotation, else None."""
        return self._schemas[1] if self._schemas[1] is not None else self._contracted().output.schema

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

    def with_options(self, **changes: Unpack[Options]) -> Capability[P, R]:
        """Return a copy on other terms, for one deployment: `fetch.with_options(concurrency=2)`.

        Args:
            changes: `type`, `scope`, `concurrency`, `lease_ttl`, `timeout`, `description`, `runs`, `non_retryable`,
                `on_lease_lost`.

        Raises:
            TypeError: an option that there is not, or a function that cannot run so.
            ValueError: an option that breaks its rule.
        """
        unknown = changes.keys() - set(Terms.__struct_fields__)
        if unknown:
            known = ", ".join(Terms.__struct_fields__)
            raise TypeError(f"with_options() does not know {', '.join(sorted(unknown))}; it knows {known}")
        copy = self._copy()
        copy.terms = msgspec.structs.replace(self.terms, **changes)
        _check_process(copy)
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
        converter = (self._contract or self._contracted()).input
        if validator is None:
            return converter.read(text)
        value = read_json(text)
        judge(validator, value)
        return converter.fit(value, text)

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
        text = (self._contract or self._contracted()).output.write(value)
        validator = self._output_validator if schema is None else wire_validator(schema)
        if validator is not None:
            judge(validator, read_json(text))
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
    input it gets and what it returns: a type that msgspec knows, one of pydantic's, or `Any`, `object` or nothing for
    decoded JSON. A method is decorated in its class and offered by its instance: `capabilities=[worker.fetch]`.

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
        if isinstance(function, staticmethod):
            function = cast("Callable[P, R]", cast("staticmethod[..., Any]", function).__func__)
        if isinstance(function, Capability):
            raise TypeError(
                f"capability {type!r}: it is one already; use {function.__name__}.with_options(type={type!r})"
            )
        if is_generator(function):
            raise TypeError(f"capability {type!r}: a handler returns its output; it must not yield")
        default: Runs = "loop" if is_async(function) else "thread"
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
            local_names=LocalNames(frame),
        )

    return decorate


def _check_process(item: Capability[..., Any]) -> None:
    if item.terms.runs != "process":
        return
    if item.takes_context:
        raise TypeError(
            f"capability {item.terms.type!r}: with runs='process' a handler takes the input alone; "
            "a context cannot be sent to another process"
        )
    if not inspect.isroutine(item.function) or inspect.ismethod(item.function) or item.is_unbound:
        raise TypeError(
            f"capability {item.terms.type!r}: with runs='process' a handler is a function that another process can "
            "import; a method, a partial or a callable object cannot be"
        )


def _registered(schema: Schema | None, type: str, name: str) -> Validator | None:  # noqa: A002 - the wire's own word
    if schema is None:
        return None
    try:
        return registered_validator(schema)
    except ValueError as exc:
        exc.add_note(f"in {name} of capability {type!r}")
        raise
