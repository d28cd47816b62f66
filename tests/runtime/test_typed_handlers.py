"""Handlers of all kinds in a running neuron: what they are given, and what is said of what they return."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import AsyncGenerator
from typing import Any

import anyio
import pytest
from pydantic import BaseModel, Field

from neuron_anyio import LeaseContext, capability
from neuron_anyio.testing.handlers import run_handler

pytestmark = pytest.mark.anyio

SECRET = "hunter2"


@pytest.fixture(autouse=True)
async def _in_time() -> AsyncGenerator[None]:
    with anyio.fail_after(10):
        yield


class Page(BaseModel):
    url: str = Field(alias="pageUrl", min_length=2)


class Fetched(BaseModel):
    status: int = Field(serialization_alias="statusCode")
    share: float = 0.5


@dataclasses.dataclass
class Count:
    number: int


@capability("core/fetch")
async def fetch(page: Page, ctx: LeaseContext) -> str:
    assert isinstance(page, Page)
    assert isinstance(ctx, LeaseContext)
    return page.url


class Worker:
    """Handlers that share what their instance holds."""

    def __init__(self, result: Any) -> None:
        self.result = result

    @capability("core/model")
    async def model(self, page: Page) -> Fetched:
        result: Fetched = self.result
        return result

    @capability("core/record")
    def record(self, page: dict[str, str], ctx: LeaseContext) -> Count:
        ctx.progress(percent=50)
        result: Count = self.result
        return result


async def test_a_model_comes_in_and_its_serializers_write_what_goes_out() -> None:
    assert (await run_handler(fetch, {"pageUrl": "url"})).output == "url"
    found = await run_handler(Worker(Fetched(status=200)).model, {"pageUrl": "url"})
    assert found.output == {"statusCode": 200, "share": 0.5}


async def test_a_method_runs_with_its_instance_in_the_loop_and_in_a_thread() -> None:
    assert (await run_handler(Worker(Count(3)).record, {"a": "b"})).output == {"number": 3}


async def test_L11_8_an_input_that_a_model_refuses_does_not_reach_its_handler() -> None:
    result = await run_handler(fetch, {"pageUrl": "u", "token": SECRET})
    assert result.code == "INPUT_SCHEMA_MISMATCH"
    assert SECRET not in repr(result)


@pytest.mark.parametrize(
    ("result", "code"),
    [
        ({"status": SECRET}, "OUTPUT_SCHEMA_MISMATCH"),
        (None, "OUTPUT_SCHEMA_MISMATCH"),
        (Fetched(status=200, share=math.nan), "OUTPUT_NOT_JSON"),
    ],
)
async def test_L11_9_a_wrong_output_of_a_model_handler_is_told(result: Any, code: str) -> None:
    assert (await run_handler(Worker(result).model, {"pageUrl": "url"})).code == code


@pytest.mark.parametrize(
    ("result", "code"),
    [(Count("3"), "OUTPUT_SCHEMA_MISMATCH"), (Count(object()), "OUTPUT_NOT_JSON")],  # type: ignore[arg-type]  # that is the mistake
)
async def test_L11_9_a_wrong_output_of_a_dataclass_handler_is_told(result: Any, code: str) -> None:
    assert (await run_handler(Worker(result).record, {})).code == code
