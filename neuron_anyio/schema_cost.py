"""What judging a value by a schema may cost, known before it is done.

The law: a check takes at most `BASE_WORK` evaluations, and `WORK_PER_VALUE` more for each value that it looks at
(`schema_budget`).

A schema of a kilobyte can ask for endless work: references that double at every step, recursion that branches,
`unevaluatedProperties` inside one another. The engine cannot be stopped once it runs, so the work is computed.

Subschemas are nodes. An edge leads to what is applied to the same value (`allOf`, `$ref`, ...) or to a value in it
(`properties`, `items`, ...). How often a value `k` levels below the top is looked at is then the number of ways from
the top that take `k` edges of the second sort: a recurrence over levels. Times the number of values on each level, that
is the work. Where only one of several schemas can apply to a value, the dearest counts; where that is unknown, all do.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from typing import Any, Final, cast

from .schema_budget import BASE_WORK, Cost
from .schema_patterns import check_patterns, pattern_work
from .schema_refs import METASCHEMA, Document, Schema, subschemas
from .schema_report import InvalidSchema

__all__ = ["cost_of"]

_NO_MORE: Final = 1 << 40
"""Where counting stops: beyond every bound, and still a small integer."""

_MAX_LEVELS: Final = 128
"""Depth to which a recursive schema is followed into a value. Twice what people nest."""

_MAX_STEPS: Final = 100_000
"""Steps of the recurrence, some microseconds each: large recursive schemas are followed to fewer levels."""

_MAX_STACK: Final = 600
_MAX_STACK_UNEVALUATED: Final = 100
"""Schemas inside one another on the engine's stack, at most 1.5 KB each, 9 KB with `unevaluated...`: a megabyte in all,
the stack of a thread on the meanest of platforms."""

_MAX_TRACKED: Final = 50_000
"""Schemas that `unevaluated...` keywords may have to look through; the engine unfolds them when it compiles."""

_OPTION_WORK: Final = 16
"""Evaluations for comparing a value with an object or array."""

_INNER_OPTION_WORK: Final = 4
"""The same for each value in it."""

_NUMBER_WORK: Final = {"minimum": 4, "maximum": 4, "exclusiveMinimum": 4, "exclusiveMaximum": 4, "multipleOf": 8}
"""Evaluations for comparing a number with one of the schema; long numbers and fractions count as many values."""

_COMPARE_WORK: Final = 16
"""Evaluations for each value in an array whose items must differ: each is written as text, in half a microsecond."""

_METASCHEMA_WORK: Final = 200
"""Evaluations of a metaschema for each value."""

_METASCHEMA_HEIGHT: Final = 8
"""Schemas of a metaschema inside one another, for one value."""


class _Node:
    """One subschema in the recurrence."""

    __slots__ = (
        "arrays", "before", "height", "marks", "objects", "once", "per_child", "references", "same", "state", "tracks",
        "work",
    )  # fmt: skip

    def __init__(self, once: int = 1) -> None:
        self.once = once
        """Evaluations for the value itself."""
        self.per_child = 0
        """Evaluations for each value in it, besides those of subschemas."""
        self.same: list[list[_Node]] = []
        """Applied to the same value: of each group one."""
        self.references = 0
        """How many of these groups, the first ones, are references: looked through twice to see what is unevaluated."""
        self.objects: tuple[list[_Node], list[_Node]] = ([], [])
        """Applied to a member: one of the first, all of the second."""
        self.arrays: tuple[list[_Node], list[_Node]] = ([], [])
        """The same for an item."""
        self.tracks = False
        """Whether it must know what its fellows have evaluated."""
        self.before = 0
        self.work = 0
        self.marks = 0
        self.height = 0
        self.state = 0

    def advance(self, level: int) -> None:
        """Compute this level from the one before; those that apply to the same value have been computed."""
        own = self.once
        if level:
            own = max(
                max((node.before for node in one_of), default=0) + sum(node.before for node in all_of)
                for one_of, all_of in (self.objects, self.arrays)
            )
        if level == 1:
            own += self.per_child
        work = marks = own
        for place, group in enumerate(self.same):
            times = 2 if place < self.references else 1
            work += max(node.work for node in group)
            marks += max(node.work + times * node.marks for node in group)
        self.marks = min(marks, _NO_MORE)
        self.work = min(work + marks if self.tracks else work, _NO_MORE)


def cost_of(document: Document) -> Cost:
    """Compute what a schema may cost.

    Raises:
        InvalidSchema: it asks for endless work, a reference in it leads nowhere, or a pattern repeats too much.
    """
    root = _build(document)
    check_patterns(document.schemas)
    tracks = any(map(_tracks, document.schemas))
    nodes = _sorted(root)
    height = max(node.height for node in nodes)
    stack = _MAX_STACK_UNEVALUATED if tracks else _MAX_STACK
    if height > stack:
        raise InvalidSchema(f"more than {stack} schemas apply to the same value, one inside the other")
    levels, is_finite = _levels(root, nodes, most=min(_MAX_LEVELS, stack // height))
    if levels[0] > BASE_WORK:
        raise InvalidSchema("too many schemas apply to one value, which references multiply")
    has_alternatives = any("anyOf" in schema or "oneOf" in schema for schema in document.schemas)
    return Cost(
        levels=tuple(levels),
        is_finite=is_finite,
        has_alternatives=has_alternatives,
        compares_numbers=any(map(_compares_numbers, document.schemas)),
    )


def _levels(root: _Node, nodes: list[_Node], *, most: int) -> tuple[list[int], bool]:
    """Run the recurrence until nothing is looked at any more, nothing changes any more, or there are enough levels."""
    levels: list[int] = []
    steps = 0
    while len(levels) < most and steps < _MAX_STEPS:
        for node in nodes:
            node.before = node.work
        for node in nodes:
            node.advance(len(levels))
        if not levels and sum(node.marks for node in nodes if node.tracks) > _MAX_TRACKED:
            raise InvalidSchema("too many schemas apply side by side to find out what is unevaluated")
        if not root.work:
            return levels, True
        levels.append(root.work)
        steps += len(nodes)
        if len(levels) > 2:  # noqa: PLR2004 -- from here on a level follows from the one before alone
            if all(node.work == node.before for node in nodes):
                return levels + levels[-1:] * (most - len(levels)), False
            nodes = [node for node in nodes if node.work or node.before]
    return levels, False


def _sorted(root: _Node) -> list[_Node]:
    """Sort the reachable nodes so that each comes after those that apply to the same value."""
    nodes: list[_Node] = []
    tops = [root]
    while tops:
        top = tops.pop()
        for node in _finished(top):
            nodes.append(node)
            tops.extend(chain(*node.objects, *node.arrays))
    return nodes


def _finished(top: _Node) -> Iterator[_Node]:
    """Walk down from a node along what applies to the same value; a node comes when all below it have come."""
    open_, done = 1, 2
    path = [top] if not top.state else []
    while path:
        node = path[-1]
        if node.state == 0:
            node.state = open_
            for other in chain(*node.same):
                if other.state == open_:
                    raise InvalidSchema("a reference leads back to where it stands, for the same value")
                if other.state == 0:
                    path.append(other)
        else:
            path.pop()
            if node.state == open_:
                node.state = done
                node.height = 1 + max((other.height for other in chain(*node.same)), default=0)
                yield node


def _tracks(schema: Schema) -> bool:
    return "unevaluatedProperties" in schema or "unevaluatedItems" in schema


def _compares_numbers(schema: Schema) -> bool:
    return "multipleOf" in schema or any(isinstance(option, int | float | dict | list) for option in _options(schema))


def _options(schema: Schema) -> list[Any]:
    """List what a value is compared with."""
    return [*_items(schema.get("enum")), schema.get("const")]


def _names(schema: Schema, keyword: str) -> list[str]:
    named = schema.get(keyword)
    return list(cast("dict[str, Any]", named)) if isinstance(named, dict) else []


def _items(value: Any) -> list[Any]:
    return cast("list[Any]", value) if isinstance(value, list) else []


def _build(document: Document) -> _Node:
    """Make the nodes of all subschemas that can apply, and the edges between them."""
    compared = _everywhere(_Node(_COMPARE_WORK))
    metaschema = _metaschema(compared)
    nodes: dict[int, _Node] = {id(METASCHEMA): metaschema}
    waiting: list[Schema] = []
    always = _Node()

    def node_of(schema: Schema | bool) -> _Node:
        if isinstance(schema, bool):
            return always
        node = nodes.get(id(schema))
        if node is None:
            node = nodes[id(schema)] = _Node(_own_work(schema))
            waiting.append(schema)
        return node

    for extension in document.metaschema_extensions():
        for _, all_of in (metaschema.objects, metaschema.arrays):
            all_of.append(node_of(extension))
    root = node_of(document.root)
    while waiting:
        schema = waiting.pop()
        node = nodes[id(schema)]
        node.tracks = _tracks(schema)
        node.per_child = sum(map(pattern_work, _names(schema, "patternProperties")))
        if schema.get("uniqueItems") is True:
            node.arrays[1].append(compared)
        _compare(node, [option for option in _options(schema) if isinstance(option, dict | list)])
        node.same = [[node_of(target) for target in group] for group in document.targets(schema)]
        node.references = len(node.same)
        for keyword, each in subschemas(schema):
            _connect(node, keyword, node_of(each))
    return root


def _compare(node: _Node, options: list[Any]) -> None:
    """Apply to what is in a value the comparison with what is in options, as far down as these go."""
    for _ in range(max(map(_depth, options), default=0)):
        below = _Node(_INNER_OPTION_WORK * len(options))
        node.objects[1].append(below)
        node.arrays[1].append(below)
        node = below


def _depth(option: Any) -> int:
    """Count the objects and arrays inside one another, no more than a schema may have."""
    inner = cast("Schema", option).values() if isinstance(option, dict) else _items(option)
    return 1 + max(map(_depth, inner), default=0) if isinstance(option, dict | list) else 0


def _everywhere(node: _Node) -> _Node:
    """Apply a node to all that is in a value, too, whatever its depth."""
    node.objects[0].append(node)
    node.arrays[0].append(node)
    return node


def _metaschema(compared: _Node) -> _Node:
    """Make the node that stands for any metaschema: recursive, several schemas high, and some of its arrays unique."""
    node = _everywhere(_Node(_METASCHEMA_WORK))
    node.arrays[1].append(compared)
    top = node
    for _ in range(_METASCHEMA_HEIGHT):
        top.same.append([_Node()])
        top = top.same[0][0]
    return node


def _connect(node: _Node, keyword: str, other: _Node) -> None:
    if keyword in _SAME_VALUE:
        node.same.append([other])
        return
    for keywords, nodes in (
        (_ONE_OF_MEMBER, node.objects[0]),
        (_ALL_OF_MEMBER, node.objects[1]),
        (_ONE_OF_ITEM, node.arrays[0]),
        (_ALL_OF_ITEM, node.arrays[1]),
    ):
        if keyword in keywords:
            node.per_child = max(1, node.per_child)
            nodes.append(other)


_SAME_VALUE: Final = frozenset(
    {"allOf", "anyOf", "oneOf", "not", "if", "then", "else", "dependentSchemas", "dependencies"}
)
_ONE_OF_MEMBER: Final = frozenset({"properties", "additionalProperties"})
_ALL_OF_MEMBER: Final = frozenset({"patternProperties", "propertyNames", "unevaluatedProperties"})
_ONE_OF_ITEM: Final = frozenset({"prefixItems", "items", "additionalItems"})
_ALL_OF_ITEM: Final = frozenset({"contains", "unevaluatedItems"})


def _own_work(schema: Schema) -> int:
    """Weigh what a schema asks of a value by itself, in evaluations."""
    work = 1 + len(schema)
    work += len(_items(schema.get("required")))
    # Texts are looked up; objects, arrays and numbers are compared one after the other.
    options = _options(schema)
    work += _OPTION_WORK * sum(isinstance(option, dict | list) for option in options)
    work += sum(isinstance(option, int | float) for option in options)
    work += sum(times for keyword, times in _NUMBER_WORK.items() if keyword in schema)
    if isinstance(schema.get("pattern"), str):
        work += pattern_work(schema["pattern"])
    for keyword in ("dependentRequired", "dependencies"):
        work += sum(1 + len(_items(schema[keyword][name])) for name in _names(schema, keyword))
    return work
