"""What a neuron does not import: each of these costs every start of every worker some milliseconds."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

FOREIGN = {"asyncio": "trio", "trio": "asyncio"}
"""The loop that a program has not chosen."""

UNUSED = {
    "httpx": "our own connections need none of it",
    "httpcore": "as above",
    "rich": "what httpx brings for its command",
    "jsonschema_rs": "judges by schemas, and none has come yet",
    "fastjsonschema": "as above",
    "pydantic": "for annotations of its types",
    "sqlite3": "for a journal",
    "opentelemetry": "for telemetry",
    "multiprocessing": "for handlers in a process of a program that defines them itself",
    "http.server": "for probes",
    "starlette": "the gateway's",
    "hypercorn": "as above",
    "click": "the command's",
    "watchfiles": "as above",
    "cryptography": "for keys",
    "hypothesis": "for tests",
    "pytest": "as above",
}
"""What a worker with one typed handler has no use for on its way to the first lease."""

WORKER = """
import sys
import anyio, msgspec
from neuron_anyio import LeaseContext, capability, open_neuron

class Text(msgspec.Struct):
    text: str

@capability("examples/text.count", concurrency=8, lease_ttl=60.0)
async def count(text: Text, ctx: LeaseContext) -> Text:
    return text

async def main(url):
    async with open_neuron(url, neuron_id="worker-1", capabilities=[count]):
        print(*sys.modules)

anyio.run(main, sys.argv[2], backend=sys.argv[1])
"""


class _Gateway(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.end_headers()
        self.wfile.write(b'data: {"type":"registered","sessionId":"s","capabilities":[],"acceptedAt":')
        self.wfile.write(b'"2026-01-01T00:00:00Z"}\n\n')
        self.rfile.read(1)  # to the end of the neuron
        self.close_connection = True

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base's signature
        pass


@pytest.fixture(scope="module")
def gateway() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Gateway) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_neuron_that_has_registered_has_imported_nothing_that_it_has_no_use_for(backend: str, gateway: str) -> None:
    ran = subprocess.run(
        [sys.executable, "-c", WORKER, backend, gateway],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert ran.returncode == 0, ran.stderr
    loaded = set(ran.stdout.split())
    assert backend in loaded
    assert loaded & {FOREIGN[backend], *UNUSED} == set()
