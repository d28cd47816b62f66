"""From lease frames to deliveries: what is kept of a frame while its lease waits."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from neuron_anyio.brokers._bigbrain_wire import SHARED_BYTES, delivery_of
from neuron_anyio.codec import decode_server_frame
from neuron_anyio.frames import Lease
from neuron_anyio.model import Delivery


def received(number: int, **schemas: Any) -> Delivery:
    task = {"taskId": f"t{number}", "workflowId": "w", "capability": "core/echo", "input": [number], "attempt": 0}
    lease = {"leaseId": f"l{number}", "expiresAt": "2026-05-09T12:01:00Z", "task": task, **schemas}
    document = {"type": "lease", "lease": lease, "sentAt": "2026-05-09T12:00:00Z"}
    frame = decode_server_frame(msgspec.json.encode(document))
    assert isinstance(frame, Lease)
    return delivery_of(frame)


def test_deliveries_with_the_same_schemas_share_one_copy_of_each() -> None:
    schemas = {"inputSchema": {"title": "shared input"}, "outputSchema": {"title": "shared output"}}
    one, two = received(1, **schemas), received(2, **schemas)
    assert one.input_schema == b'{"title":"shared input"}'
    assert one.output_schema == b'{"title":"shared output"}'
    assert two.input_schema is one.input_schema
    assert two.output_schema is one.output_schema


def test_a_schema_that_is_longer_than_schemas_are_is_not_kept_for_others() -> None:
    schema = {"title": "x" * SHARED_BYTES}
    one, two = received(1, inputSchema=schema), received(2, inputSchema=schema)
    assert one.input_schema == two.input_schema
    assert one.input_schema is not two.input_schema


@pytest.mark.parametrize("schema", [False, True, {}])
def test_schemas_that_say_little_come_through(schema: Any) -> None:
    assert received(1, inputSchema=schema).input_schema == msgspec.json.encode(schema)
    assert received(1, inputSchema=None).input_schema is None
