"""What goes wrong on the page on troubleshooting, done for real: one function for each of its sections, in their order.

Each does what its section is about and ends; the log is looked at by who called it. What others than the neuron would
say, such as the command line or a caller, is added to `Scene.said`.
"""

from __future__ import annotations

import time
from contextlib import suppress
from typing import Any

import anyio
import anyio.from_thread
import msgspec
import pytest

from neuron_anyio import (
    GatewayDisconnected,
    LeaseContext,
    Limits,
    NeuronError,
    capability,
    frames,
    on_behalf_of,
)
from neuron_anyio.auth import token_file
from neuron_anyio.brokers import _bigbrain_answers
from neuron_anyio.gateway import Principal, open_gateway
from neuron_anyio.model import Failed
from neuron_anyio.testing import open_fault_gateway, run_handler
from tests.docs.scene import (
    COMMAND,
    COUNT,
    QUICK,
    Scene,
    count,
    neuron_at,
    one_task,
    process_at,
    refused,
    sleeper,
    symptom,
)
from tests.docs.terminals import environment_of

# Nothing comes


@symptom("Nothing is leased, though the neuron is connected")
async def nothing_is_leased(scene: Scene) -> None:
    async with open_gateway() as gateway, neuron_at(gateway.url):
        for arguments in (["examples/text.counts", "0"], [COUNT, "0", "--on-behalf-of", "u-1"]):
            command = [COMMAND, "submit", *arguments, "--wait", "--gateway-url", gateway.url]
            ended = await anyio.run_process(command, check=False, env=environment_of(scene.folder))
            scene.said += ended.stderr.decode().splitlines()


@symptom("A capability is not granted")
async def not_granted(scene: Scene) -> None:
    async with open_gateway() as gateway:
        await gateway.revoke(COUNT)
        async with neuron_at(gateway.url):
            await scene.wait_for("did not grant")


@symptom("The registration is refused with 403")
async def forbidden(scene: Scene) -> None:
    access = {
        "for-acme": Principal("acme", namespaces=("org/acme",)),
        "for-one": Principal("desktop", user="u-1"),
    }
    async with open_gateway(auth=access) as gateway:
        await refused(gateway.url, auth="for-acme")
        await refused(gateway.url, count.with_options(scope=on_behalf_of("u-2")), auth="for-one")


@symptom("The neuron ends with 404 or 400")
async def wrong_url(scene: Scene) -> None:
    async with open_gateway() as gateway:
        await refused(f"{gateway.url}/api")
        scene.patch.setattr(frames, "PROTOCOL_VERSION", "2.0.0")
        await refused(gateway.url)


@symptom("The token is refused with 401")
async def unauthorized(scene: Scene) -> None:
    async with open_gateway(auth="right") as gateway:
        await refused(gateway.url, auth="wrong")
        await refused(gateway.url)
        (scene.folder / "token").write_text("")
        with anyio.move_on_after(0.3):
            async with neuron_at(gateway.url, auth=token_file(scene.folder / "token")):
                raise AssertionError("it was let in")
        await scene.wait_for("is empty")


@symptom("The neuron's id is taken (409), or two neurons push each other out")
async def id_is_taken(scene: Scene) -> None:
    scene.patch.setattr(_bigbrain_answers, "CONFLICT_FOR", 0.3)
    access = {"one": Principal("one"), "two": Principal("two")}
    async with open_gateway(auth=access) as gateway:
        async with neuron_at(gateway.url, auth="one"):
            await refused(gateway.url, auth="two")
        with suppress(GatewayDisconnected):
            async with neuron_at(gateway.url, auth="one"), neuron_at(gateway.url, auth="one"):
                await anyio.sleep_forever()


@symptom("The neuron reconnects again and again")
async def reconnects(scene: Scene) -> None:
    async with open_fault_gateway("connection.flapping") as gateway:
        with anyio.move_on_after(1.0):
            async with neuron_at(gateway.url):
                await scene.wait_for("(attempt 3)")
    with anyio.move_on_after(0.5):
        async with neuron_at(gateway.url):
            raise AssertionError("nobody listens there")


@symptom("The stream is open and silent")
async def silent(scene: Scene) -> None:
    async with open_fault_gateway("connection.half-open") as gateway:
        gateway.submit(COUNT, "a b")
        timing = msgspec.structs.replace(QUICK, stream_idle=1.0)
        async with neuron_at(gateway.url, timing=timing):
            await scene.wait_for("nothing came for")
    for fault, word in (("stream.html", "content type"), ("answer.stream.gzip", "content-encoding")):
        async with open_fault_gateway(fault) as gateway, neuron_at(gateway.url):
            await scene.wait_for(word)


@symptom("The gateway sends the neuron away")
async def sent_away(scene: Scene) -> None:
    async with open_gateway() as gateway:
        with pytest.raises(NeuronError):
            async with neuron_at(gateway.url):
                await gateway.disconnect("worker-1", "this version is too old", reconnectable=False)
                await anyio.sleep_forever()
    assert scene.lines()


# Handlers


@symptom("A handler blocks the event loop")
async def blocked(scene: Scene) -> None:
    @capability(COUNT)
    async def block(text: str) -> int:
        time.sleep(1.3)  # noqa: ASYNC251 - the symptom
        return len(text)

    async with open_gateway() as gateway, neuron_at(gateway.url, block):
        await one_task(gateway, "a b", scene)


@symptom("A lease runs out while its handler runs")
async def ran_out(scene: Scene) -> None:
    timing = msgspec.structs.replace(QUICK, drain=0.0)
    short = "lease.expired-in-queue"  # gives the second of two leases 0.3 s
    async with open_fault_gateway(short) as gateway, neuron_at(gateway.url, sleeper(concurrency=2), timing=timing):
        for _ in range(2):
            gateway.submit(COUNT, "a b")
        await gateway.wait_for(lambda: gateway.requests["heartbeat"] > 0)
        gateway.begin_fault("answer.heartbeat.401-always")
        await scene.wait_for("ran out", "no time left")


@symptom("Tasks fail with INPUT_SCHEMA_MISMATCH")
async def input_mismatch(scene: Scene) -> None:
    async with open_gateway() as gateway, neuron_at(gateway.url):
        await one_task(gateway, 7, scene)


@symptom("Tasks fail with OUTPUT_SCHEMA_MISMATCH")
async def output_mismatch(scene: Scene) -> None:
    @capability(COUNT)
    async def wrong(text: str) -> int:
        return text  # type: ignore[return-value]  # the symptom

    async with open_gateway() as gateway, neuron_at(gateway.url, wrong):
        await one_task(gateway, "a b", scene)


@symptom("Tasks fail with OUTPUT_NOT_JSON or OUTPUT_TOO_LARGE")
async def output_not_json(scene: Scene) -> None:
    @capability(COUNT)
    async def odd(kind: str) -> Any:
        return object() if kind == "object" else "x" * 2_000

    limits = Limits(output_bytes=1_000)
    async with open_gateway() as gateway, neuron_at(gateway.url, odd, limits=limits):
        await one_task(gateway, "object", scene)
        await one_task(gateway, "large", scene)


@symptom("Tasks fail with HANDLER_THREW, and there is no traceback")
async def threw(scene: Scene) -> None:
    @capability(COUNT)
    async def broken(text: str) -> int:
        return int(text)

    async with open_gateway() as gateway, neuron_at(gateway.url, broken):
        await one_task(gateway, "seven", scene)


@symptom("Tasks fail with HANDLER_TIMEOUT or INVALID_SCHEMA")
async def timed_out(scene: Scene) -> None:
    async with open_gateway() as gateway, neuron_at(gateway.url, sleeper(timeout=0.1)):
        await one_task(gateway, "a b", scene)
    result = await run_handler(count, "a b", input_schema={"type": "nonsense"})
    assert isinstance(result.outcome, Failed)
    scene.said.append(result.outcome.reason)


@symptom("A cancelled handler goes on")
async def goes_on(scene: Scene) -> None:
    runs, ended = anyio.Event(), False

    @capability(COUNT)
    def deaf(text: str) -> str:
        anyio.from_thread.run_sync(runs.set)
        while not ended:
            time.sleep(0.01)
        return text

    timing = msgspec.structs.replace(QUICK, drain=0.3)
    async with open_gateway() as gateway, neuron_at(gateway.url, deaf, timing=timing) as neuron:
        task = await gateway.submit(COUNT, "a")
        await runs.wait()
        await gateway.cancel(task.task_id)
        await scene.wait_for("is cancelled by")
        await neuron.drain()
        ended = True


@symptom("Progress is not seen")
async def progress_is_not_seen(scene: Scene) -> None:
    @capability(COUNT)
    async def reports(text: str, ctx: LeaseContext) -> int:
        ctx.progress(percent=250)
        ctx.progress(data=object())
        return len(text)

    async with open_gateway() as gateway, neuron_at(gateway.url, reports):
        await one_task(gateway, "a b", scene)
    async with open_fault_gateway("answer.progress.500") as faulty, neuron_at(faulty.url, reports):
        faulty.submit(COUNT, "a b")
        await faulty.wait_done()


# Leases that go back


@symptom("Leases go back with UNKNOWN_CAPABILITY or CAPABILITY_REVOKED")
async def unknown_capability(scene: Scene) -> None:
    async with open_fault_gateway() as gateway, neuron_at(gateway.url, sleeper(1.0)):
        for _ in range(2):
            gateway.submit(COUNT, "a b")
        await gateway.wait_for(lambda: gateway.requests["heartbeat"] > 0)
        gateway.revoke(COUNT)
        await scene.wait_for("revoked or not granted")
    async with open_fault_gateway() as gateway, neuron_at(gateway.url):
        gateway._broker._offered = {"examples/other"}  # as a gateway that takes one neuron for another
        gateway.submit("examples/other", "a b")
        await scene.wait_for("no handler for this capability")
        gateway._broker._offered = set()


@symptom("Leases go back with NEURON_OVERLOADED or LEASE_EXPIRED")
async def overloaded(scene: Scene) -> None:
    async with open_fault_gateway() as gateway, neuron_at(gateway.url, sleeper(0.2), limits=Limits(queue=1)):
        for _ in range(3):
            gateway.submit(COUNT, "a b")
        await scene.wait_for("queue is full")
    async with open_fault_gateway("lease.expired-on-arrival") as gateway, neuron_at(gateway.url):
        gateway.submit(COUNT, "a b")
        await scene.wait_for("no time left")


@symptom("Leases go back with SCOPE_MISMATCH")
async def scope_mismatch(scene: Scene) -> None:
    own = count.with_options(scope=on_behalf_of("u-1"))
    async with open_fault_gateway("lease.another-user") as gateway, neuron_at(gateway.url, own):
        gateway.submit(COUNT, "a b", on_behalf_of="u-1")
        await scene.wait_for("goes back")


# Results


@symptom("Results are not delivered")
async def not_delivered(scene: Scene) -> None:
    async with open_fault_gateway("answer.ack.503-burst") as gateway:
        gateway.submit(COUNT, "a b")
        async with neuron_at(gateway.url):
            await gateway.wait_done()
    async with open_fault_gateway("lease.redelivered-finished") as gateway:
        gateway.submit(COUNT, "a b")
        async with neuron_at(gateway.url):
            await gateway.wait_done()
    assert scene.lines()


@symptom("The process ends with exit code 3")
async def exit_code_3(scene: Scene) -> None:
    async with open_fault_gateway("answer.ack.401-always") as gateway:
        gateway.submit(COUNT, "a b")
        async with process_at(scene, gateway.url, "--drain", "0.3", "--journal", "results.db", code=3):
            await scene.wait_for("not delivered (attempt 1)")


@symptom("The journal cannot be used")
async def journal_is_held(scene: Scene) -> None:
    journal = scene.folder / "results.db"
    async with open_gateway() as gateway:
        async with process_at(scene, gateway.url, "--neuron-id", "worker-2", "--journal", "results.db"):
            await scene.wait_for("registered")
            await refused(gateway.url, journal=journal)
        await refused(gateway.url, journal=journal)


@symptom("Work is done twice")
async def twice(scene: Scene) -> None:
    async with open_fault_gateway("lease.redelivered-running", lease_ttl=0.5) as gateway:
        gateway.submit(COUNT, "a b")
        async with neuron_at(gateway.url, sleeper(0.3)):
            await gateway.wait_done()
    await ran_out(scene)


# The end


@symptom("Stopping takes long, or cuts running work")
async def slow_stop(scene: Scene) -> None:
    async with open_fault_gateway() as gateway:
        gateway.submit(COUNT, "for long")
        async with process_at(scene, gateway.url, "--drain", "0.5", "--heartbeat", "0.1"):
            await gateway.wait_for(lambda: gateway.requests["heartbeat"] > 2)


@symptom("Memory grows")
async def memory_grows(scene: Scene) -> None:
    async with open_gateway() as gateway, neuron_at(gateway.url) as neuron:
        with neuron.events(max_buffer=1):
            await one_task(gateway, "a b", scene)
    async with open_fault_gateway() as faulty, neuron_at(faulty.url, limits=Limits(frame_bytes=1_000)):
        faulty.submit(COUNT, "x" * 2_000)
        await scene.wait_for("over the size limit")


@symptom("Frames are dropped")
async def frames_are_dropped(scene: Scene) -> None:
    async with open_fault_gateway("stream.malformed-json") as gateway, neuron_at(gateway.url):
        gateway.submit(COUNT, "a b")
        await gateway.wait_done()
    assert scene.lines()
