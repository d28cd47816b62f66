"""The page on host programs names what the code has."""

from __future__ import annotations

import re

from neuron_anyio.framing import HEAD_BYTES
from neuron_anyio.ipc_host import METHODS, PATHS
from neuron_anyio.jsonrpc import TOO_LARGE
from neuron_anyio.transports import ipc
from tests.docs.pages import DOCS, ROOT, rows_of, section_of

PAGE = DOCS / "desktop.md"


def test_the_protocol_of_the_page_is_that_of_the_code_and_of_the_host_in_node() -> None:
    text = section_of(PAGE, "The protocol")
    rows = rows_of(text)
    assert {row[1].strip("`") for row in rows if row[0] == "neuron"} == METHODS
    for sender, method, params, _ in rows:
        shown = ipc.__doc__ or ""
        assert f"{'->' if sender == 'neuron' else '<-'} {method.strip('`')} " in shown
        line = next(line for line in shown.splitlines() if f" {method.strip('`')} {{" in line)
        for name in re.findall(r"\w+", params):
            assert f'"{name}":' in line, (method, name)
    listed = next(line for line in text.split("\n- ") if "`path` is" in line).partition(";")[0]
    paths = set(re.findall(r"`([a-z-]+)`", listed)) - {"path"}
    assert paths == PATHS
    host = (ROOT / "examples" / "desktop_host" / "host.mjs").read_text(encoding="utf-8")
    assert set(re.findall(r'"([a-z-]+)"', host.partition("const PATHS = new Set([")[2].partition("]")[0])) == PATHS
    assert f"error {TOO_LARGE}" in text
    assert f"first {HEAD_BYTES // 1024} KiB" in text
