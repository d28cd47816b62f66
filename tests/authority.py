"""The one authority that tests trust, in place of the world's, and what they trusted before.

Whoever makes an HTTP client or a TLS context reads the file of all authorities: twenty milliseconds of a processor, and
the tests and their processes make thousands. None of them but those of `E2E_NETWORK` asks a server out there.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import trustme

__all__ = ["outside", "trust_no_other"]

_OUTSIDE = os.environ.get("SSL_CERT_FILE")


def trust_no_other(folder: Path) -> None:
    """Let this process, and those that it starts, trust an authority that has signed nothing."""
    path = folder / "authority.pem"
    trustme.CA().cert_pem.write_to_path(path)
    os.environ["SSL_CERT_FILE"] = str(path)


def outside(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return an environment for what asks servers out there."""
    kept = {name: value for name, value in environment.items() if name != "SSL_CERT_FILE"}
    return kept if _OUTSIDE is None else {**kept, "SSL_CERT_FILE": _OUTSIDE}
