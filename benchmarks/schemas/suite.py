"""Runs the official test suite of JSON Schema: `python -m benchmarks.schemas.suite FOLDER`.

The folder is the suite's own, with `tests/` and `remotes/` in it. Every required test of the drafts that we know is run
twice: with its schema as an author's, which may become generated code, and as one from the wire. Documents that a
schema refers to are put into it (`bundle`), so that nothing is fetched. The process ends with an error when a test
fails.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from neuron_anyio.schemas import InvalidSchema, Validator, registered_validator, wire_validator

from .bundle import bundle

__all__ = ["DRAFTS", "Draft", "Tally", "run", "table"]

REMOTE: Final = "http://localhost:1234/"
"""Where the suite takes its remote documents to be served."""


class Draft(msgspec.Struct, frozen=True):
    """One draft, as the suite and as schemas call it."""

    folder: str
    uri: str
    is_old: bool = True
    id_keyword: str = "$id"


DRAFTS: Final = (
    Draft("draft4", "http://json-schema.org/draft-04/schema#", id_keyword="id"),
    Draft("draft6", "http://json-schema.org/draft-06/schema#"),
    Draft("draft7", "http://json-schema.org/draft-07/schema#"),
    Draft("draft2019-09", "https://json-schema.org/draft/2019-09/schema", is_old=False),
    Draft("draft2020-12", "https://json-schema.org/draft/2020-12/schema", is_old=False),
)


class _Test(msgspec.Struct, frozen=True):
    description: str
    data: Any
    valid: bool


class _Group(msgspec.Struct, frozen=True):
    description: str
    schema: dict[str, Any] | bool
    tests: list[_Test]


class Tally(msgspec.Struct):
    """How a draft went.

    Attributes:
        draft: The suite's folder.
        tests: How many there are.
        passed: Right on both sides.
        generated: Of these, those whose schema as an author's has become generated code.
        bundled: Of all, those whose schema needed other documents.
        failures: What went wrong, a line for each test and side.
    """

    draft: str
    tests: int = 0
    passed: int = 0
    generated: int = 0
    bundled: int = 0
    failures: list[str] = msgspec.field(default_factory=list[str])


def run(folder: Path, draft: Draft) -> Tally:
    """Run the required tests of one draft."""
    remotes = _remotes(folder)
    tally = Tally(draft.folder)
    for path in sorted((folder / "tests" / draft.folder).glob("*.json")):  # not what is below, in `optional`
        for group in msgspec.json.decode(path.read_bytes(), type=list[_Group]):
            for complaint in _run_group(group, remotes, draft, tally):
                tally.failures.append(f"{draft.folder}/{path.name}: {group.description}: {complaint}")
    return tally


def _remotes(folder: Path) -> dict[str, dict[str, Any]]:
    home = folder / "remotes"
    found = {
        REMOTE + path.relative_to(home).as_posix(): msgspec.json.decode(path.read_bytes())
        for path in home.rglob("*.json")
    }
    return {address: document for address, document in found.items() if isinstance(document, dict)}


def _run_group(group: _Group, remotes: Mapping[str, dict[str, Any]], draft: Draft, tally: Tally) -> Iterator[str]:
    """Count the tests of one schema; yields what goes wrong."""
    named = group.schema if isinstance(group.schema, bool) else {"$schema": draft.uri, **group.schema}
    schema = named
    if not isinstance(named, bool):
        schema = bundle(named, remotes, is_old=draft.is_old, id_keyword=draft.id_keyword)
    tally.tests += len(group.tests)
    tally.bundled += len(group.tests) if schema is not named else 0
    try:
        sides = {"author": registered_validator(schema), "wire": wire_validator(msgspec.json.encode(schema))}
    except InvalidSchema as exc:
        yield f"all {len(group.tests)} tests: refused: {exc}"
        return
    is_generated = type(sides["author"]).__name__ == "_Generated"
    for test in group.tests:
        wrong = [side for side, validator in sides.items() if _is_wrong(validator, test)]
        tally.passed += not wrong
        tally.generated += is_generated and not wrong
        yield from (f"{test.description}: the {side}'s validator says otherwise" for side in wrong)


def _is_wrong(validator: Validator, test: _Test) -> bool:
    violation = validator.check(test.data)
    return (violation is None) != test.valid or (violation is not None and violation.rule == "limit")


def table(tallies: Sequence[Tally]) -> str:
    """Return the table of the documentation, as Markdown."""
    total = Tally("**in all**")
    for tally in tallies:
        for count in ("tests", "passed", "generated", "bundled"):
            setattr(total, count, getattr(total, count) + getattr(tally, count))
    rows = [
        ["draft", "tests", "passed on both sides", "of these by generated code", "with other documents inside"],
        ["---", *["---:"] * 4],
        *(
            [tally.draft, *(f"{count:,}" for count in (tally.tests, tally.passed, tally.generated, tally.bundled))]
            for tally in (*tallies, total)
        ),
    ]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def main() -> None:
    """Read the arguments, run, print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.schemas.suite", description=__doc__)
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="of the suite, with `tests` and `remotes` in it")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers and failures, too")
    options = parser.parse_args()
    tallies = [run(options.folder, draft) for draft in DRAFTS]
    if options.json:
        options.json.write_bytes(msgspec.json.format(msgspec.json.encode(tallies)))
    failures = [failure for tally in tallies for failure in tally.failures]
    print(*failures, table(tallies), sep="\n")
    if failures or not all(tally.tests for tally in tallies):
        sys.exit(f"{len(failures)} failures; drafts without a test: {[t.draft for t in tallies if not t.tests]}")


if __name__ == "__main__":
    main()
