"""A tour: a gateway, two neurons, callers and web pages on this machine, over real HTTP, in one process.

Start it with `python examples/tour.py` or `python -m examples.tour`, on trio with `--backend trio`. It tells what
happens and ends with a table, counted from the gateway's records. The exit code is 0 if everything is as it should be.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import anyio

if not __package__:  # run as a file: the folder above is not on the path
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from examples.http_fetch import fetch
from examples.pages import Reply, Request, serve_pages
from neuron_anyio import Event, Neuron, Timing, events, open_neuron
from neuron_anyio.client import GatewayClient, TaskStatus
from neuron_anyio.gateway import open_gateway
from neuron_anyio.model import GivenBack

__all__ = ["main"]

TYPE = fetch.terms.type

QUICK = [f"/quick/{number}" for number in range(1, 35)]
"""Pages that come without delay."""

HELD = [f"/held/{number}" for number in range(1, 13)]
"""Pages that stop half-way until the tour lets them go on: they run and wait when the first neuron stops."""

SLOW = "/slow"
"""A page that takes longer than its caller is ready to wait."""

UNREACHABLE = "ftp://127.0.0.1/"
"""What no second try will fetch."""

AT_ONCE = 3
"""Handlers of the first neuron. The capability offers more leases than that, so some wait inside the neuron."""

CANCEL_AT = 30
"""Per cent of the slow page that have come when its caller calls it off."""

DRAIN = 3.0
"""Seconds for the first neuron to stop in; four fifths of them for its handlers to finish."""

PART = 0.05
"""Seconds between the parts of a page: a server that takes its time."""

BOUND = 50.0
"""Seconds for the whole tour; if it takes longer, something hangs."""


class Site:
    """The pages, and a door for each of the held ones."""

    def __init__(self) -> None:
        self.doors = {target: anyio.Event() for target in HELD}

    async def __call__(self, request: Request, reply: Reply) -> None:
        """Write one page, part by part."""
        text = text_of(request.target).encode()
        parts = 100 if request.target == SLOW else 4
        size = -(-len(text) // parts)
        await reply.start(headers={"Content-Length": str(len(text))})
        for number in range(parts):
            if number == parts // 2 and request.target in self.doors:
                await self.doors[request.target].wait()
            await reply.write(text[number * size : (number + 1) * size])
            await anyio.sleep(PART)


def text_of(target: str) -> str:
    """Return what stands on a page."""
    return f"This is the page {target}.\n" * 40


class Story:
    """Says what happens, a line at a time."""

    def __init__(self) -> None:
        self._begun = time.monotonic()

    def say(self, who: str, what: str) -> None:
        """Print a line with the seconds since the start."""
        print(f"{time.monotonic() - self._begun:5.1f} s  {who:<8}{what}", flush=True)


class Tour:
    """The caller's side: what was submitted, and the steps."""

    def __init__(self, story: Story, caller: GatewayClient, site: Site, pages: str) -> None:
        self._story = story
        self._caller = caller
        self._site = site
        self._pages = pages
        self._arrived = 0
        self.targets: dict[str, str] = {}

    async def fetch_quick_pages(self) -> None:
        """Submit many tasks, and wait for all of them while watching one."""
        self._say(f"submits {len(QUICK)} tasks, one for each quick page, and watches the last one")
        tasks = [await self._submit(target) for target in QUICK]
        async with anyio.create_task_group() as group:
            group.start_soon(self._watch, tasks[-1])
            for task in tasks:
                group.start_soon(self._wait, task)

    async def fail_for_good(self) -> None:
        """Submit a task that can never succeed."""
        self._say(f"submits a task for {UNREACHABLE}, which cannot be fetched")
        await self._watch(await self._submit(UNREACHABLE))

    async def call_off(self) -> None:
        """Submit a task that takes long, and cancel it while it runs."""
        self._say("submits a task for the slow page and watches it")
        await self._watch(await self._submit(SLOW), cancel_at=CANCEL_AT)

    async def fill(self, neuron: Neuron) -> None:
        """Submit the held pages, until the neuron runs as many as it can and holds more."""
        self._say(f"submits {len(HELD)} tasks for pages that stop half-way")
        waiting = fetch.terms.concurrency - AT_ONCE
        with neuron.events() as stream:
            for target in HELD:
                await self._submit(target)
            while (state := neuron.snapshot().capabilities[TYPE]).running < AT_ONCE or state.queued < waiting:
                await stream.receive()
        elsewhere = len(HELD) - state.running - state.queued
        self._say(f"{state.running} of them run, {state.queued} wait in the neuron, {elsewhere} in the gateway")

    async def finish(self) -> None:
        """Let the held pages go on, and wait until all is settled."""
        self._say("opens all doors: the held pages go on")
        for door in self._site.doors.values():
            door.set()
        async with anyio.create_task_group() as group:
            for task, target in self.targets.items():
                if target in self._site.doors:
                    group.start_soon(self._wait, task)

    def tell(self, who: str, event: Event) -> None:
        """Say what a neuron tells of itself; when it drains, let one of its pages finish in time."""
        match event:
            case events.Registered():
                offers = ", ".join(f"{name}, {leases} leases" for name, leases in event.capabilities.items())
                self._story.say(who, f"is registered at the gateway with {offers}")
            case events.Draining():
                self._story.say(
                    who, f"stops: {event.running} handlers go on, {event.given_back} leases go back unbegun"
                )
                self._site.doors[HELD[0]].set()
            case events.LeaseSettled(outcome=GivenBack(reason=reason)):
                self._story.say(who, f"gives {self.targets[event.task_id]} back: {reason}")
            case _:
                pass

    async def _submit(self, target: str) -> str:
        url = target if target == UNREACHABLE else f"{self._pages}{target}"
        task = await self._caller.submit(TYPE, {"url": url})
        self.targets[task.task_id] = target
        return task.task_id

    async def _wait(self, task: str) -> None:
        await self._caller.result(task)
        self._arrived += 1
        if self._arrived % 10 == 0:
            self._say(f"{self._arrived} pages have come")

    async def _watch(self, task: str, *, cancel_at: float = 101) -> None:
        """Follow a task to its end; call it off when it is so far."""
        async with self._caller.follow(task) as updates:
            async for status in updates:
                self._say(f"{self.targets[task]} is {status.state}{_details(status)}")
                if status.progress is not None and (status.progress.percent or 0) >= cancel_at and not status.settled:
                    cancel_at = 101
                    self._say(f"calls {self.targets[task]} off")
                    await self._caller.cancel(task, "its caller has lost patience")

    def _say(self, what: str) -> None:
        self._story.say("caller", what)


def _details(status: TaskStatus) -> str:
    if status.state == "failed" and status.failure is not None:
        return f" ({status.failure.kind}, {status.failure.code}): {status.failure.reason}"
    if status.state == "leased" and status.progress is not None and status.progress.percent is not None:
        return f", {status.progress.percent:.0f} %: {status.progress.message}"
    return ""


GIVEN_BACK = "given back"


class Row(NamedTuple):
    """One line of the table: how many tasks, and how many leases, came to this."""

    tasks: int
    leases: int


class Findings:
    """The gateway's records of what was submitted, counted.

    A task is lost when it is not settled, a lease when it ran out without a word from its neuron. A task that was given
    back counts as what it came to in the end.

    Args:
        targets: the pages by task.
        records: all that the gateway has.
    """

    def __init__(self, targets: Mapping[str, str], records: Sequence[TaskStatus]) -> None:
        self._targets = targets
        self._found = [record for record in records if record.task_id in targets]
        self._returned = [record for record in self._found if record.give_backs]
        states = [record.state for record in self._found]
        acked, failed, cancelled = (states.count(state) for state in ("succeeded", "failed", "cancelled"))
        begun = sum(record.state == "cancelled" and record.deliveries > 0 for record in self._found)
        self._rows = {
            "acked": Row(acked, acked),
            "failed": Row(failed, sum(record.results for record in self._found) - acked),
            "cancelled": Row(cancelled, begun),
            GIVEN_BACK: Row(0, sum(record.give_backs for record in self._found)),
            "lost": Row(
                len(targets) - sum(record.settled for record in self._found),
                sum(record.expiries for record in self._found),
            ),
        }
        self._total = Row(len(targets), sum(record.deliveries for record in self._found))

    def table(self) -> str:
        """Return the rows as text."""
        ruler = "-" * 28
        lines = [f"{'':<12}{'tasks':>8}{'leases':>8}", ruler]
        for name, row in self._rows.items():
            lines.append(f"{name:<12}{'*' if name == GIVEN_BACK else row.tasks:>8}{row.leases:>8}")
        lines += [ruler, f"{'in all':<12}{self._total.tasks:>8}{self._total.leases:>8}"]
        lines += [f"* {len(self._returned)} tasks came back unfinished; each counts as what it came to in the end"]
        return "\n".join(lines)

    def faults(self, neurons: Sequence[Neuron]) -> Iterator[str]:
        """Yield what is not as it should be."""
        rows, total = self._rows, self._total
        for column in Row._fields:
            added = sum(getattr(row, column) for row in rows.values())
            if added != getattr(total, column):
                yield f"the {column} add up to {added}, not to {getattr(total, column)}"
            if getattr(rows["lost"], column):
                yield f"{getattr(rows['lost'], column)} {column} were lost"
        wanted = {"acked": len(QUICK) + len(HELD), "failed": 1, "cancelled": 1}
        for name, number in wanted.items():
            if rows[name].tasks != number:
                yield f"{rows[name].tasks} tasks are {name}, not {number}"
        if not self._returned:
            yield "the first neuron gave nothing back"
        yield from self._faults_of_records()
        yield from self._faults_of_books(neurons)

    def _faults_of_records(self) -> Iterator[str]:
        for record in self._found:
            target = self._targets[record.task_id]
            if record.state == "succeeded" and record.output["body"] != text_of(target):
                yield f"the page {target} came back with another text"
        for record in self._returned:
            if (record.state, record.neuron_id) != ("succeeded", "second"):
                yield f"{self._targets[record.task_id]} was given back and is not finished by the second neuron"

    def _faults_of_books(self, neurons: Sequence[Neuron]) -> Iterator[str]:
        books = [neuron.snapshot().capabilities[TYPE].outcomes for neuron in neurons]
        names = {"acked": "Completed", "failed": "Failed", "cancelled": "Cancelled", GIVEN_BACK: "GivenBack"}
        for name, outcome in names.items():
            counted = sum(book.get(outcome, 0) for book in books)
            if counted != self._rows[name].leases:
                yield f"the neurons count {counted} leases that were {name}, the gateway {self._rows[name].leases}"


async def tour() -> int:
    """Run the tour; return the exit code."""
    try:
        with anyio.fail_after(BOUND):
            return await _tour()
    except TimeoutError:
        print(f"NOT AS IT SHOULD BE: the tour did not end within {BOUND:g} s")
        return 1


async def _tour() -> int:
    story, site = Story(), Site()
    async with serve_pages(site) as pages, open_gateway() as gateway, GatewayClient(gateway.url) as caller:
        story.say("pages", f"are at {pages}")
        story.say("gateway", f"is at {gateway.url}")
        steps = Tour(story, caller, site, pages)
        async with open_neuron(
            gateway.url,
            neuron_id="first",
            capabilities=[fetch],
            max_concurrency=AT_ONCE,
            timing=Timing(drain=DRAIN),
            on_event=partial(steps.tell, "first"),
        ) as first:
            await steps.fetch_quick_pages()
            await steps.fail_for_good()
            await steps.call_off()
            await steps.fill(first)
            story.say("first", f"is asked to stop, and has {DRAIN:g} s for it")
        story.say("first", "has stopped: nothing runs, everything is delivered or given back")
        async with open_neuron(
            gateway.url, neuron_id="second", capabilities=[fetch], on_event=partial(steps.tell, "second")
        ) as second:
            await steps.finish()
        findings = Findings(steps.targets, [record async for record in caller.tasks()])
    print(f"\n{findings.table()}\n")
    faults = list(findings.faults([first, second]))
    for fault in faults:
        print(f"NOT AS IT SHOULD BE: {fault}")
    if not faults:
        print(
            "Everything is as it should be: what the first neuron gave back, the second one finished; nothing is lost."
        )
    return 1 if faults else 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Read the command line and run the tour; return the exit code."""
    parser = argparse.ArgumentParser(prog="tour", description="A tour of gateway, neurons and callers on this machine.")
    parser.add_argument("--backend", choices=["asyncio", "trio"], default="asyncio", help="the event loop")
    return anyio.run(tour, backend=parser.parse_args(arguments).backend)


if __name__ == "__main__":
    sys.exit(main())
