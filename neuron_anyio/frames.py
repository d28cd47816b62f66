"""The documents of BigBrain's wire as frozen structs (wire specification, sections 2 and 3).

One class for each frame, members in the order in which they go onto the wire. A struct says what a frame *is*;
turning bytes into one, and saying what is wrong with bytes that are none, is `codec`'s work.

Free-form values (`input`, `output`, `details`, `data` and the two schemas) stay undecoded `msgspec.Raw`: only the
one who knows their type decodes them, once. A `Raw` that came out of a document keeps the whole document in memory;
whoever holds one for longer takes `raw.copy()`, or `bytes(raw)`.
"""

from __future__ import annotations

import re
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

import msgspec
from msgspec import Meta, Raw
from msgspec.structs import force_setattr

__all__ = [
    "CAPABILITY_TYPE",
    "LEASE_TTL_MS",
    "PROTOCOL_VERSION",
    "Ack",
    "Cancel",
    "CapabilityOffer",
    "CapabilityRevoked",
    "Disconnect",
    "Frame",
    "Heartbeat",
    "InFlight",
    "Lease",
    "LeaseBody",
    "Nack",
    "NackKind",
    "NeuronFrame",
    "OnBehalfOf",
    "Progress",
    "Register",
    "Registered",
    "Scope",
    "ServerFrame",
    "Task",
    "UpdateCapability",
    "json_schema",
]

PROTOCOL_VERSION = "1.0.0"

CAPABILITY_TYPE = re.compile(r"^[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)+$(?!\n)", re.ASCII)
"""Two or more segments joined by slashes. Anchored at both ends, so `match` is enough; the look-ahead is there for
Python's `$`, which would let a final line end pass."""

LEASE_TTL_MS = (1000, 3_600_000)
"""Smallest and largest `leaseTtlMs`, both allowed."""

# What json_schema() can say about a timestamp. The decoder itself also knows how many days a month has.
_RFC_3339 = (
    r"^[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])[Tt ]([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\.[0-9]+)?"
    r"([Zz]|[+-]([01][0-9]|2[0-3]):?[0-5][0-9])$"
)

# Members that a repr may show. A list of what is allowed, so that a member added later is hidden until it is named.
_SHOWN = frozenset(
    {
        "attempt",
        "capabilities",
        "capability",
        "concurrency",
        "in_flight",
        "kind",
        "lease",
        "lease_id",
        "neuron_id",
        "on_behalf_of",
        "scope",
        "session_id",
        "task",
        "task_id",
        "type",
        "workflow_id",
    }
)

_NULL = Raw(b"null")

_Text: TypeAlias = Annotated[str, Meta(min_length=1)]
_CapabilityType: TypeAlias = Annotated[str, Meta(pattern=CAPABILITY_TYPE.pattern)]
_Timestamp: TypeAlias = Annotated[datetime, Meta(tz=True, extra_json_schema={"pattern": _RFC_3339})]

if TYPE_CHECKING:
    _OptionalRaw: TypeAlias = Raw | None
else:
    _OptionalRaw = Raw  # msgspec reads `Raw | None` as "null only"; __post_init__ turns a null into None instead


class _Document(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """An object of the wire: camelCase members, null optionals left out, nothing confidential in its repr."""

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        """Return the members that may be shown (promise C9)."""
        return [(name, getattr(self, name)) for name in self.__struct_fields__ if name in _SHOWN]

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={value!r}" for name, value in self.__rich_repr__())
        return f"{self.__class__.__name__}({shown})"


class Frame(_Document, frozen=True, tag_field="type"):
    """Base of all frames."""

    @property
    def type(self) -> str:
        """The wire's name of this kind of frame, like `update-capability`."""
        return str(self.__struct_config__.tag)


class OnBehalfOf(_Document, frozen=True):
    """Scope of a capability that serves the tasks of one user only."""

    on_behalf_of: _Text


Scope: TypeAlias = Literal["any"] | OnBehalfOf

NackKind: TypeAlias = Literal["retryable", "terminal", "schema-mismatch", "cancelled"]


class CapabilityOffer(_Document, frozen=True):
    """One capability as it is announced and granted (section 3.1)."""

    type: _CapabilityType
    scope: Scope
    concurrency: Annotated[int, Meta(gt=0)]
    lease_ttl_ms: Annotated[int, Meta(ge=LEASE_TTL_MS[0], le=LEASE_TTL_MS[1])] | None = None


class InFlight(_Document, frozen=True, kw_only=True):
    """A lease that the neuron holds, in a heartbeat."""

    lease_id: _Text
    task_id: _Text
    started_at: _Timestamp


class Task(_Document, frozen=True, kw_only=True):
    """What is to be done. `input` may be the JSON null, but is never absent."""

    task_id: _Text
    workflow_id: _Text
    capability: _CapabilityType
    on_behalf_of: _Text | None = None
    input: Raw
    attempt: Annotated[int, Meta(ge=0)]
    metadata: dict[str, Any] | None = None


class LeaseBody(_Document, frozen=True, kw_only=True):
    """One delivery of a task. A schema that is absent or null is None; `{}` and `false` are schemas."""

    lease_id: _Text
    expires_at: _Timestamp
    task: Task
    input_schema: _OptionalRaw = None
    output_schema: _OptionalRaw = None

    def __post_init__(self) -> None:
        if self.input_schema == _NULL:
            force_setattr(self, "input_schema", None)
        if self.output_schema == _NULL:
            force_setattr(self, "output_schema", None)


class Register(Frame, frozen=True, kw_only=True, tag="register"):
    """The neuron's complete offer. Capability types are unique within the frame (checked by the decoder)."""

    neuron_id: _Text
    protocol_version: _Text
    capabilities: Annotated[tuple[CapabilityOffer, ...], Meta(min_length=1)]


class UpdateCapability(Frame, frozen=True, kw_only=True, tag="update-capability"):
    """A capability anew: the complete object, not a patch."""

    neuron_id: _Text
    capability: CapabilityOffer


class Heartbeat(Frame, frozen=True, kw_only=True, tag="heartbeat"):
    """Sign of life that renews the leases that it names."""

    neuron_id: _Text
    in_flight: tuple[InFlight, ...]
    sent_at: _Timestamp


class Ack(Frame, frozen=True, kw_only=True, tag="ack", omit_defaults=False):
    """A task done. A null `output` is sent, and an absent one is read as null (section 2.2)."""

    lease_id: _Text
    output: Raw = msgspec.field(default_factory=lambda: _NULL)
    completed_at: _Timestamp


class Nack(Frame, frozen=True, kw_only=True, tag="nack"):
    """A task not done, and what that means for it. Null `details` are None."""

    lease_id: _Text
    kind: NackKind
    reason: _Text
    code: str | None = None
    details: _OptionalRaw = None
    failed_at: _Timestamp

    def __post_init__(self) -> None:
        if self.details == _NULL:
            force_setattr(self, "details", None)


class Progress(Frame, frozen=True, kw_only=True, tag="progress"):
    """How far a running task has come; `percent` is 0 to 100. Null `data` is None."""

    lease_id: _Text
    percent: Annotated[float, Meta(ge=0, le=100)] | None = None
    message: str | None = None
    data: _OptionalRaw = None
    sent_at: _Timestamp

    def __post_init__(self) -> None:
        if self.data == _NULL:
            force_setattr(self, "data", None)


class Registered(Frame, frozen=True, kw_only=True, tag="registered"):
    """What the gateway granted, which may be less than was offered, or nothing."""

    session_id: _Text
    capabilities: tuple[CapabilityOffer, ...]
    accepted_at: _Timestamp


class Lease(Frame, frozen=True, kw_only=True, tag="lease"):
    """A task for this neuron."""

    lease: LeaseBody
    sent_at: _Timestamp


class Cancel(Frame, frozen=True, kw_only=True, tag="cancel"):
    """A lease called off."""

    lease_id: _Text
    reason: _Text
    cancelled_at: _Timestamp


class CapabilityRevoked(Frame, frozen=True, kw_only=True, tag="capability-revoked"):
    """A grant taken back."""

    capability: _CapabilityType
    reason: _Text
    revoked_at: _Timestamp


class Disconnect(Frame, frozen=True, kw_only=True, tag="disconnect"):
    """The gateway's goodbye; with `reconnectable` false it is for good."""

    reason: _Text
    code: str | None = None
    reconnectable: bool
    sent_at: _Timestamp


NeuronFrame: TypeAlias = Register | UpdateCapability | Heartbeat | Ack | Nack | Progress
ServerFrame: TypeAlias = Registered | Lease | Cancel | CapabilityRevoked | Disconnect


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of all frames.

    The document itself accepts every frame; `$defs` has each frame by its class's name, and `NeuronFrame` and
    `ServerFrame` for one direction. Unknown members are allowed. What the language cannot say is left to the decoder:
    that capability types are unique in a `register`, and that a day exists in its month.
    """
    (neuron, server), definitions = msgspec.json.schema_components(
        [NeuronFrame, ServerFrame], ref_template="#/$defs/{name}"
    )
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"BigBrain neuron protocol {PROTOCOL_VERSION}",
        "anyOf": [{"$ref": "#/$defs/NeuronFrame"}, {"$ref": "#/$defs/ServerFrame"}],
        "$defs": {"NeuronFrame": neuron, "ServerFrame": server, **definitions},
    }
