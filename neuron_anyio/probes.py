"""An HTTP server in a thread of its own, for questions that must be answered while the event loop does not turn."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from typing import Any, Final

from .metrics import CONTENT_TYPE

__all__ = ["ProbeServer"]

REQUEST: Final = 5.0
"""Seconds that a client may take for its request."""

POLL: Final = 0.05
"""Seconds after which the thread sees that it is to end."""


class ProbeServer:
    """Answers `GET` and `HEAD` until it is closed.

    Args:
        answer: path to HTTP status and text; called in any thread.
        host: an address of this machine, `""` for every IPv4 address.
        port: 0 for a free one.

    Attributes:
        port: where it listens.

    Raises:
        OSError: it cannot listen there.
    """

    __slots__ = ("_server", "_thread", "port")

    def __init__(self, answer: Callable[[str], tuple[int, str]], host: str, port: int) -> None:
        class Answer(_Answer):
            answer_to = staticmethod(answer)

        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._server = (_Server6 if family == socket.AF_INET6 else _Server)((host, port), Answer)
        self.port: int = int(self._server.server_address[1])
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(POLL,), name="neuron probes", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """Stop listening, and wait until the thread has ended."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def server_bind(self) -> None:
        """Bind, and ask no name server what this machine is called, as the base does: it may take long to answer."""
        TCPServer.server_bind(self)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: a probe that goes away is no news."""


class _Server6(_Server):
    address_family = socket.AF_INET6


class _Answer(BaseHTTPRequestHandler):
    timeout = REQUEST
    answer_to: Callable[[str], tuple[int, str]]

    def do_GET(self) -> None:
        status, text = self.answer_to(self.path.partition("?")[0])
        body = text.encode() if text.endswith("\n") else f"{text}\n".encode()
        self.send_response(status)
        self.send_header("Content-Type", CONTENT_TYPE)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    do_HEAD = do_GET  # noqa: N815 - the base's name

    def version_string(self) -> str:
        return "neuron-anyio"

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base's name
        """Say nothing: probes come every few seconds."""
