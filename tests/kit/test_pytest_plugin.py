"""The pytest plugin, in runs of pytest as users have them."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import entry_points

import pytest

pytest_plugins = ["pytester"]

PLUGIN = "neuron_anyio.testing.pytest_plugin"
IS_INSTALLED = any(entry.value == PLUGIN for entry in entry_points(group="pytest11"))
LOAD = () if IS_INSTALLED else ("-p", PLUGIN)
"""Until the package is installed with the entry point, the plugin is named."""

CONFTEST = """
import pytest

@pytest.fixture(params=[("asyncio", {"debug": True}), ("asyncio", {"use_uvloop": True}), ("trio", {})])
def anyio_backend(request):
    return request.param
"""

HEAD = """
import anyio
import pytest
from neuron_anyio import capability, open_neuron

pytestmark = pytest.mark.anyio

@capability("test/echo", concurrency=4)
async def echo(value):
    return value

async def run(gateway, where):
    with anyio.fail_after(10):
        async with open_neuron(where, neuron_id="neuron-1", capabilities=[echo]):
            task = await gateway.submit("test/echo", "hello")
            return (await gateway.wait_settled(task.task_id))[0]
"""


def inner(pytester: pytest.Pytester, body: str, *arguments: str, conftest: str = CONFTEST) -> pytest.RunResult:
    """Run pytest in a process of its own, every warning an error."""
    pytester.makeconftest(conftest)
    pytester.makepyfile(HEAD + body)
    return pytester.runpytest_subprocess(*LOAD, "-W", "error", "-p", "no:cacheprovider", *arguments, timeout=60)


def test_each_fixture_is_a_gateway_on_each_backend(pytester: pytest.Pytester) -> None:
    result = inner(
        pytester,
        """
async def test_over_http(neuron_gateway):
    assert neuron_gateway.url.startswith("http://127.0.0.1:")
    assert (await run(neuron_gateway, neuron_gateway.url)).output == "hello"

async def test_in_memory(memory_gateway):
    assert (await run(memory_gateway, memory_gateway.transport())).output == "hello"

async def test_faults(fault_gateway):
    fault_gateway.begin_fault("answer.ack.500")
    with anyio.fail_after(10):
        async with open_neuron(fault_gateway.url, neuron_id="neuron-1", capabilities=[echo]):
            fault_gateway.submit("test/echo", 5, expected=5)
            await fault_gateway.wait_done()
    assert fault_gateway.fault.id == "answer.ack.500"
    assert fault_gateway.verdict().lost == 0

async def test_all_at_once(neuron_gateway, memory_gateway, fault_gateway):
    assert fault_gateway.fault.id == "none"
    assert neuron_gateway.counts() == memory_gateway.counts()
""",
    )
    result.assert_outcomes(passed=12)


def test_options_come_by_indirect_parametrization(pytester: pytest.Pytester) -> None:
    result = inner(
        pytester,
        """
@pytest.mark.parametrize("neuron_gateway", [{"max_attempts": 7}], indirect=True)
@pytest.mark.parametrize("memory_gateway", [{"max_attempts": 8}], indirect=True)
async def test_options(neuron_gateway, memory_gateway):
    for gateway, attempts in ((neuron_gateway, 7), (memory_gateway, 8)):
        assert (await gateway.submit("test/echo", 1)).max_attempts == attempts

@pytest.mark.parametrize("fault_gateway", ["lease.twice", {"fault": "lease.twice", "lease_ttl": 5.0}], indirect=True)
async def test_faults(fault_gateway):
    assert fault_gateway.fault.id == "lease.twice"
""",
    )
    result.assert_outcomes(passed=9)


def test_a_failing_test_fails_alone_and_shows_why(pytester: pytest.Pytester) -> None:
    result = inner(
        pytester,
        """
async def test_fails(neuron_gateway):
    async with open_neuron(neuron_gateway.url, neuron_id="neuron-1", capabilities=[echo]):
        task = await neuron_gateway.submit("test/echo", "hello")
        (settled,) = await neuron_gateway.wait_settled(task.task_id)
        assert settled.output == "goodbye"

async def test_is_well(neuron_gateway):
    assert (await run(neuron_gateway, neuron_gateway.url)).output == "hello"
""",
    )
    result.assert_outcomes(passed=3, failed=3)
    result.stdout.fnmatch_lines(["*AssertionError: assert 'hello' == 'goodbye'*"])
    result.stdout.no_fnmatch_line("*ExceptionGroup*")


def test_it_gets_on_with_xdist(pytester: pytest.Pytester) -> None:
    result = inner(
        pytester,
        """
@pytest.mark.parametrize("number", range(3))
async def test_over_http(neuron_gateway, number):
    assert (await run(neuron_gateway, neuron_gateway.url)).output == "hello"
""",
        "-n2",
    )
    result.assert_outcomes(passed=9)


def test_a_fixture_of_ones_own_may_keep_a_gateway_as_long_as_its_module(
    pytester: pytest.Pytester,
) -> None:
    result = inner(
        pytester,
        """
from neuron_anyio.testing import open_memory_gateway

@pytest.fixture(scope="module")
def anyio_backend():
    return "trio"

@pytest.fixture(scope="module")
async def one_gateway(anyio_backend):
    async with open_memory_gateway() as gateway:
        yield gateway

@pytest.mark.parametrize("number", range(3))
async def test_shared(one_gateway, number):
    assert (await run(one_gateway, one_gateway.transport())).output == "hello"
    assert one_gateway.counts()["succeeded"] == number + 1
""",
        conftest="",
    )
    result.assert_outcomes(passed=3)


def test_without_anyios_choice_of_backends_its_default_is_taken(pytester: pytest.Pytester) -> None:
    result = inner(
        pytester,
        """
async def test_in_memory(memory_gateway, anyio_backend_name):
    assert (await run(memory_gateway, memory_gateway.transport())).output == "hello"
""",
        conftest="",
    )
    assert result.parseoutcomes()["passed"] >= 2


def test_a_wrong_option_is_an_error_that_names_it(pytester: pytest.Pytester) -> None:
    result = inner(
        pytester,
        """
@pytest.mark.parametrize("memory_gateway", [7], indirect=True)
async def test_seven(memory_gateway): ...

@pytest.mark.parametrize("fault_gateway", ["no.such.fault"], indirect=True)
async def test_unknown(fault_gateway): ...
""",
    )
    result.assert_outcomes(errors=6)
    result.stdout.fnmatch_lines(
        [
            "*TypeError: memory_gateway is parametrized by a mapping of options, not by 7*",
            "*ValueError: fault must be an id of neuron_anyio.testing.faults.FAULTS, not 'no.such.fault'*",
        ]
    )


def test_without_anyios_plugin_pytest_says_what_is_missing(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("def test_it(memory_gateway): ...")
    result = pytester.runpytest_subprocess(*LOAD, "-p", "no:anyio", "-p", "no:cacheprovider", timeout=60)
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*fixture 'anyio_backend' not found*"])


@pytest.mark.parametrize("other", ["asyncio", "trio"])
def test_a_test_that_another_plugin_runs_is_told_so_and_does_not_wait_for_ever(
    pytester: pytest.Pytester, other: str
) -> None:
    pytester.makeini(f"[pytest]\nmarkers =\n    {other}: what pytest-{other} marks, also in its auto mode")
    result = inner(
        pytester,
        f"""
@pytest.mark.{other}
@pytest.mark.parametrize("name", ["neuron_gateway", "memory_gateway", "fault_gateway"])
def test_it(name, request):
    request.getfixturevalue(name)

@pytest.mark.{other}
def test_its_own():
    pass
""",
        conftest="",
    )
    result.assert_outcomes(passed=1, failed=3)
    result.stdout.fnmatch_lines([f"*pytest-{other} runs this one; leave it to anyio*async with open_gateway()*"])


def test_importing_it_brings_nothing_but_the_package_itself() -> None:
    program = (
        "import sys, neuron_anyio, pytest; before = set(sys.modules); import neuron_anyio.testing.pytest_plugin;"
        "print(*sorted(set(sys.modules) - before))"
    )
    brought = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert brought.stdout.split() == ["neuron_anyio.testing", PLUGIN]
