"""A schema as a document: where its subschemas stand, and what its references lead to.

References are resolved here as well as in the engine because what a schema may cost (`schema_cost`) must be known
before the engine sees it. The two must therefore never disagree about a target. Where the specification leaves room for
that (an identifier declared twice or where no schema is expected, a pointer past an identifier to where no schema is
expected, a second dialect inside), the schema is refused.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, TypeAlias, cast
from urllib.parse import unquote, urldefrag, urljoin

from .schema_report import NAMED, InvalidSchema, quote

__all__ = ["METASCHEMA", "Document", "Schema", "dialect_of", "subschemas"]

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

_MAX_ADDRESS: Final = 2_000
"""Characters; each subschema may have an address of its own, which the engine keeps at full length several times."""

_MAX_SUBSCHEMAS: Final = 10_000
"""Looking at one takes microseconds in Python; schemas of 256 KiB that people write have fewer."""

_MAX_DYNAMIC: Final = 10_000
"""Schemas that all dynamic references together may mean: each of them any anchor of its name. A metaschema has 200."""


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


def dialect_of(named: Any) -> str:
    """Write what `$schema` says in one way, without scheme and empty fragment; empty when it is no text."""
    return named.removesuffix("#").removeprefix("https://").removeprefix("http://") if isinstance(named, str) else ""


def _joined(base: str, address: str) -> str:
    """Resolve an address.

    Raises:
        InvalidSchema: it is very long.
    """
    joined = urljoin(base, address) if len(address) <= _MAX_ADDRESS else address
    if len(joined) > _MAX_ADDRESS:
        raise InvalidSchema(f"an identifier or reference is longer than {_MAX_ADDRESS} characters, its base included")
    return joined


def _check_names(schema: Schema) -> None:
    """Refuse lists of names with anything else in them before the engine does: it compares all items with all first.

    Raises:
        InvalidSchema: there is such a list.
    """
    for keyword in ("type", "required", "dependencies", "dependentRequired"):
        value = schema.get(keyword)
        lists = cast("Schema", value).values() if isinstance(value, dict) else (value,)
        for names in lists:
            if isinstance(names, list) and not all(isinstance(name, str) for name in cast("list[Any]", names)):
                raise InvalidSchema(f"`{keyword}` has a list of names, and something in it that is no text")


class Document:
    """One schema, indexed.

    Args:
        root: the decoded schema, no deeper than the stack allows.
        id_keyword: what the draft calls an identifier, `$id` or `id`.
        is_old: whether it is draft-07 or older.
        dialect: what `$schema` may say inside, besides what it says at the top; as `dialect_of` writes it.

    Raises:
        InvalidSchema: it has too many subschemas, or an identifier that leaves its references open to doubt.
    """

    __slots__ = (
        "_anchors", "_bases", "_dialect", "_dynamic", "_id_keyword", "_is_old", "_meant", "_recursive", "_resources",
        "_unexpected", "root", "schemas",
    )  # fmt: skip

    def __init__(self, root: Schema, *, id_keyword: str, is_old: bool, dialect: str) -> None:
        self.root: Schema = root
        self._id_keyword = id_keyword
        self._is_old = is_old
        self._dialect = dialect
        self._resources: dict[str, Schema] = {_NO_BASE: root}
        self._anchors: dict[tuple[str, str], Schema] = {}
        self._dynamic: dict[str, list[Schema]] = {}
        self._recursive: list[Schema] = []
        self._meant = 0
        self._bases: dict[int, str] = {}
        self._unexpected: set[int] = set()
        self.schemas: list[Schema] = []
        """Every subschema that is an object, reachable or not."""
        self._index(root, _NO_BASE)

    def targets(self, schema: Schema) -> list[list[Schema | bool]]:
        """Find what the references of a schema lead to.

        Returns:
            For each reference the schemas that may be meant: one, or several where the way to it decides.

        Raises:
            InvalidSchema: a reference leads out of the schema, or nowhere, or dynamic ones to too many schemas.
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
                self._meant += len(candidates) - 1
                if self._meant > _MAX_DYNAMIC:
                    raise InvalidSchema(f"its dynamic references may mean more than {_MAX_DYNAMIC} schemas in all")
                found.append(candidates)
        return found

    def metaschema_extensions(self) -> list[Schema]:
        """List what a metaschema may apply besides itself: its inner references are dynamic."""
        return self._dynamic.get("meta", []) + self._recursive

    def _index(self, root: Schema, base: str) -> None:
        """Enter a schema and all that stands in it."""
        waiting = [(root, base)]
        while waiting:
            schema, base = waiting.pop()
            self.schemas.append(schema)
            if len(self.schemas) > _MAX_SUBSCHEMAS:
                raise InvalidSchema(f"it has more than {_MAX_SUBSCHEMAS} subschemas")
            _check_names(schema)
            base = self._enter(schema, base)
            waiting.extend((each, base) for _, each in subschemas(schema) if isinstance(each, dict))

    def _enter(self, schema: Schema, base: str) -> str:
        """Note what a schema is called; returns the base of the references in it."""
        identifier = self._identifier(schema)
        if identifier:
            address, fragment = urldefrag(identifier)
            base = _joined(base, address)
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
        self._check_dialect(schema)
        self._bases[id(schema)] = base
        return base

    def _check_dialect(self, schema: Schema) -> None:
        named = schema.get("$schema", self._dialect)
        if named != self.root.get("$schema") and dialect_of(named) != self._dialect:
            raise InvalidSchema("a subschema has a `$schema` of its own; a schema is of one draft as a whole")

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
        uri = _joined(base, address) if address else base
        resource = self._resources.get(uri)
        if resource is None and uri.startswith(_METASCHEMA_HOMES):
            return METASCHEMA
        if resource is None:
            raise InvalidSchema(f"`{keyword}` {quote(reference)} leads out of the schema, and nothing is fetched")
        fragment = unquote(fragment)
        if not fragment:
            return resource
        target = self._at(resource, uri, fragment) if fragment[0] == "/" else self._anchors.get((uri, fragment))
        if target is None:
            raise InvalidSchema(f"`{keyword}` {quote(reference)} leads to no schema")
        return target

    def _at(self, resource: Schema, uri: str, path: str) -> Schema | bool | None:
        """Find the schema at a JSON pointer; None where there is none."""
        found, passed = self._follow(resource, path)
        if not isinstance(found, dict | bool):
            return None
        target = cast("Schema | bool", found)
        is_expected = isinstance(target, dict) and id(target) in self._bases and id(target) not in self._unexpected
        if passed and not is_expected:  # whose base counts is then a matter of taste
            raise InvalidSchema(f"a reference to {quote(path)} leads past an identifier to where no schema is expected")
        if isinstance(target, dict) and id(target) not in self._bases:
            self._index_unexpected(target, uri)
        return target

    def _follow(self, resource: Schema, path: str) -> tuple[Any, bool]:
        """Follow a JSON pointer.

        Returns:
            What it leads to, None where it ends nowhere; and whether a schema with an identifier was passed.
        """
        place: Any = resource
        passed = False
        for step in path[1:].split("/"):
            name = step.replace("~1", "/").replace("~0", "~")
            if isinstance(place, dict):
                inner = cast("Schema", place)
                passed = passed or (inner is not resource and bool(self._identifier(inner)))
                place = inner.get(name)
            elif isinstance(place, list) and name.isascii() and name.isdigit():
                items = cast("list[Any]", place)
                place = items[int(name)] if len(name) < len(str(_MAX_SUBSCHEMAS)) and int(name) < len(items) else None
            else:
                return None, passed
        return place, passed

    def _index_unexpected(self, target: Schema, base: str) -> None:
        """Enter a schema that stands where the draft expects none, such as under a keyword of somebody's own."""
        waiting = [target]
        while waiting:
            schema = waiting.pop()
            if self._identifier(schema):
                raise InvalidSchema(f"a schema with `{self._id_keyword}` stands where the draft expects no schema")
            self._unexpected.add(id(schema))
            waiting.extend(each for _, each in subschemas(schema) if isinstance(each, dict))
        self._index(target, base)
