"""The command `neuron-anyio`: a worker, a gateway and a caller from the shell. Needs the extra `cli`.

Imported by every call, so nothing here or in the verbs imports trio, httpx, starlette or rich before it is needed.
"""

from __future__ import annotations

import sys

__all__ = ["main"]

EXTRA = frozenset({"click", "hypercorn", "rich", "starlette"})
"""What the extra brings beyond the library."""

INTERRUPTED = 130


def main() -> int:
    """Run the command line of this process and return its exit code."""
    try:
        from .main import run_command  # noqa: PLC0415 - click may be missing

        return run_command(sys.argv[1:])
    except KeyboardInterrupt:  # while the verbs are imported; later each has a handler of its own
        return INTERRUPTED
    except ImportError as exc:
        missing = _missing_extra(exc)
        if missing is None:
            sys.stderr.write(f"error: {type(exc).__name__}: {exc}\n")
            return 1
        sys.stderr.write(f"error: {missing} is missing; run: pip install 'neuron-anyio[cli]'\n")
        return 2


def _missing_extra(error: BaseException | None) -> str | None:
    """Return which package of the extra was not there to import, None when it is something else."""
    while error is not None:
        package = (getattr(error, "name", None) or "").partition(".")[0]
        if isinstance(error, ModuleNotFoundError) and package in EXTRA:
            return package
        error = error.__cause__
    return None
