"""What can go wrong, as types.

Two families that never mix. `NeuronError` and its children come *out* of the package: the neuron, its gateway or
the road between them failed. `TerminalFailure` and `RetryableFailure` go *into* it: a handler raises them to say
how its task failed. A handler that catches `NeuronError` therefore never swallows its own verdict.
"""

from __future__ import annotations

from typing import Any

__all__ = [
    "AuthenticationFailed",
    "CredentialRevoked",
    "FrameError",
    "GatewayDisconnected",
    "HandlerCancelled",
    "JournalError",
    "NeuronError",
    "RegistrationRejected",
    "RetryableFailure",
    "StreamRefused",
    "TerminalFailure",
    "TransportError",
]


class NeuronError(Exception):
    """Base of every error that this package raises on its own account.

    `ValueError`, `TypeError` and `KeyError` are raised instead where an argument is wrong: they are the caller's to
    mend before anything runs.
    """


class RegistrationRejected(NeuronError):
    """The gateway will not have this neuron: wrong URL, namespace, frame or a neuron id that stays taken.

    You get `AuthenticationFailed` instead when the gateway did not even look because the token was refused, and
    `GatewayDisconnected` when it had accepted the neuron and sent it away later.

    Attributes:
        status: HTTP status of the refusal.
    """

    def __init__(self, message: str, *, status: int) -> None:
        super().__init__(message)
        self.status = status


class AuthenticationFailed(NeuronError):
    """No token was ever accepted (401 before the first acceptance).

    You get `CredentialRevoked` instead when the token source itself says that there will be no more tokens. After a
    first acceptance a 401 is an outage and is retried.
    """


class CredentialRevoked(NeuronError):
    """Raised by a token source: this neuron's credential is gone for good. Ends the neuron, is never retried."""


class GatewayDisconnected(NeuronError):
    """The gateway sent `disconnect` with `reconnectable: false`.

    You get no error at all for a stream that merely ends: the neuron reconnects.

    Attributes:
        code: the frame's `code`, or None.
    """

    def __init__(self, message: str, *, code: str | None = None) -> None:
        super().__init__(message)
        self.code = code


class JournalError(NeuronError):
    """The journal file is held by another process, is another neuron's, is not a journal, or cannot be written."""


class FrameError(NeuronError):
    """A document breaks the wire's specification. The message names the member and the rule, never the value.

    Attributes:
        frame_type: the document's `type` where it could be read.
        field: dotted path of the offending member, `""` for the document itself.
    """

    def __init__(self, message: str, *, frame_type: str | None = None, field: str = "") -> None:
        super().__init__(message)
        self.frame_type = frame_type
        self.field = field


class TransportError(NeuronError):
    """A request or a stream failed on the way: refused, reset, timed out, cut off, not HTTP.

    Inside a running neuron these are retried; callers of `GatewayClient` and authors of transports see them.

    Attributes:
        retry_after: seconds that the other side asked to wait, or None.
        is_final: whether nothing will ever go this way again; what is to be sent is then not tried again.
    """

    def __init__(self, message: str, *, retry_after: float | None = None, is_final: bool = False) -> None:
        super().__init__(message)
        self.retry_after = retry_after
        self.is_final = is_final


class StreamRefused(TransportError):
    """The gateway answered the request for its stream with something else.

    Attributes:
        status: HTTP status of the answer.
    """

    def __init__(self, message: str, *, status: int, retry_after: float | None = None) -> None:
        super().__init__(message, retry_after=retry_after)
        self.status = status


class TerminalFailure(Exception):
    """Raise in a handler: this task can never succeed. Settles the lease at once (promise L11.2).

    Args:
        reason: one line for people; sent to the gateway.
        code: machine-readable, default `HANDLER_TERMINAL`.
        details: any JSON value.
    """

    def __init__(self, reason: str = "", *, code: str | None = None, details: Any = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.code = code
        self.details = details


class RetryableFailure(Exception):
    """Raise in a handler: this try failed, another may succeed (promise L11.3).

    Any other exception is retryable too; this one carries a code and a wish for when.

    Args:
        reason: one line for people; sent to the gateway.
        code: machine-readable, default `HANDLER_RETRY`.
        after: seconds to wait before the next try, or None.
    """

    def __init__(self, reason: str = "", *, code: str | None = None, after: float | None = None) -> None:
        super().__init__(reason)
        if after is not None and not 0 <= after < float("inf"):
            raise ValueError(f"after must be a finite number of seconds, 0 or more, not {after!r}")
        self.reason = reason
        self.code = code
        self.after = after


class HandlerCancelled(BaseException):
    """Raised by `LeaseContext.check_cancelled()` so that a thread unwinds when its lease was cancelled.

    A `BaseException`, as every cancellation is: `except Exception` does not stop it.
    """
