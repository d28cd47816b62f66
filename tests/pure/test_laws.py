"""The laws of the architecture, read off the source with `ast`.

`LAYERS` is the one table: every file of the package, in the order in which it may be imported. A file imports what
stands above it and nothing else; `TYPE_CHECKING` is no way round. Where a law has an exception, the exception is a line
with its reason in the law's own table, and a line that excuses nothing any more fails too.
"""

from __future__ import annotations

import ast
import functools
import io
import re
import subprocess
import sys
import tokenize
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest

from neuron_anyio import Limits

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "neuron_anyio"

FUNCTION_LINES = 60
NINE_IN_TEN_LINES = 30
FILE_LINES = 400


class Layer(NamedTuple):
    name: str
    files: str
    pure: bool = False

    @property
    def modules(self) -> list[str]:
        return self.files.split()


LAYERS = (
    Layer(
        "pure core",
        """
        errors groups backoff config
        model events lease records memory pacing patience slots holdings kept ledger
        jsontext utf_8 frames codec sse framing
        """,
        pure=True,
    ),
    Layer(
        "judgement",
        """
        schema_report schema_refs schema_patterns schema_budget schema_cost schema_unique schema_subset schemas
        mismatch jsonforms _pydantic annotations pattern_guard conversion terms capability
        """,
    ),
    Layer("seams", "abc"),
    Layer(
        "waiting",
        """
        logs native_loop wakeup taskgroups retries tokens _http1_wire _http1_request _http1_dial _http1_readiness
        _http1_connection _http1_pool _http1_exchange _http1_client http1
        jsonrpc local_streams
        """,
    ),
    Layer("transports", "transports transports._roads transports.http transports.ipc transports.memory"),
    Layer(
        "brokers",
        "brokers brokers._silence brokers._bigbrain_wire brokers._bigbrain_answers brokers.bigbrain brokers.memory",
    ),
    Layer(
        "runtime",
        """
        lease_log snapshot context outcome driven watchdog threads telemetry_context _worker processes executor
        lanes _journal_file journal recorder listeners alarms delivery source deadlines engine drain setup supervisor
        telemetry_words telemetry neuron metrics probes health serve
        """,
    ),
    Layer("public names", "neuron_anyio"),
    Layer(
        "sources of tokens",
        """
        auth.tokenfile auth._wire auth.credentials auth.client_auth auth.discovery auth.minting auth.enrolment auth
        """,
    ),
    Layer("users' side", "statuses _client_wire client ipc_host control"),
    Layer("gateway's seams", "gateway.problems gateway.tasks gateway.principals gateway.store"),
    Layer(
        "gateway's core",
        """
        gateway.schedule gateway.book gateway.turn gateway.roster gateway.backlog gateway.policy
        gateway.leasing gateway.ledger gateway.views
        """,
        pure=True,
    ),
    Layer(
        "gateway",
        """
        gateway.streams gateway.gateway gateway.posts gateway.replies gateway.event_stream
        gateway.caller_routes gateway.neuron_routes gateway.app gateway.server gateway
        """,
    ),
    Layer(
        "oracle",
        "testing.book testing.oracle testing.faults testing.fault_bytes testing.fault_leases testing.scenarios",
        pure=True,
    ),
    Layer(
        "testing",
        """
        testing.strategy_values testing.strategy_frames testing.strategy_tasks testing.strategy_schemas
        testing.strategy_sessions testing.strategies
        testing.contract
        testing.transport_contract_scene testing.transport_contract_stream testing.transport_contract_posts
        testing.transport_contract
        testing.broker_contract_scene testing.broker_contract_outcomes testing.broker_contract_life
        testing.broker_contract
        testing.worklog testing.scripted_gateway testing.steered_handler
        testing.memory_gateway testing.one_delivery testing.handlers
        testing.fault_connection testing.fault_server testing.fault_stream testing.fault_broker testing.fault_http
        testing.fault_gateway testing.scenario_play testing.pytest_plugin testing
        """,
    ),
    Layer(
        "command",
        """
        cli.problems cli.settings cli.logs cli.loading cli.options cli.documents cli.wording cli.board cli.screen
        cli.telemetry
        cli.idle cli.children cli.reload cli.supervise cli.run_options cli.serving cli.supervised cli.completion cli.top
        cli.describe cli.gateway cli.submit cli.run cli.dev cli.enroll cli.main cli __main__
        """,
    ),
)
"""The tree from the bottom up. `transports` is `transports/__init__.py`, `neuron_anyio` the package's own."""

ORDER = [module for layer in LAYERS for module in layer.modules]
PURE = [module for layer in LAYERS if layer.pure for module in layer.modules]

UPWARD: dict[tuple[str, str], str] = {}
"""Imports that go up, each under TYPE_CHECKING, with the reason."""

SIDEWAYS = {
    ("brokers.bigbrain", "brokers._bigbrain_wire"): "one broker's private half: its words",
    ("brokers.bigbrain", "brokers._bigbrain_answers"): "one broker's private half: its answers",
    ("brokers.bigbrain", "brokers._silence"): "one broker's private helper",
    ("transports.http", "transports._roads"): "one transport's private half: how its requests travel",
}
"""Imports between members of `transports/` or of `brokers/`."""

# fmt: off
NOT_PURE = {
    "asyncio", "concurrent", "contextvars", "fcntl", "getpass", "glob", "http.client", "http.server", "io", "locale",
    "logging", "mmap", "multiprocessing", "os", "pathlib", "platform", "queue", "random", "sched", "secrets", "select",
    "selectors", "shutil", "signal", "socket", "socketserver", "ssl", "subprocess", "tempfile", "threading", "time",
    "urllib.request", "uuid",
}
# fmt: on
"""What of the standard library has a clock, a dice, a lock or the outside world in it."""

PURE_ALL_THE_SAME = {"io.BytesIO": "a buffer in memory, which can be handed over without a copy"}

CLOCKS = {"now", "utcnow", "today"}

ASYNCIO_BY_NATURE = {"gateway.server": "runs hypercorn, which has one entry point for each backend"}

NACK_KINDS = {"retryable", "terminal", "schema-mismatch"}
"""The fourth, `cancelled`, is also a task's state and a word that one needs."""

NACK_TABLES = ("brokers._bigbrain_wire", {"NACKS", "GIVE_BACKS"})
"""Where the codes stand."""

KNOW_NACKS = {
    "brokers._bigbrain_wire": "turns outcomes into nacks",
    "frames": "the wire's own definition of the kinds",
}
"""Who may spell nack kinds and codes out, besides the gateway, which reads them."""

SHIELDS_WITHOUT_BOUND = {
    "threads": "a thread cannot be cancelled; `Run.abandon` is the bound (promise D2)",
}

SWALLOWS_BASE_EXCEPTION = {
    "threads._call": "carries whatever a thread raised over to the loop, which judges it",
    "_worker._answer": "carries whatever a process raised over to the neuron, which judges it",
    "driven.__await__": "throws it into the coroutine that it drives, which raises it again or answers",
}

DIRECTIVE = re.compile(
    r"""
    ruff:\ *noqa(:\ *[A-Z]+\d+(,\ *[A-Z]+\d+)*)? | noqa(:\ *[A-Z]+\d+(,\ *[A-Z]+\d+)*)?
    | type:\ *ignore(\[[\w,\ -]+\])? | pyright:\ *(ignore(\[[\w,\ ]+\])?|\w+=\w+) | pragma:\ *no\ *\w+
    """,
    re.VERBOSE,
)
"""What a comment says to a tool; what is left of the comment is its reason."""

REASON_FOR_ALL = {
    "tests/typing/api.py": "each is a mistake that the checkers must see, and they say which they miss",
}
"""Files whose comments to tools have one reason together, which stands at the file's top."""


NO_TEST_OF_ITS_OWN = {
    "G5": "there is no store on disk yet",
}
"""Promises whose number no test carries."""


@functools.cache
def path_of(module: str) -> Path:
    if module == "neuron_anyio":
        return PACKAGE / "__init__.py"
    base = PACKAGE.joinpath(*module.split("."))
    return base / "__init__.py" if base.is_dir() else base.with_suffix(".py")


def module_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    parts = parts[:-1] if parts[-1] == "__init__" else parts
    return ".".join(parts) or "neuron_anyio"


@functools.cache
def tree_of(module: str) -> ast.Module:
    return ast.parse(path_of(module).read_text(encoding="utf-8"))


def modules() -> list[str]:
    return sorted(module_of(path) for path in PACKAGE.rglob("*.py"))


class Imported(NamedTuple):
    """One imported name: `module` within the package (or None), `outside` the full name of what is not ours."""

    line: int
    module: str | None
    outside: str
    name: str
    typing_only: bool


def imports_of(module: str) -> Iterator[Imported]:
    tree = tree_of(module)
    guarded = {
        id(node)
        for branch in ast.walk(tree)
        if isinstance(branch, ast.If) and "TYPE_CHECKING" in ast.unparse(branch.test)
        for statement in branch.body
        for node in ast.walk(statement)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield _imported(node.lineno, alias.name, "", typing_only=id(node) in guarded)
        elif isinstance(node, ast.ImportFrom):
            source = _absolute(module, node)
            for alias in node.names:
                yield _imported(node.lineno, source, alias.name, typing_only=id(node) in guarded)


def _absolute(module: str, node: ast.ImportFrom) -> str:
    if not node.level:
        return node.module or ""
    folder = path_of(module).parent
    for _ in range(node.level - 1):
        folder = folder.parent
    base = folder.relative_to(ROOT).parts
    return ".".join((*base, *([node.module] if node.module else [])))


def _imported(line: int, source: str, name: str, *, typing_only: bool) -> Imported:
    if source != "neuron_anyio" and not source.startswith("neuron_anyio."):
        return Imported(line, None, source, name, typing_only)
    inner = source.removeprefix("neuron_anyio").removeprefix(".")
    submodule = f"{inner}.{name}".strip(".")
    if name and path_of(submodule).exists():
        return Imported(line, submodule, "", "", typing_only)
    return Imported(line, inner or "neuron_anyio", "", name, typing_only)


def functions_of(module: str) -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    for node in ast.walk(tree_of(module)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield f"{module}.{node.name}", node


def length_of(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines without the docstring: what is explained well must not have to be split for it."""
    assert function.end_lineno is not None
    text = ast.get_docstring(function, clean=False)
    return function.end_lineno - function.lineno + 1 - (len(text.splitlines()) if text else 0)


def strings_of(module: str) -> Iterator[tuple[int, str]]:
    """Yield the string constants that are no docstrings."""
    tree = tree_of(module)
    bare = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in bare:
            yield node.lineno, node.value


def judged(found: Sequence[str]) -> None:
    assert not found, "\n".join(["", *found])


# Law 1


def test_law_1_the_table_names_every_file_once_and_no_other() -> None:
    assert len(ORDER) == len(set(ORDER))
    missing = sorted(set(modules()) - set(ORDER))
    vanished = sorted(set(ORDER) - set(modules()))
    assert not missing, f"files that no layer has: {missing}"
    assert not vanished, f"files of the table that there are not: {vanished}"


def test_law_1_imports_go_down_and_never_up_not_even_for_types() -> None:
    place = {module: number for number, module in enumerate(ORDER)}
    used: set[tuple[str, str]] = set()
    found = []
    for module in modules():
        for item in imports_of(module):
            if item.module is None or place.get(item.module, len(ORDER)) < place.get(module, len(ORDER)):
                continue
            if (module, item.module) in UPWARD and item.typing_only:
                used.add((module, item.module))
            else:
                found.append(f"{module}:{item.line} imports {item.module}, which is not below it")
    judged(found)
    assert set(UPWARD) == used, "an exception that nobody needs any more"


def test_law_1_members_of_transports_and_of_brokers_do_not_know_each_other() -> None:
    used: set[tuple[str, str]] = set()
    found = []
    for module in modules():
        folder = module.split(".")[0]
        if folder not in {"transports", "brokers"}:
            continue
        for item in imports_of(module):
            if item.module is None or item.module.split(".")[0] != folder:
                continue
            if (module, item.module) in SIDEWAYS:
                used.add((module, item.module))
            else:
                found.append(f"{module}:{item.line} imports its sibling {item.module}")
    judged(found)
    assert set(SIDEWAYS) == used, "an exception that nobody needs any more"


# Law 2 and law 3


@pytest.mark.parametrize("module", PURE)
def test_law_2_the_pure_core_imports_the_standard_library_and_msgspec_alone(module: str) -> None:
    if not path_of(module).exists():
        pytest.fail(f"{module} is not there")
    found = []
    for item in imports_of(module):
        root = item.outside.split(".")[0]
        if item.module is not None or root == "msgspec" or f"{item.outside}.{item.name}" in PURE_ALL_THE_SAME:
            continue
        if root not in sys.stdlib_module_names:
            found.append(f"{module}:{item.line} imports {item.outside}")
        elif not NOT_PURE.isdisjoint({root, item.outside, f"{item.outside}.{item.name}"}):
            found.append(f"{module}:{item.line} imports {item.outside}, which is not pure")
    judged(found)


@pytest.mark.parametrize("module", PURE)
def test_law_2_and_3_the_pure_core_has_no_await_no_clock_and_no_files(module: str) -> None:
    found = []
    for node in ast.walk(tree_of(module)):
        if isinstance(node, ast.AsyncFunctionDef | ast.Await | ast.AsyncFor | ast.AsyncWith):
            found.append(f"{module}:{node.lineno} waits")
        if isinstance(node, ast.Call):
            called = node.func
            if isinstance(called, ast.Attribute) and called.attr in CLOCKS:
                found.append(f"{module}:{node.lineno} looks at a clock: {ast.unparse(called)}")
            if isinstance(called, ast.Name) and called.id in {"open", "print", "input"}:
                found.append(f"{module}:{node.lineno} calls {called.id}()")
    judged(found)


# Law 4


def test_law_4_one_place_makes_completed_outcomes_and_one_place_sends_them() -> None:
    places: dict[str, set[str]] = {"Completed": set(), "settle": set(), "outcome_of": set()}
    for module in modules():
        if module.startswith(("testing", "gateway")):
            continue
        for node in ast.walk(tree_of(module)):
            if not isinstance(node, ast.Call):
                continue
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if name in places:
                places[name].add(module)
    assert places["Completed"] == {"outcome", "records"}, "made in one, read back from the journal in the other"
    assert places["settle"] == {"delivery"}
    assert places["outcome_of"] == {"engine"}


def test_law_4_only_the_bigbrain_broker_spells_out_nack_kinds_and_codes() -> None:
    home, tables = NACK_TABLES
    written = [node for node in tree_of(home).body if getattr(getattr(node, "target", None), "id", "") in tables]
    constants = [leaf.value for node in written for leaf in ast.walk(node) if isinstance(leaf, ast.Constant)]
    codes = {str(text) for text in constants if str(text).isupper()} | {"CANCELLED", "DROPPED"}
    assert len(codes) > len(NACK_KINDS), "the tables have moved"
    word = re.compile(rf"\b({'|'.join(sorted(codes))})\b")
    found = []
    for module in modules():
        if module in KNOW_NACKS or module.startswith("gateway"):
            continue
        for line, text in strings_of(module):
            match = word.search(text)
            if match is not None or text in NACK_KINDS:
                found.append(f"{module}:{line} says {match.group() if match else text!r}")
    judged(found)


# Law 5


def test_law_5_nobody_speaks_to_asyncio_itself() -> None:
    found = []
    for module in modules():
        if module in ASYNCIO_BY_NATURE:
            continue
        found += [
            f"{module}:{item.line} imports {item.outside}"
            for item in imports_of(module)
            if item.outside.split(".")[0] == "asyncio"
        ]
        found += [
            f"{module}:{node.lineno} uses asyncio"
            for node in ast.walk(tree_of(module))
            if isinstance(node, ast.Name) and node.id == "asyncio"
        ]
    judged(found)


def test_importing_the_package_brings_neither_trio_nor_httpx_nor_what_is_optional() -> None:
    heavy = ["trio", "httpx", "starlette", "hypercorn", "click", "rich", "pytest", "hypothesis"]
    program = f"import sys, neuron_anyio; print(*[name for name in {heavy!r} if name in sys.modules])"
    brought = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert brought.stdout.split() == []


# Law 6 and the habits


def test_law_6_no_task_is_started_where_no_group_can_own_it() -> None:
    found = [
        f"{module}:{node.lineno} calls {ast.unparse(node.func)}"
        for module in modules()
        for node in ast.walk(tree_of(module))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in {"create_task", "ensure_future", "spawn_system_task", "__aenter__", "__aexit__"}
    ]
    judged(found)


def test_a_shield_has_a_bound() -> None:
    used: set[str] = set()
    found = []
    for module in modules():
        for node in ast.walk(tree_of(module)):
            if not isinstance(node, ast.Call):
                continue
            keywords = {keyword.arg: keyword.value for keyword in node.keywords}
            shield = keywords.get("shield")
            if shield is None or (isinstance(shield, ast.Constant) and shield.value is False):
                continue
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if name in {"move_on_after", "fail_after"} or "deadline" in keywords:
                continue
            if module in SHIELDS_WITHOUT_BOUND:
                used.add(module)
            else:
                found.append(f"{module}:{node.lineno} shields without a bound")
    judged(found)
    assert set(SHIELDS_WITHOUT_BOUND) == used, "an exception that nobody needs any more"


def test_who_catches_every_exception_raises_it_again() -> None:
    used: set[str] = set()
    found = []
    for module in modules():
        for name, function in functions_of(module):
            for node in ast.walk(function):
                if not isinstance(node, ast.ExceptHandler) or not _catches_all(node):
                    continue
                if isinstance(node.body[-1], ast.Raise):
                    continue
                if name in SWALLOWS_BASE_EXCEPTION:
                    used.add(name)
                else:
                    found.append(f"{name}:{node.lineno} catches everything and does not end in `raise`")
    judged(found)
    assert set(SWALLOWS_BASE_EXCEPTION) == used, "an exception that nobody needs any more"


def _catches_all(handler: ast.ExceptHandler) -> bool:
    if handler.type is None:
        return True
    kinds = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
    return any(ast.unparse(kind) == "BaseException" for kind in kinds)


# Law 7


def test_law_7_no_function_has_more_than_60_lines_and_nine_in_ten_less_than_30() -> None:
    lengths = {name: length_of(node) for module in modules() for name, node in functions_of(module)}
    judged([f"{name} has {length} lines" for name, length in lengths.items() if length > FUNCTION_LINES])
    ninth = sorted(lengths.values())[int(len(lengths) * 0.9)]
    assert ninth < NINE_IN_TEN_LINES


def test_law_7_no_file_is_longer_than_400_lines() -> None:
    sizes = {module: len(path_of(module).read_text(encoding="utf-8").splitlines()) for module in modules()}
    judged([f"{module} has {size} lines" for module, size in sizes.items() if size > FILE_LINES])


# Names and words


@pytest.mark.parametrize("module", modules())
def test_all_is_complete_and_sorted(module: str) -> None:
    listed = _all_of(module) or []
    defined = _defined_in(module)
    assert [name for name in listed if name not in defined] == [], "names in __all__ that there are not"
    assert listed == sorted(listed, key=_ruffs_order), "sorted as ruff does: CONSTANTS, Classes, functions"
    public = {name for name, is_code in defined.items() if is_code and not name.startswith("_")}
    assert sorted(public - set(listed)) == [], "public functions and classes that __all__ leaves out"


def test_the_package_itself_is_made_of_re_exports_and_exports_each() -> None:
    body = tree_of("neuron_anyio").body
    assert all(isinstance(node, ast.ImportFrom | ast.Assign | ast.Expr) for node in body)
    assert sorted(item.name for item in imports_of("neuron_anyio")) == sorted(_all_of("neuron_anyio") or [])


def test_what_a_file_takes_from_another_is_in_its_all() -> None:
    found = []
    for module in modules():
        for item in imports_of(module):
            if item.module is None or not item.name:
                continue
            if item.name not in (_all_of(item.module) or []):
                found.append(f"{module}:{item.line} takes {item.name}, which {item.module} does not offer")
    judged(found)


def _all_of(module: str) -> list[str] | None:
    for node in tree_of(module).body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        value = getattr(node, "value", None)
        if any(isinstance(target, ast.Name) and target.id == "__all__" for target in targets):
            assert isinstance(value, ast.List | ast.Tuple), f"{module}: __all__ is not a literal"
            return [str(ast.literal_eval(item)) for item in value.elts]
    return None


def _defined_in(module: str) -> dict[str, bool]:
    """Return the names at the top of a file; True for a function or class that is defined there."""
    names: dict[str, bool] = {}
    for node in ast.walk(tree_of(module)):
        if isinstance(node, ast.ImportFrom | ast.Import):
            names.update({(alias.asname or alias.name).split(".")[0]: False for alias in node.names})
    for node in tree_of(module).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names[node.name] = True
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        names.update({target.id: False for target in targets if isinstance(target, ast.Name)})
    return names


def _ruffs_order(name: str) -> tuple[int, str]:
    bare = name.lstrip("_")
    kind = 0 if bare.isupper() else 1 if bare[:1].isupper() else 2
    return kind, name


def test_nothing_is_left_to_be_done_later() -> None:
    word = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b")
    found = []
    for module in modules():
        for number, line in enumerate(path_of(module).read_text(encoding="utf-8").splitlines(), 1):
            if word.search(line):
                found.append(f"{module}:{number} {line.strip()}")
    judged(found)


# Comments


def python_files() -> list[Path]:
    folders = [ROOT / name for name in ("neuron_anyio", "tests", "examples", "benchmarks")]
    return [ROOT / "noxfile.py", *sorted(path for folder in folders for path in folder.rglob("*.py"))]


def comments_of(text: str) -> dict[int, str]:
    """Return the comments of a file by line."""
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    return {token.start[0]: token.string for token in tokens if token.type == tokenize.COMMENT}


def lines_without_reason(text: str) -> Iterator[tuple[int, str]]:
    """Yield the lines that silence a tool, or catch everything, and do not say why."""
    comments = comments_of(text)
    for line, comment in comments.items():
        reason, directives = DIRECTIVE.subn("", comment)
        if directives and not re.search(r"[A-Za-z]{2}", reason):
            yield line, comment
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ExceptHandler) and _catches_all(node):
            # Beside it, or between it and what it does; a directive alone is no reason there either.
            near = [comments.get(line, "") for line in range(node.lineno, max(node.body[0].lineno, node.lineno + 1))]
            if not any(re.search(r"[A-Za-z]{2}", DIRECTIVE.sub("", comment)) for comment in near):
                yield node.lineno, "except BaseException"


def test_who_silences_a_tool_or_catches_everything_says_why() -> None:
    found: dict[str, list[str]] = {}
    for path in python_files():
        name = path.relative_to(ROOT).as_posix()
        lines = [f"{name}:{line} {what}" for line, what in lines_without_reason(path.read_text(encoding="utf-8"))]
        if lines:
            found[name] = lines
    judged([line for name, lines in found.items() if name not in REASON_FOR_ALL for line in lines])
    assert sorted(set(REASON_FOR_ALL) - set(found)) == [], "an exception that nobody needs any more"


@pytest.mark.parametrize(
    ("line", "has_reason"),
    [
        ("x = 1  # noqa: E501", False),
        ("x = 1  # noqa: E501, S101 -", False),
        ("x = 1  # noqa", False),
        ("x = 1  # type: ignore[misc]", False),
        ("x = 1  # type: ignore[name-defined]  # noqa: F821", False),
        ("x = 1  # pragma: no cover", False),
        ("x = 1  # pyright: ignore[reportPrivateUsage, reportOther]", False),
        ("try: ...\nexcept BaseException: raise", False),
        ("try: ...\nexcept BaseException:  # noqa: ASYNC103\n    raise", False),
        ("try: ...\nexcept:\n    raise", False),
        ("try: ...\nexcept BaseException:\n    close()  # noqa: S110 - about closing\n    raise", False),
        ("x = 1  # noqa: E501 - a row of a table", True),
        ("x = 1  # type: ignore[misc]  # mypy infers none", True),
        ("x = 1  # type: ignore[name-defined]  # noqa: F821 - not there on purpose", True),
        ("x = '# noqa: E501'", True),
        ("try: ...\nexcept BaseException:  # a cancellation, too\n    raise", True),
        ("try: ...\nexcept BaseException:\n    # A cancellation, too.\n    raise", True),
        ("try: ...\nexcept Exception:\n    raise", True),
    ],
)
def test_a_reason_is_known_when_it_is_seen(line: str, has_reason: bool) -> None:
    assert (not list(lines_without_reason(f"{line}\n"))) is has_reason


# Promises


REFERENCE = re.compile(r"_?reference_(D\d\d(?:_and_D\d\d)*)")
"""How the name of a test cites defects of the published SDK, which have numbers of their own."""


@functools.cache
def names_of_tests() -> list[str]:
    texts = (path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py"))
    return [name for text in texts for name in re.findall(r"^ *(?:async )?def (test_\w+)", text, re.MULTILINE)]


def test_promises_and_tests_name_each_other() -> None:
    text = (ROOT / "tests" / "behaviour.md").read_text(encoding="utf-8")
    promised = set(re.findall(r"^(?:- |\| )([A-Z]\d+(?:\.\d+)?) ", text, re.MULTILINE))
    assert len(promised) > 60
    tested: set[str] = set()
    for name in names_of_tests():
        for number, row in re.findall(r"_([A-Z]\d+)(?:_(\d+))?(?=_)", REFERENCE.sub("", name)):
            tested |= {number, f"{number}.{row}" if row else number}
    assert sorted(tested - promised) == [], "numbers that no promise has"
    assert sorted(promised - tested - set(NO_TEST_OF_ITS_OWN)) == [], "promises that no test names"
    assert sorted(tested & set(NO_TEST_OF_ITS_OWN)) == [], "an exception that nobody needs any more"


def test_defects_of_the_published_sdk_and_tests_name_each_other() -> None:
    text = (ROOT / "tests" / "reference_defects.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| (D\d\d) \| (.+) \|$", text, re.MULTILINE))
    assert sorted(rows) == [f"D{number:02}" for number in range(1, 51)]
    cited = {
        number for name in names_of_tests() for found in REFERENCE.findall(name) for number in found.split("_and_")
    }
    later = {number for number, row in rows.items() if row.endswith("(auth, later)")}
    assert sorted(cited - set(rows)) == [], "numbers that no row has"
    assert sorted(set(rows) - cited - later) == [], "rows that no test names"
    assert not [name for name in names_of_tests() if "reference_D" in REFERENCE.sub("", name)], "cited in another way"


def test_each_member_of_limits_has_a_test_that_goes_to_the_bound() -> None:
    found = [name.partition("bound_of_")[2] for name in names_of_tests() if "bound_of_" in name]
    members = sorted(Limits.__struct_fields__, key=len, reverse=True)
    tested = [next((member for member in members if f"{name}_".startswith(f"{member}_")), name) for name in found]
    assert sorted(set(tested) - set(members)) == [], "bounds that there are not"
    assert sorted(set(members) - set(tested)) == [], "bounds that no test is at"
