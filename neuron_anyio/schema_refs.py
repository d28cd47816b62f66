"""A schema as a document: where its subschemas stand, and what its references lead to.

References are resolved here as well as in the engine because what a schema may cost (`schema_cost`) must be known
before the engine sees it. The two must therefore never disagree about a target. Where the specification leaves room for
that (an identifier declared twice, a pointer into the middle of an embedded resource, an identifier where no schema is
expected, a second dialect inside), the schema is refused.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, TypeAlias, cast
from urllib.parse import unquote, urldefrag, urljoin

from .schema_report import NAMED, InvalidSchema, quote

__all__ = ["METASCHEMA", "Document", "Schema", "subschemas"]

Schema: TypeAlias = dict[str, Any]

METASCHEMA: Final[Schema] = {}
"""Stands for any metaschema that the engine carries with it; known by identity."""

LISTED: Final = frozenset({"allOf", "anyOf", "oneOf", "prefixItems", "items"})
SINGLE: Final = frozenset(
    {
        "not", "if", "then", "else", "items", "contains", "additionalItems", "unevaluatedItems",
        "additionalProperties", "unevaluatedProperties", "propertyNames", "contentSchema",
    }
)  # fmt: skip
"""Where subschemas stand, in any draft: a keyword that a draft does not know costs nothing to count."""

_REFERENCES: Final = ("$ref", "$dynamicRef", "$recursiveRef")
_NO_BASE: Final = "https://schema.invalid/"
_METASCHEMA_HOMES: Final = ("http://json-schema.org/draft-0", "https://json-schema.org/draft/20")

_MAX_SUBSCHEMAS: Final = 10_000
"""Looking at one takes microseconds in Python; schemas of 256 KiB that people write have fewer."""


def subschemas(schema: Schema) -> Iterator[tuple[str, Schema | bool]]:
    """Walk the subschemas that stand directly in a schema, with the keyword that each stands under."""
    for keyword, value in schema.items():
        found: list[Any] = []
        if isinstance(value, dict) and keyword in NAMED:
            found = [*cast("Schema", value).values()]
        elif isinstance(value, list) and keyword in LISTED:
            found = cast("list[Any]", value)
        elif keyword in SINGLE:
            found = [value]
        for each in found:
            if isinstance(each, dict | bool):
                yield keyword, cast("Schema | bool", each)


class Document:
    """One schema, indexed.

    Args:
        root: the decoded schema, no deeper than the stack allows.
        id_keyword: what the draft calls an identifier, `$id` or `id`.
        is_old: whether it is draft-07 or older.

    Raises:
        InvalidSchema: it has too many subschemas, or an identifier that leaves its references open to doubt.
    """

    __slots__ = (
        "_anchors", "_bases", "_dynamic", "_id_keyword", "_is_old", "_recursive", "_resources", "root", "schemas",
    )  # fmt: skip

    def __init__(self, root: Schema, *, id_keyword: str, is_old: bool) -> None:
        self.root = root
        self._id_keyword = id_keyword
        self._is_old = is_old
        self._resources: dict[str, Schema] = {_NO_BASE: root}
        self._anchors: dict[tuple[str, str], Schema] = {}
        self._dynamic: dict[str, list[Schema]] = {}
        self._recursive: list[Schema] = []
        self._bases: dict[int, str] = {}
        self.schemas: list[Schema] = []
        """Every subschema that is an object, reachable or not."""
        self._index(root, _NO_BASE)

    def targets(self, schema: Schema) -> list[list[Schema | bool]]:
        """Find what the references of a schema lead to.

        Returns:
            For each reference the schemas that may be meant: one, or several where the way to it decides.

        Raises:
            InvalidSchema: a reference leads out of the schema, or nowhere.
        """
        found: list[list[Schema | bool]] = []
        for keyword in _REFERENCES:
            reference = schema.get(keyword)
            if isinstance(reference, str):
                candidates = [self._resolve(schema, keyword, reference)]
                if keyword == "$dynamicRef":
                    candidates += self._dynamic.get(urldefrag(reference).fragment, [])
                elif keyword == "$recursiveRef":
                    candidates += self._recursive
                found.append(candidates)
        return found

    def _index(self, root: Schema, base: str) -> None:
        """Enter a schema and all that stands in it."""
        waiting = [(root, base)]
        while waiting:
            schema, base = waiting.pop()
            self.schemas.append(schema)
            if len(self.schemas) > _MAX_SUBSCHEMAS:
                raise InvalidSchema(f"it has more than {_MAX_SUBSCHEMAS} subschemas")
            base = self._enter(schema, base)
            waiting.extend((each, base) for _, each in subschemas(schema) if isinstance(each, dict))

    def _enter(self, schema: Schema, base: str) -> str:
        """Note what a schema is called; returns the base of the references in it."""
        identifier = self._identifier(schema)
        if identifier:
            address, fragment = urldefrag(identifier)
            base = urljoin(base, address)
            if base.startswith(_METASCHEMA_HOMES):
                raise InvalidSchema(f"`{self._id_keyword}` {quote(identifier)} is the address of a metaschema")
            if address:
                self._note(self._resources, base, schema, identifier)
            if fragment:
                self._note(self._anchors, (base, fragment), schema, identifier)
        for keyword in ("$anchor", "$dynamicAnchor"):
            name = schema.get(keyword)
            if isinstance(name, str):
                self._note(self._anchors, (base, name), schema, name)
                if keyword == "$dynamicAnchor":
                    self._dynamic.setdefault(name, []).append(schema)
        if schema.get("$recursiveAnchor") is True:
            self._recursive.append(schema)
        if schema is not self.root and schema.get("$schema", self.root.get("$schema")) != self.root.get("$schema"):
            raise InvalidSchema("a subschema has a `$schema` of its own; a schema is of one draft as a whole")
        self._bases[id(schema)] = base
        return base

    def _identifier(self, schema: Schema) -> str:
        if self._is_old and "$ref" in schema:  # which overrides all that stands beside it
            return ""
        identifier = schema.get(self._id_keyword)
        return identifier if isinstance(identifier, str) else ""

    def _note(self, names: dict[Any, Schema], name: Any, schema: Schema, said: str) -> None:
        if names.setdefault(name, schema) is not schema:
            raise InvalidSchema(f"{quote(said)} is declared twice")

    def _resolve(self, schema: Schema, keyword: str, reference: str) -> Schema | bool:
        address, fragment = urldefrag(reference)
        base = self._bases[id(schema)]
        uri = urljoin(base, address) if address else base
        resource = self._resources.get(uri)
        if resource is None and uri.startswith(_METASCHEMA_HOMES):
            return self._metaschema(keyword, reference)
        if resource is None:
            raise InvalidSchema(f"`{keyword}` {quote(reference)} leads out of the schema, and nothing is fetched")
        fragment = unquote(fragment)
        if not fragment:
            return resource
        target = self._follow(resource, fragment) if fragment[0] == "/" else self._anchors.get((uri, fragment))
        if not isinstance(target, dict | bool):
            raise InvalidSchema(f"`{keyword}` {quote(reference)} leads to no schema")
        target = cast("Schema | bool", target)
        if isinstance(target, dict) and id(target) not in self._bases:
            self._index_unexpected(target, uri)
        return target

    def _metaschema(self, keyword: str, reference: str) -> Schema:
        if "meta" in self._dynamic or self._recursive:
            raise InvalidSchema(
                f"`{keyword}` {quote(reference)} is a metaschema, which the schema extends by a dynamic anchor"
            )
        return METASCHEMA

    def _follow(self, resource: Schema, path: str) -> Any:
        """Follow a JSON pointer; None where it ends nowhere."""
        place: Any = resource
        for step in path[1:].split("/"):
            if place is not resource and isinstance(place, dict) and self._identifier(cast("Schema", place)):
                raise InvalidSchema(f"a reference to {quote(path)} leads through a schema with an identifier")
            name = step.replace("~1", "/").replace("~0", "~")
            if isinstance(place, dict):
                place = cast("Schema", place).get(name)
            elif isinstance(place, list) and name.isascii() and name.isdigit():
                items = cast("list[Any]", place)
                place = items[int(name)] if len(name) < len(str(_MAX_SUBSCHEMAS)) and int(name) < len(items) else None
            else:
                return None
        return place

    def _index_unexpected(self, target: Schema, base: str) -> None:
        """Enter a schema that stands where the draft expects none, such as under a keyword of somebody's own."""
        waiting = [target]
        while waiting:
            schema = waiting.pop()
            if self._identifier(schema):
                raise InvalidSchema(f"a schema with `{self._id_keyword}` stands where the draft expects no schema")
            waiting.extend(each for _, each in subschemas(schema) if isinstance(each, dict))
        self._index(target, base)
