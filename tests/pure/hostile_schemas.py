"""Judges the schemas and values of `hostile_cases` under limits on time, memory and what may be opened.

Run as a module, `python -m tests.pure.hostile_schemas HOST:PORT PATH`, it prints a line of JSON for each case, so that
a stall or a crash of an engine is a failed test and not the end of the test run. The arguments say where requests are
noticed. With `--table` instead it prints the table of the documentation.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable
from typing import Any

import fastjsonschema  # noqa: F401 - loaded at the first schema that needs it, and loading opens files
import jsonschema_rs  # noqa: F401 - as above

from neuron_anyio.schemas import InvalidSchema, SchemaCache, Validator, registered_validator
from tests.pure.hostile_cases import INVALID, LIMIT, VALID, VIOLATION, Case, Trap, cases, sections

CPU_SECONDS = 60
MEMORY = 3 << 30
"""Of address space, in bytes; the values alone have half a gigabyte."""

OPENING = frozenset(
    {"open", "socket.connect", "socket.getaddrinfo", "socket.sendto", "urllib.Request", "subprocess.Popen"}
)


def outcomes(case: Case) -> set[str]:
    """Judge a case from both sides; its outcomes, which should be one."""
    return {outcome for outcome, _ in judged(case)}


def judged(case: Case) -> list[tuple[str, str]]:
    """Judge a case from both sides; outcomes, each with all that is said but where in the value."""
    text = case.schema if isinstance(case.schema, bytes) else json.dumps(case.schema).encode()
    found = [_judge(SchemaCache().validator, text, case.value)]
    try:
        schema = json.loads(text)
    except (ValueError, RecursionError):
        return found  # nothing that an author could register
    return [*found, _judge(registered_validator, schema, case.value)]


def _judge(make: Callable[[Any], Validator], schema: Any, value: Any) -> tuple[str, str]:
    try:
        violation = make(schema).check(value)
    except InvalidSchema as exc:
        return INVALID, str(exc)
    if violation is None:
        return VALID, ""
    said = f"{violation.message} {violation.rule} {violation.schema_path}"
    return (LIMIT if violation.rule == "limit" else VIOLATION), said


def table() -> str:
    """Return the documentation's table as Markdown: a row for each case."""
    rows = [["case", "what happens", "bound"], ["---"] * 3]
    for title, section in sections().items():
        rows.append([f"**{title}**", "", ""])
        rows += [[name, case.outcome, section.bounds[case.outcome]] for name, case in section.cases.items()]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def main() -> None:
    if sys.argv[1:] == ["--table"]:
        print(table())
        return
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    host, path = sys.argv[1:]
    todo = cases(Trap(host, path))
    outcomes(Case({"type": "integer"}, "x", VIOLATION))  # what is imported late has been
    opened: list[str] = []
    sys.addaudithook(lambda event, _: opened.append(event) if event in OPENING else None)
    before = _peak_bytes()
    for name, case in todo.items():
        opened.clear()
        began = time.process_time()
        found = judged(case)
        line = {
            "name": name,
            "outcomes": sorted({outcome for outcome, _ in found}),
            "said": [said for _, said in found],
            "seconds": time.process_time() - began,
            "opened": opened,
            "bytes": _peak_bytes() - before,
        }
        print(json.dumps(line), flush=True)


def _peak_bytes() -> int:
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


if __name__ == "__main__":
    main()
