"""From a name to a connected socket, the address that answers first (RFC 8305, Happy Eyeballs).

anyio's own way to a connection ends in a stream whose socket belongs to the event loop; what is wanted here is the
socket itself.
"""

from __future__ import annotations

import ipaddress
import os
import socket
from collections.abc import Iterable
from contextlib import suppress
from itertools import chain, zip_longest
from typing import TypeAlias

import anyio

__all__ = ["dial"]

HEAD_START = 0.25
"""Seconds that an address has before the next one is tried beside it (RFC 8305, section 5)."""

Address: TypeAlias = tuple[socket.AddressFamily, tuple[str, int]]


async def dial(host: str, port: int) -> socket.socket:
    """Return a connected socket that does not block.

    Raises:
        OSError: unknown name, refused, unreachable; an ExceptionGroup as its cause where there were several addresses.
        ValueError: a name that no resolver can be asked for.
    """
    addresses = await _addresses(host, port)
    if not addresses:
        raise OSError("the name has no address")
    if len(addresses) == 1:
        return await _connect(addresses[0])
    failures: list[OSError] = []
    connected: list[socket.socket] = []
    try:
        await _race(addresses, connected, failures)
    except BaseException:  # a cancellation may cross the connection
        _close(connected)
        raise
    _close(connected[1:])
    if not connected:
        raise OSError("no address could be reached") from ExceptionGroup("each address", failures)
    return connected[0]


async def _race(addresses: list[Address], connected: list[socket.socket], failures: list[OSError]) -> None:
    async with anyio.create_task_group() as tries:

        async def attempt(address: Address, ended: anyio.Event) -> None:
            try:
                connected.append(await _connect(address))
            except OSError as exc:
                failures.append(exc)
            else:
                tries.cancel_scope.cancel()
            ended.set()

        for address in addresses:
            ended = anyio.Event()
            tries.start_soon(attempt, address, ended)
            with anyio.move_on_after(HEAD_START):
                await ended.wait()


def _close(sockets: Iterable[socket.socket]) -> None:
    for each in sockets:
        each.close()


async def _addresses(host: str, port: int) -> list[Address]:
    """Return a host's addresses, the families in turns, the resolver's favourite first."""
    try:
        literal = ipaddress.ip_address(host)
    except ValueError:
        found = await anyio.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    else:
        family = socket.AF_INET if literal.version == 4 else socket.AF_INET6  # noqa: PLR2004 - IPv4
        return [(family, (host, port))]
    families: dict[socket.AddressFamily, list[Address]] = {}
    for family, _, _, _, address in found:
        families.setdefault(family, []).append((family, address))
    in_turns = chain.from_iterable(zip_longest(*families.values()))
    return [address for address in in_turns if address is not None]


async def _connect(address: Address) -> socket.socket:
    family, place = address
    connecting = socket.socket(family, socket.SOCK_STREAM)
    try:
        connecting.setblocking(False)
        with suppress(BlockingIOError):
            connecting.connect(place)
        await anyio.wait_writable(connecting)
    except BaseException:  # a cancellation, too, must not leave the socket open
        connecting.close()
        raise
    if error := connecting.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
        connecting.close()
        raise OSError(error, os.strerror(error))
    return connecting
