"""What judging a value by a schema may cost, known before it is done.

The law: a check takes at most `_BASE_WORK` evaluations, and `_WORK_PER_VALUE` more for each value that it looks at.

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
from typing import Any, Final, TypeAlias, cast

import msgspec

from .schema_patterns import CHARACTERS, check_patterns, pattern_work
from .schema_refs import METASCHEMA, Document, Schema, subschemas
from .schema_report import InvalidSchema

__all__ = ["Cost", "Size", "cost_of"]

_WORK_PER_VALUE: Final = 64
"""Evaluations for each value of the instance, 2 to 30 ns each. Below that, values need not be counted."""

_BASE_WORK: Final = 20_000_000
"""Evaluations that even a small instance may take: a tenth of a second, half of one at worst."""

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

_METASCHEMA_WORK: Final = 200
"""Evaluations of a metaschema for each value."""

_METASCHEMA_HEIGHT: Final = 8
"""Schemas of a metaschema inside one another, for one value."""

Size: TypeAlias = list[int]
"""Values of an instance by level, the top first; a long string counts for more than one."""


class Cost(msgspec.Struct, frozen=True):
    """What a schema may cost.

    Attributes:
        levels: how often a value is looked at, by its level.
        is_finite: whether deeper values are never looked at; if not, they must not be there.
        has_alternatives: whether an error can carry the errors of alternatives.
    """

    levels: tuple[int, ...]
    is_finite: bool
    has_alternatives: bool

    @property
    def is_small(self) -> bool:
        """Whether no value that is an object or an array needs to be counted before it is judged."""
        return self.is_finite and self.levels[0] <= _BASE_WORK and max(self.levels[1:], default=0) <= _WORK_PER_VALUE

    def size(self, value: Any) -> Size | None:
        """Count the values that the schema looks at, by level; None when there are levels that it must not see."""
        size: Size = []
        level: list[Any] = [value]
        name_characters = 0
        while level:
            if len(size) == len(self.levels):
                return size if self.is_finite else None
            characters, name_characters = name_characters, 0
            below: list[Any] = []
            for each in level:
                kind = cast("type[Any]", type(each))
                if issubclass(kind, dict):
                    below.extend(each.values())
                    name_characters += sum(map(len, each))
                elif issubclass(kind, list | tuple):
                    below.extend(each)
                elif issubclass(kind, str):
                    characters += len(each)
            size.append(len(level) + characters // CHARACTERS)
            level = below
        return size

    def values(self, value: Any, *, most: int) -> Size | None:
        """Count the values as `size` does, but every string as one; None when there are more than `most` on a level."""
        size: Size = []
        level: list[Any] = [value]
        while level and len(size) < len(self.levels):
            size.append(len(level))
            below: list[Any] = []
            for each in level:
                kind = cast("type[Any]", type(each))
                if issubclass(kind, dict | list | tuple):
                    below.extend(each.values() if issubclass(kind, dict) else each)
                if len(below) > most:
                    return None
            level = below
        return size

    def work(self, size: Size) -> int:
        """Bound the evaluations for an instance of this size."""
        return sum(values * times for values, times in zip(size, self.levels, strict=False))

    def is_excessive(self, size: Size) -> bool:
        """Whether judging an instance of this size would take more work than a check may take."""
        return self.work(size) > _BASE_WORK + _WORK_PER_VALUE * sum(size)


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
    if levels[0] > _BASE_WORK:
        raise InvalidSchema("too many schemas apply to one value, which references multiply")
    has_alternatives = any("anyOf" in schema or "oneOf" in schema for schema in document.schemas)
    return Cost(levels=tuple(levels), is_finite=is_finite, has_alternatives=has_alternatives)


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


def _names(schema: Schema, keyword: str) -> list[str]:
    named = schema.get(keyword)
    return list(cast("dict[str, Any]", named)) if isinstance(named, dict) else []


def _items(value: Any) -> list[Any]:
    return cast("list[Any]", value) if isinstance(value, list) else []


def _build(document: Document) -> _Node:
    """Make the nodes of all subschemas that can apply, and the edges between them."""
    nodes: dict[int, _Node] = {id(METASCHEMA): _metaschema()}
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

    root = node_of(document.root)
    while waiting:
        schema = waiting.pop()
        node = nodes[id(schema)]
        node.tracks = _tracks(schema)
        node.per_child = sum(map(pattern_work, _names(schema, "patternProperties"))) + ("uniqueItems" in schema)
        node.same = [[node_of(target) for target in group] for group in document.targets(schema)]
        node.references = len(node.same)
        for keyword, each in subschemas(schema):
            _connect(node, keyword, node_of(each))
    return root


def _metaschema() -> _Node:
    """Make the node that stands for any metaschema: recursive, and several schemas high."""
    node = _Node(_METASCHEMA_WORK)
    node.objects[0].append(node)
    node.arrays[0].append(node)
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
    # Options are looked up, but for objects and arrays, which are compared one after the other.
    work += _OPTION_WORK * sum(isinstance(option, dict | list) for option in _items(schema.get("enum")))
    if isinstance(schema.get("pattern"), str):
        work += pattern_work(schema["pattern"])
    for keyword in ("dependentRequired", "dependencies"):
        work += sum(1 + len(_items(schema[keyword][name])) for name in _names(schema, keyword))
    return work
