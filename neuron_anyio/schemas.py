"""JSON Schema: from a schema to a validator, bounded in what it may cost (promises L11.8, L11.9, L11.11, L12).

Schemas come from two sides. Those from the wire may be hostile, and inputs always may: jsonschema-rs judges them,
offline, without generated code and without backtracking in patterns. A schema that a capability's author registers in
draft-04, 06 or 07 is also turned into Python by fastjsonschema when it keeps to the part of the language where that is
safe (`schema_subset`). A value that the generated code accepts is accepted; one that it refuses goes to jsonschema-rs,
which confirms and says where, so that all violations are told in one way.

Neither engine can be stopped once it runs. Size and depth are therefore bounded before anything is compiled, and the
work of a check is computed before it begins (`schema_cost`).

`format` is not asserted. No `$schema` means 2020-12. A metaschema of somebody's own has to come with the schema; it is
read for its vocabularies and never evaluated.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, NoReturn, Protocol, cast

import msgspec

from .schema_budget import Cost
from .schema_cost import cost_of
from .schema_patterns import MAX_PATTERN_BYTES
from .schema_refs import Document, Schema, dialect_of, subschemas
from .schema_report import InvalidSchema, Violation, limit_violation, quote, report, unlocated_violation
from .schema_subset import is_plain
from .schema_unique import UniqueItems

if TYPE_CHECKING:
    import jsonschema_rs

__all__ = ["InvalidSchema", "SchemaCache", "Validator", "Violation", "registered_validator", "wire_validator"]

MAX_SCHEMA_BYTES: Final = 256 * 1024
"""Ten times what people write by hand; a hostile one of this size compiles in less than a second."""

MAX_SCHEMA_DEPTH: Final = 128
"""Objects and arrays inside one another in a schema; the engine's own limit is 255, on its stack."""

MAX_EXPLAINED_BYTES: Final = 16 * 1024 * 1024
"""Bytes of the value that the engine may copy to say what is wrong with it; each costs about 5 of memory, and 10 ns."""

MAX_EXPLAINED_WORK: Final = 50_000
"""Evaluations, each of which may become an error among those of alternatives; an error costs some 10 microseconds."""

CACHED_SCHEMAS: Final = 256
CACHED_BYTES: Final = 2 * 1024 * 1024
"""A gateway has a few schemas for each capability. What is compiled takes some ten times the memory of the text."""


class Validator(Protocol):
    """Judges values by one schema."""

    def check(self, instance: Any) -> Violation | None:
        """Judge a value; raises nothing.

        Args:
            instance: decoded JSON.

        Returns:
            None when it is valid, else the first violation. Its rule is `limit` when the value is nested too deeply or
            judging it would take too long, or when it is not JSON.
        """
        ...


def registered_validator(schema: Mapping[str, Any] | bool) -> Validator:
    """Make a validator of an author's schema.

    Raises:
        InvalidSchema: it cannot be used; the message says where and why.
    """
    try:
        text = msgspec.json.encode(dict(schema) if isinstance(schema, Mapping) else schema)
    except Exception as exc:
        raise InvalidSchema(f"it cannot be written as JSON ({type(exc).__name__})") from exc
    validator, root = _compile(text)
    if isinstance(root, bool) or not validator.cost.is_small:
        return validator
    try:
        return _Generated(root, validator) if is_plain(root, draft=_draft(root).number) else validator
    except Exception:  # whatever the generator stumbles over: the other engine has accepted the schema
        return validator


def wire_validator(schema: bytes) -> Validator:
    """Make, or find again, a validator of a schema that came from outside.

    Args:
        schema: the schema as JSON.

    Raises:
        InvalidSchema: it cannot be used; the message says where and why.
    """
    return _from_wire.validator(schema)


class SchemaCache:
    """Validators by the text of their schema, the least recently used forgotten first. Failures are kept as well.

    Safe for use by several threads, which may at worst compile a schema twice.

    Args:
        entries: how many are kept.
        schema_bytes: how long their texts may be together.
    """

    __slots__ = ("_bytes", "_entries", "_found", "_lock", "_schema_bytes")

    def __init__(self, *, entries: int = CACHED_SCHEMAS, schema_bytes: int = CACHED_BYTES) -> None:
        self._entries = entries
        self._schema_bytes = schema_bytes
        self._found: OrderedDict[bytes, Validator | str] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._found)

    @property
    def schema_bytes(self) -> int:
        """Length of the texts that are kept."""
        return self._bytes

    def validator(self, schema: bytes) -> Validator:
        """Find the validator of a schema, or make it.

        Raises:
            InvalidSchema: it cannot be used.
        """
        with self._lock:
            found = self._found.get(schema)
            if found is not None:
                self._found.move_to_end(schema)
        if found is None:
            try:
                found = _compile(schema)[0]
            except InvalidSchema as exc:
                found = str(exc)
            self._keep(schema, found)
        if isinstance(found, str):
            raise InvalidSchema(found)
        return found

    def _keep(self, schema: bytes, found: Validator | str) -> None:
        if len(schema) > self._schema_bytes:  # it would push out all others, and itself
            return
        with self._lock:
            if schema not in self._found:
                self._bytes += len(schema)
            self._found[schema] = found
            while len(self._found) > self._entries or self._bytes > self._schema_bytes:
                forgotten, _ = self._found.popitem(last=False)
                self._bytes -= len(forgotten)


_from_wire: Final = SchemaCache()


class _Draft(msgspec.Struct, frozen=True):
    number: int
    dialect: str
    id_keyword: str = "$id"

    @property
    def is_old(self) -> bool:
        return self.number in (4, 6, 7)


_OLDER: Final = (
    _Draft(4, "json-schema.org/draft-04/schema", "id"),
    _Draft(6, "json-schema.org/draft-06/schema"),
    _Draft(7, "json-schema.org/draft-07/schema"),
    _Draft(2019, "json-schema.org/draft/2019-09/schema"),
)
_NEWEST: Final = _Draft(2020, "json-schema.org/draft/2020-12/schema")
_DRAFTS: Final = {draft.dialect: draft for draft in (*_OLDER, _NEWEST)}
_EXTENSIBLE: Final = frozenset(draft.dialect for draft in _DRAFTS.values() if not draft.is_old)
"""Drafts that know vocabularies."""


def _draft(root: Schema | bool) -> _Draft:
    if isinstance(root, bool) or "$schema" not in root:
        return _NEWEST
    named = root["$schema"]
    draft = _DRAFTS.get(dialect_of(named)) or _DRAFTS.get(dialect_of(_own_metaschema(root).get("$schema")))
    if draft is None:
        raise InvalidSchema(
            f"`$schema` {quote(named)} is none of draft-04, draft-06, draft-07, 2019-09 and 2020-12, "
            "and no metaschema of the last two that stands under `$defs`"
        )
    return draft


def _check_unique_items(document: Document) -> None:
    """Refuse `uniqueItems` where it means nothing: the engine would apply ours all the same."""
    words = _own_metaschema(document.root).get("$vocabulary")
    if not isinstance(words, dict) or any(word.endswith("/vocab/validation") for word in cast("Schema", words)):
        return
    if any("uniqueItems" in schema for schema in document.schemas):
        raise InvalidSchema("`uniqueItems` is there, and the metaschema that `$schema` names does not know it")


def _own_metaschema(root: Schema) -> Schema:
    """Find the metaschema that a schema names and carries along; nothing where there is none."""
    named = root.get("$schema")
    for _, each in subschemas({"$defs": root.get("$defs")}):
        if isinstance(named, str) and isinstance(each, dict) and each.get("$id") == named:
            return each if dialect_of(each.get("$schema")) in _EXTENSIBLE else {}
    return {}


class _Judge:
    """A validator on jsonschema-rs."""

    __slots__ = ("_is_small", "_schema_bytes", "_validator", "cost")

    def __init__(self, validator: jsonschema_rs.Validator, cost: Cost, schema_bytes: int) -> None:
        self._validator = validator
        self._schema_bytes = schema_bytes
        self._is_small = cost.is_small and not cost.compares_numbers
        self.cost = cost

    def check(self, instance: Any) -> Violation | None:
        try:
            if not self._is_small or isinstance(instance, str | int | float):
                size = self.cost.size(instance)
                if size is None:
                    return limit_violation(f"the value is nested deeper than {len(self.cost.levels)} levels")
                if self.cost.is_excessive(size):
                    return limit_violation("judging the value by its schema would take too much work")
            return None if self._validator.is_valid(instance) else self._explained(instance)
        except Exception as exc:  # what is not JSON fails in many ways: keys, surrogates, other types
            return limit_violation(f"the value is not JSON, or too deep to be compared ({type(exc).__name__})")

    def _explained(self, instance: Any) -> Violation:
        """Say where the value breaks the schema, if finding that out is not dear."""
        import jsonschema_rs  # noqa: PLC0415 - there already, the validator is of it

        if self._is_explainable(instance):
            try:
                self._validator.validate(instance)
            except jsonschema_rs.ValidationError as error:
                return report(error)
        return unlocated_violation()

    def _is_explainable(self, instance: Any) -> bool:
        """Tell whether the engine's error stays small: it holds the value, and the errors of all alternatives."""
        try:
            copied = len(msgspec.json.encode(instance)) + self._schema_bytes
        except Exception:  # deeper than a stack, or not JSON at a place that the schema did not look at
            return False
        if not self.cost.has_alternatives:
            return copied <= MAX_EXPLAINED_BYTES
        size = self.cost.values(instance, most=MAX_EXPLAINED_WORK)
        if size is None or self.cost.work(size) > MAX_EXPLAINED_WORK:
            return False
        return copied * max(self.cost.levels[: len(size)]) <= MAX_EXPLAINED_BYTES


class _Generated:
    """A validator by fastjsonschema, with the other engine's for what it refuses."""

    __slots__ = ("_accept", "_judge")

    def __init__(self, root: Schema, judge: _Judge) -> None:
        import fastjsonschema  # noqa: PLC0415 - brings urllib.request along; many a neuron registers no schema

        self._judge = judge
        self._accept: Callable[[Any], Any] = fastjsonschema.compile(
            msgspec.json.decode(msgspec.json.encode(root)),  # a copy: the generator rewrites references in place
            handlers=dict.fromkeys(("http", "https", "ftp", "file", "data", ""), _refuse),
            use_default=False,
            use_formats=False,
            detailed_exceptions=False,
        )

    def check(self, instance: Any) -> Violation | None:
        try:
            self._accept(instance)
        except Exception:  # a refusal, or a value that Python's operators do not take
            return self._judge.check(instance)
        return None


def _refuse(uri: str) -> NoReturn:
    raise InvalidSchema(f"{quote(uri)} leads out of the schema")


def _compile(text: bytes) -> tuple[_Judge, Schema | bool]:
    import jsonschema_rs  # noqa: PLC0415 - at the first schema: a neuron that starts has none yet

    try:
        root = _read(text)
        draft = _draft(root)
        cost = Cost(levels=(1,), is_finite=True, has_alternatives=False)
        if not isinstance(root, bool):
            document = Document(root, id_keyword=draft.id_keyword, is_old=draft.is_old, dialect=draft.dialect)
            _check_unique_items(document)
            cost = cost_of(document)
        validator = _engine(draft.number)(
            root,
            validate_formats=False,
            offline=True,
            keywords={"uniqueItems": UniqueItems},
            pattern_options=jsonschema_rs.RegexOptions(size_limit=MAX_PATTERN_BYTES),
        )
    except InvalidSchema:
        raise
    except jsonschema_rs.ValidationError as error:
        raise InvalidSchema(_complaint(error)) from None
    except Exception as exc:
        raise InvalidSchema(f"it cannot be compiled ({type(exc).__name__})") from exc
    return _Judge(validator, cost, len(text)), root


def _engine(draft: int) -> Callable[..., jsonschema_rs.Validator]:
    import jsonschema_rs  # noqa: PLC0415 - as above

    return {
        4: jsonschema_rs.Draft4Validator,
        6: jsonschema_rs.Draft6Validator,
        7: jsonschema_rs.Draft7Validator,
        2019: jsonschema_rs.Draft201909Validator,
        2020: jsonschema_rs.Draft202012Validator,
    }[draft]


def _read(text: bytes) -> Schema | bool:
    if len(text) > MAX_SCHEMA_BYTES:
        raise InvalidSchema(f"it has {len(text)} bytes, more than {MAX_SCHEMA_BYTES}")
    try:
        root = msgspec.json.decode(text)
    except RecursionError:
        raise InvalidSchema(f"it is nested deeper than {MAX_SCHEMA_DEPTH} levels") from None
    except ValueError as exc:
        raise InvalidSchema(f"it is not JSON: {exc}") from None
    if not isinstance(root, dict | bool):
        raise InvalidSchema("a schema is an object, or true or false")
    if _is_deeper(root, MAX_SCHEMA_DEPTH):
        raise InvalidSchema(f"it is nested deeper than {MAX_SCHEMA_DEPTH} levels")
    return cast("Schema | bool", root)


def _is_deeper(value: Any, levels: int) -> bool:
    """Tell whether there are values below so many levels."""
    level: list[Any] = [value]
    for _ in range(levels + 1):
        outer, level = level, []
        for each in outer:
            if isinstance(each, dict):
                level += cast("Schema", each).values()
            elif isinstance(each, list):
                level += each
    return bool(level)


def _complaint(error: jsonschema_rs.ValidationError) -> str:
    """Say what the metaschema, or the engine's compiler, has against a schema."""
    kind = error.kind
    if kind.name == "$ref":
        return f"a reference cannot be resolved: {quote(str(kind.value))}"
    if not kind.name:  # no keyword is at fault, but what the metaschema asks of the engine, such as a vocabulary
        return f"it cannot be compiled: {quote(str(kind.value))}"
    complaint = report(error, of_schema=True).message
    if kind.name == "format" and kind.value == "regex":
        return f"{complaint} that runs in linear time and 1 MiB, without look-around and back-references"
    return f"{complaint}; it is {quote(error.instance)}"
