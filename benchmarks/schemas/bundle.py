"""Compound documents: a schema with the documents that it refers to inside, so that nothing has to be fetched.

That is the specification's own way to send schemas in one piece (2020-12, section 9.3): each document becomes a
resource under `$defs` that keeps its address as its `$id`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias, cast
from urllib.parse import urldefrag, urljoin

__all__ = ["bundle"]

Schema: TypeAlias = dict[str, Any]

_LEADING: tuple[str, ...] = ("$ref", "$dynamicRef", "$recursiveRef", "$schema")


def bundle(schema: Schema, documents: Mapping[str, Schema], *, is_old: bool, id_keyword: str = "$id") -> Schema:
    """Put into a schema those documents that it, or one of them, refers to.

    Args:
        schema: returned as it is when it needs none of them.
        documents: by the address that references use.
        is_old: whether the draft is draft-07 or older, where nothing beside `$ref` counts.
        id_keyword: what the draft calls an identifier.

    Returns:
        A new schema that accepts the same.
    """
    resources: dict[str, Schema] = {}
    waiting = [("", schema)]
    while waiting:
        for address in _addresses(*waiting.pop(), id_keyword):
            if address in documents and address not in resources:
                resources[address] = documents[address]
                waiting.append((address, documents[address]))
    if not resources:
        return schema
    home = "definitions" if is_old else "$defs"
    embedded = {
        name: resource
        for address, document in resources.items()
        for name, resource in _embedded(address, document, is_old=is_old, id_keyword=id_keyword).items()
    }
    if is_old and "$ref" in schema:
        schema = {"$schema": schema["$schema"], "allOf": [schema]}
    return {**schema, home: {**schema.get(home, {}), **embedded}}


def _embedded(address: str, document: Schema, *, is_old: bool, id_keyword: str) -> dict[str, Schema]:
    """Make a resource of a document; two where it calls itself otherwise than the references to it."""
    if is_old and "$ref" in document:
        return {address: {id_keyword: address, "allOf": [document]}}
    own = urljoin(address, document.get(id_keyword, address))
    resource = {address: {**document, id_keyword: own}}
    if own != address:
        resource[f"{address} itself"] = {id_keyword: address, "allOf": [{"$ref": own}]}
    return resource


def _addresses(base: str, value: Any, id_keyword: str) -> Iterator[str]:
    """Walk what anything in a schema refers to, as addresses without fragments."""
    if isinstance(value, list):
        for each in cast("list[Any]", value):
            yield from _addresses(base, each, id_keyword)
    elif isinstance(value, dict):
        members = cast("Schema", value)
        identifier = members.get(id_keyword)
        base = urljoin(base, identifier) if isinstance(identifier, str) else base
        for name, each in members.items():
            if name in _LEADING and isinstance(each, str):
                yield urldefrag(urljoin(base, each)).url
            else:
                yield from _addresses(base, each, id_keyword)
