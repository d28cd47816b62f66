"""How a handler tells the gateway that it has started. Needs nothing but Python, as the published SDK's environment."""

from __future__ import annotations

import socket

__all__ = ["say_started"]


def say_started(number: int, port: int) -> None:
    """Send the lease's number as a datagram to the gateway's port: the same from a loop, a thread and a process."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as said:
        said.sendto(str(number).encode(), ("127.0.0.1", port))
