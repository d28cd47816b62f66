"""What a handler's signature says: which parameter is the input, whether it wants a context, and the annotations."""

from __future__ import annotations

import collections.abc
import enum
import functools
import inspect
import sys
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeVar, cast

__all__ = ["LocalNames", "Shape", "annotations_of", "is_async", "is_generator", "shape_of"]


class Shape(NamedTuple):
    """How a handler is called.

    Attributes:
        input: name of the parameter that takes the input.
        takes_context: whether the one after it takes a `LeaseContext`.
        takes_self: whether there is a `self` before them, so that it must be taken from an instance.
    """

    input: str
    takes_context: bool
    takes_self: bool


class LocalNames:
    """Names that annotations may use where a decorator runs, besides those of the function's module.

    A class body sees the function round it, as its annotations do. The frames are looked at again each time, so that
    what is defined below the handler is found later.
    """

    __slots__ = ("_frames",)

    def __init__(self, frame: types.FrameType | None = None) -> None:
        self._frames: list[types.FrameType] = []
        while frame is not None and frame.f_locals is not frame.f_globals:
            self._frames.append(frame)
            if frame.f_code.co_flags & inspect.CO_OPTIMIZED:  # a function; a class body is not
                break
            frame = frame.f_back

    def all(self) -> dict[str, Any]:
        """Return them, the innermost first choice."""
        return {name: value for frame in reversed(self._frames) for name, value in frame.f_locals.items()}


NOBODY = LocalNames()
"""No local names at all."""


def shape_of(function: Callable[..., Any], capability: str, names: LocalNames = NOBODY) -> Shape:
    """Find out how a handler is to be called.

    Raises:
        TypeError: it cannot be called with an input and a context.
    """
    is_class_method = isinstance(cast("object", function), classmethod)
    parameters = [] if is_class_method else _parameters(function, capability)
    takes_self = inspect.isfunction(function) and _is_bare(parameters[:1], "self")
    if is_class_method or _is_bare(parameters[:1], "cls"):
        raise TypeError(
            f"capability {capability!r}: a class method cannot be a handler; "
            "make it a static method, or a method of an instance"
        )
    own = parameters[1:] if takes_self else parameters
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    takes = [parameter for parameter in own if parameter.kind in positional]
    extra = [p for p in own if p not in takes[:2] and p.default is p.empty and p.kind != p.VAR_KEYWORD]
    if not takes or extra:
        raise _unfit(function, capability, "")
    kinds = {each.name: _context_or_not(each, function, names) for each in own}
    for each in own:
        if kinds[each.name] is _Kind.CONTEXT and (each is takes[0] or each not in takes[:2]):
            raise _unfit(function, capability, f"The context is the second parameter, not {each.name!r}. ")
    second = takes[1] if len(takes) > 1 else None
    if second is None:
        return Shape(takes[0].name, takes_context=False, takes_self=takes_self)
    if kinds[second.name] is _Kind.OTHER and second.default is second.empty:
        raise _unfit(function, capability, f"The second parameter, {second.name!r}, must be the LeaseContext. ")
    is_open = kinds[second.name] is _Kind.OPEN and (second.default is second.empty or second.name == "ctx")
    return Shape(takes[0].name, takes_context=is_open or kinds[second.name] is _Kind.CONTEXT, takes_self=takes_self)


def _parameters(function: Any, capability: str) -> list[inspect.Parameter]:
    try:
        if not inspect.isclass(function):
            return list(_signature(function).parameters.values())
    except (TypeError, ValueError):
        pass
    raise TypeError(
        f"capability {capability!r}: the decorator goes on a function, def handler(input, ctx), not on {function!r}"
    )


def _is_bare(parameters: list[inspect.Parameter], name: str) -> bool:
    return any(each.name == name and each.annotation is each.empty for each in parameters)


def _unfit(function: Callable[..., Any], capability: str, why: str) -> TypeError:
    name = getattr(function, "__qualname__", function)
    return TypeError(
        f"capability {capability!r}: a handler takes the input, and if it wants one a LeaseContext: "
        f"def handler(input, ctx). {why}This one has {name}{_signature(function)}"
    )


def _signature(function: Callable[..., Any]) -> inspect.Signature:
    if sys.version_info >= (3, 14):
        import annotationlib  # noqa: PLC0415 - there from 3.14 on

        return inspect.signature(function, annotation_format=annotationlib.Format.FORWARDREF)
    return inspect.signature(function)


class _Kind(enum.Enum):
    """What a parameter takes, by its annotation."""

    CONTEXT = "the context"
    OPEN = "anything, the context too"
    OTHER = "something else"


def _context_or_not(parameter: inspect.Parameter, function: Callable[..., Any], names: LocalNames) -> _Kind:
    raw = _raw_annotations(_target(function)).get(parameter.name, Any)
    try:
        return _kind_of(_evaluated(raw, function, names))
    except Exception:  # imported for the checker alone, or wrong; whoever needs the annotation's value will complain
        return _Kind.CONTEXT if CONTEXT[1] in str(raw) else _Kind.OPEN


CONTEXT = ("neuron_anyio.context", "LeaseContext")
"""Module and name of the class, which is defined above this file."""


def _kind_of(annotation: Any) -> _Kind:
    if typing.get_origin(annotation) is typing.Annotated:
        return _kind_of(annotation.__origin__)
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        kinds = {_kind_of(each) for each in typing.get_args(annotation)}
        return next((kind for kind in (_Kind.CONTEXT, _Kind.OPEN) if kind in kinds), _Kind.OTHER)
    if any((base.__module__, base.__name__) == CONTEXT for base in getattr(annotation, "__mro__", ())):
        return _Kind.CONTEXT
    is_open = annotation in (Any, object) or isinstance(annotation, TypeVar) or _is_protocol(annotation)
    return _Kind.OPEN if is_open else _Kind.OTHER


def _is_protocol(annotation: Any) -> bool:
    return getattr(typing.get_origin(annotation) or annotation, "_is_protocol", False) is True


def annotations_of(function: Callable[..., Any], shape: Shape, capability: str, names: LocalNames) -> tuple[Any, Any]:
    """Return the annotations of a handler's input and of its output; `Any` where there is none.

    Raises:
        NameError: one names what is not there (yet).
        TypeError: one cannot be evaluated.
    """
    raw = _raw_annotations(_target(function))
    found: list[Any] = []
    for name, place in ((shape.input, f"the parameter {shape.input!r}"), ("return", "the return value")):
        try:
            found.append(_evaluated(raw.get(name, Any), function, names))
        except NameError as exc:
            raise NameError(f"{place} is annotated {raw[name]!r}, and {exc}") from None
        except Exception as exc:  # an annotation is code
            raise TypeError(
                f"capability {capability!r}: {place} has an annotation that cannot be evaluated ({exc}); "
                "mend it, or leave it out"
            ) from None
    takes, returns = found
    if typing.get_origin(returns) in (collections.abc.Awaitable, collections.abc.Coroutine):
        returns = typing.get_args(returns)[-1]  # a `def` may return what is awaited
    return takes, Any if returns in (typing.Never, typing.NoReturn) else returns


def is_async(function: Callable[..., Any]) -> bool:
    """Tell whether calling it makes a coroutine; of a callable object, whether calling its `__call__` does."""
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(_target(function))


def is_generator(function: Callable[..., Any]) -> bool:
    """Tell whether calling it makes a generator, as `is_async` does."""
    kinds = (inspect.isgeneratorfunction, inspect.isasyncgenfunction)
    return any(is_kind(each) for is_kind in kinds for each in (function, _target(function)))


def _target(function: Any) -> Any:
    """Return the function that has the annotations: under a partial, in a callable object."""
    while isinstance(function, functools.partial):
        function = cast("functools.partial[Any]", function).func
    return function if inspect.isroutine(function) else type(function).__call__


def _raw_annotations(target: Any) -> Mapping[str, Any]:
    if sys.version_info >= (3, 14):
        import annotationlib  # noqa: PLC0415 - there from 3.14 on

        return annotationlib.get_annotations(target, format=annotationlib.Format.FORWARDREF)
    found: Mapping[str, Any] = getattr(target, "__annotations__", {})
    return found


def _evaluated(raw: Any, function: Callable[..., Any], names: LocalNames) -> Any:
    """Evaluate one annotation alone, so that one which cannot be does not spoil the others."""
    target = _target(function)
    holder: Any = types.SimpleNamespace(
        __annotations__={"it": raw}, __type_params__=getattr(target, "__type_params__", ())
    )
    space = getattr(inspect.unwrap(target), "__globals__", {})
    return typing.get_type_hints(holder, space, names.all(), include_extras=True)["it"]
