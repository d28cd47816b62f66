"""`neuron-anyio describe` shows what handlers take and give, whatever their types are made with."""

from __future__ import annotations

import json
from pathlib import Path

from tests.e2e.cli_child import call

MODULE = '''
from __future__ import annotations

import dataclasses

import msgspec
from pydantic import BaseModel, Field

from neuron_anyio import LeaseContext, capability


class Page(BaseModel):
    """What to fetch."""

    url: str = Field(alias="pageUrl", min_length=1)


@dataclasses.dataclass
class Found:
    status: int
    seen: list[str] = dataclasses.field(default_factory=list)


@capability("examples/model")
async def model(page: Page, ctx: LeaseContext) -> list[Page]: ...


@capability("examples/record")
async def record(found: Found | None) -> Found: ...


@capability("examples/later")
async def later(query: Query) -> int: ...


class Query(msgspec.Struct):
    text: str


class Worker:
    @capability("examples/method")
    def count(self, text: str) -> int: ...


count = Worker().count
'''


def test_describe_shows_the_schemas_of_every_kind_of_handler(tmp_path: Path) -> None:
    (tmp_path / "kinds.py").write_text(MODULE)
    done = call("describe", "kinds", "--json", cwd=tmp_path)
    shown = {each["type"]: (each["inputSchema"], each["outputSchema"]) for each in json.loads(done.stdout)}
    page, pages = shown["examples/model"]
    assert page["required"] == ["pageUrl"]
    assert page["description"] == "What to fetch."
    assert pages["items"] == {"$ref": "#/$defs/Page"}
    assert set(pages["$defs"]["Page"]["properties"]) == {"pageUrl"}
    maybe_found, found = shown["examples/record"]
    assert {"type": "null"} in maybe_found["anyOf"]
    assert found["$defs"]["Found"]["required"] == ["status"]
    assert shown["examples/later"][0]["$defs"]["Query"]["required"] == ["text"]
    assert shown["examples/method"] == ({"type": "string"}, {"type": "integer"})
