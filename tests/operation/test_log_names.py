"""The names of log lines: the page's table and the code agree."""

from __future__ import annotations

import re
from typing import NamedTuple

import pytest

from neuron_anyio import events
from tests.docs.pages import DOCS, rows_of, section_of
from tests.operation.log_lines import LEASE, lines

PAGE = DOCS / "logging.md"


class Row(NamedTuple):
    """One row of the table."""

    event: str
    level: str
    fields: set[str]


def table() -> dict[str, Row]:
    rows = [
        Row(
            name.strip("`"),
            level,
            set(re.findall(r"`(\w+)`", fields)) | ({*LEASE, "origin"} if "the lease's" in fields else set()),
        )
        for name, level, fields, _ in rows_of(section_of(PAGE, "Lines by name"))
    ]
    found = {row.event: row for row in rows}
    assert len(found) == len(rows), "a name stands there twice"
    return found


def test_every_line_of_the_package_has_a_name() -> None:
    assert [line.place for line in lines() if line.event is None] == []


def test_the_page_has_every_name_and_no_other() -> None:
    by_handlers = {"handler.log"}
    assert {line.event for line in lines()} == table().keys() - by_handlers


@pytest.mark.parametrize("row", table().values(), ids=lambda row: row.event)
def test_level_and_fields_on_the_page_are_those_of_the_line(row: Row) -> None:
    same = [line for line in lines() if line.event == row.event]
    if same:
        assert set[str]().union(*(line.fields for line in same)) == row.fields
    assert {line.level.upper() for line in same} <= {row.level, ""}


def test_a_name_is_of_two_parts() -> None:
    assert [name for name in table() if not re.fullmatch(r"[a-z]+\.[a-z_]+", name)] == []


def test_the_names_of_the_published_sdks_are_shown_beside_ours() -> None:
    for there, here, event in rows_of(section_of(PAGE, "The names of the published SDKs' events")):
        name, kind = here.strip("`"), re.search(r"`([A-Z]\w+)`", event)
        assert there in {f"`{each}`" for each in ("error", "frame")} or name == there.strip("`").replace(":", ".")
        assert name in table() or name == "none"
        assert kind is None or hasattr(events, kind[1])
