"""What a handler's signature says: its input, its context, methods, and names that are defined later."""

from __future__ import annotations

import functools
import inspect
import re
import sys
import types
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, Protocol

import msgspec
import pytest

from neuron_anyio import Capability, LeaseContext, capability, open_neuron
from neuron_anyio.capability import Options
from neuron_anyio.neuron import NeuronOptions
from neuron_anyio.setup import capabilities_by_type
from neuron_anyio.terms import Terms

if TYPE_CHECKING:
    from neuron_anyio import LeaseContext as ForCheckers

INTEGER = {"type": "integer"}
STRING = {"type": "string"}


class Inner(msgspec.Struct):
    number: int = 0


class Logs(Protocol):
    def log(self) -> None: ...


def make(function: Callable[..., Any], **options: Any) -> Capability[..., Any]:
    return capability("core/x", **options)(function)


def shape(function: Callable[..., Any]) -> tuple[Any, Any, bool]:
    made = make(function)
    return made.input_schema, made.output_schema, made.takes_context


# ---- input, output, context


def test_a_function_tells_input_output_and_whether_it_wants_a_context() -> None:
    def one(page: int) -> str:
        return ""

    def two(page: int, ctx: Any) -> None: ...

    async def three(page: int, context: LeaseContext, /, **rest: Any) -> str:
        return ""

    assert shape(one) == (INTEGER, STRING, False)
    assert shape(two) == (INTEGER, {"type": "null"}, True)
    assert shape(three) == (INTEGER, STRING, True)


def not_annotated(page, ctx): ...  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201 - that is the case
def any_context(page: Any, context: Any) -> None: ...
def any_object(page: Any, context: object) -> None: ...
def its_class(page: Any, context: LeaseContext) -> None: ...
def its_class_or_none(page: Any, context: LeaseContext | None = None) -> None: ...
def with_more(page: Any, context: Annotated[LeaseContext, "the lease"]) -> None: ...
def for_checkers(page: Any, context: ForCheckers) -> None: ...
def for_checkers_or_none(page: Any, ctx: ForCheckers | None = None) -> None: ...
def a_protocol(page: Any, context: Logs) -> None: ...


@pytest.mark.parametrize(
    "function",
    [
        not_annotated,
        any_context,
        any_object,
        its_class,
        its_class_or_none,
        with_more,
        for_checkers,
        for_checkers_or_none,
        a_protocol,
        lambda page, ctx=None: None,
    ],
)
def test_a_second_parameter_takes_the_context_unless_it_says_otherwise(function: Callable[..., Any]) -> None:
    assert make(function).takes_context


def an_option(page: Any, retries: int = 3) -> None: ...
def an_unknown_option(page: Any, other: Any = None) -> None: ...
def keyword_options(page: Any, *, retries: int = 3, **rest: Any) -> None: ...


@pytest.mark.parametrize("function", [an_option, an_unknown_option, keyword_options])
def test_options_with_a_default_stay_as_they_are(function: Callable[..., Any]) -> None:
    assert not make(function).takes_context


def no_parameters() -> None: ...
def three_parameters(a: Any, b: Any, c: Any) -> None: ...
def keyword_parameter(a: Any, *, b: Any) -> None: ...
def star(*a: Any) -> None: ...
def input_and_star(a: Any, *b: Any) -> None: ...
def two_inputs(page: Inner, tries: int) -> None: ...
def context_first(ctx: LeaseContext, page: Inner) -> None: ...
def context_alone(ctx: LeaseContext) -> None: ...
def context_third(page: Inner, retries: int = 3, ctx: LeaseContext | None = None) -> None: ...
def context_by_keyword(page: Inner, *, ctx: LeaseContext) -> None: ...
def context_by_keyword_or_none(page: Inner, *, ctx: LeaseContext | None = None) -> None: ...


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (no_parameters, ""),
        (three_parameters, ""),
        (keyword_parameter, ""),
        (star, ""),
        (input_and_star, ""),
        (two_inputs, "The second parameter, 'tries', must be the LeaseContext"),
        (context_first, "The context is the second parameter, not 'ctx'"),
        (context_alone, "The context is the second parameter, not 'ctx'"),
        (context_third, "The context is the second parameter, not 'ctx'"),
        (context_by_keyword, ""),
        (context_by_keyword_or_none, "The context is the second parameter, not 'ctx'"),
    ],
)
def test_a_function_that_cannot_be_a_handler_is_refused_with_its_signature(
    function: Callable[..., Any], said: str
) -> None:
    with pytest.raises(TypeError) as caught:
        make(function)
    text = str(caught.value)
    assert "'core/x'" in text
    assert f"{function.__name__}(" in text
    assert "def handler(input, ctx)" in text
    assert said in text


@pytest.mark.parametrize("thing", [42, "name", None, Inner, types.SimpleNamespace()])
def test_what_is_no_function_is_refused_by_name(thing: Any) -> None:
    with pytest.raises(TypeError, match=r"'core/x': the decorator goes on a function, def handler\(input, ctx\)"):
        make(thing)


class Fetcher:
    def fetch(self, page: int, ctx: Any) -> str:
        return f"{page} {ctx}"

    async def __call__(self, page: str) -> int:
        return len(page)


def with_options(page: int, ctx: Any, *, retries: int) -> str:
    return ""


def test_what_is_a_capability_already_is_refused_with_the_remedy() -> None:
    @capability("core/number")
    def number(value: int) -> int:
        return value

    with pytest.raises(TypeError, match=re.escape("number.with_options(type='core/x')")):
        make(number)


def test_partials_methods_and_callable_objects_are_functions_too() -> None:
    assert shape(Fetcher().fetch) == (INTEGER, STRING, True)
    assert shape(Fetcher()) == (STRING, INTEGER, False)
    assert shape(functools.partial(with_options, retries=3)) == (INTEGER, STRING, True)
    assert shape(functools.partial(with_options, ctx=None, retries=3)) == (INTEGER, STRING, False)
    assert shape(functools.partial(Fetcher().fetch, ctx=None)) == (INTEGER, STRING, False)


def test_H2_what_makes_a_coroutine_runs_in_the_loop() -> None:
    async def fetch(page: Any, *, retries: int) -> None: ...

    assert make(Fetcher()).terms.runs == "loop"
    assert make(functools.partial(fetch, retries=3)).terms.runs == "loop"
    assert make(functools.partial(with_options, retries=3)).terms.runs == "thread"


def test_a_wrapper_has_the_signature_of_what_it_wraps() -> None:
    def twice(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            return function(*args, **kwargs)

        return wrapper

    assert shape(twice(its_class)) == (None, {"type": "null"}, True)


@pytest.mark.parametrize("function", [Fetcher().fetch, Fetcher(), functools.partial(with_options, ctx=None, retries=3)])
def test_a_process_handler_is_a_function_that_can_be_imported(function: Callable[..., Any]) -> None:
    with pytest.raises(TypeError, match="'core/x': with runs='process'"):
        make(function, runs="process")
    with pytest.raises(TypeError, match="'core/x': with runs='process'"):
        make(function).with_options(runs="process")


def test_a_handler_that_never_returns_gives_nothing_to_judge() -> None:
    def refuse(page: int, ctx: LeaseContext) -> NoReturn:
        ctx.fail("never")

    assert shape(refuse) == (INTEGER, None, True)


# ---- methods


class Worker:
    def __init__(self, name: str) -> None:
        self.name = name

    @capability("core/fetch")
    async def fetch(self, page: Inner, ctx: LeaseContext) -> str:
        return f"{self.name} {page.number}"

    @capability("core/count", concurrency=2)
    def count(self, text: str) -> int:
        return len(text) + len(self.name)

    @staticmethod
    @capability("core/over")
    def over(text: str) -> int:
        return len(text)

    @capability("core/under")
    @staticmethod
    def under(text: str) -> int:
        return len(text)


def test_a_method_taken_from_an_instance_is_bound_to_it() -> None:
    ann, bob = Worker("ann"), Worker("bobby")
    assert ann.count("x") == 4
    assert bob.count("x") == 6
    assert Worker.count(bob, "x") == 6
    assert ann.count.function("x") == 4
    assert ann.count.terms.concurrency == 2
    assert ann.count.with_options(concurrency=5).function("x") == 4
    assert ann.count.input_schema == STRING
    assert str(inspect.signature(ann.count)) == "(text: 'str') -> 'int'"
    assert not ann.count.takes_context
    assert ann.fetch.takes_context
    assert ann.fetch.terms.runs == "loop"
    assert ann.fetch.read_input(b'{"number":3}', None) == Inner(3)


def test_methods_are_offered_by_their_instance() -> None:
    ann = Worker("ann")
    found = capabilities_by_type([ann.fetch, ann.count, ann.over, ann.under])
    assert sorted(found) == ["core/count", "core/fetch", "core/over", "core/under"]


@pytest.mark.parametrize("owner", [Worker, Worker("ann")])
def test_a_static_method_stays_as_it_is(owner: Any) -> None:
    for static in (owner.over, owner.under):
        assert static("three") == 5
        assert static.input_schema == STRING
        assert not static.takes_context


def test_a_method_without_its_instance_is_refused_with_the_remedy() -> None:
    with pytest.raises(
        TypeError, match=r"capabilities: fetch is a method without its instance; give Worker\(...\)\.fetch"
    ):
        open_neuron("https://example.com", neuron_id="n", capabilities=[Worker.fetch])
    with pytest.raises(TypeError, match=r"give Worker\(...\)\.fetch"):
        open_neuron("https://example.com", neuron_id="n", capabilities=[Worker.fetch.with_options(concurrency=2)])


def test_a_method_does_not_run_in_a_process() -> None:
    with pytest.raises(TypeError, match="'core/count': with runs='process'"):
        Worker("ann").count.with_options(runs="process")
    with pytest.raises(TypeError, match="'core/x': with runs='process'"):

        class Heavy:
            @capability("core/x", runs="process")
            def work(self, text: str) -> int:
                return 0


def test_a_class_method_is_refused_with_the_remedy() -> None:
    remedy = "'core/x': a class method cannot be a handler; make it a static method, or a method of an instance"
    with pytest.raises(TypeError, match=remedy):

        class Over:
            @classmethod
            @capability("core/x")
            def work(cls, text: str) -> int:
                return 0

    with pytest.raises(TypeError, match=remedy):

        class Under:
            @capability("core/x")
            @classmethod
            def work(cls, text: str) -> int:
                return 0


def test_a_capability_may_be_a_member_of_a_class() -> None:
    class Suite:
        handler = make(an_option)

    assert Suite().handler is Suite.handler


# ---- options by name


def test_serve_knows_the_options_of_open_neuron_and_with_options_those_of_terms() -> None:
    parameters = dict(inspect.signature(open_neuron).parameters)
    del parameters["gateway"]
    assert {name: value.annotation for name, value in parameters.items()} == plain(NeuronOptions)
    required = {name for name, value in parameters.items() if value.default is value.empty}
    assert required == {name for name, each in written(NeuronOptions).items() if each.startswith("Required[")}
    assert inspect.get_annotations(Terms) == plain(Options)


def written(kind: Any) -> dict[str, str]:
    """Return the annotations of a `TypedDict` as they are written."""
    return {name: each.__forward_arg__ for name, each in inspect.get_annotations(kind).items()}


def plain(kind: Any) -> dict[str, str]:
    return {name: re.sub(r"^Required\[(.*)\]$", r"\1", each) for name, each in written(kind).items()}


# ---- names that are defined elsewhere, and later


@capability("core/later")
def later(page: Later) -> list[Later]:
    return [page]


@capability("core/later-inside")
def later_inside(page: Early) -> None: ...


class Early(msgspec.Struct):
    later: Later | None = None


class Later(msgspec.Struct):
    number: int


def test_an_annotation_may_name_what_is_defined_further_down() -> None:
    assert set(capabilities_by_type([later, later_inside])) == {"core/later", "core/later-inside"}
    assert later.read_input(b'{"number":3}', None) == Later(3)
    assert later_inside.read_input(b'{"later":{"number":3}}', None) == Early(Later(3))


def test_an_annotation_may_name_what_is_local_to_the_caller() -> None:
    class Local(msgspec.Struct):
        number: int

    @capability("core/x")
    def handler(page: Local) -> Below: ...  # type: ignore[empty-body]  # nobody calls it

    class Inside:
        @capability("core/y")
        def method(self, page: Local) -> Below: ...  # type: ignore[empty-body]  # nobody calls it

    class Below(msgspec.Struct):
        text: str

    assert handler.read_input(b'{"number":3}', None) == Local(3)
    assert Inside().method.read_input(b'{"number":3}', None) == Local(3)
    assert handler.write_output(Below("x"), None) == b'{"text":"x"}'


MISSING = "annotated 'Missing', and name 'Missing' is not defined; .* outside `if TYPE_CHECKING`"


class Dangling(msgspec.Struct):
    inner: Nowhere  # type: ignore[name-defined]  # noqa: F821 - that is the mistake


def test_an_annotation_that_is_nowhere_is_named_with_the_remedy_when_a_neuron_is_opened() -> None:
    @capability("core/x")
    def takes(page: Missing) -> None: ...  # type: ignore[name-defined]  # noqa: F821 - that is the mistake

    @capability("core/x")
    def gives(page: Any) -> Missing: ...  # type: ignore[name-defined]  # noqa: F821 - that is the mistake

    @capability("core/x")
    def holds(page: list[Dangling]) -> None: ...

    for handler, said in (
        (takes, f"'core/x': the parameter 'page' is {MISSING}"),
        (gives, f"'core/x': the return value is {MISSING}"),
        (holds, "the parameter 'page' is annotated .*Dangling.*, and in it name 'Nowhere' is not defined"),
    ):
        with pytest.raises(TypeError, match=said):
            open_neuron("https://example.com", neuron_id="n", capabilities=[handler.with_options(concurrency=2)])
        with pytest.raises(TypeError, match=said):
            handler.read_input(b"{}", None)


@pytest.mark.parametrize("annotation", ["1 +", "msgspec.Strukt", "Inner[int]", "1/0"])
def test_an_annotation_that_cannot_be_evaluated_is_refused_with_the_remedy(annotation: str) -> None:
    def handler(page: Any) -> None: ...

    handler.__annotations__["page"] = annotation
    with pytest.raises(TypeError, match=r"'core/x': the parameter 'page' has an annotation that cannot be evaluated"):
        make(handler)


PROGRAM = """
from typing import Annotated
from neuron_anyio import Capability, LeaseContext, capability
import msgspec

class Page(msgspec.Struct):
    url: str

@capability("core/x")
async def handler(page: Page, ctx: LeaseContext) -> list[Page]: ...

class Worker:
    @capability("core/y")
    def method(self, page: "Below | None") -> "Below": ...

class Below(msgspec.Struct):
    url: str

found = handler, Worker().method
"""


@pytest.mark.parametrize("start", ["", "from __future__ import annotations\n"])
def test_it_is_the_same_with_annotations_as_text_and_as_objects(start: str) -> None:
    space: dict[str, Any] = {"__name__": "handlers"}
    sys.modules["handlers"] = types.ModuleType("handlers")
    sys.modules["handlers"].__dict__.update(space)
    try:
        exec(compile(start + PROGRAM, "handlers", "exec", dont_inherit=True), sys.modules["handlers"].__dict__)
        function, method = sys.modules["handlers"].found
        assert function.takes_context
        assert function.read_input(b'{"url":"u"}', None).url == "u"
        assert method.read_input(b"null", None) is None
        assert method.read_input(b'{"url":"u"}', None).url == "u"
    finally:
        del sys.modules["handlers"]


@pytest.mark.skipif(sys.version_info < (3, 12), reason="the syntax is new in Python 3.12")
def test_an_alias_may_be_written_as_a_type_statement() -> None:
    space: dict[str, Any] = {}
    exec("type Many[T] = list[T] | None\ntype Numbers = Many[int]\ntype Tree = list[Tree] | int", space)

    def handler(page: Any) -> Any: ...

    handler.__annotations__.update(page=space["Numbers"], **{"return": space["Many"][str]})
    assert make(handler).read_input(b"[1]", None) == [1]
    assert make(handler).write_output(["a"], None) == b'["a"]'
