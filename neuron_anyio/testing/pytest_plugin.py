"""Gateways as pytest fixtures, on the backend of the test that asks for them.

    pytestmark = pytest.mark.anyio

    async def test_a_task_is_run(neuron_gateway):
        async with open_neuron(neuron_gateway.url, neuron_id="neuron-1", capabilities=[echo]):
            task = await neuron_gateway.submit("test/echo", "hello")
            (settled,) = await neuron_gateway.wait_settled(task.task_id)
        assert settled.output == "hello"

    @pytest.mark.parametrize("fault_gateway", ["answer.ack.503-burst"], indirect=True)
    async def test_it_survives(fault_gateway): ...

Options come by indirect parametrization: a mapping of what the function that opens the gateway takes, or for
`fault_gateway` the fault's id alone. The fixtures are anyio's to run: they need its plugin, which comes with anyio, and
tests that it runs. A test that pytest-asyncio or pytest-trio runs opens its gateway itself, by `open_gateway`,
`open_memory_gateway` or `open_fault_gateway`. Every run of pytest imports this file: it imports nothing else before a
fixture is asked for.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from ..gateway import Gateway
    from .fault_gateway import FaultGateway
    from .memory_gateway import MemoryGateway

__all__ = ["fault_gateway", "memory_gateway", "neuron_gateway"]

OTHERS = ("asyncio", "trio")
"""Marks of tests that another plugin runs, each on an event loop of its own."""


@pytest.fixture
def _run_by_anyio(request: pytest.FixtureRequest) -> None:
    # Under another plugin the test would wait for ever for a gateway on a loop that nobody turns.
    for mark in OTHERS:
        if request.node.get_closest_marker(mark) is not None:
            pytest.fail(
                f"gateways are fixtures for tests that anyio runs, and pytest-{mark} runs this one; leave it to anyio "
                f"(pytest.mark.anyio, and no auto mode of pytest-{mark}), or open the gateway in the test: "
                "async with open_gateway() as gateway",
                pytrace=False,
            )


@pytest.fixture
async def neuron_gateway(
    _run_by_anyio: None,
    anyio_backend: Any,  # noqa: ARG001 - by it anyio knows whose the fixture is
    request: pytest.FixtureRequest,
) -> AsyncGenerator[Gateway]:
    """Serve the real gateway over HTTP on a loopback port; options are those of `open_gateway`."""
    from ..gateway import open_gateway  # noqa: PLC0415 - not before it is used

    async with open_gateway(**_options(request)) as gateway:
        yield gateway


@pytest.fixture
async def memory_gateway(
    _run_by_anyio: None,
    anyio_backend: Any,  # noqa: ARG001 - as above
    request: pytest.FixtureRequest,
) -> AsyncGenerator[MemoryGateway]:
    """Run the real gateway in memory; options are those of `open_memory_gateway`."""
    from .memory_gateway import open_memory_gateway  # noqa: PLC0415 - not before it is used

    async with open_memory_gateway(**_options(request)) as gateway:
        yield gateway


@pytest.fixture
async def fault_gateway(
    _run_by_anyio: None,
    anyio_backend: Any,  # noqa: ARG001 - as above
    request: pytest.FixtureRequest,
) -> AsyncGenerator[FaultGateway]:
    """Run a fault gateway over TCP on a loopback port, with no fault until one is named or `begin_fault` is called."""
    from .fault_gateway import open_fault_gateway  # noqa: PLC0415 - not before it is used

    async with open_fault_gateway(**_options(request, alone="fault")) as gateway:
        yield gateway


def _options(request: pytest.FixtureRequest, *, alone: str = "") -> dict[str, Any]:
    given: Any = getattr(request, "param", {})
    if alone and isinstance(given, str):
        return {alone: given}
    if not isinstance(given, Mapping):
        also = f", or the {alone}'s id" if alone else ""
        raise TypeError(f"{request.fixturename} is parametrized by a mapping of options{also}, not by {given!r}")
    return {**given}
