"""What `open_neuron` is given, checked before anything runs."""

from __future__ import annotations

import logging
import os
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from .abc import Broker, Transport
from .annotations import is_async
from .brokers.bigbrain import BigBrainBroker
from .capability import Capability
from .config import Limits, Timing
from .tokens import Auth
from .transports.http import HttpTransport

if TYPE_CHECKING:
    import httpx

__all__ = [
    "brokers_for",
    "capabilities_by_type",
    "check_functions",
    "checked_concurrency",
    "checked_neuron_id",
    "neuron_id_file",
]


def capabilities_by_type(capabilities: Sequence[Any]) -> dict[str, Capability[..., Any]]:
    """Return the capabilities by their type.

    Raises:
        ValueError: there is none, or a type occurs twice.
        TypeError: something that `@capability` did not make, or made of a method that is not an instance's, or of
            annotations that cannot be used.
    """
    found: dict[str, Capability[..., Any]] = {}
    for given in capabilities:
        if not isinstance(given, Capability):
            raise TypeError(f"capabilities: {_name(given)} was not made by @capability('namespace/name')")
        item = cast("Capability[..., Any]", given)
        item.resolve()
        kind = item.terms.type
        if item.is_unbound:
            raise TypeError(f"capabilities: {_name(item)} is a method without its instance; give {_of_instance(item)}")
        if kind in found:
            raise ValueError(f"capabilities: type {kind!r} occurs twice; each type has one handler")
        found[kind] = item
    if not found:
        raise ValueError("capabilities is empty; a neuron needs at least one function made by @capability")
    return found


def _name(item: Any) -> str:
    return str(getattr(item, "__name__", type(item).__name__))


def _of_instance(item: Capability[..., Any]) -> str:
    owner = item.function.__qualname__.rpartition(".")[0].rpartition(".")[2]
    return f"{owner or 'Class'}(...).{_name(item)}"


def checked_neuron_id(neuron_id: Any) -> str:
    """Return the id.

    Raises:
        ValueError: it is not text, or empty.
    """
    if not isinstance(neuron_id, str) or not neuron_id:
        raise ValueError("neuron_id must be a string that is not empty; neuron_id_file(path) makes one that stays")
    if any("\ud800" <= character <= "\udfff" for character in neuron_id):
        raise ValueError("neuron_id holds a lone surrogate, which cannot be sent; decode it from bytes as UTF-8")
    return neuron_id


def checked_concurrency(maximum: Any) -> int | None:
    """Return `max_concurrency`.

    Raises:
        ValueError: it is neither None nor a whole number above 0.
    """
    if maximum is None:
        return None
    if isinstance(maximum, bool) or not isinstance(maximum, int) or maximum < 1:
        raise ValueError(f"max_concurrency must be a whole number, 1 or more, or None, not {maximum!r}")
    return maximum


def check_functions(*, lifespan: Any, middleware: Any, on_event: Any) -> None:
    """Look at the functions that a neuron is given besides its handlers.

    Raises:
        TypeError: one is none, or would be called in vain.
    """
    if not isinstance(middleware, Sequence) or not all(map(callable, cast("Sequence[Any]", middleware))):
        raise TypeError("middleware must be a sequence of functions: async def middleware(ctx, call_next)")
    if lifespan is not None and not callable(lifespan):
        raise TypeError(
            "lifespan must be a function without arguments that returns an async context manager, or None; "
            "contextlib.asynccontextmanager makes one"
        )
    if on_event is not None and (not callable(on_event) or is_async(on_event)):
        raise TypeError("on_event must be a function of one event that is not `async def`, or None")


def brokers_for(
    gateway: Any,
    *,
    auth: Auth | None,
    http_client: httpx.AsyncClient | None,
    timing: Timing,
    limits: Limits,
    log: logging.Logger,
) -> list[Broker]:
    """Return the brokers that `gateway` means: a URL, a transport, a broker, or several brokers.

    Raises:
        TypeError: it is none of them, or `auth` or `http_client` comes with something that has its own.
        ValueError: the URL or a static token cannot be used.
    """
    if isinstance(gateway, str):
        http = HttpTransport(gateway, auth=auth, http_client=http_client, timing=timing, limits=limits, log=log)
        return [BigBrainBroker(http, timing=timing, log=log)]
    if auth is not None or http_client is not None:
        raise TypeError("auth and http_client go with a URL; a Transport or Broker is given its own")
    if isinstance(gateway, Transport):
        return [BigBrainBroker(gateway, timing=timing, log=log)]
    if isinstance(gateway, Broker):
        return [gateway]
    brokers: list[Any] = [*gateway] if isinstance(gateway, list | tuple) else []
    if brokers and all(isinstance(broker, Broker) for broker in brokers):
        return brokers
    raise TypeError("gateway must be a URL, a Transport, a Broker, or a sequence of Brokers")


def neuron_id_file(path: str | os.PathLike[str]) -> str:
    """Return the neuron id in a file; make one there the first time.

    Args:
        path: one line of text; its folder must exist.

    Raises:
        ValueError: the file has no id in it.
        OSError: it cannot be read or written.
    """
    file = Path(path)
    try:
        with file.open("x", encoding="utf-8") as fresh:
            fresh.write(f"neuron-{uuid.uuid4()}\n")
    except FileExistsError:
        pass
    found = file.read_text(encoding="utf-8").strip()
    if not found or "\n" in found:
        raise ValueError(f"{file} must hold one line with the neuron's id; delete it to have one made")
    return found
